//! `POST /bookings/{id}/check-in`

use axum::{extract::State, response::Response};
use daybook_domain::{BookingId, booking::BookingCommand};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BookingBody, run};
use crate::{
    app::AppState,
    http::{
        context::CommandContext,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// How the guest is checked in.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckInBooking {
    /// The unit given; left out, the lowest that leaves every other booking possible.
    unit: Option<u32>,
    /// Why.
    reason: Option<String>,
}

/// The guest is here. Pins a unit.
#[utoipa::path(
    post, path = "/api/v1/bookings/{id}/check-in", tag = "bookings", operation_id = "check_in_booking",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<CheckInBooking>),
    responses(
        (status = 200, body = BookingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn check_in(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<BookingId>,
    OptionalJson { value, hash }: OptionalJson<CheckInBooking>,
) -> Result<Response> {
    let command = BookingCommand::CheckIn { unit: value.unit };
    run(&state, context, id, command, value.reason, hash).await
}
