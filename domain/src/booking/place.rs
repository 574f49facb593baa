//! Finding a place: what a request means in a resource's zone, whether the rules on time allow it, and the
//! first resource that can take it.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{BookedTime, BookingContext, Candidate, RequestedTime, SlotStart};
use crate::{
    BookingId, DomainError,
    interval::Interval,
    local_time,
    money::Money,
    occupancy::Claim,
    offering::{Offering, OfferingMode, PricePer},
    packing,
    schedule::Schedule,
};

/// The longest appointment. Longer ones are stays, which are booked by nights.
const LONGEST_SLOT: TimeDelta = TimeDelta::days(31);

/// A request worked out for one time zone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timed {
    pub(crate) when: BookedTime,
    pub(crate) during: Interval,
    pub(crate) occupies: Interval,
}

/// Works a request out for a zone.
pub(crate) fn timed(offering: &Offering, request: &RequestedTime, zone: Tz) -> Result<Timed, DomainError> {
    let (when, during) = match (request, offering.mode) {
        (RequestedTime::Nights(nights), OfferingMode::Nights) => {
            (BookedTime::Nights { nights: *nights, zone }, nights.to_interval(zone))
        }
        (RequestedTime::Slot { start, ends_at }, OfferingMode::Slot) => {
            let start = match start {
                SlotStart::Instant(start) => start.with_timezone(&Utc),
                SlotStart::Local(local) => local_time::resolve(*local, zone, None)?,
            };
            let interval = slot(offering, start, *ends_at)?;
            let local_start = start.with_timezone(&zone).naive_local();
            (BookedTime::Slot { interval, zone, local_start }, interval)
        }
        (RequestedTime::Slot { .. }, OfferingMode::Nights) => {
            return Err(DomainError::field(
                "/check_in",
                "nights_required",
                "this offering is booked by nights",
            ));
        }
        (RequestedTime::Nights(_), OfferingMode::Slot) => {
            return Err(DomainError::field(
                "/starts_at",
                "slot_required",
                "this offering is booked by start time",
            ));
        }
    };
    let occupies = during.widen(offering.buffer_before_minutes, offering.buffer_after_minutes);
    Ok(Timed { when, during, occupies })
}

fn slot(
    offering: &Offering,
    start: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
) -> Result<Interval, DomainError> {
    let end = match (offering.duration_minutes, ends_at) {
        (Some(minutes), given) => {
            let end = start.checked_add_signed(TimeDelta::minutes(minutes.into())).ok_or_else(too_long)?;
            if given.is_some_and(|given| given != end) {
                let detail = "the end does not match the offering's duration";
                return Err(DomainError::field("/ends_at", "duration_mismatch", detail));
            }
            end
        }
        (None, Some(given)) => given,
        (None, None) => return Err(DomainError::field("/ends_at", "required", "an end is required")),
    };
    if end <= start {
        return Err(DomainError::field("/ends_at", "interval_reversed", "the end must be after the start"));
    }
    if end - start > LONGEST_SLOT {
        return Err(too_long());
    }
    Interval::new(start, end)
}

fn too_long() -> DomainError {
    DomainError::field("/ends_at", "too_long", "an appointment lasts 31 days at most")
}

/// Whether a time is neither past, nor too soon, nor too far ahead.
///
/// A stay counts from the start of its first day in the resource's zone. That day itself stays bookable to
/// its end, as guests arrive in the evening too, unless the offering asks for notice: notice is measured to
/// its start.
pub(crate) fn check_window(
    offering: &Offering,
    timed: &Timed,
    now: DateTime<Utc>,
) -> Result<(), DomainError> {
    let start = timed.during.start();
    let (pointer, last_call) = match &timed.when {
        BookedTime::Nights { nights, zone } => {
            let next_day = nights.check_in().succ_opt().unwrap_or(nights.check_in());
            ("/check_in", local_time::start_of_day(next_day, *zone) - TimeDelta::nanoseconds(1))
        }
        BookedTime::Slot { .. } => ("/starts_at", start),
    };
    if now > last_call {
        return Err(DomainError::field(pointer, "in_the_past", "the start is in the past"));
    }
    let notice = TimeDelta::minutes(offering.min_notice_minutes.into());
    if notice > TimeDelta::zero() && start - now < notice {
        return Err(DomainError::field(pointer, "too_soon", "the offering needs more notice"));
    }
    let furthest = offering.max_advance_days.map(|days| TimeDelta::days(days.into()));
    if furthest.is_some_and(|furthest| start - now > furthest) {
        return Err(DomainError::field(
            pointer,
            "too_far_ahead",
            "the offering cannot be booked that far ahead",
        ));
    }
    Ok(())
}

/// Whether a schedule is open for all of it.
pub(crate) fn check_open(schedule: Option<&Schedule>, timed: &Timed) -> Result<(), DomainError> {
    let Some(schedule) = schedule else { return Ok(()) };
    match &timed.when {
        BookedTime::Nights { nights, zone } => schedule.check_nights(nights, *zone)?,
        BookedTime::Slot { interval, zone, .. } => schedule.check_open(interval, *zone)?,
    }
    Ok(())
}

/// What the offering asks for a time today.
pub(crate) fn price_of(offering: &Offering, when: &BookedTime) -> Result<Money, DomainError> {
    let price = offering.price;
    match (offering.price_per, when) {
        (PricePer::Night, BookedTime::Nights { nights, .. }) => price.checked_mul(nights.count()),
        (PricePer::Night, BookedTime::Slot { .. }) | (PricePer::Booking, _) => Some(price),
    }
    .ok_or_else(|| DomainError::field("/check_out", "price_overflow", "the price is too large to express"))
}

/// A search for a place for one booking.
pub(crate) struct Ask<'a> {
    pub(crate) booking_id: BookingId,
    pub(crate) offering: &'a Offering,
    pub(crate) request: &'a RequestedTime,
    pub(crate) unit: Option<u32>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) enforce_window: bool,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(context: &BookingContext, offering: &'a Offering, request: &'a RequestedTime) -> Self {
        let BookingContext { id, now, enforce_window, .. } = *context;
        Self { booking_id: id, offering, request, unit: None, now, enforce_window }
    }

    /// The first candidate that can take it, with the time as it is there. Where none can, the refusal that
    /// came closest to succeeding: taken before closed before anything else.
    pub(crate) fn place<'c>(
        &self,
        candidates: impl IntoIterator<Item = &'c Candidate>,
    ) -> Result<(&'c Candidate, Timed), DomainError> {
        // Resources of an offering mostly share a zone: the time is worked out once for each.
        let mut known: Option<(Tz, Timed)> = None;
        let mut refusal: Option<DomainError> = None;
        for candidate in candidates {
            match self.on(candidate, &mut known) {
                Ok(timed) => return Ok((candidate, timed)),
                Err(error) => {
                    if refusal.as_ref().is_none_or(|held| weight(&error) > weight(held)) {
                        refusal = Some(error);
                    }
                }
            }
        }
        Err(refusal.unwrap_or_else(|| {
            DomainError::wrong_state("archived", "the offering has no resource that can be booked")
        }))
    }

    fn on(&self, candidate: &Candidate, known: &mut Option<(Tz, Timed)>) -> Result<Timed, DomainError> {
        let resource = &candidate.resource;
        if !resource.bookable() {
            return Err(DomainError::wrong_state("archived", "the resource cannot be booked any more"));
        }
        let zone = resource.time_zone;
        let timed = match known {
            Some((at, timed)) if *at == zone => timed.clone(),
            _ => {
                let timed = timed(self.offering, self.request, zone)?;
                *known = Some((zone, timed.clone()));
                timed
            }
        };
        if self.enforce_window {
            check_window(self.offering, &timed, self.now)?;
        }
        check_open(candidate.schedule.as_deref(), &timed)?;
        check_unit(self.unit, resource.capacity)?;
        let claim =
            Claim { booking_id: self.booking_id, during: timed.occupies, unit: self.unit, expires_at: None };
        if packing::fits(&candidate.occupancy, resource.capacity, &claim, self.now) {
            Ok(timed)
        } else {
            Err(DomainError::SlotTaken)
        }
    }
}

/// Whether a unit is one of the resource's.
pub(super) fn check_unit(unit: Option<u32>, capacity: u32) -> Result<(), DomainError> {
    if unit.is_some_and(|unit| unit == 0 || unit > capacity) {
        return Err(DomainError::field("/unit", "no_such_unit", "the resource has no such unit"));
    }
    Ok(())
}

fn weight(error: &DomainError) -> u8 {
    match error {
        DomainError::SlotTaken => 2,
        DomainError::Closed { .. } => 1,
        _ => 0,
    }
}
