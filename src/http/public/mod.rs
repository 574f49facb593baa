//! What guests and booking sites may do without an account: see what is free, book, and then see and change their own
//! booking by the signed link they got for it; or ask to be contacted.

pub mod availability;
pub mod cancel;
pub mod context;
pub mod create;
pub mod get;
pub mod lead;
pub mod link;
pub mod reschedule;

use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, FixedOffset, NaiveDate};
use daybook_domain::{
    BookingId, TenantId,
    booking::{Booking, BookingCommand, RequestedTime},
    registry::Registered as _,
};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::{context::PublicCall, link::GuestCommand};
use super::{
    bookings::{BookingBody, alternatives},
    money::MoneyBody,
    offerings::PolicyBody,
    problem::Result,
    respond::{self, subject, wrong_type},
};
use crate::{
    app::AppState,
    eventstore::{Command, Committed},
    limits::{Allowance, Policy},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(availability::availability))
        .routes(routes!(create::create))
        .routes(routes!(get::get))
        .routes(routes!(cancel::cancel))
        .routes(routes!(reschedule::reschedule))
        .routes(routes!(lead::submit))
}

/// A booking as its guest sees it: nothing of what the house or anyone noted, and nobody's name.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublicBooking {
    /// Its id.
    id: Uuid,
    /// How far it has come: `held`, `pending`, `confirmed`, `checked_in`, `completed`, `cancelled`, `rejected`,
    /// `expired`, `no_show`.
    #[schema(example = "confirmed")]
    status: String,
    /// What is booked.
    offering_id: Uuid,
    /// The resource it is placed on.
    resource_id: Uuid,
    /// The date of arrival, of a stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    check_in: Option<NaiveDate>,
    /// The date of departure, of a stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    check_out: Option<NaiveDate>,
    /// The start, of an appointment, on the resource's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<DateTime<FixedOffset>>,
    /// The end, of an appointment, on the resource's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<DateTime<FixedOffset>>,
    /// The resource's IANA time zone when it was booked.
    time_zone: String,
    /// How many guests.
    guests: i64,
    /// The price of the whole booking.
    price: MoneyBody,
    /// The cancellation fee owed.
    fee: Option<MoneyBody>,
    /// The cancellation policy as it was when the place was taken.
    #[schema(value_type = PolicyBody)]
    policy: Box<RawValue>,
    /// Its version, as in `ETag`.
    version: i64,
}

impl From<BookingBody> for PublicBooking {
    fn from(body: BookingBody) -> Self {
        Self {
            id: body.id,
            status: body.status,
            offering_id: body.offering_id,
            resource_id: body.resource_id,
            check_in: body.check_in,
            check_out: body.check_out,
            starts_at: body.starts_at,
            ends_at: body.ends_at,
            time_zone: body.time_zone,
            guests: body.guests,
            price: body.price,
            fee: body.fee,
            policy: body.policy,
            version: body.version,
        }
    }
}

/// A booking with the link to it.
#[derive(Serialize, ToSchema)]
pub struct LinkedBooking {
    /// The booking.
    #[serde(flatten)]
    booking: PublicBooking,
    /// With this, as `X-Guest-Token`, its holder sees and changes the booking; until 30 days after its end.
    guest_token: String,
}

impl LinkedBooking {
    /// The booking as a command left it.
    fn of(state: &AppState, tenant: TenantId, committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let booking = Booking::of(&changed.state).ok_or_else(wrong_type)?;
        let token = link::sign(state.store().keys(), tenant, BookingId(changed.id), booking.during.end())?;
        Ok(Self {
            booking: BookingBody::of(committed)?.into(),
            guest_token: token.expose_secret().to_owned(),
        })
    }
}

/// Runs a guest's command on their booking. One booking is changed so many times an hour, wherever from.
async fn run(
    state: &AppState,
    guest: GuestCommand,
    command: BookingCommand,
    reason: Option<String>,
    hash: [u8; 32],
) -> Result<Response> {
    let limits = state.limits();
    let allowance = limits.check(&limits.policies().public_bookings, &guest.booking.to_string()).await?;
    let wanted: Option<RequestedTime> = match &command {
        BookingCommand::Reschedule { when, .. } => Some(when.clone()),
        _ => None,
    };
    let (tenant, schema, id) = (guest.call.tenant, guest.call.schema(), guest.booking);
    let command =
        Command::to(id, BookingCommand::ByGuest(Box::new(command))).expecting(guest.call.if_match.expected());
    let changed = async {
        let unit = guest.call.unit(vec![command], reason, hash)?;
        match state.store().execute(&schema, unit).await {
            Ok(committed) => respond::done(&committed, &LinkedBooking::of(state, tenant, &committed)?),
            Err(error) => Err(alternatives::to_booking(state, &schema, error, id, wanted).await),
        }
    };
    within(Some(allowance), changed.await)
}

/// Counts one more from the caller's address; nothing with a key. All guests of a booking site may come from its one
/// address, and its key has a limit of its own.
async fn count(state: &AppState, call: &PublicCall, policy: &Policy) -> Result<Option<Allowance>> {
    if call.key.is_some() {
        return Ok(None);
    }
    state.limits().check(policy, &call.client().limit_key().to_string()).await.map(Some)
}

/// An answer or a refusal that tells what is left of the limit it counted for.
fn within(allowance: Option<Allowance>, outcome: Result<Response>) -> Result<Response> {
    match (outcome, allowance) {
        (Ok(answer), Some(allowance)) => Ok((allowance, answer).into_response()),
        (Err(problem), Some(allowance)) => Err(allowance.mark(problem)),
        (outcome, None) => outcome,
    }
}
