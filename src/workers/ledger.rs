//! Follows every log with its ledger: the platform's, and those of all tenants, also of those that are switched off, whose
//! last events are to be shown as well.
//!
//! What this node writes wakes it; what another one wrote before it died is found by a round over all logs, which is slow
//! when they are many. Several nodes may do the same: the rows that they lock say who does what.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use daybook_projections::Schema;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, wait};
use crate::{
    ledger::{Cause, Ledger, LedgerError, Timing, head_log::Alarm},
    tenancy::TenantDirectory,
};

/// How often the list of logs is read: a tenant's first checkpoint is not long in coming.
const REFRESH: Duration = Duration::from_secs(2);
/// Logs that are worked on at once.
const TASKS: usize = 2;
/// A log that is refused is tried again after this, and it is said again after that.
const RETRY: Duration = Duration::from_secs(10);
const REMIND: Duration = Duration::from_secs(3_600);
/// A log that waits for something else is looked at again after this at the latest.
const AGAIN: Duration = Duration::from_millis(50);

/// Runs until it is stopped.
pub async fn run(
    ledger: Ledger,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    let timing = Timing { at_most: settings.ledger_sign, heartbeat: settings.ledger_heartbeat };
    let mut logs = Logs {
        ledger,
        timing,
        every: settings.ledger_seal,
        wakes: FuturesUnordered::new(),
        known: HashSet::new(),
        round: VecDeque::new(),
        ready: VecDeque::new(),
        queued: HashSet::new(),
        busy: HashSet::new(),
        woken: HashSet::new(),
        waiting: HashMap::new(),
        refused: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let mut refresh = tokio::time::interval(REFRESH.min(settings.ledger_seal));
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_look = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = refresh.tick() => logs.refresh(&directory).await,
            Some(wake) = logs.wakes.next(), if !logs.wakes.is_empty() => logs.wake(wake),
            Some(ended) = logs.tasks.join_next(), if !logs.tasks.is_empty() => logs.ended(ended),
            () = tokio::time::sleep_until(next_look) => {
                logs.look();
                next_look = tokio::time::Instant::now() + pace(&settings, logs.known.len());
            }
        }
        logs.spawn();
    }
    // A turn is short; the one in progress is finished rather than done again.
    while logs.tasks.join_next().await.is_some() {}
}

/// The time between two looks: a round takes ten times as long as sealing waits, unless that were too many looks.
fn pace(settings: &WorkerSettings, logs: usize) -> Duration {
    let even = settings.ledger_seal * 10 / u32::try_from(logs).unwrap_or(u32::MAX).max(1);
    even.max(Duration::from_secs(2) / settings.max_looks_per_second.max(1))
}

/// How often a log is signed at most where there are so many: up to twice as rarely from a hundred on, as each signature
/// takes about twenty milliseconds of a core. What is sealed is still under a checkpoint in half a minute.
fn of_many(timing: Timing, logs: usize) -> Timing {
    let fiftieths = u32::try_from(logs).unwrap_or(u32::MAX).clamp(50, 100);
    let at_most = timing.at_most.checked_mul(fiftieths).map_or(timing.at_most, |times| times / 50);
    Timing { at_most, ..timing }
}

/// Why a log is worked on.
enum Wake {
    /// This node wrote.
    Moved(Schema, tokio::sync::watch::Receiver<i64>),
    /// It is time.
    Due(Schema),
}

type Ended = (Schema, Result<Option<Duration>, LedgerError>);

struct Logs {
    ledger: Ledger,
    timing: Timing,
    every: Duration,
    wakes: FuturesUnordered<BoxFuture<'static, Wake>>,
    known: HashSet<Schema>,
    /// Logs in the order they are looked at.
    round: VecDeque<Schema>,
    ready: VecDeque<Schema>,
    queued: HashSet<Schema>,
    busy: HashSet<Schema>,
    /// Logs that moved while they were worked on.
    woken: HashSet<Schema>,
    /// Logs that wait for a time, the next there is for each.
    waiting: HashMap<Schema, Instant>,
    /// What is wrong with which logs, and when that was said last.
    refused: HashMap<Schema, (Cause, Instant)>,
    tasks: JoinSet<Ended>,
}

impl Logs {
    async fn refresh(&mut self, directory: &TenantDirectory) {
        let tenants = match directory.all_ids().await {
            Ok(tenants) => tenants,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no list of logs");
                return;
            }
        };
        let logs = std::iter::once(Schema::platform()).chain(tenants.into_iter().map(Schema::tenant));
        // One that vanishes from the list stays: it is missed, not forgotten.
        for schema in logs {
            if self.known.insert(schema.clone()) {
                let watch = self.ledger.store().head_watch(&schema);
                self.wakes.push(Box::pin(moved(schema.clone(), watch, self.every)));
                self.round.push_back(schema.clone());
                self.enqueue(schema);
            }
        }
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Moved(schema, watch) => {
                let position = *watch.borrow();
                self.wakes.push(Box::pin(moved(schema.clone(), watch, self.every)));
                // Where many tenants write all the time, sealing each log whenever it moved cost a fifth to a third of the bookings.
                match self.ledger.rest(&schema, position, of_many(self.timing, self.known.len())) {
                    Some(rest) => self.wait(schema, rest),
                    None => self.enqueue(schema),
                }
            }
            Wake::Due(schema) => {
                if self.waiting.get(&schema).is_some_and(|until| *until <= Instant::now()) {
                    self.waiting.remove(&schema);
                }
                self.enqueue(schema);
            }
        }
    }

    /// Works on a log in a while, and once, however often that is asked for.
    fn wait(&mut self, schema: Schema, time: Duration) {
        let until = Instant::now() + time;
        if self.waiting.get(&schema).is_none_or(|sooner| until < *sooner) {
            self.waiting.insert(schema.clone(), until);
            self.wakes.push(Box::pin(due(schema, time)));
        }
    }

    fn look(&mut self) {
        if let Some(schema) = self.round.pop_front() {
            self.round.push_back(schema.clone());
            if !self.waiting.contains_key(&schema) {
                self.enqueue(schema);
            }
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
        while self.tasks.len() < TASKS {
            let Some(schema) = self.ready.pop_front() else { return };
            self.queued.remove(&schema);
            self.busy.insert(schema.clone());
            let (ledger, timing) = (self.ledger.clone(), of_many(self.timing, self.known.len()));
            self.tasks.spawn(async move {
                let result = ledger.tend(&schema, timing).await;
                (schema, result)
            });
        }
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let (schema, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Which log's it was is lost with it; the locks keep two tasks from doing the same.
                tracing::error!(error = &error as &dyn std::error::Error, "a ledger task ended abnormally");
                self.busy.clear();
                return;
            }
        };
        self.busy.remove(&schema);
        let woken = self.woken.remove(&schema);
        let again = match result {
            Ok(again) => {
                self.ledger.refuses(&schema, None);
                if self.refused.remove(&schema).is_some() {
                    tracing::warn!(%schema, "the ledger of a log goes on");
                    self.count_refused();
                }
                again.map(|again| again.max(AGAIN))
            }
            Err(error) => {
                self.failed(&schema, &error);
                Some(if woken { RETRY.min(self.every) } else { RETRY })
            }
        };
        match again {
            Some(again) => self.wait(schema, again),
            None if woken => self.enqueue(schema),
            None => {}
        }
    }

    /// An alarm that is not to be missed, nor to be all that there is to read.
    fn failed(&mut self, schema: &Schema, error: &LedgerError) {
        let chain = error as &dyn std::error::Error;
        let Some(cause) = error.cause() else {
            tracing::warn!(%schema, error = chain, "a log is not sealed or signed for now");
            return;
        };
        metrics::counter!("daybook_ledger_refusals_total", "cause" => cause.as_str()).increment(1);
        self.ledger.refuses(schema, Some(cause));
        let said = self.refused.get(schema);
        if said.is_none_or(|(before, at)| *before != cause || at.elapsed() >= REMIND) {
            tracing::error!(%schema, cause = cause.as_str(), error = chain, "the ledger refuses a log");
            self.refused.insert(schema.clone(), (cause, Instant::now()));
            self.count_refused();
        }
    }

    fn count_refused(&self) {
        metrics::gauge!("daybook_ledger_refused_logs").set(self.refused.len() as f64);
    }
}

async fn moved(schema: Schema, mut watch: tokio::sync::watch::Receiver<i64>, linger: Duration) -> Wake {
    if watch.changed().await.is_err() {
        // The store is gone, and with it everything this would wake up for.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(linger).await;
    watch.mark_unchanged();
    Wake::Moved(schema, watch)
}

async fn due(schema: Schema, after: Duration) -> Wake {
    tokio::time::sleep(after).await;
    Wake::Due(schema)
}

/// Signs the heads of all logs together, again and again, until it is stopped.
pub async fn run_head_log(ledger: Ledger, settings: WorkerSettings, stop: CancellationToken) {
    let mut said: Option<(Vec<Alarm>, Instant)> = None;
    while !wait(settings.head_log, &stop).await {
        match ledger.sign_heads(&settings.ledger_copy, settings.ledger_heartbeat).await {
            Ok(turn) => {
                metrics::gauge!("daybook_ledger_head_alarms").set(turn.alarms.len() as f64);
                let known = said.as_ref().is_some_and(|(before, at)| {
                    *before == turn.alarms && (before.is_empty() || at.elapsed() < REMIND)
                });
                if !known {
                    for Alarm { origin, cause } in &turn.alarms {
                        tracing::error!(origin, cause, "a log is not what its head was; the old one is kept");
                    }
                    said = Some((turn.alarms, Instant::now()));
                }
            }
            Err(error) => {
                let chain = &error as &dyn std::error::Error;
                match error.cause() {
                    Some(cause) => {
                        metrics::counter!("daybook_ledger_refusals_total", "cause" => cause.as_str())
                            .increment(1);
                        tracing::error!(cause = cause.as_str(), error = chain, "the log of heads is refused");
                    }
                    None => tracing::error!(error = chain, "the heads of the logs are not signed for now"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_over_many_logs_is_slow_and_over_few_is_not() {
        let settings = WorkerSettings::default();
        assert_eq!(pace(&settings, 1), Duration::from_secs(10));
        assert_eq!(pace(&settings, 10_000), Duration::from_millis(40));
    }

    #[test]
    fn many_logs_are_signed_half_as_often_and_few_as_asked_for() {
        let timing = Timing { at_most: Duration::from_secs(10), heartbeat: Duration::from_secs(3_600) };
        let seconds = |logs| of_many(timing, logs).at_most.as_secs();
        assert_eq!([1, 50, 75, 100, 10_000].map(seconds), [10, 10, 15, 20, 20]);
        assert_eq!(of_many(timing, 10_000).heartbeat, timing.heartbeat);
    }
}
