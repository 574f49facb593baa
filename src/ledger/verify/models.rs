//! What follows from the log, against the log: snapshots against a fold, read models and guards against a replay.

use daybook_domain::{
    personal::{ERASED_MARKER, SEALED_MARKER, revealing},
    registry::AggregateType,
};
use daybook_projections::Schema;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{findings::Findings, rows};
use crate::{
    eventstore::{
        EventStore, StreamRef,
        load::{FOLD_VERSION, Reader, Until},
    },
    ledger::Cause,
    workers::projector,
};

/// Snapshots read at once.
const PAGE: i64 = 100;

/// Checks every snapshot that is in use. Answers how many. `pruned`: whether the log does not begin at its beginning.
pub(super) async fn snapshots(
    connection: &mut PgConnection,
    store: &EventStore,
    schema: &Schema,
    pruned: bool,
    findings: &Findings,
    unchecked: &mut Vec<String>,
) -> Result<u64, sqlx::Error> {
    let mut count = 0;
    let mut after = (Uuid::nil(), String::new());
    loop {
        let page = rows::snapshots(&mut *connection, (after.0, &after.1), PAGE).await?;
        let Some(last) = page.last() else { return Ok(count) };
        after = (last.aggregate_id, last.aggregate_type.clone());
        // One of an older fold is never read.
        for row in page.iter().filter(|row| row.fold_version == FOLD_VERSION) {
            count += 1;
            let mut reader = Reader::disclosing(schema, store.keys());
            let named = format!("{} {}", row.aggregate_type, row.aggregate_id);
            let Some(aggregate_type) = AggregateType::parse(&row.aggregate_type) else {
                findings.add(Cause::SnapshotMismatch, format!("{named}: there is no such aggregate"));
                continue;
            };
            if row.sequence > row.last {
                let detail =
                    format!("{named}: of sequence {}, the stream ends at {}", row.sequence, row.last);
                findings.add(Cause::SnapshotMismatch, detail);
                continue;
            }
            let stream = StreamRef { aggregate_type, id: row.aggregate_id };
            match reader.aggregate(&mut *connection, stream, Until::Sequence(row.sequence)).await {
                Ok(Some((entry, _))) => {
                    let folded = revealing(|| entry.state.to_json()).unwrap_or_default();
                    if let Some(path) = differs(&row.state, &folded, String::new()) {
                        let detail =
                            format!("{named} at sequence {}: other than the fold at {path}", row.sequence);
                        findings.add(Cause::SnapshotMismatch, detail);
                    }
                }
                // Below what is kept of its stream: what it stands for was pruned, and another state replaces it.
                Ok(None) if pruned => {}
                Ok(None) => findings.add(Cause::SnapshotMismatch, format!("{named}: nothing happened to it")),
                Err(error) => unchecked.push(format!("the snapshot of {named}: {error}")),
            }
        }
    }
}

/// Where a snapshot differs from the fold, if it does. A personal value that was sealed when the snapshot was made says
/// nothing; one that was erased since must not be there.
fn differs(stored: &Value, folded: &Value, path: String) -> Option<String> {
    match (stored, folded) {
        (Value::String(marker), _) if marker == SEALED_MARKER && is_personal(folded) => None,
        (Value::Object(stored), Value::Object(folded)) => {
            let keys = stored.keys().chain(folded.keys().filter(|key| !stored.contains_key(*key)));
            keys.filter_map(|key| {
                let path = format!("{path}/{key}");
                match (stored.get(key), folded.get(key)) {
                    (Some(stored), Some(folded)) => differs(stored, folded, path),
                    _ => Some(path),
                }
            })
            .next()
        }
        (Value::Array(stored), Value::Array(folded)) if stored.len() == folded.len() => {
            let pairs = stored.iter().zip(folded).enumerate();
            pairs.filter_map(|(at, (stored, folded))| differs(stored, folded, format!("{path}/{at}"))).next()
        }
        (stored, folded) => (stored != folded).then(|| if path.is_empty() { "/".to_owned() } else { path }),
    }
}

fn is_personal(value: &Value) -> bool {
    match value {
        Value::String(marker) => marker == SEALED_MARKER || marker == ERASED_MARKER,
        Value::Object(map) => map.contains_key("$personal"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    }
}

/// Compares every read model and guard with a replay of the log.
pub(super) async fn read_models(
    store: &EventStore,
    schema: &Schema,
    findings: &Findings,
    unchecked: &mut Vec<String>,
) {
    let report = match projector::verify(store, schema, |_, _| {}).await {
        Ok(report) => report,
        Err(error) => {
            let chain = anyhow::Error::from(error);
            return unchecked.push(format!("read models against a replay: {chain:#}"));
        }
    };
    unchecked.extend(report.outdated.iter().map(|name| format!("{name}: of another version, to be rebuilt")));
    for table in report.tables.iter().filter(|table| table.differing > 0) {
        let cause = if table.table == "streams" { Cause::SequenceGap } else { Cause::ReadModelMismatch };
        let keys = table.differing_keys.join(", ");
        let detail = format!(
            "{}: {} of {} rows differ from a replay: {keys}",
            table.table, table.differing, table.rows
        );
        findings.add(cause, detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sealed_value_in_a_snapshot_says_nothing_and_an_erased_one_must_be_gone() {
        let known = json!({"name": {"$personal": "Ada"}, "list": [1, {"a": 2}]});
        let differs = |stored: &Value, folded: &Value| super::differs(stored, folded, String::new());
        assert_eq!(differs(&known, &known), None);
        assert_eq!(differs(&json!({"name": "[personal]", "list": [1, {"a": 2}]}), &known), None);
        assert_eq!(differs(&json!({"name": "Eve", "list": [1, {"a": 2}]}), &known), Some("/name".into()));
        assert_eq!(
            differs(&json!({"name": "[personal]", "list": [1, {"a": 3}]}), &known),
            Some("/list/1/a".into())
        );
        assert_eq!(differs(&json!({"name": "[personal]"}), &known), Some("/list".into()));
        assert_eq!(
            differs(&known, &json!({"name": "[erased]", "list": [1, {"a": 2}]})),
            Some("/name".into())
        );
        assert_eq!(differs(&json!("x"), &json!("[personal]")), Some("/".into()));
    }
}
