//! `POST /hijack/stop`

use axum::{extract::State, response::Response};
use daybook_domain::HijackId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Hijacker, status::own_open_in};
use crate::{
    app::AppState,
    auth::Credential,
    http::{
        problem::{Code, Problem, ProblemBody, Result},
        respond,
    },
};

/// What was ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoppedHijacks {
    /// The hijacks.
    stopped: Vec<Uuid>,
}

/// Act as somebody else no more: with the token of a hijack, that one; with one's own, all that are open.
#[utoipa::path(
    post, path = "/api/v1/hijack/stop", tag = "hijack", operation_id = "stop_hijack",
    responses(
        (status = 200, body = StoppedHijacks),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn stop(State(state): State<AppState>, hijacker: Hijacker) -> Result<Response> {
    let open = match hijacker.principal.credential {
        Credential::Hijack { hijack, .. } => vec![(hijacker.principal.schema(), hijack)],
        Credential::Session { .. } => own_open_in(&state, &hijacker.principal)
            .await?
            .into_iter()
            .map(|(schema, body)| (schema, HijackId(body.id)))
            .collect(),
        Credential::ApiKey(_) | Credential::Support { .. } => return Err(Problem::no_account()),
    };
    let mut stopped = Vec::with_capacity(open.len());
    for (schema, id) in open {
        match hijacker.end(&state, &schema, id).await {
            Ok(_) => stopped.push(id.0),
            // It ended by itself a moment ago.
            Err(problem) if problem.code() == Code::WrongState => {}
            Err(problem) => return Err(problem),
        }
    }
    if stopped.is_empty() {
        return Err(Problem::new(Code::WrongState, "You do not act as anybody else."));
    }
    respond::json(&StoppedHijacks { stopped })
}
