//! The private PostgreSQL: the default when no `DATABASE_URL` is given.
//!
//! It runs from the binaries that the system has installed, on a cluster in the data directory:
//!
//! ```text
//! <data_dir>/pg                    the cluster (0700)
//! <data_dir>/run                   its unix socket (0700)
//! <data_dir>/pg.log                its log
//! <data_dir>/pg-credentials.toml   the passwords of its roles (0600)
//! <data_dir>/daybook.lock, pg.lock, pg.users    who uses it, see `locks.rs`
//! ```
//!
//! It stops with the last daybook that uses it. It survives a daybook that was killed: the next one adopts
//! it. When it is killed itself, the server's [`EmbeddedPostgres::supervise`] starts it again, on the same
//! socket, so that connection pools recover. Started by root it runs as the user `postgres`.
//!
//! Deliberately absent: downloads (the package manager's business), upgrades between major versions (dump
//! and restore), Windows.

mod account;
mod binaries;
mod cluster;
mod credentials;
mod error;
mod host;
mod layout;
mod locks;
mod process;

use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::postgres::PgConnectOptions;

pub use self::{
    account::Account,
    binaries::{Binaries, OLDEST_MAJOR},
    cluster::keep_roles,
    error::EmbeddedPgError,
};
use self::{
    credentials::Credentials,
    host::{Host, Running},
    layout::Layout,
    locks::{ServerLock, TransitionLock, UserLock},
};

/// The database.
pub const DATABASE: &str = "daybook";
/// Owns the database; migrates it and creates the tenants' roles.
pub const OWNER_ROLE: &str = "daybook_owner";
/// Serves requests; owns nothing and inherits nothing.
pub const APP_ROLE: &str = "daybook_app";

const SUPERUSER: &str = "postgres";

/// A shutdown writes a checkpoint: at most `shared_buffers` to disk.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long another daybook may take to start or stop the server: a recovery after a crash.
const TRANSITION_LIMIT: Duration = Duration::from_secs(330);
/// How often the supervisor looks.
const SUPERVISE_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A server that ran this long was well.
const SETTLED: Duration = Duration::from_secs(60);

/// One use of the private PostgreSQL; it runs as long as there is one.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    host: Host,
    running: Mutex<Running>,
    /// Taken when the use ends.
    claims: Mutex<Option<Claims>>,
}

#[derive(Debug)]
struct Claims {
    user: UserLock,
    /// Only the server has it. Released after the user lock.
    _server: Option<ServerLock>,
}

impl EmbeddedPostgres {
    /// For the server, of which a data directory has one. Makes the cluster the first time, adopts a
    /// PostgreSQL that a killed daybook left running, recovers from a crash.
    ///
    /// # Errors
    /// [`EmbeddedPgError::InUse`] when another server has the directory; otherwise when PostgreSQL is not
    /// installed or does not start.
    pub async fn start(data_dir: &Path) -> Result<Self, EmbeddedPgError> {
        Self::open(data_dir, true).await
    }

    /// For a command, of which any number may run, beside a server or alone: uses the PostgreSQL that runs,
    /// or starts it. It is stopped by the last who uses it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub async fn join(data_dir: &Path) -> Result<Self, EmbeddedPgError> {
        Self::open(data_dir, false).await
    }

    async fn open(data_dir: &Path, exclusive: bool) -> Result<Self, EmbeddedPgError> {
        let layout = Layout::prepare(data_dir)?;
        let account = if layout.cluster_exists() {
            Account::for_cluster(&layout.cluster)?
        } else {
            Account::for_new_cluster()?
        };
        let server = if exclusive { Some(ServerLock::acquire(&layout.data_dir).await?) } else { None };
        let _transition = TransitionLock::acquire(&layout.data_dir, TRANSITION_LIMIT).await?;
        let user = UserLock::acquire(&layout.data_dir)?;
        if let Some(account) = &account {
            account.admit(&layout.data_dir)?;
        }
        let credentials = Credentials::load_or_create(&layout.credentials, layout.cluster_exists())?;
        if !layout.cluster_exists() {
            let binaries = Binaries::find()?;
            tracing::info!(data_dir = %layout.data_dir.display(), "making a private PostgreSQL");
            cluster::create(&layout, &binaries, account.as_ref(), &credentials).await?;
        }
        let host = Host { layout, account, credentials, stopping: AtomicBool::new(false) };
        let running = host.bring_up(None).await?;
        let superuser = host.superuser(&running.endpoint);
        // From here on an error, or nobody waiting any more, ends the use: that is what drop does.
        let postgres = Self {
            host,
            running: Mutex::new(running),
            claims: Mutex::new(Some(Claims { user, _server: server })),
        };
        cluster::provision(&superuser, &postgres.host.credentials).await?;
        Ok(postgres)
    }

    /// How to connect as the role that owns the database.
    #[must_use]
    pub fn owner_options(&self) -> PgConnectOptions {
        self.host.owner(&self.running().endpoint)
    }

    /// How to connect as the role that serves requests.
    #[must_use]
    pub fn app_options(&self) -> PgConnectOptions {
        self.host.app(&self.running().endpoint)
    }

    /// How to connect as the superuser; for backups and repairs, nothing in the server needs it.
    #[must_use]
    pub fn superuser_options(&self) -> PgConnectOptions {
        self.host.superuser(&self.running().endpoint).database(DATABASE)
    }

    /// The postmaster's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.running().postmaster.pid
    }

    /// Whether the postmaster runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running().postmaster.is_running()
    }

    /// Starts PostgreSQL again whenever it ends without being told to. Runs until [`Self::stop`]; for the
    /// server, beside everything else.
    pub async fn supervise(&self) {
        let mut backoff = Duration::ZERO;
        let mut up_since = Instant::now();
        loop {
            tokio::time::sleep(SUPERVISE_INTERVAL).await;
            if self.is_stopping() {
                return;
            }
            if self.is_running() {
                continue;
            }
            if up_since.elapsed() > SETTLED {
                backoff = Duration::ZERO;
            }
            tracing::error!(
                pid = self.pid(),
                backoff_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX),
                "PostgreSQL ended unexpectedly; starting it again"
            );
            self.pause(backoff).await;
            backoff = (backoff * 2).clamp(Duration::from_millis(500), LONGEST_BACKOFF);
            match self.restart().await {
                Ok(()) => tracing::warn!(pid = self.pid(), "PostgreSQL runs again"),
                Err(EmbeddedPgError::Stopping) => return,
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "PostgreSQL could not be started again"
                ),
            }
            up_since = Instant::now();
        }
    }

    /// Ends this use, and shuts PostgreSQL down (sessions are ended, a checkpoint is written) when it was
    /// the last. Doing it again does nothing.
    ///
    /// # Errors
    /// When PostgreSQL does not end in time.
    pub async fn stop(&self) -> Result<(), EmbeddedPgError> {
        self.host.stopping.store(true, Ordering::SeqCst);
        let _transition = TransitionLock::acquire(&self.host.layout.data_dir, TRANSITION_LIMIT).await?;
        let Some(Claims { user, _server }) = self.take_claims() else { return Ok(()) };
        if !user.was_last() {
            tracing::debug!("another daybook still uses PostgreSQL; it goes on");
            return Ok(());
        }
        self.running().postmaster.interrupt();
        if self.ended_within(STOP_LIMIT).await {
            tracing::info!("PostgreSQL is stopped");
            return Ok(());
        }
        tracing::warn!(pid = self.pid(), "PostgreSQL does not shut down; ending it without a checkpoint");
        self.running().postmaster.quit();
        if self.ended_within(Duration::from_secs(10)).await {
            return Ok(());
        }
        Err(EmbeddedPgError::StopTimeout { pid: self.pid(), seconds: STOP_LIMIT.as_secs() + 10 })
    }

    async fn restart(&self) -> Result<(), EmbeddedPgError> {
        let _transition = TransitionLock::acquire(&self.host.layout.data_dir, TRANSITION_LIMIT).await?;
        if self.is_stopping() {
            return Err(EmbeddedPgError::Stopping);
        }
        let known = self.running().endpoint.clone();
        let running = self.host.bring_up(Some(&known)).await?;
        *self.running() = running;
        Ok(())
    }

    async fn ended_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Sleeps, but not past a stop.
    async fn pause(&self, length: Duration) {
        let deadline = Instant::now() + length;
        while Instant::now() < deadline && !self.is_stopping() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn is_stopping(&self) -> bool {
        self.host.stopping.load(Ordering::SeqCst)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // Nothing panics while it is held, and a process handle has no broken state.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_claims(&self) -> Option<Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for EmbeddedPostgres {
    /// Best effort, for errors and panics; [`EmbeddedPostgres::stop`] is the way.
    fn drop(&mut self) {
        let Some(Claims { user, _server }) = self.take_claims() else { return };
        let transition = TransitionLock::try_acquire(&self.host.layout.data_dir);
        // While another daybook starts or stops it, it is in that one's hands.
        if !matches!(transition, Ok(Some(_))) || !user.was_last() {
            return;
        }
        let postmaster = &mut self.running().postmaster;
        postmaster.interrupt();
        let deadline = Instant::now() + Duration::from_secs(5);
        while postmaster.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
