//! Copies the support requests, support sessions and hijacks of all tenants into the platform's schema, and writes to
//! whoever asked what became of a request.
//!
//! A request and its answers are in the tenant's log; the list of all tenants' is in another schema, and so cannot be in
//! the same transaction. Whoever gives the command follows the tenant right after its commit, so the list is behind by
//! the milliseconds of that. When the process dies in between, or the client goes away, it is behind until the next round
//! reaches the tenant ([`super::WorkerSettings::support_overview`]: 30 s), and the letter until the mailer's after that.
//!
//! The letter is put into the platform's outbox in the transaction that first copies what it tells of. So it is queued
//! once, however many nodes follow; of answers that come close upon one another only the last may be told.

use std::borrow::Cow;

use daybook_domain::{Email, TenantId};
use daybook_projections::{
    Schema, hijacks,
    masquerade_overview::{self as masquerades, Kind},
    support_overview as overview,
    support_requests::{self, SupportRequestRow},
    support_sessions, tenants, users,
};
use tokio_util::sync::CancellationToken;

use super::{WorkerSettings, rounds};
use crate::{
    eventstore::{EventStore, StoreError},
    mail::{
        SealError, outbox,
        sealer::KeySealer,
        templates::{self, Addressee},
    },
    tenancy::{Access, TenantDirectory, TenantTx},
};

/// Requests copied in one transaction.
const BATCH: i64 = 100;

/// Runs until it is stopped.
pub async fn run(
    store: EventStore,
    directory: TenantDirectory,
    settings: WorkerSettings,
    stop: CancellationToken,
) {
    rounds("support-overview", &directory, settings.support_overview, &stop, |schema| {
        let store = store.clone();
        async move {
            if let Some(tenant) = schema.tenant_id()
                && is_behind(&store, tenant).await?
            {
                follow(&store, tenant).await?;
                follow_masquerades(&store, Some(tenant)).await?;
            }
            Ok(())
        }
    })
    .await;
}

/// Whether anything of a tenant is not copied: as a rule nothing is, and then that is all that is asked.
async fn is_behind(store: &EventStore, tenant: TenantId) -> Result<bool, StoreError> {
    let attempted = "compare the lists of support with a tenant's";
    let pool = store.database().app();
    let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
    let copied = overview::copied(&mut tx, tenant.0).await.map_err(StoreError::db(attempted))?;
    tx.release();
    let mut tx = TenantTx::begin(pool, &Schema::tenant(tenant), Access::Read).await?;
    let latest = overview::latest(&mut tx).await.map_err(StoreError::db(attempted))?;
    tx.release();
    Ok(copied != latest)
}

/// Copies what happened to the support sessions and hijacks of a tenant, or to the hijacks of the platform's own log,
/// since they were last followed.
///
/// # Errors
/// When PostgreSQL refuses. What was copied until then stays.
pub async fn follow_masquerades(store: &EventStore, tenant: Option<TenantId>) -> Result<(), StoreError> {
    let attempted = "copy support sessions and hijacks";
    let pool = store.database().app();
    let (platform, id) = (Schema::platform(), tenant.map(|tenant| tenant.0));
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    loop {
        let mut tx = TenantTx::begin(pool, &platform, Access::Read).await?;
        let sessions_to = masquerades::followed_to(&mut tx, Kind::SupportSession, id)
            .await
            .map_err(StoreError::db(attempted))?;
        let hijacks_to =
            masquerades::followed_to(&mut tx, Kind::Hijack, id).await.map_err(StoreError::db(attempted))?;
        tx.release();
        let mut tx = TenantTx::begin(pool, &schema, Access::Read).await?;
        let sessions = match tenant {
            Some(_) => support_sessions::changed_after(&mut tx, sessions_to, BATCH)
                .await
                .map_err(StoreError::db(attempted))?,
            None => Vec::new(),
        };
        let hijacks =
            hijacks::changed_after(&mut tx, hijacks_to, BATCH).await.map_err(StoreError::db(attempted))?;
        tx.release();
        if sessions.is_empty() && hijacks.is_empty() {
            return Ok(());
        }
        let batch = usize::try_from(BATCH).unwrap_or(usize::MAX);
        let full = sessions.len() >= batch || hijacks.len() >= batch;
        let mut tx = TenantTx::begin(pool, &platform, Access::Write).await?;
        if let Some(id) = id {
            masquerades::copy_sessions(&mut tx, id, &sessions).await.map_err(StoreError::db(attempted))?;
        }
        masquerades::copy_hijacks(&mut tx, id, &hijacks).await.map_err(StoreError::db(attempted))?;
        tx.commit().await?;
        // Whoever reads on in an open session moves its row on meanwhile: that is for the next time.
        if !full {
            return Ok(());
        }
    }
}

/// Copies what happened to a tenant's support requests since it was last followed; answers how many letters it queued.
///
/// # Errors
/// When PostgreSQL refuses, or a letter cannot be sealed. What was copied until then stays.
pub async fn follow(store: &EventStore, tenant: TenantId) -> Result<usize, StoreError> {
    let mut letters = 0;
    loop {
        let changed = changed(store, tenant).await?;
        if changed.is_empty() {
            return Ok(letters);
        }
        let full = changed.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
        letters += copy(store, tenant, &changed).await?;
        if !full {
            return Ok(letters);
        }
    }
}

async fn changed(store: &EventStore, tenant: TenantId) -> Result<Vec<SupportRequestRow>, StoreError> {
    let attempted = "look for changed support requests";
    let pool = store.database().app();
    let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
    let position = overview::followed_to(&mut tx, tenant.0).await.map_err(StoreError::db(attempted))?;
    tx.release();
    let mut tx = TenantTx::begin(pool, &Schema::tenant(tenant), Access::Read).await?;
    let changed =
        support_requests::changed_after(&mut tx, position, BATCH).await.map_err(StoreError::db(attempted))?;
    tx.release();
    Ok(changed)
}

/// All of them or none: how far a tenant was followed is read off the rows.
async fn copy(store: &EventStore, tenant: TenantId, rows: &[SupportRequestRow]) -> Result<usize, StoreError> {
    let attempted = "copy support requests";
    let platform = Schema::platform();
    let mut letters = 0;
    let mut tx = TenantTx::begin(store.database().app(), &platform, Access::Write).await?;
    for row in rows {
        if !overview::copy(&mut tx, tenant.0, row).await.map_err(StoreError::db(attempted))? {
            continue;
        }
        let Some(outcome) = outcome(row) else { continue };
        let requester = users::get(&mut tx, row.requested_by).await.map_err(StoreError::db(attempted))?;
        let Some(email) =
            requester.filter(|user| user.status == "active").and_then(|user| user.email.into_exposed())
        else {
            continue;
        };
        let house = tenants::get(&mut tx, tenant.0).await.map_err(StoreError::db(attempted))?;
        let house = house.map(|house| house.name).unwrap_or_default();
        let to = Addressee { email: Email::new(&email, "/email")?, user: Some(row.requested_by) };
        let letter = templates::support_answered(
            to,
            &house,
            row.id,
            &outcome,
            row.ended_reason.expose().map(String::as_str),
        );
        let sealer = KeySealer(store.keys().clone());
        let sealed = letter
            .seal(&sealer, None)
            .map_err(|SealError| StoreError::Sealing("a letter cannot be sealed"))?;
        outbox::insert(&mut tx, &platform, &sealed).await.map_err(StoreError::db(attempted))?;
        letters += 1;
    }
    tx.commit().await?;
    Ok(letters)
}

/// How the sentence ends that tells what became of a request; nothing while it waits.
fn outcome(row: &SupportRequestRow) -> Option<Cow<'static, str>> {
    match row.state.as_str() {
        "approved" => {
            let until =
                row.open_until.map(|until| until.format("%H:%M:%S UTC").to_string()).unwrap_or_default();
            Some(format!("was approved: you may look until {until}").into())
        }
        "denied" => Some("was denied".into()),
        "revoked" if row.approved_at.is_some() => Some("was approved, and the window has been closed".into()),
        "revoked" => Some("was taken back".into()),
        _ => None,
    }
}
