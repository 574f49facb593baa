//! Pages of the log for auditors: positions and leaves, filtered by the columns that index them.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

/// An event as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Its position.
    pub position: i64,
    /// Its leaf: the truth about it.
    pub leaf: Vec<u8>,
}

/// Which events are wanted; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Past this position.
    pub after: i64,
    /// Of this event type.
    pub event_type: Option<String>,
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this aggregate.
    pub aggregate_id: Option<Uuid>,
    /// Of this type of aggregate.
    pub aggregate_type: Option<String>,
    /// Recorded then or later.
    pub from: Option<DateTime<Utc>>,
    /// Recorded before then.
    pub to: Option<DateTime<Utc>>,
}

/// A page of events by position.
///
/// Only the conditions that are asked for are in the statement, so that each kind of question has its own plan.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn page(
    connection: &mut PgConnection,
    filter: &LogFilter,
    limit: i64,
) -> Result<Vec<LogRow>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT position, leaf FROM events WHERE position > ");
    query.push_bind(filter.after);
    if let Some(from) = filter.from {
        // Times rise with positions, so the first event at or after a time is found by halving.
        query.push(" AND recorded_at >= ").push_bind(from).push(" AND position > ");
        push_position_before(&mut query, from);
    }
    if let Some(to) = filter.to {
        query.push(" AND recorded_at < ").push_bind(to).push(" AND position <= ");
        push_position_before(&mut query, to);
    }
    if let Some(event_type) = &filter.event_type {
        query.push(" AND event_type = ").push_bind(event_type);
    }
    if let Some(actor) = &filter.actor {
        query.push(" AND actor = ").push_bind(actor);
    }
    if let Some(id) = filter.aggregate_id {
        query.push(" AND aggregate_id = ").push_bind(id);
    }
    if let Some(aggregate_type) = &filter.aggregate_type {
        query.push(" AND aggregate_type = ").push_bind(aggregate_type);
    }
    query.push(" ORDER BY position LIMIT ").push_bind(limit);
    let rows: Vec<(i64, Vec<u8>)> = query.build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(position, leaf)| LogRow { position, leaf }).collect())
}

/// The last position recorded before a time: some twenty look-ups in the primary key, in place of a scan.
///
/// A position that was pruned counts as before every time, as everything pruned is older than what is kept.
pub(crate) fn push_position_before(query: &mut QueryBuilder<'_, Postgres>, time: DateTime<Utc>) {
    query
        .push(
            "(WITH RECURSIVE halving (low, high) AS (
                 SELECT 0::bigint, position + 1 FROM log_head
                 UNION ALL
                 SELECT CASE WHEN before THEN middle ELSE low END, CASE WHEN before THEN high ELSE middle END
                 FROM (SELECT low, high, (low + high) / 2 AS middle, coalesce((
                           SELECT e.recorded_at FROM events e WHERE e.position = (halving.low + halving.high) / 2
                       ), '-infinity') < ",
        )
        .push_bind(time)
        .push(
            " AS before FROM halving WHERE high - low > 1) AS step
             ) SELECT max(low) FROM halving)",
        );
}
