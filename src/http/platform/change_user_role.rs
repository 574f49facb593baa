//! `POST /platform/users/{id}/role`

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};
use serde::Deserialize;
use utoipa::ToSchema;

use super::run_on_user;
use crate::{
    app::AppState,
    http::{
        context::PlatformCommand,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
        users::{RoleChoice, UserBody},
    },
};

/// What the account is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePlatformRole {
    /// The tier: one of the platform's.
    role: String,
    /// Why.
    reason: Option<String>,
}

/// Make one of the platform's own people something else. Nobody gives what is not theirs to manage.
#[utoipa::path(
    post, path = "/api/v1/platform/users/{id}/role", tag = "platform", operation_id = "change_platform_role",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = ChangePlatformRole,
    responses(
        (status = 200, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn change_user_role(
    State(state): State<AppState>,
    context: PlatformCommand,
    Id(id): Id<UserId>,
    Json { value, hash }: Json<ChangePlatformRole>,
) -> Result<Response> {
    let role = RoleChoice { role: Some(value.role), role_id: None }.parse()?;
    let command = UserCommand::ChangeRole { role, by: context.principal.by() };
    let committed = run_on_user(&state, context, id, command, Vec::new(), value.reason, hash).await?;
    respond::done(&committed, &UserBody::of(&committed)?)
}
