//! Calls an hour with an API key, over all nodes: a node takes a few of the hour's calls at a time from a counter that
//! all share, and lets calls pass on those, so that not every call writes.
//!
//! Never more than the limit pass in an hour. What a node has taken and does not use by the end of the hour is lost; it
//! takes a fiftieth at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use daybook_domain::ApiKeyId;
use daybook_projections::Schema;
use uuid::Uuid;

use super::{
    API_CALLS,
    shared::{Hit, closed},
};
use crate::{
    http::problem::Result,
    keys::Keys,
    tenancy::{Access, Database, TenancyError, TenantTx},
};

/// Into how many parts an hour's calls are divided.
const PARTS: u32 = 50;
/// Beyond this a limit is none, and the counter's type would be too small.
const MOST: u32 = 1_000_000_000;
/// Keys that are remembered; past it all are forgotten, which loses what was taken for them.
const MAX_KEYS: usize = 50_000;

/// The leases of this node.
pub struct Hourly {
    database: Database,
    keys: Arc<Keys>,
    leases: Mutex<HashMap<ApiKeyId, Arc<Slot>>>,
}

impl std::fmt::Debug for Hourly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hourly").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Slot {
    lease: Mutex<Option<Lease>>,
    /// One call at a time asks for more; the others wait for what it gets.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Lease {
    limit: u32,
    /// Calls that this node may still let pass.
    left: u32,
    /// Calls that nobody has taken yet, as of the last question.
    untaken: u32,
    /// The end of the hour by the database's clock, or a moment before it.
    until: Instant,
}

impl Lease {
    /// One call less; `None` when it says nothing about this limit and time.
    fn take(&mut self, limit: u32) -> Option<Hit> {
        let reset_after = self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        if self.limit != limit {
            return None;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(Hit { allowed: true, remaining: left + self.untaken, reset_after })
            }
            // Nobody has any: it need not be asked for again in this hour.
            None if self.untaken == 0 => Some(Hit { allowed: false, remaining: 0, reset_after }),
            None => None,
        }
    }
}

impl Hourly {
    /// The leases on counters of a database.
    pub fn new(database: Database, keys: Arc<Keys>) -> Self {
        Self { database, keys, leases: Mutex::default() }
    }

    /// Counts one more call.
    ///
    /// # Errors
    /// When more calls must be taken and the counter cannot be written.
    pub async fn take(&self, key: ApiKeyId, limit: u32) -> Result<Hit> {
        let limit = limit.min(MOST);
        let slot = self.slot(key);
        if let Some(hit) = slot.take(limit) {
            return Ok(hit);
        }
        let _asking = slot.asking.lock().await;
        // Whoever asked meanwhile may have brought enough.
        if let Some(hit) = slot.take(limit) {
            return Ok(hit);
        }
        // Before the question: the hour does not end later than this says.
        let asked = Instant::now();
        let (granted, untaken, left) = self.lease(key, limit).await?;
        let mut lease = Lease { limit, left: granted, untaken, until: asked + left };
        let hit = if granted == 0 {
            lease.untaken = 0;
            Hit { allowed: false, remaining: 0, reset_after: left }
        } else {
            lease.left = granted - 1;
            Hit { allowed: true, remaining: lease.left + untaken, reset_after: left }
        };
        *slot.lease() = Some(lease);
        Ok(hit)
    }

    /// Takes some of the calls of this hour: how many were had, how many nobody has taken, and until when.
    async fn lease(&self, key: ApiKeyId, limit: u32) -> Result<(u32, u32, Duration)> {
        let part = (limit / PARTS).max(1);
        let hash = self.keys.hmac_unique(
            &format!("rate limit {API_CALLS}"),
            Uuid::nil(),
            key.0.as_bytes().as_slice(),
        );
        let failed = TenancyError::db("take calls of an API key");
        let mut tx =
            TenantTx::begin(self.database.app(), &Schema::platform(), Access::Write).await.map_err(closed)?;
        // What was taken goes at most one part beyond the limit, so that from the count after it follows what it was
        // before.
        let (taken, left): (i32, f64) = sqlx::query_as(
            "INSERT INTO daybook_platform.rate_counters AS c (bucket, key, window_start, count)
             VALUES ($1, $2, date_trunc('hour', now()), $3)
             ON CONFLICT (bucket, key) DO UPDATE SET
                 -- A transaction that waited may have begun in the hour before: it does not bring that hour back.
                 window_start = greatest(c.window_start, date_trunc('hour', now())),
                 count = CASE WHEN c.window_start < date_trunc('hour', now()) THEN $3
                              WHEN c.count < $4 THEN c.count + $3
                              ELSE $4 + $3 END
             RETURNING c.count,
                 extract(epoch FROM c.window_start + interval '1 hour' - clock_timestamp())::double precision",
        )
        .bind(API_CALLS)
        .bind(hash.as_slice())
        .bind(i32::try_from(part).unwrap_or(i32::MAX))
        .bind(i32::try_from(limit).unwrap_or(i32::MAX))
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| closed(failed(error)))?;
        tx.commit().await.map_err(closed)?;
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        let granted = limit.saturating_sub(taken.saturating_sub(part)).min(part);
        Ok((granted, limit.saturating_sub(taken), Duration::try_from_secs_f64(left).unwrap_or_default()))
    }

    fn slot(&self, key: ApiKeyId) -> Arc<Slot> {
        let mut leases = self.leases();
        if let Some(slot) = leases.get(&key) {
            return slot.clone();
        }
        if leases.len() >= MAX_KEYS {
            leases.clear();
        }
        leases.entry(key).or_default().clone()
    }

    /// Forgets the leases whose hour is over.
    pub fn prune(&self) {
        let now = Instant::now();
        self.leases().retain(|_, slot| {
            // Somebody uses it.
            Arc::strong_count(slot) > 1 || slot.lease().is_some_and(|lease| lease.until > now)
        });
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<ApiKeyId, Arc<Slot>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, limit: u32) -> Option<Hit> {
        self.lease().as_mut()?.take(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(left: u32, untaken: u32) -> Lease {
        Lease { limit: 10, left, untaken, until: Instant::now() + Duration::from_secs(60) }
    }

    #[test]
    fn a_lease_is_used_up_and_then_asked_for_again() {
        let mut some = lease(2, 3);
        assert_eq!(some.take(10).map(|hit| (hit.allowed, hit.remaining)), Some((true, 4)));
        assert_eq!(some.take(10).map(|hit| (hit.allowed, hit.remaining)), Some((true, 3)));
        assert_eq!(some.take(10), None, "others may have left some");
    }

    #[test]
    fn when_nobody_has_any_it_is_refused_without_a_question() {
        assert_eq!(lease(0, 0).take(10).map(|hit| hit.allowed), Some(false));
    }

    #[test]
    fn a_lease_of_another_limit_or_hour_says_nothing() {
        assert_eq!(lease(2, 3).take(11), None);
        let mut over = Lease { until: Instant::now(), ..lease(2, 3) };
        assert_eq!(over.take(10), None);
    }
}
