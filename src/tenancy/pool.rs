//! Connections that serve one transaction after another, each in any tenant's schema.
//!
//! Not a [`sqlx::PgPool`], which asks PostgreSQL after every use whether the connection still answers: a round trip
//! and a task for each read. It also hands out the connection that was idle the longest, so that each one meets
//! another tenant's search path all the time, and PostgreSQL plans its statements anew. Here a caller gets the
//! connection that last served its schema, if there is one; else the one that nobody missed for the longest.
//!
//! Reads of one tenant from one place in the code that follow each other closely take turns in one transaction ([`Turn`]): to
//! begin and to roll back one for each costs PostgreSQL about as much as the read does.

use std::{
    collections::VecDeque,
    future::Future,
    io::ErrorKind,
    ops::{Deref, DerefMut},
    panic::Location,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
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
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
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
/// How long such a transaction waits for the next read.
const LINGER: Duration = Duration::from_millis(5);
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
    /// By when they became idle, the latest at the back.
    idle: Mutex<VecDeque<Open>>,
    closed: AtomicBool,
    /// Told of each connection that is idle in a transaction. None where nobody would listen.
    lingering: Option<Arc<Notify>>,
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
        let runtime = Handle::try_current().ok();
        let lingering: Option<Arc<Notify>> = runtime.as_ref().map(|_| Arc::default());
        let inner = Arc::new(Inner {
            options,
            size,
            patience,
            permits: Arc::new(Semaphore::new(size as usize)),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
            lingering: lingering.clone(),
        });
        if let (Some(runtime), Some(lingering)) = (runtime, lingering) {
            let pool = Arc::downgrade(&inner);
            runtime.spawn(async move {
                loop {
                    sleep(IDLE / 2).await;
                    let Some(pool) = pool.upgrade() else { break };
                    pool.close_unused().await;
                }
            });
            runtime.spawn(end_lingering(Arc::downgrade(&inner), lingering));
        }
        Self { inner }
    }

    /// The most connections it opens.
    pub fn size(&self) -> u32 {
        self.inner.size
    }

    /// How many are open and unused.
    pub fn idle(&self) -> usize {
        self.inner.idle().len()
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
        let permit = inner.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        if inner.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        let idle = inner.take_idle(schema, place);
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
        let idle = std::mem::take(&mut *self.inner.idle());
        for open in idle {
            close(open.connection).await;
        }
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

impl Inner {
    fn idle(&self) -> MutexGuard<'_, VecDeque<Open>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self, schema: Option<&Schema>, place: Option<&'static Location<'static>>) -> Option<Open> {
        let served = |open: &Open| open.schema.as_ref() == schema;
        let in_turn = |open: &Open| {
            served(open) && open.turn.is_some_and(|turn| Some(turn.place) == place && turn.goes_on())
        };
        let mut idle = self.idle();
        let at = idle
            .iter()
            .rposition(in_turn)
            // Others may yet follow in a transaction for another place.
            .or_else(|| idle.iter().rposition(|open| served(open) && open.turn.is_none()))
            .or_else(|| idle.iter().rposition(served))
            .unwrap_or(0);
        let mut open = idle.remove(at)?;
        drop(idle);
        if !in_turn(&open) {
            open.end_turn();
        }
        Some(open)
    }

    /// Ends the transactions that no read has followed in; whether there are others.
    fn end_turns(&self) -> bool {
        let mut idle = self.idle();
        idle.retain_mut(|open| {
            if open.turn.is_none() || open.idle_since.elapsed() < LINGER {
                return true;
            }
            open.end_turn();
            // Its answer is read by the next user, together with that to its own first words.
            !matches!(poll_once(open.connection.flush()), Poll::Ready(Err(_)))
        });
        idle.iter().any(|open| open.turn.is_some())
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
        let in_turn = open.turn.is_some();
        self.idle().push_back(open);
        if let (true, Some(lingering)) = (in_turn, &self.lingering) {
            lingering.notify_one();
        }
    }

    async fn close_unused(&self) {
        loop {
            let unused = {
                let mut idle = self.idle();
                let many = idle.len() > KEPT;
                if many && idle.front().is_some_and(|open| open.idle_since.elapsed() > IDLE) {
                    idle.pop_front()
                } else {
                    None
                }
            };
            let Some(open) = unused else { return };
            close(open.connection).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(lingering) = &self.lingering {
            lingering.notify_one();
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

    /// Every statement was run to its end, and the next read may follow in the same transaction. Whether one can: where nobody
    /// sees to its end, or it has gone on for long, it has to end now.
    pub(super) fn stays_in(&mut self, turn: Turn) -> bool {
        let stays = self.pool.lingering.is_some() && turn.goes_on();
        if stays {
            self.fate = Fate::InTurn(turn);
        }
        stays
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

/// Sees to it that no connection stays in a transaction that nobody uses.
async fn end_lingering(pool: Weak<Inner>, lingering: Arc<Notify>) {
    loop {
        lingering.notified().await;
        loop {
            sleep(LINGER).await;
            let Some(pool) = pool.upgrade() else { return };
            if !pool.end_turns() {
                break;
            }
        }
    }
}

async fn close(connection: PgConnection) {
    // A connection that cannot even be told to end is as good as closed.
    let _ = timeout(Duration::from_secs(1), connection.close()).await;
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}
