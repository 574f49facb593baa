//! One bounded step of a tenant's projections: events, rows and checkpoints in one transaction.

use std::{collections::HashSet, time::Duration};

use daybook_projections::{ALL, Projection, Schema};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    ProjectorError,
    fold::{fold, fold_beginnings, parked_keys, read},
};
use crate::{
    eventstore::{EventStore, load::Reader},
    tenancy::{Access, TenantTx},
};

/// Who takes a step, and how far it may go.
#[derive(Clone, Copy, Debug)]
pub struct Stepper {
    /// The node.
    pub node: Uuid,
    /// How long it keeps the projections after its last step.
    pub lease: Duration,
    /// Events folded in one transaction.
    pub batch: i64,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every projection is at the head.
    Quiet,
    /// A whole batch was folded; there may be more.
    Moved,
    /// Everything was folded that there was when it began.
    Reached,
    /// What is behind is another node's, waits for a rebuild, or is being worked on.
    NotOurs,
}

struct Leased {
    projection: &'static dyn Projection,
    position: i64,
    epoch: i64,
}

/// Brings a tenant's projections one batch further. They share the events they read, so that each leaf is decoded
/// once; each has a savepoint of its own, so that none takes another down.
///
/// # Errors
/// When PostgreSQL refuses or the log is corrupt; nothing was changed then.
pub async fn step(store: &EventStore, schema: &Schema, stepper: Stepper) -> Result<Step, ProjectorError> {
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Write).await?;
    match behind(&mut tx).await? {
        Behind::Nothing => return Ok(Step::Quiet),
        Behind::Some => {}
        Behind::New(missing) => {
            make_checkpoints(&mut tx, schema, &missing).await?;
            tx.commit().await?;
            tx = TenantTx::begin(store.database().app(), schema, Access::Write).await?;
        }
    }
    let mut leased = lease(&mut tx, stepper).await?;
    let Some(from) = leased.iter().map(|leased| leased.position).min() else { return Ok(Step::NotOurs) };
    let mut reader = Reader::disclosing(schema, store.keys());
    // One that begins now begins with what is left of the log.
    let beginning: Vec<&'static dyn Projection> =
        leased.iter().filter(|leased| leased.position == 0).map(|leased| leased.projection).collect();
    if !beginning.is_empty() {
        fold_beginnings(&mut reader, &mut tx, &beginning).await?;
    }
    let run = read(&mut reader, &mut tx, from, stepper.batch).await?;
    let Some(last) = run.end() else {
        // Whatever is behind is not among those leased.
        return Ok(Step::NotOurs);
    };
    leased.retain(|leased| leased.position < last);
    let parked = parked_keys(&mut tx).await?;
    for Leased { projection, position, .. } in &leased {
        let mut parked: HashSet<Uuid> =
            parked.iter().filter(|(name, _)| name == projection.name()).map(|(_, key)| *key).collect();
        fold(&mut tx, *projection, &run, run.after(*position), &mut parked).await?;
    }
    advance(&mut tx, &leased, last).await?;
    tx.commit().await?;
    metrics::counter!("daybook_projection_events_total").increment(run.events().len() as u64);
    let full = i64::try_from(run.events().len()).is_ok_and(|events| events >= stepper.batch);
    Ok(if full { Step::Moved } else { Step::Reached })
}

/// The log's head beside a checkpoint: its name, version and position.
type HeadRow = (i64, Option<String>, Option<i32>, Option<i64>);

/// What is not at the head.
enum Behind {
    Nothing,
    Some,
    /// Among them are projections without a checkpoint.
    New(Vec<&'static dyn Projection>),
}

/// Which projections of this binary's version are not at the head.
async fn behind(connection: &mut PgConnection) -> Result<Behind, ProjectorError> {
    let rows: Vec<HeadRow> = sqlx::query_as(
        "SELECT h.position, c.name, c.version, c.position
         FROM log_head h LEFT JOIN projection_checkpoints c ON true",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(ProjectorError::db("compare the projections with the head"))?;
    let Some(head) = rows.first().map(|row| row.0) else { return Ok(Behind::Nothing) };
    let known = |name: &str| rows.iter().find(|row| row.1.as_deref() == Some(name));
    let missing: Vec<&'static dyn Projection> =
        ALL.iter().copied().filter(|projection| known(projection.name()).is_none()).collect();
    let behind = ALL.iter().any(|projection| {
        known(projection.name()).is_some_and(|row| row.2 == Some(projection.version()) && row.3 < Some(head))
    });
    Ok(match (missing.is_empty() || head == 0, behind) {
        (false, _) => Behind::New(missing),
        (true, true) => Behind::Some,
        (true, false) => Behind::Nothing,
    })
}

/// Makes the checkpoints of new projections. To be committed before anything is read for them: from then on nothing is
/// pruned that they have not seen. The log's head is locked, so that no pruning is on its way which did not see them.
pub(super) async fn make_checkpoints(
    connection: &mut PgConnection,
    schema: &Schema,
    projections: &[&'static dyn Projection],
) -> Result<(), ProjectorError> {
    let attempted = "make the checkpoints of new projections";
    sqlx::query(&schema.sql("SELECT position FROM {s}.log_head FOR SHARE"))
        .execute(&mut *connection)
        .await
        .map_err(ProjectorError::db(attempted))?;
    sqlx::query(&schema.sql(
        "INSERT INTO {s}.projection_checkpoints (name, version) SELECT * FROM UNNEST($1::text[], $2::integer[])
         ON CONFLICT (name) DO NOTHING",
    ))
    .bind(projections.iter().map(|projection| projection.name()).collect::<Vec<_>>())
    .bind(projections.iter().map(|projection| projection.version()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(ProjectorError::db(attempted))?;
    Ok(())
}

/// Takes or renews the leases that are free, ours, or past their time by the database's clock. The rows stay
/// locked until the transaction ends; those another transaction has locked are left to it.
async fn lease(connection: &mut PgConnection, stepper: Stepper) -> Result<Vec<Leased>, ProjectorError> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "UPDATE projection_checkpoints c
         SET lease_owner = $1,
             lease_until = clock_timestamp() + $2 * interval '1 millisecond',
             lease_epoch = c.lease_epoch + (c.lease_owner IS DISTINCT FROM $1)::integer
         WHERE c.name = ANY(ARRAY(
             SELECT p.name FROM projection_checkpoints p
             JOIN UNNEST($3::text[], $4::integer[]) AS w (name, version) ON w.name = p.name AND w.version = p.version
             WHERE p.lease_owner IS NULL OR p.lease_owner = $1 OR p.lease_until < clock_timestamp()
             FOR UPDATE OF p SKIP LOCKED))
         RETURNING c.name, c.position, c.lease_epoch",
    )
    .bind(stepper.node)
    .bind(i64::try_from(stepper.lease.as_millis()).unwrap_or(i64::MAX))
    .bind(ALL.iter().map(|projection| projection.name()).collect::<Vec<_>>())
    .bind(ALL.iter().map(|projection| projection.version()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .map_err(ProjectorError::db("lease the projections"))?;
    Ok(rows
        .into_iter()
        .filter_map(|(name, position, epoch)| {
            Some(Leased { projection: daybook_projections::find(&name)?, position, epoch })
        })
        .collect())
}

/// Moves the checkpoints, each only from where and under the lease it was read.
async fn advance(connection: &mut PgConnection, leased: &[Leased], to: i64) -> Result<(), ProjectorError> {
    let moved = sqlx::query(
        "UPDATE projection_checkpoints c
         SET position = $1, status = 'live', error = NULL,
             caught_up_at = CASE WHEN h.position <= $1 THEN clock_timestamp() ELSE c.caught_up_at END
         FROM UNNEST($2::text[], $3::bigint[], $4::bigint[]) AS w (name, position, epoch), log_head h
         WHERE c.name = w.name AND c.position = w.position AND c.lease_epoch = w.epoch",
    )
    .bind(to)
    .bind(leased.iter().map(|leased| leased.projection.name()).collect::<Vec<_>>())
    .bind(leased.iter().map(|leased| leased.position).collect::<Vec<_>>())
    .bind(leased.iter().map(|leased| leased.epoch).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(ProjectorError::db("move the checkpoints"))?
    .rows_affected();
    if moved == leased.len() as u64 { Ok(()) } else { Err(ProjectorError::LeaseLost) }
}

/// Writes down that a tenant's projections stand still, for whoever asks for their status.
///
/// # Errors
/// When PostgreSQL refuses.
pub(super) async fn note_failure(
    store: &EventStore,
    schema: &Schema,
    error: &ProjectorError,
) -> Result<(), ProjectorError> {
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Write).await?;
    sqlx::query(
        "UPDATE projection_checkpoints SET status = 'failed', error = $1
         WHERE ($2::text IS NULL OR name = $2) AND position < (SELECT position FROM log_head)",
    )
    .bind(error.to_string())
    .bind(error.projection())
    .execute(&mut *tx)
    .await
    .map_err(ProjectorError::db("note that a projection stands still"))?;
    Ok(tx.commit().await?)
}
