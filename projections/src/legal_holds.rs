//! Legal holds: one row each, as they are now. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, legal_hold::LegalHold};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// A hold as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegalHoldRow {
    /// The hold.
    pub id: Uuid,
    /// What it is known as.
    pub name: String,
    /// Whose data it keeps; everybody's where absent.
    pub customer_id: Option<Uuid>,
    /// The first position it keeps.
    pub from_position: i64,
    /// Why it was placed, in words that may name people.
    pub reason: Disclosed<String>,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
    /// When it was released; it stands until then.
    pub released_at: Option<DateTime<Utc>>,
    /// Why it was released.
    pub release_reason: Disclosed<String>,
    /// The sequence of the last event.
    pub version: i64,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// One hold.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<LegalHoldRow>, sqlx::Error> {
    sqlx::query_as!(
        LegalHoldRow,
        "SELECT id, name, customer_id, from_position, reason, placed_at, released_at, release_reason, version, updated_at
         FROM legal_holds WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Holds in the order of their ids, after the one given: those that stand, those that do not, or both.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    standing: Option<bool>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<LegalHoldRow>, sqlx::Error> {
    sqlx::query_as!(
        LegalHoldRow,
        "SELECT id, name, customer_id, from_position, reason, placed_at, released_at, release_reason, version, updated_at
         FROM legal_holds
         WHERE id > $1 AND ($2::boolean IS NULL OR (released_at IS NULL) = $2)
         ORDER BY id LIMIT $3",
        after.unwrap_or_default(),
        standing,
        limit
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, LegalHold>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.legal_holds (id, name, customer_id, from_position, reason, placed_at, released_at, release_reason,
                                      version, position, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::timestamptz[],
                              $7::timestamptz[], $8::text[], $9::bigint[], $10::bigint[], $11::timestamptz[],
                              $12::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET released_at = EXCLUDED.released_at, release_reason = EXCLUDED.release_reason, version = EXCLUDED.version,
             position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    // An aggregate with an event has been placed; one without has no row.
    let rows: Vec<_> =
        rows.iter().filter_map(|row| row.state.held.as_ref().map(|held| (row, held))).collect();
    sqlx::query(&sql)
        .bind(column!(rows, it => it.0.id))
        .bind(column!(rows, it => it.1.name.as_str()))
        .bind(column!(rows, it => it.1.customer_id.map(|customer| customer.0)))
        .bind(column!(rows, it => it.1.from()))
        .bind(column!(rows, it => it.1.reason.as_str()))
        .bind(column!(rows, it => it.1.placed_at))
        .bind(column!(rows, it => it.0.state.release.as_ref().map(|release| release.released_at)))
        .bind(column!(rows, it => it.0.state.release.as_ref().map(|release| release.reason.as_str())))
        .bind(column!(rows, it => it.0.version))
        .bind(column!(rows, it => it.0.position))
        .bind(column!(rows, it => it.0.created_at))
        .bind(column!(rows, it => it.0.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
