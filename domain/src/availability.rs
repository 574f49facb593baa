//! What is free, what else would do, and why not: questions about places, answered from the same rules that
//! decide.
//!
//! Nothing here takes a place. What is answered may be gone when it is asked for; the decision has the last
//! word.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::{
    BookingId, DomainError, Interval, Nights, ResourceId,
    booking::{Ask, BookedTime, Candidate, RequestedTime, SlotStart, Timed, check_open, check_window, timed},
    local_time::{end_of_gap, resolve},
    occupancy::{Claim, Occupancy},
    offering::{Offering, OfferingMode},
    packing,
    schedule::Closed,
};

/// How many alternatives a refusal offers.
pub const MOST_ALTERNATIVES: usize = 3;
/// How many days a stay is moved to find one, either way.
const DAYS_AROUND: u64 = 14;
/// How far ahead another appointment is looked for.
const SLOTS_AHEAD: TimeDelta = TimeDelta::days(7);
/// How many places are tried for one: with many resources and short appointments there are millions nearby.
const MOST_TRIES: usize = 5_000;
/// The step between starts where the offering has no duration.
const HALF_HOUR: TimeDelta = TimeDelta::minutes(30);

/// How many units are free at every instant of an interval.
///
/// The count, which is exact unless pins stand in the way (see [`crate::packing`]).
pub fn free_units(occupancy: &Occupancy, capacity: u32, interval: &Interval, now: DateTime<Utc>) -> u32 {
    capacity.saturating_sub(occupancy.peak(interval, None, now))
}

/// A place that could be booked instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// Where.
    pub resource_id: ResourceId,
    /// When, as it would be meant there.
    pub when: BookedTime,
    /// The guest's interval.
    pub during: Interval,
}

/// Up to three places near one that was refused, of the same length, nearest first: the same time elsewhere,
/// then stays moved by a day, two, up to fourteen either way, or the next starts within seven days. It is given up
/// after some thousands of tries.
pub fn alternatives(
    offering: &Offering,
    request: &RequestedTime,
    candidates: &[Candidate],
    now: DateTime<Utc>,
) -> Vec<Alternative> {
    let mut found = Vec::new();
    let mut tries = 0;
    let Some(zone) = candidates.first().map(|candidate| candidate.resource.time_zone) else { return found };
    for nearby in nearby(offering, request, zone) {
        let ask = Ask {
            booking_id: BookingId::default(),
            offering,
            request: &nearby,
            unit: None,
            now,
            enforce_window: true,
        };
        for candidate in candidates {
            tries += 1;
            if tries > MOST_TRIES {
                return found;
            }
            if let Ok((_, Timed { when, during, .. })) = ask.place([candidate]) {
                found.push(Alternative { resource_id: candidate.id(), when, during });
                if found.len() == MOST_ALTERNATIVES {
                    return found;
                }
            }
        }
    }
    found
}

fn nearby(offering: &Offering, request: &RequestedTime, zone: Tz) -> Vec<RequestedTime> {
    let mut all = vec![request.clone()];
    match request {
        RequestedTime::Nights(nights) => {
            let moved = |check_in: Option<NaiveDate>| {
                let check_in = check_in?;
                let check_out = check_in.checked_add_days(Days::new(nights.count().into()))?;
                Nights::new(check_in, check_out).ok().map(RequestedTime::Nights)
            };
            for days in (1..=DAYS_AROUND).map(Days::new) {
                all.extend(moved(nights.check_in().checked_add_days(days)));
                all.extend(moved(nights.check_in().checked_sub_days(days)));
            }
        }
        RequestedTime::Slot { start, ends_at } => {
            let start = match start {
                SlotStart::Instant(start) => start.to_utc(),
                // In a gap there is no such time; what comes after the gap is near it.
                SlotStart::Local(local) => {
                    resolve(*local, zone, None).unwrap_or_else(|_| end_of_gap(*local, zone))
                }
            };
            let step = step(offering);
            let mut shift = step;
            while shift <= SLOTS_AHEAD {
                all.push(RequestedTime::Slot {
                    start: SlotStart::Instant((start + shift).fixed_offset()),
                    ends_at: ends_at.map(|end| end + shift),
                });
                shift += step;
            }
        }
    }
    all
}

fn step(offering: &Offering) -> TimeDelta {
    offering
        .duration_minutes
        .filter(|minutes| *minutes > 0)
        .map_or(HALF_HOUR, |m| TimeDelta::minutes(m.into()))
}

/// A start that can be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSlot {
    /// The guest's interval.
    pub during: Interval,
    /// How many units are free for all of it, buffers included.
    pub free: u32,
}

/// The starts of an offering on one date of a resource's zone.
///
/// Starts are an appointment's length apart (half an hour where the offering has none), counted from each
/// opening of that date. They are counted in elapsed time: one in a gap cannot come out, and those of a fold
/// come out twice.
pub fn slots_on(
    offering: &Offering,
    candidate: &Candidate,
    date: NaiveDate,
    now: DateTime<Utc>,
) -> Vec<OpenSlot> {
    if offering.mode != OfferingMode::Slot || !candidate.resource.bookable() {
        return Vec::new();
    }
    let step = step(offering);
    let mut open = Vec::new();
    for window in windows(candidate, date) {
        let mut start = window.start();
        while start < window.end() {
            open.extend(slot_at(offering, candidate, start, start + step, now));
            start += step;
        }
    }
    open
}

fn slot_at(
    offering: &Offering,
    candidate: &Candidate,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<OpenSlot> {
    let Candidate { resource, schedule, occupancy } = candidate;
    let request = RequestedTime::Slot { start: SlotStart::Instant(start.fixed_offset()), ends_at: Some(end) };
    let Timed { during, occupies, .. } = timed(offering, &request, resource.time_zone)
        .and_then(|timed| {
            check_window(offering, &timed, now)?;
            check_open(schedule.as_deref(), &timed)?;
            Ok(timed)
        })
        .ok()?;
    let claim = Claim { booking_id: BookingId::default(), during: occupies, unit: None, expires_at: None };
    packing::fits(occupancy, resource.capacity, &claim, now)
        .then(|| OpenSlot { during, free: free_units(occupancy, resource.capacity, &occupies, now) })
}

/// How many starts an offering may have on one resource in so many days: what working them out may cost.
pub fn most_starts(offering: &Offering, days: u64) -> u64 {
    let step = u64::try_from(step(offering).num_minutes()).unwrap_or(1).max(1);
    days.saturating_mul(TimeDelta::days(1).num_minutes().unsigned_abs().div_ceil(step))
}

/// When a resource is open on a date of its zone.
fn windows(candidate: &Candidate, date: NaiveDate) -> Vec<Interval> {
    let zone = candidate.resource.time_zone;
    match &candidate.schedule {
        Some(schedule) => schedule.open_windows(date, zone),
        None => one_night(date).map(|night| night.to_interval(zone)).into_iter().collect(),
    }
}

fn one_night(date: NaiveDate) -> Option<Nights> {
    Nights::new(date, date.succ_opt()?).ok()
}

/// One night on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NightAvailability {
    /// The date the night begins.
    pub date: NaiveDate,
    /// How many units are free; none where it cannot be booked.
    pub free: u32,
    /// Why it cannot be booked although units may be free.
    pub refusal: Option<DomainError>,
}

/// The nights of a stay's dates as an offering takes them in one time zone: the same for each of its resources there,
/// so worked out once.
#[derive(Clone, Debug)]
pub struct NightsInZone {
    nights: Vec<(NaiveDate, Result<Timed, DomainError>)>,
}

impl NightsInZone {
    /// Works them out.
    pub fn new(offering: &Offering, nights: &Nights, zone: Tz, now: DateTime<Utc>) -> Self {
        let timed_on = |night: Nights| {
            let timed = timed(offering, &RequestedTime::Nights(night), zone)?;
            check_window(offering, &timed, now)?;
            Ok(timed)
        };
        let nights = nights.dates().filter_map(|date| Some((date, timed_on(one_night(date)?)))).collect();
        Self { nights }
    }

    /// Each night by itself, on a resource of this zone.
    ///
    /// A stay over free nights is taken wherever no pin stands in its way. Rules about arrival that hold for a
    /// whole stay are the decision's to apply.
    pub fn on(&self, candidate: &Candidate, now: DateTime<Utc>) -> Vec<NightAvailability> {
        let Candidate { resource, schedule, occupancy } = candidate;
        let free_on = |timed: &Result<Timed, DomainError>| {
            let timed = timed.as_ref().map_err(Clone::clone)?;
            check_open(schedule.as_deref(), timed)?;
            Ok(free_units(occupancy, resource.capacity, &timed.occupies, now))
        };
        self.nights
            .iter()
            .map(|(date, timed)| match free_on(timed) {
                Ok(free) => NightAvailability { date: *date, free, refusal: None },
                Err(refusal) => NightAvailability { date: *date, free: 0, refusal: Some(refusal) },
            })
            .collect()
    }
}

/// A stretch that cannot be booked, and what blocks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The stretch, within what was asked.
    pub interval: Interval,
    /// What blocks it.
    pub because: Because,
}

/// What blocks a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// A booking, together with the others there if the resource has several units.
    Taken {
        /// The booking.
        booking_id: BookingId,
        /// The unit it is pinned to.
        unit: Option<u32>,
        /// When it lapses, for holds.
        expires_at: Option<DateTime<Utc>>,
    },
    /// The schedule.
    Closed(Closed),
    /// The resource was archived.
    Archived,
}

/// Why an interval cannot be booked, for those who may know; nothing if it can.
///
/// A booking on a pool is named only where the pool is full. Holds that ran out block nothing and are not
/// named. For stays a night is closed as a whole, for appointments each hour is told.
pub fn explain(
    candidate: &Candidate,
    mode: OfferingMode,
    interval: &Interval,
    now: DateTime<Utc>,
) -> Vec<Blocked> {
    let Candidate { resource, occupancy, .. } = candidate;
    let mut blocked = closures(candidate, mode, interval);
    if !resource.bookable() {
        blocked.push(Blocked { interval: *interval, because: Because::Archived });
    }
    let mut claims: Vec<Claim> = occupancy.overlapping(interval).filter(|claim| claim.is_live(now)).collect();
    claims.sort_unstable_by_key(|claim| (claim.during.start(), claim.booking_id));
    for full in full_stretches(&claims, resource.capacity, interval) {
        for claim in claims.iter().filter(|claim| claim.during.overlaps(&full)) {
            let start = claim.during.start().max(full.start());
            let Ok(interval) = Interval::new(start, claim.during.end().min(full.end())) else { continue };
            let Claim { booking_id, unit, expires_at, .. } = *claim;
            blocked.push(Blocked { interval, because: Because::Taken { booking_id, unit, expires_at } });
        }
    }
    blocked.sort_by_key(|blocked| (blocked.interval.start(), blocked.interval.end()));
    blocked
}

fn closures(candidate: &Candidate, mode: OfferingMode, interval: &Interval) -> Vec<Blocked> {
    let zone = candidate.resource.time_zone;
    let Some(schedule) = &candidate.schedule else { return Vec::new() };
    let mut blocked = Vec::new();
    let mut close =
        |from: DateTime<Utc>, until: DateTime<Utc>, why: &dyn Fn(&Interval) -> Result<(), Closed>| {
            let part = Interval::new(from.max(interval.start()), until.min(interval.end()));
            if let Some((interval, closed)) = part.ok().and_then(|part| Some((part, why(&part).err()?))) {
                blocked.push(Blocked { interval, because: Because::Closed(closed) });
            }
        };
    let first = interval.start().with_timezone(&zone).date_naive();
    for night in first.iter_days().map_while(one_night) {
        let day = night.to_interval(zone);
        if day.start() >= interval.end() {
            break;
        }
        match mode {
            OfferingMode::Nights => close(day.start(), day.end(), &|_| schedule.check_nights(&night, zone)),
            OfferingMode::Slot => {
                let mut from = day.start();
                for window in schedule.open_windows(night.check_in(), zone) {
                    close(from, window.start(), &|part| schedule.check_open(part, zone));
                    from = window.end();
                }
                close(from, day.end(), &|part| schedule.check_open(part, zone));
            }
        }
    }
    blocked
}

/// The stretches of an interval in which all units are taken.
fn full_stretches(claims: &[Claim], capacity: u32, within: &Interval) -> Vec<Interval> {
    let mut edges: Vec<(DateTime<Utc>, i64)> = claims
        .iter()
        .flat_map(|claim| {
            [(claim.during.start().max(within.start()), 1), (claim.during.end().min(within.end()), -1)]
        })
        .collect();
    // At one instant those who leave go first: intervals are half-open.
    edges.sort_unstable();
    let mut taken = 0;
    let mut since = None;
    let mut full: Vec<Interval> = Vec::new();
    for (at, by) in edges {
        taken += by;
        match since {
            None if taken >= i64::from(capacity) => since = Some(at),
            Some(start) if taken < i64::from(capacity) => {
                full.extend(Interval::new(start, at));
                since = None;
            }
            None | Some(_) => {}
        }
    }
    full
}

#[cfg(test)]
mod tests;
