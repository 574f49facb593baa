//! Which PostgreSQL to use: the one `DATABASE_URL` names, else the private one in the data directory.

use std::{net::IpAddr, str::FromStr as _, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

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
    /// Another machine, without making sure that it is the right one.
    #[error(
        "{variable} names another machine ({host}) without sslmode=verify-full, so that others could read and change \
         what is sent; add ?sslmode=verify-full (and sslrootcert=FILE for a certificate authority of your own), or set \
         allow_insecure_database = true where the network between them is trusted"
    )]
    Insecure {
        /// The environment variable.
        variable: &'static str,
        /// The machine.
        host: String,
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
            let parse = |variable, url| {
                let options = parse(variable, url)?;
                if settings.allow_insecure_database { Ok(options) } else { verified(variable, options) }
            };
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

/// Refuses what leaves this machine without TLS to a server whose certificate and name are checked.
fn verified(variable: &'static str, options: PgConnectOptions) -> Result<PgConnectOptions, DatabaseError> {
    let host = options.get_host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let local = options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    if local || matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
        return Ok(options);
    }
    Err(DatabaseError::Insecure { variable, host: host.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Result<PgConnectOptions, DatabaseError> {
        verified("DATABASE_URL", parse("DATABASE_URL", &SecretString::from(url))?)
    }

    #[test]
    fn this_machine_needs_no_certificate() {
        for url in [
            "postgres://app:secret@localhost/daybook",
            "postgres://app:secret@127.0.0.1:5433/daybook?sslmode=disable",
            "postgres://app:secret@127.8.8.8/daybook",
            "postgres://app:secret@[::1]/daybook",
            "postgres:///daybook?host=/var/run/postgresql&user=app",
        ] {
            assert!(check(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn another_machine_must_prove_who_it_is() {
        for host in ["db.example.com", "10.0.0.5", "192.168.1.2:5433", "localhost.example.com", "[fd00::1]"] {
            for mode in ["", "?sslmode=disable", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca"]
            {
                let error = check(&format!("postgres://app:secret@{host}/daybook{mode}")).unwrap_err();
                let text = error.to_string();
                assert!(text.contains("DATABASE_URL") && text.contains("verify-full"), "{text}");
                assert!(!text.contains("secret"), "{text}");
            }
            check(&format!("postgres://app:secret@{host}/daybook?sslmode=verify-full")).unwrap();
        }
    }

    #[tokio::test]
    async fn the_owners_url_is_held_to_the_same_and_a_setting_lets_both_pass() {
        let settings = |insecure: bool| {
            let patch = crate::config::SettingsPatch {
                database_url: Some("postgres://app@localhost/daybook".into()),
                admin_database_url: Some("postgres://owner@db.example.com/daybook".into()),
                allow_insecure_database: Some(insecure),
                ..Default::default()
            };
            Settings::load_with(None, &|_| None, patch).unwrap()
        };
        let error = Database::open(&settings(false), OpenMode::Server).await.unwrap_err();
        assert!(error.to_string().contains("DAYBOOK_ADMIN_DATABASE_URL"), "{error}");
        Database::open(&settings(true), OpenMode::Server).await.unwrap();
    }
}
