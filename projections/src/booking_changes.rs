//! Every change of every booking, newest first: the booking history as an auditor asks for it.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder, types::Json};
use uuid::Uuid;

use crate::{
    booking_history::{HistoryRow, ShownChange},
    log::push_position_before,
};

/// A change of a booking, and where the booking is.
#[derive(Clone, Debug, PartialEq)]
pub struct BookingChangeRow {
    /// The change.
    pub history: HistoryRow,
    /// The resource it is on after it.
    pub resource_id: Option<Uuid>,
    /// The resource it was on before, where it was moved.
    pub left_resource_id: Option<Uuid>,
}

/// Which are listed; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookingChangeFilter {
    /// Of this booking.
    pub booking_id: Option<Uuid>,
    /// By this actor (`user:<id>`).
    pub actor: Option<String>,
    /// On this resource, to it or away from it.
    pub resource_id: Option<Uuid>,
    /// Of this type (`booking.cancelled`).
    pub event_type: Option<String>,
    /// Recorded at or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Recorded before this instant.
    pub to: Option<DateTime<Utc>>,
}

const SELECT: &str = "SELECT booking_id, sequence, position, event_type, recorded_at, occurred_at, actor, on_behalf_of, \
                      reason, source, changes, resource_id, left_resource_id FROM booking_history WHERE true";

/// Changes, newest first, before this position.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn page(
    connection: &mut PgConnection,
    filter: &BookingChangeFilter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<BookingChangeRow>, sqlx::Error> {
    let rows: Vec<Found> = statement(filter, before, limit).build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(BookingChangeRow::from).collect())
}

/// The statement of [`page`].
///
/// Only the conditions that are asked for are in it, so that each kind of question has its own plan.
pub fn statement(
    filter: &BookingChangeFilter,
    before: Option<i64>,
    limit: i64,
) -> QueryBuilder<'_, Postgres> {
    let mut query = QueryBuilder::new("");
    match filter.resource_id {
        None => {
            query.push(SELECT);
            narrow(&mut query, filter, before);
            query.push(" ORDER BY ").push(filter.position()).push(" DESC");
        }
        // Each part gives a page from its own index.
        Some(resource) => {
            query.push("SELECT * FROM ((").push(SELECT).push(" AND resource_id = ").push_bind(resource);
            narrow(&mut query, filter, before);
            query.push(" ORDER BY position DESC LIMIT ").push_bind(limit).push(") UNION ALL (");
            query.push(SELECT).push(" AND left_resource_id = ").push_bind(resource);
            narrow(&mut query, filter, before);
            query.push(" ORDER BY position DESC LIMIT ").push_bind(limit);
            query.push(")) AS either ORDER BY position DESC");
        }
    }
    query.push(" LIMIT ").push_bind(limit);
    query
}

impl BookingChangeFilter {
    /// The position, as the index has it that the planner is to take. Where something but time narrows the list, the one by
    /// position alone is no choice: of two bounds the planner takes it that there is next to nothing in between, and would
    /// read all of that, whatever is asked for.
    fn position(&self) -> &'static str {
        let narrowed = self.booking_id.is_some()
            || self.actor.is_some()
            || self.resource_id.is_some()
            || self.event_type.is_some();
        if narrowed { "position" } else { "(position + 0)" }
    }
}

fn narrow<'q>(query: &mut QueryBuilder<'q, Postgres>, filter: &'q BookingChangeFilter, before: Option<i64>) {
    if let Some(booking) = filter.booking_id {
        query.push(" AND booking_id = ").push_bind(booking);
    }
    if let Some(actor) = &filter.actor {
        query.push(" AND actor = ").push_bind(actor);
    }
    if let Some(event_type) = &filter.event_type {
        query.push(" AND event_type = ").push_bind(event_type);
    }
    let position = filter.position();
    if let Some(before) = before {
        query.push(" AND ").push(position).push(" < ").push_bind(before);
    }
    // Times rise with positions, which the indexes are by. A booking has few changes, which are found by its id.
    let by_position = filter.booking_id.is_none();
    if let Some(from) = filter.from {
        query.push(" AND recorded_at >= ").push_bind(from);
        if by_position {
            query.push(" AND ").push(position).push(" > ");
            push_position_before(query, from);
        }
    }
    if let Some(to) = filter.to {
        query.push(" AND recorded_at < ").push_bind(to);
        if by_position {
            query.push(" AND ").push(position).push(" <= ");
            push_position_before(query, to);
        }
    }
}

#[derive(sqlx::FromRow)]
struct Found {
    booking_id: Uuid,
    sequence: i64,
    position: i64,
    event_type: String,
    recorded_at: DateTime<Utc>,
    occurred_at: DateTime<Utc>,
    actor: String,
    on_behalf_of: Option<String>,
    reason: Option<String>,
    source: Option<String>,
    changes: Json<Vec<ShownChange>>,
    resource_id: Option<Uuid>,
    left_resource_id: Option<Uuid>,
}

impl From<Found> for BookingChangeRow {
    fn from(row: Found) -> Self {
        let history = HistoryRow {
            booking_id: row.booking_id,
            sequence: row.sequence,
            position: row.position,
            event_type: row.event_type,
            recorded_at: row.recorded_at,
            occurred_at: row.occurred_at,
            actor: row.actor,
            on_behalf_of: row.on_behalf_of,
            reason: row.reason.into(),
            source: row.source,
            changes: row.changes,
        };
        Self { history, resource_id: row.resource_id, left_resource_id: row.left_resource_id }
    }
}
