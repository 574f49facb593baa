//! Scratch schemas beside a live one, on a connection of the owner.

use daybook_projections::Schema;
use sqlx::{Executor, PgConnection, Postgres, pool::PoolConnection};

use super::ProjectorError;
use crate::eventstore::EventStore;

/// A connection of the owner that holds the lock of a scratch schema, until [`unlock`]. It is closed, not given
/// back, so that the lock does not outlive work that was broken off either.
pub(super) async fn lock(
    store: &EventStore,
    scratch: &Schema,
) -> Result<PoolConnection<Postgres>, ProjectorError> {
    let attempted = "lock a scratch schema";
    let mut connection = store.database().owner().acquire().await.map_err(ProjectorError::db(attempted))?;
    connection.close_on_drop();
    let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(scratch.name())
        .fetch_one(&mut *connection)
        .await
        .map_err(ProjectorError::db(attempted))?;
    if free { Ok(connection) } else { Err(ProjectorError::Busy(scratch.to_string())) }
}

/// Lets the next run begin. Closing the connection does the same, but only some time later.
pub(super) async fn unlock(connection: &mut PgConnection, scratch: &Schema) {
    let unlocked = sqlx::query("SELECT pg_advisory_unlock(hashtextextended($1, 0))")
        .bind(scratch.name())
        .execute(connection)
        .await;
    if let Err(error) = unlocked {
        tracing::debug!(%scratch, error = &error as &dyn std::error::Error, "left to the connection's end");
    }
}

/// Makes empty copies of tables of the live schema in the scratch schema.
pub(super) async fn clone_tables(
    connection: &mut PgConnection,
    live: &Schema,
    scratch: &Schema,
    tables: &[&str],
    unlogged: bool,
) -> Result<(), ProjectorError> {
    let kind = if unlogged { "UNLOGGED TABLE" } else { "TABLE" };
    let mut sql = format!("CREATE SCHEMA {scratch};");
    for table in tables {
        sql.push_str(&format!("CREATE {kind} {scratch}.{table} (LIKE {live}.{table} INCLUDING ALL);"));
    }
    connection.execute(sql.as_str()).await.map_err(ProjectorError::db("make a scratch schema"))?;
    Ok(())
}
