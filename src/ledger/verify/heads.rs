//! The log of heads: entry by entry, against its own tree, its checkpoint and its copy. What it says of each log is
//! handed on to whoever checks that log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use daybook_projections::Schema;
use uuid::Uuid;

use super::{
    Verification,
    findings::Findings,
    known::Known,
    tiles::{self, Claim, Tree},
};
use crate::{
    eventstore::leaf::{format_time, leaf_hash},
    ledger::{
        Cause, Checkpoint, LedgerError,
        head_log::{Alarm, Entry, Head, LOG_ID, tree_of, unpack},
        path::{Resource, TilePath},
        rows::{self, EntryRow, Table},
        tree::{Hash, TILE_WIDTH, TileId},
        unsigned,
    },
    tenancy::Access,
};

/// Entries read at once.
const PAGE: i64 = 512;

/// What the log of heads says of other logs.
#[derive(Debug, Default)]
pub struct Said {
    /// By origin: each size and root that it was said to have, and by whom.
    pub(super) heads: BTreeMap<String, Vec<Named>>,
    /// The log whose heads are kept, by what its origin ends with; none: all logs.
    only: Option<String>,
    /// What was wrong with which logs when the last entry was made.
    pub(super) alarms: Vec<Alarm>,
}

/// A head that was named.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub size: u64,
    pub root: Hash,
    /// In which entry it was first.
    pub entry: u64,
    /// Whether that is an entry of the copy that is not here.
    pub copied: bool,
}

impl Said {
    fn name(&mut self, head: &Head, entry: u64, copied: bool) {
        if self.only.as_ref().is_some_and(|ending| !head.origin.ends_with(ending)) {
            return;
        }
        let (size, root) = (head.leaves(), head.root());
        let named = self.heads.entry(head.origin.clone()).or_default();
        // Sizes rise, so what was said before is what was said last.
        if named.last().is_none_or(|last| (last.size, last.root) != (size, root)) {
            named.push(Named { size, root, entry, copied });
        }
    }

    /// What is said of the log that an origin ends like this.
    pub(super) fn of(&self, ending: &str) -> impl Iterator<Item = &Named> {
        self.heads.iter().filter(move |(origin, _)| origin.ends_with(ending)).flat_map(|(_, named)| named)
    }

    pub(super) fn claims(&self, ending: &str) -> Vec<Claim> {
        let claim = |named: &Named| {
            let whose = if named.copied { "the copy of the log of heads" } else { "the log of heads" };
            let by = format!("entry {} of {whose}", named.entry);
            Claim { size: named.size, root: named.root, cause: Cause::CheckpointInconsistent, by }
        };
        self.of(ending).map(claim).collect()
    }
}

/// What a check of the log of heads came to.
#[derive(Debug, Default)]
pub(super) struct HeadsChecked {
    pub said: Said,
    pub size: u64,
    pub entries: u64,
    pub origin: Option<String>,
    pub unchecked: Vec<String>,
}

/// The copy as it was before anything else was read: it is never ahead of what is read after it.
#[derive(Debug, Default)]
struct Copied {
    note: Option<String>,
    heads: Option<Vec<u8>>,
    entries: Option<Vec<u8>>,
    size: u64,
}

impl Verification {
    /// Checks the log of heads.
    pub(super) async fn check_heads(
        &self,
        findings: &Findings,
        only: Option<String>,
    ) -> Result<HeadsChecked, LedgerError> {
        let attempted = "read the log of heads";
        let mut unchecked = Vec::new();
        let copied = match self.read_copy().await {
            Ok(copied) => copied,
            Err(error) => {
                unchecked.push(format!("the copy of the log of heads: {error}"));
                Copied::default()
            }
        };
        let mut tx = self.ledger.begin(&Schema::platform(), Access::ReadConsistent).await?;
        let known = self.ledger.known(&mut tx, LOG_ID, findings).await?;
        let last = rows::last_entry(&mut tx).await.map_err(LedgerError::db(attempted))?;
        let here = last.as_ref().map_or(0, |row| unsigned(row.index) + 1);
        drop(last);
        let mut checked = HeadsChecked {
            size: here,
            origin: Some(known.origin.clone()),
            unchecked,
            ..HeadsChecked::default()
        };
        let signed = known.signer.as_ref().map_or(0, |last| last.size);
        if !known.remembered && (here > 0 || known.signed) {
            findings.add(
                Cause::SignerStateInvalid,
                "the log of heads was signed, and the signer remembers nothing",
            );
        }
        if known.signer.is_some() && here != signed {
            let detail = format!("{here} entries are here, and {signed} were signed");
            findings.add(Cause::HeadLogInconsistent, detail);
        }
        let said = Said { only, ..Said::default() };
        let mut walk = Walk { findings, said, before: None, largest: HashMap::new() };
        let mut next = 0;
        while let Ok(from) = i64::try_from(next) {
            let page = rows::entries_from(&mut tx, from, PAGE).await.map_err(LedgerError::db(attempted))?;
            if page.is_empty() {
                break;
            }
            let needed: BTreeSet<TileId> =
                page.iter().map(|row| TileId { level: 0, number: unsigned(row.0) / TILE_WIDTH }).collect();
            let tiles =
                rows::tiles(&mut tx, Table::Heads, &needed).await.map_err(LedgerError::db(attempted))?;
            for (index, at, entry, with_heads) in page {
                // One at a time: there are as many heads in each as there are logs.
                let heads = if with_heads {
                    let row = rows::entry(&mut tx, index).await.map_err(LedgerError::db(attempted))?;
                    row.and_then(|row| row.heads)
                } else {
                    None
                };
                walk.missing(next, unsigned(index));
                next = unsigned(index) + 1;
                let in_tree = tiles.leaf_hash(unsigned(index)).ok();
                let row = EntryRow { index, at, entry, heads };
                checked.entries += 1;
                walk.entry(unsigned(index), &row, in_tree);
                tokio::task::yield_now().await;
            }
        }
        if walk.before.as_ref().is_some_and(|last| !last.with_heads) {
            findings.add(Cause::HeadLogInconsistent, "the heads of the last entry are gone");
        }
        let mut claims: Vec<Claim> = Vec::new();
        if let Some(signer) = &known.signer {
            let by = "the checkpoint of the log of heads".to_owned();
            let (size, root) = (signer.size, signer.root);
            claims.push(Claim { size, root, cause: Cause::HeadLogInconsistent, by });
        }
        self.compare_copy(&copied, &known, here, &mut claims, &mut walk);
        let tree = Tree {
            table: Table::Heads,
            size: signed.max(here),
            log: here,
            cause: Cause::HeadLogInconsistent,
            findings,
        };
        tiles::check(&mut tx, &tree, claims).await.map_err(LedgerError::db(attempted))?;
        tx.release();
        checked.said = walk.said;
        Ok(checked)
    }

    async fn read_copy(&self) -> Result<Copied, LedgerError> {
        let Some(note) = self.copy.checkpoint().await? else { return Ok(Copied::default()) };
        let size = Checkpoint::parse(&note).map_or(0, |checkpoint| checkpoint.size);
        let mut copied = Copied { note: Some(note), size, ..Copied::default() };
        if size > 0 {
            let number = (size - 1) / TILE_WIDTH;
            let resource = Resource::Entries(number);
            let path = TilePath { resource, width: size - number * TILE_WIDTH };
            copied.entries = self.copy.read(&path.to_string()).await?;
            copied.heads = self.copy.read(&format!("heads/{}.json.gz", size - 1)).await?;
        }
        Ok(copied)
    }

    fn compare_copy(
        &self,
        copied: &Copied,
        known: &Known,
        here: u64,
        claims: &mut Vec<Claim>,
        walk: &mut Walk<'_>,
    ) {
        let Some(note) = &copied.note else { return };
        let findings = walk.findings;
        let copy = match Checkpoint::verify(note, &known.origin, &known.vkeys) {
            Ok(copy) => copy,
            Err(cause) => {
                let detail = format!("the checkpoint of the copy is not one of ours: {cause}");
                return findings.add(Cause::HeadLogInconsistent, detail);
            }
        };
        if copy.size > here {
            let detail = format!(
                "the copy of the log of heads has {} entries, {here} are here: this database is older than its copy",
                copy.size
            );
            findings.add(Cause::CheckpointStale, detail);
        } else {
            let by = "the copy of the log of heads".to_owned();
            claims.push(Claim { size: copy.size, root: copy.root, cause: Cause::HeadLogInconsistent, by });
        }
        let entry = copied.entries.as_deref().and_then(last_of_bundle);
        let heads = copied.heads.as_deref().and_then(unpack);
        let (Some(entry), Some(heads)) = (entry, heads) else {
            return findings.add(Cause::HeadLogInconsistent, "the copy does not have its last entry");
        };
        if !stands_for(&entry, &heads) {
            return findings
                .add(Cause::HeadLogInconsistent, "the copy's heads are not those of its last entry");
        }
        for head in &heads {
            walk.said.name(head, copied.size - 1, copy.size > here);
        }
    }
}

/// The last leaf of a bundle.
fn last_of_bundle(bundle: &[u8]) -> Option<Entry> {
    let (mut rest, mut last) = (bundle, None);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (leaf, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        (last, rest) = (Some(leaf), after);
    }
    serde_json::from_slice(last?).ok()
}

fn stands_for(entry: &Entry, heads: &[Head]) -> bool {
    tree_of(heads).is_ok_and(|tree| entry.stands_for(heads, &tree))
}

struct Before {
    at: DateTime<Utc>,
    with_heads: bool,
}

/// Going through the entries, in order.
struct Walk<'a> {
    findings: &'a Findings,
    said: Said,
    before: Option<Before>,
    largest: HashMap<String, u64>,
}

impl Walk<'_> {
    fn wrong(&self, index: u64, what: &str) {
        self.findings.add(Cause::HeadLogInconsistent, format!("entry {index} of the log of heads {what}"));
    }

    /// Entries that are not there, from one index up to another: said once, however many they are.
    fn missing(&self, from: u64, to: u64) {
        match to.saturating_sub(from) {
            0 => {}
            1 => self.wrong(from, "is missing"),
            _ => {
                let detail = format!("entries {from} to {} of the log of heads are missing", to - 1);
                self.findings.add(Cause::HeadLogInconsistent, detail);
            }
        }
    }

    fn entry(&mut self, index: u64, row: &EntryRow, in_tree: Option<Hash>) {
        if in_tree.is_some_and(|in_tree| in_tree != leaf_hash(&row.entry)) {
            self.wrong(index, "is not the one in its tree");
        }
        let parsed: Option<Entry> = serde_json::from_slice(&row.entry).ok();
        let canonical = parsed.as_ref().and_then(|entry| serde_json_canonicalizer::to_vec(entry).ok());
        let Some(entry) = parsed.filter(|_| canonical.is_some_and(|bytes| bytes == row.entry)) else {
            return self.wrong(index, "cannot be read");
        };
        if entry.at != format_time(row.at) {
            self.wrong(index, "has another time in its column");
        }
        if self.before.as_ref().is_some_and(|before| row.at < before.at) {
            self.wrong(index, "is older than the one before it");
        }
        self.before = Some(Before { at: row.at, with_heads: row.heads.is_some() });
        self.said.alarms.clear();
        if let Some(packed) = &row.heads {
            match unpack(packed).filter(|heads| stands_for(&entry, heads)) {
                Some(heads) => self.heads(index, &heads),
                None => self.wrong(index, "has other heads than it stands for"),
            }
        }
    }

    fn heads(&mut self, index: u64, heads: &[Head]) {
        for head in heads {
            let size = head.leaves();
            let largest = self.largest.entry(head.origin.clone()).or_default();
            if size < *largest {
                self.findings.add(
                    Cause::HeadLogInconsistent,
                    format!(
                        "entry {index} of the log of heads names fewer leaves of {} than one before",
                        head.origin
                    ),
                );
            }
            *largest = size.max(*largest);
            self.said.name(head, index, false);
            self.said.alarms.extend(
                head.alarms.iter().map(|cause| Alarm { cause: cause.clone(), origin: head.origin.clone() }),
            );
        }
    }
}

/// The log that an origin names, where it is one of a tenant's.
pub(super) fn tenant_of(origin: &str) -> Option<Uuid> {
    origin.rsplit_once("/t/").and_then(|(_, id)| Uuid::parse_str(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(origin: &str, size: u64) -> Head {
        Head { alarms: Vec::new(), origin: origin.into(), root: hex::encode([7; 32]), size: size.to_string() }
    }

    #[test]
    fn what_is_said_again_is_kept_once_and_only_of_the_logs_that_are_asked_about() {
        let mut said = Said { only: Some("/t/1".into()), ..Said::default() };
        for (entry, size) in [(0, 5), (1, 5), (2, 8), (3, 8), (4, 8)] {
            said.name(&head("b.example/t/1", size), entry, false);
            said.name(&head("b.example/t/2", size), entry, false);
        }
        let named: Vec<_> = said.of("/t/1").map(|named| (named.size, named.entry)).collect();
        assert_eq!(named, [(5, 0), (8, 2)]);
        assert_eq!(said.heads.len(), 1);
    }

    #[test]
    fn a_head_that_shrinks_is_found_and_a_gap_is_said_once() {
        let findings = Findings::default();
        let mut walk =
            Walk { findings: &findings, said: Said::default(), before: None, largest: HashMap::new() };
        for (entry, size) in [(0, 5), (1, 8), (2, 7)] {
            walk.heads(entry, &[head("b.example/t/1", size)]);
        }
        walk.missing(3, 3);
        walk.missing(3, u64::MAX);
        let found = findings.take().1;
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].detail.contains("entry 2 of the log of heads names fewer leaves"), "{found:?}");
        assert!(found[0].detail.contains("entries 3 to"), "{found:?}");
    }
}
