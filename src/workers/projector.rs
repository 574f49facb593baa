//! Catches the projections of all active tenants up with their logs.
//!
//! What this node writes wakes its projector at once; what others write is found by a round over all tenants that
//! is slow when they are many. Several nodes share the work by leases in the checkpoints. Also here: status,
//! waiting for a position, retrying parked events, rebuilding and verifying.

mod catch_up;
mod fold;
mod rebuild;
mod scratch;
mod status;
mod verify;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use daybook_projections::{ALL, ProjectionError, Schema};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use catch_up::{Step, Stepper, step};
pub use rebuild::{RebuildReport, drop_leftovers, rebuild};
pub use status::{ProjectionStatus, RetryReport, retry, status, wait_for};
pub use verify::{TableReport, VerifyReport, verify};

use super::{WorkerSettings, active};
use crate::{
    eventstore::{EventStore, StoreError},
    tenancy::{TenancyError, TenantDirectory},
};

/// How often the list of active tenants is read: a tenant that was deactivated is left alone within a second.
const REFRESH: Duration = Duration::from_millis(700);
/// A tenant's lag is looked up no more often than this.
const REPORT: Duration = Duration::from_secs(1);
/// Having reached the head, a task rests for so many times as long as its turn took. While there is little to do
/// nobody notices; under load the projections leave the machine to commands, and larger batches cost less an event.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(200);
/// Steps for one tenant before another that waits gets its turn.
const STEPS_AT_ONCE: usize = 20;

/// What can go wrong with projections.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// PostgreSQL refused or is away.
    #[error("{attempted}")]
    Database {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// The log could not be read.
    #[error("read the log")]
    Store(#[from] StoreError),
    /// The tenant's schema could not be entered.
    #[error("enter the log's schema")]
    Tenancy(#[from] TenancyError),
    /// A projection failed for a reason that is not the events'.
    #[error("fold into {name}")]
    Projection {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: ProjectionError,
    },
    /// Another node took the projections over.
    #[error("another node took the projections over")]
    LeaseLost,
    /// No projection of that name.
    #[error("no projection {0}")]
    UnknownProjection(String),
    /// The projection's rows are of another version than this binary's.
    #[error("{0} was made by another version and has to be rebuilt")]
    Outdated(&'static str),
    /// Another rebuild or verification of the same schema runs.
    #[error("another run works in {0}")]
    Busy(String),
}

impl ProjectorError {
    pub(crate) fn db(attempted: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { attempted, source }
    }

    /// The projection at fault, where it is one.
    fn projection(&self) -> Option<&'static str> {
        match self {
            Self::Projection { name, .. } | Self::Outdated(name) => Some(name),
            _ => None,
        }
    }

    fn is_lock_timeout(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                error.code().as_deref() == Some("55P03")
            }
            _ => false,
        }
    }
}

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    let stepper = Stepper { node: Uuid::now_v7(), lease: settings.lease, batch: settings.projection_batch };
    let mut projector = Projector {
        store,
        stepper,
        limit: settings.projector_tasks.max(1),
        linger: settings.linger,
        watches: FuturesUnordered::new(),
        tenants: HashSet::new(),
        round: VecDeque::new(),
        ready: VecDeque::new(),
        queued: HashSet::new(),
        busy: HashSet::new(),
        woken: HashSet::new(),
        unreported: HashSet::new(),
        reported: HashMap::new(),
        tasks: JoinSet::new(),
        stop: stop.clone(),
    };
    let mut refresh = tokio::time::interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_look = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = refresh.tick() => projector.refresh(&directory).await,
            Some((schema, watch)) = projector.watches.next(), if !projector.watches.is_empty() => {
                projector.head_moved(schema, watch);
            }
            Some(ended) = projector.tasks.join_next(), if !projector.tasks.is_empty() => projector.ended(ended),
            () = tokio::time::sleep_until(next_look) => {
                projector.look();
                next_look = tokio::time::Instant::now() + pace(&settings, projector.tenants.len());
            }
        }
        projector.spawn();
    }
    // A step is short; the one in progress is finished rather than done again.
    while projector.tasks.join_next().await.is_some() {}
}

/// The time between two looks, so that a round takes the time asked for but never more looks than allowed.
fn pace(settings: &WorkerSettings, tenants: usize) -> Duration {
    let even = settings.projection_poll / u32::try_from(tenants).unwrap_or(u32::MAX).max(1);
    even.max(Duration::from_secs(1) / settings.max_looks_per_second.max(1))
}

/// A tenant's turn, when it ended.
struct Ended {
    schema: Schema,
    /// Whether there is more to do at once.
    more: bool,
    lag: Lag,
}

/// What a turn found out about how far a tenant's projections are behind.
enum Lag {
    /// As before.
    Same,
    /// Changed, but it was not looked up.
    Unknown,
    /// This much.
    Known(Vec<ProjectionStatus>),
}
type Moved = (Schema, watch::Receiver<i64>);

struct Projector {
    store: EventStore,
    stepper: Stepper,
    limit: usize,
    linger: Duration,
    watches: FuturesUnordered<BoxFuture<'static, Moved>>,
    tenants: HashSet<Schema>,
    /// Tenants in the order they are looked at.
    round: VecDeque<Schema>,
    ready: VecDeque<Schema>,
    queued: HashSet<Schema>,
    busy: HashSet<Schema>,
    /// Tenants that got new events while they were worked on.
    woken: HashSet<Schema>,
    /// Tenants whose lag changed since it was looked up, and what was found when.
    unreported: HashSet<Schema>,
    reported: HashMap<Schema, (Instant, Vec<ProjectionStatus>)>,
    tasks: JoinSet<Ended>,
    stop: CancellationToken,
}

impl Projector {
    async fn refresh(&mut self, directory: &TenantDirectory) {
        let now: HashSet<Schema> = match active(directory).await {
            Ok(schemas) => schemas.into_iter().collect(),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no list of tenants");
                return;
            }
        };
        for schema in now.difference(&self.tenants).cloned().collect::<Vec<_>>() {
            self.watches.push(Box::pin(moved(schema.clone(), self.store.head_watch(&schema), self.linger)));
            self.round.push_back(schema.clone());
            self.tenants.insert(schema.clone());
            self.enqueue(schema);
        }
        if self.tenants.len() > now.len() {
            self.tenants.retain(|schema| now.contains(schema));
            self.round.retain(|schema| now.contains(schema));
            self.ready.retain(|schema| now.contains(schema));
            self.queued.retain(|schema| now.contains(schema));
            self.unreported.retain(|schema| now.contains(schema));
            self.reported.retain(|schema, _| now.contains(schema));
        }
    }

    fn head_moved(&mut self, schema: Schema, watch: watch::Receiver<i64>) {
        if self.tenants.contains(&schema) {
            self.watches.push(Box::pin(moved(schema.clone(), watch, self.linger)));
            self.enqueue(schema);
        }
    }

    /// Looks at the next tenant of the round.
    fn look(&mut self) {
        if let Some(schema) = self.round.pop_front() {
            self.round.push_back(schema.clone());
            self.enqueue(schema);
        }
    }

    fn enqueue(&mut self, schema: Schema) {
        if self.busy.contains(&schema) {
            self.woken.insert(schema);
        } else if self.queued.insert(schema.clone()) {
            self.ready.push_back(schema);
        }
    }

    fn spawn(&mut self) {
        while self.tasks.len() < self.limit {
            let Some(schema) = self.ready.pop_front() else { return };
            self.queued.remove(&schema);
            self.busy.insert(schema.clone());
            let due = self.reported.get(&schema).is_none_or(|(at, _)| at.elapsed() >= REPORT);
            let report = Report { due, missing: self.unreported.contains(&schema) };
            self.tasks.spawn(work(self.store.clone(), schema, self.stepper, report, self.stop.clone()));
        }
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended { schema, more, lag } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Which tenant's it was is lost with it; leases keep two tasks from folding the same.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a projector task ended abnormally"
                );
                self.busy.clear();
                return;
            }
        };
        match lag {
            Lag::Known(status) => {
                self.unreported.remove(&schema);
                self.reported.insert(schema.clone(), (Instant::now(), status));
                self.set_gauges();
            }
            Lag::Unknown => drop(self.unreported.insert(schema.clone())),
            Lag::Same => {}
        }
        self.busy.remove(&schema);
        if (self.woken.remove(&schema) || more) && self.tenants.contains(&schema) {
            self.enqueue(schema);
        }
    }

    /// Says how far the tenant that is furthest behind is, as far as this node worked for it; which one that is, and how
    /// many there are, is not for everybody who may read metrics.
    fn set_gauges(&self) {
        for projection in ALL {
            let all = || self.reported.values().flat_map(|(_, status)| status);
            let of_this = || all().filter(|status| status.name == projection.name());
            let labels = [("projection", projection.name())];
            let events = of_this().map(|status| status.lag_events).max().unwrap_or(0);
            let seconds = of_this().map(|status| status.lag_seconds).fold(0.0, f64::max);
            let parked: i64 = of_this().map(|status| status.parked).sum();
            metrics::gauge!("daybook_projection_lag_events", &labels).set(events as f64);
            metrics::gauge!("daybook_projection_lag_seconds", &labels).set(seconds);
            metrics::gauge!("daybook_projection_parked_events", &labels).set(parked as f64);
        }
    }
}

async fn moved(schema: Schema, mut watch: watch::Receiver<i64>, linger: Duration) -> Moved {
    if watch.changed().await.is_err() {
        // The store is gone, and with it everything this would wake up for.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(linger).await;
    watch.mark_unchanged();
    (schema, watch)
}

/// Whether a tenant's lag may be looked up again, and whether what was found last is out of date.
#[derive(Clone, Copy)]
struct Report {
    due: bool,
    missing: bool,
}

/// Brings one tenant to its head, or as far as its turn lasts.
async fn work(
    store: EventStore,
    schema: Schema,
    stepper: Stepper,
    report: Report,
    stop: CancellationToken,
) -> Ended {
    let began = Instant::now();
    let mut changed = report.missing;
    let mut more = true;
    for _ in 0..STEPS_AT_ONCE {
        if stop.is_cancelled() {
            return Ended { schema, more: false, lag: Lag::Same };
        }
        match step(&store, &schema, stepper).await {
            Ok(Step::Moved) => changed = true,
            Ok(Step::Reached) => {
                changed = true;
                more = false;
                break;
            }
            Ok(Step::Quiet | Step::NotOurs) | Err(ProjectorError::LeaseLost) => {
                more = false;
                break;
            }
            Err(error) => {
                // Tried again in the next round.
                tracing::error!(%schema, error = &error as &dyn std::error::Error, "projections stand still");
                if let Err(error) = catch_up::note_failure(&store, &schema, &error).await {
                    tracing::warn!(%schema, error = &error as &dyn std::error::Error, "cannot note it");
                }
                changed = true;
                more = false;
                break;
            }
        }
    }
    let lag = match (changed, report.due) {
        (false, _) => Lag::Same,
        (true, false) => Lag::Unknown,
        // Zero unless it stands still.
        (true, true) => status(&store, &schema).await.map_or(Lag::Unknown, Lag::Known),
    };
    if changed && !more {
        let rest = (began.elapsed() * REST).min(LONGEST_REST);
        let _ = tokio::time::timeout(rest, stop.cancelled()).await;
    }
    Ended { schema, more, lag }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tenants_are_looked_at_slowly_and_few_often() {
        let settings = WorkerSettings::default();
        assert_eq!(pace(&settings, 1), Duration::from_secs(1));
        assert_eq!(pace(&settings, 1_000), Duration::from_millis(20));
    }
}
