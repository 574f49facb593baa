//! Connections that serve one transaction after another, each in any tenant's schema.
//!
//! Not a [`sqlx::PgPool`], which asks PostgreSQL after every use whether the connection still answers: a round trip
//! and a task for each read. It also hands out the connection that was idle the longest, so that each one meets
//! another tenant's search path all the time, and PostgreSQL plans its statements anew. Here a caller gets the
//! connection that last served its schema, if there is one; else the one that nobody missed for the longest.

use std::{
    collections::VecDeque,
    future::Future,
    io::ErrorKind,
    ops::{Deref, DerefMut},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use daybook_projections::Schema;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// Connections that stay open however quiet it is.
const KEPT: usize = 4;
/// How long further ones stay open unused.
const IDLE: Duration = Duration::from_secs(60);
/// How long a connection is used at all: PostgreSQL keeps what it learnt of every schema until the connection ends.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long what was left running may take to end. Statements have a shorter limit of their own.
const SETTLE: Duration = Duration::from_secs(60);
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
}

#[derive(Debug)]
struct Open {
    connection: PgConnection,
    /// What it served last.
    schema: Option<Schema>,
    opened: Instant,
    idle_since: Instant,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
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
        self.inner.idle().len()
    }

    /// A connection, best one that last served this schema.
    ///
    /// # Errors
    /// When none is free in time, PostgreSQL cannot be reached, or the pool is closed.
    pub async fn acquire(&self, schema: Option<&Schema>) -> Result<Pooled, sqlx::Error> {
        timeout(self.inner.patience, self.take(schema)).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn take(&self, schema: Option<&Schema>) -> Result<Pooled, sqlx::Error> {
        let permit = self.inner.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        let idle = self.inner.take_idle(schema);
        let reused = idle.is_some();
        let mut open = match idle {
            Some(open) => open,
            None => self.inner.connect().await?,
        };
        if open.schema.as_ref() != schema {
            open.schema = schema.cloned();
        }
        let pool = self.inner.clone();
        Ok(Pooled { open: Some(open), pool, permit: Some(permit), fate: Fate::Settle, reused })
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

impl Inner {
    fn idle(&self) -> MutexGuard<'_, VecDeque<Open>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self, schema: Option<&Schema>) -> Option<Open> {
        let mut idle = self.idle();
        let at = idle.iter().rposition(|open| open.schema.as_ref() == schema).unwrap_or(0);
        idle.remove(at)
    }

    /// Connects, and waits for a PostgreSQL that is just starting as long as the caller does.
    async fn connect(&self) -> Result<Open, sqlx::Error> {
        loop {
            match self.options.connect().await {
                Ok(connection) => {
                    let now = Instant::now();
                    return Ok(Open { connection, schema: None, opened: now, idle_since: now });
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
        self.idle().push_back(open);
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

impl Pooled {
    /// Whether it had been used before, and may have broken since without anyone noticing.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Every statement was run to its end: others may have it as soon as it is dropped.
    pub(super) fn is_done(&mut self) {
        self.fate = Fate::Reuse;
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
            Fate::Close => Fate::Close,
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
