//! Can the claims on a pool be packed on its k units, each guest in one unit for the whole stay?
//!
//! Without pins the count decides: intervals of which at most k overlap at any instant always fit k units
//! (take them by start; when one begins, fewer than k others are there). The same greedy walk extends any
//! valid packing of what began earlier, so pins matter only to unpinned claims that begin *before the last
//! pin does*. A house where pins are made at check-in has almost none of those, and most questions end at the
//! count. For the rest a best-fit walk that honours the pins is tried, then a bounded search; what it cannot
//! show possible within its budget is refused.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::{
    BookingId,
    interval::Interval,
    occupancy::{Claim, Occupancy},
};

/// How many placements the search may undo and redo before it gives up.
const BUDGET: usize = 20_000;

/// Whether a pool of `capacity` units can take a claim (in place of the same booking's own) with every
/// booking it has already taken still possible.
pub fn fits(occupancy: &Occupancy, capacity: u32, claim: &Claim, now: DateTime<Utc>) -> bool {
    if claim.unit.is_some_and(|unit| unit == 0 || unit > capacity)
        || occupancy.peak(&claim.during, Some(claim.booking_id), now) >= capacity
    {
        return false;
    }
    match claim.unit {
        Some(unit) => {
            let others = Others::of(occupancy, capacity, &claim.during, claim.booking_id, now);
            others.leave(unit) && others.still_possible(occupancy, capacity, claim, now)
        }
        None => match occupancy.last_pin_start(claim.booking_id, now) {
            Some(last) if last > claim.during.start() => {
                Puzzle::around(occupancy, capacity, claim, last, now).solve().is_some()
            }
            _ => true,
        },
    }
}

/// The lowest unit a booking can be pinned to with every booking already taken still possible.
pub fn free_unit(
    occupancy: &Occupancy,
    capacity: u32,
    during: &Interval,
    booking_id: BookingId,
    now: DateTime<Utc>,
) -> Option<u32> {
    if occupancy.peak(during, Some(booking_id), now) >= capacity {
        return None;
    }
    let others = Others::of(occupancy, capacity, during, booking_id, now);
    (1..=capacity).find(|unit| {
        let claim = Claim { booking_id, during: *during, unit: Some(*unit), expires_at: None };
        others.leave(*unit) && others.still_possible(occupancy, capacity, &claim, now)
    })
}

/// One packing of the bookings that touch an interval: a unit for each, pinned ones where they are pinned.
///
/// For calendars, which show a guest in a unit before one is fixed; the units of unpinned bookings may change
/// with the next booking taken. `None` when no packing was found (an overbooked pool has none).
pub fn assignment(
    occupancy: &Occupancy,
    capacity: u32,
    during: &Interval,
    now: DateTime<Utc>,
) -> Option<Vec<(BookingId, u32)>> {
    let seeds: Vec<Claim> = occupancy.overlapping(during).filter(|claim| claim.is_live(now)).collect();
    let mut packed: HashMap<BookingId, u32> =
        seeds.iter().filter_map(|claim| Some((claim.booking_id, claim.unit?))).collect();
    for seed in &seeds {
        if packed.contains_key(&seed.booking_id) {
            continue;
        }
        let puzzle = Puzzle::around(occupancy, capacity, seed, DateTime::<Utc>::MAX_UTC, now);
        let units = puzzle.solve()?;
        packed.extend(puzzle.open.iter().zip(units).map(|(claim, unit)| (claim.booking_id, unit)));
    }
    Some(seeds.iter().filter_map(|claim| Some((claim.booking_id, *packed.get(&claim.booking_id)?))).collect())
}

/// What a pin has to reckon with: the units pinned by others, and whether anyone unpinned could be in its
/// way.
struct Others {
    /// By unit, counted from 0.
    pinned: Vec<bool>,
    last_pin: DateTime<Utc>,
    movable: bool,
}

impl Others {
    fn of(
        occupancy: &Occupancy,
        capacity: u32,
        during: &Interval,
        own: BookingId,
        now: DateTime<Utc>,
    ) -> Self {
        let last_pin =
            occupancy.last_pin_start(own, now).map_or(during.start(), |last| last.max(during.start()));
        let mut others = Self { pinned: vec![false; capacity as usize], last_pin, movable: false };
        for other in occupancy.overlapping(during) {
            if other.booking_id == own || !other.is_live(now) {
                continue;
            }
            match other.unit {
                Some(unit) => {
                    if let Some(pinned) = others.pinned.get_mut((unit as usize).wrapping_sub(1)) {
                        *pinned = true;
                    }
                }
                None => others.movable |= other.during.start() < last_pin,
            }
        }
        others
    }

    fn leave(&self, unit: u32) -> bool {
        self.pinned.get((unit as usize).wrapping_sub(1)) == Some(&false)
    }

    fn still_possible(
        &self,
        occupancy: &Occupancy,
        capacity: u32,
        claim: &Claim,
        now: DateTime<Utc>,
    ) -> bool {
        !self.movable || Puzzle::around(occupancy, capacity, claim, self.last_pin, now).solve().is_some()
    }
}

/// The part of a pool that must be re-packed together: the unpinned claims reached from one claim, and every
/// pin that stands in their way.
struct Puzzle {
    capacity: u32,
    /// Unpinned claims by start.
    open: Vec<Claim>,
    /// Per unit, counted from 0, the pinned intervals by start.
    pins: Vec<Vec<Interval>>,
}

impl Puzzle {
    /// Collects what hangs together with `claim`. Unpinned claims that begin at or after `last_pin` are left
    /// out: they can always be placed afterwards, in order of start, as long as the count allows them.
    fn around(
        occupancy: &Occupancy,
        capacity: u32,
        claim: &Claim,
        last_pin: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut seen = HashSet::from([claim.booking_id]);
        let mut open = Vec::new();
        let mut pins = vec![Vec::new(); capacity as usize];
        let mut pin = |unit: u32, during: Interval| {
            if let Some(unit) = pins.get_mut((unit as usize).wrapping_sub(1)) {
                unit.push(during);
            }
        };
        match claim.unit {
            Some(unit) => pin(unit, claim.during),
            None => open.push(*claim),
        }
        // Neighbours are looked for once per instant: only in the part of a claim not yet searched.
        let mut queue = vec![claim.during];
        let (mut left, mut right) = (claim.during.end(), claim.during.end());
        while let Some(during) = queue.pop() {
            for part in beyond(&during, left, right) {
                for other in occupancy.overlapping(&part) {
                    if !other.is_live(now) || !seen.insert(other.booking_id) {
                        continue;
                    }
                    match other.unit {
                        Some(unit) => pin(unit, other.during),
                        None if other.during.start() < last_pin => {
                            open.push(other);
                            queue.push(other.during);
                        }
                        None => {}
                    }
                }
            }
            left = left.min(during.start());
            right = right.max(during.end());
        }
        open.sort_unstable_by_key(|claim| (claim.during.start(), claim.booking_id));
        for unit in &mut pins {
            unit.sort_unstable_by_key(Interval::start);
        }
        Self { capacity, open, pins }
    }

    /// A unit for each open claim. The first descent is the best-fit walk; only where it gets stuck are
    /// choices undone.
    fn solve(&self) -> Option<Vec<u32>> {
        let mut busy_until = vec![DateTime::<Utc>::MIN_UTC; self.capacity as usize];
        let mut choices: Vec<Choice> = Vec::with_capacity(self.open.len());
        let mut budget = BUDGET + self.open.len();
        while choices.len() < self.open.len() {
            budget = budget.checked_sub(1)?;
            let mut choice =
                Choice { rest: self.candidates(&self.open[choices.len()], &busy_until), taken: None };
            while !choice.take_next(&self.open[choices.len()], &mut busy_until) {
                budget = budget.checked_sub(1)?;
                choice = choices.pop()?;
                choice.undo(&mut busy_until);
            }
            choices.push(choice);
        }
        choices.iter().map(|choice| choice.taken.map(|(unit, _)| unit + 1)).collect()
    }

    /// Units free for the whole claim, the worst fit first (the last is tried first). Units with no pin ahead
    /// are interchangeable, so one of them stands for all.
    fn candidates(&self, claim: &Claim, busy_until: &[DateTime<Utc>]) -> Vec<u32> {
        let mut roomy = None;
        let mut tight: Vec<(DateTime<Utc>, u32)> = Vec::new();
        for ((unit, until), pins) in (0..self.capacity).zip(busy_until).zip(&self.pins) {
            if *until > claim.during.start() {
                continue;
            }
            let next = pins.partition_point(|pin| pin.end() <= claim.during.start());
            match pins.get(next) {
                Some(pin) if pin.start() >= claim.during.end() => tight.push((pin.start(), unit)),
                Some(_) => {}
                None => roomy = roomy.or(Some(unit)),
            }
        }
        tight.sort_unstable_by(|a, b| b.cmp(a));
        roomy.into_iter().chain(tight.into_iter().map(|(_, unit)| unit)).collect()
    }
}

/// One placed claim: where it is, what was there before, and the units not tried yet.
struct Choice {
    rest: Vec<u32>,
    taken: Option<(u32, DateTime<Utc>)>,
}

impl Choice {
    fn take_next(&mut self, claim: &Claim, busy_until: &mut [DateTime<Utc>]) -> bool {
        let Some(unit) = self.rest.pop() else { return false };
        self.taken = Some((unit, std::mem::replace(&mut busy_until[unit as usize], claim.during.end())));
        true
    }

    fn undo(&mut self, busy_until: &mut [DateTime<Utc>]) {
        if let Some((unit, before)) = self.taken.take() {
            busy_until[unit as usize] = before;
        }
    }
}

/// The parts of an interval outside `[left, right)`.
fn beyond(during: &Interval, left: DateTime<Utc>, right: DateTime<Utc>) -> impl Iterator<Item = Interval> {
    let parts = if left >= right {
        [(during.start(), during.end()), (right, right)]
    } else {
        [(during.start(), during.end().min(left)), (during.start().max(right), during.end())]
    };
    parts
        .into_iter()
        .filter(|(start, end)| start < end)
        .filter_map(|(start, end)| Interval::new(start, end).ok())
}

#[cfg(test)]
mod tests;
