//! The sample tenant: synthetic data that is rich enough for every screen to have something on it. Support sessions of
//! the `mock` mode look at it instead of at somebody's own.
//!
//! Logs are only ever added to, so it is not emptied: a reset makes another tenant, fills it, lets the platform's row
//! name that one, and switches the one before off, which ends its tokens and keys within a second. Of many that ask,
//! on any node, one makes it: the row is held for a while by whoever does.

mod bookings;
mod content;
mod script;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, Utc};
use daybook_domain::{Currency, DomainError, Slug, TenantId, envelope::Metadata, tenant::TenantCommand};
use daybook_projections::Schema;
use tokio::time::sleep;
use uuid::Uuid;

use self::script::Step;
use crate::{
    eventstore::{EventStore, StoreError},
    tenancy::{
        Access, Database, TenancyError, TenantDirectory, TenantTx,
        admin::{NewTenant, TenantAdmin},
    },
};

/// The slug of the first one; those after it are called `sample-<date>`.
pub const SLUG: &str = "sample";
/// Who makes it, as events name them.
const ACTOR: &str = "sample";
/// How long the one who makes it may take before another one may.
const LEASE: Duration = Duration::from_secs(120);
/// How long whoever needs it waits for another one to have made it, and how often they look.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
/// How many units are on their way at once.
const WINDOW: usize = 500;

/// The right to make the next one, for a while.
#[derive(Clone, Copy, Debug)]
struct Lease {
    id: TenantId,
    now: DateTime<Utc>,
    day: NaiveDate,
    /// What somebody was making who did not come to its end.
    abandoned: Option<TenantId>,
}

/// The sample tenant, if there is one that may be used.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn current(database: &Database) -> Result<Option<TenantId>, TenancyError> {
    let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Read).await?;
    let found: Option<Uuid> = sqlx::query_scalar(
        "SELECT s.tenant_id FROM sample_tenant s JOIN tenants t ON t.id = s.tenant_id WHERE t.active",
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(TenancyError::db("read which tenant is the sample"))?;
    tx.release();
    Ok(found.map(TenantId))
}

/// The sample tenant; made now, which takes some seconds, if there is none. Of those who ask at once one makes it, and
/// the others wait.
///
/// # Errors
/// When PostgreSQL refuses, or another node takes longer than a minute.
pub async fn ensure(store: &EventStore, directory: &TenantDirectory) -> Result<TenantId, TenancyError> {
    let begun = Instant::now();
    loop {
        if let Some(tenant) = current(store.database()).await? {
            return Ok(tenant);
        }
        const MISSING: &str = "NOT EXISTS (SELECT FROM tenants t WHERE t.id = s.tenant_id AND t.active)";
        if let Some(lease) = take(store.database(), MISSING, 0).await? {
            return make(store, directory, lease).await;
        }
        if begun.elapsed() >= PATIENCE {
            return Err(StoreError::BatchFailed("the sample tenant is still being made").into());
        }
        sleep(LOOK).await;
    }
}

/// Makes the next sample tenant if the one there is was made before the last time that was due: every day, so long
/// after midnight (UTC, by the clock of the database). Answers the new one. Exactly one node does; where there is no
/// sample tenant nothing is made.
///
/// # Errors
/// When PostgreSQL refuses; the one there was stays then.
pub async fn reset_if_due(
    store: &EventStore,
    directory: &TenantDirectory,
    after_midnight: Duration,
) -> Result<Option<TenantId>, TenancyError> {
    retire(store, directory).await?;
    const DUE: &str = "s.tenant_id IS NOT NULL AND s.made_at < (date_trunc('day',
        (now() AT TIME ZONE 'UTC') - make_interval(secs => $3)) + make_interval(secs => $3)) AT TIME ZONE 'UTC'";
    match take(store.database(), DUE, after_midnight.as_secs()).await? {
        Some(lease) => make(store, directory, lease).await.map(Some),
        None => Ok(None),
    }
}

/// Takes the right to make the next one, if that is needed and nobody has it.
async fn take(
    database: &Database,
    needed: &'static str,
    after_midnight: u64,
) -> Result<Option<Lease>, TenancyError> {
    let id = TenantId(Uuid::now_v7());
    let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Write).await?;
    // Whoever waited for the row sees what it is now: the condition is asked again.
    let sql = format!(
        "WITH free AS (
             SELECT s.making FROM sample_tenant s
             WHERE (s.making_until IS NULL OR s.making_until < now()) AND $3::float8 >= 0 AND {needed} FOR UPDATE)
         UPDATE sample_tenant s SET making = $1, making_until = now() + make_interval(secs => $2)
         FROM free RETURNING now(), (now() AT TIME ZONE 'UTC')::date, free.making"
    );
    let taken: Option<(DateTime<Utc>, NaiveDate, Option<Uuid>)> = sqlx::query_as(&sql)
        .bind(id.0)
        .bind(LEASE.as_secs_f64())
        .bind(Duration::from_secs(after_midnight).as_secs_f64())
        .fetch_optional(&mut *tx)
        .await
        .map_err(TenancyError::db("take the making of the sample tenant"))?;
    tx.commit().await?;
    Ok(taken.map(|(now, day, abandoned)| Lease { id, now, day, abandoned: abandoned.map(TenantId) }))
}

/// Makes a tenant, fills it, lets it be the sample tenant, and switches the one before off.
async fn make(
    store: &EventStore,
    directory: &TenantDirectory,
    lease: Lease,
) -> Result<TenantId, TenancyError> {
    let begun = Instant::now();
    let admin = TenantAdmin::new(store.clone(), directory.clone());
    if let Some(abandoned) = lease.abandoned {
        switch_off(&admin, directory, abandoned).await?;
    }
    let made = fill(store, directory, &admin, &lease).await;
    if let Err(error) = made {
        // What is half full is nobody's. It stays in the platform's list, so a fault that lasts must not make many.
        switch_off(&admin, directory, lease.id).await?;
        rest(store.database(), lease.id).await?;
        return Err(error);
    }
    if !name_it(store.database(), &lease).await? {
        switch_off(&admin, directory, lease.id).await?;
        return Err(StoreError::BatchFailed("making the sample tenant took too long").into());
    }
    tracing::info!(tenant = %lease.id, took = ?begun.elapsed(), "a sample tenant was made");
    retire(store, directory).await?;
    Ok(lease.id)
}

async fn fill(
    store: &EventStore,
    directory: &TenantDirectory,
    admin: &TenantAdmin,
    lease: &Lease,
) -> Result<(), TenancyError> {
    let new = NewTenant {
        slug: free_slug(directory, lease.day).await?,
        name: "Sample tenant".to_owned(),
        plan: "business".to_owned(),
        temporary: true,
        time_zone: content::ZONE,
        currency: Currency::EUR,
    };
    admin.create_as(lease.id, new, &Metadata::system(ACTOR)).await?;
    let steps = content::script(lease.id, lease.now, lease.day).map_err(StoreError::from)?;
    play(store, &Schema::tenant(lease.id), steps).await?;
    Ok(())
}

/// Every step in its order, many on their way at once.
async fn play(store: &EventStore, schema: &Schema, steps: Vec<Step>) -> Result<(), StoreError> {
    let mut waiting = VecDeque::with_capacity(WINDOW);
    for step in steps {
        if waiting.len() >= WINDOW
            && let Some(first) = waiting.pop_front()
        {
            answered(first).await?;
        }
        waiting.push_back((step.may_have_happened, store.submit(schema, step.unit).await?));
    }
    for last in waiting {
        answered(last).await?;
    }
    Ok(())
}

type Waiting = (bool, tokio::sync::oneshot::Receiver<Result<crate::eventstore::Committed, StoreError>>);

async fn answered((may_have_happened, answer): Waiting) -> Result<(), StoreError> {
    match answer.await.unwrap_or(Err(StoreError::ShuttingDown)) {
        Ok(_) => Ok(()),
        Err(StoreError::Refused { error: DomainError::WrongState { .. }, .. }) if may_have_happened => Ok(()),
        Err(error) => Err(error),
    }
}

/// The first is called `sample`; slugs are not given twice, so those after it are called by their day as well.
async fn free_slug(directory: &TenantDirectory, day: NaiveDate) -> Result<Slug, TenancyError> {
    let dated = format!("{SLUG}-{}", day.format("%Y%m%d"));
    let mut slug = SLUG.to_owned();
    let mut number = 1;
    while directory.by_slug(&slug).await?.is_some() {
        slug = if number == 1 { dated.clone() } else { format!("{dated}-{number}") };
        number += 1;
    }
    Slug::new(&slug, "/slug").map_err(|error| StoreError::from(error).into())
}

/// Lets the platform's row name it, unless the right to was lost meanwhile.
async fn name_it(database: &Database, lease: &Lease) -> Result<bool, TenancyError> {
    let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Write).await?;
    let named = sqlx::query(
        "UPDATE sample_tenant SET retiring = tenant_id, tenant_id = $1, made_at = now(), day = $2,
                                  making = NULL, making_until = NULL
         WHERE making = $1 AND making_until > now()",
    )
    .bind(lease.id.0)
    .bind(lease.day)
    .execute(&mut *tx)
    .await
    .map_err(TenancyError::db("name the sample tenant"))?;
    tx.commit().await?;
    Ok(named.rows_affected() == 1)
}

/// Lets nobody begin again for a while: for an hour where there is a sample tenant, for a minute where there is none.
async fn rest(database: &Database, id: TenantId) -> Result<(), TenancyError> {
    let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Write).await?;
    sqlx::query(
        "UPDATE sample_tenant s
         SET making = NULL,
             making_until = now() + CASE WHEN EXISTS (SELECT FROM tenants t WHERE t.id = s.tenant_id AND t.active)
                                         THEN interval '1 hour' ELSE interval '1 minute' END
         WHERE making = $1",
    )
    .bind(id.0)
    .execute(&mut *tx)
    .await
    .map_err(TenancyError::db("put off the making of the sample tenant"))?;
    tx.commit().await
}

/// Switches the one before off. Until that has been done the row says so, and every look of the worker does it.
async fn retire(store: &EventStore, directory: &TenantDirectory) -> Result<(), TenancyError> {
    let mut tx = TenantTx::begin(store.database().app(), &Schema::platform(), Access::Read).await?;
    let retiring: Option<Uuid> = sqlx::query_scalar("SELECT retiring FROM sample_tenant")
        .fetch_one(&mut *tx)
        .await
        .map_err(TenancyError::db("read which sample tenant is over"))?;
    tx.release();
    let Some(retiring) = retiring else { return Ok(()) };
    let admin = TenantAdmin::new(store.clone(), directory.clone());
    switch_off(&admin, directory, TenantId(retiring)).await?;
    let mut tx = TenantTx::begin(store.database().app(), &Schema::platform(), Access::Write).await?;
    sqlx::query("UPDATE sample_tenant SET retiring = NULL WHERE retiring = $1")
        .bind(retiring)
        .execute(&mut *tx)
        .await
        .map_err(TenancyError::db("note that a sample tenant is over"))?;
    tx.commit().await
}

/// Switches a tenant off, if there is one and it is on.
async fn switch_off(
    admin: &TenantAdmin,
    directory: &TenantDirectory,
    tenant: TenantId,
) -> Result<(), TenancyError> {
    if directory.by_id(tenant).await?.is_none_or(|found| !found.active) {
        return Ok(());
    }
    match admin.command(tenant, TenantCommand::Deactivate, &Metadata::system(ACTOR)).await {
        // Switched off by somebody else meanwhile.
        Ok(_) | Err(TenancyError::Store(StoreError::Refused { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}
