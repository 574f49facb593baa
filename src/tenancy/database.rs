//! Connections: a pool for reads, a few writer connections with tenant affinity, and a pool of the owner role.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use daybook_projections::Schema;
use sqlx::{
    ConnectOptions, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{TenancyError, pool::Pool};

/// How many connections, and how long a statement may take.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Connections for reads.
    pub read_connections: u32,
    /// Connections of the writer lanes; a tenant keeps to one.
    pub write_connections: usize,
    /// `statement_timeout` of reads and writes.
    pub statement_timeout: Duration,
    /// How long a caller waits for a pooled connection.
    pub acquire_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            read_connections: 12,
            write_connections: 12,
            statement_timeout: Duration::from_secs(15),
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

/// All connections of a process.
#[derive(Clone, Debug)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    app: Pool,
    owner: PgPool,
    writers: Vec<Mutex<Option<PgConnection>>>,
    writer_options: PgConnectOptions,
    app_user: String,
}

impl Database {
    /// Connects. `app` is the login role that owns nothing; `owner` creates schemas and runs migrations.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached as `app`.
    pub async fn connect(
        app: PgConnectOptions,
        owner: PgConnectOptions,
        settings: &PoolSettings,
    ) -> Result<Self, TenancyError> {
        let tuned = |options: PgConnectOptions, name: &str| {
            options
                .application_name(name)
                // Write statements are generated per schema; reads are few.
                .statement_cache_capacity(2_000)
                .options([
                    ("statement_timeout", settings.statement_timeout.as_millis().to_string()),
                    ("idle_in_transaction_session_timeout", "60000".to_owned()),
                    ("timezone", "UTC".to_owned()),
                ])
                .disable_statement_logging()
        };
        // Planning a read for its very parameters costs more than running it, and PostgreSQL would do so each time: it
        // supposes a page to be a tenth of the table. The statements are written so that one plan is good for all.
        let reading = tuned(app.clone(), "daybook").options([("plan_cache_mode", "force_generic_plan")]);
        let app_pool = Pool::new(reading, settings.read_connections, settings.acquire_timeout);
        let owner_pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(30))
            .idle_timeout(Duration::from_secs(30))
            .connect_lazy_with(owner.application_name("daybook-owner").disable_statement_logging());
        let mut connection =
            app_pool.acquire(None).await.map_err(TenancyError::db("connect to PostgreSQL"))?;
        let (app_user,): (String,) = sqlx::query_as("SELECT current_user::text")
            .fetch_one(&mut *connection)
            .await
            .map_err(TenancyError::db("ask for the login role"))?;
        drop(connection);
        Ok(Self {
            inner: Arc::new(Inner {
                app: app_pool,
                owner: owner_pool,
                writers: (0..settings.write_connections.max(1)).map(|_| Mutex::new(None)).collect(),
                writer_options: tuned(app, "daybook-writer"),
                app_user,
            }),
        })
    }

    /// The pool for reads; enter a schema with [`super::TenantTx::begin`].
    pub fn app(&self) -> &Pool {
        &self.inner.app
    }

    /// Platform-wide access as the owner of all schemas: migrations, provisioning, rebuilds. Grep for callers.
    pub fn owner(&self) -> &PgPool {
        &self.inner.owner
    }

    /// The login role that tenant roles are granted to.
    pub fn app_user(&self) -> &str {
        &self.inner.app_user
    }

    /// The writer connection of a schema. A schema keeps to one connection, where its statements are prepared.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached.
    pub async fn writer(&self, schema: &Schema) -> Result<Writer<'_>, TenancyError> {
        let mut hasher = DefaultHasher::new();
        schema.name().hash(&mut hasher);
        let slots = &self.inner.writers;
        let slot = usize::try_from(hasher.finish() % slots.len() as u64).unwrap_or(0);
        let mut guard = slots[slot].lock().await;
        if guard.is_none() {
            let mut connection = self
                .inner
                .writer_options
                .connect()
                .await
                .map_err(TenancyError::db("connect a writer to PostgreSQL"))?;
            connection
                // Its statements find rows by their keys and take arrays: no value makes another plan better.
                .execute("SET lock_timeout = '10s'; SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan")
                .await
                .map_err(TenancyError::db("set up a writer connection"))?;
            *guard = Some(connection);
        }
        Ok(Writer { guard })
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.inner.app.close().await;
        self.inner.owner.close().await;
        for slot in &self.inner.writers {
            if let Some(connection) = slot.lock().await.take() {
                drop(connection);
            }
        }
    }
}

/// A writer connection, held for one batch.
#[derive(Debug)]
pub struct Writer<'a> {
    guard: MutexGuard<'a, Option<PgConnection>>,
}

impl Writer<'_> {
    /// The connection; `None` after [`Writer::discard`].
    pub fn connection(&mut self) -> Option<&mut PgConnection> {
        self.guard.as_mut()
    }

    /// Drops the connection after a failure, so that the next batch starts on a fresh one.
    pub fn discard(&mut self) {
        *self.guard = None;
    }
}
