//! Connections that serve one transaction after another, each in any tenant's schema.
//!
//! Not a [`sqlx::PgPool`], which asks PostgreSQL after every use whether the connection still answers: a round trip
//! and a task for each read. It also hands out the connection that was idle the longest, so that each one meets
//! another tenant's search path all the time, and PostgreSQL plans its statements anew. Here a caller gets the
//! connection that last served its schema, if there is one; else the one that nobody missed for the longest.
//!
//! While callers wait for connections, reads of one tenant from one place in the code take turns in one transaction
//! ([`Turn`]): to begin and to roll back one for each costs PostgreSQL about as much as the read does.

use std::{
    collections::VecDeque,
    future::Future,
    io::ErrorKind,
    ops::{Deref, DerefMut},
    panic::Location,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use daybook_projections::Schema;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, TransactionManager as _, postgres::PgConnectOptions,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::tx::Manager;

/// Connections that stay open however quiet it is.
const KEPT: usize = 4;
/// How long further ones stay open unused.
const IDLE: Duration = Duration::from_secs(60);
/// How long a connection is used at all: PostgreSQL keeps what it learnt of every schema until the connection ends.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long what was left running may take to end. Statements have a shorter limit of their own.
const SETTLE: Duration = Duration::from_secs(60);
/// How long reads take turns in one transaction: for so long whoever alters a table waits for its locks, and so old is
/// its `now()` at most.
const TURNS: Duration = Duration::from_millis(100);
/// Between attempts to reach a PostgreSQL that is starting.
const RETRY: Duration = Duration::from_millis(50);

/// A pool of connections of one login role. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    size: u32,
    patience: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Idle {
    /// By when they became idle, the latest at the back.
    open: VecDeque<Open>,
    /// How many callers wait for a connection. No more connections than that are in a transaction.
    waiting: usize,
}

#[derive(Debug)]
struct Open {
    connection: PgConnection,
    /// What it served last.
    schema: Option<Schema>,
    /// The transaction it is in, while it is idle.
    turn: Option<Turn>,
    opened: Instant,
    idle_since: Instant,
}

/// A `READ ONLY`, `READ COMMITTED` transaction in a schema's role, in which reads from one place in the code follow each
/// other: each sees what is committed when it begins, as it would in a transaction of its own.
///
/// From one place, as what such a read locks stays locked until the transaction ends. Others would add theirs, in
/// another order than whoever alters several tables, and each would wait for the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    place: &'static Location<'static>,
    since: Instant,
}

impl Turn {
    /// Of a transaction that begins now, for reads from this place.
    pub(super) fn new(place: &'static Location<'static>) -> Self {
        Self { place, since: Instant::now() }
    }

    /// Whether another read may follow.
    pub(super) fn goes_on(self) -> bool {
        self.since.elapsed() < TURNS
    }
}

/// A connection while it is used.
#[derive(Debug)]
pub struct Pooled {
    /// Some until it is dropped.
    open: Option<Open>,
    pool: Arc<Inner>,
    permit: Option<OwnedSemaphorePermit>,
    fate: Fate,
    reused: bool,
}

/// A caller that waits for a connection, until it has one or waits no more.
struct Waiting<'a>(Option<&'a Inner>);

/// What becomes of a connection that is dropped.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Others may have it at once, in the transaction in which it is if they can use that.
    InTurn(Turn),
    /// Others may have it at once: every statement was run to its end.
    Reuse,
    /// Others may have it when what was left running has ended.
    Settle,
    /// Nobody may have it.
    Close,
}

impl Pool {
    /// A pool of at most `size` connections, none of them open yet. A caller waits for one as long as `patience`.
    pub fn new(options: PgConnectOptions, size: u32, patience: Duration) -> Self {
        let size = size.max(1);
        let inner = Arc::new(Inner {
            options,
            size,
            patience,
            permits: Arc::new(Semaphore::new(size as usize)),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        if let Ok(runtime) = Handle::try_current() {
            let pool = Arc::downgrade(&inner);
            runtime.spawn(async move {
                loop {
                    sleep(IDLE / 2).await;
                    let Some(pool) = pool.upgrade() else { break };
                    pool.close_unused().await;
                }
            });
        }
        Self { inner }
    }

    /// The most connections it opens.
    pub fn size(&self) -> u32 {
        self.inner.size
    }

    /// How many are open and unused.
    pub fn idle(&self) -> usize {
        self.inner.idle().open.len()
    }

    /// A connection, best one that last served this schema, in no transaction.
    ///
    /// # Errors
    /// When none is free in time, PostgreSQL cannot be reached, or the pool is closed.
    pub async fn acquire(&self, schema: Option<&Schema>) -> Result<Pooled, sqlx::Error> {
        Ok(self.acquire_for(schema, None).await?.0)
    }

    /// The same, for a read from this place in the code: perhaps one that is in a transaction for such reads.
    pub(super) async fn acquire_for(
        &self,
        schema: Option<&Schema>,
        place: Option<&'static Location<'static>>,
    ) -> Result<(Pooled, Option<Turn>), sqlx::Error> {
        timeout(self.inner.patience, self.take(schema, place)).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn take(
        &self,
        schema: Option<&Schema>,
        place: Option<&'static Location<'static>>,
    ) -> Result<(Pooled, Option<Turn>), sqlx::Error> {
        let inner = &self.inner;
        let (permit, idle) = match inner.permits.clone().try_acquire_owned() {
            Ok(permit) => (permit, inner.idle().take(schema, place)),
            Err(_) => {
                let waiting = Waiting::begin(inner);
                let permit =
                    inner.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
                (permit, waiting.end(schema, place))
            }
        };
        if inner.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        let reused = idle.is_some();
        let mut open = match idle {
            Some(open) => open,
            None => inner.connect().await?,
        };
        let turn = open.turn.take();
        if open.schema.as_ref() != schema {
            open.schema = schema.cloned();
        }
        let pool = inner.clone();
        Ok((Pooled { open: Some(open), pool, permit: Some(permit), fate: Fate::Settle, reused }, turn))
    }

    /// Gives out no more connections, waits for those that are used, and closes all.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        // Whoever still has one at the end of that time closes it by giving it back.
        let _ = timeout(self.inner.patience, self.inner.permits.acquire_many(self.inner.size)).await;
        self.inner.permits.close();
        let idle = std::mem::take(&mut self.inner.idle().open);
        for open in idle {
            close(open.connection).await;
        }
    }
}

impl Idle {
    fn take(&mut self, schema: Option<&Schema>, place: Option<&'static Location<'static>>) -> Option<Open> {
        let served = |open: &Open| open.schema.as_ref() == schema;
        let in_turn = |open: &Open| served(open) && open.turn.is_some_and(|turn| Some(turn.place) == place);
        let at =
            self.open.iter().rposition(in_turn).or_else(|| self.open.iter().rposition(served)).unwrap_or(0);
        let mut open = self.open.remove(at)?;
        if !(in_turn(&open) && open.turn.is_some_and(Turn::goes_on)) {
            open.end_turn();
        }
        Some(open)
    }

    /// Ends the transactions that nobody waits for.
    fn end_unawaited(&mut self) {
        let mut surplus =
            self.open.iter().filter(|open| open.turn.is_some()).count().saturating_sub(self.waiting);
        self.open.retain_mut(|open| {
            if surplus == 0 || open.turn.is_none() {
                return true;
            }
            surplus -= 1;
            open.end_turn();
            // Its answer is read by the next user, together with that to its own first words.
            !matches!(poll_once(open.connection.flush()), Poll::Ready(Err(_)))
        });
    }
}

impl Open {
    /// Ends the transaction it is in: its end is sent before anything else is.
    fn end_turn(&mut self) {
        if self.turn.take().is_some() {
            Manager::start_rollback(&mut self.connection);
        }
    }
}

impl<'a> Waiting<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.idle().waiting += 1;
        Self(Some(inner))
    }

    /// Takes an idle connection.
    fn end(mut self, schema: Option<&Schema>, place: Option<&'static Location<'static>>) -> Option<Open> {
        let mut idle = self.0.take()?.idle();
        idle.waiting -= 1;
        let taken = idle.take(schema, place);
        idle.end_unawaited();
        taken
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(inner) = self.0.take() else { return };
        let mut idle = inner.idle();
        idle.waiting -= 1;
        idle.end_unawaited();
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, and waits for a PostgreSQL that is just starting as long as the caller does.
    async fn connect(&self) -> Result<Open, sqlx::Error> {
        loop {
            match self.options.connect().await {
                Ok(connection) => {
                    let now = Instant::now();
                    return Ok(Open { connection, schema: None, turn: None, opened: now, idle_since: now });
                }
                Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(sqlx::Error::Database(error)) if error.is_transient_in_connect_phase() => {}
                Err(error) => return Err(error),
            }
            sleep(RETRY).await;
        }
    }

    fn give_back(&self, mut open: Open) {
        if self.closed.load(Ordering::Acquire) || open.opened.elapsed() > LIFETIME {
            return;
        }
        open.idle_since = Instant::now();
        let mut idle = self.idle();
        idle.open.push_back(open);
        idle.end_unawaited();
    }

    async fn close_unused(&self) {
        loop {
            let unused = {
                let mut idle = self.idle();
                let many = idle.open.len() > KEPT;
                if many && idle.open.front().is_some_and(|open| open.idle_since.elapsed() > IDLE) {
                    idle.open.pop_front()
                } else {
                    None
                }
            };
            let Some(open) = unused else { return };
            close(open.connection).await;
        }
    }
}

impl Pooled {
    /// Whether it had been used before, and may have broken since without anyone noticing.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Every statement was run to its end: others may have it as soon as it is dropped.
    pub(super) fn is_done(&mut self) {
        self.fate = Fate::Reuse;
    }

    /// Every statement was run to its end, and the next read may follow in the same transaction.
    pub(super) fn stays_in(&mut self, turn: Turn) {
        self.fate = Fate::InTurn(turn);
    }

    /// Nobody may have it: what state it is in is not known.
    pub(super) fn is_lost(&mut self) {
        self.fate = Fate::Close;
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let (Some(mut open), Some(permit)) = (self.open.take(), self.permit.take()) else { return };
        let fate = match self.fate {
            Fate::Close | Fate::InTurn(_) => self.fate,
            // Sends what is queued: an idle connection must not wait with a rollback for its next user.
            fate => match (poll_once(open.connection.flush()), fate) {
                (Poll::Ready(Ok(())), _) => Fate::Reuse,
                (Poll::Ready(Err(_)), _) => Fate::Close,
                // The answer is read by the next user, together with that to its own first words.
                (Poll::Pending, Fate::Reuse) if !open.connection.should_flush() => Fate::Reuse,
                (Poll::Pending, _) => Fate::Settle,
            },
        };
        match (fate, Handle::try_current()) {
            (Fate::Reuse, _) => self.pool.give_back(open),
            (Fate::InTurn(turn), _) => {
                open.turn = Some(turn);
                self.pool.give_back(open);
            }
            (Fate::Settle, Ok(runtime)) => {
                let pool = self.pool.clone();
                runtime.spawn(async move {
                    // The permit is held meanwhile, so that PostgreSQL never has more to do than allowed.
                    let _permit = permit;
                    match timeout(SETTLE, open.connection.flush()).await {
                        Ok(Ok(())) => pool.give_back(open),
                        Ok(Err(error)) => {
                            tracing::warn!(%error, "a connection broke while it was given back")
                        }
                        Err(_) => tracing::warn!("a connection was given back in use and did not settle"),
                    }
                });
            }
            // Dropping it closes the socket, and PostgreSQL rolls back.
            (Fate::Settle, Err(_)) | (Fate::Close, _) => {}
        }
    }
}

#[expect(clippy::expect_used, reason = "only dropping takes the connection out")]
impl Deref for Pooled {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.open.as_ref().expect("it is taken out when this is dropped").connection
    }
}

#[expect(clippy::expect_used, reason = "only dropping takes the connection out")]
impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.open.as_mut().expect("it is taken out when this is dropped").connection
    }
}

async fn close(connection: PgConnection) {
    // A connection that cannot even be told to end is as good as closed.
    let _ = timeout(Duration::from_secs(1), connection.close()).await;
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}
