//! Looks again for the records that prove domains. A domain whose record is gone was perhaps sold: once the record is
//! missing several times in a row, the domain lapses. That DNS cannot be asked says nothing about a record.
//!
//! The nodes share the work by a table: each domain is checked once in the time, by whichever node comes first.

use std::time::Duration;

use daybook_domain::{DomainId, Hostname, TenantId, envelope::Metadata, tenant::TenantCommand};
use daybook_projections::Schema;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{WorkerSettings, wait};
use crate::{
    dns::{self, TxtLookup},
    eventstore::{Command, EventStore, StoreError, Unit},
    tenancy::{Access, TenantTx},
};

/// Checks in a row that find no record until a domain lapses.
const PATIENCE: i32 = 3;
/// Domains that a node takes together; it checks them one after the other.
const BATCH: i64 = 10;
/// The longest and the shortest time between two looks for domains that are due.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// Looks in the time in which each domain is checked once: domains are due at the time of day they were proved at,
/// which spreads them, and a node takes few at each look, which keeps them spread after a standstill.
const LOOKS: u32 = 100;

/// A domain whose turn it is.
#[derive(Clone, Debug, sqlx::FromRow)]
struct Due {
    tenant_id: Uuid,
    domain_id: Uuid,
    hostname: String,
    token: String,
}

/// Runs until it is stopped.
pub async fn run(store: EventStore, settings: WorkerSettings, stop: CancellationToken) {
    let pause = (settings.domain_recheck / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    while !wait(pause, &stop).await {
        if let Err(error) = look(&store, &settings.txt_lookup, settings.domain_recheck, &stop).await {
            tracing::warn!(worker = "domain-recheck", error = &error as &dyn std::error::Error, "failed");
        }
    }
}

/// Checks the domains that were not checked for so long; a few, or all if more are not due.
async fn look(
    store: &EventStore,
    lookup: &TxtLookup,
    every: Duration,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    for domain in due(store, every).await? {
        tokio::select! {
            // What is left of the batch has its turn in the next round.
            () = stop.cancelled() => return Ok(()),
            checked = check(store, lookup, &domain) => checked?,
        }
    }
    Ok(())
}

/// Takes domains, also of tenants that are switched off: whose a host is, is the platform's to know, and one that was sold
/// is the new owner's to prove. They count as checked from now on, so that no other node takes them.
async fn due(store: &EventStore, every: Duration) -> Result<Vec<Due>, StoreError> {
    let attempted = "take domains to be checked";
    let mut tx = TenantTx::begin(store.database().app(), &Schema::platform(), Access::Write).await?;
    sqlx::query(
        "DELETE FROM domain_checks c
         WHERE NOT EXISTS (SELECT FROM tenant_domains d WHERE d.domain_id = c.domain_id)",
    )
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db(attempted))?;
    let due = sqlx::query_as(
        "WITH taken AS (
             INSERT INTO domain_checks AS c (domain_id, checked_at)
             SELECT d.domain_id, now() FROM tenant_domains d
             LEFT JOIN domain_checks k ON k.domain_id = d.domain_id
             WHERE greatest(k.checked_at, d.verified_at) <= now() - make_interval(secs => $1)
             ORDER BY greatest(k.checked_at, d.verified_at), d.domain_id LIMIT $2
             ON CONFLICT (domain_id) DO UPDATE SET checked_at = EXCLUDED.checked_at
             WHERE c.checked_at <= now() - make_interval(secs => $1)
             RETURNING domain_id)
         SELECT d.tenant_id, d.domain_id, d.hostname, d.token
         FROM domain_claims d JOIN taken ON taken.domain_id = d.domain_id",
    )
    .bind(every.as_secs_f64())
    .bind(BATCH)
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::db(attempted))?;
    tx.commit().await?;
    Ok(due)
}

async fn check(store: &EventStore, lookup: &TxtLookup, domain: &Due) -> Result<(), StoreError> {
    let hostname = Hostname::new(&domain.hostname, "")?;
    let records = match lookup.txt(&dns::challenge_name(&hostname)).await {
        Ok(records) => records,
        Err(error) => {
            metrics::counter!("daybook_domain_checks_total", "outcome" => "unknown").increment(1);
            tracing::warn!(%hostname, error = &error as &dyn std::error::Error, "a domain cannot be checked");
            return Ok(());
        }
    };
    if dns::proves(&records, &domain.token) {
        metrics::counter!("daybook_domain_checks_total", "outcome" => "found").increment(1);
        return note(
            store,
            domain,
            "UPDATE domain_checks SET missing = 0 WHERE domain_id = $1 RETURNING missing",
        )
        .await
        .map(drop);
    }
    metrics::counter!("daybook_domain_checks_total", "outcome" => "missing").increment(1);
    let count = "UPDATE domain_checks SET missing = missing + 1 WHERE domain_id = $1 RETURNING missing";
    if note(store, domain, count).await?.is_none_or(|missing| missing < PATIENCE) {
        return Ok(());
    }
    tracing::info!(%hostname, tenant = %domain.tenant_id, "the record of a domain is gone: it lapses");
    let command = TenantCommand::LapseDomain { domain_id: DomainId(domain.domain_id) };
    let unit = Unit::of(Command::to(TenantId(domain.tenant_id), command), Metadata::system("domain-recheck"));
    match store.execute(&Schema::platform(), unit).await {
        // Given up meanwhile.
        Ok(_) | Err(StoreError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    // Should the host be proved again, it begins anew.
    note(store, domain, "DELETE FROM domain_checks WHERE domain_id = $1 RETURNING missing").await.map(drop)
}

/// Changes the row of a domain; answers how often its record was missing.
async fn note(store: &EventStore, domain: &Due, sql: &'static str) -> Result<Option<i32>, StoreError> {
    let attempted = "note a domain's check";
    let mut tx = TenantTx::begin(store.database().app(), &Schema::platform(), Access::Write).await?;
    let missing = sqlx::query_scalar(sql)
        .bind(domain.domain_id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db(attempted))?;
    tx.commit().await?;
    Ok(missing)
}
