//! API keys and roles of a tenant's own: what they may at most, and when that changes.

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use daybook::{clock::now, config::SettingsPatch};
use daybook_domain::permission::Tier;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::{Answer, TestApp, TestTenant, id, read};

async fn start() -> TestApp {
    let patch = SettingsPatch { login_limit_per_minute: Some(1_000), ..SettingsPatch::default() };
    TestApp::start_with(patch).await
}

async fn expire(app: &TestApp, tenant: &TestTenant, key: Uuid) {
    let sql =
        tenant.schema().sql("UPDATE {s}.api_keys SET expires_at = now() - interval '1 s' WHERE id = $1");
    sqlx::query(&sql).bind(key).execute(app.store.database().owner()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn assert_field(answer: Answer, pointer: &str, code: &str) {
    let answer = answer.expect_problem(422, "validation_failed");
    let error = &answer.body["errors"][0];
    assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)), "{}", answer.body);
}

#[tokio::test]
async fn a_keys_use_shows_and_its_time_runs_out() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let until = now() + TimeDelta::days(1);
    let body = json!({"name": "Site", "permissions": ["bookings:read:tenant"], "expires_at": until});
    let made = app.post_as(&ada.token, "/api-keys", &body).await.expect(201);
    assert_eq!(made.body["last_used_at"], Value::Null);
    let row = async || {
        let listed = app.get_as(&ada.token, "/api-keys").await.expect(200);
        let items = listed.body["items"].as_array().unwrap().clone();
        items.into_iter().find(|item| item["id"] == made.body["id"]).unwrap()
    };
    assert_eq!(row().await["last_used_at"], Value::Null);
    let before = now();
    app.get_as(&made.text("key"), "/bookings").await.expect(200);
    let mut used = row().await["last_used_at"].clone();
    for _ in 0..100 {
        if used.is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        used = row().await["last_used_at"].clone();
    }
    let used: DateTime<Utc> = used.as_str().unwrap().parse().unwrap();
    assert!((used - before).abs() < TimeDelta::seconds(10), "{used}");

    expire(&app, &tenant, id(&made)).await;
    app.get_as(&made.text("key"), "/bookings").await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[tokio::test]
async fn a_key_is_taken_from_the_header_alone() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let token = &tenant.token;
    app.get(&tenant, "/bookings").await.expect(200);
    for name in ["key", "api_key", "apikey", "access_token", "token", "authorization"] {
        let path = format!("/bookings?{name}={token}");
        read(app.client.get(app.url(&path))).await.expect_problem(401, "unauthenticated");
        let cookie = format!("{name}={token}; __Host-daybook_refresh={token}");
        read(app.client.get(app.url("/bookings")).header("Cookie", cookie))
            .await
            .expect_problem(401, "unauthenticated");
    }
    for (name, value) in [
        ("X-API-Key", token.clone()),
        ("X-Guest-Token", token.clone()),
        ("Authorization", token.clone()),
        ("Authorization", format!("Basic {token}")),
        ("Proxy-Authorization", format!("Bearer {token}")),
    ] {
        read(app.client.get(app.url("/bookings")).header(name, value))
            .await
            .expect_problem(401, "unauthenticated");
    }
    // Also where anybody may call: it would not be that key's site.
    let path = format!("/public/availability?offering_id={}&from=2031-05-01&to=2031-05-02", Uuid::nil());
    read(app.client.get(app.url(&format!("{path}&api_key={token}")))).await.expect_problem(404, "not_found");
    app.shut_down().await;
}

#[tokio::test]
async fn a_key_makes_keys_within_its_own_limit_time_and_permissions() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let permissions = ["api_keys:create:tenant", "bookings:read:tenant"];
    let until = (now() + TimeDelta::days(7)).trunc_subsecs(0);
    let maker = async |mut about: Value| {
        about["name"] = json!("Maker");
        about["permissions"] = json!(permissions);
        app.post_as(&ada.token, "/api-keys", &about).await.expect(201).text("key")
    };
    let make = async |by: &str, mut about: Value| {
        about["name"] = json!("Made");
        if about["permissions"].is_null() {
            about["permissions"] = json!(["bookings:read:tenant"]);
        }
        app.post_as(by, "/api-keys", &about).await
    };
    let expiry =
        |answer: &Answer| answer.body["expires_at"].as_str().map(|at| at.parse::<DateTime<Utc>>().unwrap());

    let ten = maker(json!({"calls_per_hour": 10})).await;
    assert_field(make(&ten, json!({"calls_per_hour": 11})).await, "/calls_per_hour", "above_own");
    assert_eq!(make(&ten, json!({})).await.expect(201).body["calls_per_hour"], 10, "not the plan's");
    assert_eq!(make(&ten, json!({"calls_per_hour": 10})).await.expect(201).body["calls_per_hour"], 10);
    let made = make(&ten, json!({"calls_per_hour": 4, "expires_at": until})).await.expect(201);
    assert_eq!((&made.body["calls_per_hour"], expiry(&made)), (&json!(4), Some(until)));
    let answer = app.get_as(&made.text("key"), "/bookings").await.expect(200);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"api_calls\";q=4;w=3600"));
    // Nobody gives what they do not have.
    for wide in ["bookings:update:tenant", "customers:read:tenant"] {
        let refused = make(&ten, json!({"permissions": [wide]})).await;
        assert_field(refused, "/permissions", "not_held");
    }

    let week = maker(json!({"expires_at": until})).await;
    let later = until + TimeDelta::seconds(1);
    assert_field(make(&week, json!({"expires_at": later})).await, "/expires_at", "above_own");
    assert_eq!(expiry(&make(&week, json!({})).await.expect(201)), Some(until), "not for ever");
    let sooner = until - TimeDelta::days(1);
    assert_eq!(expiry(&make(&week, json!({"expires_at": sooner})).await.expect(201)), Some(sooner));
    // People have neither limit.
    let free = make(&ada.token, json!({})).await.expect(201);
    assert_eq!((&free.body["calls_per_hour"], expiry(&free)), (&Value::Null, None));
    app.shut_down().await;
}

#[tokio::test]
async fn a_role_is_below_the_ceiling_and_within_what_its_maker_has() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let owner = app.person(&tenant, "owner@example.org", Tier::TenantOwner).await;
    let manager = app.person(&tenant, "manager@example.org", Tier::TenantManager).await;
    let body = json!({
        "name": "Site",
        "permissions": ["roles:create:tenant", "roles:update:tenant", "bookings:read:tenant", "bookings:update:assigned"],
    });
    let key = app.post_as(&owner.token, "/api-keys", &body).await.expect(201).text("key");
    let mut n = 0;
    let mut names = || {
        n += 1;
        format!("Role {n}")
    };
    let change = async |by: &str, role: Uuid, permissions: &[&str]| {
        let path = format!("/roles/{role}");
        let body = json!({"permissions": permissions});
        let request = app.client.request(Method::PATCH, app.url(&path));
        read(request.bearer_auth(by).header("If-Match", "*").json(&body)).await
    };
    for by in [&owner.token, &manager.token, &key] {
        let make = async |name: String, permissions: &[&str]| {
            app.post_as(by, "/roles", &json!({"name": name, "permissions": permissions})).await
        };
        let role = id(&make(names(), &["bookings:read:tenant"]).await.expect(201));
        for above in [
            "users:read:tenant",
            "users:create:tenant",
            "roles:update:tenant",
            "api_keys:create:tenant",
            "api_keys:read:tenant",
            "domains:read:tenant",
            "settings:read:tenant",
            "settings:update:tenant",
            "secrets:update:tenant",
            "tenants:read:platform",
            "bookings:read:platform",
        ] {
            let both = ["bookings:read:tenant", above];
            assert_field(make(names(), &both).await, "/permissions", "above_staff");
            assert_field(change(by, role, &both).await, "/permissions", "above_staff");
        }
    }
    // The key has less than the ceiling.
    let role = app
        .post_as(&key, "/roles", &json!({"name": "Desk", "permissions": ["bookings:update:assigned"]}))
        .await
        .expect(201);
    for more in
        ["bookings:update:tenant", "bookings:create:own", "customers:read:tenant", "audit:read:tenant"]
    {
        let body = json!({"name": "More", "permissions": [more]});
        assert_field(app.post_as(&key, "/roles", &body).await, "/permissions", "not_held");
        assert_field(change(&key, id(&role), &[more]).await, "/permissions", "not_held");
    }
    change(&owner.token, id(&role), &["bookings:update:tenant", "audit:read:tenant"]).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_changed_role_is_at_work_within_a_second() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let staff = app.person(&tenant, "staff@example.org", Tier::TenantStaff).await;
    let body = json!({"name": "Desk", "permissions": ["bookings:read:tenant"]});
    let role = id(&app.post(&tenant, "/roles", &body).await.expect(201));
    app.post(&tenant, &format!("/users/{}/role", staff.id), &json!({"role_id": role})).await.expect(200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let change = async |permissions: &[&str]| {
        let body = json!({ "permissions": permissions });
        let path = format!("/roles/{role}");
        app.request(&tenant, Method::PATCH, &path, &[("If-Match", "*")], Some(&body)).await.expect(200);
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let may = async |path: &str| app.get_as(&staff.token, path).await.status.as_u16();
    assert_eq!((may("/bookings").await, may("/customers").await), (200, 403));
    change(&["customers:read:tenant"]).await;
    assert_eq!((may("/bookings").await, may("/customers").await), (403, 200));
    change(&["bookings:read:tenant", "customers:read:tenant"]).await;
    assert_eq!((may("/bookings").await, may("/customers").await), (200, 200));
    let own = app.get_as(&staff.token, "/permissions").await.expect(200).body["own"].to_string();
    assert!(own.contains("customers:read:tenant"), "{own}");
    app.shut_down().await;
}
