//! `POST /public/bookings/{id}/cancel`

use axum::{extract::State, response::Response};
use daybook_domain::booking::BookingCommand;

use super::{LinkedBooking, link::GuestCommand, run};
use crate::{
    app::AppState,
    http::{
        ReasonOnly,
        json::OptionalJson,
        problem::{ProblemBody, Result},
    },
};

/// Cancel one's own booking, for the fee its policy sets.
#[utoipa::path(
    post, path = "/api/v1/public/bookings/{id}/cancel", tag = "public", operation_id = "public_cancel_booking",
    security(()),
    params(
        ("id" = Uuid, Path),
        ("X-Guest-Token" = String, Header, description = "The link to the booking"),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = LinkedBooking),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(state): State<AppState>,
    guest: GuestCommand,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    // The fee is for the house to waive.
    run(&state, guest, BookingCommand::Cancel { waive_fee: false }, value.reason, hash).await
}
