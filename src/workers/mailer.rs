//! Sends what is in the outboxes of the platform and of the active tenants.
//!
//! What this node queued is sent at once, when it says so with [`Mailer::wake`]; a slow round over all schemas finds
//! what other nodes or a crash left behind and what is to be tried again. Any number of nodes may do this at once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use daybook_projections::Schema;
use futures_util::future::join_all;
use tokio::{
    sync::Notify,
    task::{self, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::active;
use crate::{
    mail::{
        Part, Sealer, Transport,
        outbox::{self, Claimed},
        transport::{Outgoing, SendError},
    },
    tenancy::{Access, Database, TenancyError, TenantDirectory, TenantTx},
};

/// How mail is sent.
#[derive(Clone, Debug)]
pub struct MailerSettings {
    /// The time in which every schema is looked at once.
    pub round: Duration,
    /// How long a claimed message is left to the node that claimed it. More than `send_timeout`.
    pub visibility: Duration,
    /// The longest that sending one message may take.
    pub send_timeout: Duration,
    /// The wait before the second attempt; it doubles with each.
    pub first_retry: Duration,
    /// The longest wait between two attempts.
    pub longest_retry: Duration,
    /// Attempts until a message is given up.
    pub attempts: i32,
    /// Messages of one schema that are claimed, and sent, together.
    pub batch: u32,
    /// Schemas that are worked for at once.
    pub tasks: usize,
    /// How long messages on their way have to arrive when the node stops.
    pub grace: Duration,
}

impl Default for MailerSettings {
    fn default() -> Self {
        Self {
            round: Duration::from_secs(30),
            visibility: Duration::from_secs(120),
            send_timeout: Duration::from_secs(60),
            first_retry: Duration::from_secs(10),
            longest_retry: Duration::from_secs(3_600),
            attempts: 8,
            batch: 4,
            tasks: 4,
            grace: Duration::from_secs(5),
        }
    }
}

/// Says where mail was queued. Cheap to clone.
#[derive(Clone, Default)]
pub struct Mailer {
    hints: Arc<Hints>,
}

#[derive(Default)]
struct Hints {
    schemas: Mutex<HashSet<Schema>>,
    notify: Notify,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailer")
    }
}

impl Mailer {
    /// Messages of this schema are committed. A hint only: without it they are sent in the next round.
    pub fn wake(&self, schema: &Schema) {
        self.hints.schemas.lock().unwrap_or_else(PoisonError::into_inner).insert(schema.clone());
        self.hints.notify.notify_one();
    }

    /// The schemas that were named since the last call, once there are any.
    async fn woken(&self) -> HashSet<Schema> {
        loop {
            let schemas = mem::take(&mut *self.hints.schemas.lock().unwrap_or_else(PoisonError::into_inner));
            if !schemas.is_empty() {
                return schemas;
            }
            self.hints.notify.notified().await;
        }
    }
}

/// What sending mail takes.
#[derive(Clone)]
pub struct MailWorker {
    /// The database.
    pub database: Database,
    /// Which tenants are active.
    pub directory: TenantDirectory,
    /// The way mail leaves.
    pub transport: Arc<Transport>,
    /// Opens the bodies.
    pub sealer: Arc<dyn Sealer>,
    /// Hints of this node.
    pub mailer: Mailer,
    /// How.
    pub settings: MailerSettings,
}

/// Runs until it is stopped.
pub async fn run(worker: MailWorker, stop: CancellationToken) {
    let mut desk = Desk::default();
    let mut round = VecDeque::new();
    let mut pace = Duration::ZERO;
    let mut next_look = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            schemas = worker.mailer.woken() => schemas.into_iter().for_each(|schema| desk.enqueue(schema)),
            Some(ended) = desk.tasks.join_next_with_id(), if !desk.tasks.is_empty() => desk.ended(ended),
            () = tokio::time::sleep_until(next_look) => {
                if round.is_empty() {
                    round = schemas(&worker.directory).await;
                    pace = worker.settings.round / u32::try_from(round.len()).unwrap_or(u32::MAX).max(1);
                }
                if let Some(schema) = round.pop_front() {
                    desk.enqueue(schema);
                }
                next_look = Instant::now() + pace;
            }
        }
        desk.spawn(&worker);
    }
    // What is cut off may have been sent; it is sent again when its claim has run out.
    let rest = async { while desk.tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(worker.settings.grace, rest).await.is_err() {
        tracing::warn!("stopped while mail was on its way; it is tried again");
        desk.tasks.abort_all();
    }
}

/// The platform, and every active tenant.
async fn schemas(directory: &TenantDirectory) -> VecDeque<Schema> {
    let mut all = VecDeque::from([Schema::platform()]);
    match active(directory).await {
        Ok(tenants) => all.extend(tenants),
        Err(error) => {
            tracing::warn!(worker = "mailer", error = &error as &dyn std::error::Error, "no list of tenants");
        }
    }
    all
}

/// Which schemas wait and which are worked for.
#[derive(Default)]
struct Desk {
    ready: VecDeque<Schema>,
    queued: HashSet<Schema>,
    busy: HashMap<task::Id, Schema>,
    /// Schemas that were named while they were worked for.
    again: HashSet<Schema>,
    /// Each answers whether there may be more.
    tasks: JoinSet<bool>,
}

impl Desk {
    fn enqueue(&mut self, schema: Schema) {
        if self.busy.values().any(|busy| *busy == schema) {
            self.again.insert(schema);
        } else if self.queued.insert(schema.clone()) {
            self.ready.push_back(schema);
        }
    }

    fn spawn(&mut self, worker: &MailWorker) {
        while self.tasks.len() < worker.settings.tasks.max(1) {
            let Some(schema) = self.ready.pop_front() else { return };
            self.queued.remove(&schema);
            let task = self.tasks.spawn({
                let (worker, schema) = (worker.clone(), schema.clone());
                async move {
                    deliver(&worker, &schema).await.unwrap_or_else(|error| {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(worker = "mailer", %schema, error, "failed for a schema");
                        false
                    })
                }
            });
            self.busy.insert(task.id(), schema);
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, bool), task::JoinError>) {
        let (id, more) = ended.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a mailer task ended abnormally");
            (error.id(), false)
        });
        let Some(schema) = self.busy.remove(&id) else { return };
        if self.again.remove(&schema) || more {
            self.enqueue(schema);
        }
    }
}

/// Sends some of what is due in one schema; answers whether there may be more.
///
/// # Errors
/// When PostgreSQL refuses. What was claimed is tried again later.
pub async fn deliver(worker: &MailWorker, schema: &Schema) -> Result<bool, TenancyError> {
    let app = worker.database.app();
    let mut tx = TenantTx::begin(app, schema, Access::Read).await?;
    let due = outbox::has_due(&mut tx, schema).await.map_err(TenancyError::db("look for due messages"))?;
    tx.release();
    // Asked anew each time: a tenant that was switched off sends nothing any more.
    if !due || !is_active(worker, schema).await? {
        return Ok(false);
    }
    let mut tx = TenantTx::begin(app, schema, Access::Write).await?;
    let limit = i64::from(worker.settings.batch.max(1));
    let claimed = outbox::claim_due(&mut tx, schema, limit, worker.settings.visibility)
        .await
        .map_err(TenancyError::db("claim messages"))?;
    tx.commit().await?;
    let more = i64::try_from(claimed.len()).is_ok_and(|count| count == limit);
    // All at once, so that none waits for another's time-out until its claim has run out.
    let results = join_all(claimed.iter().map(|message| handle(worker, schema, message))).await;
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(more)
}

async fn is_active(worker: &MailWorker, schema: &Schema) -> Result<bool, TenancyError> {
    match schema.tenant_id() {
        None => Ok(true),
        Some(id) => Ok(worker.directory.by_id(id).await?.is_some_and(|tenant| tenant.active)),
    }
}

/// Sends one message and notes how it went.
async fn handle(worker: &MailWorker, schema: &Schema, message: &Claimed) -> Result<(), TenancyError> {
    // Past the last attempt only when each of them ended with its node: it is not tried for ever.
    let result = if message.attempts > worker.settings.attempts {
        Err(SendError { class: "attempts_exhausted", permanent: true })
    } else {
        send(worker, schema, message).await
    };
    let id = message.id;
    let attempted = "note how sending a message went";
    let mut tx = TenantTx::begin(worker.database.app(), schema, Access::Write).await?;
    let (noted, outcome) = match result {
        Ok(()) => {
            tracing::info!(%schema, message = %id, "mail sent");
            (outbox::mark_sent(&mut tx, schema, message).await, "sent")
        }
        Err(SendError { class, permanent }) if permanent || message.attempts >= worker.settings.attempts => {
            tracing::warn!(%schema, message = %id, class, attempts = message.attempts, "mail given up");
            (outbox::mark_failed(&mut tx, schema, message, class).await, "failed")
        }
        Err(SendError { class, .. }) => {
            let delay = backoff(&worker.settings, message.attempts);
            tracing::info!(%schema, message = %id, class, ?delay, "mail is tried again");
            (outbox::mark_retry(&mut tx, schema, message, class, delay).await, "retried")
        }
    };
    noted.map_err(TenancyError::db(attempted))?;
    tx.commit().await?;
    metrics::counter!("daybook_messages_total", "outcome" => outcome).increment(1);
    Ok(())
}

async fn send(worker: &MailWorker, schema: &Schema, message: &Claimed) -> Result<(), SendError> {
    let unreadable = SendError { class: "body_unreadable", permanent: false };
    let tenant = schema.tenant_id();
    let body = worker.sealer.open(tenant, Part::Body, &message.sealed_body).map_err(|_| unreadable)?;
    let recipient = match (&message.sealed_recipient, &message.recipient) {
        (Some(sealed), _) => {
            worker.sealer.open(tenant, Part::Recipient(message.id), sealed).map_err(|_| unreadable)?
        }
        (None, Some(clear)) => Zeroizing::new(clear.clone().into_bytes()),
        (None, None) => return Err(SendError { class: "erased", permanent: true }),
    };
    let outgoing = Outgoing {
        id: message.id,
        recipient: std::str::from_utf8(&recipient).map_err(|_| unreadable)?,
        subject: &message.subject,
        body: std::str::from_utf8(&body).map_err(|_| unreadable)?,
    };
    tokio::time::timeout(worker.settings.send_timeout, worker.transport.send(outgoing))
        .await
        .unwrap_or(Err(SendError { class: "timeout", permanent: false }))
}

/// The wait after the n-th attempt.
fn backoff(settings: &MailerSettings, attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(20);
    settings.first_retry.saturating_mul(1 << doublings).min(settings.longest_retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_an_hour() {
        let settings = MailerSettings::default();
        let waits: Vec<_> = [1, 2, 3, 8, 10, 100].map(|n| backoff(&settings, n).as_secs()).into();
        assert_eq!(waits, [10, 20, 40, 1_280, 3_600, 3_600]);
    }

    #[tokio::test]
    async fn a_hint_is_kept_until_it_is_heard() {
        let mailer = Mailer::default();
        mailer.wake(&Schema::platform());
        mailer.wake(&Schema::platform());
        assert_eq!(mailer.woken().await.len(), 1);
        let waiting = tokio::time::timeout(Duration::from_millis(20), mailer.woken()).await;
        assert!(waiting.is_err(), "it is heard once");
        mailer.wake(&Schema::platform());
        assert_eq!(mailer.woken().await.len(), 1);
    }
}
