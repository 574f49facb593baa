//! `POST /platform/tenants/{id}/activate`

use axum::{extract::State, response::Response};
use daybook_domain::{TenantId, tenant::TenantCommand};

use super::{TenantBody, run};
use crate::{
    app::AppState,
    http::{
        ReasonOnly,
        context::PlatformCommand,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// Let a tenant be used again.
#[utoipa::path(
    post, path = "/api/v1/platform/tenants/{id}/activate", tag = "platform", operation_id = "activate_tenant",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = TenantBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn activate_tenant(
    State(state): State<AppState>,
    context: PlatformCommand,
    Id(id): Id<TenantId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    run(&state, context, id, TenantCommand::Activate, value.reason, hash).await
}
