//! What a lane keeps between batches: folded aggregates, schedules of resources, occupancy, subject keys.
//!
//! All of it is true as of `known_position`. A batch that finds the head elsewhere (another process wrote)
//! first drops what those events touched.

use std::{collections::HashMap, hash::Hash, num::NonZeroUsize, sync::Arc};

use chrono::{DateTime, Utc};
use daybook_domain::{
    BookingId, ResourceId, SubjectId,
    occupancy::{Claim, Occupancy},
    registry::AnyState,
};
use lru::LruCache;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Bookings are many, and few are asked for again soon after they are made: they have a part of their own, so that they
/// never push out what every booking is decided on.
const BOOKINGS: usize = 1_000;
const OTHERS: usize = 4_000;
const SUBJECT_KEYS: NonZeroUsize = NonZeroUsize::new(1_000).expect("1,000 is not zero");
/// Claims kept in memory over all resources of a log; past it the occupancies are dropped and loaded anew.
const MAX_CLAIMS: usize = 500_000;

/// A folded aggregate and its sequence (0: nothing has happened to it).
#[derive(Clone, Debug)]
pub struct Entry {
    /// The state.
    pub state: AnyState,
    /// The sequence of its last event.
    pub sequence: i64,
}

/// A resource's claims that end after `since`.
#[derive(Debug)]
pub struct CachedOccupancy {
    /// Claims that end by then are not loaded.
    pub since: DateTime<Utc>,
    /// The claims.
    pub claims: Arc<Occupancy>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LaneCache {
    /// The position all of this is true at; `None` before the first batch.
    pub known_position: Option<i64>,
    pub(super) states: States,
    pub(super) schedule_of: HashMap<Uuid, Option<Uuid>>,
    pub(super) subject_keys: LruCache<SubjectId, Zeroizing<[u8; 32]>>,
    occupancy: HashMap<ResourceId, CachedOccupancy>,
    resource_of: HashMap<BookingId, ResourceId>,
}

/// The folded aggregates used last, and all of the batch in progress.
#[derive(Debug)]
pub struct States {
    bookings: LruCache<Uuid, Entry>,
    others: LruCache<Uuid, Entry>,
}

impl States {
    /// Whether an aggregate is kept.
    pub fn contains(&self, id: &Uuid) -> bool {
        self.bookings.contains(id) || self.others.contains(id)
    }

    /// An aggregate, which counts as used.
    pub fn get(&mut self, id: &Uuid) -> Option<&Entry> {
        self.bookings.get(id).or_else(|| self.others.get(id))
    }

    /// An aggregate.
    pub fn peek(&self, id: &Uuid) -> Option<&Entry> {
        self.bookings.peek(id).or_else(|| self.others.peek(id))
    }

    /// Keeps an aggregate and answers with what was kept of it before.
    pub fn put(&mut self, id: Uuid, entry: Entry) -> Option<Entry> {
        let (part, other) = match entry.state {
            AnyState::Booking(_) => (&mut self.bookings, &mut self.others),
            _ => (&mut self.others, &mut self.bookings),
        };
        // An id that was looked for as another type is kept as absent there.
        let misplaced = other.pop(&id);
        part.put(id, entry).or(misplaced)
    }

    /// Lets go of what was not used for the longest. Between batches: what a batch touched it needs to its end, however
    /// much that is (a booking that takes the place of hundreds of holds which ran out).
    pub fn trim(&mut self) {
        for (part, most) in [(&mut self.bookings, BOOKINGS), (&mut self.others, OTHERS)] {
            while part.len() > most {
                part.pop_lru();
            }
        }
    }

    /// Drops an aggregate.
    pub fn pop(&mut self, id: &Uuid) -> Option<Entry> {
        let booking = self.bookings.pop(id);
        self.others.pop(id).or(booking)
    }
}

/// A cache that takes memory as it fills: most of a thousand tenants' lanes hold little.
fn growing<K: Hash + Eq, V>(capacity: NonZeroUsize) -> LruCache<K, V> {
    let mut cache = LruCache::unbounded();
    cache.resize(capacity);
    cache
}

impl LaneCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            known_position: None,
            states: States { bookings: LruCache::unbounded(), others: LruCache::unbounded() },
            schedule_of: HashMap::new(),
            subject_keys: growing(SUBJECT_KEYS),
            occupancy: HashMap::new(),
            resource_of: HashMap::new(),
        }
    }

    /// Drops everything: a batch failed half-way, so the cache may be ahead of what is stored.
    pub fn forget_batch(&mut self) {
        *self = Self::new();
    }

    /// The occupancy of a resource, where every claim that ends after `since` is loaded.
    pub fn occupancy(&self, resource: ResourceId, since: DateTime<Utc>) -> Option<&Arc<Occupancy>> {
        self.occupancy.get(&resource).filter(|cached| cached.since <= since).map(|cached| &cached.claims)
    }

    /// Keeps a resource's occupancy as loaded.
    pub fn put_occupancy(&mut self, resource: ResourceId, since: DateTime<Utc>, claims: Occupancy) {
        if self.resource_of.len() + claims.len() > MAX_CLAIMS {
            self.occupancy.clear();
            self.resource_of.clear();
        }
        self.resource_of.extend(claims.iter().map(|claim| (claim.booking_id, resource)));
        self.occupancy.insert(resource, CachedOccupancy { since, claims: Arc::new(claims) });
    }

    /// Whether any occupancy is cached.
    pub fn has_occupancy(&self) -> bool {
        !self.occupancy.is_empty()
    }

    /// Sets or clears the claim of a booking and answers with the one it had.
    pub fn set_claim(
        &mut self,
        booking: BookingId,
        claim: Option<(ResourceId, Claim)>,
    ) -> Option<(ResourceId, Claim)> {
        let mut old = None;
        if let Some(resource) = self.resource_of.remove(&booking)
            && let Some(cached) = self.occupancy.get_mut(&resource)
        {
            old = Arc::make_mut(&mut cached.claims).remove(&booking).map(|claim| (resource, claim));
        }
        if let Some((resource, claim)) = claim
            && let Some(cached) = self.occupancy.get_mut(&resource)
        {
            // A claim that ended before the loaded range would be there only half of the time.
            if claim.during.end() > cached.since {
                Arc::make_mut(&mut cached.claims).insert(claim);
                self.resource_of.insert(booking, resource);
            }
        }
        old
    }
}

impl Default for LaneCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use daybook_domain::registry::AggregateType;

    use super::*;

    fn entry(aggregate_type: AggregateType, sequence: i64) -> Entry {
        Entry { state: AnyState::new(aggregate_type), sequence }
    }

    #[test]
    fn bookings_push_out_bookings_alone_and_not_within_a_batch() {
        const MADE: usize = BOOKINGS + OTHERS;
        let mut states = LaneCache::new().states;
        let resource = Uuid::from_u128(1);
        let of_booking = |n: usize| Uuid::from_u128(n as u128 + 2);
        let kept = |states: &States| (0..MADE).filter(|n| states.contains(&of_booking(*n))).count();
        states.put(resource, entry(AggregateType::Resource, 1));
        for n in 0..MADE {
            states.put(of_booking(n), entry(AggregateType::Booking, 1));
        }
        assert_eq!(kept(&states), MADE);
        states.get(&of_booking(0));
        states.trim();
        assert_eq!(kept(&states), BOOKINGS);
        assert!(states.contains(&resource));
        assert!(states.peek(&of_booking(0)).is_some() && states.peek(&of_booking(1)).is_none());
    }

    #[test]
    fn an_id_is_kept_once_whatever_it_was_taken_for() {
        let mut states = LaneCache::new().states;
        let id = Uuid::from_u128(1);
        assert!(states.put(id, entry(AggregateType::Resource, 0)).is_none());
        assert_eq!(states.put(id, entry(AggregateType::Booking, 1)).unwrap().sequence, 0);
        assert_eq!(states.get(&id).unwrap().sequence, 1);
        assert_eq!(states.put(id, entry(AggregateType::Resource, 2)).unwrap().sequence, 1);
        assert_eq!(states.pop(&id).unwrap().sequence, 2);
        assert!(!states.contains(&id) && states.pop(&id).is_none());
    }
}
