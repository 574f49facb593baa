//! Token buckets of this process: they cost no round trip, so they can stand before every read.

use std::{
    hash::{Hash, Hasher as _},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use super::{Allowance, Policy};

/// Past so many buckets those that are full again are looked for at once, instead of when it is time.
const MANY: usize = 100_000;
/// How often it is looked whether there are so many.
const LOOK_EVERY: usize = 1_024;

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// A bucket for each key.
#[derive(Debug)]
pub struct Buckets<K: Hash + Eq + Clone> {
    policy: Policy,
    limiter: Limiter<K>,
    taken: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Buckets that hold a policy's quota and fill up again in its window; none for a quota of 0.
    pub fn new(policy: Policy) -> Option<Self> {
        let burst = NonZeroU32::new(policy.quota)?;
        let quota = Quota::with_period(policy.window / policy.quota)?.allow_burst(burst);
        let limiter = RateLimiter::keyed(quota).with_middleware();
        Some(Self { policy, limiter, taken: AtomicUsize::new(0) })
    }

    /// Takes one from a bucket.
    ///
    /// # Errors
    /// What is left, which is nothing, and when there is one again.
    pub fn take(&self, key: &K) -> Result<Allowance, Allowance> {
        let policy = self.policy;
        let outcome = match self.limiter.check_key(key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let missing = policy.quota.saturating_sub(remaining);
                let reset_after = policy.window.mul_f64(f64::from(missing) / f64::from(policy.quota));
                Ok(Allowance { policy, remaining, reset_after })
            }
            Err(not_until) => {
                let reset_after = not_until.wait_time_from(DefaultClock::default().now());
                Err(Allowance {
                    policy,
                    remaining: 0,
                    reset_after: reset_after.max(Duration::from_millis(1)),
                })
            }
        };
        if self.taken.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1
            && self.limiter.len() > MANY
        {
            self.limiter.retain_recent();
        }
        outcome
    }

    /// Forgets the buckets that are full again.
    pub fn prune(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.limiter.len()
    }
}

/// Stands for a route's template in a key: a number instead of a text for each request. There are far too few routes
/// for two of them to meet.
pub fn fingerprint(route: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    route.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(quota: u32, window: Duration) -> Option<Buckets<u32>> {
        Buckets::new(Policy { name: "test", quota, window })
    }

    #[test]
    fn a_bucket_holds_the_quota_and_says_what_is_left() {
        let buckets = buckets(5, Duration::from_secs(600)).unwrap();
        for left in (0..5).rev() {
            assert_eq!(buckets.take(&1).unwrap().remaining, left);
        }
        let refused = buckets.take(&1).unwrap_err();
        assert_eq!(refused.remaining, 0);
        assert!(
            refused.reset_after > Duration::from_secs(100) && refused.reset_after <= Duration::from_secs(120)
        );
        assert!(buckets.take(&2).is_ok(), "another key has its own");
    }

    #[test]
    fn no_quota_is_no_limit() {
        assert!(buckets(0, Duration::from_secs(60)).is_none());
    }

    #[test]
    fn memory_is_bounded_by_what_is_recent() {
        // One hit fills up again in a microsecond.
        let buckets = buckets(1_000_000, Duration::from_secs(1)).unwrap();
        for key in 0..150_000 {
            buckets.take(&key).unwrap();
        }
        assert!(buckets.len() < MANY + 2 * LOOK_EVERY, "{}", buckets.len());
        std::thread::sleep(Duration::from_millis(5));
        buckets.prune();
        assert_eq!(buckets.len(), 0);
    }
}
