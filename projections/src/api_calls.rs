//! Calls made with API keys. Not a read model: the server writes them beside the log, and drops old months of them.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::newest::{push_before, push_newest};

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
    statement(filter, past, limit).build_query_as().fetch_all(connection).await
}

/// The statement of [`page`].
///
/// Only the conditions that are asked for are in it, so that each kind of question has its own plan.
pub fn statement(
    filter: &ApiCallFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryBuilder<'_, Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT at, request_id, api_key_id, method, route, status, latency_us FROM api_calls WHERE true",
    );
    if let Some(key) = filter.api_key_id {
        query.push(" AND api_key_id = ").push_bind(key);
    }
    if let Some(from) = filter.from {
        query.push(" AND at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        push_before(&mut query, ["at", "request_id"], (to, Uuid::nil()));
    }
    if let Some(past) = past {
        push_before(&mut query, ["at", "request_id"], past);
    }
    push_newest(&mut query, ["at", "request_id"], filter.api_key_id.is_some(), limit);
    query
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
