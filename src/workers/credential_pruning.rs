//! Deletes what nobody can be recognised by any more: refresh tokens whose time or session is over, codes that ran out,
//! failures that no longer count.

use daybook_projections::Schema;
use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, rounds, wait};
use crate::{
    auth::lockout,
    eventstore::{EventStore, StoreError},
    tenancy::{Access, TenantDirectory, TenantTx},
};

/// A used token is kept for a while after its session: whoever shows it then is told to sign in again, like before.
const DELETIONS: [&str; 3] = [
    "DELETE FROM {s}.refresh_tokens t
     WHERE t.expires_at < now()
        OR t.issued_at < now() - interval '1 day'
           AND NOT EXISTS (SELECT FROM {s}.user_sessions s WHERE s.session_id = t.session_id)",
    "DELETE FROM {s}.reset_codes WHERE expires_at < now() - interval '1 day'",
    "DELETE FROM {s}.known_addresses WHERE last_seen < now() - interval '180 days'",
];

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    let every = settings.pruning;
    let tenants = rounds("credential-pruning", &directory, every, &stop, |schema| {
        let store = store.clone();
        async move { prune(&store, &schema).await }
    });
    let platform = async {
        while !wait(every, &stop).await {
            let pruned = async {
                prune(&store, &Schema::platform()).await?;
                Ok::<_, StoreError>(lockout::prune(store.database()).await?)
            };
            if let Err(error) = pruned.await {
                tracing::warn!(
                    worker = "credential-pruning",
                    error = &error as &dyn std::error::Error,
                    "failed for the platform"
                );
            }
        }
    };
    tokio::join!(tenants, platform);
}

/// Deletes what is over in one schema.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn prune(store: &EventStore, schema: &Schema) -> Result<(), StoreError> {
    for sql in DELETIONS {
        let mut tx = TenantTx::begin(store.database().app(), schema, Access::Write).await?;
        sqlx::query(&schema.sql(sql))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("delete credentials that are over"))?;
        tx.commit().await?;
    }
    Ok(())
}
