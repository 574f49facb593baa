//! Checking a log that is in use: whether all that is stored is what was written, by what was signed.
//!
//! The tree is compared with itself from its lowest level up, and its roots with every checkpoint, with what the signer
//! remembers under its seal, with the log of heads and with the copy of that outside the database. The leaves are
//! compared with the tree, the columns with the leaves, and all else with the log: streams, sealed values, destroyed keys,
//! what was pruned, snapshots, read models. Each check goes on whatever another one finds.
//!
//! Nothing is written, but that projections may catch up.

mod event;
mod events;
mod findings;
mod frontier;
mod gone;
mod heads;
mod known;
mod models;
mod report;
mod rows;
mod tiles;
mod values;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use daybook_domain::TenantId;
use daybook_projections::Schema;
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::{findings::Finding, heads::Said, report::Report};
use self::{
    findings::Findings,
    gone::Facts,
    known::{Checkpoints, Known},
    rows::Snapshot,
    tiles::{Claim, Tree},
};
use super::{
    Cause, Checkpoint, HeadCopy, Ledger, LedgerError,
    head_log::LOG_ID,
    rows::Table,
    tree::{self, Hash, TILE_WIDTH, TileId},
    unsigned,
};
use crate::{
    eventstore::{
        Receipt,
        leaf::{Leaf, leaf_hash},
    },
    tenancy::Access,
};

/// How often it is said how far it is.
const TICK: Duration = Duration::from_millis(100);

/// A log to be checked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it is called in the report: a tenant's slug, or its id where it has none any more.
    pub name: String,
    /// Which.
    pub schema: Schema,
    /// Whether the platform's list of tenants names it.
    pub listed: bool,
    /// What must be in it.
    pub receipts: Vec<Receipt>,
    /// Verifier keys of which one must have signed the last checkpoint; none: those that are known here.
    pub keys: Vec<String>,
}

/// Checks logs.
pub struct Verification {
    ledger: Ledger,
    copy: HeadCopy,
    readers: usize,
}

impl Verification {
    /// Checks of the logs of a ledger, and of the copy of its log of heads.
    #[must_use]
    pub fn new(ledger: Ledger, copy: HeadCopy) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        // Of the owner's connections some are left for what else is compared meanwhile.
        Self { ledger, copy, readers: cores.clamp(2, 4) }
    }

    /// A tenant's log, by slug or id, also of a tenant that is only in the platform's log any more.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn find(&self, tenant: &str) -> Result<Option<Wanted>, LedgerError> {
        let attempted = "look for a tenant";
        let mut connection = self.owner().await?;
        let listed = rows::tenants(&mut connection).await.map_err(LedgerError::db(attempted))?;
        let id = Uuid::parse_str(tenant).ok();
        let matching = |(of, slug, _): &&(Uuid, Option<String>, bool)| {
            slug.as_deref() == Some(tenant) || Some(*of) == id
        };
        if let Some((id, slug, listed)) = listed.iter().find(matching) {
            return Ok(Some(wanted(*id, slug.clone(), *listed)));
        }
        let made = rows::tenants_made(&mut connection).await.map_err(LedgerError::db(attempted))?;
        let made = made.into_iter().find(|(_, leaf)| {
            Leaf::decode(leaf, 0).is_ok_and(|leaf| leaf.payload["slug"].as_str() == Some(tenant))
        });
        Ok(made.map(|(id, _)| wanted(id, Some(tenant.to_owned()), false)))
    }

    /// Every log there is, or is said to be anywhere: the platform's first.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn logs(&self, said: &Said) -> Result<Vec<Wanted>, LedgerError> {
        let attempted = "list the logs";
        let mut connection = self.owner().await?;
        let mut logs = vec![Wanted {
            name: "platform".to_owned(),
            schema: Schema::platform(),
            listed: true,
            receipts: Vec::new(),
            keys: Vec::new(),
        }];
        let mut known = BTreeSet::new();
        for (id, slug, listed) in rows::tenants(&mut connection).await.map_err(LedgerError::db(attempted))? {
            known.insert(id);
            logs.push(wanted(id, slug, listed));
        }
        drop(connection);
        let mut tx = self.ledger.begin(&Schema::platform(), Access::Read).await?;
        let signers = super::rows::signers(&mut tx).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        let signed = signers.into_iter().map(|row| row.log_id).filter(|id| !id.is_nil() && *id != LOG_ID);
        for id in signed.chain(said.heads.keys().filter_map(|origin| heads::tenant_of(origin))) {
            if known.insert(id) {
                logs.push(wanted(id, None, false));
            }
        }
        Ok(logs)
    }

    async fn owner(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, LedgerError> {
        let pool = self.ledger.store().database().owner();
        pool.acquire().await.map_err(LedgerError::db("connect as the owner"))
    }

    /// Checks the log of heads. What it says of the other logs is for [`Self::log`].
    pub async fn heads(&self) -> (Report, Said) {
        self.heads_for(None).await
    }

    /// The same; what is said is kept of this log only, where one is given.
    pub async fn heads_for(&self, wanted: Option<&Wanted>) -> (Report, Said) {
        let only = wanted.map(|wanted| Ledger::ending(wanted.schema.log_id().0));
        let began = Instant::now();
        let findings = Findings::default();
        let mut report = Report { log: "log of heads".to_owned(), ..Report::default() };
        let said = match self.check_heads(&findings, only).await {
            Ok(checked) => {
                report.origin = checked.origin;
                (report.position, report.events, report.size) = (checked.size, checked.entries, checked.size);
                report.signed = checked.size;
                report.unchecked = checked.unchecked;
                checked.said
            }
            Err(error) => {
                report.unchecked.push(format!("{:#}", anyhow::Error::from(error)));
                Said::default()
            }
        };
        (report.counts, report.findings) = findings.take();
        report.seconds = began.elapsed().as_secs_f64();
        (report, said)
    }

    /// Checks a log. `progress` is called with (done, all), in positions.
    pub async fn log(&self, wanted: &Wanted, said: &Said, mut progress: impl FnMut(u64, u64)) -> Report {
        let began = Instant::now();
        let findings = Arc::new(Findings::default());
        let mut report = Report { log: wanted.name.clone(), ..Report::default() };
        let done = Arc::new(AtomicU64::new(0));
        let all = Arc::new(AtomicU64::new(0));
        let checking = Checking { verification: self, wanted, said, findings: findings.clone() };
        let run = checking.run(&mut report, &done, &all);
        let ended = {
            tokio::pin!(run);
            let mut ticks = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    ended = &mut run => break ended,
                    _ = ticks.tick() => progress(done.load(Ordering::Relaxed), all.load(Ordering::Relaxed)),
                }
            }
        };
        if let Err(error) = ended {
            report.unchecked.push(format!("{:#}", anyhow::Error::from(error)));
        }
        (report.counts, report.findings) = findings.take();
        report.seconds = began.elapsed().as_secs_f64();
        report
    }
}

fn wanted(id: Uuid, slug: Option<String>, listed: bool) -> Wanted {
    let name = slug.unwrap_or_else(|| id.to_string());
    Wanted { name, schema: Schema::tenant(TenantId(id)), listed, receipts: Vec::new(), keys: Vec::new() }
}

/// A check of one log.
struct Checking<'a> {
    verification: &'a Verification,
    wanted: &'a Wanted,
    said: &'a Said,
    findings: Arc<Findings>,
}

impl Checking<'_> {
    fn ledger(&self) -> &Ledger {
        &self.verification.ledger
    }

    async fn run(
        &self,
        report: &mut Report,
        done: &Arc<AtomicU64>,
        all: &AtomicU64,
    ) -> Result<(), LedgerError> {
        let (schema, findings) = (&self.wanted.schema, &*self.findings);
        let log_id = schema.log_id().0;
        let ending = Ledger::ending(log_id);
        // Before the log: what is signed meanwhile is in what is read after it.
        let mut known = self.known().await?;
        report.origin = Some(known.origin.clone());
        for alarm in self.said.alarms.iter().filter(|alarm| alarm.origin.ends_with(&ending)) {
            if let Some(cause) = Cause::ALL.iter().find(|cause| cause.as_str() == alarm.cause) {
                findings.add(*cause, "the last entry of the log of heads has an alarm for the log");
            }
        }
        if !self.wanted.listed {
            findings.add(Cause::TenantMissing, "the platform's list of tenants does not name it");
        }
        let mut connection = self.verification.owner().await?;
        if !rows::schema_exists(&mut connection, schema)
            .await
            .map_err(LedgerError::db("look for the schema"))?
        {
            findings.add(Cause::TenantMissing, "its schema is not there");
            return Ok(());
        }
        drop(connection);
        let attempted = "read the log";
        let pool = self.ledger().store().database().owner();
        let mut snapshot = Snapshot::take(pool, schema).await.map_err(LedgerError::db(attempted))?;
        let heads = rows::heads(snapshot.connection()).await.map_err(LedgerError::db(attempted))?;
        let Some(heads) = heads else {
            findings.add(Cause::TailMissing, "neither the log's head nor that of its tree is there");
            return Ok(());
        };
        (report.position, report.size) = (unsigned(heads.position), unsigned(heads.size));
        all.store(report.position, Ordering::Relaxed);
        if heads.size > heads.position {
            let detail = format!("the log ends at {}, its tree has {} leaves", heads.position, heads.size);
            findings.at(Cause::TailMissing, heads.position.saturating_add(1), detail);
        }
        for position in
            rows::outside(snapshot.connection(), heads.position).await.map_err(LedgerError::db(attempted))?
        {
            findings.at(Cause::UnexpectedEvent, position, format!("the log ends at {}", heads.position));
        }
        let sealed = rows::sealed_outside(snapshot.connection(), heads.position).await;
        for (position, field) in sealed.map_err(LedgerError::db(attempted))? {
            findings.at(Cause::SealedValueInvalid, position, format!("a sealed {field}, and no event"));
        }
        let checkpoints = known::checkpoints(snapshot.connection(), &known, findings);
        let checkpoints = checkpoints.await.map_err(LedgerError::db(attempted))?;
        self.remembered(&mut known, &checkpoints, &ending).await?;
        report.checkpoints = checkpoints.count;
        report.signed = known.signer.as_ref().map_or(0, |last| last.size);
        if known.signer.is_none() && heads.position > 0 {
            report.unchecked.push("nothing of it was ever signed, as far as is known here".to_owned());
        }
        let claims = self.claims(&known, checkpoints, &ending);

        // Three things at once, each on connections of its own: the tree, the events, the streams.
        let pass = events::Pass {
            log_id,
            keys: self.ledger().store().keys().clone(),
            head: heads.position,
            size: heads.size,
            findings: self.findings.clone(),
            done: done.clone(),
        };
        let tree = Tree {
            table: Table::Log,
            size: report.size,
            log: report.position,
            cause: Cause::TreeMismatch,
            findings,
        };
        let mut climbing = snapshot.join().await.map_err(LedgerError::db(attempted))?;
        let mut streaming = snapshot.join().await.map_err(LedgerError::db(attempted))?;
        let (climbed, looked, streams) = tokio::join!(
            tiles::check(&mut climbing, &tree, claims),
            events::check(&snapshot, &pass, self.verification.readers),
            rows::broken_streams(&mut streaming),
        );
        climbed.map_err(LedgerError::db("read the tree"))?;
        let looked = looked.map_err(LedgerError::db("read the events"))?;
        report.events = looked.count;
        let facts = &looked.facts;
        self.streams(streams.map_err(LedgerError::db("read the streams"))?, facts);
        let missing = self.missing(&looked, heads.position);
        facts.held(&missing, findings);
        report.pruned_through = unsigned(facts.pruned_through());
        self.pruned(&mut streaming, facts)
            .await
            .map_err(LedgerError::db("read the tree of what was pruned"))?;
        if looked.last_time().is_some_and(|last| last > heads.recorded_at) {
            findings.at(Cause::UnexpectedEvent, heads.last, "recorded after the log's head was");
        }
        self.receipts(snapshot.connection(), heads.size)
            .await
            .map_err(LedgerError::db("look for receipts"))?;
        values::check_keys(&mut climbing, &pass.keys, log_id, facts, findings)
            .await
            .map_err(LedgerError::db("read the keys of subjects"))?;
        drop((climbing, streaming));
        let store = self.ledger().store();
        report.snapshots = models::snapshots(
            snapshot.connection(),
            store,
            schema,
            facts.pruned_through() > 0,
            findings,
            &mut report.unchecked,
        )
        .await
        .map_err(LedgerError::db("read snapshots"))?;
        drop(snapshot);
        models::read_models(store, schema, findings, &mut report.unchecked).await;
        Ok(())
    }

    async fn known(&self) -> Result<Known, LedgerError> {
        let mut tx = self.ledger().begin(&Schema::platform(), Access::ReadConsistent).await?;
        let known = self.ledger().known(&mut tx, self.wanted.schema.log_id().0, &self.findings).await?;
        tx.release();
        Ok(known)
    }

    /// What the signer remembers, beside what is remembered elsewhere.
    async fn remembered(
        &self,
        known: &mut Known,
        checkpoints: &Checkpoints,
        ending: &str,
    ) -> Result<(), LedgerError> {
        let findings = &*self.findings;
        if !known.remembered && checkpoints.count > 0 {
            // The first one may have been signed since the signer was asked.
            *known = self.known().await?;
        }
        known::missing_memory(known, checkpoints, self.said.of(ending).next().is_some(), findings);
        if !self.wanted.keys.is_empty() {
            let given = known
                .signer
                .as_ref()
                .map(|last| Checkpoint::verify(&last.note, &known.origin, &self.wanted.keys));
            match given {
                Some(Ok(_)) => {}
                Some(Err(cause)) => findings.add(cause, "the last checkpoint, by the keys that were given"),
                None => findings
                    .add(Cause::CheckpointForeign, "there is no checkpoint for the keys that were given"),
            }
        }
        let Some(last) = &known.signer else { return Ok(()) };
        let (size, at) = (last.size, last.at);
        if let Some((newest, newest_at)) = checkpoints.newest
            && (newest > size || newest_at > at)
        {
            // It may have been signed since the signer was asked.
            let again = self.known().await?.signer;
            if again.is_none_or(|again| newest > again.size || newest_at > again.at) {
                let detail =
                    format!("the signer remembers {size} leaves, the log has a checkpoint of {newest}");
                findings.add(Cause::CheckpointStale, detail);
            }
        }
        let newest = checkpoints.newest.map_or(0, |newest| newest.0);
        for named in self.said.of(ending) {
            let whose = if named.copied { "the copy of the log of heads" } else { "the log of heads" };
            if named.size > size {
                let detail = format!("the signer remembers {size} leaves, {whose} {}", named.size);
                findings.add(Cause::CheckpointStale, detail);
            }
            // The last one alone may be missing, for the moment between remembering it and noting it.
            if named.size > newest && !checkpoints.has_last {
                let detail = format!(
                    "the last checkpoint in the log is of {newest} leaves, {whose} names {}",
                    named.size
                );
                findings.add(Cause::CheckpointStale, detail);
            }
        }
        Ok(())
    }

    /// All that anybody ever said of the tree's roots.
    fn claims(&self, known: &Known, checkpoints: Checkpoints, ending: &str) -> Vec<Claim> {
        let mut claims = checkpoints.claims;
        claims.extend(known.signer.as_ref().map(|last| {
            let by = "what the signer remembers".to_owned();
            Claim { size: last.size, root: last.root, cause: Cause::CheckpointInconsistent, by }
        }));
        claims.extend(self.said.claims(ending));
        claims
    }

    fn streams(&self, broken: Vec<rows::BrokenStream>, facts: &Facts) {
        for (position, aggregate_type, id, sequence, before) in broken {
            let detail = match before {
                Some(before) => format!("{aggregate_type} {id}: sequence {sequence} follows on {before}"),
                // What was before was pruned; that nothing more is gone the positions tell.
                None if facts.pruned_through() > 0 => continue,
                None => format!("{aggregate_type} {id}: begins with sequence {sequence}"),
            };
            self.findings.at(Cause::SequenceGap, position, detail);
        }
    }

    /// Positions without an event that no pruning accounts for. Answers which.
    fn missing(&self, looked: &events::Outcome, head: i64) -> Vec<(i64, i64)> {
        let pruned = looked.facts.pruned_through();
        let mut missing = Vec::new();
        for (first, last) in
            looked.missing.iter().map(|(first, last)| ((*first).max(pruned.saturating_add(1)), *last))
        {
            if first > last {
                continue;
            }
            missing.push((first, last));
            let how_many = last - first + 1;
            if last == head {
                let detail = format!("the last {how_many} of {head} positions have no event");
                self.findings.at(Cause::TailMissing, first, detail);
            } else if first == pruned + 1 {
                let detail = format!(
                    "{how_many} positions up to {last} have no event, and none says that they were pruned"
                );
                self.findings.at(Cause::PrunedWithoutEvent, first, detail);
            } else {
                let detail = format!("{how_many} positions up to {last} have no event");
                self.findings.at(Cause::MissingEvent, first, detail);
            }
        }
        missing
    }

    /// What prunings wrote down of what they let go.
    async fn pruned(&self, connection: &mut PgConnection, facts: &Facts) -> Result<(), sqlx::Error> {
        for claim in facts.claims() {
            let needed = tree::needed_for_root(claim.size);
            let tiles = super::rows::tiles(&mut *connection, Table::Log, &needed).await?;
            if tiles.root(claim.size) != Ok(claim.root) {
                let detail =
                    format!("{} says another root for {} leaves than the tree has", claim.by, claim.size);
                self.findings.add(claim.cause, detail);
            }
        }
        Ok(())
    }

    async fn receipts(&self, connection: &mut PgConnection, size: i64) -> Result<(), sqlx::Error> {
        for Receipt { position, leaf_hash: expected } in self.wanted.receipts.iter().copied() {
            let row = rows::events(&mut *connection, position - 1, position).await?.pop();
            let here = row.map(|row| sqlx::Row::try_get::<&[u8], _>(&row, 1).map(leaf_hash)).transpose()?;
            let in_tree = if position <= size {
                self.in_tree(&mut *connection, unsigned(position)).await?
            } else {
                None
            };
            let what = match (here, in_tree) {
                (None, None) => "there is no such event, and nothing in the tree for it",
                (Some(here), _) if here != expected => "the event has another leaf",
                (_, Some(in_tree)) if in_tree != expected => "the tree has another leaf",
                _ => continue,
            };
            self.findings.at(Cause::ReceiptMismatch, position, what);
        }
        Ok(())
    }

    async fn in_tree(
        &self,
        connection: &mut PgConnection,
        position: u64,
    ) -> Result<Option<Hash>, sqlx::Error> {
        let id = TileId { level: 0, number: (position - 1) / TILE_WIDTH };
        let tiles = super::rows::tiles(connection, Table::Log, &BTreeSet::from([id])).await?;
        Ok(tiles.leaf_hash(position - 1).ok())
    }
}
