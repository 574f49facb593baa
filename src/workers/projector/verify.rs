//! Verifying: a fresh replay of the log beside the live read models, compared row by row.
//!
//! All of it is one transaction of one snapshot that is rolled back in the end: the live rows, the log and the
//! positions compared are of the same instant, writers are not held up, and a killed run leaves nothing.

use std::time::Duration;

use daybook_projections::{ALL, Projection, Schema, inline};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{
    ProjectorError,
    catch_up::{Step, Stepper, step},
    fold::{fold, fold_beginnings, read},
    scratch,
};
use crate::eventstore::{EventStore, load::Reader};

mod replay;

const BATCH: i64 = 5_000;
/// Differing rows named in the report, of each table.
const KEYS_NAMED: i64 = 5;
/// Tables besides the read models that follow from the log alone.
const GUARDS: &[&str] = &["slot_resources", "slot_claims"];
const LOG_TABLES: &[&str] = &["streams", "unique_claims"];

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// The position of the log that was replayed.
    pub position: i64,
    /// Each table compared.
    pub tables: Vec<TableReport>,
    /// Projections that were not compared, because their rows are of another version than this binary's.
    pub outdated: Vec<String>,
}

impl VerifyReport {
    /// Whether every row equals its replay.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(|table| table.differing == 0)
    }
}

/// A live table against its replay.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableReport {
    /// The table.
    pub table: String,
    /// The position both stand at.
    pub position: i64,
    /// Live rows.
    pub rows: i64,
    /// Rows of the replay.
    pub replayed: i64,
    /// Rows that are the same in both.
    pub equal: i64,
    /// Keys whose row differs or is on one side only.
    pub differing: i64,
    /// The first few of those keys: ids and dates, nothing personal.
    pub differing_keys: Vec<String>,
}

/// Replays a log and compares every read model and guard with it. `progress` is called with (done, all), in events
/// of both passes: one for the projections that follow the log, one for the inline read models.
///
/// # Errors
/// When another verification of the schema runs, PostgreSQL refuses or the log is corrupt.
pub async fn verify(
    store: &EventStore,
    schema: &Schema,
    mut progress: impl FnMut(i64, i64) + Send,
) -> Result<VerifyReport, ProjectorError> {
    let scratch = schema.scratch("verify");
    let mut connection = scratch::lock(store, &scratch).await?;
    let report = run(store, schema, &scratch, &mut connection, &mut progress).await;
    scratch::unlock(&mut connection, &scratch).await;
    report
}

async fn run(
    store: &EventStore,
    schema: &Schema,
    scratch: &Schema,
    connection: &mut PgConnection,
    progress: &mut (impl FnMut(i64, i64) + Send),
) -> Result<VerifyReport, ProjectorError> {
    if schema.tenant_id().is_some() {
        catch_up(store, schema).await?;
    }
    let attempted = "begin a verification";
    let mut tx = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL synchronous_commit = off")
        .await
        .map_err(ProjectorError::db(attempted))?;
    let head: i64 = sqlx::query_scalar(&schema.sql("SELECT position FROM {s}.log_head"))
        .fetch_one(&mut *tx)
        .await
        .map_err(ProjectorError::db(attempted))?;
    let (follow, outdated) = following(&mut tx, schema).await?;
    let (inline_tables, guards) = match schema.tenant_id() {
        Some(_) => (inline::TENANT_TABLES, GUARDS),
        None => (inline::PLATFORM_TABLES, &[] as &[&str]),
    };
    let mut tables: Vec<(&str, i64)> = follow
        .iter()
        .flat_map(|(it, position)| it.tables().iter().map(move |table| (*table, *position)))
        .collect();
    tables.extend(inline_tables.iter().chain(guards).chain(LOG_TABLES).map(|table| (*table, head)));

    let mut cloned: Vec<&str> = tables.iter().map(|(table, _)| *table).collect();
    // What read models take away with what ends, or put beside themselves.
    cloned.extend(["parked_events", "snapshots"]);
    scratch::clone_tables(&mut tx, schema, scratch, &cloned, true).await?;
    tx.execute(format!("SET LOCAL search_path = {scratch}").as_str())
        .await
        .map_err(ProjectorError::db(attempted))?;

    let all = head.saturating_mul(if follow.is_empty() { 1 } else { 2 });
    replay_projections(&mut tx, store, schema, &follow, |done| progress(done, all)).await?;
    let carried =
        replay::inline(&mut tx, store, schema, scratch, |done| progress(all - head + done, all)).await?;

    let mut reports = Vec::with_capacity(tables.len());
    for (table, position) in tables {
        reports.push(compare(&mut tx, schema, scratch, table, position).await?);
    }
    if carried.compared > 0 {
        reports.push(carried_over(&carried, head));
    }
    tx.rollback().await.map_err(ProjectorError::db("end a verification"))?;
    Ok(VerifyReport { position: head, tables: reports, outdated })
}

/// The states that were carried over, as a table of their own.
fn carried_over(carried: &replay::Carried, head: i64) -> TableReport {
    let differing = i64::try_from(carried.differing.len()).unwrap_or(i64::MAX);
    let named = usize::try_from(KEYS_NAMED).unwrap_or(usize::MAX);
    TableReport {
        table: "carried_over".to_owned(),
        position: head,
        rows: carried.compared,
        replayed: carried.compared,
        equal: carried.compared - differing,
        differing,
        differing_keys: carried.differing.iter().take(named).cloned().collect(),
    }
}

/// Gives the projections the chance to reach the head. What stays behind, because another node works on it or
/// writers are faster, is compared at the position where it stands.
async fn catch_up(store: &EventStore, schema: &Schema) -> Result<(), ProjectorError> {
    let stepper = Stepper { node: Uuid::now_v7(), lease: Duration::from_secs(5), batch: 1_000 };
    let mut patience = 50;
    while patience > 0 {
        match step(store, schema, stepper).await {
            Ok(Step::Quiet) => break,
            Ok(Step::Moved | Step::Reached) => {}
            Ok(Step::NotOurs) | Err(ProjectorError::LeaseLost) => {
                patience -= 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The projections to compare with their positions, and the names of those of another version.
async fn following(
    connection: &mut PgConnection,
    schema: &Schema,
) -> Result<(Vec<(&'static dyn Projection, i64)>, Vec<String>), ProjectorError> {
    if schema.tenant_id().is_none() {
        return Ok((Vec::new(), Vec::new()));
    }
    let rows: Vec<(String, i32, i64)> =
        sqlx::query_as(&schema.sql("SELECT name, version, position FROM {s}.projection_checkpoints"))
            .fetch_all(connection)
            .await
            .map_err(ProjectorError::db("read the projections' positions"))?;
    let (mut follow, mut outdated) = (Vec::new(), Vec::new());
    for projection in ALL.iter().copied() {
        match rows.iter().find(|row| row.0 == projection.name()) {
            Some((_, version, position)) if *version == projection.version() => {
                follow.push((projection, *position))
            }
            Some(_) => outdated.push(projection.name().to_owned()),
            None => follow.push((projection, 0)),
        }
    }
    Ok((follow, outdated))
}

async fn replay_projections(
    connection: &mut PgConnection,
    store: &EventStore,
    schema: &Schema,
    follow: &[(&'static dyn Projection, i64)],
    mut progress: impl FnMut(i64),
) -> Result<(), ProjectorError> {
    let until = follow.iter().map(|(_, position)| *position).max().unwrap_or(0);
    let mut reader = Reader::disclosing(schema, store.keys());
    let mut parked = vec![std::collections::HashSet::new(); follow.len()];
    let folded: Vec<&'static dyn Projection> =
        follow.iter().filter(|(_, position)| *position > 0).map(|(projection, _)| *projection).collect();
    fold_beginnings(&mut reader, connection, &folded).await?;
    let mut position = 0;
    while position < until {
        let run = read(&mut reader, connection, position, BATCH.min(until - position)).await?;
        let Some(last) = run.end() else { break };
        position = last;
        for ((projection, stop), parked) in follow.iter().zip(&mut parked) {
            let seen = &run.events()[..run.events().partition_point(|event| event.position <= *stop)];
            fold(connection, *projection, &run, seen, parked).await?;
        }
        progress(position);
    }
    Ok(())
}

async fn compare(
    connection: &mut PgConnection,
    schema: &Schema,
    scratch: &Schema,
    table: &str,
    position: i64,
) -> Result<TableReport, ProjectorError> {
    let attempted = "compare a table with its replay";
    let key: Vec<String> = sqlx::query_scalar(
        "SELECT a.attname::text FROM pg_index i
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
         WHERE i.indrelid = $1::text::regclass AND i.indisprimary
         ORDER BY array_position(i.indkey::smallint[], a.attnum)",
    )
    .bind(format!("{schema}.{table}"))
    .fetch_all(&mut *connection)
    .await
    .map_err(ProjectorError::db(attempted))?;
    let (using, text) =
        (key.join(", "), key.iter().map(|column| format!("{column}::text")).collect::<Vec<_>>());
    let joined = format!("{schema}.{table} AS l FULL JOIN {scratch}.{table} AS s USING ({using})");
    connection
        .execute(format!("ANALYZE {scratch}.{table}").as_str())
        .await
        .map_err(ProjectorError::db(attempted))?;
    let (rows, replayed, differing): (i64, i64, i64) = sqlx::query_as(&format!(
        "SELECT count(l.*), count(s.*), count(*) FILTER (WHERE ROW(l.*) IS DISTINCT FROM ROW(s.*)) FROM {joined}"
    ))
    .fetch_one(&mut *connection)
    .await
    .map_err(ProjectorError::db(attempted))?;
    let differing_keys = match differing {
        0 => Vec::new(),
        _ => sqlx::query_scalar(&format!(
            "SELECT concat_ws(' ', {}) FROM {joined} WHERE ROW(l.*) IS DISTINCT FROM ROW(s.*) ORDER BY 1 LIMIT {KEYS_NAMED}",
            text.join(", ")
        ))
        .fetch_all(connection)
        .await
        .map_err(ProjectorError::db(attempted))?,
    };
    Ok(TableReport {
        table: table.to_owned(),
        position,
        rows,
        replayed,
        equal: rows.max(replayed) - differing.min(rows.max(replayed)),
        differing,
        differing_keys,
    })
}
