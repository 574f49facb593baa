//! Deletes the counters of rate limits whose window is over.

use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, wait};
use crate::{eventstore::EventStore, limits::shared};

/// Runs until it is stopped.
pub async fn run(store: EventStore, settings: WorkerSettings, stop: CancellationToken) {
    while !wait(settings.pruning, &stop).await {
        if let Err(error) = shared::prune(store.database()).await {
            tracing::warn!(worker = "rate-limit-pruning", error = &error as &dyn std::error::Error, "failed");
        }
    }
}
