//! `POST /permission-grants/revoke`: several at once, or all that somebody has. All or none, in one unit.

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use daybook_domain::{GrantId, permission_grant::PermissionGrantCommand};
use daybook_projections::permission_grants;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::run;
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        json::Json,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// The most that are named in one request.
const MAX_IDS: usize = 200;

/// Which grants are taken back: those of one account, or those named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeGrants {
    /// All that this account has now.
    grantee_id: Option<Uuid>,
    /// These, each of which must be active.
    #[schema(min_items = 1, max_items = 200)]
    ids: Option<Vec<Uuid>>,
    /// Why.
    #[schema(min_length = 1)]
    reason: String,
}

/// How many were taken back.
#[derive(Serialize, ToSchema)]
pub struct RevokedGrants {
    /// How many grants this ended.
    revoked: i64,
}

/// Take several grants back, or none of them if one is not there, is over, or is others' to revoke.
#[utoipa::path(
    post, path = "/api/v1/permission-grants/revoke", tag = "permission grants",
    operation_id = "revoke_permission_grants",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = RevokeGrants,
    responses(
        (status = 200, body = RevokedGrants),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke_many(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<RevokeGrants>,
) -> Result<Response> {
    // Of somebody's grants one may end by itself before its turn comes, which is as well; of those named it is said.
    let (ids, if_active, which) = match (value.grantee_id, value.ids) {
        (Some(grantee), None) => {
            let mut tx = position::read(&state, &context.call, MinPosition(None)).await?;
            let ids = permission_grants::active_of(&mut tx, grantee).await?;
            tx.release();
            (ids.into_iter().collect::<BTreeSet<_>>(), true, format!("all of user {grantee}"))
        }
        (None, Some(ids)) if (1..=MAX_IDS).contains(&ids.len()) => {
            let ids: BTreeSet<Uuid> = ids.into_iter().collect();
            let which = format!("{} by id", ids.len());
            (ids, false, which)
        }
        (None, Some(_)) => return Err(Problem::field("/ids", "out_of_range", "name 1 to 200 grants")),
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::field("/ids", "required", "give either grantee_id or ids"));
        }
    };
    let by = context.call.caller.principal.by();
    let revoke = |id| Command::to(GrantId(id), PermissionGrantCommand::Revoke { by, if_active });
    let commands: Vec<Command> = ids.into_iter().map(revoke).collect();
    let schema = context.call.schema.clone();
    let told = context.security(SecurityEventKind::PermissionGrantRevoked);
    let unit = context.unit(commands, Some(value.reason), hash)?;
    let event = |kind| told.clone().kind(kind).detail(format!("grants: {which}"));
    let committed = run(&state, &schema, unit, event, SecurityEventKind::PermissionGrantRevoked).await?;
    // Each was ended by one event; one that was passed over by none.
    let revoked = committed.last_position - committed.first_position + 1;
    respond::done_to_many(&committed, &RevokedGrants { revoked })
}
