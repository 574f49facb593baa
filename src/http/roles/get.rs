//! `GET /roles/{id}`

use axum::{extract::State, response::Response};
use daybook_projections::roles;
use uuid::Uuid;

use super::RoleBody;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// Get a role of the tenant's own.
#[utoipa::path(
    get, path = "/api/v1/roles/{id}", tag = "roles", operation_id = "get_role",
    params(("id" = Uuid, Path), ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen")),
    responses(
        (status = 200, body = RoleBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Id(id): Id<Uuid>,
) -> Result<Response> {
    let mut tx = position::read(&state, &call, min).await?;
    let row = roles::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&RoleBody::from(row), version)
}
