//! What auditors ask over HTTP and on the command line, and the receipts of those who gave a command.

use std::time::Duration;

use daybook::{
    config::SettingsPatch,
    eventstore::leaf::leaf_hash,
    ledger::{Checkpoint, tree},
    tenancy::Schema,
};
use daybook_domain::permission::Tier;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    ledger::{assert_sound, leaves},
    support::{
        app::{Answer, TestApp, TestTenant, eventually},
        letters::token,
        people::{PASSWORD, generous},
        process::Host,
    },
    support_sessions::{begin, start},
};

fn hash(text: &Value) -> tree::Hash {
    hex::decode(text.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn hashes(list: &Value) -> Vec<tree::Hash> {
    list.as_array().unwrap().iter().map(hash).collect()
}

/// Position and leaf hash of each receipt of an answer.
fn receipts(answer: &Answer) -> Vec<(u64, tree::Hash)> {
    let text = answer.header("x-log-receipt").unwrap_or_else(|| panic!("no receipt: {}", answer.body));
    text.split(", ")
        .map(|receipt| {
            let (position, hash) = receipt.split_once(':').unwrap();
            (position.parse().unwrap(), hex::decode(hash).unwrap().try_into().unwrap())
        })
        .collect()
}

/// Waits until all of a tenant's log is under a signed checkpoint.
async fn signed(app: &TestApp, tenant: &TestTenant) -> Checkpoint {
    let head = app.head(tenant).await as u64;
    eventually("the log is signed", Duration::from_secs(20), async || {
        let latest = app.state.ledger().latest(&tenant.schema()).await.unwrap();
        latest.is_some_and(|latest| latest.size >= head)
    })
    .await;
    app.state.ledger().latest(&tenant.schema()).await.unwrap().unwrap()
}

async fn bytes(app: &TestApp, tenant: &TestTenant, path: &str) -> (u16, Vec<u8>) {
    let request = app.client.get(app.url(path)).bearer_auth(&tenant.token);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_kept_a_receipt_can_have_it_proved() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let body = json!({"name": "Ada Lovelace"});
    let made = app.post_keyed(&tenant, "/customers", "once", &body).await.expect(201);
    let again = app.post_keyed(&tenant, "/customers", "once", &body).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let kept = receipts(&made);
    assert_eq!(kept, receipts(&again));
    assert_eq!(kept.last().unwrap().0.to_string(), made.header("x-log-position").unwrap());
    // Many events of one command: the last of them.
    let pool = app.resource(&tenant, "Cabins", 3).await;
    let offering = app.nights_offering(&tenant, &[pool]).await;
    let booking = json!({
        "offering_id": offering, "check_in": "2031-05-01", "check_out": "2031-05-03", "guests": 1,
        "customer": {"name": "Grace"},
    });
    let booked = app.post(&tenant, "/bookings", &booking).await.expect(201);
    assert_eq!(receipts(&booked).len(), 2, "the customer and the booking");

    let checkpoint = signed(&app, &tenant).await;
    for (position, leaf) in kept.iter().chain(&receipts(&booked)) {
        let proof =
            app.get(&tenant, &format!("/audit/proof/inclusion?position={position}")).await.expect(200);
        assert_eq!(hash(&proof.body["leaf_hash"]), *leaf);
        let size = proof.body["tree_size"].as_u64().unwrap();
        let noted = Checkpoint::parse(proof.body["checkpoint"].as_str().unwrap()).unwrap();
        assert_eq!((noted.size, noted.root), (size, hash(&proof.body["root_hash"])));
        let path = hashes(&proof.body["proof"]);
        tree::check_inclusion(&path, size, &noted.root, position - 1, leaf).unwrap();
        let small = app
            .get(&tenant, &format!("/audit/proof/consistency?from={position}&to={size}"))
            .await
            .expect(200);
        let (from_root, proof) = (hash(&small.body["from_root"]), hashes(&small.body["proof"]));
        tree::check_consistency(&proof, *position, &from_root, size, &noted.root).unwrap();
    }
    assert!(checkpoint.size >= kept[0].0);
    assert_sound(app.state.ledger(), &tenant.schema()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_with_their_own_accounts_has_receipts_as_well() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let invite = json!({"email": "bob@example.org", "name": "Bob", "role": "tenant_staff"});
    app.post_as(&ada.token, "/invitations", &invite).await.expect(201);
    let accept = json!({"token": token(&app.letter("bob@example.org", 0).await), "password": PASSWORD});
    let accepted = app.anonymous("/invitations/accept", &[], &accept).await.expect(204);
    let signed_in = app.login(Some(&tenant), "bob@example.org", PASSWORD).await.expect(200);
    let bob = signed_in.text("access_token");
    let rename = json!({"name": "Bob Moran"});
    let renamed = app.with_token(&bob, Method::PATCH, "/me", Some(&rename)).await.expect(200);
    let new = json!({"current_password": PASSWORD, "new_password": "mountain-lake-nine"});
    let changed = app.post_as(&bob, "/auth/password/change", &new).await.expect(204);
    let left = app.post_as(&bob, "/auth/logout", &Value::Null).await.expect(204);
    app.anonymous_at(&tenant, "/auth/password/reset", &json!({"email": "bob@example.org"})).await.expect(202);
    let reset = token(&app.letter("bob@example.org", 2).await);
    let reset = json!({"token": reset, "new_password": PASSWORD});
    let reset = app.anonymous("/auth/password/reset/confirm", &[], &reset).await.expect(204);
    let bob = app.sign_in(Some(&tenant), "bob@example.org").await;
    let password = json!({"password": PASSWORD});
    let gone = app.with_token(&bob.token, Method::DELETE, "/me", Some(&password)).await.expect(204);
    let leaves = leaves(app.store.database().owner(), &tenant.schema()).await;
    let mut last = 0;
    for answer in [accepted, signed_in, renamed, changed, left, reset, gone] {
        let receipts = receipts(&answer);
        assert_eq!(answer.header("x-log-position").unwrap(), receipts.last().unwrap().0.to_string());
        for (position, hash) in receipts {
            assert!(position > last);
            assert_eq!(hash, leaf_hash(&leaves[position as usize - 1]));
            last = position;
        }
    }
    assert_eq!(last, leaves.len() as u64);
    // Who only asks, or is refused, is told nothing of the log.
    let ask = json!({"email": "ada@example.org"});
    let asked = app.anonymous_at(&tenant, "/auth/password/reset", &ask).await.expect(202);
    let refused = app.login(Some(&tenant), "ada@example.org", "wrong-password").await.expect(401);
    for answer in [asked, refused] {
        assert_eq!((answer.header("x-log-receipt"), answer.header("x-log-position")), (None, None));
    }
    // The platform's own commands are in the platform's log, and so are their receipts.
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    let root = app.sign_in(None, "root@example.org").await;
    let new = json!({"slug": "river", "name": "River", "plan": "free"});
    let made = app.post_as(&root.token, "/platform/tenants", &new).await.expect(201);
    let (position, hash) = receipts(&made)[0];
    let leaves = crate::ledger::leaves(app.store.database().owner(), &Schema::platform()).await;
    assert_eq!(hash, leaf_hash(&leaves[position as usize - 1]));
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_is_a_log_of_tiles() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    for n in 0..5 {
        app.customer(&tenant, &format!("Guest {n}")).await;
    }
    let last = signed(&app, &tenant).await;
    let (status, note) = bytes(&app, &tenant, "/audit/checkpoint").await;
    assert_eq!((status, note), (200, last.note.clone().into_bytes()));
    let keys = app.get(&tenant, "/audit/keys").await.expect(200);
    assert_eq!(keys.body["origin"], last.origin);
    let vkeys: Vec<&str> =
        keys.body["keys"].as_array().unwrap().iter().map(|key| key["vkey"].as_str().unwrap()).collect();
    Checkpoint::verify(&last.note, &last.origin, &vkeys).unwrap();

    let size = last.size;
    let (status, tile) = bytes(&app, &tenant, &format!("/audit/tile/0/000.p/{size}")).await;
    assert_eq!(status, 200);
    let (status, bundle) = bytes(&app, &tenant, &format!("/audit/tile/entries/000.p/{size}")).await;
    assert_eq!(status, 200);
    let mut rest = bundle.as_slice();
    let all = leaves(app.store.database().owner(), &tenant.schema()).await;
    for (hash, leaf) in tile.chunks(32).zip(&all) {
        let (length, after) = rest.split_first_chunk::<2>().unwrap();
        let (found, after) = after.split_at(u16::from_be_bytes(*length).into());
        assert_eq!((found, hash), (leaf.as_slice(), leaf_hash(leaf).as_slice()));
        rest = after;
    }
    for nothing in [
        "/audit/tile/0/x001/000",
        "/audit/tile/1/000",
        "/audit/tile/9/000",
        "/audit/tile/0/0",
        "/audit/tile/x",
    ] {
        app.get(&tenant, nothing).await.expect_problem(404, "not_found");
    }
    app.get(&tenant, &format!("/audit/proof/inclusion?position={}", size + 1_000))
        .await
        .expect_problem(404, "not_found");
    for wrong in ["position=0", "position=-1", "position=x", "position=1&size=0", ""] {
        let answer = app.get(&tenant, &format!("/audit/proof/inclusion?{wrong}")).await;
        answer.expect_problem(422, "validation_failed");
    }
    app.get(&tenant, "/audit/proof/consistency?from=3&to=2").await.expect_problem(422, "validation_failed");
    // Nothing of another tenant's.
    let other = app.tenant("other").await;
    signed(&app, &other).await;
    let theirs = app.get(&other, "/audit/keys").await.expect(200);
    assert_ne!(theirs.body["origin"], keys.body["origin"]);

    // A leaf that is gone, which is not for a bundle to leave out.
    let sql = "ALTER TABLE {s}.events DISABLE TRIGGER USER; DELETE FROM {s}.events WHERE position = 2; ALTER TABLE {s}.events ENABLE TRIGGER USER";
    sqlx::raw_sql(&tenant.schema().sql(sql)).execute(app.store.database().owner()).await.unwrap();
    app.get(&tenant, "/audit/tile/entries/000.p/2").await.expect_problem(410, "retention_expired");
    app.get(&tenant, "/audit/tile/0/000.p/2").await.expect(200);
    app.get(&tenant, "/audit/proof/inclusion?position=2").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_yet_is_asked_for_again() {
    let hour = || "1h".parse().ok();
    let patch = SettingsPatch { ledger_sign_interval: hour(), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    signed(&app, &tenant).await;
    app.customer(&tenant, "Late").await;
    let head = app.head(&tenant).await;
    for path in [
        format!("/audit/proof/inclusion?position={head}"),
        format!("/audit/proof/consistency?from=1&to={head}"),
        format!("/audit/tile/entries/000.p/{head}"),
        format!("/audit/tile/0/000.p/{head}"),
        "/audit/head".to_owned(),
    ] {
        let answer = app.get(&tenant, &path).await.expect_problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), Some("10"), "{path}");
    }
    app.state.ledger().checkpoint_now(&tenant.schema()).await.unwrap();
    app.get(&tenant, &format!("/audit/proof/inclusion?position={head}")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_a_tenant_s_log_is_proved_to_be_among_all() {
    let patch = SettingsPatch { head_log_interval: "100ms".parse().ok(), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    signed(&app, &tenant).await;
    eventually("the head is named", Duration::from_secs(10), async || {
        app.get(&tenant, "/audit/head").await.status == 200
    })
    .await;
    let found = app.get(&tenant, "/audit/head").await.expect(200).body;
    let keys = app.get(&tenant, "/audit/keys").await.expect(200).body;
    let vkey = keys["head_log_keys"][0]["vkey"].as_str().unwrap();
    let origin = vkey.split('+').next().unwrap();
    assert!(origin.ends_with("/heads"), "{origin}");
    let checkpoint = Checkpoint::verify(found["checkpoint"].as_str().unwrap(), origin, &[vkey]).unwrap();
    let text = |name: &str| found[name].as_str().unwrap().as_bytes();
    let number = |name: &str| found[name].as_u64().unwrap();
    let entry: Value = serde_json::from_slice(text("entry")).unwrap();
    let (leaf, proof) = (leaf_hash(text("entry")), hashes(&found["entry_proof"]));
    tree::check_inclusion(&proof, checkpoint.size, &checkpoint.root, number("entry_index"), &leaf).unwrap();
    let (leaf, proof) = (leaf_hash(text("head")), hashes(&found["head_proof"]));
    let root = hash(&entry["heads_root"]);
    tree::check_inclusion(&proof, number("head_count"), &root, number("head_index"), &leaf).unwrap();
    let head: Value = serde_json::from_slice(text("head")).unwrap();
    assert_eq!(head["origin"], keys["origin"]);
    // It is written once the entry is committed.
    eventually("the copy is in the data directory", Duration::from_secs(10), async || {
        app.data_dir().join("ledger/checkpoint").exists()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redacted_session_is_shown_neither_leaves_nor_their_hashes() {
    let (app, tenant, owner, sue) = start().await;
    signed(&app, &tenant).await;
    let session = begin(&app, &sue, "camp", "redacted", None).await;
    let token = session.text("access_token");
    for path in [
        "/audit/proof/inclusion?position=1",
        "/audit/proof/consistency?from=1",
        "/audit/tile/0/000.p/1",
        "/audit/tile/entries/000.p/1",
    ] {
        app.get_as(&token, path).await.expect_problem(403, "forbidden");
        assert_eq!(app.get_as(&owner.token, path).await.status, 200, "{path}");
    }
    for path in ["/audit/checkpoint", "/audit/keys"] {
        app.get_as(&token, path).await.expect(200);
    }
    let id = session.text("id");
    let ended = app.with_token(&token, Method::DELETE, &format!("/support/sessions/{id}"), None).await;
    assert!(ended.status.is_success(), "{}", ended.body);
    assert_eq!(ended.header("x-log-receipt"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_for_those_who_may_read_it() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    signed(&app, &tenant).await;
    for path in [
        "/audit/checkpoint",
        "/audit/keys",
        "/audit/head",
        "/audit/tile/0/000.p/1",
        "/audit/proof/inclusion?position=1",
        "/audit/proof/consistency?from=1",
    ] {
        app.get_as(&staff.token, path).await.expect_problem(403, "forbidden");
        app.get_as("nobody", path).await.expect_problem(401, "unauthenticated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_checkpoints_are_printed() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    app.customer(&tenant, "Ada").await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let note = host.run(&["audit", "checkpoint", "--tenant", "camp", "--now"]);
    let keys = host.json(&["audit", "keys", "--tenant", "camp", "--json"]);
    let vkey = keys["keys"][0]["vkey"].as_str().unwrap();
    let checkpoint = Checkpoint::verify(&note, keys["origin"].as_str().unwrap(), &[vkey]).unwrap();
    assert!(checkpoint.size >= app.head(&tenant).await as u64);
    assert!(host.run(&["audit", "keys", "--tenant", "camp"]).contains(vkey));
    assert!(host.run(&["audit", "checkpoint", "--now"]).contains("/platform\n"));
    let missing = host.output(&["audit", "checkpoint", "--tenant", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
}
