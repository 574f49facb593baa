//! `POST /public/bookings`

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use daybook_domain::{
    BookingId, CustomerId, OfferingId, Personal, ResourceId,
    booking::BookingCommand,
    permission::{Action, Resource},
    text::Notes,
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{LinkedBooking, context::PublicCall, count, within};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        bookings::{alternatives, time},
        customers::Person,
        json::Json,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// A booking to be made by a guest. Its price and status follow from the offering; neither can be given.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublicCreateBooking {
    /// What is booked.
    offering_id: Uuid,
    /// On which resource; any that fits if left out.
    resource_id: Option<Uuid>,
    /// Who books; with an e-mail address.
    customer: Person,
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
    /// A note to staff.
    notes: Option<String>,
}

/// Book as a guest. The answer has the link by which the booking is seen and changed.
#[utoipa::path(
    post, path = "/api/v1/public/bookings", tag = "public", operation_id = "public_create_booking", security(()),
    params(
        ("X-Tenant-Slug" = Option<String>, Header, description = "The tenant, unless a key or the page's domain says it"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = PublicCreateBooking,
    responses(
        (status = 201, body = LinkedBooking),
        (status = 409, body = ProblemBody, content_type = "application/problem+json",
            description = "`slot_taken` or `closed`, with up to three alternatives"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    call: PublicCall,
    Json { value, hash }: Json<PublicCreateBooking>,
) -> Result<Response> {
    call.allows(Resource::Bookings, Action::Create)?;
    let allowance = count(&state, &call, &state.limits().policies().public_bookings).await?;
    within(allowance, book(&state, call, value, hash).await)
}

async fn book(
    state: &AppState,
    call: PublicCall,
    value: PublicCreateBooking,
    hash: [u8; 32],
) -> Result<Response> {
    let when = time::requested(
        value.check_in,
        value.check_out,
        value.starts_at.as_deref(),
        value.ends_at.as_deref(),
    )?;
    // Nobody else knows the guest: without an address the house could not reach them.
    if value.customer.email.is_none() {
        return Err(Problem::field("/customer/email", "required", "this field is required"));
    }
    let customer_id = CustomerId(Uuid::now_v7());
    let (offering_id, resource_id) = (OfferingId(value.offering_id), value.resource_id.map(ResourceId));
    let command = BookingCommand::Book {
        offering_id,
        resource_id,
        unit: None,
        customer_id,
        when: when.clone(),
        guests: value.guests.unwrap_or(1),
        hold: false,
        notes: value.notes.map(|notes| Notes::new(&notes, "/notes")).transpose()?.map(Personal::new),
        price_override: None,
    };
    let commands = vec![
        Command::create(customer_id, value.customer.register("/customer")?),
        Command::create(BookingId(Uuid::now_v7()), command).expecting(call.if_match.expected()),
    ];
    let (tenant, schema) = (call.tenant, call.schema());
    match state.store().execute(&schema, call.unit(commands, None, hash)?).await {
        Ok(committed) => {
            let body = LinkedBooking::of(state, tenant, &committed)?;
            respond::created(&committed, "public/bookings", &body)
        }
        Err(error) => Err(alternatives::to_new(state, &schema, error, offering_id, resource_id, &when).await),
    }
}
