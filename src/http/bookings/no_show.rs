//! `POST /bookings/{id}/no-show`

use axum::{extract::State, response::Response};
use daybook_domain::{BookingId, booking::BookingCommand};

use super::{BookingBody, run};
use crate::{
    app::AppState,
    http::{
        ReasonOnly,
        context::CommandContext,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// The guest did not come.
#[utoipa::path(
    post, path = "/api/v1/bookings/{id}/no-show", tag = "bookings", operation_id = "no_show_booking",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = BookingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn no_show(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<BookingId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    run(&state, context, id, BookingCommand::NoShow, value.reason, hash).await
}
