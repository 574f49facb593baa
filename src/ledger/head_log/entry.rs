//! What the log of heads consists of: heads, and the entries that stand for them.

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};

use crate::{
    eventstore::leaf::leaf_hash,
    ledger::{
        Cause, Checkpoint,
        tree::{self, Hash, Tiles},
    },
};

/// The most bytes of heads that are unpacked.
const MAX_HEADS: u64 = 256 * 1024 * 1024;

/// The head of a log, as the log of heads names it: the canonical JSON (RFC 8785) of this is a leaf of the tree whose root
/// an entry holds. What was found wrong with the log is in its own leaf, so that who proves one head shows no other log's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The causes for which the head was kept as it was, or the log is refused; none as a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Whose.
    pub origin: String,
    /// The root, in hex.
    pub root: String,
    /// How many leaves, as a string.
    pub size: String,
}

impl Head {
    pub(in crate::ledger) fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { origin, size, root, .. } = checkpoint;
        Self { alarms: Vec::new(), origin: origin.clone(), root: hex::encode(root), size: size.to_string() }
    }

    /// Whether another one is of the same tree, whatever was found wrong.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.origin, &self.root, &self.size) == (&other.origin, &other.root, &other.size)
    }

    pub(in crate::ledger) fn leaves(&self) -> u64 {
        self.size.parse().unwrap_or(0)
    }

    pub(in crate::ledger) fn root(&self) -> Hash {
        let mut root = Hash::default();
        // What is not a root equals none.
        let _ = hex::decode_to_slice(&self.root, &mut root);
        root
    }
}

/// Something that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The name of the cause.
    pub cause: String,
    /// Which log.
    pub origin: String,
}

impl Alarm {
    pub(super) fn new(cause: Cause, origin: &str) -> Self {
        Self { cause: cause.as_str().to_owned(), origin: origin.to_owned() }
    }
}

/// An entry of the log of heads: its canonical JSON is the leaf, which is short however many logs there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How many alarms there are in the heads, as a string.
    pub alarms: String,
    /// When it was made.
    pub at: String,
    /// How many heads there are, as a string.
    pub count: String,
    /// The root (RFC 6962) of the tree over the heads, by origin, in hex.
    pub heads_root: String,
}

impl Entry {
    /// The entry for heads whose tree has this root.
    #[must_use]
    pub fn of(heads: &[Head], root: &Hash, at: String) -> Self {
        let alarms: usize = heads.iter().map(|head| head.alarms.len()).sum();
        Self { alarms: alarms.to_string(), at, count: heads.len().to_string(), heads_root: hex::encode(root) }
    }

    /// Whether this is the entry for these heads.
    pub(in crate::ledger) fn stands_for(&self, heads: &[Head], tree: &Tiles) -> bool {
        tree.root(heads.len() as u64).is_ok_and(|root| *self == Self::of(heads, &root, self.at.clone()))
    }
}

pub(in crate::ledger) fn tree_of(heads: &[Head]) -> Result<Tiles, tree::TreeError> {
    let hashes: Vec<Hash> = heads.iter().map(|head| leaf_hash(canonical_text(head).as_bytes())).collect();
    Tiles::over(&hashes)
}

/// RFC 8785. Structs of strings always have one.
pub(super) fn canonical_text(value: &impl Serialize) -> String {
    serde_json_canonicalizer::to_string(value).unwrap_or_default()
}

/// One head a line, gzipped.
pub(super) fn pack(heads: &[Head]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    for head in heads {
        let _ = writeln!(packed, "{}", canonical_text(head));
    }
    packed.finish().unwrap_or_default()
}

pub(in crate::ledger) fn unpack(packed: &[u8]) -> Option<Vec<Head>> {
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
                alarms: Vec::new(),
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
        let alarmed = Head { alarms: vec!["tenant_missing".into()], ..heads[0].clone() };
        assert!(
            canonical_text(&alarmed)
                .starts_with(r#"{"alarms":["tenant_missing"],"origin":"b.example/platform""#)
        );
        let both = [alarmed, heads[1].clone()];
        let tree = tree_of(&both).unwrap();
        let entry = Entry::of(&both, &tree.root(2).unwrap(), "then".into());
        assert!(
            (entry.alarms.as_str(), entry.count.as_str()) == ("1", "2") && entry.stands_for(&both, &tree)
        );
        assert!(!entry.stands_for(&heads, &tree_of(&heads).unwrap()));
        let quiet = Entry { alarms: "0".into(), ..entry };
        assert!(!quiet.stands_for(&both, &tree), "how many alarms there are is one of what it stands for");
    }

    #[test]
    fn an_entry_is_a_leaf_that_a_bundle_can_hold_whatever_is_wrong_with_how_many_logs() {
        let alarms = vec!["checkpoint_inconsistent".to_owned(), "signer_state_invalid".to_owned()];
        let root = hex::encode([7; 32]);
        let head = |n: u32| Head {
            alarms: alarms.clone(),
            origin: format!("b.example/t/{n}"),
            root: root.clone(),
            size: n.to_string(),
        };
        let heads: Vec<Head> = (0..1_000).map(head).collect();
        let tree = tree_of(&heads).unwrap();
        let entry = Entry::of(&heads, &tree.root(1_000).unwrap(), "2026-11-21T10:00:00.000001Z".into());
        assert_eq!(entry.alarms, "2000");
        assert!(canonical_text(&entry).len() < 200);
    }
}
