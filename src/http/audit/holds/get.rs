//! `GET /audit/holds/{id}`

use axum::{extract::State, response::Response};
use daybook_projections::legal_holds;
use uuid::Uuid;

use super::LegalHoldBody;
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

/// Get a legal hold.
#[utoipa::path(
    get, path = "/api/v1/audit/holds/{id}", tag = "audit", operation_id = "get_legal_hold",
    params(("id" = Uuid, Path), ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen")),
    responses(
        (status = 200, body = LegalHoldBody),
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
    let row = legal_holds::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&LegalHoldBody::from(row), version)
}
