//! Leads: people who ask to be contacted. Anybody leaves one (`public/lead.rs`); staff see who it is, and say when it
//! has been seen to.

pub mod get;
pub mod handle;
pub mod list;

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, lead::Lead, registry::Registered as _};
use daybook_projections::leads::LeadRow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    problem::Result,
    respond::{subject, wrong_type},
};
use crate::{app::AppState, eventstore::Committed};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list)).routes(routes!(get::get)).routes(routes!(handle::handle))
}

/// A lead as staff see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lead)]
pub struct LeadBody {
    /// Its id.
    id: Uuid,
    /// How far it has come: `new` or `handled`.
    #[schema(example = "new")]
    status: &'static str,
    /// Who asks; null once erased.
    #[schema(value_type = Option<String>)]
    name: Disclosed<String>,
    /// Their e-mail address.
    #[schema(value_type = Option<String>)]
    email: Disclosed<String>,
    /// Their telephone number.
    #[schema(value_type = Option<String>)]
    phone: Disclosed<String>,
    /// What they wrote.
    #[schema(value_type = Option<String>)]
    message: Disclosed<String>,
    /// The offering they ask about.
    offering_id: Option<Uuid>,
    /// The version, as in `ETag`.
    version: i64,
    /// When it was left; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<DateTime<Utc>>,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<DateTime<Utc>>,
}

/// How far a lead has come, as answers say it.
pub fn status(handled: bool) -> &'static str {
    if handled { "handled" } else { "new" }
}

impl From<LeadRow> for LeadBody {
    fn from(row: LeadRow) -> Self {
        Self {
            id: row.id,
            status: status(row.handled),
            name: row.name,
            email: row.email,
            phone: row.phone,
            message: row.message,
            offering_id: row.offering_id,
            version: row.version,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }
    }
}

impl LeadBody {
    /// The lead as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let lead = Lead::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            status: status(lead.handled),
            name: (&lead.name).into(),
            email: (&lead.email).into(),
            phone: (&lead.phone).into(),
            message: (&lead.message).into(),
            offering_id: lead.offering_id.map(|id| id.0),
            version: changed.sequence,
            created_at: None,
            updated_at: None,
        })
    }
}
