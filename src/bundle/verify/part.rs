//! A part of a bundle: its leaves against the tree, each other, their personal values and their rows. Parts know nothing
//! of each other, so that several are checked at once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

use daybook_domain::registry::{AggregateType, AnyEvent};
use sha2::{Digest as _, Sha256};
use tlog_tiles::Tile;
use uuid::Uuid;

use super::{
    leaf::LeafView,
    report::Finding,
    rows::{self, Known},
};
use crate::{
    bundle::format::{
        DisclosedLine, FORMATS, Kind, Listed, MOST_BUNDLES, MOST_OF_A_PART, RECORD_TYPES, entries_path,
        tile_path,
    },
    eventstore::leaf::{SALT_BYTES, commitment, leaf_hash},
    ledger::{
        cause::Cause,
        tree::{Hash, TILE_WIDTH, TileId, Tiles},
    },
};

/// What all parts are checked against.
pub(super) struct Upper {
    /// The tiles above the leaves, as far as the root bears them out.
    pub tiles: Tiles,
    /// How many leaves the tree has.
    pub size: u64,
    /// The log's id.
    pub log_id: Uuid,
    /// The receipts that somebody has.
    pub receipts: Vec<(u64, Hash)>,
    /// Tells the types of aggregates apart.
    pub hasher: RandomState,
}

/// A stream: its type by its hash, and its id.
pub(super) type Stream = (u64, Uuid);

/// A bundle of leaves, and the tile that is given with it.
pub(super) struct Bundle {
    pub number: u64,
    pub width: u64,
    pub tile: Option<Vec<u8>>,
    pub entries: Vec<u8>,
}

/// A part as it is in the bundle.
#[derive(Default)]
pub(super) struct Part {
    /// Counted from 1.
    pub number: u64,
    pub bundles: Vec<Bundle>,
    pub disclosed: Option<Vec<u8>>,
    pub formats: [Option<Vec<u8>>; FORMATS.len()],
    /// How many bytes came for it.
    pub bytes: u64,
}

/// A stream's events within a part.
pub(super) struct Run {
    pub stream: Stream,
    pub first: u64,
    pub last: u64,
    /// The position of the first.
    pub position: u64,
}

/// What a part came to.
#[derive(Default)]
pub(super) struct Checked {
    pub number: u64,
    /// Its files, in their order.
    pub files: Vec<Listed>,
    pub findings: Vec<Finding>,
    /// The first and the last position.
    pub range: Option<(u64, u64)>,
    /// Whether the range ends within a bundle: nothing may follow then.
    pub open_end: bool,
    /// The first and the last time.
    pub times: Option<(String, String)>,
    pub runs: Vec<Run>,
    /// Events that are to be among the records.
    pub records: Vec<u64>,
    /// Receipts, by their place, that are about this part.
    pub receipts: Vec<usize>,
    pub disclosed: u64,
    pub withheld: u64,
    pub rows: [u64; FORMATS.len()],
}

/// A file as the manifest is to list it.
pub(super) fn listed(kind: Kind, bytes: &[u8]) -> Listed {
    Listed {
        bytes: bytes.len().to_string(),
        path: kind.to_string(),
        sha256: hex::encode(Sha256::digest(bytes)),
    }
}

impl Part {
    /// Whether it has more than any part that is written.
    pub fn is_too_large(&self) -> bool {
        self.bundles.len() > MOST_BUNDLES || self.bytes > MOST_OF_A_PART
    }

    /// Checks it.
    pub fn check(mut self, upper: &Upper) -> Checked {
        let mut checked = Checked { number: self.number, ..Checked::default() };
        self.list(upper, &mut checked);
        let mut raw: Vec<(u64, &[u8])> = Vec::new();
        let mut tiles: HashMap<u64, Option<&[u8]>> = HashMap::new();
        for bundle in &self.bundles {
            tiles.insert(bundle.number, tile_of(bundle, upper, &mut checked.findings));
            split(bundle, upper.size, &mut raw, &mut checked);
        }
        for (position, expected) in raw.windows(2).map(|two| (two[1].0, two[0].0 + 1)) {
            if position != expected {
                let why = format!("position {expected} is followed by position {position}");
                checked.findings.push(Finding::new(Cause::MissingEvent, why).at(expected));
            }
        }
        checked.range = raw.first().zip(raw.last()).map(|(first, last)| (first.0, last.0));
        let mut leaves: Vec<Known<'_>> = Vec::with_capacity(raw.len());
        for (position, leaf) in &raw {
            let hash = leaf_hash(leaf);
            let index = position - 1;
            let hashes = tiles.get(&(index / TILE_WIDTH)).copied().flatten();
            let view = check_leaf(*position, leaf, &hash, hashes, upper, &mut checked.findings);
            for (place, _) in upper.receipts.iter().enumerate().filter(|(_, known)| known.0 == *position) {
                checked.receipts.push(place);
                if upper.receipts[place].1 != hash {
                    let why = "the receipt that was given names another leaf";
                    checked.findings.push(Finding::new(Cause::ReceiptMismatch, why).at(*position));
                }
            }
            leaves.push(Known { position: *position, hash: hex::encode(hash), view });
        }
        follow(&leaves, upper, &mut checked);
        disclose(self.disclosed.as_deref(), &leaves, self.number, &mut checked);
        for (format, name) in FORMATS.iter().enumerate() {
            let file = Kind::Events(self.number, format).to_string();
            let findings = &mut checked.findings;
            let Some(bytes) = self.formats[format].take() else {
                findings.push(
                    Finding::new(Cause::RowMissing, format!("there is no {name} of the part")).of(file),
                );
                continue;
            };
            checked.rows[format] = match *name {
                "ndjson" => rows::ndjson(&bytes, &leaves, &file, findings),
                "csv" => rows::csv(&bytes, &leaves, &file, findings),
                _ => rows::parquet(bytes, &leaves, &file, findings),
            };
        }
        checked
    }

    fn list(&self, upper: &Upper, checked: &mut Checked) {
        for bundle in &self.bundles {
            if let Some(tile) = &bundle.tile {
                let id = TileId { level: 0, number: bundle.number };
                checked.files.push(listed(tile_path(id, upper.size), tile));
            }
            checked.files.push(listed(entries_path(bundle.number, upper.size), &bundle.entries));
        }
        if let Some(disclosed) = &self.disclosed {
            checked.files.push(listed(Kind::Disclosed(self.number), disclosed));
        }
        for (format, bytes) in self.formats.iter().enumerate() {
            if let Some(bytes) = bytes {
                checked.files.push(listed(Kind::Events(self.number, format), bytes));
            }
        }
    }
}

/// The hashes of a bundle's leaves, if the tree bears them out.
fn tile_of<'a>(bundle: &'a Bundle, upper: &'a Upper, findings: &mut Vec<Finding>) -> Option<&'a [u8]> {
    let id = TileId { level: 0, number: bundle.number };
    let wrong = |why: &str| Finding::new(Cause::TreeMismatch, why).of(tile_path(id, upper.size));
    let Some(tile) = &bundle.tile else {
        // That of the right edge was there before, and gave the root.
        let tile = upper.tiles.get(id);
        if tile.is_none() {
            findings.push(wrong("the tile is not there"));
        }
        return tile;
    };
    if tile.len() as u64 != TILE_WIDTH * 32 {
        findings.push(wrong("the tile is not as wide as the tree makes it"));
        return None;
    }
    if hash_above(&upper.tiles, id) != Some(Tile::subtree_hash(tile).0) {
        findings.push(wrong("the tile is not the one of the tree"));
        return None;
    }
    Some(tile)
}

/// The hash that the tile above has of a full tile.
pub(super) fn hash_above(tiles: &Tiles, id: TileId) -> Option<Hash> {
    let above = TileId { level: id.level + 1, number: id.number / TILE_WIDTH };
    let from = usize::try_from(id.number % TILE_WIDTH).ok()? * 32;
    tiles.get(above)?.get(from..from + 32)?.try_into().ok()
}

/// Takes a bundle's leaves apart: those of the range.
fn split<'a>(bundle: &'a Bundle, size: u64, raw: &mut Vec<(u64, &'a [u8])>, checked: &mut Checked) {
    let malformed = |why: &str| Finding::new(Cause::Malformed, why).of(entries_path(bundle.number, size));
    let (mut rest, mut index) = (&bundle.entries[..], 0);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((leaf, after)) = after.split_at_checked(length) else {
            checked.findings.push(malformed("a leaf ends too early"));
            return;
        };
        let position = bundle.number * TILE_WIDTH + index + 1;
        if leaf.is_empty() {
            checked.open_end = !raw.is_empty();
        } else {
            raw.push((position, leaf));
        }
        (rest, index) = (after, index + 1);
    }
    if !rest.is_empty() || index != bundle.width {
        checked.findings.push(malformed("it does not hold as many leaves as the tree makes it"));
    }
}

fn check_leaf<'a>(
    position: u64,
    leaf: &'a [u8],
    hash: &Hash,
    hashes: Option<&[u8]>,
    upper: &Upper,
    findings: &mut Vec<Finding>,
) -> Option<LeafView<'a>> {
    let mut find = |cause, why: &str| findings.push(Finding::new(cause, why).at(position));
    if let Some(hashes) = hashes {
        let mut all = hashes.chunks_exact(32);
        let at = usize::try_from((position - 1) % TILE_WIDTH).unwrap_or(usize::MAX);
        if hashes.get(at * 32..at * 32 + 32) != Some(hash.as_slice()) {
            if all.any(|other| other == hash) {
                find(Cause::PositionSwapped, "the leaf is the one of another position");
            } else {
                find(Cause::LeafEdited, "the leaf is not the one in the tree");
            }
        }
    }
    let view = match LeafView::read(leaf) {
        Ok(view) => view,
        Err(why) => {
            find(Cause::Malformed, why);
            return None;
        }
    };
    if view.position() != Some(position) {
        find(Cause::PositionSwapped, "the leaf says that it is of another position");
    }
    if view.tenant != upper.log_id {
        find(Cause::UnexpectedEvent, "the leaf says that it is of another log");
    }
    if view.sequence().is_none() {
        find(Cause::Malformed, "the leaf has no sequence");
    }
    Some(view)
}

/// Times rise, and so do the sequences of each stream.
fn follow(leaves: &[Known<'_>], upper: &Upper, checked: &mut Checked) {
    let mut runs: HashMap<Stream, usize> = HashMap::new();
    let mut before: Option<&str> = None;
    for leaf in leaves {
        let Some(view) = &leaf.view else { continue };
        if before.is_some_and(|before| view.recorded_at.as_ref() < before) {
            let why = "it was recorded before the event in front of it";
            checked.findings.push(Finding::new(Cause::UnexpectedEvent, why).at(leaf.position));
        }
        before = Some(&view.recorded_at);
        checked.times.get_or_insert_with(|| (view.recorded_at.to_string(), String::new()));
        if RECORD_TYPES.contains(&view.event_type.as_ref()) {
            checked.records.push(leaf.position);
        }
        let Some(sequence) = view.sequence() else { continue };
        let stream = (upper.hasher.hash_one(view.aggregate_type.as_ref()), view.aggregate_id);
        match runs.get(&stream) {
            Some(run) => {
                let run = &mut checked.runs[*run];
                if run.last.checked_add(1) != Some(sequence) {
                    checked.findings.push(sequence_gap(run.last, sequence, leaf.position));
                }
                run.last = sequence;
            }
            None => {
                runs.insert(stream, checked.runs.len());
                checked.runs.push(Run { stream, first: sequence, last: sequence, position: leaf.position });
            }
        }
    }
    if let (Some(times), Some(last)) = (&mut checked.times, before) {
        last.clone_into(&mut times.1);
    }
}

/// What is said of a stream that does not go on as it must.
pub(super) fn sequence_gap(before: u64, sequence: u64, position: u64) -> Finding {
    let why = format!("the stream's sequence goes from {before} to {sequence}");
    Finding::new(Cause::SequenceGap, why).at(position)
}

/// Each disclosed value is the one that its leaf commits to.
fn disclose(bytes: Option<&[u8]>, leaves: &[Known<'_>], part: u64, checked: &mut Checked) {
    let file = Kind::Disclosed(part).to_string();
    let mut subjects: BTreeMap<u64, HashMap<String, Uuid>> = BTreeMap::new();
    let mut seen: HashSet<(u64, String)> = HashSet::new();
    let mut before = 0;
    let (mut rest, mut row) = (bytes.unwrap_or_default(), 0);
    while !rest.is_empty() {
        row += 1;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = end.and_then(|end| serde_json::from_slice::<DisclosedLine>(&rest[..end]).ok());
        let position = line.as_ref().and_then(|line| line.position.parse::<u64>().ok());
        let (Some(end), Some(line), Some(position)) = (end, line, position) else {
            let why = format!("row {row} cannot be read");
            checked.findings.push(Finding::new(Cause::Malformed, why).of(&file));
            return;
        };
        rest = &rest[end + 1..];
        let mut find =
            |cause, why: &str| checked.findings.push(Finding::new(cause, why).at(position).of(&file));
        if position < before || !seen.insert((position, line.field.clone())) {
            find(Cause::RowOrder, "the row is not in its place, or comes twice");
        }
        before = position;
        let known = leaves.binary_search_by_key(&position, |leaf| leaf.position).ok();
        let Some(view) = known.and_then(|known| leaves[known].view.as_ref()) else {
            find(Cause::RowOrder, "the row is of no event here");
            continue;
        };
        if view.id != line.event_id {
            find(Cause::ColumnMismatch, "`event_id` is not what the leaf says");
        }
        if !is_committed(&line, view) {
            find(Cause::SealedValueInvalid, &format!("`{}` is not what the leaf commits to", line.field));
        }
        let subjects = subjects.entry(position).or_insert_with(|| subjects_of(view));
        if subjects.get(&line.field).is_some_and(|subject| *subject != line.subject) {
            find(Cause::SubjectSwapped, &format!("`{}` is of another person", line.field));
        }
        checked.disclosed += 1;
    }
    let committed: usize = leaves.iter().filter_map(|leaf| Some(leaf.view.as_ref()?.commitments.len())).sum();
    checked.withheld = (committed as u64).saturating_sub(checked.disclosed);
}

fn is_committed(line: &DisclosedLine, view: &LeafView<'_>) -> bool {
    let mut salt = [0; SALT_BYTES];
    let canonical = serde_json_canonicalizer::to_vec(&line.value);
    match (hex::decode_to_slice(&line.salt, &mut salt), canonical) {
        (Ok(()), Ok(canonical)) => {
            let expected = hex::encode(commitment(view.id, &line.field, &salt, &canonical));
            view.commitments.get(line.field.as_str()).is_some_and(|committed| **committed == *expected)
        }
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Whose the personal fields of an event are, as far as this program knows events of its type.
fn subjects_of(view: &LeafView<'_>) -> HashMap<String, Uuid> {
    let mut subjects = HashMap::new();
    let payload = serde_json::from_str(view.payload.get()).unwrap_or_default();
    let event = AggregateType::parse(&view.aggregate_type)
        .and_then(|kind| AnyEvent::from_payload(kind, &view.event_type, view.version, payload).ok());
    if let Some(mut event) = event {
        event.visit_personal(&mut |field, subject, _| {
            subjects.insert(field.to_owned(), subject.0);
        });
    }
    subjects
}
