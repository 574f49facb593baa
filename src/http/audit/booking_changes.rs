//! `GET /audit/booking-changes`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::{BookingId, Disclosed, ResourceId, registry::AggregateType};
use daybook_projections::{
    booking_changes::{self, BookingChangeFilter, BookingChangeRow},
    booking_history::ShownChange,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        bookings::history::ChangeItem,
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        disclosure,
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, retained,
    },
};

/// Which changes, and which page of them.
#[derive(Debug)]
pub struct Question {
    filter: BookingChangeFilter,
    page: Page,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = BookingChangeFilter {
            booking_id: params.optional::<BookingId>("booking_id")?.map(|booking| booking.0),
            actor: params.text("actor")?,
            resource_id: params.optional::<ResourceId>("resource_id")?.map(|resource| resource.0),
            event_type: params.text("kind")?,
            from: params.optional::<Moment>("from")?.map(|moment| moment.0),
            to: params.optional::<Moment>("to")?.map(|moment| moment.0),
        };
        Ok(Self { filter, page })
    }
}

/// A change of a booking.
#[derive(Debug, Serialize, ToSchema)]
pub struct BookingChange {
    /// Its position in the log.
    position: i64,
    /// The booking.
    booking_id: Uuid,
    /// Its place in the booking's stream.
    sequence: i64,
    /// What happened (`booking.rescheduled`).
    kind: String,
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
    /// The resource the booking is on after it.
    resource_id: Option<Uuid>,
    /// The resource it was moved away from.
    left_resource_id: Option<Uuid>,
    /// What changed. In the place of personal values is the marker of hidden ones for whoever may not read all bookings.
    #[schema(value_type = Vec<ChangeItem>)]
    changes: Vec<ShownChange>,
}

impl From<BookingChangeRow> for BookingChange {
    fn from(row: BookingChangeRow) -> Self {
        let BookingChangeRow { history, resource_id, left_resource_id } = row;
        Self {
            position: history.position,
            booking_id: history.booking_id,
            sequence: history.sequence,
            kind: history.event_type,
            recorded_at: history.recorded_at,
            occurred_at: history.occurred_at,
            actor: history.actor,
            on_behalf_of: history.on_behalf_of,
            reason: history.reason,
            source: history.source,
            resource_id,
            left_resource_id,
            changes: history.changes.0,
        }
    }
}

/// Every change of every booking as a diff, newest first, as far back as the plan keeps history.
#[utoipa::path(
    get, path = "/api/v1/audit/booking-changes", tag = "audit", operation_id = "audit_booking_changes",
    params(
        ("booking_id" = Option<Uuid>, Query, description = "Only of this booking"),
        ("actor" = Option<String>, Query, description = "Only by this actor (`user:<id>`)"),
        ("resource_id" = Option<Uuid>, Query, description = "Only on this resource, to it or away from it"),
        ("kind" = Option<String>, Query, description = "Only of this type of event (`booking.cancelled`)"),
        ("from" = Option<String>, Query, description = "Only recorded at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only recorded before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<BookingChange>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(Question { mut filter, page }): Query<Question>,
) -> Result<Response> {
    let scope = format!("booking changes {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let before: Option<i64> = cursors.decode(&page)?;
    let cut = retained::cut(&state, &call).await?;
    filter.from = Some(filter.from.map_or(cut, |from| from.max(cut)));
    let mut tx = position::read_followed(&state, &call, min, "booking_history").await?;
    retained::reaches(&mut tx, filter.to, cut).await?;
    let mut rows = booking_changes::page(&mut tx, &filter, before, page.fetch()).await?;
    tx.release();
    if !disclosure::may_see(&call.caller.principal, AggregateType::Booking) {
        rows.iter_mut().flat_map(|row| &mut row.history.changes.0).for_each(ShownChange::withhold);
    }
    let answer =
        respond::json(&cursors.page(&page, rows, |last| last.history.position, BookingChange::from))?;
    Ok(retained::mark(answer, cut))
}
