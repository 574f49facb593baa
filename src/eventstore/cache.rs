//! What a lane keeps between batches: folded aggregates, schedules of resources, occupancy, subject keys.
//!
//! All of it is true as of `known_position`. A batch that finds the head elsewhere (another process wrote)
//! first drops what those events touched.

use std::{collections::HashMap, hash::Hash, num::NonZeroUsize, sync::Arc};

use daybook_domain::{SubjectId, registry::AnyState};
use lru::LruCache;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::occupancies::{ClaimBudget, Occupancies};

/// Bookings are many, and few are asked for again soon after they are made: they have a part of their own, so that they
/// never push out what every booking is decided on.
const BOOKINGS: usize = 1_000;
const OTHERS: usize = 4_000;
const SUBJECT_KEYS: NonZeroUsize = NonZeroUsize::new(1_000).expect("1,000 is not zero");

/// A folded aggregate and its sequence (0: nothing has happened to it).
#[derive(Clone, Debug)]
pub struct Entry {
    /// The state.
    pub state: AnyState,
    /// The sequence of its last event.
    pub sequence: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LaneCache {
    /// The position all of this is true at; `None` before the first batch.
    pub known_position: Option<i64>,
    pub(super) states: States,
    pub(super) schedule_of: HashMap<Uuid, Option<Uuid>>,
    pub(super) subject_keys: LruCache<SubjectId, Zeroizing<[u8; 32]>>,
    pub(super) occupancies: Occupancies,
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
    /// An empty cache, its claims counted against the budget.
    pub(super) fn new(claims: Arc<ClaimBudget>) -> Self {
        Self {
            known_position: None,
            states: States { bookings: LruCache::unbounded(), others: LruCache::unbounded() },
            schedule_of: HashMap::new(),
            subject_keys: growing(SUBJECT_KEYS),
            occupancies: Occupancies::new(claims),
        }
    }

    /// Drops everything: it may not be what is stored.
    pub fn clear(&mut self) {
        self.known_position = None;
        self.states.bookings.clear();
        self.states.others.clear();
        self.schedule_of.clear();
        self.subject_keys.clear();
        self.occupancies.clear();
    }

    /// Lets go of what there is too much of. Between batches.
    pub fn trim(&mut self) {
        self.states.trim();
        self.occupancies.trim();
    }
}

#[cfg(test)]
mod tests {
    use daybook_domain::registry::AggregateType;

    use super::*;

    fn cache() -> LaneCache {
        LaneCache::new(Arc::new(ClaimBudget::new(0)))
    }

    fn entry(aggregate_type: AggregateType, sequence: i64) -> Entry {
        Entry { state: AnyState::new(aggregate_type), sequence }
    }

    #[test]
    fn bookings_push_out_bookings_alone_and_not_within_a_batch() {
        const MADE: usize = BOOKINGS + OTHERS;
        let mut states = cache().states;
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
        let mut states = cache().states;
        let id = Uuid::from_u128(1);
        assert!(states.put(id, entry(AggregateType::Resource, 0)).is_none());
        assert_eq!(states.put(id, entry(AggregateType::Booking, 1)).unwrap().sequence, 0);
        assert_eq!(states.get(&id).unwrap().sequence, 1);
        assert_eq!(states.put(id, entry(AggregateType::Resource, 2)).unwrap().sequence, 1);
        assert_eq!(states.pop(&id).unwrap().sequence, 2);
        assert!(!states.contains(&id) && states.pop(&id).is_none());
    }
}
