//! `X-Min-Position`: a read waits, for a bounded time, until what it reads from has seen that much of the log.
//!
//! Reads from one place in the code may share a transaction, see [`TenantTx::begin_in_turn`]; that place is who calls these
//! functions.

use std::{future::Future, panic::Location, time::Duration};

use axum::{extract::FromRequestParts, http::request::Parts};
use daybook_projections::{Schema, positions};
use tokio::time::{Instant, sleep, timeout};

use super::{
    context::CallContext,
    headers::X_MIN_POSITION,
    problem::{Problem, Result},
};
use crate::{app::AppState, tenancy::TenantTx};

const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// The position a read must have seen, if the caller says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinPosition(pub Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for MinPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let Some(value) = parts.headers.get(X_MIN_POSITION) else { return Ok(Self(None)) };
        value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|position| *position >= 0)
            .map(|position| Self(Some(position)))
            .ok_or_else(|| Problem::malformed("X-Min-Position must be a position in the log."))
    }
}

/// A read-only transaction in the caller's schema, once its log has reached the position. For read models that are
/// written with the events.
///
/// # Errors
/// `unavailable` when that takes more than two seconds or the database is away.
#[track_caller]
pub fn read(
    state: &AppState,
    call: &CallContext,
    min: MinPosition,
) -> impl Future<Output = Result<TenantTx<'static>>> + Send {
    read_in(state, &call.schema, min)
}

/// The same in a schema, for whoever may read there without being a caller of the tenant.
///
/// # Errors
/// `unavailable` when that takes more than two seconds or the database is away.
#[track_caller]
pub fn read_in(
    state: &AppState,
    schema: &Schema,
    min: MinPosition,
) -> impl Future<Output = Result<TenantTx<'static>>> + Send {
    let place = Location::caller();
    async move {
        if let Some(position) = min.0 {
            wait_for_head(state, schema, position).await?;
        }
        begin(state, schema, place).await
    }
}

/// A read-only transaction, once the projection of this name has followed the log to the position.
///
/// # Errors
/// `unavailable` when that takes more than two seconds or the database is away.
#[track_caller]
pub fn read_followed(
    state: &AppState,
    call: &CallContext,
    min: MinPosition,
    projection: &str,
) -> impl Future<Output = Result<TenantTx<'static>>> + Send {
    let place = Location::caller();
    async move {
        let Some(position) = min.0.filter(|position| *position > 0) else {
            return begin(state, &call.schema, place).await;
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let mut tx = begin(state, &call.schema, place).await?;
            let seen = positions::checkpoint(&mut tx, projection).await?;
            if seen.is_some_and(|seen| seen >= position) {
                return Ok(tx);
            }
            tx.release();
            if Instant::now() >= until {
                return Err(behind());
            }
            sleep(POLL).await;
        }
    }
}

async fn begin(
    state: &AppState,
    schema: &Schema,
    place: &'static Location<'static>,
) -> Result<TenantTx<'static>> {
    Ok(TenantTx::begin_in_turn(state.store().database().app(), schema, place).await?)
}

async fn wait_for_head(state: &AppState, schema: &Schema, position: i64) -> Result<()> {
    // What this process wrote, it knows; what another node wrote is asked for.
    let mut head = state.store().head_watch(schema);
    let until = Instant::now() + PATIENCE;
    while *head.borrow_and_update() < position {
        let mut tx = begin(state, schema, Location::caller()).await?;
        let found = positions::head(&mut tx).await?;
        tx.release();
        if found >= position {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(behind());
        }
        // Whether it moved or the time is over, the loop looks again.
        let _ = timeout(POLL, head.changed()).await;
    }
    Ok(())
}

fn behind() -> Problem {
    Problem::unavailable("This read has not reached X-Min-Position yet.")
}
