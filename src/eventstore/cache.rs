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

const AGGREGATES: NonZeroUsize = NonZeroUsize::new(4_000).expect("4,000 is not zero");
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
    pub(super) states: LruCache<Uuid, Entry>,
    pub(super) schedule_of: HashMap<Uuid, Option<Uuid>>,
    pub(super) subject_keys: LruCache<SubjectId, Zeroizing<[u8; 32]>>,
    occupancy: HashMap<ResourceId, CachedOccupancy>,
    resource_of: HashMap<BookingId, ResourceId>,
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
            states: growing(AGGREGATES),
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
