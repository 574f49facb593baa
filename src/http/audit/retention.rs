//! `GET /audit/retention`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    retention::{self, ExportRight},
};

/// How far back the log can be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retention {
    /// The plan.
    #[schema(example = "business")]
    plan: String,
    /// For how many days the plan keeps history.
    history_days: u32,
    /// What was recorded then or later can be read.
    readable_from: DateTime<Utc>,
    /// The first position that can be read; one past the log's last when there is none.
    first_position: i64,
    /// The longer history that counts for a while after a move to a smaller plan.
    grace: Option<RetentionGrace>,
    /// Whether the log can be exported now.
    export_allowed: bool,
    /// Until when exports are offered although the plan has none.
    export_offered_until: Option<DateTime<Utc>>,
}

/// The longer history of a larger plan, for a while after a move to a smaller one.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionGrace {
    /// Until then.
    until: DateTime<Utc>,
    /// The days that count meanwhile.
    previous_days: u32,
}

/// How far back the log can be read, and whether it can be exported: by the plan, and for two weeks after a move to a
/// smaller one as before.
#[utoipa::path(
    get, path = "/api/v1/audit/retention", tag = "audit", operation_id = "audit_retention",
    responses(
        (status = 200, body = Retention),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn retention(State(state): State<AppState>, call: CallContext) -> Result<Response> {
    let tenant = state.auth().active_tenant(call.caller.tenant).await?.ok_or_else(Problem::not_found)?;
    let now = tenant.retention.now();
    let cut = tenant.retention.cut(now);
    let mut tx = position::read(&state, &call, MinPosition(None)).await?;
    let first_position = retention::first_at(&mut tx, cut).await?;
    tx.release();
    let right = tenant.retention.export_right(now);
    respond::json(&Retention {
        plan: tenant.plan.clone(),
        history_days: tenant.retention.history_days,
        readable_from: cut,
        first_position,
        grace: tenant
            .retention
            .grace(now)
            .map(|grace| RetentionGrace { until: grace.until, previous_days: grace.previous_days }),
        export_allowed: right.is_some(),
        export_offered_until: match right {
            Some(ExportRight::Offered(until)) => Some(until),
            Some(ExportRight::Plan) | None => None,
        },
    })
}
