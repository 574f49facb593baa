//! `PATCH /platform/tenants/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{TenantId, tenant::TenantCommand};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TenantBody, run};
use crate::{
    app::AppState,
    http::{
        context::PlatformCommand,
        etag::RequiredIfMatch,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// Changes to a tenant. Its slug and time zone are for ever; its plan has a route of its own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameTenant {
    /// The new name.
    name: String,
    /// Why.
    reason: Option<String>,
}

/// Change a tenant's name.
#[utoipa::path(
    patch, path = "/api/v1/platform/tenants/{id}", tag = "platform", operation_id = "rename_tenant",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is changed")),
    request_body = RenameTenant,
    responses(
        (status = 200, body = TenantBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn rename_tenant(
    State(state): State<AppState>,
    context: PlatformCommand,
    Id(id): Id<TenantId>,
    RequiredIfMatch(_): RequiredIfMatch,
    Json { value, hash }: Json<RenameTenant>,
) -> Result<Response> {
    run(&state, context, id, TenantCommand::Rename { name: value.name }, value.reason, hash).await
}
