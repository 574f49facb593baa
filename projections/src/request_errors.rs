//! Requests that failed, and refusals that matter. Not a read model: the server writes them beside the log, and drops old
//! months of them. Neither path, query nor body is in them.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::newest::{push_before, push_newest};

/// A request that was not answered as was asked, or several that are alike.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RequestErrorRow {
    /// When it began; of several, the first.
    pub at: DateTime<Utc>,
    /// The request's id; of several, the first's.
    pub request_id: Uuid,
    /// Its method.
    pub method: String,
    /// The template of its route.
    pub route: String,
    /// The status of the answer.
    pub status: i32,
    /// The code of the problem.
    pub code: String,
    /// Whoever asked, as events name them; `None` for nobody who is known.
    pub actor: Option<String>,
    /// The account they acted as.
    pub on_behalf_of: Option<String>,
    /// How many requests it stands for, at least one.
    pub times: i32,
}

/// Which are listed; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestErrorFilter {
    /// Of this actor (`key:<id>`).
    pub actor: Option<String>,
    /// Of this status.
    pub status: Option<i32>,
    /// Of this code.
    pub code: Option<String>,
    /// Begun at or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Begun before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// Requests that failed or were refused, newest first, past the one of this time and id.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn page(
    connection: &mut PgConnection,
    filter: &RequestErrorFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<RequestErrorRow>, sqlx::Error> {
    statement(filter, past, limit).build_query_as().fetch_all(connection).await
}

/// The statement of [`page`].
///
/// Only the conditions that are asked for are in it, so that each kind of question has its own plan.
pub fn statement(
    filter: &RequestErrorFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryBuilder<'_, Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT at, request_id, method, route, status, code, actor, on_behalf_of, times FROM request_errors WHERE true",
    );
    if let Some(actor) = &filter.actor {
        query.push(" AND actor = ").push_bind(actor);
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status);
    }
    if let Some(code) = &filter.code {
        query.push(" AND code = ").push_bind(code);
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
    let narrowed = filter.actor.is_some() || filter.status.is_some() || filter.code.is_some();
    push_newest(&mut query, ["at", "request_id"], narrowed, limit);
    query
}

/// Writes such requests. Their months must have partitions.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn insert(connection: &mut PgConnection, rows: &[&RequestErrorRow]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO request_errors (at, request_id, method, route, status, code, actor, on_behalf_of, times)
         SELECT * FROM UNNEST($1::timestamptz[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::text[],
                              $7::text[], $8::text[], $9::integer[])",
    )
    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.request_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.method.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.route.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.status).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.code.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.actor.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.on_behalf_of.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.times).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
