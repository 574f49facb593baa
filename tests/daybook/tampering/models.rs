//! What follows from the log: snapshots, streams, read models.

use super::{Scene, assert_causes, causes};

#[tokio::test]
async fn an_edited_snapshot() {
    let mut scene = Scene::set().await;
    scene.attack("CREATE TABLE before AS TABLE {s}.snapshots").await;
    for edit in [
        "UPDATE {s}.snapshots SET state = jsonb_set(state, '{archived}', 'true')",
        "UPDATE {s}.snapshots SET state = jsonb_set(state, '{name,$personal}', '\"Eve\"')",
        "UPDATE {s}.snapshots SET state = state - 'id'",
        "UPDATE {s}.snapshots SET state = state || '{\"more\": 1}'",
        "UPDATE {s}.snapshots SET sequence = sequence - 1",
        "UPDATE {s}.snapshots SET sequence = sequence + 1000",
        "UPDATE {s}.snapshots SET aggregate_id = gen_random_uuid()",
        "UPDATE {s}.snapshots SET aggregate_type = 'nothing'",
        "UPDATE {s}.snapshots SET aggregate_type = 'booking'",
    ] {
        scene.attack(edit).await;
        let report = scene.verify().await;
        assert_causes(&report, &["snapshot_mismatch"]);
        assert!(!report.to_string().contains("Eve") && !report.to_string().contains("Ada"), "{report}");
        scene.attack("TRUNCATE {s}.snapshots; INSERT INTO {s}.snapshots TABLE before").await;
    }
    scene.expect(&[]).await;
}

#[tokio::test]
async fn edited_read_models_and_streams() {
    let mut scene = Scene::set().await;
    scene.attack("CREATE TABLE before AS TABLE {s}.streams").await;
    for (edit, cause) in [
        ("UPDATE {s}.streams SET sequence = sequence + 1 WHERE sequence > 5", "sequence_gap"),
        ("DELETE FROM {s}.streams WHERE sequence > 5", "sequence_gap"),
    ] {
        scene.attack(edit).await;
        scene.expect(&[cause]).await;
        scene.attack("TRUNCATE {s}.streams; INSERT INTO {s}.streams TABLE before").await;
    }
    scene.attack("UPDATE {s}.customers SET archived = true WHERE name = 'Guest 7'").await;
    let report = scene.expect(&["read_model_mismatch"]).await;
    assert!(!report.to_string().contains("Guest"), "{report}");
    scene.attack("UPDATE {s}.customers SET archived = false WHERE name = 'Guest 7'; UPDATE {s}.slot_resources SET capacity = 9").await;
    scene.expect(&["read_model_mismatch"]).await;
}

#[tokio::test]
async fn a_stream_with_a_sequence_that_comes_twice_or_never() {
    let mut scene = Scene::set().await;
    // The columns only: the leaves say what they were.
    let of = "aggregate_id = (SELECT aggregate_id FROM {s}.streams ORDER BY sequence DESC LIMIT 1)";
    scene
        .attack(&format!(
            "UPDATE {{s}}.events SET sequence = sequence + 1000 WHERE {of} AND sequence > 9;
             UPDATE {{s}}.events SET sequence = sequence - 999 WHERE sequence > 1000"
        ))
        .await;
    let report = scene.verify().await;
    assert!(causes(&report).contains("sequence_gap"), "{report}");
    assert!(causes(&report).contains("column_mismatch"), "{report}");
}
