//! Bookings as given / when / then.

mod changes;
mod property;
mod taking;

use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;
use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::{
    CustomerId, Interval, Money, Nights, OfferingId,
    occupancy::Claim,
    offering::{OfferingMode, OfferingTerms, PricePer},
};

pub(crate) const ZONE: Tz = chrono_tz::Europe::Brussels;

pub(crate) fn resource_id(n: u128) -> ResourceId {
    ResourceId(Uuid::from_u128(0x100 + n))
}

pub(crate) fn booking_id(n: u128) -> BookingId {
    BookingId(Uuid::from_u128(n))
}

pub(crate) fn offering_id() -> OfferingId {
    OfferingId(Uuid::from_u128(0x200))
}

pub(crate) fn customer_id() -> CustomerId {
    CustomerId(Uuid::from_u128(0x300))
}

pub(crate) fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub(crate) fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn euros(cents: i64) -> Money {
    Money { amount: cents, ..Money::default() }
}

/// A stay of the test season.
pub(crate) fn nights(from: &str, to: &str) -> RequestedTime {
    RequestedTime::Nights(Nights::new(date(from), date(to)).unwrap())
}

pub(crate) fn slot(start: &str) -> RequestedTime {
    RequestedTime::Slot { start: SlotStart::Instant(start.parse().unwrap()), ends_at: None }
}

/// Pitches by the night at 100.00, on resources 1 and 2.
pub(crate) fn stay_terms() -> OfferingTerms {
    OfferingTerms {
        mode: OfferingMode::Nights,
        resource_ids: vec![resource_id(1), resource_id(2)],
        price: euros(10_000),
        price_per: PricePer::Night,
        hold_minutes: 15,
        ..OfferingTerms::default()
    }
}

/// Appointments of an hour at 50.00 with ten minutes of cleaning.
pub(crate) fn slot_terms() -> OfferingTerms {
    OfferingTerms {
        mode: OfferingMode::Slot,
        duration_minutes: Some(60),
        buffer_after_minutes: 10,
        price: euros(5_000),
        price_per: PricePer::Booking,
        ..stay_terms()
    }
}

pub(crate) fn offered(terms: OfferingTerms) -> Offering {
    Offering { id: Some(offering_id()), archived: false, terms }
}

pub(crate) fn stay_offering() -> Offering {
    offered(stay_terms())
}

pub(crate) fn slot_offering() -> Offering {
    offered(slot_terms())
}

pub(crate) fn candidate(n: u128, capacity: u32, claims: &[Claim]) -> Candidate {
    let mut occupancy = Occupancy::default();
    for claim in claims {
        occupancy.insert(*claim);
    }
    let resource = Resource { id: Some(resource_id(n)), capacity, time_zone: ZONE, ..Resource::default() };
    Candidate { resource: Arc::new(resource), schedule: None, occupancy: Arc::new(occupancy) }
}

/// A claim of booking `n` on the nights from one date to another.
pub(crate) fn claim(n: u128, from: &str, to: &str, unit: Option<u32>) -> Claim {
    let during = Nights::new(date(from), date(to)).unwrap().to_interval(ZONE);
    Claim { booking_id: booking_id(n), during, unit, expires_at: None }
}

/// 1 June 2026, 10:00 in Brussels, booking number 1, an empty pool of two.
pub(crate) fn context() -> BookingContext {
    context_with(stay_offering(), vec![candidate(1, 2, &[])])
}

pub(crate) fn context_with(offering: Offering, candidates: Vec<Candidate>) -> BookingContext {
    let customer = Customer { id: Some(customer_id()), ..Customer::default() };
    BookingContext {
        now: instant("2026-06-01T08:00:00Z"),
        id: booking_id(1),
        offering: Some(Arc::new(offering)),
        candidates,
        customer: Some(Arc::new(customer)),
        reason: None,
        enforce_window: true,
    }
}

pub(crate) fn at(now: &str, context: BookingContext) -> BookingContext {
    BookingContext { now: instant(now), ..context }
}

pub(crate) fn book(when: RequestedTime) -> BookingCommand {
    BookingCommand::Book {
        offering_id: offering_id(),
        resource_id: None,
        unit: None,
        customer_id: customer_id(),
        when,
        guests: 2,
        hold: false,
        notes: None,
        price_override: None,
    }
}

/// [`book`] with its fields changed.
macro_rules! book_with {
    ($when:expr, $($field:ident: $value:expr),+ $(,)?) => {{
        let mut command = book($when);
        $(
            let value = $value;
            if let BookingCommand::Book { $field, .. } = &mut command {
                *$field = value;
            }
        )+
        command
    }};
}
pub(crate) use book_with;

pub(crate) fn week() -> RequestedTime {
    nights("2026-07-01", "2026-07-08")
}

pub(crate) fn decided(
    context: BookingContext,
    given: Vec<BookingEvent>,
    command: BookingCommand,
) -> Result<Vec<BookingEvent>, DomainError> {
    TestFramework::<Booking>::with(context).given(given).when(command).inspect_result()
}

/// The one event a command leads to.
pub(crate) fn event(
    context: BookingContext,
    given: Vec<BookingEvent>,
    command: BookingCommand,
) -> BookingEvent {
    let mut events = decided(context, given, command).unwrap();
    assert_eq!(events.len(), 1);
    events.remove(0)
}

pub(crate) fn refused(
    context: BookingContext,
    given: Vec<BookingEvent>,
    command: BookingCommand,
) -> DomainError {
    decided(context, given, command).unwrap_err()
}

/// The code of a refusal: of the failed field, or the state it names.
pub(crate) fn code(error: &DomainError) -> &str {
    match error {
        DomainError::Validation { errors } => &errors[0].code,
        DomainError::WrongState { state, .. } => state,
        DomainError::SlotTaken => "slot_taken",
        DomainError::HoldExpired => "hold_expired",
        DomainError::Closed { .. } => "closed",
        DomainError::ReasonRequired => "reason_required",
        _ => "another",
    }
}

pub(crate) fn taken(event: &BookingEvent) -> &BookingTaken {
    match event {
        BookingEvent::Held(taken) | BookingEvent::Requested(taken) | BookingEvent::Booked(taken) => taken,
        other => panic!("not a creation: {other:?}"),
    }
}

pub(crate) fn folded(events: &[BookingEvent]) -> Booking {
    let mut booking = Booking::default();
    for event in events {
        booking.fold(event);
    }
    booking
}

pub(crate) fn booked() -> Vec<BookingEvent> {
    vec![event(context(), vec![], book(week()))]
}

pub(crate) fn held() -> Vec<BookingEvent> {
    vec![event(context(), vec![], book_with!(week(), hold: true))]
}

pub(crate) fn with_approval() -> BookingContext {
    context_with(
        offered(OfferingTerms { requires_approval: true, ..stay_terms() }),
        vec![candidate(1, 2, &[])],
    )
}

pub(crate) fn pending() -> Vec<BookingEvent> {
    vec![event(with_approval(), vec![], book(week()))]
}
