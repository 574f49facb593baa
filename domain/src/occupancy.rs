//! What takes up a resource: an in-memory index of its claims, exact and cheap enough for the write path.
//!
//! A writer keeps one [`Occupancy`] per resource behind an `Arc`, hands clones of the `Arc` to decisions, and
//! changes it through `Arc::make_mut` once the events are appended. The database's own guard stays the last
//! word.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{BookingId, interval::Interval};

/// One booking's hold on one unit of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The booking that claims.
    pub booking_id: BookingId,
    /// What is taken, buffers included.
    pub during: Interval,
    /// The unit it is pinned to, counted from 1; unpinned claims may be re-packed at any time.
    pub unit: Option<u32>,
    /// When the claim lapses by itself (holds).
    pub expires_at: Option<DateTime<Utc>>,
}

impl Claim {
    /// Whether the claim counts at `now`: a hold past its expiry no longer does, swept or not.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }
}

/// Class, start, booking. The class leads so that one range scan per class finds every overlap.
type Key = (u8, DateTime<Utc>, BookingId);

/// What a claim has beside its key. There may be hundreds of thousands of claims in memory, so nothing is kept twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    end: DateTime<Utc>,
    unit: Option<u32>,
    expires_at: Option<DateTime<Utc>>,
}

impl Rest {
    fn of(claim: &Claim) -> Self {
        Self { end: claim.during.end(), unit: claim.unit, expires_at: claim.expires_at }
    }

    fn claim(&self, (_, start, booking_id): &Key) -> Claim {
        let during = Interval::of_parts(*start, self.end);
        Claim { booking_id: *booking_id, during, unit: self.unit, expires_at: self.expires_at }
    }
}

/// Marks the classes of claims that can lapse, which the coverage profile must leave out.
const HOLD: u8 = 0x80;
const FIRST: BookingId = BookingId(Uuid::nil());
const LAST: BookingId = BookingId(Uuid::max());

/// The claims on one resource.
///
/// Two structures answer two questions. Claims sorted by (length class, start) answer "who overlaps": a claim
/// of class `c` lasts at most 2^c minutes, so only starts within that of the query can reach into it. A step
/// function of how many firm claims cover each instant answers "how full": a stay of three nights crosses a
/// handful of steps, however many hundred guests are in the house.
#[derive(Clone, Debug, Default)]
pub struct Occupancy {
    claims: BTreeMap<Key, Rest>,
    /// The class and start of each booking's claim.
    keys: HashMap<BookingId, (u8, DateTime<Utc>)>,
    per_class: BTreeMap<u8, u32>,
    coverage: BTreeMap<DateTime<Utc>, u32>,
    pins: BTreeSet<(DateTime<Utc>, BookingId)>,
}

impl Occupancy {
    /// Adds a claim, in place of the booking's earlier one if it has one.
    pub fn insert(&mut self, claim: Claim) {
        self.remove(&claim.booking_id);
        let (class, start) = (class_of(&claim), claim.during.start());
        self.keys.insert(claim.booking_id, (class, start));
        *self.per_class.entry(class).or_default() += 1;
        if class & HOLD == 0 {
            self.cover(&claim.during, true);
        }
        if claim.unit.is_some() {
            self.pins.insert((start, claim.booking_id));
        }
        self.claims.insert((class, start, claim.booking_id), Rest::of(&claim));
    }

    /// Removes a booking's claim.
    pub fn remove(&mut self, booking_id: &BookingId) -> Option<Claim> {
        let (class, start) = self.keys.remove(booking_id)?;
        let key = (class, start, *booking_id);
        let claim = self.claims.remove(&key)?.claim(&key);
        if let Some(count) = self.per_class.get_mut(&class) {
            *count -= 1;
            if *count == 0 {
                self.per_class.remove(&class);
            }
        }
        if class & HOLD == 0 {
            self.cover(&claim.during, false);
        }
        self.pins.remove(&(start, *booking_id));
        Some(claim)
    }

    /// A booking's claim.
    pub fn get(&self, booking_id: &BookingId) -> Option<Claim> {
        let (class, start) = *self.keys.get(booking_id)?;
        let key = (class, start, *booking_id);
        self.claims.get(&key).map(|rest| rest.claim(&key))
    }

    /// How many claims there are, lapsed ones included.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether there is no claim.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Every claim, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = Claim> {
        self.claims.iter().map(|(key, rest)| rest.claim(key))
    }

    /// The claims that overlap an interval, lapsed ones included, in no useful order.
    pub fn overlapping(&self, interval: &Interval) -> impl Iterator<Item = Claim> + use<'_> {
        let interval = *interval;
        self.per_class.keys().flat_map(move |class| self.scan(*class, interval))
    }

    /// The most live claims that overlap at one instant of the interval, without `ignoring`'s own.
    pub fn peak(&self, interval: &Interval, ignoring: Option<BookingId>, now: DateTime<Utc>) -> u32 {
        // Corrections to the profile: live holds count one more, the ignored claim one less.
        let mut steps: Vec<(DateTime<Utc>, i64)> = Vec::new();
        let mut correct = |during: &Interval, by: i64| {
            steps.push((during.start().max(interval.start()), by));
            steps.push((during.end(), -by));
        };
        for (class, _) in self.per_class.range(HOLD..) {
            for claim in self.scan(*class, *interval) {
                if claim.is_live(now) && Some(claim.booking_id) != ignoring {
                    correct(&claim.during, 1);
                }
            }
        }
        let own = ignoring.and_then(|id| self.get(&id));
        if let Some(own) = own.filter(|own| own.expires_at.is_none() && own.during.overlaps(interval)) {
            correct(&own.during, -1);
        }
        steps.sort_unstable();

        let mut base = self.covered_at(interval.start());
        let mut extra = 0_i64;
        let mut peak = i64::MIN;
        let mut corrections = steps.into_iter().take_while(|(at, _)| *at < interval.end()).peekable();
        let mut profile = self.coverage.range(interval.start()..interval.end()).peekable();
        let mut at = interval.start();
        loop {
            while let Some((_, count)) = profile.next_if(|(step, _)| **step <= at) {
                base = *count;
            }
            while let Some((_, by)) = corrections.next_if(|(step, _)| *step <= at) {
                extra += by;
            }
            peak = peak.max(i64::from(base) + extra);
            at = match (profile.peek(), corrections.peek()) {
                (Some((step, _)), Some((correction, _))) => **step.min(&correction),
                (Some((step, _)), None) => **step,
                (None, Some((correction, _))) => *correction,
                (None, None) => break,
            };
        }
        u32::try_from(peak).unwrap_or(0)
    }

    /// The holds in an interval that ran out: a decision that takes their place expires them too.
    pub fn lapsed_in(&self, interval: &Interval, now: DateTime<Utc>) -> Vec<BookingId> {
        self.per_class
            .range(HOLD..)
            .flat_map(|(class, _)| self.scan(*class, *interval))
            .filter(|claim| !claim.is_live(now))
            .map(|claim| claim.booking_id)
            .collect()
    }

    /// When the last live pinned claim begins, without `ignoring`'s own.
    pub(crate) fn last_pin_start(&self, ignoring: BookingId, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.pins
            .iter()
            .rev()
            .find(|(_, id)| *id != ignoring && self.get(id).is_some_and(|claim| claim.is_live(now)))
            .map(|(start, _)| *start)
    }

    fn scan(&self, class: u8, interval: Interval) -> impl Iterator<Item = Claim> {
        let reach = TimeDelta::minutes(1_i64 << (class & !HOLD));
        let from = interval.start().checked_sub_signed(reach).unwrap_or(DateTime::<Utc>::MIN_UTC);
        self.claims
            .range((class, from, FIRST)..(class, interval.end().max(from), LAST))
            .map(|(key, rest)| rest.claim(key))
            .filter(move |claim| claim.during.overlaps(&interval))
    }

    fn covered_at(&self, at: DateTime<Utc>) -> u32 {
        self.coverage.range(..=at).next_back().map_or(0, |(_, count)| *count)
    }

    /// Adds one firm claim to the profile, or takes one away; steps that no longer change anything are
    /// dropped.
    fn cover(&mut self, during: &Interval, add: bool) {
        for edge in [during.start(), during.end()] {
            let count = self.covered_at(edge);
            self.coverage.entry(edge).or_insert(count);
        }
        for (_, count) in self.coverage.range_mut(during.start()..during.end()) {
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
        }
        for edge in [during.start(), during.end()] {
            let before = self.coverage.range(..edge).next_back().map_or(0, |(_, count)| *count);
            if self.coverage.get(&edge) == Some(&before) {
                self.coverage.remove(&edge);
            }
        }
    }
}

impl FromIterator<Claim> for Occupancy {
    /// The same as inserting one after the other, for less: everything is sorted once.
    fn from_iter<I: IntoIterator<Item = Claim>>(claims: I) -> Self {
        let mut occupancy = Self::default();
        let keyed: Vec<(Key, Claim)> = claims
            .into_iter()
            .map(|claim| ((class_of(&claim), claim.during.start(), claim.booking_id), claim))
            .collect();
        occupancy.keys = keyed.iter().map(|((class, start, id), _)| (*id, (*class, *start))).collect();
        if occupancy.keys.len() < keyed.len() {
            // A booking is there more than once: its last claim counts.
            let mut replacing = Self::default();
            keyed.into_iter().for_each(|(_, claim)| replacing.insert(claim));
            return replacing;
        }
        let mut edges = Vec::with_capacity(2 * keyed.len());
        for ((class, start, booking_id), claim) in &keyed {
            *occupancy.per_class.entry(*class).or_default() += 1;
            if class & HOLD == 0 {
                edges.extend([(*start, 1_i64), (claim.during.end(), -1)]);
            }
            if claim.unit.is_some() {
                occupancy.pins.insert((*start, *booking_id));
            }
        }
        edges.sort_unstable();
        let (mut level, mut steps) = (0_i64, Vec::with_capacity(edges.len()));
        for edge in edges.chunk_by(|(one, _), (other, _)| one == other) {
            let change: i64 = edge.iter().map(|(_, by)| by).sum();
            level += change;
            if change != 0 {
                steps.push((edge[0].0, u32::try_from(level).unwrap_or(u32::MAX)));
            }
        }
        occupancy.coverage = steps.into_iter().collect();
        occupancy.claims = keyed.into_iter().map(|(key, claim)| (key, Rest::of(&claim))).collect();
        occupancy
    }
}

/// The smallest class whose length holds the claim: ceil(log2(minutes)).
fn class_of(claim: &Claim) -> u8 {
    let length = claim.during.end() - claim.during.start();
    let minutes = length.num_minutes() + i64::from(length > TimeDelta::minutes(length.num_minutes()));
    let class = u64::try_from(minutes).unwrap_or(1).max(1).next_power_of_two().trailing_zeros();
    // 2^40 minutes is longer than chrono's whole range, and still a length chrono can express.
    let class = u8::try_from(class.min(40)).unwrap_or(40);
    if claim.expires_at.is_some() { class | HOLD } else { class }
}

#[cfg(test)]
mod tests;
