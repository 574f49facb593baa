//! Support sessions: one of the platform's people looks into a tenant. The commands are in the tenant's own log.

pub mod create;
pub mod end;
pub mod get;
pub mod list;

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, registry::Registered as _, support_session::SupportSession};
use daybook_projections::{masquerade_overview::MasqueradeRow, support_sessions::SupportSessionRow};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    app::AppState,
    eventstore::Committed,
    http::{
        problem::Result,
        respond::{subject, wrong_type},
    },
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, create::create)).routes(routes!(get::get, end::end))
}

/// The states by which lists are narrowed.
pub(in crate::http) const STATES: &[&str] = &["open", "ended", "refused"];

/// A support session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SupportSession)]
pub struct SupportSessionBody {
    /// Its id.
    id: Uuid,
    /// The slug of the tenant it is in; for the platform's people.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The account of the platform in it.
    user_id: Uuid,
    /// How much it shows: `mock`, `redacted` or `real`.
    #[schema(example = "redacted")]
    mode: String,
    /// The support request whose window it is in.
    request_id: Option<Uuid>,
    /// Why. Not in the list of all tenants' sessions.
    #[serde(skip_serializing_if = "Disclosed::is_absent")]
    #[schema(value_type = Option<String>)]
    reason: Disclosed<String>,
    /// `open`, `ended` or `refused`.
    #[schema(example = "open")]
    state: String,
    /// When it began, or was refused.
    started_at: DateTime<Utc>,
    /// When it ends by itself, or would have.
    expires_at: DateTime<Utc>,
    /// Why it was refused.
    refused: Option<String>,
    /// What ended it, once that is noted: `stopped`, `expired`, `window_closed` or `no_longer_allowed`.
    end_cause: Option<String>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
    /// The account that ended it.
    ended_by: Option<Uuid>,
    /// Of which side: `tenant`, `platform` or `operator`.
    ended_side: Option<String>,
    /// How many reads were answered in it.
    viewed: i32,
    /// How many requests were refused in it.
    denied: i32,
    /// The version, as in `ETag`.
    version: i64,
}

impl From<SupportSessionRow> for SupportSessionBody {
    fn from(row: SupportSessionRow) -> Self {
        Self {
            id: row.id,
            tenant: None,
            user_id: row.user_id,
            mode: row.mode,
            request_id: row.support_request_id,
            reason: row.reason,
            state: row.state,
            started_at: row.started_at,
            expires_at: row.until,
            refused: row.refused,
            end_cause: row.end_cause,
            ended_at: row.ended_at,
            ended_by: row.ended_by,
            ended_side: row.ended_side,
            viewed: row.viewed,
            denied: row.denied,
            version: row.version,
        }
    }
}

impl From<MasqueradeRow> for SupportSessionBody {
    fn from(row: MasqueradeRow) -> Self {
        Self {
            id: row.id,
            tenant: row.tenant,
            user_id: row.user_id,
            mode: row.how,
            request_id: row.support_request_id,
            reason: Disclosed::ABSENT,
            state: row.state,
            started_at: row.started_at,
            expires_at: row.until,
            refused: row.refused,
            end_cause: row.end_cause,
            ended_at: row.ended_at,
            ended_by: row.ended_by,
            ended_side: row.ended_side,
            viewed: row.viewed,
            denied: row.denied,
            version: row.version,
        }
    }
}

impl SupportSessionBody {
    /// The session as a command left it, then.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed, tenant: Option<String>) -> Result<Self> {
        let changed = subject(committed)?;
        let session = SupportSession::of(&changed.state).ok_or_else(wrong_type)?;
        let state = match (session.refused, session.is_open(committed.recorded_at)) {
            (Some(_), _) => "refused",
            (None, true) => "open",
            (None, false) => "ended",
        };
        let by = session.ended.and_then(|ended| ended.cause.by());
        let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Self {
            id: changed.id,
            tenant,
            user_id: session.user_id.0,
            mode: session.mode.as_str().to_owned(),
            request_id: session.support_request_id.map(|request| request.0),
            reason: session.reason.to_string().into(),
            state: state.to_owned(),
            started_at: session.started_at,
            expires_at: session.until,
            refused: session.refused.map(|refused| refused.as_str().to_owned()),
            end_cause: session.ended.map(|ended| ended.cause.as_str().to_owned()),
            ended_at: session.ended.map(|ended| ended.at),
            ended_by: by.and_then(|by| by.user()).map(|user| user.0),
            ended_side: by.map(|by| by.side().to_owned()),
            viewed: count(session.viewed),
            denied: count(session.denied),
            version: changed.sequence,
        })
    }
}
