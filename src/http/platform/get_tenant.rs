//! `GET /platform/tenants/{id}`

use axum::{extract::State, response::Response};
use daybook_projections::{Schema, tenants};
use uuid::Uuid;

use super::{TenantBody, sells_only};
use crate::{
    app::AppState,
    http::{
        context::SignedIn,
        path::Id,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    tenancy::{Access, TenantTx},
};

/// Get a tenant.
#[utoipa::path(
    get, path = "/api/v1/platform/tenants/{id}", tag = "platform", operation_id = "get_tenant",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = TenantBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get_tenant(
    State(state): State<AppState>,
    SignedIn(principal): SignedIn,
    Id(id): Id<Uuid>,
) -> Result<Response> {
    let mut tx = TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Read).await?;
    let row = tenants::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    if sells_only(principal.tier) && !row.temporary {
        return Err(Problem::not_found());
    }
    let version = row.version;
    respond::versioned(&TenantBody::from(row), version)
}
