//! `POST /bookings/{id}/reschedule`

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use daybook_domain::{BookingId, ResourceId, booking::BookingCommand};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BookingBody, run, time};
use crate::{
    app::AppState,
    http::{
        context::CommandContext,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// When it is moved to: `check_in` and `check_out`, or `starts_at`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RescheduleBooking {
    /// The date of arrival, of a stay.
    check_in: Option<NaiveDate>,
    /// The date of departure, of a stay.
    check_out: Option<NaiveDate>,
    /// The start of an appointment: RFC 3339, or without an offset the time on the resource's clock.
    starts_at: Option<String>,
    /// The end of an appointment: RFC 3339; the offering's duration decides where it has one.
    ends_at: Option<String>,
    /// The resource to move to.
    resource_id: Option<Uuid>,
    /// Why.
    reason: Option<String>,
}

/// Move a booking in time, and to another resource if named: one decision, or nothing changes.
#[utoipa::path(
    post, path = "/api/v1/bookings/{id}/reschedule", tag = "bookings", operation_id = "reschedule_booking",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = RescheduleBooking),
    responses(
        (status = 200, body = BookingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn reschedule(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<BookingId>,
    Json { value, hash }: Json<RescheduleBooking>,
) -> Result<Response> {
    let command = BookingCommand::Reschedule {
        when: time::requested(
            value.check_in,
            value.check_out,
            value.starts_at.as_deref(),
            value.ends_at.as_deref(),
        )?,
        resource_id: value.resource_id.map(ResourceId),
    };
    run(&state, context, id, command, value.reason, hash).await
}
