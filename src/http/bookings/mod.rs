//! Bookings: taking a place, and what becomes of it. A hold is a booking made with `"hold": true`.

pub mod alternatives;
pub mod cancel;
pub mod check_in;
pub mod check_out;
pub mod confirm;
pub mod create;
pub mod get;
pub mod history;
pub mod list;
pub mod no_show;
pub mod reassign;
pub mod reject;
pub mod reschedule;
pub mod time;

use axum::response::Response;
use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use chrono_tz::Tz;
use daybook_domain::{
    BookingId, Disclosed,
    booking::{BookedTime, Booking, BookingCommand, RequestedTime},
    registry::Registered as _,
};
use daybook_projections::bookings::BookingRow;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    context::CommandContext,
    money::MoneyBody,
    offerings::PolicyBody,
    problem::{Problem, Result},
    respond::{self, subject, wrong_type},
    scope, utc,
};
use crate::{
    app::AppState,
    eventstore::{Command, Committed},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get))
        .routes(routes!(history::history))
        .routes(routes!(confirm::confirm))
        .routes(routes!(reject::reject))
        .routes(routes!(cancel::cancel))
        .routes(routes!(reschedule::reschedule))
        .routes(routes!(reassign::reassign))
        .routes(routes!(check_in::check_in))
        .routes(routes!(check_out::check_out))
        .routes(routes!(no_show::no_show))
}

/// A booking.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Booking)]
pub struct BookingBody {
    /// Its id.
    pub id: Uuid,
    /// How far it has come: `held`, `pending`, `confirmed`, `checked_in`, `completed`, `cancelled`, `rejected`,
    /// `expired`, `no_show`.
    #[schema(example = "confirmed")]
    pub status: String,
    /// What is booked.
    pub offering_id: Uuid,
    /// The resource it is placed on.
    pub resource_id: Uuid,
    /// The unit it is pinned to.
    pub unit: Option<i64>,
    /// Who booked.
    pub customer_id: Uuid,
    /// The date of arrival, of a stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_in: Option<NaiveDate>,
    /// The date of departure, of a stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_out: Option<NaiveDate>,
    /// The start, of an appointment, on the resource's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<DateTime<FixedOffset>>,
    /// The end, of an appointment, on the resource's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<DateTime<FixedOffset>>,
    /// The resource's IANA time zone when it was booked.
    pub time_zone: String,
    /// How many guests.
    pub guests: i64,
    /// The price of the whole booking.
    pub price: MoneyBody,
    /// The cancellation fee owed.
    pub fee: Option<MoneyBody>,
    /// The cancellation policy as it was when the place was taken.
    #[schema(value_type = PolicyBody)]
    pub policy: Box<RawValue>,
    /// The guest's note.
    #[schema(value_type = Option<String>)]
    pub notes: Disclosed<String>,
    /// When the hold runs out.
    pub hold_expires_at: Option<DateTime<Utc>>,
    /// Its version, as in `ETag`.
    pub version: i64,
    /// When it was made; in reads.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "utc::optional")]
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "utc::optional")]
    pub updated_at: Option<DateTime<Utc>>,
}

impl From<BookingRow> for BookingBody {
    fn from(row: BookingRow) -> Self {
        let stay = row.check_in.is_some();
        let local =
            |at: DateTime<Utc>| (!stay).then(|| in_zone(at, row.time_zone.parse().unwrap_or(Tz::UTC)));
        Self {
            id: row.id,
            status: row.status,
            offering_id: row.offering_id,
            resource_id: row.resource_id,
            unit: row.unit.map(Into::into),
            customer_id: row.customer_id,
            check_in: row.check_in,
            check_out: row.check_out,
            starts_at: local(row.starts_at),
            ends_at: local(row.ends_at),
            guests: row.guests.into(),
            price: MoneyBody { amount: row.price_amount, currency: row.currency.clone() },
            fee: row.fee_amount.map(|amount| MoneyBody { amount, currency: row.currency }),
            time_zone: row.time_zone,
            policy: row.policy.0,
            notes: row.notes,
            hold_expires_at: row.hold_expires_at,
            version: row.version,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }
    }
}

impl BookingBody {
    /// The booking of a state.
    ///
    /// # Errors
    /// `internal` when its policy does not serialise.
    pub fn new(id: Uuid, booking: &Booking, version: i64) -> Result<Self> {
        let (nights, slot) = match &booking.when {
            BookedTime::Nights { nights, .. } => (Some(nights), None),
            BookedTime::Slot { interval, zone, .. } => (None, Some((interval, *zone))),
        };
        Ok(Self {
            id,
            status: booking.status.as_str().to_owned(),
            offering_id: booking.offering_id.0,
            resource_id: booking.resource_id.0,
            unit: booking.unit.map(Into::into),
            customer_id: booking.customer_id.0,
            check_in: nights.map(|nights| nights.check_in()),
            check_out: nights.map(|nights| nights.check_out()),
            starts_at: slot.map(|(interval, zone)| in_zone(interval.start(), zone)),
            ends_at: slot.map(|(interval, zone)| in_zone(interval.end(), zone)),
            time_zone: booking.when.zone().name().to_owned(),
            guests: booking.guests.into(),
            price: booking.price.into(),
            fee: booking.fee.map(Into::into),
            policy: to_raw_value(&PolicyBody::from(&booking.policy)).map_err(Problem::internal)?,
            notes: (&booking.notes).into(),
            hold_expires_at: booking.hold_expires_at,
            version,
            created_at: None,
            updated_at: None,
        })
    }

    /// The booking as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let booking = Booking::of(&changed.state).ok_or_else(wrong_type)?;
        Self::new(changed.id, booking, changed.sequence)
    }
}

fn in_zone(at: DateTime<Utc>, zone: Tz) -> DateTime<FixedOffset> {
    at.with_timezone(&zone).fixed_offset()
}

/// Runs a command on a booking and answers with what became of it; a refusal for want of a place names others.
async fn run(
    state: &AppState,
    context: CommandContext,
    id: BookingId,
    command: BookingCommand,
    reason: Option<String>,
    hash: [u8; 32],
) -> Result<Response> {
    let call = context.call.clone();
    let command = scope::booking_command(state, &call, id, command).await?;
    let wanted = match command.asked() {
        BookingCommand::Reschedule { when, .. } => Some(when.clone()),
        _ => None,
    };
    let command = Command::to(id, command).expecting(context.if_match.expected());
    match state.store().execute(&call.schema, context.unit(vec![command], reason, hash)?).await {
        Ok(committed) => respond::done(&committed, &BookingBody::of(&committed)?),
        Err(error) => Err(alternatives::to_booking(state, &call.schema, error, id, wanted).await),
    }
}

/// The time of a booking as it would be asked for again.
fn requested_again(row: &BookingRow) -> Option<RequestedTime> {
    time::again(row.check_in, row.check_out, row.starts_at, row.ends_at)
}
