//! `POST /bookings/{id}/cancel`

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

/// How it is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelBooking {
    /// Waive the fee; needs a reason.
    waive_fee: Option<bool>,
    /// Why.
    reason: Option<String>,
}

/// Cancel a booking, for the fee its policy sets.
#[utoipa::path(
    post, path = "/api/v1/bookings/{id}/cancel", tag = "bookings", operation_id = "cancel_booking",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<CancelBooking>),
    responses(
        (status = 200, body = BookingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<BookingId>,
    OptionalJson { value, hash }: OptionalJson<CancelBooking>,
) -> Result<Response> {
    let command = BookingCommand::Cancel { waive_fee: value.waive_fee.unwrap_or(false) };
    run(&state, context, id, command, value.reason, hash).await
}
