//! Calls made with API keys. Not a read model: the server writes them beside the log, and drops old months of them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ApiCallRow {
    /// When it began.
    pub at: DateTime<Utc>,
    /// The request's id.
    pub request_id: Uuid,
    /// The key it was made with.
    pub api_key_id: Uuid,
    /// Its method.
    pub method: String,
    /// The template of its route.
    pub route: String,
    /// The status of the answer.
    pub status: i32,
    /// How long the answer took, in microseconds.
    pub latency_us: i32,
}

/// Which calls are listed; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiCallFilter {
    /// Made with this key.
    pub api_key_id: Option<Uuid>,
    /// Begun at or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Begun before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// Calls, newest first, past the one of this time and id.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn page(
    connection: &mut PgConnection,
    filter: &ApiCallFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<ApiCallRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT at, request_id, api_key_id, method, route, status, latency_us FROM api_calls
         WHERE ($1::uuid IS NULL OR api_key_id = $1)
           AND at >= coalesce($2::timestamptz, '-infinity') AND at < coalesce($3::timestamptz, 'infinity')
           AND (at, request_id) < (coalesce($4::timestamptz, 'infinity'), coalesce($5::uuid, $6::uuid))
         ORDER BY at DESC, request_id DESC LIMIT $7",
    )
    .bind(filter.api_key_id)
    .bind(filter.from)
    .bind(filter.to)
    .bind(past.map(|(at, _)| at))
    .bind(past.map(|(_, id)| id))
    .bind(Uuid::max())
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Writes calls. Their months must have partitions.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn insert(connection: &mut PgConnection, rows: &[&ApiCallRow]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO api_calls (at, request_id, api_key_id, method, route, status, latency_us)
         SELECT * FROM UNNEST($1::timestamptz[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::integer[],
                              $7::integer[])",
    )
    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.request_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.api_key_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.method.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.route.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.status).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.latency_us).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
