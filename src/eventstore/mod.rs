//! The event store: commands in, ordered and durable events out.
//!
//! [`EventStore::execute`] queues a [`Unit`] of commands on its log's writer lane and answers once the
//! transaction that holds its events is committed. See [`lane`] for group commit, [`batch`] for the decisions, `lookups`
//! for what they ask the database, `record` for the leaves, [`append`] for what is written, [`load`] for reading streams back.

mod admission;
pub mod append;
pub mod attached;
pub mod batch;
pub mod cache;
mod canonical;
mod carry;
pub mod cqrs;
mod decide;
mod erasure;
mod grants;
pub mod idempotency;
pub mod known;
pub mod lane;
pub mod leaf;
pub mod load;
mod lookups;
mod masquerade;
mod occupancies;
pub mod open;
pub mod prune;
mod record;
pub mod seal;

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use daybook_domain::{
    DomainError,
    envelope::Metadata,
    registry::{AggregateType, AnyCommand, AnyEvent, AnyState},
};
use daybook_projections::Schema;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use self::{admission::Admission, occupancies::ClaimBudget};
use crate::{
    keys::Keys,
    tenancy::{Database, TenancyError},
};

pub use attached::{Attached, NewRefreshToken};
pub use idempotency::IdempotencyKey;
pub use masquerade::Within;

/// What can go wrong between a command and its answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The command was decided and refused.
    #[error("refused: {error}")]
    Refused {
        /// The rule that refused it.
        error: DomainError,
        /// Whether this is the answer of an earlier request under the same idempotency key.
        replayed: bool,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used with another request")]
    KeyReused,
    /// A request under the same idempotency key is being decided.
    #[error("a request under this idempotency key is in flight")]
    KeyInFlight,
    /// PostgreSQL is away or refused; nothing was written, or it is unknown whether it was (repeat it under the
    /// same idempotency key).
    #[error("{attempted}")]
    Database {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// Connecting or entering the schema failed.
    #[error("enter the log's schema")]
    Tenancy(#[source] Box<TenancyError>),
    /// What is stored is not what was written.
    #[error("the log holds {what} at position {position}")]
    Corrupt {
        /// What was found.
        what: &'static str,
        /// Where.
        position: i64,
        /// Details.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A personal value could not be sealed or unsealed.
    #[error("{0}")]
    Sealing(&'static str),
    /// The process is shutting down.
    #[error("shutting down")]
    ShuttingDown,
    /// The batch this command was in failed for a reason that is logged once, there.
    #[error("the batch failed: {0}")]
    BatchFailed(&'static str),
}

impl StoreError {
    pub(crate) fn db(attempted: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { attempted, source }
    }

    /// The name of the database constraint that was violated, if that is what happened.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => error.constraint(),
            _ => None,
        }
    }
}

impl From<TenancyError> for StoreError {
    fn from(error: TenancyError) -> Self {
        Self::Tenancy(Box::new(error))
    }
}

impl From<DomainError> for StoreError {
    fn from(error: DomainError) -> Self {
        Self::Refused { error, replayed: false }
    }
}

/// What a command brings.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Something to decide here, under the head's lock.
    Ask(AnyCommand),
    /// Events that a cqrs-es framework decided on the state at the expected sequence.
    Decided(Vec<AnyEvent>),
    /// Carry the state over a position, so that the events up to it can be pruned. Nothing where that is not needed.
    CarryOver {
        /// The position.
        cut: i64,
    },
}

/// One command to one aggregate.
#[derive(Clone, Debug)]
pub struct Command {
    /// The aggregate.
    pub id: Uuid,
    /// The aggregate's type.
    pub aggregate_type: AggregateType,
    /// What is asked.
    pub intent: Intent,
    /// The sequence the caller saw last (`If-Match`); another one is refused.
    pub expected: Option<i64>,
    /// The id was made for this command, so its stream is not looked for.
    pub fresh: bool,
}

impl Command {
    /// A command to a new aggregate whose id was just made.
    pub fn create(id: impl Into<Uuid>, command: impl Into<AnyCommand>) -> Self {
        Self { fresh: true, ..Self::to(id, command) }
    }

    /// A command to an aggregate.
    pub fn to(id: impl Into<Uuid>, command: impl Into<AnyCommand>) -> Self {
        let command = command.into();
        Self {
            id: id.into(),
            aggregate_type: command.aggregate_type(),
            intent: Intent::Ask(command),
            expected: None,
            fresh: false,
        }
    }

    /// Events already decided on the state at `sequence`; refused when the aggregate has moved on.
    pub fn decided(id: Uuid, aggregate_type: AggregateType, sequence: i64, events: Vec<AnyEvent>) -> Self {
        Self { id, aggregate_type, intent: Intent::Decided(events), expected: Some(sequence), fresh: false }
    }

    /// Carries an aggregate over a position, so that its events up to there can be pruned.
    pub fn carry_over(stream: StreamRef, cut: i64) -> Self {
        Self {
            id: stream.id,
            aggregate_type: stream.aggregate_type,
            intent: Intent::CarryOver { cut },
            expected: None,
            fresh: false,
        }
    }

    /// Refuses the command unless the aggregate is at this sequence.
    #[must_use]
    pub fn expecting(mut self, sequence: Option<i64>) -> Self {
        self.expected = sequence;
        self
    }
}

/// Commands that happen together or not at all, with who asks and why.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The commands, decided in order, each seeing the effects of those before it.
    pub commands: Vec<Command>,
    /// Who, why, from where.
    pub metadata: Metadata,
    /// When it happened, for imported history; otherwise the database's clock is taken.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The key under which it may be repeated.
    pub idempotency: Option<IdempotencyKey>,
    /// What is written beside the events, if there are any.
    pub attached: Vec<Attached>,
    /// The support session or hijack it is asked in: refused when that is over at the time of the decision.
    pub within: Option<Within>,
}

impl Unit {
    /// A unit of one command.
    pub fn of(command: Command, metadata: Metadata) -> Self {
        Self {
            commands: vec![command],
            metadata,
            occurred_at: None,
            idempotency: None,
            attached: Vec::new(),
            within: None,
        }
    }

    /// With something that is written beside its events.
    #[must_use]
    pub fn attach(mut self, attached: Attached) -> Self {
        self.attached.push(attached);
        self
    }
}

/// One aggregate after a command.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The aggregate.
    pub id: Uuid,
    /// Its sequence now: the version of an `ETag`.
    pub sequence: i64,
    /// Its state now.
    pub state: AnyState,
}

/// The most receipts of one unit.
pub const MAX_RECEIPTS: usize = 16;

/// What whoever gave a command keeps of an event of it: with a proof that this leaf is in the tree, that the event is
/// still the one that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's position.
    pub position: i64,
    /// The hash of its leaf (RFC 6962).
    pub leaf_hash: [u8; 32],
}

/// A unit that is in the log.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The first position it wrote; one past `last_position` when it decided nothing new.
    pub first_position: i64,
    /// The log's position after it.
    pub last_position: i64,
    /// When it was recorded, by the database's clock.
    pub recorded_at: DateTime<Utc>,
    /// The aggregate of each command, in order.
    pub changed: Vec<Changed>,
    /// Whether this is the answer of an earlier request under the same idempotency key.
    pub replayed: bool,
    /// Of its last events, at most [`MAX_RECEIPTS`], in order.
    pub receipts: Vec<Receipt>,
}

/// A unit in a lane's queue, with whoever waits for it.
pub(crate) struct Pending {
    pub unit: Unit,
    pub reply: oneshot::Sender<Result<Committed, StoreError>>,
    /// Released when the unit is answered, also when the caller has gone away.
    pub key_guard: Option<KeyGuard>,
}

/// Marks an idempotency key as in flight in this process.
pub(crate) struct KeyGuard {
    store: Arc<Inner>,
    key: (Schema, String, String),
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.store.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Executes commands and reads streams of every log.
#[derive(Clone)]
pub struct EventStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub database: Database,
    pub keys: Arc<Keys>,
    pub settings: StoreSettings,
    admission: Admission,
    claims: Arc<ClaimBudget>,
    lanes: Mutex<Lanes>,
    in_flight: Mutex<HashSet<(Schema, String, String)>>,
    heads: Mutex<HashMap<Schema, watch::Sender<i64>>>,
}

#[derive(Default)]
struct Lanes {
    open: HashMap<Schema, mpsc::Sender<Pending>>,
    tasks: tokio::task::JoinSet<()>,
    closed: bool,
}

/// Sizes of the write path.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The most units one transaction takes.
    pub max_batch: usize,
    /// The most batches, of as many logs, in progress at once; twice as many while they are of single commands.
    pub concurrent_batches: usize,
    /// The most units that wait in one log's queue; further callers wait to enter it.
    pub queue: usize,
    /// The most claims that all lanes together keep in memory, each some 190 bytes; twice as many in the worst case.
    pub claims: usize,
    /// How long an idle lane keeps its caches.
    pub idle: Duration,
    /// How long an idempotency key is kept.
    pub idempotency_hours: i64,
    /// Sequence distance between snapshots of one stream.
    pub snapshot_every: i64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            max_batch: 256,
            concurrent_batches: 6,
            queue: 1024,
            claims: 250_000,
            idle: Duration::from_secs(300),
            idempotency_hours: 48,
            snapshot_every: 50,
        }
    }
}

impl EventStore {
    /// A store over a database.
    pub fn new(database: Database, keys: Arc<Keys>, settings: StoreSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                keys,
                admission: Admission::new(settings.concurrent_batches),
                claims: Arc::new(ClaimBudget::new(settings.claims)),
                settings,
                lanes: Mutex::default(),
                in_flight: Mutex::default(),
                heads: Mutex::default(),
            }),
        }
    }

    /// The database it writes to.
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// The keys that seal personal values.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.inner.keys
    }

    /// Decides a unit and appends its events; returns once they are durable.
    ///
    /// Dropping the future does not undo the unit: it is decided and answered into the void.
    ///
    /// # Errors
    /// A refusal, or a failure after which the same unit may be repeated under its idempotency key.
    pub async fn execute(&self, schema: &Schema, unit: Unit) -> Result<Committed, StoreError> {
        self.submit(schema, unit).await?.await.map_err(|_| StoreError::ShuttingDown)?
    }

    /// Queues a unit and returns at once; units submitted one after the other are decided in that order.
    ///
    /// # Errors
    /// When its idempotency key is in flight here, or the process is shutting down.
    pub async fn submit(
        &self,
        schema: &Schema,
        unit: Unit,
    ) -> Result<oneshot::Receiver<Result<Committed, StoreError>>, StoreError> {
        let key_guard = match &unit.idempotency {
            None => None,
            Some(key) => {
                let key = (schema.clone(), key.scope.clone(), key.key.clone());
                let mut in_flight = self.inner.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
                if !in_flight.insert(key.clone()) {
                    return Err(StoreError::KeyInFlight);
                }
                Some(KeyGuard { store: self.inner.clone(), key })
            }
        };
        let (reply, answer) = oneshot::channel();
        let mut pending = Pending { unit, reply, key_guard };
        loop {
            let lane = self.lane(schema)?;
            match lane.send(pending).await {
                Ok(()) => return Ok(answer),
                // The lane went idle between the look-up and the send.
                Err(mpsc::error::SendError(returned)) => pending = returned,
            }
        }
    }

    fn lane(&self, schema: &Schema) -> Result<mpsc::Sender<Pending>, StoreError> {
        let mut lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.closed {
            return Err(StoreError::ShuttingDown);
        }
        if let Some(lane) = lanes.open.get(schema)
            && !lane.is_closed()
        {
            return Ok(lane.clone());
        }
        let (sender, receiver) = mpsc::channel(self.inner.settings.queue);
        lanes.open.insert(schema.clone(), sender.clone());
        while lanes.tasks.try_join_next().is_some() {}
        lanes.tasks.spawn(lane::run(self.clone(), schema.clone(), receiver));
        Ok(sender)
    }

    /// Removes an idle lane, unless a unit has arrived meanwhile.
    pub(crate) fn retire_lane(&self, schema: &Schema, receiver: &mut mpsc::Receiver<Pending>) -> bool {
        let mut lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if !receiver.is_empty() {
            return false;
        }
        lanes.open.remove(schema);
        receiver.close();
        receiver.is_empty()
    }

    /// The position this process last wrote or saw, as a channel to wait on.
    pub fn head_watch(&self, schema: &Schema) -> watch::Receiver<i64> {
        let mut heads = self.inner.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.entry(schema.clone()).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    pub(crate) fn head_moved(&self, schema: &Schema, position: i64) {
        let mut heads = self.inner.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.entry(schema.clone()).or_insert_with(|| watch::channel(0).0).send_if_modified(|head| {
            let moved = position > *head;
            *head = position.max(*head);
            moved
        });
    }

    /// Takes no more units, decides those that are queued, and returns when all are answered.
    pub async fn shutdown(&self) {
        let mut tasks = {
            let mut lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.closed = true;
            lanes.open.clear();
            std::mem::take(&mut lanes.tasks)
        };
        while tasks.join_next().await.is_some() {}
    }
}

/// A reference to one aggregate's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamRef {
    /// The aggregate's type.
    pub aggregate_type: AggregateType,
    /// The aggregate's id.
    pub id: Uuid,
}
