//! The log of heads: once a minute an entry that stands for the last checkpoint of every log there is. It is a log of its
//! own, with tiles and checkpoints, and a [copy](super::copy) outside the database. A log that vanishes, shrinks or is
//! rewritten is missed here: what was named once is named again, as it was, with an alarm beside it.

mod copying;
mod entry;
mod proofs;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::TenantId;
use daybook_projections::Schema;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use self::entry::{canonical_text, pack};
pub use self::{
    entry::{Alarm, Entry, Head},
    proofs::HeadProof,
};
pub(super) use self::{
    entry::{tree_of, unpack},
    proofs::Named,
};
use super::{
    Cause, Checkpoint, Ledger, LedgerError,
    copy::HeadCopy,
    rows::{self, Table},
    signer::{Remembered, after},
    stored,
    tree::{self, TileId, Tiles},
    unsigned,
};
use crate::{
    eventstore::leaf::{format_time, leaf_hash},
    tenancy::Access,
};

/// The log of heads among the logs that are signed.
pub(super) const LOG_ID: Uuid = Uuid::max();
/// How long the heads of every minute are kept; of those before, the first of each day.
const KEPT: TimeDelta = TimeDelta::days(7);

/// What a turn did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadsTurn {
    /// What is wrong with which logs.
    pub alarms: Vec<Alarm>,
    /// Whether an entry was added.
    pub added: bool,
}

/// The last entry, if it is the one that was signed, and the tree over its heads.
struct Last {
    text: Vec<u8>,
    heads: Vec<Head>,
    tree: Tiles,
}

impl Last {
    /// Reads what is stored; in error, what is wrong with it.
    fn read(text: Vec<u8>, packed: Option<&[u8]>) -> Result<Self, &'static str> {
        let entry: Entry = serde_json::from_slice(&text).map_err(|_| "the last entry cannot be read")?;
        let heads = packed.and_then(unpack).ok_or("the last heads are gone")?;
        let tree = tree_of(&heads).ok().filter(|tree| entry.stands_for(&heads, tree));
        let tree = tree.ok_or("the last heads are not those that were signed")?;
        Ok(Self { text, heads, tree })
    }
}

/// What the platform's schema says, at one time.
struct Gathered {
    signers: Vec<rows::SignerRow>,
    last: Option<rows::EntryRow>,
    schemas: BTreeSet<String>,
}

impl Ledger {
    /// Adds an entry for the heads of all logs, if one of them changed, or the last is older than `heartbeat`; signs it,
    /// and copies it.
    ///
    /// # Errors
    /// When the log of heads is not what it was, or its copy is not its beginning: nothing is signed then. When PostgreSQL
    /// or the copy is away.
    pub async fn sign_heads(&self, copy: &HeadCopy, heartbeat: Duration) -> Result<HeadsTurn, LedgerError> {
        // Before anything else: what another node adds meanwhile is not ahead of what is read here.
        let copied = copy.checkpoint().await?;
        let before = self.remembered(LOG_ID).await?;
        let gathered = self.gather().await?;
        // Another node went on in between; it did what there is to do.
        let moved = |row: &rows::SignerRow| before.as_ref().is_none_or(|before| before.seal != row.seal);
        if gathered.signers.iter().find(|row| row.log_id == LOG_ID).is_some_and(moved) {
            return Ok(HeadsTurn::default());
        }
        let origin = self.heads_origin(before.as_ref());
        let copied = self.check_copy(&origin, before.as_ref(), copied.as_deref()).await?;
        let last = self.last_entry(&origin, before.as_ref(), gathered.last).await?;
        let (heads, alarms) = self.heads(&gathered.signers, &gathered.schemas, last.as_ref()).await?;
        let turn = HeadsTurn { alarms, added: false };
        let at = after(before.as_ref().map(|before| &before.checkpoint));
        let same = last.as_ref().is_some_and(|last| last.heads == heads);
        let young = before
            .as_ref()
            .is_some_and(|before| (at - before.checkpoint.at).to_std().is_ok_and(|age| age < heartbeat));
        if heads.is_empty() || same && young {
            self.copy_heads(copy, before.as_ref(), copied).await?;
            return Ok(turn);
        }
        let next = self.add_entry(&origin, before.as_ref(), &heads, at).await?;
        let Some((next, expired)) = next else { return Ok(turn) };
        for index in expired {
            copy.delete(&format!("heads/{index}.json.gz")).await?;
        }
        self.copy_heads(copy, Some(&next), copied).await?;
        Ok(HeadsTurn { added: true, ..turn })
    }

    fn heads_origin(&self, before: Option<&Remembered>) -> String {
        before.map_or_else(|| self.new_origin(LOG_ID), |before| before.checkpoint.origin.clone())
    }

    async fn gather(&self) -> Result<Gathered, LedgerError> {
        let attempted = "read the heads of all logs";
        let mut tx = self.begin(&Schema::platform(), Access::ReadConsistent).await?;
        let signers = rows::signers(&mut tx).await.map_err(LedgerError::db(attempted))?;
        let last = rows::last_entry(&mut tx).await.map_err(LedgerError::db(attempted))?;
        let schemas = rows::schemas(&mut tx).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        Ok(Gathered { signers, last, schemas: schemas.into_iter().collect() })
    }

    /// The last entry, if it is the one that was signed, with the heads it stands for.
    async fn last_entry(
        &self,
        origin: &str,
        before: Option<&Remembered>,
        row: Option<rows::EntryRow>,
    ) -> Result<Option<Last>, LedgerError> {
        let refused = |detail: &str| Self::refused(origin, Cause::HeadLogInconsistent, detail);
        let (before, row) = match (before, row) {
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                return Err(refused("there are entries, and no checkpoint of them is remembered"));
            }
            (Some(_), None) => return Err(refused("the entries are gone")),
            (Some(before), Some(row)) => (&before.checkpoint, row),
        };
        if unsigned(row.index) + 1 != before.size {
            return Err(refused("there are not as many entries as were signed"));
        }
        let mut needed = tree::needed_for_root(before.size);
        needed.extend(tree::needed_for_inclusion(before.size, before.size - 1));
        let tiles = self.head_tiles(&needed).await?;
        let root = tiles.root(before.size).map_err(|error| refused(&error.to_string()))?;
        let leaf = tiles.leaf_hash(before.size - 1).map_err(|error| refused(&error.to_string()))?;
        if root != before.root || leaf != leaf_hash(&row.entry) {
            return Err(refused("the entries are not those that were signed"));
        }
        let read = spawn_blocking(move || Last::read(row.entry, row.heads.as_deref()));
        read.await.map_err(LedgerError::Interrupted)?.map(Some).map_err(refused)
    }

    /// The heads as they are to be named, by origin, and what is wrong with which.
    async fn heads(
        &self,
        signers: &[rows::SignerRow],
        schemas: &BTreeSet<String>,
        last: Option<&Last>,
    ) -> Result<(Vec<Head>, Vec<Alarm>), LedgerError> {
        let mut heads: BTreeMap<String, Head> = BTreeMap::new();
        let mut alarms: BTreeSet<Alarm> = BTreeSet::new();
        let mut alarm = |origin: &str, cause: Cause| {
            alarms.insert(Alarm::new(cause, origin));
        };
        let named: BTreeMap<&str, &Head> =
            last.iter().flat_map(|last| &last.heads).map(|head| (head.origin.as_str(), head)).collect();
        for row in signers.iter().filter(|row| row.log_id != LOG_ID) {
            let Ok(Remembered { checkpoint, .. }) = self.opened(row.clone()) else {
                alarm(&row.origin, Cause::SignerStateInvalid);
                continue;
            };
            let head = Head::of(&checkpoint);
            let schema = schema_of(row.log_id);
            let there = row.log_id.is_nil() || schemas.contains(schema.name());
            let before = named.get(head.origin.as_str());
            let wrong = match before {
                _ if !there => Some(Cause::TenantMissing),
                None => None,
                Some(before) if before.is_same(&head) => None,
                Some(before) => self.goes_on(&schema, before, &head).await?,
            };
            if let Some(cause) = wrong {
                alarm(&head.origin, cause);
            }
            let kept = before.filter(|_| wrong.is_some()).map_or(head, |before| (*before).clone());
            heads.insert(kept.origin.clone(), kept);
        }
        for (origin, before) in named {
            if !heads.contains_key(origin) {
                let invalid = signers.iter().any(|row| row.origin == origin);
                alarm(origin, if invalid { Cause::SignerStateInvalid } else { Cause::TenantMissing });
                heads.insert(origin.to_owned(), before.clone());
            }
        }
        for (log_id, cause) in self.refusals() {
            let ending = Self::ending(log_id);
            if let Some(origin) = heads.keys().find(|origin| origin.ends_with(&ending)) {
                alarm(origin, cause);
            }
        }
        let mut heads: Vec<Head> = heads.into_values().collect();
        for head in &mut heads {
            let own = alarms.iter().filter(|alarm| alarm.origin == head.origin);
            head.alarms = own.map(|alarm| alarm.cause.clone()).collect();
        }
        Ok((heads, alarms.into_iter().collect()))
    }

    /// What is wrong with a head that is to follow another one, by the log's own tiles.
    async fn goes_on(
        &self,
        schema: &Schema,
        before: &Head,
        head: &Head,
    ) -> Result<Option<Cause>, LedgerError> {
        let (from, to) = (before.leaves(), head.leaves());
        if to < from {
            return Ok(Some(Cause::CheckpointStale));
        }
        if from == to {
            return Ok((before.root != head.root).then_some(Cause::CheckpointInconsistent));
        }
        let read = async {
            let mut tx = self.begin(schema, Access::Read).await?;
            let tiles = rows::tiles(&mut tx, Table::Log, &tree::needed_for_consistency(from, to))
                .await
                .map_err(LedgerError::db("read the tree of a log"))?;
            tx.release();
            Ok(tiles)
        };
        let tiles = match read.await {
            Ok(tiles) => tiles,
            // A log that is damaged is one of many, and the others' heads are to be named.
            Err(error) => return self.unreadable(schema, error).await.map(Some),
        };
        let shown = tiles
            .prove_consistency(from, to)
            .and_then(|proof| tree::check_consistency(&proof, from, &before.root(), to, &head.root()));
        Ok(shown.is_err().then_some(Cause::CheckpointInconsistent))
    }

    /// What it says of a log that its tree cannot be read. What passes by itself says nothing: an error then.
    async fn unreadable(&self, schema: &Schema, error: LedgerError) -> Result<Cause, LedgerError> {
        match self.unless_missing(schema, error).await {
            LedgerError::Refused { cause, .. } => Ok(cause),
            error if error.is_damage() => Ok(Cause::TreeMismatch),
            error => Err(error),
        }
    }

    /// Refuses a head that does not follow on the one that was named.
    pub(super) async fn follows(
        &self,
        log_id: Uuid,
        named: &Head,
        last: &Checkpoint,
    ) -> Result<(), LedgerError> {
        match self.goes_on(&schema_of(log_id), named, &Head::of(last)).await? {
            None => Ok(()),
            Some(cause) => {
                let detail =
                    format!("the log of heads names {} leaves, {} are remembered", named.size, last.size);
                Err(Self::refused(&last.origin, cause, detail))
            }
        }
    }

    /// Adds an entry, and signs it. Answers what is remembered then, and the entries whose heads are kept no longer;
    /// `None` when another node was faster.
    async fn add_entry(
        &self,
        origin: &str,
        before: Option<&Remembered>,
        heads: &[Head],
        at: DateTime<Utc>,
    ) -> Result<Option<(Remembered, Vec<i64>)>, LedgerError> {
        let attempted = "add an entry to the log of heads";
        let wrong =
            |error: tree::TreeError| Self::refused(origin, Cause::HeadLogInconsistent, error.to_string());
        let heads_root = tree_of(heads).and_then(|tiles| tiles.root(heads.len() as u64)).map_err(wrong)?;
        let entry = Entry::of(heads, &heads_root, format_time(at));
        let text = canonical_text(&entry).into_bytes();
        let size = before.map_or(0, |before| before.checkpoint.size);
        let mut needed = tree::frontier(size);
        needed.extend(tree::needed_for_root(size));
        let mut tiles = self.head_tiles(&needed).await?;
        // Another node may have added an entry meanwhile; then this one's is not remembered below.
        tiles.cut_to(size);
        let changed = tiles.extend(size, &[leaf_hash(&text)]).map_err(wrong)?;
        let root = tiles.root(size + 1).map_err(wrong)?;
        let keys = self.signing_keys(origin)?;
        let next = Checkpoint::sign(origin, size + 1, root, at, &keys)?;
        let mut tx = self.begin(&Schema::platform(), Access::Write).await?;
        if !self.remember_in(&mut tx, LOG_ID, before, &next, &keys).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let row = rows::EntryRow { index: stored(size), at, entry: text, heads: Some(pack(heads)) };
        rows::add_entry(&mut tx, &row).await.map_err(LedgerError::db(attempted))?;
        rows::save_tiles(&mut tx, Table::Heads, &tiles, &changed)
            .await
            .map_err(LedgerError::db(attempted))?;
        let expired = rows::expire_heads(&mut tx, at - KEPT).await.map_err(LedgerError::db(attempted))?;
        let row = rows::signer(&mut tx, LOG_ID).await.map_err(LedgerError::db(attempted))?;
        tx.commit().await?;
        self.saw(LOG_ID, &next, true);
        metrics::counter!("daybook_ledger_head_entries_total").increment(1);
        let seal = row.map(|row| row.seal).unwrap_or_default();
        Ok(Some((Remembered { checkpoint: next, seal }, expired)))
    }

    async fn head_tiles(&self, needed: &BTreeSet<TileId>) -> Result<Tiles, LedgerError> {
        let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
        let tiles = rows::tiles(&mut tx, Table::Heads, needed)
            .await
            .map_err(LedgerError::db("read tiles of heads"))?;
        tx.release();
        Ok(tiles)
    }
}

/// The schema of a log that is signed, other than the log of heads.
fn schema_of(log_id: Uuid) -> Schema {
    if log_id.is_nil() { Schema::platform() } else { Schema::tenant(TenantId(log_id)) }
}
