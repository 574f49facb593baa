//! Pages of the log for auditors: positions and leaves, filtered by the columns that index them.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
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

/// What retention leaves of a log: what was recorded at the cut or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable {
    /// The cut.
    pub cut: DateTime<Utc>,
    /// A position with nothing readable before it: the first that is, or one a little before that. It only keeps what is
    /// past the cut from being looked at.
    pub floor: i64,
}

/// Which events are wanted; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Past this position.
    pub after: i64,
    /// Up to this position.
    pub until: Option<i64>,
    /// What retention leaves.
    pub readable: Option<Readable>,
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
    let (rows, _) = page_of(connection, filter, limit, usize::MAX).await?;
    Ok(rows)
}

/// A page of events by position that ends once it has so many bytes of leaves; and whether it ended by that. What is
/// beyond is let go of row by row, so that no page takes more memory, however large the leaves suddenly are: to count
/// them in the statement would cost every page.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn page_of(
    connection: &mut PgConnection,
    filter: &LogFilter,
    limit: i64,
    most_bytes: usize,
) -> Result<(Vec<LogRow>, bool), sqlx::Error> {
    let mut query = statement(filter, limit);
    let mut found = query.build_query_as::<(i64, Vec<u8>)>().fetch(connection);
    let (mut rows, mut bytes, mut cut_short) = (Vec::new(), 0_usize, false);
    while let Some((position, leaf)) = found.try_next().await? {
        if bytes >= most_bytes {
            cut_short = true;
            continue;
        }
        bytes = bytes.saturating_add(leaf.len());
        rows.push(LogRow { position, leaf });
    }
    Ok((rows, cut_short))
}

fn statement(filter: &LogFilter, limit: i64) -> QueryBuilder<'_, Postgres> {
    let mut query = QueryBuilder::new("SELECT position, leaf FROM events WHERE position > ");
    let floor = filter.readable.map_or(0, |readable| readable.floor - 1);
    query.push_bind(filter.after.max(floor));
    if let Some(until) = filter.until {
        query.push(" AND position <= ").push_bind(until);
    }
    if let Some(readable) = filter.readable {
        query.push(" AND recorded_at >= ").push_bind(readable.cut);
    }
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
    query
}

/// The last position recorded before a time; 0 when there is none. Among what was not pruned: a position that was counts
/// as recorded before every time.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn last_before(connection: &mut PgConnection, time: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT coalesce(");
    push_position_before(&mut query, time);
    query.push(", 0)");
    query.build_query_scalar().fetch_one(connection).await
}

/// Whether anything ever happened to an aggregate, whether or not the log still holds it.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn has_stream(
    connection: &mut PgConnection,
    aggregate_type: &str,
    id: Uuid,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM streams WHERE aggregate_id = $1 AND aggregate_type = $2)")
        .bind(id)
        .bind(aggregate_type)
        .fetch_one(connection)
        .await
}

/// Whether the log still holds every event of a stream between two sequences, as recorded since a time.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn holds_between(
    connection: &mut PgConnection,
    (aggregate_type, id): (&str, Uuid),
    after: i64,
    before: i64,
    since: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let held: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM events
         WHERE aggregate_id = $1 AND aggregate_type = $2 AND sequence > $3 AND sequence < $4 AND recorded_at >= $5",
    )
    .bind(id)
    .bind(aggregate_type)
    .bind(after)
    .bind(before)
    .bind(since)
    .fetch_one(connection)
    .await?;
    Ok(held >= before - after - 1)
}

/// The log's last position, and when the event at a position was recorded, of one moment; `None` when the log does not hold
/// that position, or not any more.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn recorded_at(
    connection: &mut PgConnection,
    position: i64,
) -> Result<(i64, Option<DateTime<Utc>>), sqlx::Error> {
    sqlx::query_as("SELECT position, (SELECT recorded_at FROM events WHERE position = $1) FROM log_head")
        .bind(position)
        .fetch_one(connection)
        .await
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
