//! `POST /bookings/{id}/reassign`

use axum::{extract::State, response::Response};
use daybook_domain::{BookingId, ResourceId, booking::BookingCommand};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BookingBody, run};
use crate::{
    app::AppState,
    http::{
        context::CommandContext,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// Where it is moved to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReassignBooking {
    /// The resource to move to.
    resource_id: Option<Uuid>,
    /// The unit to pin it to.
    unit: Option<u32>,
    /// Let the unit go.
    unpin: Option<bool>,
    /// Why.
    reason: Option<String>,
}

/// Move a booking to another resource or unit at the same time, or let its unit go.
#[utoipa::path(
    post, path = "/api/v1/bookings/{id}/reassign", tag = "bookings", operation_id = "reassign_booking",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = ReassignBooking),
    responses(
        (status = 200, body = BookingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn reassign(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<BookingId>,
    Json { value, hash }: Json<ReassignBooking>,
) -> Result<Response> {
    let command = BookingCommand::Reassign {
        resource_id: value.resource_id.map(ResourceId),
        unit: value.unit,
        unpin: value.unpin.unwrap_or(false),
    };
    run(&state, context, id, command, value.reason, hash).await
}
