//! What the caller's plan leaves of what is written down: every view begins there.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    context::CallContext,
    problem::{Problem, Result},
};
use crate::app::AppState;

/// The time from which on the caller's tenant may read its history, now.
///
/// # Errors
/// `not_found` when the tenant may not be used any more, or `unavailable`.
pub async fn cut(state: &AppState, call: &CallContext) -> Result<DateTime<Utc>> {
    let tenant = state.auth().active_tenant(call.caller.tenant).await?.ok_or_else(Problem::not_found)?;
    Ok(crate::clock::now() - TimeDelta::days(tenant.audit_history_days.into()))
}
