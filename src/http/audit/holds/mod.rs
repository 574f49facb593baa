//! Legal holds: what they cover is neither pruned nor erased.

pub mod create;
pub mod get;
pub mod list;
pub mod release;

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, legal_hold::LegalHold, registry::Registered as _};
use daybook_projections::legal_holds::LegalHoldRow;
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
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, release::release))
}

/// A legal hold. It stands until it is released.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LegalHold)]
pub struct LegalHoldBody {
    /// Its id.
    id: Uuid,
    /// What it is known as.
    name: String,
    /// Whose data it keeps from being erased; everybody's where null.
    customer_id: Option<Uuid>,
    /// The first position of the log that it keeps from being pruned.
    from_position: i64,
    /// Why it was placed.
    #[schema(value_type = String)]
    reason: Disclosed<String>,
    /// When it was placed.
    placed_at: DateTime<Utc>,
    /// When it was released.
    released_at: Option<DateTime<Utc>>,
    /// Why it was released.
    #[schema(value_type = Option<String>)]
    release_reason: Disclosed<String>,
    /// The version, as in `ETag`.
    version: i64,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<DateTime<Utc>>,
}

impl From<LegalHoldRow> for LegalHoldBody {
    fn from(row: LegalHoldRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            customer_id: row.customer_id,
            from_position: row.from_position,
            reason: row.reason,
            placed_at: row.placed_at,
            released_at: row.released_at,
            release_reason: row.release_reason,
            version: row.version,
            updated_at: Some(row.updated_at),
        }
    }
}

impl LegalHoldBody {
    /// The hold as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let hold = LegalHold::of(&changed.state).ok_or_else(wrong_type)?;
        let held = hold.held.clone().ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            from_position: held.from(),
            name: held.name.to_string(),
            customer_id: held.customer_id.map(|customer| customer.0),
            reason: held.reason.into(),
            placed_at: held.placed_at,
            released_at: hold.release.as_ref().map(|release| release.released_at),
            release_reason: hold.release.as_ref().map(|release| release.reason.clone()).into(),
            version: changed.sequence,
            updated_at: None,
        })
    }
}
