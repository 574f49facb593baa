//! Background work of a node. What works for tenants does so for the active ones only. Every worker is safe to run on many nodes at once,
//! and can be stopped at any time: what it had not committed is done again.

pub mod credential_pruning;
pub mod domain_recheck;
pub mod erasure;
pub mod hold_expiry;
pub mod idempotency_pruning;
pub mod keys_reload;
pub mod ledger;
pub mod log_pruning;
pub mod log_retention;
pub mod mailer;
pub mod masquerade_sweep;
pub mod projector;
pub mod rate_limit_pruning;
pub mod sample_reset;
pub mod spare_schemas;
pub mod support_overview;

use std::{
    collections::HashSet,
    future::Future,
    time::{Duration, Instant},
};

use daybook_projections::Schema;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    dns::TxtLookup,
    eventstore::EventStore,
    ledger::{HeadCopy, Ledger},
    masquerade_log::MasqueradeLog,
    tenancy::{TenancyError, TenantDirectory},
};

/// How often the workers look.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The time in which every tenant's head is looked at once for what other nodes wrote, as far as
    /// [`WorkerSettings::max_looks_per_second`] lets it. What this node writes wakes its projector at once.
    pub projection_poll: Duration,
    /// The most looks a second at tenants that may have nothing new.
    pub max_looks_per_second: u32,
    /// How long a projector waits after this node wrote, so that what follows shares the transaction.
    pub linger: Duration,
    /// Tenants whose projections are caught up at once.
    pub projector_tasks: usize,
    /// Events folded in one transaction.
    pub projection_batch: i64,
    /// How long a node keeps a log's projections after its last step; another takes them over then.
    pub lease: Duration,
    /// How often holds that ran out are looked for.
    pub hold_sweep: Duration,
    /// How often erasures are looked for that can be done: a legal hold was released, a node died.
    pub erasure_sweep: Duration,
    /// How often idempotency keys and counters of rate limits that ran out are deleted.
    pub pruning: Duration,
    /// How often the record of each verified domain is looked for.
    pub domain_recheck: Duration,
    /// What looks for it.
    pub txt_lookup: TxtLookup,
    /// How often each tenant's support requests are looked at for what was not copied for the platform.
    pub support_overview: Duration,
    /// How often the open support sessions and hijacks are looked at for those that are over.
    pub masquerade_sweep: Duration,
    /// How long after midnight (UTC, by the clock of the database) the sample tenant is made anew; below a day.
    pub sample_reset: Duration,
    /// How many schemas are kept ready for tenants that are not there yet.
    pub spare_schemas: usize,
    /// How often what is past retention is looked for: months of logs, messages, and events.
    pub retention: Duration,
    /// How long after an event the tree of its log is extended, so that what follows shares the transaction.
    pub ledger_seal: Duration,
    /// How often at most the head of a log that changes is signed.
    pub ledger_sign: Duration,
    /// How often the head of a log is signed that does not change.
    pub ledger_heartbeat: Duration,
    /// How often the heads of all logs are signed together.
    pub head_log: Duration,
    /// Where they are copied to.
    pub ledger_copy: HeadCopy,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            projection_poll: Duration::from_secs(1),
            max_looks_per_second: 50,
            linger: Duration::from_millis(100),
            projector_tasks: 4,
            projection_batch: 500,
            lease: Duration::from_secs(5),
            hold_sweep: Duration::from_secs(10),
            erasure_sweep: Duration::from_secs(60),
            pruning: Duration::from_secs(3_600),
            domain_recheck: Duration::from_secs(86_400),
            txt_lookup: TxtLookup::new(None),
            support_overview: Duration::from_secs(30),
            masquerade_sweep: Duration::from_secs(60),
            sample_reset: Duration::from_secs(3 * 3_600),
            spare_schemas: 0,
            retention: Duration::from_secs(86_400),
            ledger_seal: Duration::from_secs(1),
            ledger_sign: Duration::from_secs(10),
            ledger_heartbeat: Duration::from_secs(86_400),
            head_log: Duration::from_secs(60),
            ledger_copy: HeadCopy::none(),
        }
    }
}

/// The running workers of a node.
#[derive(Debug)]
pub struct Workers {
    tasks: JoinSet<()>,
}

impl Workers {
    /// Starts every worker; they end when `stop` is cancelled.
    pub fn start(
        store: &EventStore,
        directory: &TenantDirectory,
        settings: WorkerSettings,
        stop: &CancellationToken,
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(projector::run(store.clone(), directory.clone(), settings.clone(), stop.clone()));
        tasks.spawn(hold_expiry::run(store.clone(), directory.clone(), settings.clone(), stop.clone()));
        tasks.spawn(erasure::run(store.clone(), directory.clone(), settings.clone(), stop.clone()));
        tasks.spawn(domain_recheck::run(store.clone(), settings.clone(), stop.clone()));
        tasks.spawn(rate_limit_pruning::run(store.clone(), settings.clone(), stop.clone()));
        tasks.spawn(credential_pruning::run(
            store.clone(),
            directory.clone(),
            settings.clone(),
            stop.clone(),
        ));
        tasks.spawn(support_overview::run(store.clone(), directory.clone(), settings.clone(), stop.clone()));
        tasks.spawn(sample_reset::run(store.clone(), directory.clone(), settings.clone(), stop.clone()));
        tasks.spawn(spare_schemas::run(store.clone(), settings.clone(), stop.clone()));
        tasks.spawn(log_retention::run(store.clone(), settings.clone(), stop.clone()));
        tasks.spawn(idempotency_pruning::run(store.clone(), directory.clone(), settings, stop.clone()));
        tasks.spawn(keys_reload::run(store.keys().clone(), stop.clone()));
        Self { tasks }
    }

    /// Sends mail as well, until `stop` is cancelled.
    pub fn start_mailer(&mut self, worker: mailer::MailWorker, stop: &CancellationToken) {
        self.tasks.spawn(mailer::run(worker, stop.clone()));
    }

    /// Notes the ends of support sessions and hijacks as well, until `stop` is cancelled.
    pub fn start_masquerade_sweep(
        &mut self,
        store: &EventStore,
        directory: &TenantDirectory,
        log: &MasqueradeLog,
        settings: WorkerSettings,
        stop: &CancellationToken,
    ) {
        self.tasks.spawn(masquerade_sweep::run(
            store.clone(),
            directory.clone(),
            log.clone(),
            settings,
            stop.clone(),
        ));
    }

    /// Follows every log with its ledger as well, until `stop` is cancelled.
    pub fn start_ledger(
        &mut self,
        ledger: &Ledger,
        directory: &TenantDirectory,
        settings: WorkerSettings,
        stop: &CancellationToken,
    ) {
        // Before anything is signed.
        ledger.keep_copy(settings.ledger_copy.clone());
        self.tasks.spawn(ledger::run(ledger.clone(), directory.clone(), settings.clone(), stop.clone()));
        self.tasks.spawn(log_pruning::run(ledger.clone(), settings.clone(), stop.clone()));
        self.tasks.spawn(ledger::run_head_log(ledger.clone(), settings, stop.clone()));
    }

    /// Waits until every worker has ended.
    pub async fn join(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = &error as &dyn std::error::Error, "a worker ended abnormally");
            }
        }
    }
}

/// The schemas of the tenants that may be worked for.
async fn active(directory: &TenantDirectory) -> Result<Vec<Schema>, TenancyError> {
    Ok(directory.active().await?.into_iter().map(Schema::tenant).collect())
}

/// How old the list of active tenants may be when something is done for one: no job of a tenant runs a second after it
/// was switched off.
const FRESH: Duration = Duration::from_millis(500);

/// Does something for each active tenant, one after the other, again and again. A tenant's failure is logged and
/// does not keep the others waiting. The work for a round is spread over its time, so that a thousand quiet tenants
/// are a steady trickle.
async fn rounds<F>(
    name: &'static str,
    directory: &TenantDirectory,
    every: Duration,
    stop: &CancellationToken,
    mut work: impl FnMut(Schema) -> F,
) where
    F: Future<Output = Result<(), crate::eventstore::StoreError>>,
{
    loop {
        let schemas = match active(directory).await {
            Ok(schemas) => schemas,
            Err(error) => {
                tracing::warn!(worker = name, error = &error as &dyn std::error::Error, "no list of tenants");
                Vec::new()
            }
        };
        let step = every / u32::try_from(schemas.len()).unwrap_or(u32::MAX).max(1);
        if schemas.is_empty() && wait(every, stop).await {
            return;
        }
        let mut read = Instant::now();
        let mut still: HashSet<Schema> = schemas.iter().cloned().collect();
        for schema in schemas {
            if wait(step, stop).await {
                return;
            }
            if read.elapsed() >= FRESH {
                read = Instant::now();
                // Nobody is worked for while it is not known who is switched off.
                still = active(directory).await.unwrap_or_default().into_iter().collect();
            }
            if !still.contains(&schema) {
                continue;
            }
            if let Err(error) = work(schema.clone()).await {
                tracing::warn!(worker = name, %schema, error = &error as &dyn std::error::Error, "failed for a tenant");
            }
        }
    }
}

/// Sleeps; `true` when it is time to stop.
async fn wait(time: Duration, stop: &CancellationToken) -> bool {
    tokio::time::timeout(time, stop.cancelled()).await.is_ok()
}
