//! Follows the keys file, so that a rotation needs no restart.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::wait;
use crate::keys::Keys;

/// How often the file is looked at. `daybook keys rotate` waits longer than this before it seals anything anew.
const EVERY: Duration = Duration::from_secs(1);

/// Runs until it is stopped.
pub async fn run(keys: Arc<Keys>, stop: CancellationToken) {
    // A file that stays wrong is one warning, not one a second.
    let mut failing = false;
    while !wait(EVERY, &stop).await {
        let looked_at = keys.clone();
        match tokio::task::spawn_blocking(move || looked_at.reload_if_changed()).await {
            Ok(Ok(changed)) => {
                failing = false;
                if changed {
                    tracing::info!(master_keys = ?keys.master_key_ids(), "took over the changed keys file");
                }
            }
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the keys file cannot be read again; the keys stay what they were"
                );
            }
            // Said already, or the process is ending.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
