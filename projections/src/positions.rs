//! How far the log is, and how far a projection has followed it.

use sqlx::PgConnection;

/// The position of the log's last event.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn head(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT position FROM log_head").fetch_one(connection).await
}

/// The position a projection has followed the log to; `None` before its first batch.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn checkpoint(connection: &mut PgConnection, name: &str) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT position FROM projection_checkpoints WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await
}
