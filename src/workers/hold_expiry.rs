//! Expires holds that ran out. Nothing waits for it: a decision never counts a lapsed hold. It makes the log say so.

use chrono::{DateTime, Utc};
use daybook_domain::{booking::BookingCommand, envelope::Metadata};
use daybook_projections::Schema;
use sqlx::Row;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{WorkerSettings, rounds};
use crate::{
    eventstore::{Command, EventStore, StoreError, Unit},
    tenancy::{Access, TenantDirectory, TenantTx},
};

/// Holds expired together; they share a transaction of the log.
const BATCH: i64 = 200;

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    rounds("hold-expiry", &directory, settings.hold_sweep, &stop, |schema| {
        let store = store.clone();
        async move { expire(&store, &schema).await.map(drop) }
    })
    .await;
}

/// Expires every hold of a tenant that has run out; answers how many.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn expire(store: &EventStore, schema: &Schema) -> Result<usize, StoreError> {
    let mut expired = 0;
    let mut after = (DateTime::<Utc>::UNIX_EPOCH, Uuid::nil());
    loop {
        let due = due(store, schema, after).await?;
        let Some(last) = due.last() else { return Ok(expired) };
        // Each is looked at once a round, so that one that is refused again and again holds up no other.
        after = *last;
        let full = due.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
        expired += expire_batch(store, schema, &due).await?;
        if !full {
            return Ok(expired);
        }
    }
}

async fn due(
    store: &EventStore,
    schema: &Schema,
    after: (DateTime<Utc>, Uuid),
) -> Result<Vec<(DateTime<Utc>, Uuid)>, StoreError> {
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
    let rows = sqlx::query(
        "SELECT expires_at, booking_id FROM slot_claims
         WHERE expires_at <= now() AND (expires_at, booking_id) > ($1, $2)
         ORDER BY expires_at, booking_id LIMIT $3",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(BATCH)
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::db("look for holds that ran out"))?;
    tx.commit().await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(StoreError::db("read holds that ran out"))
}

async fn expire_batch(
    store: &EventStore,
    schema: &Schema,
    due: &[(DateTime<Utc>, Uuid)],
) -> Result<usize, StoreError> {
    let mut answers = Vec::with_capacity(due.len());
    for (_, booking) in due {
        let unit = Unit::of(Command::to(*booking, BookingCommand::Expire), Metadata::system("hold-expiry"));
        answers.push(store.submit(schema, unit).await?);
    }
    let mut expired = 0;
    for answer in answers {
        match answer.await.map_err(|_| StoreError::ShuttingDown)? {
            Ok(_) => expired += 1,
            // Confirmed, cancelled or expired by another meanwhile.
            Err(StoreError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    metrics::counter!("daybook_holds_expired_total").increment(expired as u64);
    Ok(expired)
}
