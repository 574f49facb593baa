//! Tenancy at the connection: a schema and a role per tenant, entered per transaction.

pub mod admin;
pub mod database;
pub mod directory;
pub mod migrate;
pub mod pool;
pub mod provision;
pub mod reseal;
pub mod spare;
pub mod tx;

pub use database::Database;
pub use daybook_projections::Schema;
pub use directory::{TenantDirectory, TenantInfo};
pub use tx::{Access, TenantTx};

/// What can go wrong in tenancy.
#[derive(Debug, thiserror::Error)]
pub enum TenancyError {
    /// PostgreSQL refused or is away.
    #[error("{attempted}")]
    Database {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed.
    #[error("migration {version} of schema {schema}")]
    Migration {
        /// The schema being migrated.
        schema: String,
        /// The migration's version.
        version: i64,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// A migration that was applied is not the one this binary has.
    #[error("schema {schema} has a migration {version} that this binary does not know or that was changed")]
    ForeignMigration {
        /// The schema.
        schema: String,
        /// The migration's version.
        version: i64,
    },
    /// A command of a tenant aggregate was refused or failed.
    #[error(transparent)]
    Store(#[from] crate::eventstore::StoreError),
    /// No tenant of that slug or id.
    #[error("no tenant {0}")]
    UnknownTenant(String),
}

impl TenancyError {
    pub(crate) fn db(attempted: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { attempted, source }
    }

    /// Whether a role may not be taken. PostgreSQL keeps a list per connection of the roles that may be; one that is
    /// granted just while that list is made stays out of it, on that connection, until the next role is granted.
    /// Another connection may take it.
    pub(crate) fn is_role_refused(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                error.code().as_deref() == Some("42501")
            }
            _ => false,
        }
    }

    /// Whether PostgreSQL or the network ended the connection.
    pub(crate) fn is_connection_lost(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Io(_), .. } => true,
            // An administrator, a crash, or an idle timeout ended it; the word was waiting on the connection.
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P05" | "25P03"))
            }
            _ => false,
        }
    }
}

/// Whether the same request may work a moment later: the database is away, starting, stopping, or overloaded.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection failures, deadlocks and serialisation, too few resources, operator intervention (which is
            // also a cancelled statement), a lock not had in time, a standby.
            ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
                || code == "55P03"
                || code == "25006"
        }),
        _ => false,
    }
}
