//! `POST /platform/users/{id}/activate`

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};

use super::run_on_user;
use crate::{
    app::AppState,
    http::{
        ReasonOnly,
        context::PlatformCommand,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
        users::UserBody,
    },
};

/// Let one of the platform's own people sign in again.
#[utoipa::path(
    post, path = "/api/v1/platform/users/{id}/activate", tag = "platform", operation_id = "activate_platform_user",
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
pub async fn activate_user(
    State(state): State<AppState>,
    context: PlatformCommand,
    Id(id): Id<UserId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let command = UserCommand::Activate { by: context.principal.by() };
    let committed = run_on_user(&state, context, id, command, Vec::new(), value.reason, hash).await?;
    respond::done(&committed, &UserBody::of(&committed)?)
}
