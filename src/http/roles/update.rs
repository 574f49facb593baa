//! `PATCH /roles/{id}`: everybody who has the role has what it allows from then on, within a second.

use axum::{extract::State, response::Response};
use daybook_domain::{RoleId, role::RoleCommand, text::Name};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{RoleBody, permissions};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        etag::RequiredIfMatch,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Changes to a role; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRole {
    /// A new name.
    name: Option<String>,
    /// What it allows from now on.
    permissions: Option<Vec<String>>,
    /// Why.
    reason: Option<String>,
}

/// Change a role.
#[utoipa::path(
    patch, path = "/api/v1/roles/{id}", tag = "roles", operation_id = "update_role",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is changed")),
    request_body = UpdateRole,
    responses(
        (status = 200, body = RoleBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<RoleId>,
    RequiredIfMatch(version): RequiredIfMatch,
    Json { value, hash }: Json<UpdateRole>,
) -> Result<Response> {
    let command = RoleCommand::Update {
        name: value.name.map(|text| Name::new(&text, "/name")).transpose()?,
        permissions: value.permissions.as_deref().map(permissions).transpose()?,
        held: context.call.caller.principal.own.clone(),
    };
    let schema = context.call.schema.clone();
    let command = Command::to(id, command).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::done(&committed, &RoleBody::of(&committed)?)
}
