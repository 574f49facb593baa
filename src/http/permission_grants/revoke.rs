//! `POST /permission-grants/{id}/revoke`: within a second it counts on no node.

use axum::{extract::State, response::Response};
use daybook_domain::{GrantId, permission_grant::PermissionGrantCommand};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{PermissionGrantBody, run};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// Why a grant is taken back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeGrant {
    /// Why.
    #[schema(min_length = 1)]
    reason: String,
}

/// Take a grant back: as who gave it, or as who manages the account that has it. One that is over is 409 `wrong_state`.
#[utoipa::path(
    post, path = "/api/v1/permission-grants/{id}/revoke", tag = "permission grants",
    operation_id = "revoke_permission_grant",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = RevokeGrant,
    responses(
        (status = 200, body = PermissionGrantBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<GrantId>,
    Json { value, hash }: Json<RevokeGrant>,
) -> Result<Response> {
    let by = context.call.caller.principal.by();
    let command = PermissionGrantCommand::Revoke { by, if_active: false };
    let schema = context.call.schema.clone();
    let told = context.security(SecurityEventKind::PermissionGrantRevoked);
    let command = Command::to(id, command).expecting(context.if_match.expected());
    let unit = context.unit(vec![command], Some(value.reason), hash)?;
    let event = |kind| told.clone().kind(kind).detail(format!("grant {id}"));
    let committed = run(&state, &schema, unit, event, SecurityEventKind::PermissionGrantRevoked).await?;
    respond::done(&committed, &PermissionGrantBody::of(&committed)?)
}
