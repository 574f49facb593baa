//! The log of calls made with API keys: kept in memory for about a second, then written for each tenant at once.
//!
//! Not events: a call changes nothing by itself, and there are far more of them. What does not fit into memory is
//! dropped and counted, because no call waits for its line in the log. Neither query nor body is in it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::extract::MatchedPath;
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use daybook_domain::{ApiKeyId, TenantId};
use daybook_projections::{
    Schema,
    api_calls::{self, ApiCallRow},
};
use sqlx::Executor as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::tenancy::{Access, Database, TenancyError, TenantTx};

/// How many calls wait to be written, at most.
const CAPACITY: usize = 50_000;
/// How often they are written.
const EVERY: Duration = Duration::from_secs(1);
/// How long it is tried to write a call.
const PATIENCE: Duration = Duration::from_secs(60);
/// Partitions that are known to be there; past it all are asked for again.
const MAX_PARTITIONS: usize = 50_000;

/// The caller of a request, once it has proved to be an API key; put into the request's extensions by the envelope and
/// filled by the gate, so that also a refused call is logged.
#[derive(Clone, Debug, Default)]
pub struct KeyCaller(Arc<OnceLock<(TenantId, ApiKeyId)>>);

impl KeyCaller {
    /// Says who it is.
    pub fn set(&self, tenant: TenantId, key: ApiKeyId) {
        // A request has one caller.
        let _ = self.0.set((tenant, key));
    }

    /// Who it is, if it is one.
    pub fn get(&self) -> Option<(TenantId, ApiKeyId)> {
        self.0.get().copied()
    }
}

/// A call that was answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id.
    pub request_id: Uuid,
    /// The tenant and the key.
    pub caller: (TenantId, ApiKeyId),
    /// How it was called.
    pub method: &'static str,
    /// The template of its route.
    pub route: Option<MatchedPath>,
    /// How it was answered.
    pub status: u16,
    /// How long that took.
    pub latency: Duration,
}

struct Pending {
    since: Instant,
    tenant: TenantId,
    row: ApiCallRow,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    pending: Mutex<Vec<Pending>>,
    /// Held while calls are written: whoever flushes returns once all that waited before is in the log.
    writing: tokio::sync::Mutex<()>,
    partitions: Mutex<HashSet<(TenantId, NaiveDate)>>,
}

impl AccessLog {
    /// The log of a database.
    pub fn new(database: Database) -> Self {
        let inner = Inner {
            database,
            pending: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            partitions: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Notes a call that was just answered.
    pub fn record(&self, call: Call) {
        let (tenant, key) = call.caller;
        let row = ApiCallRow {
            at: began(call.latency),
            request_id: call.request_id,
            api_key_id: key.0,
            method: call.method.to_owned(),
            route: call.route.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned(),
            status: i32::from(call.status),
            latency_us: i32::try_from(call.latency.as_micros()).unwrap_or(i32::MAX),
        };
        let mut pending = self.pending();
        if pending.len() < CAPACITY {
            pending.push(Pending { since: Instant::now(), tenant, row });
        } else {
            drop(pending);
            dropped(1);
        }
    }

    /// Writes what waits. What cannot be written is tried again for a minute.
    pub async fn flush(&self) {
        let _writing = self.inner.writing.lock().await;
        let mut by_tenant: HashMap<TenantId, Vec<Pending>> = HashMap::new();
        for call in std::mem::take(&mut *self.pending()) {
            by_tenant.entry(call.tenant).or_default().push(call);
        }
        for (tenant, calls) in by_tenant {
            let Err(error) = self.write(tenant, &calls).await else { continue };
            tracing::warn!(
                %tenant,
                calls = calls.len(),
                error = &error as &dyn std::error::Error,
                "calls with API keys are not logged yet"
            );
            // A partition may have been dropped meanwhile.
            self.partitions().retain(|(of, _)| *of != tenant);
            self.put_back(calls);
        }
    }

    fn put_back(&self, calls: Vec<Pending>) {
        let before = calls.len();
        let mut pending = self.pending();
        let room = CAPACITY.saturating_sub(pending.len());
        let kept: Vec<_> =
            calls.into_iter().filter(|call| call.since.elapsed() < PATIENCE).take(room).collect();
        let lost = before - kept.len();
        pending.extend(kept);
        drop(pending);
        dropped(lost);
    }

    async fn write(&self, tenant: TenantId, calls: &[Pending]) -> Result<(), TenancyError> {
        let attempted = "log calls with API keys";
        let schema = Schema::tenant(tenant);
        let mut tx = TenantTx::begin(self.inner.database.app(), &schema, Access::Write).await?;
        // Nobody is told that a call is in the log: the last second of it may be lost in a crash of PostgreSQL.
        tx.execute("SET LOCAL synchronous_commit = off").await.map_err(TenancyError::db(attempted))?;
        let months: HashSet<NaiveDate> = calls.iter().filter_map(|call| month(call.row.at)).collect();
        let known = |month: &NaiveDate| self.partitions().contains(&(tenant, *month));
        let new: Vec<NaiveDate> = months.into_iter().filter(|month| !known(month)).collect();
        for month in &new {
            api_calls::ensure_partition(&mut tx, *month).await.map_err(TenancyError::db(attempted))?;
        }
        let rows: Vec<&ApiCallRow> = calls.iter().map(|call| &call.row).collect();
        api_calls::insert(&mut tx, &rows).await.map_err(TenancyError::db(attempted))?;
        tx.commit().await?;
        let mut partitions = self.partitions();
        if partitions.len() >= MAX_PARTITIONS {
            partitions.clear();
        }
        partitions.extend(new.into_iter().map(|month| (tenant, month)));
        Ok(())
    }

    fn pending(&self) -> MutexGuard<'_, Vec<Pending>> {
        self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partitions(&self) -> MutexGuard<'_, HashSet<(TenantId, NaiveDate)>> {
        self.inner.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the log about every second until it is stopped, and then what is left.
pub async fn run(log: AccessLog, stop: CancellationToken) {
    while tokio::time::timeout(EVERY, stop.cancelled()).await.is_err() {
        log.flush().await;
    }
    log.flush().await;
}

fn began(latency: Duration) -> DateTime<Utc> {
    let now = crate::clock::now();
    chrono::TimeDelta::from_std(latency).map_or(now, |latency| now - latency)
}

/// The first day of its month, by which the log is partitioned.
fn month(at: DateTime<Utc>) -> Option<NaiveDate> {
    at.date_naive().with_day(1)
}

fn dropped(calls: usize) {
    if calls > 0 {
        metrics::counter!("daybook_api_calls_dropped_total").increment(calls as u64);
    }
}
