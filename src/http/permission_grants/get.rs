//! `GET /permission-grants/{id}`

use axum::{extract::State, response::Response};
use daybook_projections::permission_grants;
use uuid::Uuid;

use super::PermissionGrantBody;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        respond, scope,
    },
};

/// Get a permission grant. Staff see those they were given.
#[utoipa::path(
    get, path = "/api/v1/permission-grants/{id}", tag = "permission grants", operation_id = "get_permission_grant",
    params(("id" = Uuid, Path), ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen")),
    responses(
        (status = 200, body = PermissionGrantBody),
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
    let row = permission_grants::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    if scope::own_user(&call).is_some_and(|own| own != row.grantee) {
        return Err(Problem::not_found());
    }
    let version = row.version;
    respond::versioned(&PermissionGrantBody::from(row), version)
}
