//! Folding a run of events into one projection; what cannot be folded is parked with its successors.

use std::collections::{HashMap, HashSet};

use daybook_domain::RecordedEvent;
use daybook_projections::{ALL, Projection, ProjectionError, Run};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::ProjectorError;
use crate::eventstore::{StoreError, load::Reader};

/// Streams whose first states are folded together.
const BEGINNINGS_AT_ONCE: i64 = 2_000;

/// The run of at most `limit` events after a position.
pub(super) async fn read(
    reader: &mut Reader<'_>,
    connection: &mut PgConnection,
    after: i64,
    limit: i64,
) -> Result<Run, StoreError> {
    let events = reader.after(connection, after, limit).await?;
    looking_back(reader, connection, events).await
}

/// Events with the earlier ones of their streams, where some projection looks back at them.
pub(super) async fn looking_back(
    reader: &mut Reader<'_>,
    connection: &mut PgConnection,
    events: Vec<RecordedEvent>,
) -> Result<Run, StoreError> {
    let mut first: HashMap<Uuid, i64> = HashMap::new();
    for event in &events {
        if ALL.iter().any(|projection| projection.looks_back(&event.event)) {
            first.entry(event.aggregate_id).or_insert(event.sequence);
        }
    }
    first.retain(|_, sequence| *sequence > 1);
    let older = reader.before(connection, &first).await?;
    Ok(Run::new(events, older))
}

/// Folds the states that a pruned log begins with into projections which have seen nothing of it yet. Nothing where no log
/// was pruned.
pub(super) async fn fold_beginnings(
    reader: &mut Reader<'_>,
    connection: &mut PgConnection,
    projections: &[&'static dyn Projection],
) -> Result<(), ProjectorError> {
    let mut after = 0;
    loop {
        let page = reader.beginnings(&mut *connection, after, BEGINNINGS_AT_ONCE).await?;
        let run = Run::new(page.events, Vec::new());
        for projection in projections {
            attempt(&mut *connection, *projection, &run, run.events())
                .await
                .map_err(|source| ProjectorError::Projection { name: projection.name(), source })?;
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// Folds events of a run into the tables that the search path leads to. `parked` are the keys that wait already.
///
/// All events go in at once; only where one of them is at fault are they folded one by one, each in a savepoint.
pub(super) async fn fold(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    run: &Run,
    events: &[RecordedEvent],
    parked: &mut HashSet<Uuid>,
) -> Result<(), ProjectorError> {
    if !events.iter().any(|event| projection.handles(&event.event)) {
        return Ok(());
    }
    if !events.iter().any(|event| parked.contains(&event.aggregate_id)) {
        match attempt(connection, projection, run, events).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_poison() => {}
            Err(source) => return Err(ProjectorError::Projection { name: projection.name(), source }),
        }
    }
    for event in events.iter().filter(|event| projection.handles(&event.event)) {
        if parked.contains(&event.aggregate_id) {
            park(connection, projection, event, "an earlier event of it is parked").await?;
            continue;
        }
        match attempt(connection, projection, run, std::slice::from_ref(event)).await {
            Ok(()) => {}
            Err(error) if error.is_poison() => {
                let error = error.describe();
                tracing::error!(
                    projection = projection.name(),
                    position = event.position,
                    aggregate_id = %event.aggregate_id,
                    error,
                    "an event was parked"
                );
                park(connection, projection, event, &error).await?;
                parked.insert(event.aggregate_id);
            }
            Err(source) => return Err(ProjectorError::Projection { name: projection.name(), source }),
        }
    }
    Ok(())
}

/// Applies events in a savepoint, which a failure undoes.
pub(super) async fn attempt(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    run: &Run,
    events: &[RecordedEvent],
) -> Result<(), ProjectionError> {
    let mut savepoint = connection.begin().await?;
    match projection.apply(&mut savepoint, run, events).await {
        Ok(()) => Ok(savepoint.commit().await?),
        Err(error) => {
            savepoint.rollback().await?;
            Err(error)
        }
    }
}

async fn park(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    event: &RecordedEvent,
    error: &str,
) -> Result<(), ProjectorError> {
    metrics::counter!("daybook_projection_parked_total", "projection" => projection.name()).increment(1);
    sqlx::query(
        "INSERT INTO parked_events (projection, key, position, error) VALUES ($1, $2, $3, $4)
         ON CONFLICT (projection, position) DO UPDATE
         SET attempts = parked_events.attempts + 1, error = EXCLUDED.error",
    )
    .bind(projection.name())
    .bind(event.aggregate_id)
    .bind(event.position)
    .bind(error)
    .execute(connection)
    .await
    .map_err(ProjectorError::db("park an event"))?;
    Ok(())
}

/// The keys that wait, of each projection.
pub(super) async fn parked_keys(
    connection: &mut PgConnection,
) -> Result<Vec<(String, Uuid)>, ProjectorError> {
    sqlx::query_as("SELECT DISTINCT projection, key FROM parked_events")
        .fetch_all(connection)
        .await
        .map_err(ProjectorError::db("read the parked keys"))
}
