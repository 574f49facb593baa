//! Leads: what anybody may leave, what staff see and do, and what nobody else does.

use std::time::Duration;

use daybook::{config::SettingsPatch, workers::projector};
use daybook_domain::{CustomerId, permission::Tier, tenant::TenantCommand};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    public::call,
    support::app::{Answer, TestApp, TestTenant, id},
};

const MESSAGE: &str = "Is there room for a canary?";

fn grace() -> Value {
    json!({"name": "Grace Canary", "email": "grace@canary.example", "message": MESSAGE})
}

/// Leaves a lead as a visitor of a tenant's pages.
async fn leave(app: &TestApp, slug: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers = [&[("X-Tenant-Slug", slug)], headers].concat();
    call(app, Method::POST, "/public/leads", &headers, Some(body)).await
}

/// The ids of a list's page.
async fn listed(app: &TestApp, tenant: &TestTenant, query: &str) -> Vec<Uuid> {
    let page = app.get(tenant, &format!("/leads{query}")).await.expect(200);
    let items = page.body["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_visitor_leaves_a_lead_and_staff_see_and_handle_it() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    let mut body = grace();
    body["offering_id"] = json!(offering);
    let left = leave(&app, "camp", &[], &body).await.expect(201);
    assert_eq!(left.body, json!({"id": id(&left), "status": "new"}));
    assert_eq!(left.header("x-log-position"), Some(app.head(&tenant).await.to_string().as_str()));
    assert!(left.header("ratelimit").unwrap().starts_with("\"leads\";r=19;"));
    let by_phone = json!({"name": "Linus", "phone": "+32 470 00 00 00"});
    let other = id(&leave(&app, "camp", &[], &by_phone).await.expect(201));

    let staff = app.person(&tenant, "staff@example.org", Tier::TenantStaff).await;
    let path = format!("/leads/{}", id(&left));
    app.get_as(&staff.token, &path).await.expect_problem(403, "forbidden");
    app.post(&tenant, &format!("/users/{}/modules", staff.id), &json!({"modules": ["reception"]}))
        .await
        .expect(200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = app.get_as(&staff.token, &path).await.expect(200);
    for (member, value) in body.as_object().unwrap() {
        assert_eq!(&seen.body[member], value, "{member}");
    }
    assert_eq!((&seen.body["phone"], &seen.body["status"]), (&Value::Null, &json!("new")));
    assert_eq!(listed(&app, &tenant, "").await, [id(&left), other]);

    let handle = format!("{path}/handle");
    app.request(&tenant, Method::POST, &handle, &[("If-Match", "\"2\"")], None)
        .await
        .expect_problem(412, "version_conflict");
    let handled = app.post_as(&staff.token, &handle, &json!({"reason": "called back"})).await.expect(200);
    assert_eq!((&handled.body["status"], &handled.body["name"]), (&json!("handled"), &body["name"]));
    assert_eq!((&handled.body["version"], handled.header("etag")), (&json!(2), Some("\"2\"")));
    app.post(&tenant, &handle, &json!({})).await.expect_problem(409, "wrong_state");
    assert_eq!(listed(&app, &tenant, "?handled=true").await, [id(&left)]);
    assert_eq!(listed(&app, &tenant, "?handled=false").await, [other]);

    let first = app.get(&tenant, "/leads?limit=1").await.expect(200).text("next_cursor");
    assert_eq!(listed(&app, &tenant, &format!("?limit=1&cursor={first}")).await, [other]);
    app.get(&tenant, &format!("/leads?handled=true&cursor={first}")).await.expect_problem(400, "malformed");

    let history = app.get(&tenant, &format!("/audit/streams/lead/{}", id(&left))).await.expect(200);
    let by: Vec<(&Value, &Value)> = history.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (&event["actor"], &event["reason"]))
        .collect();
    let staff = json!(format!("user:{}", staff.id));
    assert_eq!(by, [(&json!("guest"), &Value::Null), (&staff, &json!("called back"))]);
    app.shut_down().await;
}

#[tokio::test]
async fn a_lead_that_cannot_be_answered_is_refused() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let head = app.head(&tenant).await;
    let with = |member: &str, value: Value| {
        let mut body = grace();
        body[member] = value;
        body
    };
    for (body, pointer) in [
        (json!({"name": "Grace"}), "/email"),
        (json!({"name": "Grace", "email": null, "phone": null, "message": "hello"}), "/email"),
        (json!({"email": "grace@canary.example"}), "/name"),
        (with("name", json!("  ")), "/name"),
        (with("email", json!("grace")), "/email"),
        (with("phone", json!("call me")), "/phone"),
        (with("message", json!("m".repeat(4_001))), "/message"),
        (with("message", json!("\u{7}")), "/message"),
        (with("offering_id", json!(Uuid::now_v7())), "/offering_id"),
        (with("handled", json!(true)), "/handled"),
        (with("status", json!("handled")), "/status"),
    ] {
        let refused = leave(&app, "camp", &[], &body).await.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{body}");
        assert!(!refused.body.to_string().contains("canary"), "{}", refused.body);
    }
    leave(&app, "camp", &[], &with("message", json!("\u{0}"))).await.expect_problem(400, "malformed");
    assert_eq!(app.head(&tenant).await, head);
    app.shut_down().await;
}

#[tokio::test]
async fn one_address_leaves_only_so_many() {
    let patch = SettingsPatch { leads_limit_per_hour: Some(2), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let (tenant, _) = (app.tenant("camp").await, app.tenant("hotel").await);
    leave(&app, "camp", &[("X-Forwarded-For", "203.0.113.1")], &grace()).await.expect(201);
    leave(&app, "hotel", &[("X-Forwarded-For", "203.0.113.2")], &grace()).await.expect(201);
    for address in ["203.0.113.3", "127.0.0.1", "2001:db8::1"] {
        let headers = [("X-Forwarded-For", address)];
        let refused = leave(&app, "camp", &headers, &grace()).await.expect_problem(429, "rate_limited");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"leads\";q=2;w=3600"));
        let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((3_500..=3_600).contains(&retry), "{retry}");
    }
    // The visitors of a booking site share its address; its key has a limit of its own.
    app.post(&tenant, "/public/leads", &grace()).await.expect(201);
    assert_eq!(listed(&app, &tenant, "").await.len(), 2);
    app.shut_down().await;
}

#[tokio::test]
async fn a_repeated_request_leaves_one_lead() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let key = [("Idempotency-Key", "once")];
    let left = leave(&app, "camp", &key, &grace()).await.expect(201);
    let again = leave(&app, "camp", &key, &grace()).await.expect(201);
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &left.body));
    let another = json!({"name": "Linus", "email": "linus@example.org"});
    leave(&app, "camp", &key, &another).await.expect_problem(422, "idempotency_key_reused");
    let path = format!("/leads/{}/handle", id(&left));
    for _ in 0..2 {
        app.post_keyed(&tenant, &path, "handled", &json!({})).await.expect(200);
    }
    // Also once it has been handled, the answer is what it was.
    assert_eq!(leave(&app, "camp", &key, &grace()).await.expect(201).body, left.body);
    assert_eq!(listed(&app, &tenant, "").await, [id(&left)]);
    app.shut_down().await;
}

#[tokio::test]
async fn a_lead_is_its_tenants_and_its_staffs() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("hotel").await);
    let lead = id(&leave(&app, "camp", &[], &grace()).await.expect(201));
    assert!(listed(&app, &other, "").await.is_empty());
    let (path, handle) = (format!("/leads/{lead}"), format!("/leads/{lead}/handle"));
    app.get(&other, &path).await.expect_problem(404, "not_found");
    app.post(&other, &handle, &json!({})).await.expect_problem(404, "not_found");

    let customer = CustomerId(app.customer(&tenant, "Ada").await);
    app.account(Some(&tenant), "ada@example.org", Tier::Customer, Some(customer)).await;
    let ada = app.sign_in(Some(&tenant), "ada@example.org").await;
    for path in ["/leads", path.as_str()] {
        app.get_as(&ada.token, path).await.expect_problem(403, "forbidden");
        call(&app, Method::GET, path, &[("X-Tenant-Slug", "camp")], None)
            .await
            .expect_problem(401, "unauthenticated");
    }
    app.post_as(&ada.token, &handle, &json!({})).await.expect_problem(403, "forbidden");

    // A key leaves leads where it may, and reads none for that.
    let owner = app.person(&tenant, "owner@example.org", Tier::TenantOwner).await;
    let key = async |permission: &str| {
        let body = json!({"name": "Site", "permissions": [permission]});
        app.post_as(&owner.token, "/api-keys", &body).await.expect(201).text("key")
    };
    let (site, another) = (key("leads:create:tenant").await, key("bookings:create:tenant").await);
    app.post_as(&site, "/public/leads", &grace()).await.expect(201);
    app.get_as(&site, "/leads").await.expect_problem(403, "forbidden");
    app.post_as(&another, "/public/leads", &grace()).await.expect_problem(403, "forbidden");
    app.shut_down().await;
}

#[tokio::test]
async fn a_house_without_public_bookings_takes_leads_and_a_tenant_that_is_off_takes_none() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let settings = json!({"public_bookings": false});
    app.request(&tenant, Method::PATCH, "/settings", &[("If-Match", "\"0\"")], Some(&settings))
        .await
        .expect(200);
    leave(&app, "camp", &[], &grace()).await.expect(201);
    leave(&app, "nowhere", &[], &grace()).await.expect_problem(404, "not_found");
    call(&app, Method::POST, "/public/leads", &[], Some(&grace())).await.expect_problem(404, "not_found");
    app.admin.command(tenant.id, TenantCommand::Deactivate, &Default::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    leave(&app, "camp", &[], &grace()).await.expect_problem(404, "not_found");
    app.shut_down().await;
}

#[tokio::test]
async fn who_asks_is_in_no_leaf_and_the_read_model_equals_a_replay() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let mut body = grace();
    body["phone"] = json!("+32 470 12 34 56");
    let lead = id(&leave(&app, "camp", &[("Idempotency-Key", "once")], &body).await.expect(201));
    app.post(&tenant, &format!("/leads/{lead}/handle"), &json!({})).await.expect(200);

    let events = app.get(&tenant, &format!("/audit/events?aggregate=lead:{lead}")).await.expect(200);
    let items = events.body["items"].as_array().unwrap();
    assert_eq!((&items[0]["type"], &items[1]["type"]), (&json!("lead.submitted"), &json!("lead.handled")));
    for personal in ["name", "email", "phone", "message"] {
        assert_eq!(items[0]["payload"][personal], "[personal]", "{personal}");
    }
    for (text, leaves) in [("lead.submitted", 1), ("anary", 0), ("470 12", 0)] {
        let sql = tenant.schema().sql("SELECT count(*) FROM {s}.events WHERE position($1 IN leaf) > 0");
        let found: i64 = sqlx::query_scalar(&sql)
            .bind(text.as_bytes())
            .fetch_one(app.store.database().owner())
            .await
            .unwrap();
        assert_eq!(found, leaves, "leaves with {text}");
    }
    // A key of its own: to erase it erases this lead.
    let sql = tenant.schema().sql("SELECT count(*) FROM {s}.subject_keys WHERE subject_id = $1");
    let keys: i64 =
        sqlx::query_scalar(&sql).bind(lead).fetch_one(app.store.database().owner()).await.unwrap();
    assert_eq!(keys, 1);

    let report = projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!(report.tables.iter().find(|table| table.table == "leads").unwrap().rows, 1);
    app.shut_down().await;
}
