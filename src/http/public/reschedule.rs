//! `POST /public/bookings/{id}/reschedule`

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use daybook_domain::booking::BookingCommand;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{LinkedBooking, link::GuestCommand, run};
use crate::{
    app::AppState,
    http::{
        bookings::time,
        json::Json,
        problem::{ProblemBody, Result},
    },
};

/// When it is moved to: `check_in` and `check_out`, or `starts_at`. Where it is stays for the house to say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublicReschedule {
    /// The date of arrival, of a stay.
    check_in: Option<NaiveDate>,
    /// The date of departure, of a stay.
    check_out: Option<NaiveDate>,
    /// The start of an appointment: RFC 3339, or without an offset the time on the resource's clock.
    starts_at: Option<String>,
    /// The end of an appointment: RFC 3339; the offering's duration decides where it has one.
    ends_at: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// Move one's own booking in time. The answer has a new link, which works as long as the new time asks for.
#[utoipa::path(
    post, path = "/api/v1/public/bookings/{id}/reschedule", tag = "public",
    operation_id = "public_reschedule_booking", security(()),
    params(
        ("id" = Uuid, Path),
        ("X-Guest-Token" = String, Header, description = "The link to the booking"),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = PublicReschedule,
    responses(
        (status = 200, body = LinkedBooking),
        (status = 409, body = ProblemBody, content_type = "application/problem+json",
            description = "`slot_taken` or `closed`, with up to three alternatives"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn reschedule(
    State(state): State<AppState>,
    guest: GuestCommand,
    Json { value, hash }: Json<PublicReschedule>,
) -> Result<Response> {
    let when = time::requested(
        value.check_in,
        value.check_out,
        value.starts_at.as_deref(),
        value.ends_at.as_deref(),
    )?;
    run(&state, guest, BookingCommand::Reschedule { when, resource_id: None }, value.reason, hash).await
}
