//! `GET /support/requests/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::SupportRequestId;
use daybook_projections::{Schema, support_requests};

use super::{SupportRequestBody, Viewer, tenant_of};
use crate::{
    app::AppState,
    http::{
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// Get a support request. The platform's people get it from the tenant as well, once the overview knows whose it is.
#[utoipa::path(
    get, path = "/api/v1/support/requests/{id}", tag = "support", operation_id = "get_support_request",
    params(
        ("id" = Uuid, Path),
        ("X-Min-Position" = Option<i64>, Header, description = "The position of the tenant's log to have seen"),
    ),
    responses(
        (status = 200, body = SupportRequestBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<AppState>,
    viewer: Viewer,
    min: MinPosition,
    Id(id): Id<SupportRequestId>,
) -> Result<Response> {
    let (schema, tenant) = match viewer {
        Viewer::Tenant(call) => (call.schema, None),
        Viewer::Platform(_) => {
            let (tenant, slug) = tenant_of(&state, id).await?;
            (Schema::tenant(tenant), Some(slug))
        }
    };
    let mut tx = position::read_in(&state, &schema, min).await?;
    let row = support_requests::get(&mut tx, id.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&SupportRequestBody { tenant, ..SupportRequestBody::from(row) }, version)
}
