//! `GET /schedules/{id}`

use axum::{extract::State, response::Response};
use daybook_projections::schedules;
use uuid::Uuid;

use super::ScheduleBody;
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

/// Get a schedule.
#[utoipa::path(
    get, path = "/api/v1/schedules/{id}", tag = "schedules", operation_id = "get_schedule",
    params(("id" = Uuid, Path), ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen")),
    responses(
        (status = 200, body = ScheduleBody),
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
    let row = schedules::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&ScheduleBody::from_row(row)?, version)
}
