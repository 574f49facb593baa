//! `POST /users/{id}/activate`

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};

use super::{UserBody, answer, run};
use crate::{
    app::AppState,
    http::{
        ReasonOnly,
        context::CommandContext,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// Let an account sign in again.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/activate", tag = "users", operation_id = "activate_user",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn activate(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<UserId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let command = UserCommand::Activate { by: context.call.caller.principal.by() };
    answer(&run(&state, context, id, command, Vec::new(), value.reason, hash).await?)
}
