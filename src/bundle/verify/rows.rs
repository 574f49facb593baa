//! The events of a part as JSON lines, CSV and Parquet, each row against its leaf.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{leaf::LeafView, parquet, report::Finding};
use crate::{
    export::{COLUMNS, inert},
    ledger::cause::Cause,
};

/// A leaf of the part: its position, its hash in hex, and what it says, if that can be told.
pub(super) struct Known<'a> {
    pub position: u64,
    pub hash: String,
    pub view: Option<LeafView<'a>>,
}

/// A row as a format gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    position: u64,
    event_id: Uuid,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    version: u16,
    #[serde(borrow)]
    aggregate_type: Cow<'a, str>,
    aggregate_id: Uuid,
    sequence: u64,
    #[serde(borrow)]
    recorded_at: Cow<'a, str>,
    #[serde(borrow)]
    occurred_at: Cow<'a, str>,
    #[serde(borrow)]
    actor: Cow<'a, str>,
    #[serde(borrow)]
    on_behalf_of: Option<Cow<'a, str>>,
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    support_mode: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ip: Option<Cow<'a, str>>,
    request_id: Option<Uuid>,
    #[serde(borrow)]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    causation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow)]
    leaf_hash: Cow<'a, str>,
}

impl Line<'_> {
    /// The first column that does not say what the leaf says.
    fn differs(&self, leaf: &LeafView<'_>, hash: &str) -> Option<&'static str> {
        let columns = [
            self.event_id == leaf.id,
            self.event_type == leaf.event_type,
            self.version == leaf.version,
            self.aggregate_type == leaf.aggregate_type,
            self.aggregate_id == leaf.aggregate_id,
            Some(self.sequence) == leaf.sequence(),
            self.recorded_at == leaf.recorded_at,
            self.occurred_at == leaf.occurred_at,
            self.actor == leaf.actor,
            self.on_behalf_of == leaf.on_behalf_of,
            self.role == leaf.role,
            self.support_mode == leaf.support_mode,
            self.reason == leaf.reason,
            self.ip == leaf.ip,
            self.request_id == leaf.request_id,
            self.correlation_id == leaf.correlation_id,
            self.causation_id == leaf.causation_id,
            self.payload.get() == leaf.payload.get(),
            self.leaf_hash == hash,
        ];
        columns.iter().position(|same| !same).map(|column| COLUMNS[column + 1])
    }
}

/// Checks JSON lines.
pub(super) fn ndjson(bytes: &[u8], leaves: &[Known<'_>], file: &str, findings: &mut Vec<Finding>) -> u64 {
    let mut lines = Vec::with_capacity(leaves.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = end.and_then(|end| serde_json::from_slice::<Line<'_>>(&rest[..end]).ok());
        let (Some(end), Some(line)) = (end, line) else {
            findings.push(unreadable(lines.len(), file));
            return lines.len() as u64;
        };
        lines.push(line);
        rest = &rest[end + 1..];
    }
    let positions: Vec<u64> = lines.iter().map(|line| line.position).collect();
    compare(&positions, leaves, file, findings, |row, leaf, hash| lines[row].differs(leaf, hash));
    lines.len() as u64
}

/// Checks CSV.
pub(super) fn csv(bytes: &[u8], leaves: &[Known<'_>], file: &str, findings: &mut Vec<Finding>) -> u64 {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    let mut records = reader.records();
    if !records.next().is_some_and(|names| names.is_ok_and(|names| names.iter().eq(COLUMNS))) {
        findings.push(Finding::new(Cause::Malformed, "the row of names is not the one of exports").of(file));
        return 0;
    }
    let mut rows = Vec::with_capacity(leaves.len());
    let mut positions = Vec::with_capacity(leaves.len());
    for record in records {
        let read = record.ok().and_then(|record| Some((record.get(0)?.parse().ok()?, record)));
        let Some((position, record)) = read else {
            findings.push(unreadable(rows.len(), file));
            return rows.len() as u64;
        };
        positions.push(position);
        rows.push(record);
    }
    compare(&positions, leaves, file, findings, |row, leaf, hash| {
        let cells: [Cow<'_, str>; 19] = [
            leaf.id.to_string().into(),
            inert(&leaf.event_type).into(),
            leaf.version.to_string().into(),
            inert(&leaf.aggregate_type).into(),
            leaf.aggregate_id.to_string().into(),
            leaf.sequence().unwrap_or(0).to_string().into(),
            leaf.recorded_at.as_ref().into(),
            leaf.occurred_at.as_ref().into(),
            inert(&leaf.actor).into(),
            optional(leaf.on_behalf_of.as_deref()),
            optional(leaf.role.as_deref()),
            optional(leaf.support_mode.as_deref()),
            optional(leaf.reason.as_deref()),
            optional(leaf.ip.as_deref()),
            leaf.request_id.map(|id| id.to_string()).unwrap_or_default().into(),
            optional(leaf.correlation_id.as_deref()),
            optional(leaf.causation_id.as_deref()),
            leaf.payload.get().into(),
            hash.into(),
        ];
        let differing = |(column, expected): &(usize, &Cow<'_, str>)| {
            let cell = rows[row].get(column + 1).unwrap_or_default();
            // Inert JSON is the same value, with escapes.
            cell != expected.as_ref() && (COLUMNS[column + 1] != "payload" || !same_json(cell, expected))
        };
        cells.iter().enumerate().find(differing).map(|(column, _)| COLUMNS[column + 1])
    });
    rows.len() as u64
}

fn optional(value: Option<&str>) -> Cow<'static, str> {
    value.map(inert).unwrap_or_default().into()
}

/// Checks Parquet.
pub(super) fn parquet(bytes: Vec<u8>, leaves: &[Known<'_>], file: &str, findings: &mut Vec<Finding>) -> u64 {
    let table = match parquet::Table::read(bytes, 2 * leaves.len() + 1) {
        Ok(table) => table,
        Err(detail) => {
            findings.push(Finding::new(Cause::Malformed, detail).of(file));
            return 0;
        }
    };
    compare(&table.positions(), leaves, file, findings, |row, leaf, hash| table.differs(row, leaf, hash));
    table.rows() as u64
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    parse(a).is_some_and(|value| Some(value) == parse(b))
}

fn unreadable(row: usize, file: &str) -> Finding {
    Finding::new(Cause::Malformed, format!("row {} cannot be read", row + 1)).of(file)
}

/// Each row against the leaf of its position, once it is known that there is one for each, in their order.
fn compare(
    positions: &[u64],
    leaves: &[Known<'_>],
    file: &str,
    findings: &mut Vec<Finding>,
    differs: impl Fn(usize, &LeafView<'_>, &str) -> Option<&'static str>,
) {
    let mut rows: BTreeMap<u64, usize> = BTreeMap::new();
    if positions.iter().copied().ne(leaves.iter().map(|leaf| leaf.position)) {
        let mut before = 0;
        for (row, position) in positions.iter().enumerate() {
            let known = leaves.binary_search_by_key(position, |leaf| leaf.position).is_ok();
            if !known || rows.insert(*position, row).is_some() || *position <= before {
                let why = if known { "the row is not in its place" } else { "the row is of no event here" };
                findings.push(Finding::new(Cause::RowOrder, why).at(*position).of(file));
            }
            before = *position;
        }
        for leaf in leaves.iter().filter(|leaf| !rows.contains_key(&leaf.position)) {
            findings.push(Finding::new(Cause::RowMissing, "there is no row").at(leaf.position).of(file));
        }
    } else {
        rows.extend(positions.iter().copied().zip(0..));
    }
    for leaf in leaves {
        if let (Some(row), Some(view)) = (rows.get(&leaf.position), &leaf.view)
            && let Some(column) = differs(*row, view, &leaf.hash)
        {
            let detail = format!("`{column}` is not what the leaf says");
            findings.push(Finding::new(Cause::ColumnMismatch, detail).at(leaf.position).of(file));
        }
    }
}
