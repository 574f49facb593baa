//! What the OpenAPI document says of every operation alike: the headers and parameters that one extractor reads for
//! all of them, and the answers that any route can give. Handlers need not repeat it, and cannot contradict it.

use serde_json::json;
use utoipa::openapi::{
    Content, HeaderBuilder, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Required, ResponseBuilder, Schema,
    path::{Operation, Parameter, ParameterIn},
    request_body::RequestBody,
    schema::{AnyOfBuilder, KnownFormat, Object, SchemaFormat, SchemaType, Type},
};

use super::{context::MAX_REASON, cursor, idempotency::MAX_KEY};

/// Completes the document of every route.
pub fn complete(document: &mut OpenApi) {
    // The router's way to say that a parameter goes on to the end is not OpenAPI's, which has none.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(parameter) = parameter {
                constrain(parameter);
            }
        }
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            without_null(body);
        }
        answers(operation);
    }
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        if let RefOr::T(Schema::Object(object)) = schema {
            reasons(object);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// Says of a parameter that all routes share what its reader takes.
fn constrain(parameter: &mut Parameter) {
    let text = |pattern: &str| ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    let integer = || {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
    };
    let schema = match (&parameter.parameter_in, parameter.name.as_str()) {
        (ParameterIn::Query, "limit") => integer()
            .minimum(Some(1))
            .maximum(Some(cursor::MAX_LIMIT))
            .default(Some(json!(cursor::DEFAULT_LIMIT))),
        (ParameterIn::Header, "X-Min-Position") => integer().minimum(Some(0)),
        (ParameterIn::Query, "cursor") => text("^[A-Za-z0-9_-]*$"),
        (ParameterIn::Header, "If-Match") => {
            text(r#"^(\*|(W/)?"[!#-~]*")$"#).examples([json!("*"), json!("\"1\"")])
        }
        (ParameterIn::Header, "Idempotency-Key") => {
            text("^[!-~]+$").min_length(Some(1)).max_length(Some(MAX_KEY))
        }
        // A header or a query has no way to say null: what is optional is left out.
        _ => {
            if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
                && let SchemaType::Array(types) = &mut object.schema_type
            {
                types.retain(|kind| *kind != Type::Null);
                if let [only] = &types[..] {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
            or_empty(parameter);
            return;
        }
    };
    parameter.schema = Some(schema.build().into());
}

/// An empty value of an optional query parameter means that it is left out, as in a form; where a format is asked for,
/// the document has to say so.
fn or_empty(parameter: &mut Parameter) {
    if parameter.parameter_in != ParameterIn::Query || parameter.required == Required::True {
        return;
    }
    if let Some(RefOr::T(Schema::Object(object))) = &parameter.schema
        && object.schema_type == SchemaType::Type(Type::String)
        && object.format.is_some()
    {
        let empty = ObjectBuilder::new().schema_type(Type::String).max_length(Some(0));
        let either = AnyOfBuilder::new().item(object.clone()).item(empty);
        parameter.schema = Some(RefOr::T(Schema::AnyOf(either.build())));
    }
}

/// A body that may be left out is not one that may be `null`.
fn without_null(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        let Some(RefOr::T(Schema::OneOf(one_of))) = &mut content.schema else { continue };
        let is_null = |schema: &RefOr<Schema>| {
            matches!(schema, RefOr::T(Schema::Object(object))
                if object.schema_type == SchemaType::Type(Type::Null))
        };
        let all = one_of.items.len();
        one_of.items.retain(|schema| !is_null(schema));
        if one_of.items.len() == 1 && all == 2 {
            content.schema = one_of.items.pop();
        }
    }
}

/// Any request can be refused before its handler sees it, run out of time, or find the database away; and every
/// answer says which request it is to.
fn answers(operation: &mut Operation) {
    let problem = |description: &str| {
        let mut content = Content::default();
        content.schema = Some(RefOr::Ref(Ref::from_schema_name("ProblemBody")));
        ResponseBuilder::new().description(description).content("application/problem+json", content).build()
    };
    let responses = &mut operation.responses.responses;
    responses.entry("4XX".into()).or_insert_with(|| RefOr::T(problem("Refused; `code` says why")));
    responses.entry("503".into()).or_insert_with(|| {
        RefOr::T(problem("Not available right now: the same request may work after `Retry-After` seconds"))
    });
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        let mut add = |name: &str, description: &str, schema: Object| {
            response.headers.entry(name.into()).or_insert_with(|| {
                RefOr::T(HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build())
            });
        };
        let uuid = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
        add("X-Request-Id", "The request's id, to be given when asking about it", uuid.build());
        if status == "503" {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
            add("Retry-After", "In how many seconds to try again", seconds.build());
        }
    }
}

/// The reason of a command, which is read in one place.
fn reasons(object: &mut Object) {
    if object.additional_properties.is_none() {
        return; // An answer; a request refuses what it does not know.
    }
    if let Some(RefOr::T(Schema::Object(reason))) = object.properties.get_mut("reason") {
        reason.max_length = Some(MAX_REASON);
        reason.pattern = Some(r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$".into());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_its_refusals_and_its_request_id() {
        let mut routes = crate::http::routes();
        let mut seen = 0;
        for operation in routes.get_openapi_mut().paths.paths.values_mut().flat_map(operations) {
            seen += 1;
            let statuses: BTreeSet<&str> = operation.responses.responses.keys().map(String::as_str).collect();
            assert!(statuses.is_superset(&["4XX", "503"].into()), "{:?}", operation.operation_id);
            for response in operation.responses.responses.values() {
                let RefOr::T(response) = response else { continue };
                assert!(response.headers.contains_key("X-Request-Id"), "{:?}", operation.operation_id);
            }
        }
        assert!(seen > 50);
    }

    #[test]
    fn no_body_or_parameter_is_null() {
        let routes = crate::http::routes();
        let document = serde_json::to_value(&routes.get_openapi().paths).unwrap();
        assert!(!document.to_string().contains("null"), "{document}");
    }
}
