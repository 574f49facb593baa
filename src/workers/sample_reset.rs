//! Makes the sample tenant anew, every night. The nodes share the work by the row that names it: one makes it, once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, wait};
use crate::{eventstore::EventStore, sample, tenancy::TenantDirectory};

/// How often it is looked whether it is time.
const LOOK: Duration = Duration::from_secs(60);

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    while !wait(LOOK, &stop).await {
        let reset = sample::reset_if_due(&store, &directory, settings.sample_reset);
        let failed = tokio::select! {
            // Whoever comes next begins again, and switches off what was begun.
            () = stop.cancelled() => return,
            reset = reset => reset.err(),
        };
        if let Some(error) = failed {
            tracing::warn!(worker = "sample-reset", error = &error as &dyn std::error::Error, "failed");
        }
    }
}
