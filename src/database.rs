//! Which PostgreSQL to use: the one `DATABASE_URL` names, else the private one in the data directory.

use std::{str::FromStr as _, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;

use crate::{
    config::Settings,
    embedded_pg::{EmbeddedPgError, EmbeddedPostgres},
};

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The private PostgreSQL is not available.
    #[error(transparent)]
    Embedded(#[from] EmbeddedPgError),
    /// A URL that is none. The text does not quote it: it holds a password.
    #[error("{variable} is not a PostgreSQL URL (postgres://user:password@host:5432/database)")]
    Url {
        /// The environment variable.
        variable: &'static str,
    },
}

/// Who opens the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The server: a private PostgreSQL has one, and it keeps it running.
    Server,
    /// A command, which works beside a server and alone.
    Command,
}

/// A database that can be connected to.
#[derive(Debug)]
pub struct Database {
    /// As the role that owns the database: migrations, provisioning.
    pub owner_options: PgConnectOptions,
    /// As the role that serves requests.
    pub app_options: PgConnectOptions,
    /// Keeps a private PostgreSQL running.
    pub guard: DatabaseGuard,
}

/// Keeps a private PostgreSQL running; for an external one it does nothing.
#[derive(Clone, Debug)]
pub struct DatabaseGuard(Option<Arc<EmbeddedPostgres>>);

impl Database {
    /// Finds the database, and starts the private one when it is to be used and does not run.
    ///
    /// # Errors
    /// When a URL is malformed or the private PostgreSQL does not start.
    pub async fn open(settings: &Settings, mode: OpenMode) -> Result<Self, DatabaseError> {
        if let Some(url) = &settings.database_url {
            let app_options = parse("DATABASE_URL", url)?;
            let owner_options = match &settings.admin_database_url {
                Some(url) => parse("DAYBOOK_ADMIN_DATABASE_URL", url)?,
                None => app_options.clone(),
            };
            return Ok(Self { owner_options, app_options, guard: DatabaseGuard(None) });
        }
        let postgres = match mode {
            OpenMode::Server => EmbeddedPostgres::start(&settings.data_dir).await?,
            OpenMode::Command => EmbeddedPostgres::join(&settings.data_dir).await?,
        };
        Ok(Self {
            owner_options: postgres.owner_options(),
            app_options: postgres.app_options(),
            guard: DatabaseGuard(Some(Arc::new(postgres))),
        })
    }

    /// Whether it is the private PostgreSQL.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.guard.0.is_some()
    }
}

impl DatabaseGuard {
    /// Restarts a private PostgreSQL whenever it dies, until [`Self::close`]; for an external one it never
    /// returns, so that both can be awaited in the same way. For the server.
    pub async fn supervise(&self) {
        match &self.0 {
            Some(postgres) => postgres.supervise().await,
            None => std::future::pending().await,
        }
    }

    /// Stops a private PostgreSQL, unless another daybook uses it. Close the pools first.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub async fn close(&self) -> Result<(), DatabaseError> {
        match &self.0 {
            Some(postgres) => Ok(postgres.stop().await?),
            None => Ok(()),
        }
    }
}

fn parse(variable: &'static str, url: &SecretString) -> Result<PgConnectOptions, DatabaseError> {
    let url = url.expose_secret();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(DatabaseError::Url { variable });
    }
    PgConnectOptions::from_str(url).map_err(|_| DatabaseError::Url { variable })
}
