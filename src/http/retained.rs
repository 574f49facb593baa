//! What the caller's plan leaves of the log: every read of history goes through here.
//!
//! A list begins at the cut, and says where that is in `X-Readable-From`. What is asked for by name (a position to go on
//! from, a time to look back to, one thing whose events are all older) and lies before the cut is 410
//! `retention_expired`: to pass over it would read as if nothing had happened.

use axum::response::Response;
use chrono::{DateTime, Utc};
use daybook_projections::{
    Schema,
    log::{self, Readable},
};
use http::HeaderValue;
use sqlx::PgConnection;

use super::{
    context::CallContext,
    headers::X_READABLE_FROM,
    problem::{Code, Problem, Result},
};
use crate::{app::AppState, eventstore::leaf::format_time};

/// The cut of the caller's tenant, now.
///
/// # Errors
/// `not_found` when the tenant may not be used any more, or `unavailable`.
pub async fn cut(state: &AppState, call: &CallContext) -> Result<DateTime<Utc>> {
    cut_of(state, &call.schema).await
}

/// The cut of a tenant's log, now.
///
/// # Errors
/// As [`cut`].
pub async fn cut_of(state: &AppState, schema: &Schema) -> Result<DateTime<Utc>> {
    let tenant = schema.tenant_id().ok_or_else(Problem::not_found)?;
    let tenant = state.auth().active_tenant(tenant).await?.ok_or_else(Problem::not_found)?;
    Ok(tenant.retention.cut(tenant.retention.now()))
}

/// What a cut leaves of a log.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn readable(
    state: &AppState,
    connection: &mut PgConnection,
    schema: &Schema,
    cut: DateTime<Utc>,
) -> Result<Readable> {
    Ok(state.floors().readable(connection, schema, cut).await?)
}

/// Whether nothing is missing after a position that somebody was told, and names: what follows it is readable, or is yet
/// to come. Zero is no such position, but the beginning of whatever there is.
///
/// # Errors
/// `retention_expired` when the event after it is past the cut.
pub async fn goes_on_from(connection: &mut PgConnection, after: i64, cut: DateTime<Utc>) -> Result<()> {
    if after > 0 { holds(connection, after.saturating_add(1), cut).await } else { Ok(()) }
}

/// Whether the log can be read at a position, where it has come that far.
///
/// # Errors
/// `retention_expired` when that is past the cut.
pub async fn holds(connection: &mut PgConnection, position: i64, cut: DateTime<Utc>) -> Result<()> {
    match log::recorded_at(connection, position).await? {
        (_, Some(recorded)) if recorded >= cut => Ok(()),
        // Yet to be written.
        (head, None) if position > head => Ok(()),
        // Past it, or pruned.
        (_, Some(_) | None) => Err(expired(cut)),
    }
}

/// Whether what happened before a time can be told, where the log is as old as the cut at all.
///
/// # Errors
/// `retention_expired` when the time is not past the cut, and something is before it.
pub async fn reaches(
    connection: &mut PgConnection,
    to: Option<DateTime<Utc>>,
    cut: DateTime<Utc>,
) -> Result<()> {
    match to {
        Some(to) if to <= cut => holds(connection, 1, cut).await,
        Some(_) | None => Ok(()),
    }
}

/// The refusal to show what is past the cut.
pub fn expired(cut: DateTime<Utc>) -> Problem {
    let detail = format!("The plan keeps history from {} on.", format_time(cut));
    let problem = Problem::new(Code::RetentionExpired, detail);
    match HeaderValue::try_from(format_time(cut)) {
        Ok(value) => problem.with_header(X_READABLE_FROM, value),
        Err(_) => problem,
    }
}

/// Says in an answer where the readable part begins.
pub fn mark(mut response: Response, cut: DateTime<Utc>) -> Response {
    if let Ok(value) = HeaderValue::try_from(format_time(cut)) {
        response.headers_mut().insert(X_READABLE_FROM, value);
    }
    response
}
