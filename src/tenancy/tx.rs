//! [`TenantTx`]: the only way to a tenant's tables.

use std::{
    ops::{Deref, DerefMut},
    panic::Location,
};

use daybook_projections::Schema;
use sqlx::{Database, PgConnection, Postgres, TransactionManager as _};

use super::{
    TenancyError,
    pool::{Pool, Pooled, Turn},
};

pub(super) type Manager = <Postgres as Database>::TransactionManager;

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
///
/// Not a [`sqlx::Transaction`], which forgets a `BEGIN` that failed half-way or was cancelled before its answer, and
/// gives the connection back to the pool as it is: in a transaction, perhaps an aborted one, perhaps as that role.
#[derive(Debug)]
pub struct TenantTx<'c> {
    connection: Held<'c>,
    state: State,
    /// Reads that may follow it.
    turn: Option<Turn>,
    schema: Schema,
}

#[derive(Debug)]
enum Held<'c> {
    Pooled(Pooled),
    Lent(&'c mut PgConnection),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was told to begin, and has not said that it did.
    Beginning,
    Open,
    Ended,
    /// Open, for the read that follows.
    PassedOn,
}

impl TenantTx<'static> {
    /// Begins on a connection of the pool.
    ///
    /// # Errors
    /// When no connection can be had or PostgreSQL refuses.
    pub async fn begin(pool: &Pool, schema: &Schema, access: Access) -> Result<Self, TenancyError> {
        Self::begin_for(pool, schema, access, None).await
    }

    /// Begins to read, or goes on in the transaction of a read before it: from the same place in the code, in the same schema,
    /// released a moment ago.
    ///
    /// The same as a transaction of its own with [`Access::Read`], except that `now()` is up to a tenth of a second old.
    /// What is set for one read with `SET LOCAL` would be set for those after it: do not.
    ///
    /// # Errors
    /// When no connection can be had or PostgreSQL refuses.
    pub async fn begin_in_turn(
        pool: &Pool,
        schema: &Schema,
        place: &'static Location<'static>,
    ) -> Result<Self, TenancyError> {
        Self::begin_for(pool, schema, Access::Read, Some(place)).await
    }

    async fn begin_for(
        pool: &Pool,
        schema: &Schema,
        access: Access,
        place: Option<&'static Location<'static>>,
    ) -> Result<Self, TenancyError> {
        // Each connection of the pool may refuse the role, see `is_role_refused`, or have broken while nobody used
        // it; a fresh one has not. Nothing but the beginning is repeated.
        let mut others = pool.size();
        loop {
            let (connection, turn) =
                pool.acquire_for(Some(schema), place).await.map_err(TenancyError::db(BEGIN))?;
            if turn.is_some() {
                let connection = Held::Pooled(connection);
                return Ok(Self { connection, state: State::Open, turn, schema: schema.clone() });
            }
            let reused = connection.is_reused();
            let statement = begin_pooled_statement(schema, access);
            match Self::enter(Held::Pooled(connection), schema, statement).await {
                Err(error)
                    if others > 0 && (error.is_role_refused() || reused && error.is_connection_lost()) =>
                {
                    others -= 1;
                }
                begun => {
                    let mut tx = begun?;
                    tx.turn = place.map(Turn::new);
                    return Ok(tx);
                }
            }
        }
    }

    /// Ends a transaction whose statements have all been run to their end, none of them refused, and which may be rolled back:
    /// a read. Another may follow in it, see [`Self::begin_in_turn`]; after a failure, drop it.
    ///
    /// The same as dropping it, except that the connection is free at once: the rollback is on its way when this
    /// returns, and its answer is left to the connection's next user. After a statement that was cut off, that user
    /// would have to wait for it as well.
    pub fn release(mut self) {
        if let Held::Pooled(connection) = &mut self.connection {
            if self.turn.is_some_and(|turn| connection.stays_in(turn)) {
                self.state = State::PassedOn;
            } else {
                connection.is_done();
            }
        }
    }
}

impl<'c> TenantTx<'c> {
    /// Begins on a connection kept by a writer lane, which must give the connection up when this fails.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn begin_on(
        connection: &'c mut PgConnection,
        schema: &Schema,
        access: Access,
    ) -> Result<Self, TenancyError> {
        Self::enter(Held::Lent(connection), schema, begin_statement(schema, access)).await
    }

    async fn enter(connection: Held<'c>, schema: &Schema, statement: String) -> Result<Self, TenancyError> {
        let mut tx = Self { connection, state: State::Beginning, turn: None, schema: schema.clone() };
        Manager::begin(&mut tx, Some(statement.into())).await.map_err(TenancyError::db(BEGIN))?;
        tx.state = State::Open;
        Ok(tx)
    }

    /// The schema it is in.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Commits.
    ///
    /// # Errors
    /// When PostgreSQL refuses; the outcome is unknown when the connection broke.
    pub async fn commit(mut self) -> Result<(), TenancyError> {
        Manager::commit(&mut self).await.map_err(TenancyError::db("commit a transaction of a schema"))?;
        self.state = State::Ended;
        Ok(())
    }

    /// Rolls back at once: what it had locked is free when this returns.
    ///
    /// # Errors
    /// When the connection broke, which rolls back as well.
    pub async fn rollback(mut self) -> Result<(), TenancyError> {
        Manager::rollback(&mut self)
            .await
            .map_err(TenancyError::db("roll back a transaction of a schema"))?;
        self.state = State::Ended;
        Ok(())
    }
}

impl Drop for TenantTx<'_> {
    fn drop(&mut self) {
        match (self.state, &mut self.connection) {
            // Sent with the lane's next statement, or before the pool hands the connection on.
            (State::Open, _) => Manager::start_rollback(self),
            (State::Beginning, Held::Pooled(connection)) => connection.is_lost(),
            (State::Ended, Held::Pooled(connection)) => connection.is_done(),
            (State::PassedOn, _) | (State::Beginning | State::Ended, Held::Lent(_)) => {}
        }
    }
}

impl Deref for TenantTx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.connection {
            Held::Pooled(connection) => connection,
            Held::Lent(connection) => connection,
        }
    }
}

impl DerefMut for TenantTx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Held::Pooled(connection) => connection,
            Held::Lent(connection) => connection,
        }
    }
}

const BEGIN: &str = "begin a transaction of a schema";

/// One round trip: transaction, role and search path. The name is made of a tenant's id in hex.
fn begin_statement(schema: &Schema, access: Access) -> String {
    let mode = match access {
        Access::Read => "READ ONLY",
        Access::ReadConsistent => "ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        Access::Write => "READ WRITE",
    };
    format!("BEGIN {mode}; SET LOCAL ROLE {schema}; SET LOCAL search_path = {schema}")
}

/// The pool's connections keep to generic plans, see [`super::Database::connect`]. Only reads of requests are made for them.
fn begin_pooled_statement(schema: &Schema, access: Access) -> String {
    let begin = begin_statement(schema, access);
    match access {
        Access::Read => begin,
        Access::ReadConsistent | Access::Write => format!("{begin}; SET LOCAL plan_cache_mode = auto"),
    }
}
