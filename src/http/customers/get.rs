//! `GET /customers/{id}`

use axum::{extract::State, response::Response};
use daybook_projections::customers;
use uuid::Uuid;

use super::CustomerBody;
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

/// Get a customer.
#[utoipa::path(
    get, path = "/api/v1/customers/{id}", tag = "customers", operation_id = "get_customer",
    params(("id" = Uuid, Path), ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen")),
    responses(
        (status = 200, body = CustomerBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Id(id): Id<Uuid>,
) -> Result<Response> {
    scope::customer(&call, id)?;
    let mut tx = position::read(&state, &call, min).await?;
    let row = customers::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&CustomerBody::read_by(&call, row), version)
}
