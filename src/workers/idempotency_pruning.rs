//! Deletes idempotency keys that ran out, a bounded number in one transaction.

use daybook_projections::Schema;
use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, rounds, wait};
use crate::{
    eventstore::{EventStore, StoreError},
    tenancy::{Access, TenantDirectory, TenantTx},
};

/// Keys deleted in one transaction.
const BATCH: i64 = 2_000;

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    let tenants = rounds("idempotency-pruning", &directory, settings.pruning, &stop, |schema| {
        let (store, stop) = (store.clone(), stop.clone());
        async move { prune(&store, &schema, &stop).await.map(drop) }
    });
    // Tenants' commands to the platform's log leave keys there too.
    let platform = async {
        while !wait(settings.pruning, &stop).await {
            if let Err(error) = prune(&store, &Schema::platform(), &stop).await {
                tracing::warn!(
                    worker = "idempotency-pruning",
                    error = &error as &dyn std::error::Error,
                    "failed"
                );
            }
        }
    };
    tokio::join!(tenants, platform);
}

/// Deletes the keys of a log that have run out; answers how many.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn prune(store: &EventStore, schema: &Schema, stop: &CancellationToken) -> Result<u64, StoreError> {
    let mut pruned = 0;
    while !stop.is_cancelled() {
        let mut tx = TenantTx::begin(store.database().app(), schema, Access::Write).await?;
        let deleted = sqlx::query(
            "DELETE FROM idempotency
             WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED))",
        )
        .bind(BATCH)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("delete idempotency keys that ran out"))?
        .rows_affected();
        tx.commit().await?;
        pruned += deleted;
        if deleted < BATCH.unsigned_abs() {
            break;
        }
    }
    Ok(pruned)
}
