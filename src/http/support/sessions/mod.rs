//! Support sessions: one of the platform's people looks into a tenant. The commands are in the tenant's own log.

pub mod create;
pub mod end;
pub mod get;
pub mod list;

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
        course::{Course, course},
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
    /// How far it has come.
    #[serde(flatten)]
    course: Course,
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
            course: course!(row),
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
            course: course!(row),
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
        Ok(Self {
            id: changed.id,
            tenant,
            user_id: session.user_id.0,
            mode: session.mode.as_str().to_owned(),
            request_id: session.support_request_id.map(|request| request.0),
            reason: session.reason.to_string().into(),
            course: Course::of_session(session, committed.recorded_at),
            version: changed.sequence,
        })
    }
}
