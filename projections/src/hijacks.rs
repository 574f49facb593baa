//! Hijacks: one row each, as they are now, in the log of whom somebody acts as. Inline. What time ends is found when it is
//! read, by the database's clock.

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, hijack::Hijack, support_request::Party};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column, int},
};

/// A hijack as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HijackRow {
    /// The hijack.
    pub id: Uuid,
    /// Who acts.
    pub hijacker: Option<Uuid>,
    /// Of which side: `tenant` or `platform`.
    pub hijacker_side: String,
    /// As whom.
    pub target: Uuid,
    /// By what it was allowed: `tier`, `temporary_tenant`, `waiver` or `window`.
    pub via: String,
    /// The support request whose window it is in.
    pub support_request_id: Option<Uuid>,
    /// Why.
    pub reason: Disclosed<String>,
    /// `open`, `ended` or `refused`.
    pub state: String,
    /// When it began, or was refused.
    pub started_at: DateTime<Utc>,
    /// When it ends by itself, or would have.
    pub until: DateTime<Utc>,
    /// Why it was refused.
    pub refused: Option<String>,
    /// What ended it, once that is noted.
    pub end_cause: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The account that ended it.
    pub ended_by: Option<Uuid>,
    /// Of which side: `tenant`, `platform` or `operator`.
    pub ended_side: Option<String>,
    /// Reads that were answered in it.
    pub viewed: i32,
    /// Requests that were refused in it.
    pub denied: i32,
    /// The sequence of the last event.
    pub version: i64,
    /// The position of the last event.
    pub position: i64,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which hijacks are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HijackFilter {
    /// Of this state: `open`, `ended` or `refused`.
    pub state: Option<String>,
    /// By this account.
    pub hijacker: Option<Uuid>,
    /// As this account.
    pub target: Option<Uuid>,
    /// In the window of this support request.
    pub support_request_id: Option<Uuid>,
}

macro_rules! select {
    ($where:tt $(, $argument:expr)*) => {
        sqlx::query_as!(
            HijackRow,
            "SELECT id, hijacker, hijacker_side, target, via, support_request_id, reason, state AS \"state!\", started_at, \
             until, refused, end_cause, ended_at, ended_by, ended_side, viewed, denied, version, position, updated_at \
             FROM hijacks \
             CROSS JOIN LATERAL (SELECT CASE WHEN refused IS NOT NULL THEN 'refused' \
                                             WHEN ended_at IS NOT NULL OR until <= now() THEN 'ended' \
                                             ELSE 'open' END AS state) AS at_present " + $where,
            $($argument),*
        )
    };
}

/// One hijack.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<HijackRow>, sqlx::Error> {
    select!("WHERE id = $1", id).fetch_optional(connection).await
}

/// Hijacks, newest first, before the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &HijackFilter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<HijackRow>, sqlx::Error> {
    select!(
        "WHERE id < $1 AND ($2::text IS NULL OR state = $2) AND ($3::uuid IS NULL OR hijacker = $3)
           AND ($4::uuid IS NULL OR target = $4) AND ($5::uuid IS NULL OR support_request_id = $5)
         ORDER BY id DESC LIMIT $6",
        before.unwrap_or(Uuid::max()),
        filter.state,
        filter.hijacker,
        filter.target,
        filter.support_request_id,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Hijacks by the platform's people that something happened to after a position of the log, in the order in which it did.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn changed_after(
    connection: &mut PgConnection,
    position: i64,
    limit: i64,
) -> Result<Vec<HijackRow>, sqlx::Error> {
    select!("WHERE position > $1 AND hijacker_side = 'platform' ORDER BY position LIMIT $2", position, limit)
        .fetch_all(connection)
        .await
}

/// The hijacks that the events of these positions ended, both inclusive.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn ended_between(
    connection: &mut PgConnection,
    first: i64,
    last: i64,
) -> Result<Vec<HijackRow>, sqlx::Error> {
    select!("WHERE position BETWEEN $1 AND $2 AND ended_at IS NOT NULL ORDER BY position", first, last)
        .fetch_all(connection)
        .await
}

/// The hijacks that nothing in the log says are over, those that end soonest first.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn unended(connection: &mut PgConnection, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT id FROM hijacks WHERE refused IS NULL AND ended_at IS NULL ORDER BY until LIMIT $1",
        limit
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Hijack>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.hijacks (id, hijacker, hijacker_side, signed_in, target, via, support_request_id, reason,
                                  started_at, until, refused, end_cause, ended_at, ended_by, ended_side, viewed, denied,
                                  version, position, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[],
                              $8::text[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[],
                              $13::timestamptz[], $14::uuid[], $15::text[], $16::integer[], $17::integer[],
                              $18::bigint[], $19::bigint[], $20::timestamptz[], $21::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET end_cause = EXCLUDED.end_cause, ended_at = EXCLUDED.ended_at, ended_by = EXCLUDED.ended_by,
             ended_side = EXCLUDED.ended_side, viewed = EXCLUDED.viewed, denied = EXCLUDED.denied,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.hijacker().map(|user| user.0)))
        .bind(column!(rows, row => row.state.by.map_or("operator", Party::side)))
        .bind(column!(rows, row => row.state.signed_in.0))
        .bind(column!(rows, row => row.state.target.0))
        .bind(column!(rows, row => row.state.via.as_str()))
        .bind(column!(rows, row => row.state.via.window().map(|request| request.0)))
        .bind(column!(rows, row => row.state.reason.as_str()))
        .bind(column!(rows, row => row.state.started_at))
        .bind(column!(rows, row => row.state.until))
        .bind(column!(rows, row => row.state.refused.map(|refused| refused.as_str())))
        .bind(column!(rows, row => row.state.ended.map(|ended| ended.cause.as_str())))
        .bind(column!(rows, row => row.state.ended.map(|ended| ended.at)))
        .bind(column!(rows, row => row.state.ended.and_then(|ended| ended.cause.by()?.user()).map(|user| user.0)))
        .bind(column!(rows, row => row.state.ended.and_then(|ended| ended.cause.by()).map(|by| by.side())))
        .bind(column!(rows, row => int(row.state.viewed)))
        .bind(column!(rows, row => int(row.state.denied)))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
