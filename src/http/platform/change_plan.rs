//! `POST /platform/tenants/{id}/plan`

use axum::{extract::State, response::Response};
use daybook_domain::{TenantId, tenant::TenantCommand};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TenantBody, run};
use crate::{
    app::AppState,
    http::{
        context::PlatformCommand,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// The plan a tenant is to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePlan {
    /// The plan.
    plan: String,
    /// Why.
    reason: Option<String>,
}

/// Move a tenant to another plan; its limits hold within a second.
#[utoipa::path(
    post, path = "/api/v1/platform/tenants/{id}/plan", tag = "platform", operation_id = "change_plan",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = ChangePlan,
    responses(
        (status = 200, body = TenantBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn change_plan(
    State(state): State<AppState>,
    context: PlatformCommand,
    Id(id): Id<TenantId>,
    Json { value, hash }: Json<ChangePlan>,
) -> Result<Response> {
    run(&state, context, id, TenantCommand::ChangePlan { plan: value.plan }, value.reason, hash).await
}
