//! What is in a bundle, and how it is written. Needs nothing of the server.
//!
//! In this order, each file as often as there is need:
//!
//! | path | what |
//! |---|---|
//! | `README.txt` | how to check the bundle with public tools |
//! | `checkpoint` | the signed head of the log |
//! | `keys.json` | [`KeysFile`] |
//! | `head-log/checkpoint`, `head-log/proof.json` | [`HeadFile`]: that the log of all logs' heads names this log; once it does |
//! | `tile/<L>/<N>[.p/W]` | hashes of the tree from the range up to the root, and of its right edge |
//! | `proof/first.json`, `proof/last.json` | [`InclusionFile`] of the range's ends, for other tools |
//! | `records/000001.ndjson` | [`RecordLine`]: what was pruned and erased, of the whole log |
//! | `tile/0/<N>`, `tile/entries/<N>[.p/W]` | hashes of leaves and the leaves: a zero length stands for one outside the range |
//! | `disclosed/000001.ndjson` | [`DisclosedLine`]: personal values of the part |
//! | `events/000001.ndjson`, `.csv`, `.parquet` | the events of the part: the leaves since the last one |
//! | `manifest.json`, `manifest.sig` | [`Manifest`], and a signed note over its hash |

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::ledger::{
    path::{Resource, TilePath},
    tree::{self, TILE_WIDTH, TileId},
};

/// The format and its version, as manifests name it.
pub const FORMAT: &str = "daybook-bundle/1";
/// How to check a bundle, step by step.
pub const README: &str = include_str!("README.txt");
/// The formats of the events of a part, in their order.
pub const FORMATS: [&str; 3] = ["ndjson", "csv", "parquet"];
/// The most events of a part; it ends with a bundle of leaves, or with the range.
pub const PART_ROWS: usize = 8_192;
/// A part ends when it has so many bytes of leaves.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
/// More bytes than the files of any part have together: its last leaves may be the longest there are, and come again as
/// rows in each format.
pub const MOST_OF_A_PART: u64 = 512 * 1024 * 1024;
/// More bundles of leaves than any part has: it grows by up to four at a time.
pub const MOST_BUNDLES: usize = PART_ROWS / 256 + 6;
/// The most lines of a file of records.
pub const RECORDS: usize = 500;
/// The types of events that say why something is not there.
pub const RECORD_TYPES: [&str; 3] = ["audit.pruned", "customer.erasure_requested", "customer.erased"];

/// What a path of a bundle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `README.txt`
    Readme,
    /// `checkpoint`
    Checkpoint,
    /// `keys.json`
    Keys,
    /// `head-log/checkpoint`
    HeadCheckpoint,
    /// `head-log/proof.json`
    HeadProof,
    /// `proof/first.json`
    First,
    /// `proof/last.json`
    Last,
    /// `records/<n>.ndjson`
    Records(u64),
    /// `tile/…`
    Tile(TilePath),
    /// `disclosed/<n>.ndjson`
    Disclosed(u64),
    /// `events/<n>.<format>`: the format by its place in [`FORMATS`].
    Events(u64, usize),
    /// `manifest.json`
    Manifest,
    /// `manifest.sig`
    Signature,
}

impl Kind {
    /// What a path names; `None` for what has no place in a bundle.
    pub fn parse(path: &str) -> Option<Self> {
        let kind = match path {
            "README.txt" => Self::Readme,
            "checkpoint" => Self::Checkpoint,
            "keys.json" => Self::Keys,
            "head-log/checkpoint" => Self::HeadCheckpoint,
            "head-log/proof.json" => Self::HeadProof,
            "proof/first.json" => Self::First,
            "proof/last.json" => Self::Last,
            "manifest.json" => Self::Manifest,
            "manifest.sig" => Self::Signature,
            path => {
                let (folder, rest) = path.split_once('/')?;
                if folder == "tile" {
                    return TilePath::parse(rest).map(Self::Tile);
                }
                let (number, ending) = rest.split_once('.')?;
                let number = number.parse().ok()?;
                match (folder, FORMATS.iter().position(|format| *format == ending)?) {
                    ("records", 0) => Self::Records(number),
                    ("disclosed", 0) => Self::Disclosed(number),
                    ("events", format) => Self::Events(number, format),
                    _ => return None,
                }
            }
        };
        (kind.to_string() == path).then_some(kind)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Readme => f.write_str("README.txt"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Keys => f.write_str("keys.json"),
            Self::HeadCheckpoint => f.write_str("head-log/checkpoint"),
            Self::HeadProof => f.write_str("head-log/proof.json"),
            Self::First => f.write_str("proof/first.json"),
            Self::Last => f.write_str("proof/last.json"),
            Self::Records(number) => write!(f, "records/{number:06}.ndjson"),
            Self::Tile(path) => path.fmt(f),
            Self::Disclosed(number) => write!(f, "disclosed/{number:06}.ndjson"),
            Self::Events(number, format) => write!(f, "events/{number:06}.{}", FORMATS[*format]),
            Self::Manifest => f.write_str("manifest.json"),
            Self::Signature => f.write_str("manifest.sig"),
        }
    }
}

/// A file of a bundle, as its manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its size, as a string.
    pub bytes: String,
    /// Its path.
    pub path: String,
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// The list of all files of a bundle, in their order, and what it is about: `manifest.json`, in canonical form. Positions
/// and counts are strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: String,
    /// Whose log.
    pub origin: String,
    /// The log's id.
    pub log_id: Uuid,
    /// The first position.
    pub from: String,
    /// The last position.
    pub to: String,
    /// How many leaves the tree has.
    pub size: String,
    /// Its root, in hex.
    pub root: String,
    /// How many events there are in each format.
    pub rows: BTreeMap<String, String>,
    /// How many personal values are disclosed.
    pub disclosed: String,
    /// How many records there are.
    pub records: String,
    /// Whether the log of heads named this log already.
    pub head_log: bool,
    /// Who took it, as events name them.
    pub exported_by: String,
    /// When.
    pub exported_at: String,
    /// The export, as the log names it.
    pub export_id: Uuid,
    /// The files.
    pub files: Vec<Listed>,
}

/// A key as [`KeysFile`] lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The public half, as signed-note writes it.
    pub vkey: String,
    /// Since when it has signed; none for one that has not yet.
    pub first_used_at: Option<String>,
    /// Whether it signs now.
    pub live: bool,
}

/// The keys of an origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginKeys {
    /// The origin.
    pub origin: String,
    /// Its keys, oldest first.
    pub keys: Vec<KeyEntry>,
}

/// `keys.json`: who may have signed. The manifest's signature vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysFile {
    /// Of the log.
    pub log: OriginKeys,
    /// Of the log of heads, where it names this log.
    pub head_log: Option<OriginKeys>,
}

/// `head-log/proof.json`. Hashes are in hex, 64-bit numbers are strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadFile {
    /// The entry of the log of heads: the leaf's text.
    pub entry: String,
    /// Its index there.
    pub entry_index: String,
    /// Its audit path there.
    pub entry_proof: Vec<String>,
    /// The head: the text of a leaf of the entry's tree.
    pub head: String,
    /// Its index there.
    pub head_index: String,
    /// How many heads there are.
    pub head_count: String,
    /// Its audit path there.
    pub head_proof: Vec<String>,
    /// That the tree of the checkpoint goes on from that head.
    pub consistency: Vec<String>,
}

/// `proof/first.json` and `proof/last.json`: an audit path. Hashes are in hex, 64-bit numbers are strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InclusionFile {
    /// The position; the leaf's index is one less.
    pub position: String,
    /// The leaf's hash.
    pub leaf_hash: String,
    /// In the tree of so many leaves.
    pub size: String,
    /// Of this root.
    pub root: String,
    /// The audit path, from the leaf upwards.
    pub proof: Vec<String>,
}

/// A line of `records/…`: an event that says why something is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordLine {
    /// Its position.
    pub position: String,
    /// The leaf, in base64.
    pub leaf: String,
    /// Its audit path, in hex.
    pub proof: Vec<String>,
}

/// A line of `disclosed/…`: a personal value, and the salt with which the leaf commits to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisclosedLine {
    /// The event's position.
    pub position: String,
    /// The event.
    pub event_id: Uuid,
    /// The field's name in the event.
    pub field: String,
    /// Whose it is.
    pub subject: Uuid,
    /// The salt, in hex.
    pub salt: String,
    /// The value.
    pub value: Value,
}

/// The tiles that come before the leaves: those above them up to the root, and the tree's right edge. In the order in
/// which they come.
pub fn upper_tiles(from: u64, to: u64, size: u64) -> BTreeSet<TileId> {
    let mut tiles = tree::needed_for_root(size);
    let (mut first, mut last) = (from.saturating_sub(1) / TILE_WIDTH, to.saturating_sub(1) / TILE_WIDTH);
    for level in 1..8 {
        (first, last) = (first / TILE_WIDTH, last / TILE_WIDTH);
        let across = (first..=last).map(|number| TileId { level, number });
        tiles.extend(across.filter(|id| id.width_in(size) > 0));
    }
    // A whole one of the lowest level comes with its leaves; its root is in the one above.
    tiles.retain(|id| id.level > 0 || id.width_in(size) < TILE_WIDTH);
    tiles
}

/// The path of a tile in a tree.
pub fn tile_path(id: TileId, size: u64) -> Kind {
    Kind::Tile(TilePath { resource: Resource::Tile(id), width: id.width_in(size) })
}

/// The path of a bundle of leaves in a tree.
pub fn entries_path(number: u64, size: u64) -> Kind {
    let width = TileId { level: 0, number }.width_in(size);
    Kind::Tile(TilePath { resource: Resource::Entries(number), width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_in_one_way() {
        for path in [
            "README.txt",
            "checkpoint",
            "keys.json",
            "head-log/checkpoint",
            "head-log/proof.json",
            "proof/first.json",
            "tile/0/x001/000",
            "tile/1/000.p/17",
            "tile/entries/004.p/3",
            "records/000001.ndjson",
            "disclosed/000001.ndjson",
            "events/000012.parquet",
            "events/1000000.csv",
            "manifest.sig",
        ] {
            assert_eq!(Kind::parse(path).map(|kind| kind.to_string()).as_deref(), Some(path));
        }
        for wrong in [
            "",
            "/checkpoint",
            "../checkpoint",
            "events/1.csv",
            "events/+00001.csv",
            "events/000001.xml",
            "records/000001.csv",
            "tile/0/../0",
            "events/000001.csv/x",
        ] {
            assert_eq!(Kind::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_tiles_above_a_range_reach_the_root() {
        let id = |level, number| TileId { level, number };
        assert_eq!(upper_tiles(1, 5, 7), BTreeSet::from([id(0, 0)]));
        assert_eq!(upper_tiles(1, 256, 256), BTreeSet::from([id(1, 0)]));
        assert_eq!(upper_tiles(300, 310, 600), BTreeSet::from([id(0, 2), id(1, 0)]));
        let large = upper_tiles(70_000, 70_001, 140_000);
        assert_eq!(large, BTreeSet::from([id(0, 546), id(1, 1), id(1, 2), id(2, 0)]));
    }
}
