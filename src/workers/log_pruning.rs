//! Prunes each tenant's log of what its plan no longer keeps.
//!
//! In this order, each step safe to repeat and to break off at any point: what stands in the way refuses it, by name; what
//! is to go is compared with the hash tree, once more and for the last time; what goes on is carried over the cut, in small
//! batches that let writers in between, and signed; `audit.pruned` says what goes, and from its commit on nobody reads that
//! any more; when that is signed as well, the rows are deleted, under a role that may do nothing else. A killed run leaves
//! events that are carried over and not pruned yet, or pruned and not deleted yet: the next one goes on from there.
//!
//! The hashes stay, all of them: whoever has a receipt can still show that its event was in the log.

use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook_domain::{
    DomainError, TenantId,
    audit_trail::{AuditTrail, AuditTrailCommand},
    envelope::Metadata,
};
use daybook_projections::{Schema, log};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{WorkerSettings, wait};
use crate::{
    eventstore::{
        Command, EventStore, StoreError, StreamRef, Unit,
        leaf::leaf_hash,
        load::Reader,
        prune::{self, Hindrance},
    },
    ledger::{Cause, Ledger, LedgerError},
    retention::Retention,
    tenancy::{Access, Database, TenancyError, TenantTx},
};

const FIND: &str = "look for the last event before a cut";
const ACTOR: &str = "log-pruning";
/// Nodes that start often must come to it as well.
const FIRST: Duration = Duration::from_secs(300);
/// Streams listed at once, and carried over in one unit: writers get their turn between units.
const LISTED: i64 = 500;
const CARRIED: usize = 50;
/// Events deleted in one transaction.
const DELETED: i64 = 5_000;
/// Leaves compared with the tree at once.
const COMPARED: i64 = 4_096;
/// No checkpoint could be signed: others do so at the same time, again and again.
const UNSIGNED: &str = "unsigned_checkpoint";
/// A state does not fit into an event.
const TOO_LONG: &str = "state_too_long";
/// How often a unit is tried again that met a command to one of its streams in the same batch.
const TRIES: u32 = 20;

/// What a log is pruned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cut {
    /// What was recorded before then goes; what was recorded at that instant stays.
    pub at: DateTime<Utc>,
    /// The days of history kept.
    pub history_days: u32,
}

/// What a run did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PruneReport {
    /// What it pruned by.
    pub cut: Cut,
    /// The position of the last event before the cut.
    pub through_position: i64,
    /// How many events that are not pruned yet are up to there.
    pub events: i64,
    /// How many events carried streams over.
    pub carried: i64,
    /// How many events were deleted, those of an earlier run that was broken off among them.
    pub deleted: u64,
    /// What stands in the way, by its name: a [`Hindrance`], or what is wrong with the log. Nothing was done then but to
    /// delete what was pruned before.
    pub refused: Option<&'static str>,
}

/// Why a run failed half-way.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The log could not be read or written.
    #[error("prune a log")]
    Store(#[from] StoreError),
    /// PostgreSQL is away or refuses.
    #[error("prune a log")]
    Tenancy(#[from] TenancyError),
    /// The ledger could not be read or written.
    #[error("prune a log")]
    Ledger(#[from] LedgerError),
    /// What goes on has a state that is too long for an event.
    #[error("{} {} is too long to be carried over", .0.aggregate_type.as_str(), .0.id)]
    TooLong(StreamRef),
    /// Too many commands kept coming to a stream that was to be carried over.
    #[error("a stream is too busy to be carried over")]
    Busy,
}

/// Runs until it is stopped.
pub async fn run(ledger: Ledger, settings: WorkerSettings, stop: CancellationToken) {
    let mut pause = FIRST.min(settings.retention);
    while !wait(pause, &stop).await {
        pause = settings.retention;
        let tenants = match tenants(ledger.store().database()).await {
            Ok(tenants) => tenants,
            Err(error) => {
                tracing::warn!(
                    worker = ACTOR,
                    error = &error as &dyn std::error::Error,
                    "no list of tenants"
                );
                continue;
            }
        };
        for tenant in tenants {
            if stop.is_cancelled() {
                return;
            }
            let schema = Schema::tenant(tenant);
            match prune_tenant(&ledger, tenant).await {
                Ok(Some(PruneReport { refused: Some(hindrance), through_position, .. })) => {
                    tracing::warn!(%schema, hindrance, through_position, "a log is not pruned");
                }
                Ok(Some(report)) if report.deleted > 0 => {
                    tracing::info!(%schema, deleted = report.deleted, carried = report.carried, "a log was pruned");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(worker = ACTOR, %schema, error = &error as &dyn std::error::Error, "failed");
                }
            }
        }
    }
}

/// Prunes a tenant's log by its plan, as it is now; `None` when there is no such tenant.
///
/// # Errors
/// When PostgreSQL refuses or the log is corrupt. What was done stays, and the next run goes on from there.
pub async fn prune_tenant(ledger: &Ledger, tenant: TenantId) -> Result<Option<PruneReport>, PruneError> {
    match cut(ledger.store().database(), tenant).await? {
        Some(cut) => prune_by(ledger, &Schema::tenant(tenant), cut, Some(tenant)).await.map(Some),
        None => Ok(None),
    }
}

/// Where the cut of a tenant's log is now, by its plan, those it left not long ago, and the database's clock; `None` when there
/// is no such tenant.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn cut(database: &Database, tenant: TenantId) -> Result<Option<Cut>, TenancyError> {
    let Some(retention) = Retention::of(database, tenant).await? else { return Ok(None) };
    let now = retention.now();
    Ok(Some(Cut { at: retention.cut(now), history_days: retention.days(now) }))
}

/// What a run would do now.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn plan(store: &EventStore, schema: &Schema, cut: Cut) -> Result<PruneReport, PruneError> {
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
    let before = prune::pruned_through(&mut tx, schema).await?;
    let through_position =
        log::last_before(&mut tx, cut.at).await.map_err(TenancyError::db(FIND))?.max(before);
    let refused = if through_position > before {
        prune::hindrance(&mut tx, schema, through_position).await?.map(Hindrance::as_str)
    } else {
        None
    };
    tx.release();
    let events = through_position - before;
    Ok(PruneReport { cut, through_position, events, carried: 0, deleted: 0, refused })
}

/// Prunes a log of what was recorded before a cut, whatever a plan says.
///
/// # Errors
/// When PostgreSQL refuses or the log is corrupt. What was done stays, and the next run goes on from there.
pub async fn prune(ledger: &Ledger, schema: &Schema, cut: Cut) -> Result<PruneReport, PruneError> {
    prune_by(ledger, schema, cut, None).await
}

/// `plan_of`: whose plan the cut is by.
async fn prune_by(
    ledger: &Ledger,
    schema: &Schema,
    cut: Cut,
    plan_of: Option<TenantId>,
) -> Result<PruneReport, PruneError> {
    let store = ledger.store();
    let mut report = plan(store, schema, cut).await?;
    let through = report.through_position;
    // What an earlier run had said that it prunes, and did not come to.
    (report.deleted, report.refused) = match (delete(ledger, schema).await?, report.refused) {
        (Ok(deleted), refused) => (deleted, refused),
        (Err(refused), _) => (0, Some(refused)),
    };
    if report.events == 0 || report.refused.is_some() {
        return Ok(report);
    }
    report.refused = as_signed(ledger, schema, through - report.events, through).await?;
    if report.refused.is_some() {
        return Ok(report);
    }
    for _ in 0..TRIES {
        match carry_over(store, schema, through).await {
            Ok(carried) => report.carried += carried,
            Err(PruneError::TooLong(stream)) => {
                let (aggregate_type, id) = (stream.aggregate_type.as_str(), stream.id);
                tracing::warn!(worker = ACTOR, %schema, aggregate_type, %id, "too long to be carried over");
                report.refused = Some(TOO_LONG);
                return Ok(report);
            }
            Err(error) => return Err(error),
        }
        report.refused = sign(ledger, schema).await?;
        if report.refused.is_some() {
            return Ok(report);
        }
        let root = ledger.root_at(schema, through.unsigned_abs()).await?;
        // All of that takes its time, in which the tenant may have moved to a plan that keeps more.
        if let Some(tenant) = plan_of
            && keeps_more(store.database(), schema, tenant, through).await?
        {
            report.refused = Some(Hindrance::PlanChanged.as_str());
            return Ok(report);
        }
        report.refused = say_so(store, schema, cut, through, hex::encode(root)).await?;
        // Something that had seemed to be over went on meanwhile.
        if report.refused != Some(Hindrance::NotCarriedOver.as_str()) {
            break;
        }
    }
    if report.refused.is_none() {
        match delete(ledger, schema).await? {
            Ok(deleted) => report.deleted += deleted,
            Err(refused) => report.refused = Some(refused),
        }
    }
    Ok(report)
}

/// Whether a tenant's plan, as it is now, keeps events up to a position.
async fn keeps_more(
    database: &Database,
    schema: &Schema,
    tenant: TenantId,
    through: i64,
) -> Result<bool, PruneError> {
    let Some(now) = cut(database, tenant).await? else { return Ok(true) };
    let mut tx = TenantTx::begin(database.app(), schema, Access::Read).await?;
    let last = log::last_before(&mut tx, now.at).await.map_err(TenancyError::db(FIND))?;
    tx.release();
    Ok(last < through)
}

/// Signs the log as it is; answers with what is wrong with it, if anything is.
async fn sign(ledger: &Ledger, schema: &Schema) -> Result<Option<&'static str>, PruneError> {
    match ledger.checkpoint_now(schema).await {
        Ok(_) => Ok(None),
        Err(LedgerError::Contended) => Ok(Some(UNSIGNED)),
        Err(error) => error.cause().map(|cause| Some(cause.as_str())).ok_or(error.into()),
    }
}

/// Whether the leaves after a position, up to another, are those under the checkpoint that is signed now: what is carried
/// over is folded from them, and nobody can look at them again. Answers with what is wrong, if anything is.
async fn as_signed(
    ledger: &Ledger,
    schema: &Schema,
    after: i64,
    through: i64,
) -> Result<Option<&'static str>, PruneError> {
    if let Some(refused) = sign(ledger, schema).await? {
        return Ok(Some(refused));
    }
    let mut from = after;
    while from < through {
        let to = through.min(from + COMPARED);
        let hashes = ledger.leaf_hashes(schema, from.unsigned_abs(), to.unsigned_abs()).await;
        let hashes = match hashes {
            Ok(hashes) => hashes,
            Err(error) => return error.cause().map(|cause| Some(cause.as_str())).ok_or(error.into()),
        };
        // One snapshot: another run may delete these meanwhile, their values before they themselves.
        let access = Access::ReadConsistent;
        let mut tx = TenantTx::begin(ledger.store().database().app(), schema, access).await?;
        let pruned = prune::pruned_through(&mut tx, schema).await?;
        if pruned > from {
            tx.release();
            from = pruned;
            continue;
        }
        let rows = prune::rows(&mut tx, schema, from, to).await?;
        let mut stored = rows.iter();
        for (position, hash) in (from + 1..).zip(&hashes) {
            match stored.next() {
                Some(row) if row.position == position && leaf_hash(&row.leaf) == *hash => {}
                Some(row) if row.position == position => return Ok(Some(Cause::LeafEdited.as_str())),
                Some(_) | None => return Ok(Some(Cause::MissingEvent.as_str())),
            }
        }
        // Reading them opens every personal value, and compares it with its leaf.
        let mut reader = Reader::disclosing(schema, ledger.store().keys());
        match reader.after(&mut tx, from, to - from).await {
            Ok(_) => {}
            Err(StoreError::Sealing(_)) => return Ok(Some(Cause::SealedValueInvalid.as_str())),
            Err(error) => return Err(error.into()),
        }
        if let Some(cause) = prune::fault(&mut tx, schema, &rows).await? {
            return Ok(Some(cause.as_str()));
        }
        tx.release();
        from = to;
    }
    Ok(None)
}

/// Carries every stream over a position that has events up to there and goes on; answers with how many events.
///
/// # Errors
/// When PostgreSQL refuses or the log is corrupt.
pub async fn carry_over(store: &EventStore, schema: &Schema, cut: i64) -> Result<i64, PruneError> {
    let (mut after, mut carried) = (0, 0);
    loop {
        let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
        let page = prune::ending_below(&mut tx, schema, after, cut, LISTED).await?;
        tx.release();
        let Some((last, _)) = page.last() else { return Ok(carried) };
        after = *last;
        let streams: Vec<StreamRef> = page.into_iter().map(|(_, stream)| stream).collect();
        for streams in streams.chunks(CARRIED) {
            carried += carry_some(store, schema, streams, cut).await?;
        }
    }
}

async fn carry_some(
    store: &EventStore,
    schema: &Schema,
    streams: &[StreamRef],
    cut: i64,
) -> Result<i64, PruneError> {
    let commands = streams.iter().map(|stream| Command::carry_over(*stream, cut));
    let mut unit = Unit::of(Command::carry_over(streams[0], cut), Metadata::system(ACTOR));
    unit.commands = commands.collect();
    for _ in 0..TRIES {
        match store.execute(schema, unit.clone()).await {
            Ok(committed) => return Ok(committed.last_position - committed.first_position + 1),
            // A command to one of them was in the same batch; the next batch has it behind it.
            Err(StoreError::Refused { error: DomainError::VersionConflict, .. }) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // The only thing to be found wrong with what is carried over. Which it is shows one by one.
            Err(StoreError::Refused { error: DomainError::Validation { .. }, .. }) => {
                if let [stream] = streams {
                    return Err(PruneError::TooLong(*stream));
                }
                let mut carried = 0;
                for stream in streams.chunks(1) {
                    carried += Box::pin(carry_some(store, schema, stream, cut)).await?;
                }
                return Ok(carried);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(PruneError::Busy)
}

/// Says in the log that it is pruned up to a position; answers with what stands in the way, if anything does.
async fn say_so(
    store: &EventStore,
    schema: &Schema,
    cut: Cut,
    through_position: i64,
    leaf_hash_root: String,
) -> Result<Option<&'static str>, PruneError> {
    let command = AuditTrailCommand::Prune {
        through_position,
        cut_at: cut.at,
        history_days: cut.history_days,
        leaf_hash_root: Some(leaf_hash_root),
    };
    let unit =
        Unit::of(Command::to(AuditTrail::stream_id(schema.log_id()), command), Metadata::system(ACTOR));
    match store.execute(schema, unit).await {
        Ok(_) => Ok(None),
        Err(StoreError::Refused { error: DomainError::WrongState { state, detail }, .. }) => {
            match Hindrance::ALL.iter().find(|hindrance| hindrance.as_str() == state) {
                Some(hindrance) => Ok(Some(hindrance.as_str())),
                None => Err(StoreError::from(DomainError::WrongState { state, detail }).into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes what an event says is pruned, once that event is signed; answers with how many events, or with what is wrong
/// with the log. Each batch is a transaction of its own.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn delete(ledger: &Ledger, schema: &Schema) -> Result<Result<u64, &'static str>, PruneError> {
    let mut connection = ledger
        .store()
        .database()
        .owner()
        .acquire()
        .await
        .map_err(TenancyError::db("connect as the owner"))?;
    let (through, said) = prune::said_through(&mut connection, schema).await?;
    if !prune::has_events(&mut connection, schema, through).await? {
        return Ok(Ok(0));
    }
    // Nothing is deleted because of a row that anybody may have written who writes read models.
    if through != said {
        return Ok(Err(Cause::ReadModelMismatch.as_str()));
    }
    if let Some(refused) = sign(ledger, schema).await? {
        return Ok(Err(refused));
    }
    let mut deleted = 0;
    loop {
        match prune::delete_some(&mut connection, schema, through, DELETED).await? {
            0 => return Ok(Ok(deleted)),
            some => deleted += some,
        }
    }
}

/// Every tenant, active or not: a plan holds for either.
async fn tenants(database: &Database) -> Result<Vec<TenantId>, TenancyError> {
    let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Read).await?;
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM tenants ORDER BY id")
        .fetch_all(&mut *tx)
        .await
        .map_err(TenancyError::db("list the tenants"))?;
    tx.release();
    Ok(ids.into_iter().map(TenantId).collect())
}
