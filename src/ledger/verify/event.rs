//! One event: its leaf against the tree, its form, and its columns against its leaf.

use chrono::{DateTime, Utc};
use daybook_domain::RecordedEvent;
use serde::Deserialize as _;
use serde_json::Value;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::findings::Findings;
use crate::{
    eventstore::leaf::{LEAF_VERSION, Leaf, MAX_LEAF, format_time, leaf_hash, parse_time},
    ledger::{Cause, tree::Hash},
};

/// A leaf that is not the one the tree has at its position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mismatch {
    pub position: i64,
    /// Where the leaf says that it stands.
    pub says: Option<i64>,
    pub hash: Hash,
    /// What the tree has.
    pub in_tree: Hash,
}

/// An event that could be read.
pub(super) struct Seen {
    pub event: RecordedEvent,
    pub commitments: std::collections::BTreeMap<String, String>,
}

/// What looking at one row came to.
#[derive(Default)]
pub(super) struct Looked {
    pub recorded_at: Option<DateTime<Utc>>,
    pub mismatch: Option<Mismatch>,
    pub seen: Option<Seen>,
}

/// Looks at a row. `in_tree` is what the tree has for it, if it has got that far.
pub(super) fn look(
    row: &PgRow,
    log_id: Uuid,
    in_tree: Option<Hash>,
    findings: &Findings,
) -> Result<Looked, sqlx::Error> {
    let position: i64 = row.try_get(0)?;
    let leaf: &[u8] = row.try_get(1)?;
    let recorded_at: DateTime<Utc> = row.try_get(8)?;
    let hash = leaf_hash(leaf);
    let mut looked = Looked { recorded_at: Some(recorded_at), ..Looked::default() };
    let decoded = decode(leaf);
    let says = decoded.as_ref().ok().and_then(|leaf| leaf.position.parse().ok());
    looked.mismatch =
        in_tree.filter(|in_tree| *in_tree != hash).map(|in_tree| Mismatch { position, says, hash, in_tree });
    let leaf = match decoded {
        Ok(leaf) => leaf,
        Err(detail) => {
            findings.at(Cause::Malformed, position, detail);
            return Ok(looked);
        }
    };
    let other = columns(row, &leaf)?;
    if !other.is_empty() {
        let detail = format!("{} other than in the leaf", other.join(", "));
        findings.at(Cause::ColumnMismatch, position, detail);
    }
    if leaf.tenant.0 != log_id {
        findings.at(Cause::UnexpectedEvent, position, "the leaf is one of another log");
    }
    // A tree that has another leaf here is asked which one stands where. One that has this leaf, or none yet, does not say
    // that it belongs here; the leaf itself does.
    if looked.mismatch.is_none() && says != Some(position) {
        findings.at(Cause::PositionSwapped, position, "the leaf says that it stands elsewhere");
    }
    let at = says.unwrap_or(position);
    let commitments = leaf.commitments.clone();
    match leaf.into_recorded(at) {
        Ok(event) => looked.seen = Some(Seen { event: RecordedEvent { position, ..event }, commitments }),
        Err(error) => findings.at(Cause::Malformed, position, error.to_string()),
    }
    Ok(looked)
}

/// Reads a leaf that is written in the one way that a leaf is.
fn decode(bytes: &[u8]) -> Result<Leaf, &'static str> {
    if bytes.len() > MAX_LEAF {
        return Err("a leaf that is too long");
    }
    let json = match bytes.split_first() {
        Some((&LEAF_VERSION, json)) => json,
        Some(_) | None => return Err("a leaf of an unknown version"),
    };
    let value: Value = serde_json::from_slice(json).map_err(|_| "a leaf that is no JSON")?;
    let canonical =
        serde_json_canonicalizer::to_vec(&value).map_err(|_| "a leaf without a canonical form")?;
    if canonical != json {
        return Err("a leaf that is not in its canonical form");
    }
    let leaf = Leaf::deserialize(value).map_err(|_| "a leaf that is not of its form")?;
    let commitments = leaf.commitments.values().all(|text| is_hex(text, 64));
    let times = [&leaf.recorded_at, &leaf.occurred_at].into_iter().all(|text| is_time(text));
    if commitments && times && is_hex(&leaf.nonce, 32) {
        Ok(leaf)
    } else {
        Err("a leaf that is not of its form")
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_time(text: &str) -> bool {
    parse_time(text).is_some_and(|time| format_time(time) == text)
}

/// The columns that say something else than the leaf.
fn columns(row: &PgRow, leaf: &Leaf) -> Result<Vec<&'static str>, sqlx::Error> {
    let mut other = Vec::new();
    let mut check = |column, same: bool| {
        if !same {
            other.push(column);
        }
    };
    check("event_id", row.try_get::<Uuid, _>(2)? == leaf.id);
    check("aggregate_type", row.try_get::<&str, _>(3)? == leaf.aggregate_type);
    check("aggregate_id", row.try_get::<Uuid, _>(4)? == leaf.aggregate_id);
    check("sequence", leaf.sequence.parse() == Ok(row.try_get::<i64, _>(5)?));
    check("event_type", row.try_get::<&str, _>(6)? == leaf.event_type);
    check("event_version", row.try_get::<i32, _>(7)? == i32::from(leaf.version));
    check("recorded_at", parse_time(&leaf.recorded_at) == Some(row.try_get::<DateTime<Utc>, _>(8)?));
    check("actor", row.try_get::<&str, _>(9)? == leaf.metadata.actor);
    check("on_behalf_of", row.try_get::<Option<&str>, _>(10)? == leaf.metadata.on_behalf_of.as_deref());
    Ok(other)
}
