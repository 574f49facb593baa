//! `PATCH /customers/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{
    CustomerId,
    customer::CustomerCommand,
    text::{Email, Name, Phone},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::CustomerBody;
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        etag::RequiredIfMatch,
        json::Json,
        nullable,
        path::Id,
        problem::{ProblemBody, Result},
        respond, scope,
    },
};

/// Changes to a customer's record; what is left out stays, null removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateCustomer {
    /// A new name.
    name: Option<String>,
    /// A new e-mail address, or null for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    /// A new telephone number, or null for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    phone: Option<Option<String>>,
    /// Why.
    reason: Option<String>,
}

/// Change a customer's record.
#[utoipa::path(
    patch, path = "/api/v1/customers/{id}", tag = "customers", operation_id = "update_customer",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is changed")),
    request_body = UpdateCustomer,
    responses(
        (status = 200, body = CustomerBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<CustomerId>,
    RequiredIfMatch(version): RequiredIfMatch,
    Json { value, hash }: Json<UpdateCustomer>,
) -> Result<Response> {
    scope::customer(&context.call, id.0)?;
    let command = CustomerCommand::Update {
        name: value.name.map(|text| Name::new(&text, "/name")).transpose()?,
        email: value
            .email
            .map(|text| text.map(|text| Email::new(&text, "/email")).transpose())
            .transpose()?,
        phone: value
            .phone
            .map(|text| text.map(|text| Phone::new(&text, "/phone")).transpose())
            .transpose()?,
    };
    let schema = context.call.schema.clone();
    let command = Command::to(id, command).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::done(&committed, &CustomerBody::of(&committed)?)
}
