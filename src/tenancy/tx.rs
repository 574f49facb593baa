//! [`TenantTx`]: the only way to a tenant's tables.

use std::ops::{Deref, DerefMut};

use daybook_projections::Schema;
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};

use super::TenancyError;

/// What a transaction may do, enforced by PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `READ ONLY`: reads, and everything a support session in redacted mode does.
    Read,
    /// `READ ONLY`, and one snapshot for all its statements.
    ReadConsistent,
    /// Reads and writes.
    Write,
}

/// A transaction in which one schema's role and search path are set, and nothing else is in reach.
///
/// Both are `SET LOCAL`: commit, rollback and drop all undo them, so a cancelled request leaves nothing on the
/// pooled connection, also behind PgBouncer in transaction mode.
#[derive(Debug)]
pub struct TenantTx<'c> {
    tx: Transaction<'c, Postgres>,
    schema: Schema,
}

impl TenantTx<'static> {
    /// Begins on a connection of the pool.
    ///
    /// # Errors
    /// When no connection can be had or PostgreSQL refuses.
    pub async fn begin(pool: &PgPool, schema: &Schema, access: Access) -> Result<Self, TenancyError> {
        // In a task of its own, which a cancelled request does not cancel: sqlx forgets a BEGIN whose future is
        // dropped before it is answered, and the pool would hand out a connection that is still in that transaction
        // and role. The task ends with the transaction instead, whose drop rolls it back.
        let begin = tokio::spawn({
            let (pool, statement) = (pool.clone(), begin_statement(schema, access));
            async move { pool.begin_with(statement).await }
        });
        let tx = begin
            .await
            .unwrap_or(Err(sqlx::Error::WorkerCrashed))
            .map_err(TenancyError::db("begin a transaction of a schema"))?;
        Ok(Self { tx, schema: schema.clone() })
    }
}

impl<'c> TenantTx<'c> {
    /// Begins on a connection kept by a writer lane.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn begin_on(
        connection: &'c mut PgConnection,
        schema: &Schema,
        access: Access,
    ) -> Result<Self, TenancyError> {
        let tx = connection
            .begin_with(begin_statement(schema, access))
            .await
            .map_err(TenancyError::db("begin a transaction of a schema"))?;
        Ok(Self { tx, schema: schema.clone() })
    }

    /// The schema it is in.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Commits.
    ///
    /// # Errors
    /// When PostgreSQL refuses; the outcome is unknown when the connection broke.
    pub async fn commit(self) -> Result<(), TenancyError> {
        self.tx.commit().await.map_err(TenancyError::db("commit a transaction of a schema"))
    }

    /// Rolls back at once: what it had locked is free when this returns.
    ///
    /// # Errors
    /// When the connection broke, which rolls back as well.
    pub async fn rollback(self) -> Result<(), TenancyError> {
        self.tx.rollback().await.map_err(TenancyError::db("roll back a transaction of a schema"))
    }
}

impl Deref for TenantTx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for TenantTx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}

/// One round trip: transaction, role and search path. The name is made of a tenant's id in hex.
fn begin_statement(schema: &Schema, access: Access) -> String {
    let mode = match access {
        Access::Read => "READ ONLY",
        Access::ReadConsistent => "ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        Access::Write => "READ WRITE",
    };
    format!("BEGIN {mode}; SET LOCAL ROLE {schema}; SET LOCAL search_path = {schema}")
}
