//! Personal values, and the keys they are sealed with.

use super::{Scene, assert_causes, causes, positions};

/// Where the first two of the guests are.
const GUESTS: [u64; 2] = [10, 11];

#[tokio::test]
async fn an_edited_sealed_value_salt_or_aad() {
    let mut scene = Scene::set().await;
    scene.attack("CREATE TABLE before AS TABLE {s}.sealed_values").await;
    let flip = |byte: &str| {
        format!(
            "UPDATE {{s}}.sealed_values SET ciphertext = set_byte(ciphertext, {byte}, get_byte(ciphertext, {byte}) # 1) WHERE position = 10 AND field = 'email'"
        )
    };
    for (edit, expected) in [
        // The nonce, the salt, the value, the tag.
        (flip("0"), &[10][..]),
        (flip("24"), &[10]),
        (flip("57"), &[10]),
        (flip("octet_length(ciphertext) - 1"), &[10]),
        ("UPDATE {s}.sealed_values SET ciphertext = '' WHERE position = 10 AND field = 'email'".into(), &[10]),
        // What it is bound to: the field, the event.
        ("UPDATE {s}.sealed_values SET field = CASE field WHEN 'email' THEN 'name' ELSE 'email' END || '2' WHERE position = 10;
          UPDATE {s}.sealed_values SET field = replace(field, '2', '') WHERE position = 10".into(), &[10, 10]),
        ("UPDATE {s}.sealed_values v SET ciphertext = o.ciphertext FROM {s}.sealed_values o
          WHERE v.field = o.field AND v.field = 'email' AND (v.position, o.position) IN ((10, 11), (11, 10))".into(), &[10, 11]),
        // Taken away, added, filed where no event is.
        ("DELETE FROM {s}.sealed_values WHERE position = 10 AND field = 'email'".into(), &[10]),
        ("INSERT INTO {s}.sealed_values SELECT position, 'phone', subject_id, ciphertext FROM {s}.sealed_values WHERE position = 10 AND field = 'email'".into(), &[10]),
        ("INSERT INTO {s}.sealed_values SELECT 5000, field, subject_id, ciphertext FROM {s}.sealed_values WHERE position = 10 AND field = 'email'".into(), &[5_000]),
        ("INSERT INTO {s}.sealed_values SELECT 2, field, subject_id, ciphertext FROM {s}.sealed_values WHERE position = 10 AND field = 'email'".into(), &[2]),
    ] {
        scene.attack(&edit).await;
        let report = scene.verify().await;
        assert_eq!(positions(&report, "sealed_value_invalid"), expected, "{edit}: {report}");
        assert!(!report.to_string().contains("canary"), "{report}");
        scene.attack("TRUNCATE {s}.sealed_values; INSERT INTO {s}.sealed_values TABLE before").await;
    }
    scene.expect(&[]).await;
}

#[tokio::test]
async fn swapped_subjects() {
    let mut scene = Scene::set().await;
    scene.attack("CREATE TABLE before AS TABLE {s}.sealed_values").await;
    let exchange = |columns: &str| {
        format!(
            "UPDATE {{s}}.sealed_values v SET {columns} FROM {{s}}.sealed_values o
             WHERE v.field = o.field AND (v.position, o.position) IN ((10, 11), (11, 10))"
        )
    };
    scene.attack(&exchange("subject_id = o.subject_id")).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "subject_swapped"), [10, 10, 11, 11], "{report}");
    assert_eq!(GUESTS, [10, 11]);
    // With what is sealed as well, it is also not what the leaf is committed to.
    scene.attack("TRUNCATE {s}.sealed_values; INSERT INTO {s}.sealed_values TABLE before").await;
    scene.attack(&exchange("subject_id = o.subject_id, ciphertext = o.ciphertext")).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "subject_swapped"), [10, 10, 11, 11], "{report}");
    assert_eq!(positions(&report, "sealed_value_invalid"), [10, 10, 11, 11], "{report}");
    scene.attack("TRUNCATE {s}.sealed_values; INSERT INTO {s}.sealed_values TABLE before").await;
    // Their keys.
    scene
        .attack(
            "UPDATE {s}.subject_keys k SET wrapped_key = o.wrapped_key FROM {s}.subject_keys o
             WHERE k.subject_id <> o.subject_id
               AND k.subject_id IN (SELECT subject_id FROM {s}.sealed_values WHERE position IN (10, 11))
               AND o.subject_id IN (SELECT subject_id FROM {s}.sealed_values WHERE position IN (10, 11))",
        )
        .await;
    let report = scene.verify().await;
    assert_eq!(report.counts["subject_swapped"], 2, "{report}");
    assert_eq!(positions(&report, "sealed_value_invalid"), [10, 10, 11, 11], "{report}");
}

#[tokio::test]
async fn an_edited_key() {
    let mut scene = Scene::set().await;
    let whose = "WHERE subject_id = (SELECT subject_id FROM {s}.sealed_values WHERE position = 10 LIMIT 1)";
    scene.attack(&format!("UPDATE {{s}}.subject_keys SET wrapped_key = set_byte(wrapped_key, 60, get_byte(wrapped_key, 60) # 1) {whose}")).await;
    let report = scene.verify().await;
    let of_the_key = report.findings.iter().filter(|it| it.detail.starts_with("the key of subject"));
    assert_eq!(of_the_key.count(), 1, "{report}");
    assert_eq!(positions(&report, "sealed_value_invalid"), [10, 10], "{report}");
    scene.attack(&format!("DELETE FROM {{s}}.subject_keys {whose}")).await;
    let report = scene.verify().await;
    assert!(report.to_string().contains("under a key that is gone"), "{report}");
}

#[tokio::test]
async fn a_forged_key_tombstone() {
    let mut scene = Scene::set().await;
    let whose = "WHERE subject_id = (SELECT subject_id FROM {s}.sealed_values WHERE position = 10 LIMIT 1)";
    scene
        .attack(&format!("UPDATE {{s}}.subject_keys SET wrapped_key = NULL, destroyed_at = now() {whose}"))
        .await;
    let report = scene.verify().await;
    assert!(causes(&report).contains("key_tombstone_unfounded"), "{report}");
    assert!(causes(&report).contains("sealed_value_invalid"), "the values are still there: {report}");
    // As an erasure leaves it, but for the event.
    scene.attack("DELETE FROM {s}.sealed_values WHERE position = 10").await;
    let report = scene.verify().await;
    assert!(causes(&report).contains("key_tombstone_unfounded"), "{report}");
    assert!(!causes(&report).contains("sealed_value_invalid"), "{report}");
    assert_causes(&report, &["key_tombstone_unfounded", "read_model_mismatch"]);
}
