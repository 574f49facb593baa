//! Bundles: checked without a database, keys or settings, by our verifier and by others'; and only for whom they are.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use daybook::{
    bundle::export::{Ask, Bundle},
    export::Range,
};
use daybook_domain::{AuditExportId, envelope::Metadata, permission::Tier, tenant::TenantCommand};
use serde_json::{Value, json};

use crate::{
    ledger::process,
    support::{
        app::{TestApp, TestTenant, read},
        people::generous,
        process::Host,
        site::Site,
    },
};

/// A tenant in which something happened, also to people; of a plan that has exports.
async fn busy(app: &TestApp, slug: &str) -> TestTenant {
    let tenant = app.business(slug).await;
    let pool = app.resource(&tenant, "Rooms", 50).await;
    let offering = app.nights_offering(&tenant, &[pool]).await;
    for n in 0..12 {
        let customer = app.customer(&tenant, &format!("=Canary {n}")).await;
        let stay = TestApp::stay(offering, customer, "2027-05-01", "2027-05-03");
        let booked = app.post(&tenant, "/bookings", &stay).await.expect(201);
        let path = format!("/bookings/{}/cancel", booked.text("id"));
        app.post(&tenant, &path, &json!({"reason": "rain; -1"})).await.expect(200);
    }
    tenant
}

/// Takes a bundle over HTTP, to a file.
pub async fn take(app: &TestApp, token: &str, query: &str, file: &Path) -> reqwest::header::HeaderMap {
    let request = app.client.get(app.url(&format!("/audit/bundle{query}"))).bearer_auth(token);
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    fs::write(file, bytes).unwrap();
    headers
}

/// A log's verifier keys.
async fn keys(app: &TestApp, tenant: &TestTenant) -> Vec<String> {
    let keys = app.state.ledger().verifier_keys(&tenant.schema()).await.unwrap();
    keys.into_iter().map(|key| key.vkey).collect()
}

/// Runs the verifier where there is nothing: no environment, no settings, no data.
pub fn verify(bundle: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let nowhere = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["audit", "verify", "--json"])
        .arg(bundle)
        .args(arguments)
        .env_clear()
        .current_dir(nowhere.path())
        .output()
        .unwrap();
    assert_eq!(fs::read_dir(nowhere.path()).unwrap().count(), 0, "it leaves nothing behind");
    let said = serde_json::from_slice(&stdout).unwrap_or_else(|_| json!(String::from_utf8_lossy(&stderr)));
    (status.code(), said)
}

/// What other people's programs say.
pub fn independent(bundle: &Path, vkey: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/independent.sh");
    let output = Command::new(script).arg(bundle).arg(vkey).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

pub fn in_folder(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_over_http_is_verified_by_anybody_who_has_a_key() {
    let app = TestApp::start_with(generous()).await;
    let tenant = busy(&app, "camp").await;
    let other = busy(&app, "other").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    app.sign_now(&tenant).await;
    let written = app.post_as(&ada.token, "/customers", &json!({"name": "Grace Canary"})).await.expect(201);
    let receipt = written.header("x-log-receipt").unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let whole = in_folder(&folder, "whole.tar.gz");
    let headers = take(&app, &ada.token, "", &whole).await;
    let until: i64 = headers["x-export-until"].to_str().unwrap().parse().unwrap();
    let name = format!("attachment; filename=\"camp-audit-1-{until}.tar.gz\"");
    assert_eq!(headers["content-disposition"], name.as_str());
    assert_eq!(headers["content-type"], "application/gzip");

    let vkeys = keys(&app, &tenant).await;
    let vkey = vkeys[0].as_str();
    let (code, said) = verify(&whole, &["--key", vkey, "--receipt", &receipt]);
    assert_eq!(code, Some(0), "{said}");
    let report = &said["report"];
    assert_eq!((said["outcome"].as_str(), &report["from"]), (Some("verified"), &json!(1)));
    assert_eq!((&report["to"], &report["events"]), (&json!(until), &json!(until)));
    assert_eq!(report["exported_by"], json!(format!("user:{}", ada.id)));
    assert!(report["head_log_at"].is_string(), "{report}");
    // An owner may read of whom all this is.
    assert!(report["disclosed"].as_u64().unwrap() >= 13, "{report}");
    assert_eq!(report["withheld"], json!(0));
    independent(&whole, vkey);

    // A part of it, with what is left out on both sides.
    let part = in_folder(&folder, "part.tar.gz");
    take(&app, &ada.token, &format!("?from=5&to={}", until - 6), &part).await;
    let (code, said) = verify(&part, &["--key", vkey]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&said["report"]["from"], &said["report"]["to"]), (&json!(5), &json!(until - 6)));
    independent(&part, vkey);

    // Unpacked it is as good.
    let unpacked = in_folder(&folder, "unpacked");
    fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar").arg("-xzf").arg(&whole).arg("-C").arg(&unpacked).output().unwrap();
    assert!(tar.status.success() && tar.stderr.is_empty(), "{}", String::from_utf8_lossy(&tar.stderr));
    assert_eq!(verify(&unpacked, &["--key", vkey]).0, Some(0));
    fs::remove_file(unpacked.join("events/000001.csv")).unwrap();
    assert_eq!(verify(&unpacked, &["--key", vkey]).0, Some(3));

    // Exit codes: failed, usage, incomplete.
    let foreign = keys(&app, &other).await;
    let (code, said) = verify(&whole, &["--key", &foreign[0]]);
    assert_eq!(
        (code, said["report"]["findings"][0]["cause"].as_str()),
        (Some(1), Some("checkpoint_foreign"))
    );
    let wrong = format!("{}:{}", receipt.split(':').next().unwrap(), "00".repeat(32));
    let (code, said) = verify(&whole, &["--key", vkey, "--receipt", &wrong]);
    let finding = &said["report"]["findings"][0];
    assert_eq!((code, finding["cause"].as_str()), (Some(1), Some("receipt_mismatch")));
    assert_eq!(finding["position"].to_string(), receipt.split(':').next().unwrap());
    for usage in [&[][..], &["--key", vkey, "--receipt", "x"], &["--key", vkey, "--wrong"]] {
        assert_eq!(verify(&whole, usage).0, Some(2), "{usage:?}");
    }
    assert_eq!(verify(&in_folder(&folder, "nothing"), &["--key", vkey]).0, Some(2));
    let bytes = fs::read(&whole).unwrap();
    let cut = in_folder(&folder, "cut.tar.gz");
    for length in [0, bytes.len() / 3, bytes.len() - 1] {
        fs::write(&cut, &bytes[..length]).unwrap();
        let (code, said) = verify(&cut, &["--key", vkey]);
        assert_eq!((code, said["outcome"].as_str()), (Some(3), Some("incomplete")), "{length}");
    }
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_in_the_log_and_discloses_what_its_taker_may_read() {
    let app = TestApp::start_with(generous()).await;
    let tenant = busy(&app, "camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let key = async |permissions: &[&str]| {
        let body = json!({"name": "SIEM", "permissions": permissions});
        app.post_as(&ada.token, "/api-keys", &body).await.expect(201).text("key")
    };
    let exports = key(&["audit_exports:create:tenant"]).await;
    let customers = key(&["audit_exports:create:tenant", "customers:read:tenant"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = in_folder(&folder, "bundle.tar.gz");
    let vkey = async || keys(&app, &tenant).await.remove(0);
    let mut disclosed = Vec::new();
    for token in [&exports, &customers, &ada.token] {
        take(&app, token, "", &file).await;
        let (code, said) = verify(&file, &["--key", &vkey().await]);
        assert_eq!(code, Some(0), "{said}");
        disclosed.push(said["report"]["disclosed"].as_u64().unwrap());
        independent(&file, &vkey().await);
    }
    assert!(disclosed[0] == 0 && disclosed[1] == 12 && disclosed[2] > 12, "{disclosed:?}");

    // Begun before its first byte, ended after its last.
    let events =
        app.get_as(&ada.token, "/audit/events?limit=200&type=audit_export.started").await.expect(200);
    let started = events.body["items"].as_array().unwrap();
    assert_eq!(started.len(), 3);
    assert!(started.iter().all(|event| event["payload"]["format"] == "bundle"), "{started:?}");
    let events = app.get_as(&ada.token, "/audit/events?limit=200&type=audit_export.ended").await.expect(200);
    for (started, ended) in started.iter().zip(events.body["items"].as_array().unwrap()) {
        assert_eq!(ended["payload"]["complete"], true);
        assert_eq!(ended["payload"]["rows"], started["payload"]["until"]);
        assert_eq!(ended["payload"]["last_position"], started["payload"]["until"]);
    }

    // What was erased is not in it any more, and it says why.
    let found = app.get_as(&ada.token, "/customers?limit=1").await.expect(200);
    let path = format!("/customers/{}/erase", found.body["items"][0]["id"].as_str().unwrap());
    let erased = app.post_as(&ada.token, &path, &json!({"reason": "asked for it"})).await;
    assert!(erased.status.is_success(), "{}", erased.body);
    take(&app, &ada.token, "", &file).await;
    let (code, said) = verify(&file, &["--key", &vkey().await]);
    assert_eq!((code, &said["report"]["records"]), (Some(0), &json!(2)), "{said}");
    assert!(said["report"]["withheld"].as_u64().unwrap() > 0, "{said}");
    independent(&file, &vkey().await);

    for (query, pointer) in [
        ("from=0", "?from"),
        ("to=-1", "?to"),
        ("from=9&to=8", "?from"),
        ("from=9&to=7", "?until"),
        ("to=100000", "?until"),
        ("x=1", "?x"),
    ] {
        let refused = app.get_as(&ada.token, &format!("/audit/bundle?{query}")).await;
        let refused = refused.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{query}");
    }
    let url = app.url("/audit/bundle");
    let head_of = read(app.client.head(&url).bearer_auth(&ada.token)).await;
    assert_eq!((head_of.status.as_u16(), head_of.header("allow")), (405, Some("GET")));
    let reads = key(&["audit:read:tenant"]).await;
    app.get_as(&reads, "/audit/bundle").await.expect_problem(403, "forbidden");
    let plan = TenantCommand::ChangePlan { plan: "free".into() };
    let small = app.tenant("small").await;
    app.admin.command(small.id, plan, &Metadata::default()).await.unwrap();
    let eve = app.person(&small, "eve@example.org", Tier::TenantOwner).await;
    app.get_as(&eve.token, "/audit/bundle").await.expect_problem(403, "plan_limit");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_rotated_while_it_is_written_do_not_sign_it() {
    let site = Site::open().await;
    let ledger = process(&site);
    let ask = Ask {
        range: Range { after: 0, until: site.head().await },
        disclose: std::collections::BTreeSet::new(),
        exported_by: "test".to_owned(),
        export_id: AuditExportId(uuid::Uuid::now_v7()),
        at: chrono::DateTime::UNIX_EPOCH,
    };
    let mut bundle = Bundle::new(&ledger, &site.schema, ask);
    bundle.prepare().await.unwrap();
    let known = ledger.verifier_keys(&site.schema).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = bundle.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
        // So often that none of those of the beginning signs any more.
        for _ in 0..3 {
            site.keys.rotate(chrono::DateTime::UNIX_EPOCH).unwrap();
        }
    }
    let now = ledger.verifier_keys(&site.schema).await.unwrap();
    assert!(now.iter().filter(|key| key.live).all(|key| known.iter().all(|known| known.vkey != key.vkey)));
    let folder = tempfile::tempdir().unwrap();
    let file = in_folder(&folder, "rotated.tar.gz");
    fs::write(&file, bytes).unwrap();
    let (code, said) = verify(&file, &["--key", &known[0].vkey]);
    assert_eq!(code, Some(0), "{said}");
    independent(&file, &known[0].vkey);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_takes_one_from_the_command_line() {
    let app = TestApp::start_with(generous()).await;
    let tenant = busy(&app, "camp").await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let file = host.directory().join("camp.tar.gz");
    let path = file.to_str().unwrap();
    let summary = host.json(&["audit", "bundle", "--tenant", "camp", "--out", path, "--json"]);
    // There is much about people in it.
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let vkey = keys(&app, &tenant).await.remove(0);
    let (code, said) = verify(&file, &["--key", &vkey]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said["report"]["events"], summary["rows"]);
    assert_eq!(said["report"]["exported_by"], "cli:audit");
    assert_eq!(said["report"]["withheld"], 0);
    independent(&file, &vkey);
    host.run(&[
        "audit",
        "bundle",
        "--tenant",
        "camp",
        "--out",
        path,
        "--from",
        "3",
        "--to",
        "9",
        "--without-personal",
    ]);
    let (code, said) = verify(&file, &["--key", &vkey]);
    assert_eq!((code, &said["report"]["disclosed"]), (Some(0), &json!(0)), "{said}");
    assert_eq!((&said["report"]["from"], &said["report"]["to"]), (&json!(3), &json!(9)));
    let refused = host.output(&["audit", "bundle", "--tenant", "camp", "--out", path, "--to", "100000"]);
    assert_eq!(refused.status.code(), Some(1));
    app.shut_down().await;
}
