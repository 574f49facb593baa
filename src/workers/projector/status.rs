//! Where the projections of a log are, waiting for them, and trying parked events again.

use std::time::Duration;

use daybook_projections::{ALL, Run, Schema};
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    ProjectorError,
    fold::{attempt, looking_back},
};
use crate::{
    eventstore::{EventStore, StoreError, load::Reader},
    tenancy::{Access, TenantTx},
};

/// Where a projection is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// The version of its rows.
    pub version: i32,
    /// The position of the last event it has seen.
    pub position: i64,
    /// The position of the log's last event.
    pub head: i64,
    /// Events it has not seen.
    pub lag_events: i64,
    /// The age of the oldest event it has not seen.
    pub lag_seconds: f64,
    /// `live`, `failed` (it stands still, see `error`) or `outdated` (its rows are of another version than this
    /// binary's, which leaves them alone until they are rebuilt).
    pub status: String,
    /// Why it stands still.
    pub error: Option<String>,
    /// Events that wait because they, or an earlier one of their aggregate, could not be folded.
    pub parked: i64,
}

/// Name, version, position, head, age of the oldest unseen event, status, error, parked events.
type StatusRow = (String, i32, i64, i64, Option<f64>, Option<String>, Option<String>, i64);

/// The projections of a log; the platform's has none.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn status(store: &EventStore, schema: &Schema) -> Result<Vec<ProjectionStatus>, ProjectorError> {
    if schema.tenant_id().is_none() {
        return Ok(Vec::new());
    }
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
    let rows: Vec<StatusRow> = sqlx::query_as(
        "SELECT w.name, coalesce(c.version, w.version), coalesce(c.position, 0), h.position,
                (SELECT extract(epoch FROM clock_timestamp() - e.recorded_at)::double precision
                 FROM events e WHERE e.position = coalesce(c.position, 0) + 1),
                c.status, c.error, (SELECT count(*) FROM parked_events p WHERE p.projection = w.name)
         FROM UNNEST($1::text[], $2::integer[]) WITH ORDINALITY AS w (name, version, n)
         CROSS JOIN log_head h LEFT JOIN projection_checkpoints c ON c.name = w.name
         ORDER BY w.n",
    )
    .bind(ALL.iter().map(|projection| projection.name()).collect::<Vec<_>>())
    .bind(ALL.iter().map(|projection| projection.version()).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await
    .map_err(ProjectorError::db("read the projections' status"))?;
    tx.commit().await?;
    Ok(rows
        .into_iter()
        .map(|(name, version, position, head, lag_seconds, status, error, parked)| {
            let current = daybook_projections::find(&name).is_some_and(|known| known.version() == version);
            ProjectionStatus {
                status: if current { status.unwrap_or_else(|| "live".into()) } else { "outdated".into() },
                lag_events: (head - position).max(0),
                lag_seconds: lag_seconds.unwrap_or(0.0).max(0.0),
                name,
                version,
                position,
                head,
                error,
                parked,
            }
        })
        .collect())
}

/// Waits until a projection has seen a position; `false` when it has not in that time.
///
/// # Errors
/// When there is no such projection or PostgreSQL refuses.
pub async fn wait_for(
    store: &EventStore,
    schema: &Schema,
    name: &str,
    position: i64,
    timeout: Duration,
) -> Result<bool, ProjectorError> {
    let projection =
        daybook_projections::find(name).ok_or_else(|| ProjectorError::UnknownProjection(name.to_owned()))?;
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(2);
    loop {
        let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
        let seen: Option<i64> =
            sqlx::query_scalar("SELECT position FROM projection_checkpoints WHERE name = $1")
                .bind(projection.name())
                .fetch_optional(&mut *tx)
                .await
                .map_err(ProjectorError::db("read a projection's position"))?;
        tx.commit().await?;
        if seen.unwrap_or(0) >= position {
            return Ok(true);
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(pause.min(deadline - now)).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What trying again did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RetryReport {
    /// Events that are folded now.
    pub applied: usize,
    /// Events that still wait.
    pub parked: usize,
}

/// Folds the parked events of a projection, those of each key in their order, until one of the key fails again.
/// `key` narrows it to one aggregate.
///
/// # Errors
/// When there is no such projection, PostgreSQL refuses or the log is corrupt.
pub async fn retry(
    store: &EventStore,
    schema: &Schema,
    name: &str,
    key: Option<Uuid>,
) -> Result<RetryReport, ProjectorError> {
    let projection =
        daybook_projections::find(name).ok_or_else(|| ProjectorError::UnknownProjection(name.to_owned()))?;
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Write).await?;
    // Under the checkpoint's lock no worker parks another successor meanwhile, and no rebuild switches.
    let version: Option<i32> =
        sqlx::query_scalar("SELECT version FROM projection_checkpoints WHERE name = $1 FOR UPDATE")
            .bind(projection.name())
            .fetch_optional(&mut *tx)
            .await
            .map_err(ProjectorError::db("lock a projection"))?;
    if version != Some(projection.version()) {
        return Err(ProjectorError::Outdated(projection.name()));
    }
    let events = parked_events(&mut tx, store, schema, projection.name(), key).await?;
    let mut report = RetryReport::default();
    let mut failed = std::collections::HashSet::new();
    for event in events.events() {
        if failed.contains(&event.aggregate_id) {
            report.parked += 1;
            continue;
        }
        match attempt(&mut tx, projection, &events, std::slice::from_ref(event)).await {
            Ok(()) => {
                report.applied += 1;
                unpark(&mut tx, projection.name(), event.position).await?;
            }
            Err(error) if error.is_poison() => {
                report.parked += 1;
                failed.insert(event.aggregate_id);
                fail_again(&mut tx, projection.name(), event.position, &error.describe()).await?;
            }
            Err(source) => return Err(ProjectorError::Projection { name: projection.name(), source }),
        }
    }
    tx.commit().await?;
    Ok(report)
}

async fn parked_events(
    connection: &mut PgConnection,
    store: &EventStore,
    schema: &Schema,
    name: &str,
    key: Option<Uuid>,
) -> Result<Run, ProjectorError> {
    let rows = sqlx::query(
        "SELECT e.position, e.leaf FROM parked_events p JOIN events e ON e.position = p.position
         WHERE p.projection = $1 AND ($2::uuid IS NULL OR p.key = $2) ORDER BY e.position",
    )
    .bind(name)
    .bind(key)
    .fetch_all(&mut *connection)
    .await
    .map_err(StoreError::db("read the parked events"))?;
    let mut reader = Reader::disclosing(schema, store.keys());
    let events = reader.decode(connection, rows).await?;
    Ok(looking_back(&mut reader, connection, events).await?)
}

async fn unpark(connection: &mut PgConnection, name: &str, position: i64) -> Result<(), ProjectorError> {
    sqlx::query("DELETE FROM parked_events WHERE projection = $1 AND position = $2")
        .bind(name)
        .bind(position)
        .execute(connection)
        .await
        .map_err(ProjectorError::db("take an event off the parked ones"))?;
    Ok(())
}

async fn fail_again(
    connection: &mut PgConnection,
    name: &str,
    position: i64,
    error: &str,
) -> Result<(), ProjectorError> {
    sqlx::query(
        "UPDATE parked_events SET attempts = attempts + 1, error = $3 WHERE projection = $1 AND position = $2",
    )
    .bind(name)
    .bind(position)
    .bind(error)
    .execute(connection)
    .await
    .map_err(ProjectorError::db("note that a parked event failed again"))?;
    Ok(())
}
