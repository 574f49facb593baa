//! `GET /readyz`: requests can be answered: the database is there and every schema is up to date.

use std::time::{Duration, Instant};

use axum::{extract::State, response::Response};

use super::health::Health;
use crate::{
    app::AppState,
    http::{
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    tenancy::migrate,
};

/// Anyone may ask, so the database is asked at most once in this time.
const FRESH: Duration = Duration::from_secs(1);
/// A probe must not wait as long as a request.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether requests can be answered.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "ready", security(()),
    responses(
        (status = 200, body = Health),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn ready(State(state): State<AppState>) -> Result<Response> {
    let mut known = state.readiness().await;
    let asked = Instant::now();
    let ready = match *known {
        Some((at, ready)) if asked.duration_since(at) < FRESH => ready,
        _ => {
            let ready = is_ready(&state).await;
            *known = Some((asked, ready));
            ready
        }
    };
    drop(known);
    if ready {
        respond::json(&Health { status: "ok" })
    } else {
        Err(Problem::unavailable("The database is away, or a schema is not up to date."))
    }
}

async fn is_ready(state: &AppState) -> bool {
    match tokio::time::timeout(PATIENCE, migrate::status(state.store().database())).await {
        Ok(Ok(schemas)) => schemas.iter().all(|schema| schema.up_to_date),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            false
        }
        Err(_) => false,
    }
}
