//! What comes before the events: the checkpoint, the keys, the log of heads, the upper tiles, and the records.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;
use tlog_tiles::Tile;
use uuid::Uuid;

use super::{
    leaf::LeafView,
    part::hash_above,
    report::{Finding, Report},
};
use crate::{
    bundle::format::{
        HeadFile, InclusionFile, KeysFile, Kind, OriginKeys, RECORD_TYPES, RecordLine, tile_path,
    },
    eventstore::leaf::leaf_hash,
    ledger::{
        cause::Cause,
        head_log::{Entry, Head},
        note::Checkpoint,
        tree::{self, Hash, TILE_WIDTH, Tiles},
    },
};

/// More leaves than any tree has. What is below it can be reckoned with.
const MOST_LEAVES: u64 = 1 << 48;

/// The signed head of the log, and which log that is.
pub(super) struct Signed {
    pub checkpoint: Checkpoint,
    pub log_id: Uuid,
}

/// The log's id, from what its origin ends with.
fn log_id(origin: &str) -> Option<Uuid> {
    if origin.ends_with("/platform") {
        return Some(Uuid::nil());
    }
    let (_, id) = origin.rsplit_once("/t/")?;
    id.parse().ok().filter(|parsed: &Uuid| parsed.to_string() == id)
}

/// Reads the checkpoint; none where there is nothing to go on with.
pub(super) fn checkpoint(bytes: &[u8], keys: &[String], report: &mut Report) -> Option<Signed> {
    let file = Kind::Checkpoint;
    let note = std::str::from_utf8(bytes).unwrap_or_default();
    let parsed = Checkpoint::parse(note).ok().filter(|parsed| parsed.size < MOST_LEAVES);
    let Some((log_id, checkpoint)) = parsed.and_then(|parsed| Some((log_id(&parsed.origin)?, parsed))) else {
        report.find(Finding::new(Cause::Malformed, "this is no checkpoint of a log").of(file));
        return None;
    };
    if let Err(cause) = Checkpoint::verify(note, &checkpoint.origin, keys) {
        let why = match cause {
            Cause::CheckpointForeign => "none of the given keys has signed for this origin",
            Cause::CheckpointSignature => "the signature is not one of this text",
            _ => "a given key cannot be read",
        };
        report.find(Finding::new(cause, why).of(file));
        // Whose work the rest is nobody says: nothing is spent on it.
        return None;
    }
    Some(Signed { checkpoint, log_id })
}

/// Reads JSON that has one form only.
pub(super) fn canonical<T: DeserializeOwned + serde::Serialize>(
    kind: Kind,
    bytes: &[u8],
    report: &mut Report,
) -> Option<T> {
    let parsed: Option<T> = serde_json::from_slice(bytes).ok();
    let again = parsed.as_ref().and_then(|value| serde_json_canonicalizer::to_vec(value).ok());
    if again.as_deref() != Some(bytes) {
        report.find(Finding::new(Cause::Malformed, "it is not of its form, or not canonical").of(kind));
        return None;
    }
    parsed
}

/// Checks who the keys are of.
pub(super) fn keys(file: &KeysFile, signed: &Signed, report: &mut Report) {
    if file.log.origin != signed.checkpoint.origin {
        let why = "the keys are of another origin";
        report.find(Finding::new(Cause::CheckpointForeign, why).of(Kind::Keys));
    }
    let vkeys = vkeys(&file.log);
    if let Err(cause) = Checkpoint::verify(&signed.checkpoint.note, &signed.checkpoint.origin, &vkeys) {
        let why = "none of the listed keys has signed the checkpoint";
        report.find(Finding::new(cause, why).of(Kind::Keys));
    }
}

fn vkeys(keys: &OriginKeys) -> Vec<String> {
    keys.keys.iter().map(|key| key.vkey.clone()).collect()
}

/// Checks the upper tiles: that they give the root, each of them.
pub(super) fn upper(tiles: &Tiles, order: &[tree::TileId], signed: &Signed, report: &mut Report) {
    let Checkpoint { size, root, .. } = &signed.checkpoint;
    if tiles.root(*size) != Ok(*root) {
        let why = "the tiles do not give the root of the checkpoint";
        report.find(Finding::new(Cause::TreeMismatch, why));
    }
    for id in order {
        let tile = tiles.get(*id).unwrap_or_default();
        // What is not full is on the right edge, and of it the root is made.
        if tile.len() as u64 == TILE_WIDTH * 32 && hash_above(tiles, *id) != Some(Tile::subtree_hash(tile).0)
        {
            let why = "the tile is not the one of the tree";
            report.find(Finding::new(Cause::TreeMismatch, why).of(tile_path(*id, *size)));
        }
    }
}

/// Checks that the log of heads names this log, with a head that the checkpoint goes on from.
pub(super) fn heads(
    note: &[u8],
    proof: &HeadFile,
    keys: Option<&OriginKeys>,
    signed: &Signed,
    report: &mut Report,
) {
    let find = |cause, why: &str| Finding::new(cause, why).of(Kind::HeadProof);
    let checked = || -> Result<(Entry, Head), Finding> {
        let inconsistent = |why: &str| find(Cause::HeadLogInconsistent, why);
        let keys = keys.ok_or_else(|| inconsistent("there are no keys of the log of heads"))?;
        let note = std::str::from_utf8(note).unwrap_or_default();
        let heads = Checkpoint::verify(note, &keys.origin, &vkeys(keys)).map_err(|cause| {
            Finding::new(cause, "the checkpoint is not one of the log of heads").of(Kind::HeadCheckpoint)
        })?;
        if heads.size >= MOST_LEAVES {
            return Err(find(Cause::Malformed, "a number is none"));
        }
        if !keys.origin.ends_with("/heads") {
            return Err(inconsistent("the keys are not of a log of heads"));
        }
        let form = |why: &'static str| move |_| find(Cause::Malformed, why);
        let entry: Entry = serde_json::from_str(&proof.entry).map_err(form("the entry cannot be read"))?;
        let head: Head = serde_json::from_str(&proof.head).map_err(form("the head cannot be read"))?;
        for (text, again) in [
            (&proof.entry, serde_json_canonicalizer::to_string(&entry)),
            (&proof.head, serde_json_canonicalizer::to_string(&head)),
        ] {
            if again.ok().as_ref() != Some(text) {
                return Err(find(Cause::Malformed, "an entry or a head is not in canonical form"));
            }
        }
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number: &u64| *number < MOST_LEAVES);
            number.ok_or_else(|| find(Cause::Malformed, "a number is none"))
        };
        let path = |hashes: &[String]| path(hashes).ok_or_else(|| find(Cause::Malformed, "a hash is none"));
        let root = hash(&entry.heads_root).ok_or_else(|| find(Cause::Malformed, "a hash is none"))?;
        let (index, count) = (number(&proof.head_index)?, number(&proof.head_count)?);
        if entry.count != proof.head_count {
            return Err(inconsistent("the entry is of another number of heads"));
        }
        tree::check_inclusion(
            &path(&proof.head_proof)?,
            count,
            &root,
            index,
            &leaf_hash(proof.head.as_bytes()),
        )
        .map_err(|_| inconsistent("the head is not in the entry"))?;
        let entry_hash = leaf_hash(proof.entry.as_bytes());
        let index = number(&proof.entry_index)?;
        tree::check_inclusion(&path(&proof.entry_proof)?, heads.size, &heads.root, index, &entry_hash)
            .map_err(|_| inconsistent("the entry is not in the log of heads"))?;
        let Checkpoint { origin, size, root, .. } = &signed.checkpoint;
        if head.origin != *origin {
            return Err(inconsistent("the head is of another log"));
        }
        let (from, from_root) = (number(&head.size)?, hash(&head.root));
        let from_root = from_root.ok_or_else(|| find(Cause::Malformed, "a hash is none"))?;
        if from > *size {
            return Err(find(
                Cause::CheckpointStale,
                "the log of heads knows of more events than the checkpoint",
            ));
        }
        tree::check_consistency(&path(&proof.consistency)?, from, &from_root, *size, root).map_err(|_| {
            find(Cause::CheckpointInconsistent, "the checkpoint does not go on from the head")
        })?;
        if !head.alarms.is_empty() {
            return Err(inconsistent("the log of heads says that something is wrong with this log"));
        }
        Ok((entry, head))
    };
    match checked() {
        Ok((entry, _)) => report.head_log_at = Some(entry.at),
        Err(finding) => report.find(finding),
    }
}

/// Checks an audit path that is given for other tools; answers of which position.
pub(super) fn inclusion(
    kind: Kind,
    file: &InclusionFile,
    signed: &Signed,
    report: &mut Report,
) -> Option<u64> {
    let Checkpoint { size, root, .. } = &signed.checkpoint;
    let position = file.position.parse::<u64>().ok().filter(|position| (1..=*size).contains(position));
    let shown = || {
        let index = position? - 1;
        let (leaf, path) = (hash(&file.leaf_hash)?, path(&file.proof)?);
        let same = file.size == size.to_string() && file.root == hex::encode(root);
        (same && tree::check_inclusion(&path, *size, root, index, &leaf).is_ok()).then_some(())
    };
    if shown().is_none() {
        let why = "the audit path does not lead to the root";
        report.find(Finding::new(Cause::TreeMismatch, why).of(kind));
    }
    position
}

/// Checks records, and answers of which positions they are.
pub(super) fn records(
    kind: Kind,
    bytes: &[u8],
    signed: &Signed,
    before: u64,
    report: &mut Report,
) -> Vec<u64> {
    let Checkpoint { size, root, .. } = &signed.checkpoint;
    let mut positions = Vec::new();
    let mut last = before;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let read = line.strip_suffix(b"\n").and_then(|line| {
            let line: RecordLine = serde_json::from_slice(line).ok()?;
            let position = line.position.parse::<u64>().ok()?;
            if !(1..=signed.checkpoint.size).contains(&position) {
                return None;
            }
            Some((position, BASE64_STANDARD.decode(&line.leaf).ok()?, path(&line.proof)?))
        });
        let Some((position, leaf, path)) = read else {
            report.find(Finding::new(Cause::Malformed, "a record cannot be read").of(kind));
            return positions;
        };
        let mut find = |cause, why: &str| report.find(Finding::new(cause, why).at(position).of(kind));
        if tree::check_inclusion(&path, *size, root, position - 1, &leaf_hash(&leaf)).is_err() {
            find(Cause::LeafEdited, "the record is not in the tree");
        }
        match LeafView::read(&leaf) {
            Err(why) => find(Cause::Malformed, why),
            Ok(view) => {
                if view.position() != Some(position) {
                    find(Cause::PositionSwapped, "the leaf says that it is of another position");
                }
                if view.tenant != signed.log_id {
                    find(Cause::UnexpectedEvent, "the leaf says that it is of another log");
                }
                if !RECORD_TYPES.contains(&view.event_type.as_ref()) {
                    find(Cause::UnexpectedEvent, "the event is no such record");
                }
            }
        }
        if position <= last {
            find(Cause::RowOrder, "the record is not in its place");
        }
        last = position;
        positions.push(position);
    }
    positions
}

fn hash(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
}

fn path(hashes: &[String]) -> Option<Vec<Hash>> {
    hashes.iter().map(|text| hash(text)).collect()
}
