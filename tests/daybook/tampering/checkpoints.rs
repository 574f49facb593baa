//! The tree, the checkpoints, and what the signer remembers.

use std::time::Duration;

use daybook::{
    config::SettingsPatch,
    ledger::{Cause, Checkpoint, HeadCopy, LedgerError, verify::Verification},
    tenancy::Schema,
};
use serde_json::json;

use super::{Scene, assert_causes, causes, leaf_with, positions};
use crate::support::{
    app::{TestApp, eventually},
    site::{by, new_tenant},
};

#[tokio::test]
async fn an_edited_tile() {
    let mut scene = Scene::set().await;
    scene.attack("CREATE TABLE before AS TABLE {s}.ledger_tiles").await;
    let put_back = "DELETE FROM {s}.ledger_tiles; INSERT INTO {s}.ledger_tiles TABLE before";
    // A hash of a leaf that was signed; of one in the last tile; one of the level above; less, more, none, another one.
    for (edit, also) in [
        (
            "UPDATE {s}.ledger_tiles SET hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1) WHERE (level, number) = (0, 0)",
            &["leaf_edited", "checkpoint_inconsistent"][..],
        ),
        (
            "UPDATE {s}.ledger_tiles SET hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1) WHERE level = 1",
            &[],
        ),
        (
            "UPDATE {s}.ledger_tiles SET hashes = substring(hashes FROM 1 FOR 64) WHERE (level, number) = (0, 0)",
            &[],
        ),
        (
            "UPDATE {s}.ledger_tiles SET hashes = substring(hashes FROM 1 FOR 32) WHERE (level, number) = (0, 1)",
            &[],
        ),
        (
            "UPDATE {s}.ledger_tiles SET hashes = hashes || substring(hashes FROM 1 FOR 32) WHERE (level, number) = (0, 1)",
            &[],
        ),
        ("DELETE FROM {s}.ledger_tiles WHERE (level, number) = (0, 0)", &[]),
        ("DELETE FROM {s}.ledger_tiles WHERE level = 1", &[]),
        ("INSERT INTO {s}.ledger_tiles SELECT 0, 2, hashes FROM {s}.ledger_tiles WHERE level = 1", &[]),
        ("INSERT INTO {s}.ledger_tiles SELECT 2, 0, hashes FROM {s}.ledger_tiles WHERE level = 1", &[]),
    ] {
        scene.attack(edit).await;
        let report = scene.verify().await;
        let found = causes(&report);
        assert!(found.contains("tree_mismatch"), "{edit}: {report}");
        for cause in also {
            assert!(found.contains(cause), "{edit}: {report}");
        }
        scene.attack(put_back).await;
    }
    // Where nothing is above it yet, the leaf and the checkpoint tell.
    scene.attack("UPDATE {s}.ledger_tiles SET hashes = set_byte(hashes, 0, get_byte(hashes, 0) # 1) WHERE (level, number) = (0, 1)").await;
    let report = scene.expect(&["leaf_edited", "checkpoint_inconsistent"]).await;
    assert_eq!(positions(&report, "leaf_edited"), [257]);
    scene.attack(put_back).await;
    scene.expect(&[]).await;
}

#[tokio::test]
async fn a_leaf_edited_with_all_tiles_recomputed_and_then_to_be_signed() {
    let mut scene = Scene::set().await;
    let edit = leaf_with("\"actor\":\"test\"", "\"actor\":\"fool\"");
    scene
        .attack(&format!("UPDATE {{s}}.events SET leaf = {edit}, actor = 'fool' WHERE position = 100"))
        .await;
    scene.recompute().await;
    // All that was ever said of the tree contradicts it.
    let report = scene.expect(&["checkpoint_inconsistent"]).await;
    let by = |who: &str| report.findings.iter().filter(|it| it.detail.starts_with(who)).count();
    assert_eq!((by("the checkpoint of"), by("what the signer"), by("entry")), (2, 1, 2), "{report}");

    scene.one_more().await;
    let refused = scene.ledger().checkpoint_now(&scene.site.schema).await.unwrap_err();
    assert_eq!(refused.cause(), Some(Cause::CheckpointInconsistent));
    assert_causes(&scene.verify().await, &["checkpoint_inconsistent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_signer_refuses_is_alarmed() {
    let patch = SettingsPatch { head_log_interval: "300ms".parse().ok(), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("alarmed").await;
    app.customer(&tenant, "Ada").await;
    let ledger = app.state.ledger();
    ledger.checkpoint_now(&tenant.schema()).await.unwrap();
    let named = async || {
        let (_, said) = Verification::new(ledger.clone(), HeadCopy::none()).heads().await;
        format!("{said:?}").contains(&tenant.id.to_string())
    };
    eventually("the log is named", Duration::from_secs(20), named).await;
    // The last leaf, and the one tile that there is.
    let edit = leaf_with("\"actor\":\"", "\"actor\":\"x");
    let sql = tenant.schema().sql(&format!(
        "SET session_replication_role = replica;
         UPDATE {{s}}.events SET leaf = {edit}, actor = 'x' || actor WHERE position = 1;
         UPDATE {{s}}.ledger_tiles SET hashes =
             (SELECT sha256('\\x00' || leaf) FROM {{s}}.events WHERE position = 1) || substring(hashes FROM 33);
         RESET session_replication_role"
    ));
    let options = crate::support::cluster::cluster().await.admin_options().database(&app.db.name);
    let mut root = <sqlx::PgConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::raw_sql(&sql).execute(&mut root).await.unwrap();
    app.post(&tenant, "/customers", &json!({"name": "Grace"})).await.expect(201);
    let alarmed = async || {
        let verification = Verification::new(ledger.clone(), HeadCopy::none());
        let (_, said) = verification.heads().await;
        let wanted = verification.find("alarmed").await.unwrap().unwrap();
        let report = verification.log(&wanted, &said, |_, _| {}).await;
        report.has(Cause::CheckpointInconsistent) && report.to_string().contains("has an alarm")
    };
    eventually("the alarm is in the log of heads", Duration::from_secs(30), alarmed).await;
    app.shut_down().await;
}

#[tokio::test]
async fn a_stripped_a_foreign_and_an_edited_signature() {
    let mut scene = Scene::set().await;
    scene.attack("CREATE TABLE before AS TABLE {s}.ledger_checkpoints").await;
    let last = "WHERE size = (SELECT max(size) FROM {s}.ledger_checkpoints)";
    for (note, expected) in [
        // Without its last line.
        ("regexp_replace(note, E'\\n[^\\n]*\\n$', E'\\n')", "malformed"),
        ("regexp_replace(note, E'([^\\n]*)\\n$', 'ZZZZ')", "malformed"),
        ("replace(note, E'\\ntime 20', E'\\ntime 21')", "checkpoint_signature"),
        ("replace(note, 'book.example/t', 'cook.example/t')", "checkpoint_foreign"),
        ("'nothing'", "malformed"),
    ] {
        scene.attack(&format!("UPDATE {{s}}.ledger_checkpoints SET note = {note} {last}")).await;
        let report = scene.verify().await;
        assert!(causes(&report).contains(expected), "{note}: {report}");
        scene
            .attack("DELETE FROM {s}.ledger_checkpoints; INSERT INTO {s}.ledger_checkpoints TABLE before")
            .await;
    }
    // By somebody else's key, put among ours.
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let origin = scene.ledger().origin(&scene.site.schema).await.unwrap();
    let vkey = signed_note::new_ed25519_verifier_key(&origin, &key.verifying_key());
    scene
        .attack(&format!(
            "INSERT INTO daybook_platform.ledger_verifier_keys SELECT origin, 'feedfeedfeedfeed', '{vkey}', first_used_at, seal
             FROM daybook_platform.ledger_verifier_keys WHERE origin = '{origin}'"
        ))
        .await;
    scene.expect(&["signer_state_invalid"]).await;
    let parsed = Checkpoint::parse(
        &scene.one::<String>(&format!("SELECT note FROM {{s}}.ledger_checkpoints {last}")).await,
    )
    .unwrap();
    let foreign = crate::tampering::foreign_note(&parsed, &key);
    scene.attack(&format!("UPDATE {{s}}.ledger_checkpoints SET note = '{foreign}' {last}")).await;
    let report = scene.verify().await;
    assert!(causes(&report).contains("checkpoint_foreign"), "{report}");
}

#[tokio::test]
async fn two_tenants_checkpoints_exchanged() {
    let mut scene = Scene::set().await;
    let other = Schema::tenant(scene.site.admin.create(new_tenant("other"), &by("test")).await.unwrap());
    scene.ledger().checkpoint_now(&other).await.unwrap();
    scene
        .attack(&format!(
            "CREATE TABLE mine AS TABLE {{s}}.ledger_checkpoints;
             TRUNCATE {{s}}.ledger_checkpoints; INSERT INTO {{s}}.ledger_checkpoints TABLE {other}.ledger_checkpoints;
             TRUNCATE {other}.ledger_checkpoints; INSERT INTO {other}.ledger_checkpoints TABLE mine"
        ))
        .await;
    for log in [&scene.site.tenant.to_string(), "other"] {
        let verification = scene.verification();
        let wanted = verification.find(log).await.unwrap().unwrap();
        let (_, said) = scene.heads().await;
        let report = verification.log(&wanted, &said, |_, _| {}).await;
        assert!(causes(&report).contains("checkpoint_foreign"), "{report}");
    }
    // What the signer remembers of them as well.
    scene
        .attack(&format!(
            "CREATE TABLE rows AS SELECT * FROM daybook_platform.ledger_signer;
             UPDATE daybook_platform.ledger_signer s SET size = o.size, root = o.root, note = o.note, signed_at = o.signed_at, seal = o.seal
             FROM rows o WHERE o.log_id <> s.log_id AND '{other}' = 't_' || replace(o.log_id::text, '-', '')
               AND s.log_id = '{}'",
            scene.site.tenant
        ))
        .await;
    let report = scene.verify().await;
    assert!(causes(&report).contains("signer_state_invalid"), "{report}");
}

#[tokio::test]
async fn a_replayed_old_checkpoint() {
    let mut scene = Scene::set().await;
    // In the place of the newest one.
    scene.attack("CREATE TABLE before AS TABLE {s}.ledger_checkpoints; CREATE TABLE signer AS TABLE daybook_platform.ledger_signer").await;
    scene
        .attack(
            "UPDATE {s}.ledger_checkpoints SET note = (SELECT note FROM {s}.ledger_checkpoints ORDER BY size LIMIT 1)
             WHERE size = (SELECT max(size) FROM {s}.ledger_checkpoints)",
        )
        .await;
    let report = scene.verify().await;
    assert!(causes(&report).contains("checkpoint_inconsistent"), "{report}");
    assert!(report.to_string().contains("says something else"), "{report}");
    // The newest one gone, though the log of heads names it.
    scene.attack("TRUNCATE {s}.ledger_checkpoints; INSERT INTO {s}.ledger_checkpoints TABLE before").await;
    scene.one_more().await;
    scene.sign().await;
    scene.attack("TRUNCATE {s}.ledger_checkpoints; INSERT INTO {s}.ledger_checkpoints TABLE before").await;
    scene.expect(&["checkpoint_stale"]).await;
    // The signer told that the old one is the last.
    scene.attack(&format!("DELETE FROM daybook_platform.ledger_signer WHERE log_id = '{0}'; INSERT INTO daybook_platform.ledger_signer SELECT * FROM signer WHERE log_id = '{0}'", scene.site.tenant)).await;
    scene.expect(&["checkpoint_stale"]).await;
    // And to sign another history on top of that: the log of heads names more than it.
    let edit = leaf_with("\"actor\":\"test\"", "\"actor\":\"fool\"");
    scene
        .attack(&format!(
            "UPDATE {{s}}.events SET leaf = {edit}, actor = 'fool' WHERE position = (SELECT max(position) FROM {{s}}.events)"
        ))
        .await;
    scene.recompute().await;
    let refused = scene.ledger().checkpoint_now(&scene.site.schema).await.unwrap_err();
    assert_eq!(refused.cause(), Some(Cause::CheckpointStale), "{refused}");
    // With the log of heads gone as well, its copy says that there was one.
    scene
        .attack(
            "TRUNCATE daybook_platform.head_log_entries, daybook_platform.head_log_tiles;
             DELETE FROM daybook_platform.ledger_signer WHERE origin LIKE '%/heads'",
        )
        .await;
    let ledger = scene.ledger();
    ledger.keep_copy(scene.copy.clone());
    let refused = ledger.checkpoint_now(&scene.site.schema).await.unwrap_err();
    assert_eq!(refused.cause(), Some(Cause::HeadLogInconsistent), "{refused}");
}

#[tokio::test]
async fn what_the_signer_remembers_edited_and_taken_away() {
    let mut scene = Scene::set().await;
    let of = format!("WHERE log_id = '{}'", scene.site.tenant);
    scene.attack("CREATE TABLE signer AS TABLE daybook_platform.ledger_signer").await;
    for edit in [
        "UPDATE daybook_platform.ledger_signer SET size = size - 1",
        "UPDATE daybook_platform.ledger_signer SET root = sha256('other')",
        "UPDATE daybook_platform.ledger_signer SET signed_at = signed_at + interval '1 hour'",
        "UPDATE daybook_platform.ledger_signer SET note = replace(note, 'time', 'mime')",
        "UPDATE daybook_platform.ledger_signer SET seal = sha256('other')",
        "UPDATE daybook_platform.ledger_signer SET origin = 'elsewhere/t/x'",
        "DELETE FROM daybook_platform.ledger_signer",
    ] {
        scene.attack(&format!("{edit} {of}")).await;
        let report = scene.verify().await;
        assert!(causes(&report).contains("signer_state_invalid"), "{edit}: {report}");
        scene.attack("TRUNCATE daybook_platform.ledger_signer; INSERT INTO daybook_platform.ledger_signer TABLE signer").await;
    }
    // Without any trace but one, that one tells.
    scene
        .attack(&format!(
            "DELETE FROM daybook_platform.ledger_signer {of}; TRUNCATE {{s}}.ledger_checkpoints"
        ))
        .await;
    let ending = format!("%{}", scene.site.tenant);
    scene
        .attack(&format!("DELETE FROM daybook_platform.ledger_verifier_keys WHERE origin LIKE '{ending}'"))
        .await;
    let report = scene.verify().await;
    assert_eq!(causes(&report).into_iter().collect::<Vec<_>>(), ["signer_state_invalid"], "{report}");
    assert!(report.to_string().contains("the log of heads names the log"), "{report}");
    assert_eq!(report.unchecked.len(), 1, "what is not signed is not verified: {report}");
    let refused: LedgerError = scene.ledger().checkpoint_now(&scene.site.schema).await.unwrap_err();
    assert_eq!(refused.cause(), Some(Cause::SignerStateInvalid));
}
