//! `GET /support/sessions/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{SupportSessionId, TenantId};
use daybook_projections::{
    Schema,
    masquerade_overview::{self as overview, Kind},
    support_sessions,
};
use uuid::Uuid;

use super::SupportSessionBody;
use crate::{
    app::AppState,
    http::{
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        respond,
        support::Viewer,
    },
    tenancy::{Access, TenantTx},
};

/// Get a support session. The platform's people get it from the tenant as well, once the overview knows whose it is.
#[utoipa::path(
    get, path = "/api/v1/support/sessions/{id}", tag = "support", operation_id = "get_support_session",
    params(
        ("id" = Uuid, Path),
        ("X-Min-Position" = Option<i64>, Header, description = "The position of the tenant's log to have seen"),
    ),
    responses(
        (status = 200, body = SupportSessionBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<AppState>,
    viewer: Viewer,
    min: MinPosition,
    Id(id): Id<SupportSessionId>,
) -> Result<Response> {
    let (schema, tenant) = match viewer {
        Viewer::Tenant(call) => (call.schema, None),
        Viewer::Platform(_) => {
            let (tenant, slug) = tenant_of(&state, id).await?;
            (Schema::tenant(tenant), Some(slug))
        }
    };
    let mut tx = position::read_in(&state, &schema, min).await?;
    let row = support_sessions::get(&mut tx, id.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&SupportSessionBody { tenant, ..SupportSessionBody::from(row) }, version)
}

/// The active tenant of a session that one of the platform's people names, and its slug.
///
/// # Errors
/// `not_found` when there is none.
pub(super) async fn tenant_of(state: &AppState, id: SupportSessionId) -> Result<(TenantId, String)> {
    let pool = state.store().database().app();
    let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
    let found: Option<Option<(Uuid, String)>> = overview::log_of(&mut tx, Kind::SupportSession, id.0).await?;
    tx.release();
    let (tenant, slug) = found.flatten().ok_or_else(Problem::not_found)?;
    Ok((TenantId(tenant), slug))
}
