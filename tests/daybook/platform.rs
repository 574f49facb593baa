//! The platform's own people: what they do with tenants, and what they may not.

use daybook::config::SettingsPatch;
use daybook_domain::permission::Tier;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    app::{TestApp, id, read},
    people::PASSWORD,
    process::Host,
};

async fn start() -> TestApp {
    let patch = SettingsPatch { login_limit_per_minute: Some(1_000), ..SettingsPatch::default() };
    TestApp::start_with(patch).await
}

#[tokio::test]
async fn a_superuser_creates_switches_and_lists_tenants() {
    let app = start().await;
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    let root = app.sign_in(None, "root@example.org").await;
    let body = json!({"slug": "river", "name": "Camping River", "plan": "starter", "owner_email": "ada@example.org", "reason": "signed"});
    let made = app.post_as(&root.token, "/platform/tenants", &body).await.expect(201);
    let tenant = id(&made);
    app.post_as(&root.token, "/platform/tenants", &body).await.expect_problem(409, "already_exists");
    let path = format!("/platform/tenants/{tenant}");
    let read_back = app.get_as(&root.token, &path).await.expect(200);
    assert_eq!((&read_back.body["plan"], &read_back.body["active"]), (&json!("starter"), &json!(true)));
    let off = app
        .post_as(&root.token, &format!("{path}/deactivate"), &json!({"reason": "unpaid"}))
        .await
        .expect(200);
    assert_eq!(off.body["active"], false);
    app.post_as(&root.token, &format!("{path}/activate"), &json!({})).await.expect(200);
    app.post_as(&root.token, &format!("{path}/plan"), &json!({"plan": "platinum"}))
        .await
        .expect_problem(422, "validation_failed");
    app.post_as(&root.token, &format!("{path}/plan"), &json!({"plan": "business"})).await.expect(200);
    let rename = app
        .client
        .patch(app.url(&path))
        .bearer_auth(&root.token)
        .header("If-Match", "*")
        .json(&json!({"name": "Camping Lake"}));
    assert_eq!(read(rename).await.expect(200).body["name"], "Camping Lake");
    let listed = app.get_as(&root.token, "/platform/tenants?active=true").await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    let plans = app.get_as(&root.token, "/platform/plans").await.expect(200);
    assert_eq!(plans.body["items"].as_array().unwrap().len(), 4);
    // All of it is in the platform's log, with who and why.
    let events: Vec<(String, String)> = sqlx::query_as(
        "SELECT event_type, actor FROM daybook_platform.events WHERE aggregate_type = 'tenant' ORDER BY position",
    )
    .fetch_all(app.store.database().owner())
    .await
    .unwrap();
    let types: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        types,
        ["tenant.created", "tenant.deactivated", "tenant.activated", "tenant.plan_changed", "tenant.renamed"]
    );
    assert!(events.iter().all(|(_, actor)| *actor == format!("user:{}", root.id)));
    app.shut_down().await;
}

#[tokio::test]
async fn the_platforms_tiers_stay_below_their_own() {
    let app = start().await;
    for tier in [Tier::Superuser, Tier::PlatformManager, Tier::PlatformSales, Tier::PlatformSupport] {
        app.account(None, &format!("{tier}@example.org"), tier, None).await;
    }
    let make = |role: &str, n: u32| json!({"email": format!("new{n}@example.org"), "name": "New", "role": role, "password": PASSWORD});
    let manager = app.sign_in(None, "platform_manager@example.org").await;
    app.post_as(&manager.token, "/platform/users", &make("platform_support", 1)).await.expect(201);
    for above in ["platform_manager", "superuser"] {
        app.post_as(&manager.token, "/platform/users", &make(above, 2))
            .await
            .expect_problem(403, "forbidden");
    }
    let root = app.sign_in(None, "superuser@example.org").await;
    app.post_as(&root.token, "/platform/users", &make("tenant_owner", 3))
        .await
        .expect_problem(422, "validation_failed");
    app.post_as(&root.token, "/platform/users", &make("superuser", 4)).await.expect(201);

    let sales = app.sign_in(None, "platform_sales@example.org").await;
    let tenant = json!({"slug": "real", "name": "Real"});
    app.post_as(&sales.token, "/platform/tenants", &tenant).await.expect_problem(403, "forbidden");
    let demo = json!({"slug": "demo", "name": "Demo", "temporary": true});
    app.post_as(&sales.token, "/platform/tenants", &demo).await.expect(201);
    let real = app.tenant("other").await;
    let listed = app.get_as(&sales.token, "/platform/tenants").await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1, "sales see demo tenants only");
    app.get_as(&sales.token, &format!("/platform/tenants/{}", real.id))
        .await
        .expect_problem(404, "not_found");
    let support = app.sign_in(None, "platform_support@example.org").await;
    app.with_token(&support.token, Method::GET, "/bookings", None).await.expect_problem(403, "forbidden");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_makes_changes_and_imports_accounts() {
    let app = start().await;
    let host = Host::on(&app.db);
    host.run(&["tenant", "create", "camp", "--name", "Camp"]);
    let root = host.json(&["user", "create-superuser", "root@example.org", "--json"]);
    let password = root["password"].as_str().unwrap();
    let server = host.serve();
    let client = reqwest::Client::new();
    let login = async |tenant: Option<&str>, email: &str, password: &str| {
        let url = format!("{}/api/v1/auth/login", server.address);
        let mut request = client.post(url).json(&json!({"email": email, "password": password}));
        if let Some(tenant) = tenant {
            request = request.header("X-Tenant-Slug", tenant);
        }
        read(request).await
    };
    assert_eq!(login(None, "root@example.org", password).await.expect(200).body["user"]["role"], "superuser");
    let ada = host.json(&[
        "user",
        "create",
        "ada@example.org",
        "--tenant",
        "camp",
        "--role",
        "tenant_owner",
        "--json",
    ]);
    login(Some("camp"), "ada@example.org", ada["password"].as_str().unwrap()).await.expect(200);
    let refused = host.output(&["user", "set-role", "ada@example.org", "tenant_staff", "--tenant", "camp"]);
    assert_eq!(refused.status.code(), Some(1), "the last owner stays");
    let again = host.run(&["user", "reset-password", "ada@example.org", "--tenant", "camp"]);
    let new = again.split_whitespace().last().unwrap();
    login(Some("camp"), "ada@example.org", ada["password"].as_str().unwrap()).await.expect(401);
    login(Some("camp"), "ada@example.org", new).await.expect(200);

    let file = host.directory().join("users.jsonl");
    let django = "pbkdf2_sha256$1000$seasalt$JgZryXe2Ga8ysg6XbzkLpTdyPQrHqsinbL9BnnhgX4A=";
    let line = |email: &str, role: &str, hash: &str| {
        json!({"email": email, "role": role, "password": hash}).to_string()
    };
    let lines = [
        line("bob@example.org", "tenant_staff", django),
        line("eve@example.org", "superuser", django),
        line("max@example.org", "tenant_staff", "md5$x$y"),
        "not json".to_owned(),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let arguments = ["user", "import", file.to_str().unwrap(), "--tenant", "camp"];
    let outcome = host.output(&arguments);
    let shown = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert_eq!(outcome.status.code(), Some(1));
    assert!(shown.contains("1 accounts imported, 0 known already, 3 refused"), "{shown}");
    assert!(!shown.contains("md5") && !shown.contains("eve@"), "{shown}");
    login(Some("camp"), "bob@example.org", "lètmein").await.expect(200);
    let again = host.output(&arguments);
    assert!(String::from_utf8_lossy(&again.stdout).contains("0 accounts imported, 1 known already"));
    host.run(&["user", "deactivate", "bob@example.org", "--tenant", "camp", "--reason", "left"]);
    login(Some("camp"), "bob@example.org", "lètmein").await.expect(401);
    host.run(&["user", "activate", "bob@example.org", "--tenant", "camp"]);
    login(Some("camp"), "bob@example.org", "lètmein").await.expect(200);
    server.terminate();
    app.shut_down().await;
}

#[tokio::test]
async fn a_tenant_asked_for_twice_under_one_key_is_one() {
    let app = start().await;
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    let root = app.sign_in(None, "root@example.org").await;
    let body = json!({"slug": "river", "name": "Camping River", "owner_email": "ada@example.org"});
    let post = async |body: &serde_json::Value| {
        let request = app.client.post(app.url("/platform/tenants")).bearer_auth(&root.token);
        read(request.header("Idempotency-Key", "once").json(body)).await
    };
    let made = post(&body).await.expect(201);
    let again = post(&body).await.expect(201);
    assert_eq!((id(&again), again.header("idempotent-replayed")), (id(&made), Some("true")));
    let invited: i64 = sqlx::query_scalar(&format!(
        "SELECT count(*) FROM t_{}.messages WHERE kind = 'invitation'",
        id(&made).simple()
    ))
    .fetch_one(app.store.database().owner())
    .await
    .unwrap();
    assert_eq!(invited, 1);
    let other = json!({"slug": "lake", "name": "Camping Lake"});
    post(&other).await.expect_problem(422, "idempotency_key_reused");
    app.shut_down().await;
}

#[tokio::test]
async fn who_leaves_the_platform_is_let_in_no_more() {
    let app = start().await;
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    app.account(None, "manager@example.org", Tier::PlatformManager, None).await;
    app.account(None, "support@example.org", Tier::PlatformSupport, None).await;
    let root = app.sign_in(None, "root@example.org").await;
    let manager = app.sign_in(None, "manager@example.org").await;
    let support = app.sign_in(None, "support@example.org").await;
    let path =
        |person: &crate::support::people::Person, what: &str| format!("/platform/users/{}{what}", person.id);
    let empty = json!({});

    // Neither those below, nor themselves, nor equals.
    app.post_as(&support.token, &path(&manager, "/deactivate"), &empty)
        .await
        .expect_problem(403, "forbidden");
    app.post_as(&manager.token, &path(&manager, "/deactivate"), &empty)
        .await
        .expect_problem(403, "forbidden");
    app.post_as(&manager.token, &path(&root, "/deactivate"), &empty).await.expect_problem(409, "last_admin");
    let promote = json!({"role": "superuser"});
    app.post_as(&manager.token, &path(&support, "/role"), &promote).await.expect_problem(403, "forbidden");

    let sold = json!({"role": "platform_sales", "reason": "moved"});
    let changed = app.post_as(&manager.token, &path(&support, "/role"), &sold).await.expect(200);
    assert_eq!(changed.body["role"], "platform_sales");
    app.post_as(&manager.token, &path(&support, "/deactivate"), &json!({"reason": "left"})).await.expect(200);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    app.get_as(&support.token, "/me").await.expect_problem(401, "unauthenticated");
    app.refresh(&support.refresh).await.expect(401);
    app.login(None, "support@example.org", PASSWORD).await.expect(401);
    app.post_as(&manager.token, &path(&support, "/activate"), &empty).await.expect(200);
    app.login(None, "support@example.org", PASSWORD).await.expect(200);

    let delete = |whom: &crate::support::people::Person| {
        app.client.delete(app.url(&path(whom, ""))).bearer_auth(&root.token).header("If-Match", "*")
    };
    read(delete(&support)).await.expect(204);
    app.login(None, "support@example.org", PASSWORD).await.expect(401);
    read(delete(&root)).await.expect_problem(403, "forbidden");
    app.shut_down().await;
}
