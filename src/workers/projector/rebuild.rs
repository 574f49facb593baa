//! Rebuilding a projection: the log is folded into fresh tables beside the live ones, which serve until the switch.
//!
//! Folding has no side effects but rows, and parked events go to the scratch schema as well, so nothing of a
//! rebuild is seen before the switch. A rebuild that was killed leaves a schema which the next one drops.

use std::{collections::HashSet, time::Duration};

use daybook_domain::TenantId;
use daybook_projections::{Projection, Run, Schema};
use sqlx::{Connection, Executor, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{
    ProjectorError,
    catch_up::make_checkpoints,
    fold::{fold, fold_beginnings, read},
    scratch,
};
use crate::eventstore::{EventStore, load::Reader, prune};

/// Events folded in one transaction: more than a live batch, as nobody waits for the rows.
const BATCH: i64 = 5_000;
/// Attempts at the switch, which needs the live tables to itself for a moment.
const SWITCH_TRIES: u32 = 20;

/// What a rebuild did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RebuildReport {
    /// Events replayed.
    pub events: i64,
    /// Where the projection is now.
    pub position: i64,
    /// Events that could not be folded.
    pub parked: i64,
}

struct Rebuild<'a> {
    schema: &'a Schema,
    scratch: Schema,
    projection: &'static dyn Projection,
    /// Tells this run's state from that of another which took the schema over.
    run: Uuid,
    position: i64,
    parked: HashSet<Uuid>,
}

/// Replays the log into fresh tables of a projection and puts them in place of the live ones. `progress` is called
/// with (position, head).
///
/// # Errors
/// When there is no such projection, another rebuild of the schema runs, PostgreSQL refuses or the log is corrupt.
/// The live tables are as they were then.
pub async fn rebuild(
    store: &EventStore,
    schema: &Schema,
    name: &str,
    mut progress: impl FnMut(i64, i64) + Send,
) -> Result<RebuildReport, ProjectorError> {
    let projection =
        daybook_projections::find(name).ok_or_else(|| ProjectorError::UnknownProjection(name.to_owned()))?;
    let scratch = schema.scratch("rebuild");
    let mut connection = scratch::lock(store, &scratch).await?;
    let rebuild =
        Rebuild { schema, scratch, projection, run: Uuid::now_v7(), position: 0, parked: HashSet::new() };
    let scratch = rebuild.scratch.clone();
    let report = run(store, rebuild, &mut connection, &mut progress).await;
    scratch::unlock(&mut connection, &scratch).await;
    let report = report?;
    tracing::info!(%schema, projection = name, position = report.position, parked = report.parked, "rebuilt");
    Ok(report)
}

async fn run(
    store: &EventStore,
    mut rebuild: Rebuild<'_>,
    connection: &mut PgConnection,
    progress: &mut (impl FnMut(i64, i64) + Send),
) -> Result<RebuildReport, ProjectorError> {
    let schema = rebuild.schema;
    let mut reading =
        store.database().owner().acquire().await.map_err(ProjectorError::db("connect as the owner"))?;
    let attempted = "make a rebuilt projection's checkpoint";
    let mut tx = connection.begin().await.map_err(ProjectorError::db(attempted))?;
    make_checkpoints(&mut tx, schema, &[rebuild.projection]).await?;
    tx.commit().await.map_err(ProjectorError::db(attempted))?;

    let mut reader = Reader::disclosing(schema, store.keys());
    loop {
        rebuild.prepare(connection).await?;
        rebuild.begin(connection, &mut reader).await?;
        if rebuild.replay(connection, &mut reading, &mut reader, progress).await?
            && let Some(report) = rebuild.switch_with_retries(connection, &mut reader).await?
        {
            progress(report.position, report.position);
            return Ok(report);
        }
        tracing::info!(%schema, projection = rebuild.projection.name(), "pruned meanwhile: its rebuild begins again");
    }
}

/// The next run after a position; `None` where the log is pruned beyond it by now. What a rebuild has folded so far goes on
/// with nothing then: it has to begin again, with what the log begins with now.
async fn next(
    reader: &mut Reader<'_>,
    connection: &mut PgConnection,
    schema: &Schema,
    after: i64,
) -> Result<Option<Run>, ProjectorError> {
    let run = read(reader, &mut *connection, after, BATCH).await?;
    // Asked afterwards: as the cut only rises, none of it was past this when the run was read.
    let pruned = prune::pruned_through(connection, schema).await?;
    Ok((pruned <= after).then_some(run))
}

/// Drops what killed rebuilds left, of every tenant: the rows in it are of nobody's use, and may know people who were
/// erased since. Answers how many there were.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn drop_leftovers(store: &EventStore) -> Result<usize, ProjectorError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}_rebuild$' ORDER BY nspname",
    )
    .fetch_all(store.database().owner())
    .await
    .map_err(ProjectorError::db("look for what killed rebuilds left"))?;
    let mut dropped = 0;
    let tenants = names.iter().filter_map(|name| name.strip_prefix("t_")?.strip_suffix("_rebuild"));
    for tenant in tenants.filter_map(|id| Uuid::try_parse(id).ok()) {
        let scratch = Schema::tenant(TenantId(tenant)).scratch("rebuild");
        let mut connection = match scratch::lock(store, &scratch).await {
            Ok(connection) => connection,
            // It is being made: nobody was killed.
            Err(ProjectorError::Busy(_)) => continue,
            Err(error) => return Err(error),
        };
        let gone = connection.execute(format!("DROP SCHEMA IF EXISTS {scratch} CASCADE").as_str()).await;
        scratch::unlock(&mut connection, &scratch).await;
        gone.map_err(ProjectorError::db("drop what a killed rebuild left"))?;
        dropped += 1;
    }
    Ok(dropped)
}

async fn head(connection: &mut PgConnection, schema: &Schema) -> Result<i64, ProjectorError> {
    sqlx::query_scalar(&schema.sql("SELECT position FROM {s}.log_head"))
        .fetch_one(connection)
        .await
        .map_err(ProjectorError::db("read the log's head"))
}

impl Rebuild<'_> {
    async fn prepare(&mut self, connection: &mut PgConnection) -> Result<(), ProjectorError> {
        self.parked.clear();
        let scratch = &self.scratch;
        let attempted = "prepare a rebuild";
        let mut tx = connection.begin().await.map_err(ProjectorError::db(attempted))?;
        tx.execute(format!("DROP SCHEMA IF EXISTS {scratch} CASCADE").as_str())
            .await
            .map_err(ProjectorError::db("drop what a killed rebuild left"))?;
        let tables: Vec<&str> = self.projection.tables().iter().copied().chain(["parked_events"]).collect();
        scratch::clone_tables(&mut tx, self.schema, scratch, &tables, false).await?;
        tx.execute(
            format!("CREATE TABLE {scratch}.rebuild_state (run uuid, position bigint NOT NULL)").as_str(),
        )
        .await
        .map_err(ProjectorError::db(attempted))?;
        sqlx::query(&scratch.sql("INSERT INTO {s}.rebuild_state VALUES ($1, 0)"))
            .bind(self.run)
            .execute(&mut *tx)
            .await
            .map_err(ProjectorError::db(attempted))?;
        tx.commit().await.map_err(ProjectorError::db(attempted))
    }

    /// Folds what a pruned log begins with, and begins at the cut; all of one snapshot.
    async fn begin(
        &mut self,
        connection: &mut PgConnection,
        reader: &mut Reader<'_>,
    ) -> Result<(), ProjectorError> {
        let attempted = "begin a rebuild of a pruned log";
        let mut tx = connection
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await
            .map_err(ProjectorError::db(attempted))?;
        tx.execute(format!("SET LOCAL search_path = {}", self.scratch).as_str())
            .await
            .map_err(ProjectorError::db(attempted))?;
        self.position = prune::pruned_through(&mut tx, self.schema).await?;
        fold_beginnings(reader, &mut tx, &[self.projection]).await?;
        sqlx::query(&self.scratch.sql("UPDATE {s}.rebuild_state SET position = $1 WHERE run = $2"))
            .bind(self.position)
            .bind(self.run)
            .execute(&mut *tx)
            .await
            .map_err(ProjectorError::db(attempted))?;
        tx.commit().await.map_err(ProjectorError::db(attempted))
    }

    /// Folds the log into the scratch tables, nearly to its end; `false` where it was pruned meanwhile.
    async fn replay(
        &mut self,
        connection: &mut PgConnection,
        reading: &mut PgConnection,
        reader: &mut Reader<'_>,
        progress: &mut (impl FnMut(i64, i64) + Send),
    ) -> Result<bool, ProjectorError> {
        let schema = self.schema;
        let mut ahead = next(reader, reading, schema, self.position).await?;
        let mut head = 0;
        while let Some(run) = ahead {
            let Some(last) = run.end() else { return Ok(true) };
            if last > head {
                head = self::head(connection, schema).await?;
            }
            // PostgreSQL folds one batch while the next is read and decoded.
            let (folded, following) =
                tokio::join!(self.batch(connection, &run), next(reader, reading, schema, last));
            folded?;
            ahead = following?;
            progress(self.position, head);
        }
        Ok(false)
    }

    async fn batch(&mut self, connection: &mut PgConnection, run: &Run) -> Result<(), ProjectorError> {
        let mut tx = connection.begin().await.map_err(ProjectorError::db("begin a batch of a rebuild"))?;
        // The switch is the commit that has to last; it flushes these as well.
        tx.execute("SET LOCAL synchronous_commit = off")
            .await
            .map_err(ProjectorError::db("begin a batch of a rebuild"))?;
        let to = self.fold(&mut tx, run).await?;
        tx.commit().await.map_err(ProjectorError::db("commit a batch of a rebuild"))?;
        self.position = to;
        Ok(())
    }

    /// Folds a run into the scratch tables; answers the position it ends at.
    async fn fold(&mut self, tx: &mut Transaction<'_, Postgres>, run: &Run) -> Result<i64, ProjectorError> {
        let attempted = "move a rebuild on";
        let Some(to) = run.end() else { return Ok(self.position) };
        tx.execute(format!("SET LOCAL search_path = {}", self.scratch).as_str())
            .await
            .map_err(ProjectorError::db(attempted))?;
        fold(&mut *tx, self.projection, run, run.events(), &mut self.parked).await?;
        let sql =
            self.scratch.sql("UPDATE {s}.rebuild_state SET position = $1 WHERE position = $2 AND run = $3");
        let moved = sqlx::query(&sql)
            .bind(to)
            .bind(self.position)
            .bind(self.run)
            .execute(&mut **tx)
            .await
            .map_err(ProjectorError::db(attempted))?
            .rows_affected();
        if moved == 1 { Ok(to) } else { Err(ProjectorError::Busy(self.scratch.to_string())) }
    }

    async fn switch_with_retries(
        &mut self,
        connection: &mut PgConnection,
        reader: &mut Reader<'_>,
    ) -> Result<Option<RebuildReport>, ProjectorError> {
        for _ in 1..SWITCH_TRIES {
            let position = self.position;
            match self.switch(connection, reader).await {
                // Somebody reads the live tables for longer than the switch waits; readers behind it went on.
                Err(error) if error.is_lock_timeout() => {
                    self.position = position;
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                done => return done,
            }
        }
        self.switch(connection, reader).await
    }

    /// In one transaction: the rest of the log, the new tables in place of the old, the checkpoint. `None`, and nothing is
    /// changed, where the log was pruned meanwhile.
    async fn switch(
        &mut self,
        connection: &mut PgConnection,
        reader: &mut Reader<'_>,
    ) -> Result<Option<RebuildReport>, ProjectorError> {
        let (schema, scratch, name) = (self.schema, self.scratch.clone(), self.projection.name());
        let mut tx = connection.begin().await.map_err(ProjectorError::db("begin the switch"))?;
        tx.execute("SET LOCAL lock_timeout = '2s'").await.map_err(ProjectorError::db("begin the switch"))?;
        let live = self.lock_checkpoint(&mut tx).await?;
        // Workers stand still now; what they had seen must be seen here too, and the newest events with it.
        loop {
            let Some(run) = next(reader, &mut tx, schema, self.position).await? else { return Ok(None) };
            let events = run.events().len();
            if events == 0 {
                break;
            }
            self.position = self.fold(&mut tx, &run).await?;
            if self.position >= live && events < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                break;
            }
        }
        let mut sql = String::new();
        for table in self.projection.tables() {
            sql.push_str(&format!(
                "DROP TABLE {schema}.{table}; ALTER TABLE {scratch}.{table} SET SCHEMA {schema};
                 GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.{table} TO {schema};"
            ));
        }
        tx.execute(sql.as_str()).await.map_err(ProjectorError::db("put the new tables in place"))?;
        let parked = self.take_over_parked(&mut tx).await?;
        sqlx::query(&schema.sql(
            "UPDATE {s}.projection_checkpoints
             SET version = $2, position = $3, status = 'live', error = NULL, lease_owner = NULL,
                 lease_epoch = lease_epoch + 1
             WHERE name = $1",
        ))
        .bind(name)
        .bind(self.projection.version())
        .bind(self.position)
        .execute(&mut *tx)
        .await
        .map_err(ProjectorError::db("set the rebuilt projection's checkpoint"))?;
        tx.execute(format!("DROP SCHEMA {scratch} CASCADE").as_str())
            .await
            .map_err(ProjectorError::db("drop the scratch schema"))?;
        tx.commit().await.map_err(ProjectorError::db("commit the switch"))?;
        Ok(Some(RebuildReport { events: self.position, position: self.position, parked }))
    }

    /// Locks the live checkpoint, so that no worker folds meanwhile; answers its position.
    async fn lock_checkpoint(&self, tx: &mut Transaction<'_, Postgres>) -> Result<i64, ProjectorError> {
        let attempted = "lock the projection's checkpoint";
        sqlx::query_scalar(
            &self.schema.sql("SELECT position FROM {s}.projection_checkpoints WHERE name = $1 FOR UPDATE"),
        )
        .bind(self.projection.name())
        .fetch_one(&mut **tx)
        .await
        .map_err(ProjectorError::db(attempted))
    }

    async fn take_over_parked(&self, tx: &mut Transaction<'_, Postgres>) -> Result<i64, ProjectorError> {
        let attempted = "take the parked events over";
        sqlx::query(&self.schema.sql("DELETE FROM {s}.parked_events WHERE projection = $1"))
            .bind(self.projection.name())
            .execute(&mut **tx)
            .await
            .map_err(ProjectorError::db(attempted))?;
        let sql = format!(
            "INSERT INTO {}.parked_events (projection, key, position, attempts, error, parked_at)
             SELECT projection, key, position, attempts, error, parked_at FROM {}.parked_events",
            self.schema, self.scratch
        );
        let moved = sqlx::query(&sql).execute(&mut **tx).await.map_err(ProjectorError::db(attempted))?;
        Ok(i64::try_from(moved.rows_affected()).unwrap_or(i64::MAX))
    }
}
