//! Finishes erasures: those that waited for a legal hold that is released by now, and those that a crash left between the
//! request and the deed. Also drops what killed rebuilds left, where somebody's values might be who is erased meanwhile.

use daybook_domain::{
    CustomerId,
    customer::{Customer, CustomerCommand},
    envelope::Metadata,
    registry::Registered as _,
};
use daybook_projections::{Schema, erasures};
use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, projector, rounds, wait};
use crate::{
    eventstore::{Command, Committed, EventStore, StoreError, Unit},
    tenancy::{Access, TenantDirectory, TenantTx},
};

/// Erasures looked up at once.
const BATCH: i64 = 100;

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    let erasures = rounds("erasure", &directory, settings.erasure_sweep, &stop, |schema| {
        let store = store.clone();
        async move { finish(&store, &schema).await.map(drop) }
    });
    let leftovers = async {
        while !wait(settings.pruning, &stop).await {
            if let Err(error) = projector::drop_leftovers(&store).await {
                tracing::warn!(
                    worker = "erasure",
                    error = &error as &dyn std::error::Error,
                    "what killed rebuilds left is still there"
                );
            }
        }
    };
    tokio::join!(erasures, leftovers);
}

/// Does every erasure of a tenant that was asked for and that no legal hold stands against; answers how many.
///
/// # Errors
/// When PostgreSQL refuses. What was done until then stays done.
pub async fn finish(store: &EventStore, schema: &Schema) -> Result<usize, StoreError> {
    let (mut done, mut after) = (0, None);
    loop {
        let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
        let due = erasures::due(&mut tx, after, BATCH)
            .await
            .map_err(StoreError::db("look for erasures that can be done"))?;
        tx.release();
        // Each is looked at once a round, so that one that is refused again and again holds up no other.
        let Some(last) = due.last() else { return Ok(done) };
        after = Some(*last);
        for customer in due {
            match complete(store, schema, CustomerId(customer), Metadata::system("erasure")).await {
                Ok(committed) if is_done(&committed) => {
                    done += 1;
                    metrics::counter!("daybook_erasures_finished_total").increment(1);
                }
                // A hold was faster.
                Ok(_) => {}
                // A booking that was imported meanwhile, say. Whoever asks for the status sees that it waits.
                Err(StoreError::Refused { error, .. }) => {
                    tracing::warn!(%schema, %customer, error = &error as &dyn std::error::Error, "an erasure waits");
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Completes an erasure that was asked for, unless a legal hold stands against it: then nothing is written.
///
/// # Errors
/// When it is refused, because of a booking that is not over, or PostgreSQL refuses.
pub async fn complete(
    store: &EventStore,
    schema: &Schema,
    customer: CustomerId,
    metadata: Metadata,
) -> Result<Committed, StoreError> {
    let command = Command::to(customer, CustomerCommand::CompleteErasure);
    store.execute(schema, Unit::of(command, metadata)).await
}

/// Whether the customer that a command was for is erased.
pub fn is_done(committed: &Committed) -> bool {
    committed.changed.last().and_then(|changed| Customer::of(&changed.state)).is_some_and(|it| it.is_erased())
}
