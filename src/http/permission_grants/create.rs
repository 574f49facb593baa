//! `POST /permission-grants`

use axum::{extract::State, response::Response};
use daybook_domain::{
    GrantId, UserId,
    permission::Permission,
    permission_grant::{DEFAULT_MINUTES, PermissionGrantCommand},
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{PermissionGrantBody, run};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        json::Json,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// A permission to be granted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantPermission {
    /// To whom: a manager or staff of the tenant that one may manage.
    grantee_id: Uuid,
    /// What they may do, as `resource:action:scope`: at most what one may do oneself.
    #[schema(example = "bookings:update:tenant")]
    permission: String,
    /// Why.
    #[schema(min_length = 1)]
    reason: String,
    /// For how many minutes; 30 if left out.
    #[schema(minimum = 1, maximum = 1_440)]
    minutes: Option<u32>,
}

/// Grant somebody one permission for a while. They have it within a second, in this tenant, and nothing besides; what they
/// were granted they cannot give on.
#[utoipa::path(
    post, path = "/api/v1/permission-grants", tag = "permission grants", operation_id = "grant_permission",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = GrantPermission,
    responses(
        (status = 201, body = PermissionGrantBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<GrantPermission>,
) -> Result<Response> {
    let unknown =
        || Problem::field("/permission", "unknown_permission", "a permission is resource:action:scope");
    let permission: Permission = value.permission.parse().map_err(|_| unknown())?;
    let (grantee, id) = (UserId(value.grantee_id), GrantId(Uuid::now_v7()));
    let command = PermissionGrantCommand::Grant {
        grantee,
        permission,
        minutes: value.minutes.unwrap_or(DEFAULT_MINUTES),
        by: context.call.caller.principal.by(),
    };
    let schema = context.call.schema.clone();
    let told = context.security(SecurityEventKind::PermissionGranted);
    let command = Command::create(id, command).expecting(context.if_match.expected());
    let unit = context.unit(vec![command], Some(value.reason), hash)?;
    let event = |kind| told.clone().kind(kind).detail(format!("grant {id}: {permission} to user {grantee}"));
    let committed = run(&state, &schema, unit, event, SecurityEventKind::PermissionGranted).await?;
    respond::created(&committed, "permission-grants", &PermissionGrantBody::of(&committed)?)
}
