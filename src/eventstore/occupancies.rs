//! The claims a lane keeps in memory, by resource, so that a booking is decided without reading who else is there.
//!
//! All lanes of a process share one budget of claims: the memory they take is bounded however many logs there are. A lane
//! that has more than its part of a budget that is used up lets go of resources between its batches; their claims
//! are read again when they are asked for.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Utc};
use daybook_domain::{
    BookingId, ResourceId,
    occupancy::{Claim, Occupancy},
};

/// How many claims all lanes together keep in memory, and how many they keep now.
#[derive(Debug)]
pub(super) struct ClaimBudget {
    most: usize,
    kept: AtomicUsize,
    /// Lanes that keep any.
    lanes: AtomicUsize,
}

impl ClaimBudget {
    /// A budget of so many claims. While they wait for a batch of their own, lanes that have more than their part keep it:
    /// up to twice as many are kept then.
    pub fn new(most: usize) -> Self {
        Self { most, kept: AtomicUsize::new(0), lanes: AtomicUsize::new(0) }
    }

    /// Claims kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Whether a lane with so many claims has to let go of some.
    fn is_exceeded_by(&self, own: usize) -> bool {
        self.kept() > self.most && own > self.most / self.lanes.load(Ordering::Relaxed).max(1)
    }
}

/// A resource's claims that end after `since`.
#[derive(Debug)]
struct Loaded {
    resource: ResourceId,
    since: DateTime<Utc>,
    claims: Arc<Occupancy>,
}

/// The occupancies a lane keeps.
#[derive(Debug)]
pub(super) struct Occupancies {
    budget: Arc<ClaimBudget>,
    loaded: Vec<Loaded>,
    /// Where in `loaded` a resource is.
    place_of: HashMap<ResourceId, u32>,
    /// Where in `loaded` the resource of a booking's claim is.
    claimed_at: HashMap<BookingId, u32>,
    /// What the budget was told of.
    counted: usize,
    /// Decides what is let go of.
    dice: u64,
}

impl Occupancies {
    /// None yet.
    pub fn new(budget: Arc<ClaimBudget>) -> Self {
        Self {
            budget,
            loaded: Vec::new(),
            place_of: HashMap::new(),
            claimed_at: HashMap::new(),
            counted: 0,
            dice: 0,
        }
    }

    /// The occupancy of a resource, where every claim that ends after `since` is loaded.
    pub fn get(&self, resource: ResourceId, since: DateTime<Utc>) -> Option<&Arc<Occupancy>> {
        let loaded = &self.loaded[*self.place_of.get(&resource)? as usize];
        (loaded.since <= since).then_some(&loaded.claims)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.loaded.is_empty()
    }

    /// Keeps a resource's occupancy as loaded.
    pub fn put(&mut self, resource: ResourceId, since: DateTime<Utc>, claims: Occupancy) {
        self.let_go(resource);
        let place = u32::try_from(self.loaded.len()).unwrap_or(u32::MAX);
        self.claimed_at.extend(claims.iter().map(|claim| (claim.booking_id, place)));
        self.place_of.insert(resource, place);
        self.loaded.push(Loaded { resource, since, claims: Arc::new(claims) });
        self.count();
    }

    /// Sets or clears the claim of a booking and answers with the one it had.
    pub fn set(
        &mut self,
        booking: BookingId,
        claim: Option<(ResourceId, Claim)>,
    ) -> Option<(ResourceId, Claim)> {
        let old = self.claimed_at.remove(&booking).and_then(|place| {
            let loaded = &mut self.loaded[place as usize];
            let claim = Arc::make_mut(&mut loaded.claims).remove(&booking)?;
            Some((loaded.resource, claim))
        });
        if let Some((resource, claim)) = claim
            && let Some(place) = self.place_of.get(&resource)
        {
            let loaded = &mut self.loaded[*place as usize];
            // A claim that ended before the loaded range would be there only half of the time.
            if claim.during.end() > loaded.since {
                Arc::make_mut(&mut loaded.claims).insert(claim);
                self.claimed_at.insert(booking, *place);
            }
        }
        self.count();
        old
    }

    /// Lets go of resources while there are more claims than the budget has room for, and more than this lane's part of
    /// them. Between batches: a batch needs what it loaded to its end.
    pub fn trim(&mut self) {
        while !self.loaded.is_empty() && self.budget.is_exceeded_by(self.counted) {
            // By chance: where all are asked for in turn, the one that was not asked for the longest is the next.
            self.dice =
                self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(self.dice >> 33).unwrap_or(0) % self.loaded.len();
            self.let_go(self.loaded[at].resource);
            self.count();
        }
        // Tables keep the size they once had.
        if self.claimed_at.capacity() > 8 * self.claimed_at.len().max(64) {
            self.claimed_at.shrink_to_fit();
        }
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        (self.loaded, self.place_of, self.claimed_at) = (Vec::new(), HashMap::new(), HashMap::new());
        self.count();
    }

    fn let_go(&mut self, resource: ResourceId) {
        let Some(place) = self.place_of.remove(&resource) else { return };
        let gone = self.loaded.swap_remove(place as usize);
        for claim in gone.claims.iter() {
            self.claimed_at.remove(&claim.booking_id);
        }
        // The last one took its place.
        if let Some(moved) = self.loaded.get(place as usize) {
            self.place_of.insert(moved.resource, place);
            for claim in moved.claims.iter() {
                self.claimed_at.insert(claim.booking_id, place);
            }
        }
    }

    /// Tells the budget.
    fn count(&mut self) {
        let now = self.claimed_at.len();
        match (self.counted, now) {
            (0, 1..) => drop(self.budget.lanes.fetch_add(1, Ordering::Relaxed)),
            (1.., 0) => drop(self.budget.lanes.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        if now >= self.counted {
            self.budget.kept.fetch_add(now - self.counted, Ordering::Relaxed);
        } else {
            self.budget.kept.fetch_sub(self.counted - now, Ordering::Relaxed);
        }
        self.counted = now;
    }
}

impl Drop for Occupancies {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use daybook_domain::Interval;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap() + TimeDelta::minutes(minute)
    }

    fn resource(n: u8) -> ResourceId {
        ResourceId(Uuid::from_u128(n.into()))
    }

    fn booking(n: u8) -> BookingId {
        BookingId(Uuid::from_u128(1_000 + u128::from(n)))
    }

    fn claim(of: u8, start: i64) -> Claim {
        let during = Interval::new(at(start), at(start + 60)).unwrap();
        Claim { booking_id: booking(of), during, unit: None, expires_at: None }
    }

    /// Claims of the resource, one for each booking.
    fn full(of: u8, claims: u8) -> Occupancy {
        (0..claims).map(|n| claim(of * 10 + n, i64::from(n) * 60)).collect()
    }

    #[test]
    fn what_ends_before_the_loaded_range_is_not_kept() {
        let mut kept = Occupancies::new(Arc::new(ClaimBudget::new(100)));
        kept.put(resource(1), at(100), Occupancy::default());
        assert!(kept.get(resource(1), at(100)).is_some() && kept.get(resource(1), at(200)).is_some());
        assert!(kept.get(resource(1), at(99)).is_none() && kept.get(resource(2), at(100)).is_none());
        assert_eq!(kept.set(booking(1), Some((resource(1), claim(1, 40)))), None);
        assert_eq!(kept.set(booking(1), Some((resource(1), claim(1, 41)))), None);
        assert_eq!(kept.set(booking(1), None), Some((resource(1), claim(1, 41))));
    }

    #[test]
    fn who_has_more_than_their_part_lets_go_until_there_is_room() {
        let budget = Arc::new(ClaimBudget::new(10));
        let (mut large, mut small) = (Occupancies::new(budget.clone()), Occupancies::new(budget.clone()));
        (0..6).for_each(|n| large.put(resource(n), at(0), full(n, 2)));
        assert_eq!(budget.kept(), 12);
        small.put(resource(1), at(0), full(1, 5));
        // Five of ten are its part.
        small.trim();
        assert_eq!((small.counted, budget.kept()), (5, 17));
        large.trim();
        assert_eq!((large.counted, large.loaded.len(), budget.kept()), (4, 2, 9));
        // There is room: nothing more is let go of.
        large.trim();
        assert_eq!(budget.kept(), 9);
        drop(small);
        large.clear();
        assert_eq!((budget.kept(), budget.lanes.load(Ordering::Relaxed)), (0, 0));
        assert!(large.is_empty() && large.get(resource(0), at(0)).is_none());
    }

    #[test]
    fn a_resource_too_large_for_any_budget_is_kept_for_its_batch() {
        let budget = Arc::new(ClaimBudget::new(3));
        let mut kept = Occupancies::new(budget.clone());
        kept.put(resource(1), at(0), full(1, 9));
        assert_eq!(kept.get(resource(1), at(0)).unwrap().len(), 9);
        kept.trim();
        assert!(kept.is_empty());
        assert_eq!(budget.kept(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Load a resource, as it is stored.
        Load(u8),
        /// A booking takes a place at a resource.
        Claim(u8, u8, i64),
        Release(u8),
        Trim,
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_u8..5).prop_map(Step::Load),
            6 => (0_u8..20, 0_u8..5, 0_i64..500).prop_map(|(b, r, start)| Step::Claim(b, r, start)),
            3 => (0_u8..20).prop_map(Step::Release),
            2 => Just(Step::Trim),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// What is kept is what is stored, whatever was let go of and loaded again meanwhile.
        #[test]
        fn what_is_kept_is_what_is_stored(steps in steps(), most in 0_usize..12) {
            let budget = Arc::new(ClaimBudget::new(most));
            let mut kept = Occupancies::new(budget.clone());
            let mut stored: HashMap<BookingId, (ResourceId, Claim)> = HashMap::new();
            for step in steps {
                match step {
                    Step::Load(n) => {
                        let of = stored.values().filter(|(at, _)| *at == resource(n)).map(|(_, claim)| *claim);
                        kept.put(resource(n), at(0), of.collect());
                    }
                    Step::Claim(b, r, start) => {
                        let new = (resource(r), claim(b, start));
                        let known = |of: &ResourceId| kept.get(*of, at(0)).is_some();
                        let old = stored.insert(booking(b), new).filter(|(of, _)| known(of));
                        prop_assert_eq!(kept.set(booking(b), Some(new)), old);
                    }
                    Step::Release(b) => {
                        let known = |of: &ResourceId| kept.get(*of, at(0)).is_some();
                        let old = stored.remove(&booking(b)).filter(|(of, _)| known(of));
                        prop_assert_eq!(kept.set(booking(b), None), old);
                    }
                    Step::Trim => {
                        kept.trim();
                        prop_assert!(budget.kept() <= most);
                    }
                    Step::Clear => kept.clear(),
                }
                let mut count = 0;
                for n in 0..5 {
                    let Some(occupancy) = kept.get(resource(n), at(0)) else { continue };
                    count += occupancy.len();
                    let mut claims: Vec<Claim> = occupancy.iter().collect();
                    let mut wanted: Vec<Claim> =
                        stored.values().filter(|(of, _)| *of == resource(n)).map(|(_, claim)| *claim).collect();
                    claims.sort_unstable_by_key(|claim| claim.booking_id);
                    wanted.sort_unstable_by_key(|claim| claim.booking_id);
                    prop_assert_eq!(claims, wanted);
                }
                prop_assert_eq!(budget.kept(), count);
            }
        }
    }
}
