//! The log of heads, its copy, and backups that are put back.

use super::{Scene, assert_causes, causes, positions};

#[tokio::test]
async fn the_log_of_heads_edited() {
    let mut scene = Scene::set().await;
    scene
        .attack(
            "CREATE TABLE entries AS TABLE daybook_platform.head_log_entries;
             CREATE TABLE tiles AS TABLE daybook_platform.head_log_tiles;
             CREATE TABLE signer AS TABLE daybook_platform.ledger_signer",
        )
        .await;
    for edit in [
        r"UPDATE daybook_platform.head_log_entries SET entry = convert_to(replace(convert_from(entry, 'UTF8'), '\x22count\x22:\x222\x22', '\x22count\x22:\x221\x22'), 'UTF8') WHERE index = 1".replace(r"\x22", "\""),
        "UPDATE daybook_platform.head_log_entries SET entry = entry || ' ' WHERE index = 1".replace("|| ' '", "|| '\\x20'"),
        "UPDATE daybook_platform.head_log_entries SET at = at + interval '1 second' WHERE index = 1".into(),
        "UPDATE daybook_platform.head_log_entries SET heads = (SELECT heads FROM daybook_platform.head_log_entries WHERE index = 0) WHERE index = 1".into(),
        "UPDATE daybook_platform.head_log_entries SET heads = NULL WHERE index = 2".into(),
        "DELETE FROM daybook_platform.head_log_entries WHERE index = 1".into(),
        "DELETE FROM daybook_platform.head_log_entries WHERE index = 2".into(),
        "UPDATE daybook_platform.head_log_tiles SET hashes = substring(hashes FROM 1 FOR 64)".into(),
        "UPDATE daybook_platform.head_log_tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1)".into(),
        "DELETE FROM daybook_platform.head_log_tiles".into(),
        "INSERT INTO daybook_platform.head_log_entries SELECT 9000000000000000000, at, entry, heads FROM entries WHERE index = 2".into(),
        "INSERT INTO daybook_platform.head_log_entries SELECT 9223372036854775807, at, entry, heads FROM entries WHERE index = 2".into(),
    ] {
        scene.attack(&edit).await;
        let (report, _) = scene.heads().await;
        assert!(causes(&report).contains("head_log_inconsistent"), "{edit}: {report}");
        scene
            .attack(
                "TRUNCATE daybook_platform.head_log_entries; INSERT INTO daybook_platform.head_log_entries TABLE entries;
                 TRUNCATE daybook_platform.head_log_tiles; INSERT INTO daybook_platform.head_log_tiles TABLE tiles",
            )
            .await;
    }
    for edit in [
        "DELETE FROM daybook_platform.ledger_signer",
        "UPDATE daybook_platform.ledger_signer SET size = size - 1",
    ] {
        scene.attack(&format!("{edit} WHERE origin LIKE '%/heads'")).await;
        let (report, _) = scene.heads().await;
        assert!(causes(&report).contains("signer_state_invalid"), "{edit}: {report}");
        scene.attack("TRUNCATE daybook_platform.ledger_signer; INSERT INTO daybook_platform.ledger_signer TABLE signer").await;
    }
    assert_causes(&scene.heads().await.0, &[]);
}

#[tokio::test]
async fn the_copy_edited_and_that_of_another_installation() {
    let scene = Scene::set().await;
    let other = Scene::set().await;
    let folder = scene._folder.path();
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for (name, edited) in [
        ("checkpoint", std::fs::read(other._folder.path().join("checkpoint")).unwrap()),
        ("checkpoint", b"nothing".to_vec()),
        (
            "checkpoint",
            String::from_utf8(read("checkpoint")).unwrap().replacen("\n3\n", "\n2\n", 1).into_bytes(),
        ),
        ("heads/2.json.gz", read("heads/1.json.gz")),
        ("heads/2.json.gz", b"nothing".to_vec()),
        ("tile/entries/000.p/3", read("tile/entries/000.p/2")),
    ] {
        let before = read(name);
        std::fs::write(folder.join(name), &edited).unwrap();
        let (report, _) = scene.heads().await;
        assert_causes(&report, &["head_log_inconsistent"]);
        std::fs::write(folder.join(name), before).unwrap();
    }
    assert_causes(&scene.heads().await.0, &[]);
}

#[tokio::test]
async fn a_restored_old_backup_of_a_tenant() {
    let mut scene = Scene::set().await;
    scene.back_up().await;
    scene.one_more().await;
    scene.one_more().await;
    let last = scene.sign().await;
    let schema = scene.site.schema.name().to_owned();
    scene.restore(&schema).await;
    let report = scene.verify().await;
    assert_causes(&report, &["checkpoint_stale", "tail_missing"]);
    assert_eq!(positions(&report, "tail_missing")[0], last.size - 1);
    // Grown over by other events, it is another log; and nobody signs it.
    for _ in 0..3 {
        scene.one_more().await;
    }
    assert!(scene.ledger().checkpoint_now(&scene.site.schema).await.is_err());
    let report = scene.verify().await;
    assert!(causes(&report).contains("checkpoint_inconsistent"), "{report}");
}

#[tokio::test]
async fn a_restored_old_backup_of_the_whole_database() {
    let mut scene = Scene::set().await;
    scene.back_up().await;
    scene.one_more().await;
    let last = scene.sign().await;
    scene.restore("%").await;
    // Within the database all is as it was. The copy is not.
    let (heads, _) = scene.heads().await;
    assert_causes(&heads, &["checkpoint_stale"]);
    assert!(heads.to_string().contains("4 entries, 3 are here"), "{heads}");
    let report = scene.verify().await;
    assert_causes(&report, &["checkpoint_stale", "tail_missing"]);
    assert_eq!(positions(&report, "tail_missing"), [last.size]);
    assert!(
        scene.ledger().sign_heads(&scene.copy, super::ALWAYS).await.is_err(),
        "nothing is signed on top of it"
    );
}
