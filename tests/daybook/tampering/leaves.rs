//! Events: edited, taken away, added, moved.

use super::{Scene, assert_causes, causes, leaf_with, positions};

/// The position of the resource, whose name is in its leaf.
const RESOURCE: u64 = 2;

#[tokio::test]
async fn an_edited_leaf() {
    let mut scene = Scene::set().await;
    scene
        .attack(&format!("UPDATE {{s}}.events SET leaf = {} WHERE position = 2", leaf_with("Pitch", "Witch")))
        .await;
    // The read models say something else than the log now, too.
    let report = scene.expect(&["leaf_edited", "read_model_mismatch"]).await;
    assert_eq!(positions(&report, "leaf_edited"), [RESOURCE]);
}

#[tokio::test]
async fn a_leaf_that_is_not_in_its_form() {
    let mut scene = Scene::set().await;
    for (leaf, what) in [
        (r"leaf || '\x20'", "not in its canonical form"),
        (r"'\x02' || substring(leaf FROM 2)", "unknown version"),
        (r"'\x01' || convert_to('{}', 'UTF8')", "not of its form"),
        (r"''", "unknown version"),
        (r"'\x01' || convert_to(repeat('x', 70000), 'UTF8')", "too long"),
        (r"'\x01' || convert_to('[', 'UTF8')", "no JSON"),
        (&leaf_with("\"type\":\"resource.", "\"type\":\"resource.un"), "unknown shape"),
    ] {
        scene.attack("CREATE TABLE before AS TABLE {s}.events").await;
        scene.attack(&format!("UPDATE {{s}}.events SET leaf = {leaf} WHERE position = 2")).await;
        let report = scene.verify().await;
        let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|it| it.starts_with("malformed at position 2") && it.contains(what)),
            "{report}"
        );
        assert_eq!(positions(&report, "leaf_edited"), [RESOURCE], "{report}");
        scene.attack("UPDATE {s}.events e SET leaf = b.leaf FROM before b WHERE b.position = e.position; DROP TABLE before").await;
    }
    scene.expect(&[]).await;
}

#[tokio::test]
async fn each_column_edited_with_the_leaf_intact() {
    let mut scene = Scene::set().await;
    scene.attack("CREATE TABLE before AS TABLE {s}.events").await;
    for (column, value) in [
        ("event_id", "gen_random_uuid()"),
        ("aggregate_type", "'offering'"),
        ("aggregate_id", "gen_random_uuid()"),
        ("sequence", "7"),
        ("event_type", "'resource.archived'"),
        ("event_version", "2"),
        ("recorded_at", "recorded_at + interval '1 microsecond'"),
        ("actor", "'nobody'"),
        ("on_behalf_of", "'somebody'"),
    ] {
        scene.attack(&format!("UPDATE {{s}}.events SET {column} = {value} WHERE position = 2")).await;
        let report = scene.verify().await;
        assert_eq!(positions(&report, "column_mismatch"), [RESOURCE], "{column}: {report}");
        assert!(report.to_string().contains(&format!("position 2: {column} other than")), "{report}");
        assert!(!causes(&report).contains("leaf_edited"), "{report}");
        scene
            .attack(&format!(
                "UPDATE {{s}}.events e SET {column} = b.{column} FROM before b WHERE b.position = e.position AND e.position = 2"
            ))
            .await;
    }
    scene.expect(&[]).await;
}

#[tokio::test]
async fn a_deleted_middle_row() {
    let mut scene = Scene::set().await;
    scene.attack("DELETE FROM {s}.events WHERE position IN (100, 101, 260)").await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "missing_event"), [100, 260]);
    assert!(positions(&report, "sequence_gap").is_empty(), "{report}");
    // Of one that has others after it in its stream the sequences tell as well.
    let head: i64 = scene.one("SELECT position FROM {s}.log_head").await;
    scene.attack(&format!("DELETE FROM {{s}}.events WHERE position = {}", head - 3)).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "missing_event").len(), 3);
    assert_eq!(positions(&report, "sequence_gap"), [u64::try_from(head - 2).unwrap()]);
}

#[tokio::test]
async fn a_deleted_first_row_is_one_that_was_pruned_without_saying_so() {
    let mut scene = Scene::set().await;
    scene.attack("DELETE FROM {s}.events WHERE position <= 20").await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "pruned_without_event"), [1]);
    assert!(!causes(&report).contains("missing_event"), "{report}");
}

#[tokio::test]
async fn a_deleted_tail() {
    let mut scene = Scene::set().await;
    let head: i64 = scene.one("SELECT position FROM {s}.log_head").await;
    let after = u64::try_from(head - 5).unwrap() + 1;
    scene.attack(&format!("DELETE FROM {{s}}.events WHERE position > {}", head - 5)).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "tail_missing"), [after]);
    // With the head set back, the tree tells; and with the tree cut, what was signed.
    scene.attack(&format!("UPDATE {{s}}.log_head SET position = {}", head - 5)).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "tail_missing")[0], after);
    scene.attack(&format!("UPDATE {{s}}.ledger_head SET size = {}", head - 5)).await;
    scene.recompute().await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "tail_missing")[0], after);
    assert!(!causes(&report).contains("tree_mismatch"), "{report}");
    // Without these checkpoints, the signer; and all of it is in the log of heads.
    scene.attack(&format!("DELETE FROM {{s}}.ledger_checkpoints WHERE size > {}", head - 5)).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "tail_missing")[0], after);
    assert!(causes(&report).contains("checkpoint_stale"), "{report}");
}

#[tokio::test]
async fn a_head_that_is_said_to_be_anywhere() {
    let mut scene = Scene::set().await;
    let head: i64 = scene.one("SELECT position FROM {s}.log_head").await;
    let after = u64::try_from(head).unwrap() + 1;
    for position in [9_000_000_000_000_000_000, i64::MAX] {
        scene.attack(&format!("UPDATE {{s}}.log_head SET position = {position}")).await;
        let report = scene.verify().await;
        assert_eq!(positions(&report, "tail_missing"), [after], "{report}");
        assert!(report.to_string().contains(&format!("of {position} positions have no event")), "{report}");
        // With a tree, a tile and an event to match.
        scene
            .attack(&format!(
                "UPDATE {{s}}.ledger_head SET size = {position};
                 INSERT INTO {{s}}.ledger_tiles SELECT 0, {position} / 256, hashes FROM {{s}}.ledger_tiles
                 WHERE (level, number) = (0, 0);
                 INSERT INTO {{s}}.events SELECT {position}, gen_random_uuid(), aggregate_type, gen_random_uuid(), 1,
                     event_type, event_version, recorded_at, actor, on_behalf_of, leaf FROM {{s}}.events
                 ORDER BY position DESC LIMIT 1"
            ))
            .await;
        let report = scene.verify().await;
        let found = causes(&report);
        assert!(found.contains("missing_event") && found.contains("tree_mismatch"), "{report}");
        assert!(positions(&report, "missing_event").contains(&after), "{report}");
        scene
            .attack(&format!(
                "DELETE FROM {{s}}.events WHERE position > {head}; DELETE FROM {{s}}.ledger_tiles WHERE number > 1000;
                 UPDATE {{s}}.ledger_head SET size = {head}; UPDATE {{s}}.log_head SET position = {head}"
            ))
            .await;
        scene.expect(&[]).await;
    }
}

#[tokio::test]
async fn a_row_after_the_head() {
    let mut scene = Scene::set().await;
    let head: i64 = scene.one("SELECT position FROM {s}.log_head").await;
    let forge = "INSERT INTO {s}.events SELECT position + 1, gen_random_uuid(), aggregate_type, gen_random_uuid(), 1,
        event_type, event_version, recorded_at, actor, on_behalf_of, leaf FROM {s}.events ORDER BY position DESC LIMIT 1";
    scene.attack(forge).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "unexpected_event"), [u64::try_from(head + 1).unwrap()]);
}

#[tokio::test]
async fn a_back_dated_row_put_in_between() {
    let mut scene = Scene::set().await;
    // All events from there on make room; the head, and the numbers of the rows, are as they must be.
    let values = "UPDATE {s}.sealed_values SET position = -position - 1 WHERE position >= 150;
                  UPDATE {s}.sealed_values SET position = -position WHERE position < 0;";
    scene
        .attack(&format!(
            "ALTER TABLE {{s}}.events DROP CONSTRAINT events_position_check;
             UPDATE {{s}}.events SET position = -position - 1 WHERE position >= 150;
             UPDATE {{s}}.events SET position = -position WHERE position < 0;
             {values}
             INSERT INTO {{s}}.events SELECT 150, gen_random_uuid(), aggregate_type, gen_random_uuid(), sequence, event_type,
                 event_version, recorded_at, 'somebody', on_behalf_of, {} FROM {{s}}.events WHERE position = 2;
             UPDATE {{s}}.log_head SET position = position + 1",
            leaf_with("\"position\":\"2\"", "\"position\":\"150\"")
        ))
        .await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "unexpected_event")[0], 150, "{report}");
    assert_eq!(positions(&report, "position_swapped")[0], 151, "{report}");
}

#[tokio::test]
async fn a_back_dated_row_at_the_end() {
    let mut scene = Scene::set().await;
    let head: i64 = scene.one("SELECT position FROM {s}.log_head").await;
    scene
        .attack(&format!(
            "INSERT INTO {{s}}.events SELECT {next}, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                 recorded_at, actor, on_behalf_of, {} FROM {{s}}.events WHERE position = 1
                 ON CONFLICT DO NOTHING;
             INSERT INTO {{s}}.events SELECT {next}, gen_random_uuid(), aggregate_type, gen_random_uuid(), 1, event_type,
                 event_version, recorded_at, actor, on_behalf_of, {} FROM {{s}}.events WHERE position = 1
                 ON CONFLICT DO NOTHING;
             UPDATE {{s}}.log_head SET position = {next}",
            leaf_with("\"position\":\"1\"", &format!("\"position\":\"{}\"", head + 1)),
            leaf_with("\"position\":\"1\"", &format!("\"position\":\"{}\"", head + 1)),
            next = head + 1
        ))
        .await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "unexpected_event"), [u64::try_from(head + 1).unwrap()], "{report}");
    assert!(report.to_string().contains("recorded at a time before"), "{report}");
}

#[tokio::test]
async fn swapped_positions() {
    let mut scene = Scene::set().await;
    // The rows change places, with what is sealed for them.
    let swap = |table: &str| {
        format!(
            "UPDATE {{s}}.{table} SET position = 1000000 WHERE position = 40;
             UPDATE {{s}}.{table} SET position = 40 WHERE position = 270;
             UPDATE {{s}}.{table} SET position = 270 WHERE position = 1000000;"
        )
    };
    scene.attack(&format!("{}{}", swap("events"), swap("sealed_values"))).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "position_swapped"), [40, 270], "{report}");
    assert!(!causes(&report).contains("leaf_edited"), "{report}");
    assert!(!causes(&report).contains("column_mismatch"), "{report}");
    // Only the leaves, with the columns as they were.
    scene.attack(&format!("{}{}", swap("events"), swap("sealed_values"))).await;
    scene.expect(&[]).await;
    scene
        .attack("UPDATE {s}.events e SET leaf = o.leaf FROM {s}.events o WHERE (e.position, o.position) IN ((40, 270), (270, 40))")
        .await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "position_swapped"), [40, 270], "{report}");
    assert_eq!(positions(&report, "column_mismatch"), [40, 270], "{report}");
}

#[tokio::test]
async fn swapped_positions_that_nothing_was_signed_of_yet() {
    let mut scene = Scene::set().await;
    let (one, two) = (scene.one_more().await.last_position, scene.one_more().await.last_position);
    scene.expect(&[]).await;
    let swap = |table: &str| {
        format!(
            "UPDATE {{s}}.{table} SET position = 1000000 WHERE position = {one};
             UPDATE {{s}}.{table} SET position = {one} WHERE position = {two};
             UPDATE {{s}}.{table} SET position = {two} WHERE position = 1000000;"
        )
    };
    scene.attack(&format!("{}{}", swap("events"), swap("sealed_values"))).await;
    let report = scene.verify().await;
    let both = [one, two].map(|position| u64::try_from(position).unwrap());
    assert_eq!(positions(&report, "position_swapped"), both, "{report}");
    // Once they are sealed as they stand, the tree bears them out; what they say of themselves does not.
    scene.sign().await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "position_swapped"), both, "{report}");
}

#[tokio::test]
async fn an_event_of_another_log() {
    let mut scene = Scene::set().await;
    let head: i64 = scene.one("SELECT position FROM {s}.log_head").await;
    scene
        .attack(&format!(
            "INSERT INTO {{s}}.events SELECT {next}, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                 recorded_at, actor, on_behalf_of,
                 '\\x01'::bytea || convert_to(regexp_replace(convert_from(substring(leaf FROM 2), 'UTF8'),
                                                             '\"position\":\"1\"', '\"position\":\"{next}\"'), 'UTF8')
             FROM daybook_platform.events WHERE position = 1;
             UPDATE {{s}}.log_head SET position = {next}",
            next = head + 1
        ))
        .await;
    let report = scene.verify().await;
    assert!(report.to_string().contains("the leaf is one of another log"), "{report}");
}

#[tokio::test]
async fn an_edit_between_commit_and_checkpoint_is_what_the_receipt_shows() {
    let mut scene = Scene::set().await;
    let committed = scene.one_more().await;
    let edit = leaf_with("\"actor\":\"test\"", "\"actor\":\"fool\"");
    scene
        .attack(&format!(
            "UPDATE {{s}}.events SET leaf = {edit}, actor = 'fool' WHERE position = {}",
            committed.last_position
        ))
        .await;
    scene.sign().await;
    scene.expect(&[]).await;
    let report = scene.verify_with(&committed.receipts, &[]).await;
    assert_causes(&report, &["receipt_mismatch"]);
    assert_eq!(positions(&report, "receipt_mismatch"), [u64::try_from(committed.last_position).unwrap()]);
    // Nor is there one for what is not there.
    let mut beyond = committed.receipts[0];
    beyond.position += 1_000;
    assert_causes(&scene.verify_with(&[beyond], &[]).await, &["receipt_mismatch"]);
}

#[tokio::test]
async fn many_things_at_once_are_all_named() {
    let mut scene = Scene::set().await;
    scene
        .attack(&format!(
            "UPDATE {{s}}.events SET leaf = {edit} WHERE position BETWEEN 30 AND 90;
             UPDATE {{s}}.events SET actor = 'nobody' WHERE position = 120;
             DELETE FROM {{s}}.events WHERE position = 130;
             DELETE FROM {{s}}.sealed_values WHERE position = 140;
             UPDATE {{s}}.snapshots SET state = jsonb_set(state, '{{archived}}', 'true');
             UPDATE {{s}}.ledger_checkpoints SET note = replace(note, E'\\n\\n', E'\\nother\\n\\n')
             WHERE size = (SELECT min(size) FROM {{s}}.ledger_checkpoints);
             DELETE FROM {{s}}.resources;
             UPDATE {{s}}.ledger_tiles SET hashes = hashes || hashes WHERE level = 1",
            edit = leaf_with("\"actor\":\"test\"", "\"actor\":\"fool\"")
        ))
        .await;
    let report = scene.verify().await;
    let expected = [
        "leaf_edited",
        "column_mismatch",
        "missing_event",
        "sealed_value_invalid",
        "checkpoint_signature",
        "snapshot_mismatch",
        "tree_mismatch",
    ];
    for cause in expected {
        assert!(causes(&report).contains(cause), "{cause}: {report}");
    }
    assert_eq!(report.counts["leaf_edited"], 61);
    assert_eq!(positions(&report, "leaf_edited").len(), 20);
    assert!(report.to_string().contains("leaf_edited: 41 more"), "{report}");
}
