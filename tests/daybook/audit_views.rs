//! The views an auditor asks for: logins, changes of bookings, messages, errors; each with what was done in it, and nothing
//! of another tenant's.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use daybook::workers::{log_retention, projector};
use daybook_domain::permission::Tier;
use daybook_projections::request_errors::{self, RequestErrorFilter};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;
use uuid::Uuid;

use crate::support::{
    app::{TestApp, TestTenant, eventually, id, read},
    people::{PASSWORD, Person, generous},
};

const ADA: &str = "ada@example.org";
const WRONG: &str = "wrong-password";

struct House {
    app: TestApp,
    tenant: TestTenant,
    ada: Person,
}

impl House {
    async fn open() -> Self {
        let app = TestApp::start_with(generous()).await;
        let tenant = app.business("camp").await;
        let ada = app.person(&tenant, ADA, Tier::TenantOwner).await;
        Self { app, tenant, ada }
    }

    /// Everything of a view, page by page of so many; what was written until now is in it.
    async fn all(&self, view: &str, query: &str, limit: usize) -> Vec<Value> {
        let head = self.app.head(&self.tenant).await.to_string();
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/audit/{view}?limit={limit}{query}{cursor}");
            let request = self.app.client.get(self.app.url(&path)).bearer_auth(&self.ada.token);
            let page = read(request.header("X-Min-Position", &head)).await.expect(200);
            let some = page.body["items"].as_array().unwrap().clone();
            assert!(some.len() <= limit);
            items.extend(some);
            let Some(next) = page.body["next_cursor"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
    }

    async fn list(&self, view: &str, query: &str) -> Vec<Value> {
        self.all(view, query, 200).await
    }

    async fn written(&self) {
        self.app.state.access_log().finish().await;
    }

    async fn as_owner(&self, sql: &str) {
        let sql = self.tenant.schema().sql(sql);
        self.app.store.database().owner().execute(sql.as_str()).await.unwrap();
    }
}

fn column<'a>(items: &'a [Value], name: &str) -> Vec<&'a str> {
    items.iter().map(|item| item[name].as_str().unwrap_or("-")).collect()
}

fn times(items: &[Value]) -> i64 {
    items.iter().map(|item| item["times"].as_i64().unwrap()).sum()
}

/// The times of a list never rise, whichever member they are in.
fn assert_newest_first(items: &[Value], at: &str) {
    let times: Vec<DateTime<Utc>> =
        items.iter().map(|item| item[at].as_str().unwrap().parse().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "{times:?}");
}

#[tokio::test]
async fn logins_say_who_when_from_where_and_how_it_went() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    let other = app.tenant("hotel").await;
    let bob = app.account(Some(tenant), "bob@example.org", Tier::TenantStaff, None).await;
    let agent = |request: reqwest::RequestBuilder| request.header("User-Agent", "Browser/7");
    let login = |email: &'static str, password: &'static str| {
        let request = app.client.post(app.url("/auth/login")).header("X-Tenant-Slug", &tenant.slug);
        read(agent(request).json(&json!({"email": email, "password": password})))
    };
    login("bob@example.org", WRONG).await.expect(401);
    login("nobody@example.org", WRONG).await.expect(401);
    let in_bob = login("bob@example.org", PASSWORD).await.expect(200).text("access_token");
    let change = json!({"current_password": PASSWORD, "new_password": "meadow-lantern-nine"});
    app.post_as(&in_bob, "/auth/password/change", &change).await.expect(204);
    app.with_token(&in_bob, Method::POST, "/auth/logout", None).await.expect(204);
    app.anonymous_at(tenant, "/auth/otp", &json!({"email": ADA})).await.expect(202);
    app.letter(ADA, 0).await;
    let wrong = json!({"email": ADA, "code": "000000", "new_password": "meadow-lantern-nine"});
    app.anonymous_at(tenant, "/auth/otp/confirm", &wrong).await.expect(422);
    house.written().await;

    let all = house.list("logins", "").await;
    let mut seen: Vec<(&str, &str, &str)> = all
        .iter()
        .map(|item| {
            let text = |name: &str| item[name].as_str().unwrap_or("-");
            (text("kind"), text("outcome"), text("how"))
        })
        .collect();
    assert_newest_first(&all, "at");
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            ("password_change", "succeeded", "-"),
            ("password_reset", "failed", "-"),
            ("reset_request", "succeeded", "code"),
            ("sign_in", "failed", "-"),
            ("sign_in", "failed", "-"),
            ("sign_in", "succeeded", "password"),
            ("sign_in", "succeeded", "password"),
            ("sign_out", "succeeded", "logout"),
        ]
    );
    assert!(all.iter().all(|item| item["ip"] == "127.0.0.1" && item["request_id"].is_string()));
    assert!(!Value::from(all.clone()).to_string().contains("nobody@"));

    // Page by page it is the same, however small the pages.
    for limit in [1, 3] {
        assert_eq!(house.all("logins", "", limit).await, all);
    }
    let bobs = house.list("logins", &format!("&user_id={bob}")).await;
    assert_eq!(column(&bobs, "kind"), ["sign_out", "password_change", "sign_in", "sign_in"]);
    assert_eq!(column(&bobs, "outcome")[2..], ["succeeded", "failed"]);
    assert!(bobs[2..].iter().all(|item| item["user_agent"] == "Browser/7"), "{bobs:?}");
    assert_eq!(bobs[2]["actor"], format!("user:{bob}"));
    let failed = house.list("logins", "&outcome=failed&kind=sign_in").await;
    assert_eq!(failed.len(), 2);
    assert_eq!((&failed[0]["user_id"], &failed[0]["position"]), (&Value::Null, &Value::Null));
    assert_eq!(house.list("logins", "&ip=127.0.0.1").await.len(), all.len());
    assert_eq!(house.list("logins", "&ip=203.0.113.7").await, [Value::Null; 0]);
    let newest = all[0]["at"].as_str().unwrap();
    assert_eq!(house.list("logins", &format!("&from={newest}")).await.len(), 1);
    assert_eq!(house.list("logins", &format!("&to={newest}")).await.len(), all.len() - 1);
    for wrong in ["kind=booking", "outcome=ok", "ip=here", "from=yesterday", "nobody=1"] {
        app.get_as(&house.ada.token, &format!("/audit/logins?{wrong}"))
            .await
            .expect_problem(422, "validation_failed");
    }

    assert_eq!(app.get(&other, "/audit/logins").await.expect(200).body["items"], json!([]));
    let staff = app.person(tenant, "staff@example.org", Tier::TenantStaff).await;
    for view in ["logins", "booking-changes", "messages", "errors"] {
        app.get_as(&staff.token, &format!("/audit/{view}")).await.expect_problem(403, "forbidden");
    }
    let report = projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    house.app.shut_down().await;
}

#[tokio::test]
async fn a_flood_of_failed_sign_ins_is_a_few_rows_that_count_every_one() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    let tries = join_all((0..120).map(|_| app.login(Some(tenant), ADA, WRONG))).await;
    let of = |status: u16| tries.iter().filter(|answer| answer.status == status).count() as i64;
    assert_eq!((of(401), of(429)), (5, 115));
    // Accounts that there are not are told apart by address only, which is one here.
    join_all((0..15).map(|n| {
        let email = format!("nobody{n}@example.org");
        async move { app.login(Some(tenant), &email, WRONG).await.expect(401) }
    }))
    .await;
    house.written().await;
    let locked = house.list("logins", "&outcome=locked_out").await;
    let failed = house.list("logins", "&outcome=failed").await;
    assert_eq!((times(&locked), times(&failed)), (115, 20));
    assert!(locked.len() <= 6 && failed.len() <= 11, "{} {}", locked.len(), failed.len());
    assert!(locked.iter().all(|item| item["user_id"] == house.ada.id.to_string()));
    let errors = house.list("errors", "&code=rate_limited").await;
    assert_eq!(times(&errors), 115);
    assert!(errors.len() <= 6);

    // What is written down stays: the schema's own role takes nothing back.
    for log in ["refused_logins", "request_errors"] {
        for sql in [format!("DELETE FROM {log}"), format!("UPDATE {log} SET times = 1")] {
            let write = daybook::tenancy::Access::Write;
            let database = app.store.database().app();
            let mut tx = daybook::tenancy::TenantTx::begin(database, &tenant.schema(), write).await.unwrap();
            assert!(sqlx::query(&sql).execute(&mut *tx).await.is_err(), "{sql}");
        }
    }
    house.app.shut_down().await;
}

#[tokio::test]
async fn errors_are_listed_without_what_was_asked() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    let other = app.tenant("hotel").await;
    let unit = app.resource(tenant, "Lodge", 1).await;
    let offering = app.nights_offering(tenant, &[unit]).await;
    let customer = app.customer(tenant, "Grace Hopper").await;
    let stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
    app.post(tenant, "/bookings", &stay).await.expect(201);
    app.post(tenant, "/bookings", &stay).await.expect_problem(409, "slot_taken");
    app.post(tenant, "/customers", &json!({"name": ""})).await.expect(422);
    app.get(tenant, &format!("/bookings/{}?secret=canary", Uuid::nil())).await;
    app.get(tenant, &format!("/bookings/{}", Uuid::nil())).await.expect(404);
    app.get(tenant, "/me").await.expect(403);
    app.login(Some(tenant), "canary@example.org", WRONG).await.expect(401);
    // Nobody's: it names no tenant.
    app.get_as("ck_nothing", "/bookings").await.expect(401);
    let ahead = app.client.get(app.url("/bookings")).bearer_auth(&house.ada.token);
    read(ahead.header("X-Min-Position", "999999")).await.expect(503);
    house.written().await;

    let all = house.list("errors", "").await;
    assert_newest_first(&all, "at");
    let mut seen: Vec<(i64, &str, &str)> = all
        .iter()
        .map(|item| {
            let text = |name: &str| item[name].as_str().unwrap();
            (item["status"].as_i64().unwrap(), text("code"), text("route"))
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            (401, "unauthenticated", "/api/v1/auth/login"),
            (403, "forbidden", "/api/v1/me"),
            (409, "slot_taken", "/api/v1/bookings"),
            (422, "validation_failed", "/api/v1/bookings/{id}"),
            (422, "validation_failed", "/api/v1/customers"),
            (503, "unavailable", "/api/v1/bookings"),
        ]
    );
    let text = Value::from(all.clone()).to_string();
    assert!(!text.contains("canary") && !text.contains(&Uuid::nil().to_string()), "{text}");
    for limit in [1, 4] {
        assert_eq!(house.all("errors", "", limit).await, all);
    }
    let key = format!("key:{}", tenant.token_id);
    assert_eq!(house.list("errors", &format!("&actor={key}")).await.len(), 4);
    let failed = house.list("errors", "&status=503").await;
    assert_eq!(column(&failed, "actor"), [format!("user:{}", house.ada.id)]);
    let taken = house.list("errors", "&code=slot_taken").await;
    assert_eq!((column(&taken, "method"), column(&taken, "actor")), (vec!["POST"], vec![key.as_str()]));
    assert_eq!(column(&house.list("errors", "&status=401").await, "actor"), ["-"]);
    assert_eq!(app.get(&other, "/audit/errors").await.expect(200).body["items"], json!([]));
    app.get_as(&house.ada.token, "/audit/errors?status=200").await.expect_problem(422, "validation_failed");
    house.app.shut_down().await;
}

#[tokio::test]
async fn changes_of_bookings_are_found_by_booking_resource_actor_kind_and_time() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    let other = app.tenant("hotel").await;
    let (lodge, tent) = (app.resource(tenant, "Lodge", 1).await, app.resource(tenant, "Tent", 1).await);
    let offering = app.nights_offering(tenant, &[lodge, tent]).await;
    let customer = app.customer(tenant, "Grace Hopper").await;
    let on = |resource: Uuid| {
        let mut stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
        stay["resource_id"] = json!(resource);
        stay
    };
    let first = id(&app.post(tenant, "/bookings", &on(lodge)).await.expect(201));
    let second = id(&app.post_as(&house.ada.token, "/bookings", &on(tent)).await.expect(201));
    let path = format!("/bookings/{second}");
    app.post_as(&house.ada.token, &format!("{path}/cancel"), &json!({"reason": "rain"})).await.expect(200);
    // The first one moves to where the second was.
    let moves = json!({"resource_id": tent, "reason": "quieter"});
    app.post(tenant, &format!("/bookings/{first}/reassign"), &moves).await.expect(200);

    let all = house.list("booking-changes", "").await;
    assert_eq!(
        column(&all, "kind"),
        ["booking.reassigned", "booking.cancelled", "booking.booked", "booking.booked"]
    );
    assert_eq!((&all[0]["resource_id"], &all[0]["left_resource_id"]), (&json!(tent), &json!(lodge)));
    assert_eq!((&all[1]["resource_id"], &all[1]["left_resource_id"]), (&json!(tent), &Value::Null));
    assert_eq!((&all[1]["reason"], &all[1]["source"]), (&json!("rain"), &json!("api")));
    assert!(all[1]["changes"].as_array().unwrap().iter().any(|change| change["path"] == "/status"));
    for limit in [1, 3] {
        assert_eq!(house.all("booking-changes", "", limit).await, all);
        let of_tent = format!("&resource_id={tent}");
        assert_eq!(house.all("booking-changes", &of_tent, limit).await, all[..3]);
    }
    let found = async |query: String| house.list("booking-changes", &query).await;
    assert_eq!(found(format!("&booking_id={second}")).await, all[1..3]);
    let of_lodge = found(format!("&resource_id={lodge}")).await;
    assert_eq!(column(&of_lodge, "kind"), ["booking.reassigned", "booking.booked"]);
    assert_eq!(found(format!("&actor=user:{}", house.ada.id)).await, all[1..3]);
    assert_eq!(found("&kind=booking.cancelled".into()).await, all[1..2]);
    let cancelled = all[1]["recorded_at"].as_str().unwrap();
    assert_eq!(found(format!("&from={cancelled}")).await, all[..2]);
    assert_eq!(found(format!("&to={cancelled}")).await, all[2..]);
    let both = format!("&actor=user:{}&resource_id={tent}&kind=booking.booked&to={cancelled}", house.ada.id);
    assert_eq!(found(both).await, all[2..3]);
    for query in ["", &format!("?booking_id={first}"), &format!("?resource_id={tent}")] {
        let theirs = app.get(&other, &format!("/audit/booking-changes{query}")).await.expect(200);
        assert_eq!(theirs.body["items"], json!([]));
    }

    // Rows from before they said where a booking was are filled by the migration as a replay has them.
    let migration = include_str!("../../migrations/tenant/20261121000050_audit_views.sql");
    let fills = &migration[migration.find("UPDATE booking_history").unwrap()..];
    let fills = &fills[..=fills.find(';').unwrap()];
    let sql = format!(
        "SET LOCAL search_path = {{s}}; UPDATE booking_history SET resource_id = NULL, left_resource_id = NULL; {fills}"
    );
    house.as_owner(&format!("DO $$ BEGIN {sql} END $$")).await;
    let report = projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    house.app.shut_down().await;
}

#[tokio::test]
async fn a_walk_misses_nothing_that_was_there_and_sees_nothing_twice_while_others_write() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    let pool = app.resource(tenant, "Pitches", 1_000).await;
    let offering = app.nights_offering(tenant, &[pool]).await;
    let customer = app.customer(tenant, "Grace Hopper").await;
    let write = async |count: usize| {
        let stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
        for _ in 0..count {
            app.post(tenant, "/bookings", &stay).await.expect(201);
            app.post(tenant, "/customers", &json!({"name": ""})).await.expect(422);
            app.state.access_log().flush().await;
        }
    };
    write(25).await;
    house.written().await;
    for (view, key) in [("booking-changes", "position"), ("errors", "request_id"), ("logins", "request_id")] {
        let keys = |items: &[Value]| items.iter().map(|item| item[key].to_string()).collect::<Vec<_>>();
        let before = keys(&house.list(view, "").await);
        let (walked, ()) = tokio::join!(house.all(view, "", 2), write(8));
        let walked = keys(&walked);
        let once: HashSet<&String> = walked.iter().collect();
        assert_eq!(once.len(), walked.len(), "{view}: something was listed twice");
        assert!(before.iter().all(|key| once.contains(key)), "{view}: something was passed over");
    }
    house.app.shut_down().await;
}

#[tokio::test]
async fn messages_are_listed_with_whom_they_went_to_which_the_database_alone_does_not_tell() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    let other = app.tenant("hotel").await;
    for name in ["bob", "carla"] {
        let invited = json!({"email": format!("{name}@example.org"), "name": name, "role": "tenant_staff"});
        app.post_as(&house.ada.token, "/invitations", &invited).await.expect(201);
        app.letter(&format!("{name}@example.org"), 0).await;
    }
    let change = json!({"current_password": PASSWORD, "new_password": "meadow-lantern-nine"});
    app.post_as(&house.ada.token, "/auth/password/change", &change).await.expect(204);
    app.letter(ADA, 0).await;
    eventually("all are sent", Duration::from_secs(5), async || {
        house.list("messages", "&status=sent").await.len() == 3
    })
    .await;
    let all = house.list("messages", "").await;
    assert_newest_first(&all, "queued_at");
    assert_eq!(column(&all, "recipient"), [ADA, "carla@example.org", "bob@example.org"]);
    assert_eq!(column(&all, "kind"), ["password_changed", "invitation", "invitation"]);
    assert!(
        all.iter()
            .all(|item| item["attempts"] == 1 && item["sent_at"].is_string() && item["error"].is_null())
    );
    assert_eq!(house.all("messages", "", 1).await, all);
    assert_eq!(house.list("messages", "&kind=invitation").await, all[1..]);
    assert_eq!(house.list("messages", &format!("&user_id={}", house.ada.id)).await, all[..1]);
    assert_eq!(house.list("messages", "&status=failed").await, [Value::Null; 0]);
    let first = all[2]["queued_at"].as_str().unwrap();
    assert_eq!(house.list("messages", &format!("&from={first}")).await.len(), 3);
    assert_eq!(house.list("messages", &format!("&to={first}")).await, [Value::Null; 0]);
    assert_eq!(app.get(&other, "/audit/messages").await.expect(200).body["items"], json!([]));

    let rows = async || -> Vec<String> {
        let sql = tenant.schema().sql("SELECT row_to_json(m)::text FROM {s}.messages m ORDER BY created_at");
        sqlx::query_scalar(&sql).fetch_all(app.store.database().owner()).await.unwrap()
    };
    assert!(rows().await.iter().all(|row| !row.contains("example.org")));
    // Moved to another letter, an address does not open.
    house
        .as_owner(
            "UPDATE {s}.messages m SET sealed_recipient = o.sealed_recipient FROM {s}.messages o
             WHERE m.kind = 'password_changed' AND o.recipient_hash <> m.recipient_hash",
        )
        .await;
    assert_eq!(house.list("messages", "&kind=password_changed").await[0]["recipient"], Value::Null);
    // One from before addresses were sealed is shown, and sealed by the next round.
    house
        .as_owner(
            "UPDATE {s}.messages SET recipient = 'ada@example.org', sealed_recipient = NULL, recipient_hash = NULL
             WHERE kind = 'password_changed'",
        )
        .await;
    let now = daybook::clock::now();
    assert_eq!(house.list("messages", "&kind=password_changed").await[0]["recipient"], ADA);
    assert_eq!(log_retention::messages(&app.store, now).await.unwrap(), 0);
    assert!(rows().await.iter().all(|row| !row.contains("example.org")));
    assert_eq!(house.list("messages", "&kind=password_changed").await[0]["recipient"], ADA);

    // Past what the plan keeps they go, but for what is still on its way.
    house.as_owner("UPDATE {s}.messages SET status = 'queued', sealed_body = 'x', sent_at = NULL, next_attempt_at = 'infinity' WHERE kind = 'password_changed'").await;
    let kept = TimeDelta::days(1_096);
    let at: DateTime<Utc> = first.parse().unwrap();
    assert_eq!(log_retention::messages(&app.store, at + kept).await.unwrap(), 0);
    assert_eq!(log_retention::messages(&app.store, at + kept + TimeDelta::microseconds(1)).await.unwrap(), 1);
    assert_eq!(log_retention::messages(&app.store, at + kept + TimeDelta::days(1)).await.unwrap(), 1);
    assert_eq!(rows().await.len(), 1);
    house.app.shut_down().await;
}

#[tokio::test]
async fn whom_it_is_about_is_told_to_whoever_may_read_that_anyway() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    let unit = app.resource(tenant, "Lodge", 1).await;
    let offering = app.nights_offering(tenant, &[unit]).await;
    let customer = app.customer(tenant, "Grace Hopper").await;
    let mut stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
    stay["notes"] = json!("Canary, late");
    let booking = id(&app.post(tenant, "/bookings", &stay).await.expect(201));
    let path = format!("/bookings/{booking}/cancel");
    app.post(tenant, &path, &json!({"reason": "rain"})).await.expect(200);
    let invited = json!({"email": "canary@example.org", "name": "Bob", "role": "tenant_staff"});
    app.post_as(&house.ada.token, "/invitations", &invited).await.expect(201);
    assert_eq!(house.list("booking-changes", "").await.len(), 2);
    for (also, notes, recipient) in [
        (None, "[personal]", "[personal]"),
        (Some("bookings:read:tenant"), "Canary, late", "[personal]"),
        (Some("users:read:tenant"), "[personal]", "canary@example.org"),
    ] {
        let permissions: Vec<&str> = ["audit:read:tenant"].into_iter().chain(also).collect();
        let body = json!({"name": "SIEM", "permissions": permissions});
        let key = app.post_as(&house.ada.token, "/api-keys", &body).await.expect(201).text("key");
        let changes = app.get_as(&key, "/audit/booking-changes").await.expect(200).body;
        let booked = &changes["items"][1];
        let of = |path: &str| {
            let changes = booked["changes"].as_array().unwrap();
            changes.iter().find(|change| change["path"] == path).unwrap().clone()
        };
        assert_eq!(of("/notes"), json!({"path": "/notes", "old": null, "new": notes}), "{also:?}");
        // What names nobody is told, as are words that are in the log itself.
        assert_eq!(of("/status")["new"], "confirmed");
        assert_eq!(changes["items"][0]["reason"], "rain");
        let messages = app.get_as(&key, "/audit/messages").await.expect(200).body;
        assert_eq!(messages["items"][0]["recipient"], recipient, "{also:?}");
    }
    house.app.shut_down().await;
}

#[tokio::test]
async fn what_the_plan_does_not_keep_is_not_shown_and_its_months_are_dropped() {
    let house = House::open().await;
    let (app, tenant) = (&house.app, &house.tenant);
    app.get(tenant, "/me").await.expect(403);
    app.login(Some(tenant), ADA, WRONG).await.expect(401);
    house.written().await;
    let (errors, logins) = (house.list("errors", "").await.len(), house.list("logins", "").await.len());
    // Three years and a minute ago, and a minute less.
    for (log, columns, values) in [
        ("request_errors", "method, route, status, code, times", "'GET', '/x', 503, 'unavailable', 1"),
        ("refused_logins", "kind, outcome, times", "'sign_in', 'failed', 1"),
    ] {
        house
            .as_owner(&format!(
                "CREATE TABLE {{s}}.{log}_200001 PARTITION OF {{s}}.{log} FOR VALUES FROM ('2000-01-01')
                     TO (date_trunc('month', now() - interval '4 months'));
                 INSERT INTO {{s}}.{log} (at, request_id, {columns})
                 SELECT now() - interval '1096 days' + n * interval '1 minute', gen_random_uuid(), {values}
                 FROM generate_series(-1, 1, 2) n"
            ))
            .await;
    }
    house.as_owner("UPDATE {s}.login_events SET recorded_at = now() - interval '1096 days 1 minute' WHERE position = (SELECT min(position) FROM {s}.login_events)").await;
    assert_eq!(house.list("errors", "").await.len(), errors + 1);
    assert_eq!(house.list("logins", "").await.len(), logins);
    assert_eq!(house.list("errors", "&from=2001-01-01").await.len(), errors + 1);

    // To the microsecond: what is at the cut is in, what is before it is out.
    let at = daybook::clock::now() - TimeDelta::days(500);
    house
        .as_owner(&format!(
            "INSERT INTO {{s}}.request_errors (at, request_id, method, route, status, code, times)
             VALUES ('{}', gen_random_uuid(), 'GET', '/cut', 503, 'cut', 1)",
            at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
        ))
        .await;
    let at = DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap();
    let database = app.store.database();
    for (from, found) in [(at, 1), (at + TimeDelta::microseconds(1), 0), (at - TimeDelta::microseconds(1), 1)]
    {
        let read = daybook::tenancy::Access::Read;
        let mut tx = daybook::tenancy::TenantTx::begin(database.app(), &tenant.schema(), read).await.unwrap();
        let filter = RequestErrorFilter {
            code: Some("cut".into()),
            from: Some(from),
            ..RequestErrorFilter::default()
        };
        assert_eq!(request_errors::page(&mut tx, &filter, None, 10).await.unwrap().len(), found);
    }
    let months = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
                   WHERE c.relnamespace = $1::text::regnamespace AND c.relname IN ('refused_logins', 'request_errors')
                     AND c.relkind = 'p'";
        sqlx::query_scalar(sql).bind(tenant.schema().name()).fetch_one(database.owner()).await.unwrap()
    };
    assert_eq!(months().await, 4);
    let now = daybook::clock::now();
    // What is called after the first month of this century was over long ago.
    assert_eq!(log_retention::drop_expired(database, now).await.unwrap(), 2);
    assert_eq!(months().await, 2);
    // This month, of the calls as well.
    let later = now + TimeDelta::days(1_096 + 32);
    assert_eq!(log_retention::drop_expired(database, later).await.unwrap(), 3);
    assert_eq!(months().await, 0);
    house.app.shut_down().await;
}
