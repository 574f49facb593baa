//! Tenants that are gone, and how the command line says what was found.

use daybook::tenancy::Schema;
use serde_json::Value;

use super::{Scene, causes};
use crate::support::{
    app::TestApp,
    process::Host,
    site::{by, new_tenant},
};

#[tokio::test]
async fn a_deleted_tenant() {
    let mut scene = Scene::set().await;
    let id = scene.site.admin.create(new_tenant("other"), &by("test")).await.unwrap();
    let other = Schema::tenant(id);
    scene.ledger().checkpoint_now(&other).await.unwrap();
    scene.sign().await;
    let missing = async |scene: &Scene| {
        let verification = scene.verification();
        let (_, said) = verification.heads().await;
        let mut found = Vec::new();
        for wanted in verification.logs(&said).await.unwrap() {
            let report = verification.log(&wanted, &said, |_, _| {}).await;
            if causes(&report).contains("tenant_missing") {
                found.push(report.log);
            }
        }
        found
    };
    assert!(missing(&scene).await.is_empty());
    // Its schema; its row; its events in the platform's log; what the signer remembers of it: the log of heads is left.
    scene.attack(&format!("DROP SCHEMA {other} CASCADE")).await;
    assert_eq!(missing(&scene).await, ["other"]);
    scene.attack("DELETE FROM daybook_platform.tenants WHERE slug = 'other'").await;
    assert_eq!(missing(&scene).await, [id.to_string()]);
    let found = scene.verification().find("other").await.unwrap().unwrap();
    assert_eq!((found.schema, found.listed), (other.clone(), false));
    scene.attack(&format!("DELETE FROM daybook_platform.events WHERE aggregate_id = '{id}'")).await;
    assert_eq!(missing(&scene).await, [id.to_string()]);
    scene.attack(&format!("DELETE FROM daybook_platform.ledger_signer WHERE log_id = '{id}'")).await;
    assert_eq!(missing(&scene).await, [id.to_string()]);
    assert_eq!(scene.verification().find("nobody").await.unwrap().map(|found| found.name), None);
}

#[tokio::test]
async fn a_tenant_whose_row_alone_is_gone() {
    let mut scene = Scene::set().await;
    scene.attack("DELETE FROM daybook_platform.tenants").await;
    scene.expect(&["tenant_missing"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_ends_with_0_when_all_is_right_1_when_not_2_when_it_is_none_3_when_it_cannot_tell() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    app.customer(&tenant, "Ada").await;
    let ledger = app.state.ledger();
    let checkpoint = ledger.checkpoint_now(&tenant.schema()).await.unwrap();
    let key = ledger.verifier_keys(&tenant.schema()).await.unwrap().remove(0).vkey;
    let hash = hex::encode(ledger.leaf_hashes(&tenant.schema(), 1, 2).await.unwrap()[0]);
    let host = Host::beside(&app, app.db.app_url.clone());
    let verify = |arguments: &[&str]| {
        let output = host.command(&[&["audit", "verify"], arguments].concat()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let receipt = format!("2:{hash}");
    let other = format!("2:{}", hex::encode([1; 32]));
    let all_right = ["--tenant", "camp", "--key", &key, "--receipt", &receipt, "--json"];
    let (code, printed, errors) = verify(&all_right);
    assert_eq!(code, Some(0), "{printed}{errors}");
    let reports: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (reports[0]["log"].as_str(), reports[1]["log"].as_str()),
        (Some("log of heads"), Some("camp"))
    );
    assert_eq!(reports[1]["origin"], checkpoint.origin);
    assert_eq!(reports[1]["findings"], serde_json::json!([]));

    for (arguments, expected) in [
        (&["--tenant", "camp", "--receipt", &other][..], 1),
        (&["--tenant", "nobody"], 1),
        (&[], 2),
        (&["--tenant", "camp", "--all"], 2),
        (&["--all", "--receipt", &receipt], 2),
        (&["--tenant", "camp", "--receipt", "2"], 2),
        (&["--tenant", "camp", "--receipt", "0:00"], 2),
    ] {
        let (code, printed, errors) = verify(arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {printed}{errors}");
    }
    let (_, printed, _) = verify(&["--tenant", "camp", "--receipt", &other]);
    assert!(printed.contains("receipt_mismatch at position 2"), "{printed}");
    // What was never signed is neither right nor wrong; and with no server nobody signs.
    let _database = app.db.clone();
    app.shut_down().await;
    host.run(&["tenant", "create", "late", "--name", "Late"]);
    let (code, printed, errors) = verify(&["--tenant", "late"]);
    assert_eq!(code, Some(3), "{printed}{errors}");
    assert!(printed.contains("NOT CHECKED TO THE END"), "{printed}");
}
