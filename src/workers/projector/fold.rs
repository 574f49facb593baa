//! Folding a run of events into one projection; what cannot be folded is parked with its successors.

use std::collections::HashSet;

use daybook_domain::RecordedEvent;
use daybook_projections::{Projection, ProjectionError};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::ProjectorError;

/// Folds events into the tables that the search path leads to. `parked` are the keys that wait already.
///
/// All events go in at once; only where one of them is at fault are they folded one by one, each in a savepoint.
pub(super) async fn fold(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    events: &[RecordedEvent],
    parked: &mut HashSet<Uuid>,
) -> Result<(), ProjectorError> {
    if !events.iter().any(|event| projection.handles(&event.event)) {
        return Ok(());
    }
    if !events.iter().any(|event| parked.contains(&event.aggregate_id)) {
        match attempt(connection, projection, events).await {
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
        match attempt(connection, projection, std::slice::from_ref(event)).await {
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
    events: &[RecordedEvent],
) -> Result<(), ProjectionError> {
    let mut savepoint = connection.begin().await?;
    match projection.apply(&mut savepoint, events).await {
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
