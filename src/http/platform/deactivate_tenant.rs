//! `POST /platform/tenants/{id}/deactivate`

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

/// Stop every use of a tenant: within a second no token, key, link or job of it works, on any node.
#[utoipa::path(
    post, path = "/api/v1/platform/tenants/{id}/deactivate", tag = "platform", operation_id = "deactivate_tenant",
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
pub async fn deactivate_tenant(
    State(state): State<AppState>,
    context: PlatformCommand,
    Id(id): Id<TenantId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    run(&state, context, id, TenantCommand::Deactivate, value.reason, hash).await
}
