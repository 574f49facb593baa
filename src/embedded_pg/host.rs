//! Bringing the server up: adopt the one that runs, or start one, and know when it is ready.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{
    APP_ROLE, Account, Binaries, DATABASE, EmbeddedPgError, OWNER_ROLE, SUPERUSER, cluster,
    credentials::Credentials,
    layout::Layout,
    process::{Endpoint, Identity, PidFile, Postmaster, await_orphans, identify, log_length, log_tail},
};

/// Recovery after a crash reads at most `max_wal_size`; this is far more than that takes.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// How long a running server may leave us without an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Everything but the running process.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) layout: Layout,
    pub(super) account: Option<Account>,
    pub(super) credentials: Credentials,
    /// Set when it shall not be started again.
    pub(super) stopping: AtomicBool,
}

/// The running process.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) postmaster: Postmaster,
    pub(super) endpoint: Endpoint,
}

impl Host {
    /// A server that answers: the one that runs, or a new one; on `known`, where a former one listened, so
    /// that connection pools find it again. Call with the transition lock held.
    pub(super) async fn bring_up(&self, known: Option<&Endpoint>) -> Result<Running, EmbeddedPgError> {
        if let Some(pid) = PidFile::read_pid(&self.layout) {
            match identify(pid, &self.layout.cluster) {
                Identity::Gone => {}
                Identity::Postmaster => {
                    if let Some(running) = self.adopt(pid).await? {
                        return Ok(running);
                    }
                }
                Identity::Stranger => self.remove_stale_pid_file(pid)?,
            }
        }
        await_orphans(&self.layout).await;
        self.launch(known).await
    }

    pub(super) fn options(
        &self,
        endpoint: &Endpoint,
        role: &str,
        password: &SecretString,
        database: &str,
    ) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&endpoint.socket_directory)
            .port(endpoint.port)
            .username(role)
            .password(password.expose_secret())
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    pub(super) fn superuser(&self, endpoint: &Endpoint) -> PgConnectOptions {
        // Its statements hold passwords.
        self.options(endpoint, SUPERUSER, &self.credentials.superuser_password, "postgres")
            .disable_statement_logging()
    }

    pub(super) fn owner(&self, endpoint: &Endpoint) -> PgConnectOptions {
        self.options(endpoint, OWNER_ROLE, &self.credentials.owner_password, DATABASE)
    }

    pub(super) fn app(&self, endpoint: &Endpoint) -> PgConnectOptions {
        self.options(endpoint, APP_ROLE, &self.credentials.app_password, DATABASE)
    }

    /// The server that runs already, or `None` when it ended while we looked.
    async fn adopt(&self, pid: i32) -> Result<Option<Running>, EmbeddedPgError> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        while identify(pid, &self.layout.cluster) == Identity::Postmaster {
            if let Some(file) = PidFile::read(&self.layout).filter(|file| file.pid == pid && file.ready) {
                let endpoint =
                    Endpoint { socket_directory: file.socket_directory, port: file.port, loopback: true };
                match self.data_directory(&endpoint).await {
                    Ok(directory) if Path::new(&directory) == self.layout.cluster => {
                        tracing::info!(pid, "using the PostgreSQL that already runs in the data directory");
                        let postmaster = Postmaster::adopted(pid, &self.layout);
                        return Ok(Some(Running { postmaster, endpoint }));
                    }
                    Ok(_) => break,
                    Err(error) if is_refusal(&error) => {
                        return Err(EmbeddedPgError::sql("connect to the running server")(error));
                    }
                    Err(error) => tracing::debug!(pid, %error, "the running PostgreSQL does not answer yet"),
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if identify(pid, &self.layout.cluster) == Identity::Postmaster {
            return Err(EmbeddedPgError::Unresponsive { pid, pid_file: PidFile::path(&self.layout) });
        }
        Ok(None)
    }

    async fn data_directory(&self, endpoint: &Endpoint) -> Result<String, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.superuser(endpoint)).await?;
        let directory = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(directory)
    }

    fn remove_stale_pid_file(&self, pid: i32) -> Result<(), EmbeddedPgError> {
        let path = PidFile::path(&self.layout);
        tracing::warn!(pid, "removing a stale postmaster.pid: its process id belongs to another program now");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(EmbeddedPgError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    async fn launch(&self, known: Option<&Endpoint>) -> Result<Running, EmbeddedPgError> {
        let account = self.account.as_ref();
        let binaries = Binaries::find_for(&self.layout.cluster)?;
        cluster::configure(&self.layout.cluster, account)?;
        let socket_directory = self.layout.socket_directory(account)?;
        let mut endpoint = known.cloned().unwrap_or_else(|| Endpoint::choose(socket_directory.clone()));
        let mut attempts = 0;
        loop {
            attempts += 1;
            let log_start = log_length(&self.layout.log);
            let spawned = Postmaster::spawn(&self.layout, &binaries, account, &endpoint)?;
            let mut starting = Starting(Some(spawned));
            match self.until_ready(&mut starting, log_start).await {
                Ok(postmaster) => {
                    tracing::info!(
                        pid = postmaster.pid,
                        port = endpoint.port,
                        version = binaries.major(),
                        "PostgreSQL is ready"
                    );
                    return Ok(Running { postmaster, endpoint });
                }
                // Somebody took the port in the meantime.
                Err(EmbeddedPgError::StartFailed { tail, .. })
                    if attempts < 4 && endpoint.loopback && tail.contains("TCP/IP socket") =>
                {
                    match known {
                        // The socket keeps its name, and what is connected through it finds it again.
                        Some(_) => endpoint.loopback = false,
                        None => endpoint = Endpoint::choose(socket_directory.clone()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn until_ready(
        &self,
        starting: &mut Starting,
        log_start: u64,
    ) -> Result<Postmaster, EmbeddedPgError> {
        let began = Instant::now();
        let mut told = Duration::from_secs(10);
        while let Some(mut postmaster) = starting.0.take() {
            if PidFile::read(&self.layout).is_some_and(|file| file.pid == postmaster.pid && file.ready) {
                return Ok(postmaster);
            }
            if !postmaster.is_running() {
                return Err(EmbeddedPgError::StartFailed {
                    status: postmaster.status(),
                    log: self.layout.log.clone(),
                    tail: log_tail(&self.layout.log, log_start),
                });
            }
            starting.0 = Some(postmaster);
            if self.stopping.load(Ordering::SeqCst) {
                return Err(EmbeddedPgError::Stopping);
            }
            if began.elapsed() > READY_LIMIT {
                break;
            }
            if began.elapsed() > told {
                tracing::warn!(
                    seconds = told.as_secs(),
                    "PostgreSQL is still starting (recovering after a crash?)"
                );
                told += Duration::from_secs(10);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(EmbeddedPgError::StartTimeout { seconds: READY_LIMIT.as_secs(), log: self.layout.log.clone() })
    }
}

/// A server that is not ready: shut down again when nobody waits for it any more.
struct Starting(Option<Postmaster>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(postmaster) = &mut self.0 {
            postmaster.interrupt();
        }
    }
}

/// Whether the server knows us and says no, which waiting does not change (class 28: authorization).
fn is_refusal(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code.starts_with("28"))
}
