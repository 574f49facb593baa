//! Permission grants: a permission that one person gives another for a while.

pub mod create;
pub mod get;
pub mod list;
pub mod revoke;
pub mod revoke_many;

use chrono::{DateTime, Utc};
use daybook_domain::{
    Disclosed,
    permission_grant::{GrantState, PermissionGrant},
    registry::Registered as _,
};
use daybook_projections::permission_grants::PermissionGrantRow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    problem::{Problem, Result},
    respond::{subject, wrong_type},
};
use crate::{
    app::AppState,
    eventstore::{Committed, StoreError, Unit},
    security_log::{SecurityEvent, SecurityEventKind},
    tenancy::Schema,
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(revoke_many::revoke_many))
        .routes(routes!(get::get))
        .routes(routes!(revoke::revoke))
}

/// A permission that somebody has for a while. It counts while it is active and still the grantor's to give.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PermissionGrant)]
pub struct PermissionGrantBody {
    /// Its id.
    id: Uuid,
    /// `active`, `expired` or `revoked`, by the database's clock.
    #[schema(example = "active")]
    state: String,
    /// Who gave it; null for the operator.
    grantor_id: Option<Uuid>,
    /// Who has it.
    grantee_id: Uuid,
    /// What they may do, as `resource:action:scope`.
    #[schema(example = "bookings:update:tenant")]
    permission: String,
    /// Why.
    #[schema(value_type = String)]
    reason: Disclosed<String>,
    /// From when on.
    granted_at: DateTime<Utc>,
    /// Until when; from this instant on it is over.
    expires_at: DateTime<Utc>,
    /// The user who took it back; null also where a key, the operator or the end of an account did.
    revoked_by: Option<Uuid>,
    /// Why it was taken back, if it was.
    #[schema(value_type = Option<String>)]
    revoked_reason: Disclosed<String>,
    /// The version, as in `ETag`.
    version: i64,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<DateTime<Utc>>,
}

impl From<PermissionGrantRow> for PermissionGrantBody {
    fn from(row: PermissionGrantRow) -> Self {
        Self {
            id: row.id,
            state: row.state,
            grantor_id: row.grantor,
            grantee_id: row.grantee,
            permission: row.permission,
            reason: row.reason,
            granted_at: row.granted_at,
            expires_at: row.expires_at,
            revoked_by: row.revoked_by,
            revoked_reason: row.revoked_reason,
            version: row.version,
            updated_at: Some(row.updated_at),
        }
    }
}

impl PermissionGrantBody {
    /// The grant as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let state = PermissionGrant::of(&changed.state).ok_or_else(wrong_type)?;
        let grant = state.grant.clone().ok_or_else(wrong_type)?;
        let stands = state.state(committed.recorded_at).map_or("", GrantState::as_str);
        let revocation = state.revocation.as_ref();
        Ok(Self {
            id: changed.id,
            state: stands.to_owned(),
            grantor_id: grant.grantor.map(|user| user.0),
            grantee_id: grant.grantee.0,
            permission: grant.permission.to_string(),
            reason: grant.reason.into(),
            granted_at: grant.granted_at,
            expires_at: grant.expires_at,
            revoked_by: revocation.and_then(|revocation| revocation.revoked_by).map(|user| user.0),
            revoked_reason: revocation.map(|revocation| revocation.reason.clone()).into(),
            version: changed.sequence,
            updated_at: None,
        })
    }
}

/// Runs a unit about grants, and has the security log tell of it, or of its refusal.
async fn run(
    state: &AppState,
    schema: &Schema,
    unit: Unit,
    event: impl Fn(SecurityEventKind) -> SecurityEvent,
    done: SecurityEventKind,
) -> Result<Committed> {
    let answer = state.store().execute(schema, unit).await;
    match &answer {
        // An answer given again is of something that is in the log already.
        Ok(Committed { replayed: true, .. }) | Err(StoreError::Refused { replayed: true, .. }) => {}
        Ok(_) => state.security_log().record(event(done)),
        Err(StoreError::Refused { .. }) => {
            state.security_log().record(event(SecurityEventKind::PermissionGrantRefused));
        }
        Err(_) => {}
    }
    answer.map_err(Problem::from)
}
