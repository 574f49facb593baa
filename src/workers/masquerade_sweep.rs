//! Puts the end of support sessions and hijacks into the log whose time is over. Nothing waits for it: at that time they
//! are over whatever is written. The event says when that was.

use daybook_domain::{
    envelope::Metadata, hijack::HijackCommand, registry::AnyCommand, support_session::SupportSessionCommand,
};
use daybook_projections::{Schema, hijacks, support_sessions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{WorkerSettings, rounds, support_overview::follow_masquerades, wait};
use crate::{
    eventstore::{Command, EventStore, StoreError, Unit},
    masquerade_log::MasqueradeLog,
    tenancy::{Access, TenantDirectory, TenantTx},
};

/// Ends written in one turn of a log.
const BATCH: i64 = 100;

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    log: MasqueradeLog,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    let tenants = rounds("masquerade-sweep", &directory, settings.masquerade_sweep, &stop, |schema| {
        let (store, log) = (store.clone(), log.clone());
        async move { sweep(&store, &log, &schema).await.map(drop) }
    });
    let platform = async {
        while !wait(settings.masquerade_sweep, &stop).await {
            let swept = async {
                sweep(&store, &log, &Schema::platform()).await?;
                follow_masquerades(&store, None).await
            };
            if let Err(error) = swept.await {
                tracing::warn!(
                    worker = "masquerade-sweep",
                    error = &error as &dyn std::error::Error,
                    "failed for the platform"
                );
            }
        }
    };
    tokio::join!(tenants, platform);
}

/// Notes the ends of one log; answers how many.
///
/// # Errors
/// When PostgreSQL refuses. What was noted until then stays.
pub async fn sweep(store: &EventStore, log: &MasqueradeLog, schema: &Schema) -> Result<usize, StoreError> {
    let attempted = "look for support sessions and hijacks that ran out";
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
    let sessions = match schema.tenant_id() {
        Some(_) => support_sessions::lapsed(&mut tx, BATCH).await.map_err(StoreError::db(attempted))?,
        None => Vec::new(),
    };
    let hijacked = hijacks::lapsed(&mut tx, BATCH).await.map_err(StoreError::db(attempted))?;
    tx.release();
    let noted = sessions.len() + hijacked.len();
    let lapse = |id: Uuid, command: AnyCommand| {
        Unit::of(Command::to(id, command), Metadata::system("masquerade-sweep"))
    };
    for id in sessions {
        let command = SupportSessionCommand::Lapse { allowed: true };
        store.execute(schema, lapse(id, command.into())).await?;
    }
    for id in hijacked {
        let committed =
            store.execute(schema, lapse(id, HijackCommand::Lapse { allowed: true }.into())).await?;
        log.ended_by(store, schema, &committed, None).await;
    }
    Ok(noted)
}
