//! Who saw what: each read in a support session or a hijack is an event before its answer leaves, and so is each request
//! that was refused in one. An answer that cannot be written down is not given.
//!
//! The events go through the log's writer lane with everything else, so many reads share one commit.

use std::collections::BTreeSet;

use axum::{
    body::{Body, to_bytes},
    response::{IntoResponse as _, Response},
};
use daybook_domain::{
    envelope::Metadata,
    hijack::HijackCommand,
    masquerade::{Denied, MOST_IDS, Viewed},
    registry::AnyCommand,
    support_session::SupportSessionCommand,
};
use http::{Method, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;

use super::Principal;
use crate::{
    app::AppState,
    eventstore::{Command, Unit, Within},
    http::{
        problem::{Code, Problem, Result},
        respond::NothingNew,
    },
};

/// The longest answer whose ids are looked for: far above a page of anything.
const LONGEST: usize = 16 * 1024 * 1024;

/// What was asked, as the log keeps it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The template of the route.
    pub route: String,
    /// The ids in its path: what was asked about, whether or not it is there.
    pub about: Vec<Uuid>,
    /// Whoever asked, and from where.
    pub metadata: Metadata,
}

/// Writes down what an answer shows, or that there was none to give, and hands the answer on; another one in its place
/// when the session is over by now, or the log cannot be written to.
pub async fn record(state: &AppState, principal: &Principal, asked: Asked, response: Response) -> Response {
    let Some(within) = principal.within() else { return response };
    match seen(asked.method == Method::GET || asked.method == Method::HEAD, &asked, response).await {
        Ok((Some(sight), response)) => match note(state, principal, within, sight, asked.metadata).await {
            Ok(()) => response,
            Err(problem) => problem.into_response(),
        },
        Ok((None, response)) => response,
        Err(problem) => problem.into_response(),
    }
}

/// What there is to write down of an answer.
#[derive(Clone, Debug)]
pub enum Sight {
    /// Something was read.
    Viewed(Viewed),
    /// Something was refused.
    Denied(Denied),
}

/// Writes one sight into the log of its session.
///
/// # Errors
/// `unauthenticated` when the session is over by now.
pub async fn note(
    state: &AppState,
    principal: &Principal,
    within: Within,
    sight: Sight,
    metadata: Metadata,
) -> Result<()> {
    let command = match within {
        Within::Support(id) => {
            let command: AnyCommand = match sight {
                Sight::Viewed(viewed) => SupportSessionCommand::View(viewed).into(),
                Sight::Denied(denied) => SupportSessionCommand::Deny(denied).into(),
            };
            Command::to(id, command)
        }
        Within::Hijack(id) => {
            let command: AnyCommand = match sight {
                Sight::Viewed(viewed) => HijackCommand::View(viewed).into(),
                Sight::Denied(denied) => HijackCommand::Deny(denied).into(),
            };
            Command::to(id, command)
        }
    };
    state.store().execute(&principal.schema(), Unit::of(command, metadata)).await?;
    Ok(())
}

async fn seen(reads: bool, asked: &Asked, response: Response) -> Result<(Option<Sight>, Response)> {
    let status = response.status();
    // Of what would have changed something each refusal counts; of a read that it is not for them.
    if status == StatusCode::FORBIDDEN
        || !reads && status.is_client_error() && status != StatusCode::UNAUTHORIZED
    {
        let code = response.extensions().get::<Problem>().map_or(Code::Forbidden, Problem::code);
        let denied = Denied {
            method: asked.method.to_string(),
            route: asked.route.clone(),
            status: status.as_u16(),
            code: code.as_str().to_owned(),
            resource_ids: asked.about.clone(),
        };
        return Ok((Some(Sight::Denied(denied)), response));
    }
    // What was done has events of its own, unless nothing was: then the answer only shows what is there. A fault of ours
    // showed nothing.
    let shows = reads || response.extensions().get::<NothingNew>().is_some();
    if !shows || status.is_server_error() || status == StatusCode::UNAUTHORIZED {
        return Ok((None, response));
    }
    let viewed = |(seen, more): (Vec<Uuid>, bool)| {
        let mut resource_ids = asked.about.clone();
        resource_ids.extend(seen.into_iter().filter(|id| !asked.about.contains(id)));
        let more = more || resource_ids.len() > MOST_IDS;
        resource_ids.truncate(MOST_IDS);
        let (route, status) = (asked.route.clone(), status.as_u16());
        Some(Sight::Viewed(Viewed { route, status, resource_ids, more }))
    };
    // A stream shows nothing yet; what it goes on to show is written down as it does.
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !json {
        return Ok((viewed((Vec::new(), false)), response));
    }
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, LONGEST).await.map_err(Problem::internal)?;
    let ids = ids(&serde_json::from_slice(&bytes).unwrap_or(Value::Null));
    Ok((viewed(ids), Response::from_parts(parts, Body::from(bytes))))
}

/// Members that say what a thing is about that has no id of its own, by what comes first.
const ABOUT: &[&str] = &["id", "aggregate_id", "request_id", "resource_id"];

/// What an answer is about: the id of the thing, or those of the things in its list.
fn ids(answer: &Value) -> (Vec<Uuid>, bool) {
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    let mut add = |value: &Value| {
        let id = ABOUT
            .iter()
            .find_map(|name| value.get(name))
            .and_then(|id| id.as_str()?.parse::<Uuid>().ok())
            .filter(|id| known.insert(*id));
        found.extend(id);
    };
    match answer.get("items") {
        Some(Value::Array(items)) => items.iter().for_each(&mut add),
        Some(_) | None => match answer {
            Value::Array(items) => items.iter().for_each(&mut add),
            _ => add(answer),
        },
    }
    let more = found.len() > MOST_IDS;
    found.truncate(MOST_IDS);
    (found, more)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_about_its_thing_or_the_things_in_its_list() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(ids(&json!({"id": a, "resource_id": b})), (vec![a], false));
        assert_eq!(ids(&json!({"items": [{"id": a}, {"id": b}, {"id": a}]})), (vec![a, b], false));
        assert_eq!(ids(&json!({"items": [{"position": 7, "aggregate_id": b}]})), (vec![b], false));
        assert_eq!(ids(&json!([{"resource_id": a}])), (vec![a], false));
        assert_eq!(ids(&json!({"public_bookings": true})), (vec![], false));
        assert_eq!(ids(&json!({"id": "not one"})), (vec![], false));
        assert_eq!(ids(&Value::Null), (vec![], false));
    }

    #[test]
    fn a_long_list_says_that_there_was_more() {
        let items: Vec<Value> = (0..201).map(|n| json!({"id": Uuid::from_u128(n)})).collect();
        let (found, more) = ids(&json!({"items": items}));
        assert_eq!((found.len(), more), (200, true));
    }
}
