//! Parked events: those a projection could not fold, and their successors. Never skipped silently.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParkedRow {
    /// The projection it waits for.
    pub projection: String,
    /// The aggregate it happened to; its successors wait too.
    pub key: Uuid,
    /// Its position in the log.
    pub position: i64,
    /// How often it was tried.
    pub attempts: i32,
    /// Why it failed the last time.
    pub error: String,
    /// Since when it waits.
    pub parked_at: DateTime<Utc>,
}

/// The parked events of a log, in order, at most `limit`.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(connection: &mut PgConnection, limit: i64) -> Result<Vec<ParkedRow>, sqlx::Error> {
    sqlx::query_as!(
        ParkedRow,
        "SELECT projection, key, position, attempts, error, parked_at
         FROM parked_events ORDER BY projection, position LIMIT $1",
        limit
    )
    .fetch_all(connection)
    .await
}
