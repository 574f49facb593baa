//! `POST /users/{id}/role`

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{RoleChoice, UserBody, answer, run};
use crate::{
    app::AppState,
    http::{
        context::CommandContext,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// What the account is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRole {
    /// The tier; `tenant_staff` where only a role is given.
    role: Option<String>,
    /// The role of the tenant's own.
    role_id: Option<Uuid>,
    /// Why.
    reason: Option<String>,
}

/// Make an account something else. Nobody gives what is not theirs to manage, or promotes themselves.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/role", tag = "users", operation_id = "change_role",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = ChangeRole,
    responses(
        (status = 200, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn role(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<UserId>,
    Json { value, hash }: Json<ChangeRole>,
) -> Result<Response> {
    let role = RoleChoice { role: value.role, role_id: value.role_id }.parse()?;
    let command = UserCommand::ChangeRole { role, by: context.call.caller.principal.by() };
    answer(&run(&state, context, id, command, Vec::new(), value.reason, hash).await?)
}
