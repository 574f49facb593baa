//! Keeps a few schemas ready for tenants that are not there yet. The nodes share the work by a lock: one makes them at a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, wait};
use crate::{eventstore::EventStore, tenancy::spare};

/// How often it is looked whether one was taken. The first look leaves a server that starts to its first requests.
const LOOK: Duration = Duration::from_secs(3);

/// Runs until it is stopped.
pub async fn run(store: EventStore, settings: WorkerSettings, stop: CancellationToken) {
    if settings.spare_schemas == 0 {
        return;
    }
    while !wait(LOOK, &stop).await {
        let refill = tokio::select! {
            // What was begun is rolled back.
            () = stop.cancelled() => return,
            refill = spare::refill(store.database(), settings.spare_schemas) => refill,
        };
        if let Err(error) = refill {
            tracing::warn!(worker = "spare-schemas", error = &error as &dyn std::error::Error, "failed");
        }
    }
}
