//! `GET /public/bookings/{id}`

use axum::{extract::State, response::Response};
use daybook_projections::bookings;

use super::{PublicBooking, link::GuestRead};
use crate::{
    app::AppState,
    http::{
        bookings::BookingBody,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// Get one's own booking, by the link to it.
#[utoipa::path(
    get, path = "/api/v1/public/bookings/{id}", tag = "public", operation_id = "public_get_booking", security(()),
    params(
        ("id" = Uuid, Path),
        ("X-Guest-Token" = Option<String>, Header, description = "The link to the booking"),
        ("token" = Option<String>, Query, description = "The same, where a page is opened"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = PublicBooking),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<AppState>,
    GuestRead { call, booking }: GuestRead,
    min: MinPosition,
) -> Result<Response> {
    let mut tx = position::read_in(&state, &call.schema(), min).await?;
    let row = bookings::get(&mut tx, booking.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    respond::versioned(&PublicBooking::from(BookingBody::from(row)), version)
}
