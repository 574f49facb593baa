//! Puts the end of support sessions and hijacks into the log that are over: by time, with their window, with the sign-in
//! they were begun from. Nothing waits for it: they are over whatever is written. Of time the event says when that was.

use daybook_domain::{
    envelope::Metadata, hijack::HijackCommand, registry::AnyCommand, support_session::SupportSessionCommand,
};
use daybook_projections::{Schema, hijacks, support_sessions};
use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, rounds, support_overview::follow_masquerades, wait};
use crate::{
    auth::{AuthDirectory, access_token::Use, masquerade::Standing},
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
    let auth = AuthDirectory::new(store.database().clone(), store.keys().clone());
    let tenants = rounds("masquerade-sweep", &directory, settings.masquerade_sweep, &stop, |schema| {
        let (store, auth, log) = (store.clone(), auth.clone(), log.clone());
        async move { sweep(&store, &auth, &log, &schema).await.map(drop) }
    });
    let platform = async {
        while !wait(settings.masquerade_sweep, &stop).await {
            let swept = async {
                sweep(&store, &auth, &log, &Schema::platform()).await?;
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

/// Notes the ends of one log: of time, of a window, of those in it who may not be any more. Answers how many it looked
/// at that are over.
///
/// # Errors
/// When PostgreSQL refuses. What was noted until then stays.
pub async fn sweep(
    store: &EventStore,
    auth: &AuthDirectory,
    log: &MasqueradeLog,
    schema: &Schema,
) -> Result<usize, StoreError> {
    let attempted = "look for support sessions and hijacks that ran out";
    let tenant = schema.tenant_id();
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
    let sessions = match tenant {
        Some(_) => support_sessions::unended(&mut tx, BATCH).await.map_err(StoreError::db(attempted))?,
        None => Vec::new(),
    };
    let hijacked = hijacks::unended(&mut tx, BATCH).await.map_err(StoreError::db(attempted))?;
    tx.release();
    let mut over = 0;
    let open = sessions.into_iter().map(|id| (Use::Support, id));
    for (usage, id) in open.chain(hijacked.into_iter().map(|id| (Use::Hijack, id))) {
        let allowed = match auth.standing_of(usage, tenant, id).await? {
            Standing::GoesOn(_) => continue,
            Standing::Over => true,
            Standing::NoLongerAllowed => false,
        };
        let lapse: AnyCommand = match usage {
            Use::Hijack => HijackCommand::Lapse { allowed }.into(),
            Use::Support | Use::Session => SupportSessionCommand::Lapse { allowed }.into(),
        };
        let unit = Unit::of(Command::to(id, lapse), Metadata::system("masquerade-sweep"));
        let committed = store.execute(schema, unit).await?;
        log.ended_by(store, schema, &committed, None).await;
        over += 1;
    }
    Ok(over)
}
