//! `GET /hijacks/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{HijackId, TenantId};
use daybook_projections::{
    Schema, hijacks,
    masquerade_overview::{self as overview, Kind},
};

use super::HijackBody;
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

/// Get a hijack. The platform's people get it from the tenant as well, once the overview knows whose it is.
#[utoipa::path(
    get, path = "/api/v1/hijacks/{id}", tag = "hijack", operation_id = "get_hijack",
    params(
        ("id" = Uuid, Path),
        ("X-Min-Position" = Option<i64>, Header, description = "The position of the log it is in to have seen"),
    ),
    responses(
        (status = 200, body = HijackBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<AppState>,
    viewer: Viewer,
    min: MinPosition,
    Id(id): Id<HijackId>,
) -> Result<Response> {
    let own = match viewer {
        Viewer::Tenant(call) => Some(call.caller.tenant),
        Viewer::Platform(_) => None,
    };
    let (schema, tenant) = schema_of(&state, own, id).await?;
    let mut tx = position::read_in(&state, &schema, min).await?;
    let row = hijacks::get(&mut tx, id.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&HijackBody { tenant, ..HijackBody::from(row) }, version)
}

/// The log that a hijack is in: the tenant's own for its callers; for the platform's people the one that the overview
/// names, with the tenant's slug.
///
/// # Errors
/// `not_found` when the overview knows none.
pub(super) async fn schema_of(
    state: &AppState,
    own: Option<TenantId>,
    id: HijackId,
) -> Result<(Schema, Option<String>)> {
    if let Some(tenant) = own {
        return Ok((Schema::tenant(tenant), None));
    }
    let pool = state.store().database().app();
    let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
    let found = overview::log_of(&mut tx, Kind::Hijack, id.0).await?;
    tx.release();
    Ok(match found.ok_or_else(Problem::not_found)? {
        Some((tenant, slug)) => (Schema::tenant(TenantId(tenant)), Some(slug)),
        None => (Schema::platform(), None),
    })
}
