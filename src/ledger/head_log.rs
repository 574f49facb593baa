//! The log of heads: once a minute an entry that stands for the last checkpoint of every log there is. It is a log of its
//! own, with tiles and checkpoints, and a [copy](super::copy) outside the database. A log that vanishes, shrinks or is
//! rewritten is missed here: what was named once is named again, as it was, with an alarm beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::TenantId;
use daybook_projections::Schema;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Cause, Checkpoint, Ledger, LedgerError,
    copy::HeadCopy,
    path::{Resource, TilePath},
    rows::{self, Table},
    signer::{Remembered, after},
    stored,
    tree::{self, Hash, TILE_WIDTH, TileId, Tiles},
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
/// The most bytes of heads that are unpacked.
const MAX_HEADS: u64 = 256 * 1024 * 1024;

/// The head of a log, as the log of heads names it: the canonical JSON (RFC 8785) of this is a leaf of the tree whose root
/// an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose.
    pub origin: String,
    /// The root, in hex.
    pub root: String,
    /// How many leaves, as a string.
    pub size: String,
}

impl Head {
    fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { origin, size, root, .. } = checkpoint;
        Self { origin: origin.clone(), root: hex::encode(root), size: size.to_string() }
    }

    pub(super) fn leaves(&self) -> u64 {
        self.size.parse().unwrap_or(0)
    }

    pub(super) fn root(&self) -> Hash {
        let mut root = Hash::default();
        // What is not a root equals none.
        let _ = hex::decode_to_slice(&self.root, &mut root);
        root
    }
}

/// What is wrong with a log whose head was kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alarm {
    /// The name of the cause.
    pub cause: String,
    /// Which log.
    pub origin: String,
}

/// An entry of the log of heads: its canonical JSON is the leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What was found wrong then.
    pub alarms: Vec<Alarm>,
    /// When it was made.
    pub at: String,
    /// How many heads there are, as a string.
    pub count: String,
    /// The root (RFC 6962) of the tree over the heads, by origin, in hex.
    pub heads_root: String,
}

/// That the head of a log is in the log of heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadProof {
    /// The last checkpoint of the log of heads.
    pub checkpoint: Checkpoint,
    /// The entry: the leaf's text.
    pub entry: String,
    /// Its index in the log of heads.
    pub entry_index: u64,
    /// Its audit path there.
    pub entry_proof: Vec<Hash>,
    /// The head: the text of a leaf of the entry's tree.
    pub head: String,
    /// Its index there.
    pub head_index: u64,
    /// How many heads there are.
    pub head_count: u64,
    /// Its audit path there.
    pub head_proof: Vec<Hash>,
}

/// What a turn did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadsTurn {
    /// What is wrong with which logs.
    pub alarms: Vec<Alarm>,
    /// Whether an entry was added.
    pub added: bool,
}

/// The last entry as it is stored.
struct Last {
    entry: Entry,
    text: Vec<u8>,
    heads: Vec<Head>,
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
        let last = self.last_entry(&origin, before.as_ref(), gathered.last.as_ref()).await?;
        let (heads, alarms) = self.heads(&gathered, last.as_ref()).await?;
        let turn = HeadsTurn { alarms: alarms.clone(), added: false };
        let at = after(before.as_ref().map(|before| &before.checkpoint));
        let same = last.as_ref().is_some_and(|last| last.heads == heads && last.entry.alarms == alarms);
        let young = before
            .as_ref()
            .is_some_and(|before| (at - before.checkpoint.at).to_std().is_ok_and(|age| age < heartbeat));
        if heads.is_empty() || same && young {
            self.copy_heads(copy, before.as_ref(), copied).await?;
            return Ok(turn);
        }
        let next = self.add_entry(&origin, before.as_ref(), &heads, alarms, at).await?;
        let Some((next, expired)) = next else { return Ok(turn) };
        for index in expired {
            copy.delete(&format!("heads/{index}.json.gz")).await?;
        }
        self.copy_heads(copy, Some(&next), copied).await?;
        Ok(HeadsTurn { added: true, ..turn })
    }

    /// The proof that a log's head is in the log of heads; `None` while it is not named there.
    ///
    /// # Errors
    /// When the log of heads is not what it was, or PostgreSQL refuses.
    pub async fn head_proof(&self, schema: &Schema) -> Result<Option<HeadProof>, LedgerError> {
        let Some(before) = self.remembered(LOG_ID).await? else { return Ok(None) };
        let origin = before.checkpoint.origin.clone();
        let size = before.checkpoint.size;
        let attempted = "read an entry of the log of heads";
        let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
        let row = rows::entry(&mut tx, stored(size) - 1).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        let Some(last) = self.last_entry(&origin, Some(&before), row.as_ref()).await? else {
            return Ok(None);
        };
        let ending = Self::ending(schema.log_id().0);
        let Some(index) = last.heads.iter().position(|head| head.origin.ends_with(&ending)) else {
            return Ok(None);
        };
        let wrong =
            |error: tree::TreeError| Self::refused(&origin, Cause::HeadLogInconsistent, error.to_string());
        let (head_index, head_count) = (index as u64, last.heads.len() as u64);
        let heads = tree_of(&last.heads).map_err(wrong)?;
        let head_proof = heads.prove_inclusion(head_count, head_index).map_err(wrong)?;
        let tiles = self.head_tiles(&tree::needed_for_inclusion(size, size - 1)).await?;
        let entry_proof = tiles.prove_inclusion(size, size - 1).map_err(wrong)?;
        Ok(Some(HeadProof {
            checkpoint: before.checkpoint,
            entry: String::from_utf8_lossy(&last.text).into_owned(),
            entry_index: size - 1,
            entry_proof,
            head: canonical_text(&last.heads[index]),
            head_index,
            head_count,
            head_proof,
        }))
    }

    /// Every key that signed or signs the log of heads, as [`Ledger::verifier_keys`] of a log.
    ///
    /// # Errors
    /// As there.
    pub async fn head_log_keys(&self) -> Result<Vec<super::VerifierKey>, LedgerError> {
        let before = self.remembered(LOG_ID).await?;
        self.keys_of(&self.heads_origin(before.as_ref())).await
    }

    /// Whether the log of heads names a log that ends like this, as far as can be told.
    pub(super) async fn is_named(&self, ending: &str) -> Result<bool, LedgerError> {
        let Some(before) = self.remembered(LOG_ID).await? else { return Ok(false) };
        let gathered = self.gather().await?;
        if gathered.last.as_ref().is_some_and(|row| unsigned(row.index) + 1 != before.checkpoint.size) {
            // Another entry came in between: what is asked is asked again.
            return Err(LedgerError::Contended);
        }
        let last = self.last_entry(&before.checkpoint.origin, Some(&before), gathered.last.as_ref()).await?;
        Ok(last.is_some_and(|last| last.heads.iter().any(|head| head.origin.ends_with(ending))))
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
        row: Option<&rows::EntryRow>,
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
        let entry: Entry =
            serde_json::from_slice(&row.entry).map_err(|_| refused("the last entry cannot be read"))?;
        let heads =
            row.heads.as_deref().and_then(unpack).ok_or_else(|| refused("the last heads are gone"))?;
        let of_heads = tree_of(&heads).and_then(|tiles| tiles.root(heads.len() as u64));
        if of_heads.map(hex::encode) != Ok(entry.heads_root.clone()) {
            return Err(refused("the last heads are not those that were signed"));
        }
        Ok(Some(Last { entry, text: row.entry.clone(), heads }))
    }

    /// Whether the copy is a beginning of the log: answers how long a one.
    async fn check_copy(
        &self,
        origin: &str,
        before: Option<&Remembered>,
        note: Option<&str>,
    ) -> Result<u64, LedgerError> {
        let Some(note) = note else { return Ok(0) };
        let refused = |detail: String| Self::refused(origin, Cause::HeadLogInconsistent, detail);
        let Some(before) = before.map(|before| &before.checkpoint) else {
            return Err(refused("there is a copy of a log of heads, and none here".to_owned()));
        };
        let keys: Vec<String> = self.keys_of(origin).await?.into_iter().map(|key| key.vkey).collect();
        let copy = Checkpoint::verify(note, origin, &keys)
            .map_err(|cause| refused(format!("the checkpoint of the copy is not ours: {cause}")))?;
        if copy.size > before.size {
            return Err(refused(format!(
                "the copy has {} entries, and only {} are here",
                copy.size, before.size
            )));
        }
        let mut needed = tree::needed_for_root(before.size);
        needed.extend(tree::needed_for_consistency(copy.size, before.size));
        let tiles = self.head_tiles(&needed).await?;
        let shown = tiles.prove_consistency(copy.size, before.size).and_then(|proof| {
            tree::check_consistency(&proof, copy.size, &copy.root, before.size, &before.root)
        });
        match shown {
            Ok(()) => Ok(copy.size),
            Err(_) => {
                Err(refused(format!("the {} entries of the copy are not the first ones here", copy.size)))
            }
        }
    }

    /// The heads as they are to be named, by origin, and what is wrong with which.
    async fn heads(
        &self,
        gathered: &Gathered,
        last: Option<&Last>,
    ) -> Result<(Vec<Head>, Vec<Alarm>), LedgerError> {
        let mut heads: BTreeMap<String, Head> = BTreeMap::new();
        let mut alarms: BTreeSet<Alarm> = BTreeSet::new();
        let mut alarm = |origin: &str, cause: Cause| {
            alarms.insert(Alarm { cause: cause.as_str().to_owned(), origin: origin.to_owned() });
        };
        let named: BTreeMap<&str, &Head> =
            last.iter().flat_map(|last| &last.heads).map(|head| (head.origin.as_str(), head)).collect();
        for row in gathered.signers.iter().filter(|row| row.log_id != LOG_ID) {
            let Ok(Remembered { checkpoint, .. }) = self.opened(row.clone()) else {
                alarm(&row.origin, Cause::SignerStateInvalid);
                continue;
            };
            let head = Head::of(&checkpoint);
            let schema =
                if row.log_id.is_nil() { Schema::platform() } else { Schema::tenant(TenantId(row.log_id)) };
            let there = row.log_id.is_nil() || gathered.schemas.contains(schema.name());
            let before = named.get(head.origin.as_str());
            let wrong = match before {
                _ if !there => Some(Cause::TenantMissing),
                None => None,
                Some(before) if **before == head => None,
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
                let invalid = gathered.signers.iter().any(|row| row.origin == origin);
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
        Ok((heads.into_values().collect(), alarms.into_iter().collect()))
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
        let mut tx = self.begin(schema, Access::Read).await?;
        let tiles = rows::tiles(&mut tx, Table::Log, &tree::needed_for_consistency(from, to))
            .await
            .map_err(LedgerError::db("read the tree of a log"))?;
        tx.release();
        let shown = tiles
            .prove_consistency(from, to)
            .and_then(|proof| tree::check_consistency(&proof, from, &before.root(), to, &head.root()));
        Ok(shown.is_err().then_some(Cause::CheckpointInconsistent))
    }

    /// Adds an entry, and signs it. Answers what is remembered then, and the entries whose heads are kept no longer;
    /// `None` when another node was faster.
    async fn add_entry(
        &self,
        origin: &str,
        before: Option<&Remembered>,
        heads: &[Head],
        alarms: Vec<Alarm>,
        at: DateTime<Utc>,
    ) -> Result<Option<(Remembered, Vec<i64>)>, LedgerError> {
        let attempted = "add an entry to the log of heads";
        let wrong =
            |error: tree::TreeError| Self::refused(origin, Cause::HeadLogInconsistent, error.to_string());
        let heads_root = tree_of(heads).and_then(|tiles| tiles.root(heads.len() as u64)).map_err(wrong)?;
        let entry = Entry {
            alarms,
            at: format_time(at),
            count: heads.len().to_string(),
            heads_root: hex::encode(heads_root),
        };
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

    /// Copies what the copy does not have yet; its checkpoint last, so that it never speaks of what is not there.
    async fn copy_heads(
        &self,
        copy: &HeadCopy,
        now: Option<&Remembered>,
        copied: u64,
    ) -> Result<(), LedgerError> {
        let Some(checkpoint) = now.map(|now| &now.checkpoint) else { return Ok(()) };
        let size = checkpoint.size;
        if !copy.is_kept() || copied >= size {
            return Ok(());
        }
        let attempted = "read what is to be copied of the log of heads";
        let missing = |id: TileId| {
            Self::refused(
                &checkpoint.origin,
                Cause::HeadLogInconsistent,
                tree::TreeError::Tile(id).to_string(),
            )
        };
        for level in 0..8 {
            // Hashes of a level before and now; a tile that only grew is a new object.
            let (before, now) = (copied >> (8 * level), size >> (8 * level));
            if now == 0 {
                break;
            }
            for number in before / TILE_WIDTH..now.div_ceil(TILE_WIDTH) {
                let id = TileId { level, number };
                let width = id.width_in(size);
                if width == 0 || id.width_in(copied) == width {
                    continue;
                }
                let tiles = self.head_tiles(&BTreeSet::from([id])).await?;
                let bytes = usize::try_from(width * 32).unwrap_or(usize::MAX);
                let hashes = tiles.get(id).and_then(|tile| tile.get(..bytes)).ok_or_else(|| missing(id))?;
                let path = TilePath { resource: Resource::Tile(id), width };
                copy.write(&path.to_string(), hashes.to_vec()).await?;
            }
        }
        for number in copied / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
            let (first, end) = (number * TILE_WIDTH, ((number + 1) * TILE_WIDTH).min(size));
            let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
            let rows = rows::entries(&mut tx, stored(first), stored(end), stored(copied))
                .await
                .map_err(LedgerError::db(attempted))?;
            tx.release();
            let mut bundle = Vec::new();
            for row in &rows {
                let length =
                    u16::try_from(row.entry.len()).map_err(|_| missing(TileId { level: 0, number }))?;
                bundle.extend_from_slice(&length.to_be_bytes());
                bundle.extend_from_slice(&row.entry);
            }
            if rows.len() as u64 != end - first {
                return Err(missing(TileId { level: 0, number }));
            }
            let path = TilePath { resource: Resource::Entries(number), width: end - first };
            copy.write(&path.to_string(), bundle).await?;
            for row in rows {
                if let Some(heads) = row.heads {
                    copy.write(&format!("heads/{}.json.gz", row.index), heads).await?;
                }
            }
        }
        copy.write("checkpoint", checkpoint.note.clone().into_bytes()).await?;
        Ok(())
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

pub(super) fn tree_of(heads: &[Head]) -> Result<Tiles, tree::TreeError> {
    let hashes: Vec<Hash> = heads.iter().map(|head| leaf_hash(canonical_text(head).as_bytes())).collect();
    Tiles::over(&hashes)
}

/// RFC 8785. Structs of strings always have one.
fn canonical_text(value: &impl Serialize) -> String {
    serde_json_canonicalizer::to_string(value).unwrap_or_default()
}

/// One head a line, gzipped.
fn pack(heads: &[Head]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    for head in heads {
        let _ = writeln!(packed, "{}", canonical_text(head));
    }
    packed.finish().unwrap_or_default()
}

pub(super) fn unpack(packed: &[u8]) -> Option<Vec<Head>> {
    let mut text = String::new();
    GzDecoder::new(packed).take(MAX_HEADS).read_to_string(&mut text).ok()?;
    text.lines().map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_packed_a_line_each_and_come_back_as_they_were() {
        let heads: Vec<Head> = ["b.example/platform", "b.example/t/1"]
            .map(|origin| Head {
                origin: origin.into(),
                root: hex::encode([7; 32]),
                size: "9007199254740993".into(),
            })
            .into();
        assert_eq!(unpack(&pack(&heads)), Some(heads.clone()));
        assert_eq!(
            canonical_text(&heads[1]),
            format!(r#"{{"origin":"b.example/t/1","root":"{}","size":"9007199254740993"}}"#, "07".repeat(32))
        );
        assert_eq!(heads[1].leaves(), 9_007_199_254_740_993);
        assert_eq!(heads[1].root(), [7; 32]);
        assert_eq!(unpack(b"no gzip"), None);
    }
}
