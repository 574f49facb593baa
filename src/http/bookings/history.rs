//! `GET /bookings/{id}/history`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::{Decider as _, Disclosed, booking::Booking, permission::Scope};
use daybook_projections::{
    booking_history::{self, HistoryRow, ShownChange},
    bookings, log,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond, retained, scope,
    },
};

/// One event of a booking and what it changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryItem {
    /// Its place in the booking's stream.
    sequence: i64,
    /// Its place in the log.
    position: i64,
    /// What happened (`booking.confirmed`).
    #[serde(rename = "type")]
    event_type: String,
    /// When it was written.
    recorded_at: DateTime<Utc>,
    /// When it happened; the same, except for imported history.
    occurred_at: DateTime<Utc>,
    /// Who did it.
    actor: String,
    /// For whom, while hijacking.
    on_behalf_of: Option<String>,
    /// Why.
    #[schema(value_type = Option<String>)]
    reason: Disclosed<String>,
    /// Where the command came in.
    source: Option<String>,
    /// What changed.
    #[schema(value_type = Vec<ChangeItem>)]
    changes: Vec<ShownChange>,
}

/// One changed value, for the schema; written as a [`ShownChange`].
#[derive(Debug, ToSchema)]
pub struct ChangeItem {
    /// RFC 6901 pointer.
    pub path: String,
    /// The value before; null when there was none.
    pub old: Value,
    /// The value after; null when there is none.
    pub new: Value,
}

impl From<HistoryRow> for HistoryItem {
    fn from(row: HistoryRow) -> Self {
        Self {
            sequence: row.sequence,
            position: row.position,
            event_type: row.event_type,
            recorded_at: row.recorded_at,
            occurred_at: row.occurred_at,
            actor: row.actor,
            on_behalf_of: row.on_behalf_of,
            reason: row.reason,
            source: row.source,
            changes: row.changes.0,
        }
    }
}

/// Which page.
#[derive(Debug)]
pub struct History(Page);

impl FromParams for History {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self(Page::take(params)?))
    }
}

/// Every change of a booking that the plan keeps as a diff, oldest first; 410 where all of them are past that, or what
/// follows a cursor is.
#[utoipa::path(
    get, path = "/api/v1/bookings/{id}/history", tag = "bookings", operation_id = "booking_history",
    params(
        ("id" = Uuid, Path),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<HistoryItem>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn history(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Id(id): Id<Uuid>,
    Query(History(page)): Query<History>,
) -> Result<Response> {
    let question = format!("booking_history {id}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<i64> = cursors.decode(&page)?;
    let mut tx = position::read_followed(&state, &call, min, "booking_history").await?;
    let cut = retained::cut(&state, &call).await?;
    let rows = booking_history::list(&mut tx, id, after, cut, page.fetch()).await?;
    // Nothing yet: it is either unknown or not followed so far.
    if rows.is_empty() || call.caller.scope < Scope::Tenant {
        let row = bookings::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
        scope::booking(&call, &row)?;
        if row.updated_at < cut {
            return Err(retained::expired(cut));
        }
    }
    // Whoever goes on from a page is told when what followed it is past the cut by now. Not every event changed the booking.
    if let (Some(after), Some(first)) = (after, rows.first())
        && first.sequence > after + 1
        && !log::holds_between(&mut tx, (Booking::TYPE, id), after, first.sequence, cut).await?
    {
        return Err(retained::expired(cut));
    }
    tx.release();
    let answer = respond::json(&cursors.page(&page, rows, |row| row.sequence, HistoryItem::from))?;
    Ok(retained::mark(answer, cut))
}
