//! `GET /platform/plans`

use axum::{extract::State, response::Response};
use daybook_projections::Schema;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    http::{
        cursor::Listing,
        problem::{ProblemBody, Result},
        respond,
    },
    tenancy::{Access, TenancyError, TenantTx},
};

/// A plan: what a tenant may.
#[derive(Debug, Serialize, ToSchema)]
pub struct Plan {
    /// Its name.
    id: String,
    /// Sessions a user may have at once; past it the oldest ends.
    sessions_per_user: i32,
    /// For how many days the audit history is kept.
    audit_history_days: i32,
    /// Whether the audit trail can be exported.
    audit_export: bool,
    /// Calls an hour for each API key.
    api_calls_per_hour: i32,
}

/// List the plans there are.
#[utoipa::path(
    get, path = "/api/v1/platform/plans", tag = "platform", operation_id = "list_plans",
    responses(
        (status = 200, body = Listing<Plan>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list_plans(State(state): State<AppState>) -> Result<Response> {
    let mut tx = TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Read).await?;
    let rows: Vec<(String, i32, i32, bool, i32)> = sqlx::query_as(
        "SELECT id, sessions_per_user, audit_history_days, audit_export, api_calls_per_hour
         FROM plans ORDER BY api_calls_per_hour, id",
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(TenancyError::db("read the plans"))?;
    tx.release();
    let plan = |(id, sessions_per_user, audit_history_days, audit_export, api_calls_per_hour)| Plan {
        id,
        sessions_per_user,
        audit_history_days,
        audit_export,
        api_calls_per_hour,
    };
    respond::json(&Listing { items: rows.into_iter().map(plan).collect(), next_cursor: None })
}
