//! `POST /roles`

use axum::{extract::State, response::Response};
use daybook_domain::{RoleId, role::RoleCommand, text::Name};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{RoleBody, permissions};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        json::Json,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// A role to be defined.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRole {
    /// Its name.
    name: String,
    /// What it allows, as `resource:action:scope`: at most what its maker has, and no management of accounts.
    permissions: Vec<String>,
    /// Why.
    reason: Option<String>,
}

/// Define a role for staff.
#[utoipa::path(
    post, path = "/api/v1/roles", tag = "roles", operation_id = "create_role",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateRole,
    responses(
        (status = 201, body = RoleBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<CreateRole>,
) -> Result<Response> {
    let command = RoleCommand::Create {
        name: Name::new(&value.name, "/name")?,
        permissions: permissions(&value.permissions)?,
        held: context.call.caller.principal.own.clone(),
    };
    let schema = context.call.schema.clone();
    let command = Command::create(RoleId(Uuid::now_v7()), command).expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::created(&committed, "roles", &RoleBody::of(&committed)?)
}
