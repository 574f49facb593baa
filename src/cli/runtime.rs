//! What a command runs on: a database that is up, migrated and keyed, with the store over it.

use std::sync::Arc;

use anyhow::Context;
use daybook_domain::envelope::Metadata;

use crate::{
    config::Settings,
    database::{Database as Host, OpenMode},
    eventstore::{EventStore, StoreSettings},
    keys::Keys,
    tenancy::{Database, TenantDirectory, admin::TenantAdmin, database::PoolSettings, migrate},
};

/// How the database is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the server: a private PostgreSQL is ours alone.
    Server,
    /// As a command that may run beside a server.
    Command,
}

/// Everything a command needs.
pub struct Runtime {
    /// The settings it was opened with.
    pub settings: Settings,
    /// The store.
    pub store: EventStore,
    /// Tenants.
    pub directory: TenantDirectory,
    /// Commands to tenants.
    pub admin: TenantAdmin,
    /// The private PostgreSQL, while it is ours.
    pub host: Host,
}

impl Runtime {
    /// Opens the database, brings the platform's schema up to date and checks the keys file against it.
    ///
    /// # Errors
    /// When PostgreSQL cannot be started or reached, or the keys file is missing, exposed or another database's.
    pub async fn open(settings: Settings, mode: Mode, store: StoreSettings) -> anyhow::Result<Self> {
        let open_mode = match mode {
            Mode::Server => OpenMode::Server,
            Mode::Command => OpenMode::Command,
        };
        let host = Host::open(&settings, open_mode).await?;
        let pools = PoolSettings {
            read_connections: settings.pool_size,
            write_connections: settings.write_connections,
            statement_timeout: settings.statement_timeout,
            acquire_timeout: settings.pool_timeout,
        };
        let database =
            Database::connect(host.app_options.clone(), host.owner_options.clone(), &pools).await?;
        migrate::platform(&database).await?;
        let keys = Arc::new(open_keys(&settings, &database).await?);
        let store = StoreSettings { concurrent_batches: settings.concurrent_batches, ..store };
        let store = EventStore::new(database.clone(), keys.clone(), store);
        let directory = TenantDirectory::new(database);
        let admin = TenantAdmin::new(store.clone(), directory.clone());
        Ok(Self { settings, store, directory, admin, host })
    }

    /// Finishes what is queued and lets go of the database.
    ///
    /// # Errors
    /// When a private PostgreSQL does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        self.store.shutdown().await;
        self.store.database().close().await;
        self.host.guard.close().await.context("stop the private PostgreSQL")
    }
}

/// The metadata of what an operator does on the command line.
pub fn cli_metadata(command: &str) -> Metadata {
    Metadata { actor: format!("cli:{command}"), source: Some("cli".into()), ..Metadata::default() }
}

async fn open_keys(settings: &Settings, database: &Database) -> anyhow::Result<Keys> {
    let mut connection = database.owner().acquire().await.context("connect as the owner")?;
    let stored: Option<String> = sqlx::query_scalar("SELECT fingerprint FROM daybook_platform.keys_file")
        .fetch_optional(&mut *connection)
        .await
        .context("read which keys file the database belongs to")?;
    let now =
        sqlx::query_scalar("SELECT now()").fetch_one(&mut *connection).await.context("ask for the time")?;
    // A database that has never seen a keys file has no tenant either: the first start writes both.
    let keys = Keys::load_or_create(&settings.keys_file(), stored.is_none(), now)?;
    keys.check_fingerprint(stored.as_deref())?;
    if stored.is_none() {
        sqlx::query(
            "INSERT INTO daybook_platform.keys_file (fingerprint) VALUES ($1) ON CONFLICT DO NOTHING",
        )
        .bind(keys.fingerprint())
        .execute(&mut *connection)
        .await
        .context("remember the keys file")?;
        let stored: String = sqlx::query_scalar("SELECT fingerprint FROM daybook_platform.keys_file")
            .fetch_one(&mut *connection)
            .await
            .context("read which keys file the database belongs to")?;
        keys.check_fingerprint(Some(&stored))?;
    }
    Ok(keys)
}
