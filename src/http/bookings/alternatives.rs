//! Other ways to a booking that was refused for want of a place, looked for outside the log's lock.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use daybook_domain::{
    BookingId, DomainError, OfferingId, ResourceId, availability,
    booking::{BookedTime, RequestedTime, SlotStart},
};
use daybook_projections::{
    Schema, bookings,
    claims::{self, Asked, Reach},
};

use super::{in_zone, requested_again};
use crate::{
    app::AppState,
    eventstore::StoreError,
    http::{
        position::{self, MinPosition},
        problem::{Alternative, Problem, Result},
    },
};

/// How far around the time asked for alternatives are looked for.
const AROUND: TimeDelta = TimeDelta::days(15);

/// The refusal of a new booking.
pub async fn to_new(
    state: &AppState,
    schema: &Schema,
    error: StoreError,
    offering: OfferingId,
    resource: Option<ResourceId>,
    when: &RequestedTime,
) -> Problem {
    if !for_want_of_a_place(&error) {
        return error.into();
    }
    let found = look(state, schema, offering, resource, when).await;
    offered(error, found)
}

/// The refusal of a command on a booking; `when` is the time it was to be moved to, if any.
pub async fn to_booking(
    state: &AppState,
    schema: &Schema,
    error: StoreError,
    id: BookingId,
    when: Option<RequestedTime>,
) -> Problem {
    if !for_want_of_a_place(&error) {
        return error.into();
    }
    let found = look_for_booking(state, schema, id, when).await;
    offered(error, found)
}

fn for_want_of_a_place(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Refused {
            error: DomainError::SlotTaken | DomainError::HoldExpired | DomainError::Closed { .. },
            ..
        }
    )
}

/// The refusal stands, whether or not alternatives could be looked for.
fn offered(error: StoreError, found: Result<Vec<Alternative>>) -> Problem {
    let problem = Problem::from(error);
    match found {
        Ok(alternatives) => problem.with_alternatives(alternatives),
        Err(failure) => {
            tracing::warn!(code = failure.code().as_str(), "alternatives could not be looked for");
            problem
        }
    }
}

async fn look_for_booking(
    state: &AppState,
    schema: &Schema,
    id: BookingId,
    when: Option<RequestedTime>,
) -> Result<Vec<Alternative>> {
    let mut tx = position::read_in(state, schema, MinPosition(None)).await?;
    let Some(row) = bookings::get(&mut tx, id.0).await? else { return Ok(Vec::new()) };
    tx.release();
    let Some(when) = when.or_else(|| requested_again(&row)) else { return Ok(Vec::new()) };
    look(state, schema, OfferingId(row.offering_id), Some(ResourceId(row.resource_id)), &when).await
}

async fn look(
    state: &AppState,
    schema: &Schema,
    offering: OfferingId,
    preferred: Option<ResourceId>,
    when: &RequestedTime,
) -> Result<Vec<Alternative>> {
    let (start, end) = around(when);
    let mut tx = position::read_in(state, schema, MinPosition(None)).await?;
    let places = claims::places(
        &mut tx,
        Asked::Offering(offering, None),
        (start - AROUND, end + AROUND),
        Reach::Moves,
    )
    .await?;
    tx.release();
    let Some(mut places) = places else { return Ok(Vec::new()) };
    let Some(offering) = places.offering.filter(|offering| !offering.archived) else { return Ok(Vec::new()) };
    // The resource that was asked for comes first; the others keep the offering's order.
    places.candidates.sort_by_key(|candidate| Some(candidate.id()) != preferred);
    let found = availability::alternatives(&offering, when, &places.candidates, places.now);
    Ok(found.iter().map(body).collect())
}

/// About when it is, give or take a zone.
fn around(when: &RequestedTime) -> (DateTime<Utc>, DateTime<Utc>) {
    match when {
        RequestedTime::Nights(nights) => (
            nights.check_in().and_time(NaiveTime::MIN).and_utc(),
            nights.check_out().and_time(NaiveTime::MIN).and_utc(),
        ),
        RequestedTime::Slot { start, ends_at } => {
            let start = match start {
                SlotStart::Instant(start) => start.to_utc(),
                SlotStart::Local(start) => start.and_utc(),
            };
            (start, ends_at.unwrap_or(start).max(start))
        }
    }
}

fn body(alternative: &availability::Alternative) -> Alternative {
    let (nights, zone) = match &alternative.when {
        BookedTime::Nights { nights, .. } => (Some(nights), None),
        BookedTime::Slot { zone, .. } => (None, Some(*zone)),
    };
    Alternative {
        resource_id: alternative.resource_id.0,
        check_in: nights.map(|nights| nights.check_in()),
        check_out: nights.map(|nights| nights.check_out()),
        starts_at: zone.map(|zone| in_zone(alternative.during.start(), zone)),
        ends_at: zone.map(|zone| in_zone(alternative.during.end(), zone)),
    }
}
