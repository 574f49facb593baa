//! `POST /bookings`

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use daybook_domain::{
    BookingId, CustomerId, OfferingId, Personal, ResourceId, booking::BookingCommand, text::Notes,
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BookingBody, alternatives, time};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        customers::Person,
        json::Json,
        problem::{Problem, ProblemBody, Result},
        respond, scope,
    },
};

/// A booking to be made. Its price and status follow from the offering; neither can be given.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBooking {
    /// What is booked.
    offering_id: Uuid,
    /// On which resource; any that fits if left out.
    resource_id: Option<Uuid>,
    /// In which unit, which pins the booking to it; any if left out.
    unit: Option<u32>,
    /// Who books; or `customer`.
    customer_id: Option<Uuid>,
    /// Who books, to be registered with the booking; or `customer_id`.
    customer: Option<Person>,
    /// The date of arrival, of a stay.
    check_in: Option<NaiveDate>,
    /// The date of departure, of a stay.
    check_out: Option<NaiveDate>,
    /// The start of an appointment: RFC 3339, or without an offset the time on the resource's clock.
    #[schema(example = "2026-05-01T10:00:00+02:00")]
    starts_at: Option<String>,
    /// The end of an appointment: RFC 3339; the offering's duration decides where it has one.
    ends_at: Option<String>,
    /// How many guests, 1 if left out.
    guests: Option<u32>,
    /// Whether to hold the place only for the offering's hold time.
    hold: Option<bool>,
    /// A note to staff.
    notes: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// Book: take a place, or hold it.
#[utoipa::path(
    post, path = "/api/v1/bookings", tag = "bookings", operation_id = "create_booking",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateBooking,
    responses(
        (status = 201, body = BookingBody),
        (status = 409, body = ProblemBody, content_type = "application/problem+json",
            description = "`slot_taken` or `closed`, with up to three alternatives"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<CreateBooking>,
) -> Result<Response> {
    let when = time::requested(
        value.check_in,
        value.check_out,
        value.starts_at.as_deref(),
        value.ends_at.as_deref(),
    )?;
    let mut commands = Vec::with_capacity(2);
    let registers = value.customer.is_some();
    let customer_id =
        scope::new_booking(&context.call, value.customer_id.map(CustomerId), registers, value.resource_id)?;
    let customer_id = match (customer_id, &value.customer) {
        (Some(id), None) => id,
        (None, Some(person)) => {
            let id = CustomerId(Uuid::now_v7());
            commands.push(Command::create(id, person.register("/customer")?));
            id
        }
        (None, None) => {
            return Err(Problem::field("/customer_id", "required", "give customer_id or customer"));
        }
        (Some(_), Some(_)) => {
            return Err(Problem::field(
                "/customer",
                "conflicting_fields",
                "give customer_id or customer, not both",
            ));
        }
    };
    let offering_id = OfferingId(value.offering_id);
    let resource_id = value.resource_id.map(ResourceId);
    let command = BookingCommand::Book {
        offering_id,
        resource_id,
        unit: value.unit,
        customer_id,
        when: when.clone(),
        guests: value.guests.unwrap_or(1),
        hold: value.hold.unwrap_or(false),
        notes: value.notes.map(|notes| Notes::new(&notes, "/notes")).transpose()?.map(Personal::new),
        price_override: None,
    };
    let call = context.call.clone();
    commands.push(Command::create(BookingId(Uuid::now_v7()), command).expecting(context.if_match.expected()));
    match state.store().execute(&call.schema, context.unit(commands, value.reason, hash)?).await {
        Ok(committed) => respond::created(&committed, "bookings", &BookingBody::of(&committed)?),
        Err(error) => {
            Err(alternatives::to_new(&state, &call.schema, error, offering_id, resource_id, &when).await)
        }
    }
}
