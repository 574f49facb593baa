//! Support requests: one row each, as they are now. Inline. What time ends is found when it is read, by the database's
//! clock: `state` says `lapsed` of a request that nobody answered in time, and `open` whether the window is.

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, support_request::SupportRequest};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column, int},
};

/// A support request as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportRequestRow {
    /// The request.
    pub id: Uuid,
    /// The platform's account that asks.
    pub requested_by: Uuid,
    /// Why, in words that may name people.
    pub reason: Disclosed<String>,
    /// How long the window is to be.
    pub minutes: i32,
    /// What was last said about it; `lapsed` when that came to nothing in time.
    pub state: String,
    /// Whether the window is open.
    pub open: bool,
    /// When it was made.
    pub requested_at: DateTime<Utc>,
    /// When it lapses, unless it is answered before.
    pub lapses_at: DateTime<Utc>,
    /// The tenant's account that approved it.
    pub approved_by: Option<Uuid>,
    /// When the window opened.
    pub approved_at: Option<DateTime<Utc>>,
    /// When the window closes, or would have.
    pub open_until: Option<DateTime<Utc>>,
    /// The account that denied or revoked it.
    pub ended_by: Option<Uuid>,
    /// Of which side: `tenant`, `platform` or `operator`.
    pub ended_side: Option<String>,
    /// Why it was denied or revoked.
    pub ended_reason: Disclosed<String>,
    /// The sequence of the last event.
    pub version: i64,
    /// The position of the last event.
    pub position: i64,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// One support request.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<SupportRequestRow>, sqlx::Error> {
    sqlx::query_as!(
        SupportRequestRow,
        r#"SELECT id, requested_by, reason, minutes,
                  CASE WHEN status = 'requested' AND lapses_at <= now() THEN 'lapsed' ELSE status END AS "state!",
                  coalesce(status = 'approved' AND open_until > now(), false) AS "open!",
                  requested_at, lapses_at, approved_by, approved_at, open_until, ended_by, ended_side, ended_reason,
                  version, position, updated_at
           FROM support_requests WHERE id = $1"#,
        id
    )
    .fetch_optional(connection)
    .await
}

/// Support requests in the order of their ids, after the one given; of one state, or, as `open`, those whose
/// window is; and made by one account.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    state: Option<&str>,
    requested_by: Option<Uuid>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<SupportRequestRow>, sqlx::Error> {
    sqlx::query_as!(
        SupportRequestRow,
        r#"SELECT id, requested_by, reason, minutes, state AS "state!", open AS "open!", requested_at, lapses_at,
                  approved_by, approved_at, open_until, ended_by, ended_side, ended_reason, version, position,
                  updated_at
           FROM support_requests
           CROSS JOIN LATERAL (
               SELECT CASE WHEN status = 'requested' AND lapses_at <= now() THEN 'lapsed' ELSE status END AS state,
                      coalesce(status = 'approved' AND open_until > now(), false) AS open
           ) AS at_present
           WHERE id > $1 AND ($2::text IS NULL OR state = $2 OR ($2 = 'open' AND open))
             AND ($3::uuid IS NULL OR requested_by = $3)
           ORDER BY id LIMIT $4"#,
        after.unwrap_or_default(),
        state,
        requested_by,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Support requests that something happened to after a position of the log, in the order in which it did. Their state is
/// what was last said about them: these rows are copied, and time goes on.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn changed_after(
    connection: &mut PgConnection,
    position: i64,
    limit: i64,
) -> Result<Vec<SupportRequestRow>, sqlx::Error> {
    sqlx::query_as!(
        SupportRequestRow,
        r#"SELECT id, requested_by, reason, minutes, status AS state,
                  coalesce(status = 'approved' AND open_until > now(), false) AS "open!",
                  requested_at, lapses_at, approved_by, approved_at, open_until, ended_by, ended_side, ended_reason,
                  version, position, updated_at
           FROM support_requests WHERE position > $1 ORDER BY position LIMIT $2"#,
        position,
        limit
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, SupportRequest>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.support_requests (id, requested_by, reason, minutes, status, requested_at, lapses_at, approved_by,
                                           approved_at, open_until, ended_by, ended_side, ended_reason, version, position,
                                           created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::text[], $6::timestamptz[],
                              $7::timestamptz[], $8::uuid[], $9::timestamptz[], $10::timestamptz[], $11::uuid[],
                              $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::timestamptz[],
                              $17::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET requested_by = EXCLUDED.requested_by, reason = EXCLUDED.reason, minutes = EXCLUDED.minutes,
             status = EXCLUDED.status, requested_at = EXCLUDED.requested_at, lapses_at = EXCLUDED.lapses_at,
             approved_by = EXCLUDED.approved_by, approved_at = EXCLUDED.approved_at, open_until = EXCLUDED.open_until,
             ended_by = EXCLUDED.ended_by, ended_side = EXCLUDED.ended_side, ended_reason = EXCLUDED.ended_reason,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.requested_by.0))
        .bind(column!(rows, row => row.state.reason.as_str()))
        .bind(column!(rows, row => int(row.state.minutes)))
        .bind(column!(rows, row => row.state.status.as_str()))
        .bind(column!(rows, row => row.state.requested_at))
        .bind(column!(rows, row => row.state.lapses_at))
        .bind(column!(rows, row => row.state.approved_by.map(|user| user.0)))
        .bind(column!(rows, row => row.state.approved_at))
        .bind(column!(rows, row => row.state.open_until))
        .bind(column!(rows, row => row.state.ended.as_ref().and_then(|ended| ended.by.user()).map(|user| user.0)))
        .bind(column!(rows, row => row.state.ended.as_ref().map(|ended| ended.by.side())))
        .bind(column!(rows, row => row.state.ended.as_ref().map(|ended| ended.reason.as_str())))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
