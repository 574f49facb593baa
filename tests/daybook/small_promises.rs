//! Promises that are kept in one place each, and would be missed by nobody but whom they were made to.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use daybook::config::SettingsPatch;
use daybook_domain::permission::Tier;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    people::{PASSWORD, refresh_cookie},
    process::Host,
};

async fn start() -> TestApp {
    let patch = SettingsPatch { login_limit_per_minute: Some(1_000), ..SettingsPatch::default() };
    TestApp::start_with(patch).await
}

/// A booking by a guest, and the path to it.
async fn booked(app: &TestApp, tenant: &TestTenant, offering: Uuid, day: NaiveDate) -> (Answer, String) {
    let body = json!({
        "offering_id": offering, "check_in": day, "check_out": day + Days::new(2),
        "customer": {"name": "Grace", "email": "grace@example.org"},
    });
    let request = app.client.post(app.url("/public/bookings")).header("X-Tenant-Slug", &tenant.slug);
    let booked = read(request.json(&body)).await.expect(201);
    let path = format!("/public/bookings/{}", booked.text("id"));
    (booked, path)
}

async fn as_guest(
    app: &TestApp,
    booked: &Answer,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let request =
        app.client.request(method, app.url(path)).header("X-Guest-Token", booked.text("guest_token"));
    read(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

async fn today(app: &TestApp) -> NaiveDate {
    sqlx::query_scalar("SELECT (now() AT TIME ZONE 'Europe/Brussels')::date")
        .fetch_one(app.store.database().owner())
        .await
        .unwrap()
}

#[tokio::test]
async fn metrics_name_no_tenant_and_nobody() {
    let app = start().await;
    let tenant = app.tenant("metrics-canary").await;
    let ada = app.person(&tenant, "metrics-canary@example.org", Tier::TenantOwner).await;
    app.post(&tenant, "/customers", &json!({"name": "metrics-canary"})).await.expect(201);
    app.get(&tenant, &format!("/customers/{}", tenant.id)).await.expect(404);
    app.get(&tenant, "/customers?name=metrics-canary").await.expect(422);
    app.get_as(&ada.token, "/metrics-canary").await.expect(404);
    let strange = Method::from_bytes(b"METRICS-CANARY").unwrap();
    app.request(&tenant, strange, "/customers", &[], None).await.expect(405);
    let metrics = read(app.client.get(format!("http://{}/metrics", app.address))).await.expect(200);
    let text = metrics.body.as_str().unwrap().to_lowercase();
    assert!(
        text.contains("route=\"/api/v1/customers/{id}\"") && text.contains("route=\"unmatched\""),
        "{text}"
    );
    let ids = [tenant.id.0, tenant.token_id.0, ada.id];
    let names = ids.iter().flat_map(|id| [id.to_string(), id.simple().to_string()]);
    for name in names.chain(["metrics-canary".to_owned(), "metrics_canary".to_owned()]) {
        assert!(!text.contains(&name), "{name} in {text}");
    }
    app.shut_down().await;
}

#[tokio::test]
async fn a_question_about_too_many_starts_is_refused() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let resources =
        join_all((0..20).map(|n| app.resource(&tenant, if n == 0 { "First" } else { "Room" }, 1)));
    let resources = resources.await;
    let body = json!({
        "name": "Call", "mode": "slot", "resource_ids": resources, "duration_minutes": 1, "price_per": "booking",
        "price": {"amount": 100, "currency": "EUR"},
    });
    let offering = id(&app.post(&tenant, "/offerings", &body).await.expect(201));
    let ask = async |rest: &str| {
        let path = format!("/public/availability?offering_id={offering}&from=2031-05-01{rest}");
        read(app.client.get(app.url(&path)).header("X-Tenant-Slug", "camp")).await
    };
    let one = format!("&resource_id={}", resources[0]);
    for rest in
        ["&to=2031-06-01", "&to=2031-05-02", &format!("&to=2031-06-01{one}"), &format!("&to=2031-06-02{one}")]
    {
        let refused = ask(rest).await.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["code"], "range_too_long", "{rest}: {}", refused.body);
        assert_eq!(refused.body["errors"][0]["pointer"], "?to", "{rest}");
    }
    let day = ask(&format!("&to=2031-05-02{one}")).await.expect(200);
    assert_eq!(day.body["resources"].as_array().unwrap().len(), 1);
    app.shut_down().await;
}

#[tokio::test]
async fn a_name_of_the_platforms_own_is_nobodys_at_sign_up() {
    let app = start().await;
    for slug in ["www", "api", "admin", "daybook"] {
        let body =
            json!({"tenant_name": "River", "slug": slug, "email": "ada@example.org", "password": PASSWORD});
        let refused = read(app.client.post(app.url("/signup")).json(&body)).await;
        let refused = refused.expect_problem(422, "validation_failed");
        let error = &refused.body["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!("/slug"), &json!("reserved")), "{slug}");
    }
    app.shut_down().await;
}

#[tokio::test]
async fn who_has_booked_keeps_their_link_when_the_public_pages_close() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    let (booked, path) = booked(&app, &tenant, offering, "2031-05-01".parse().unwrap()).await;
    let close = json!({"public_bookings": false});
    app.request(&tenant, Method::PATCH, "/settings", &[("If-Match", "*")], Some(&close)).await.expect(200);
    let again = json!({
        "offering_id": offering, "check_in": "2031-07-01", "check_out": "2031-07-02",
        "customer": {"name": "Grace", "email": "grace@example.org"},
    });
    let request = app.client.post(app.url("/public/bookings")).header("X-Tenant-Slug", "camp").json(&again);
    read(request).await.expect_problem(404, "not_found");
    let seen = as_guest(&app, &booked, Method::GET, &path, None).await.expect(200);
    assert_eq!(seen.body["status"], "confirmed");
    let moved = json!({"check_in": "2031-06-01", "check_out": "2031-06-02"});
    as_guest(&app, &booked, Method::POST, &format!("{path}/reschedule"), Some(&moved)).await.expect(200);
    let gone = as_guest(&app, &booked, Method::POST, &format!("{path}/cancel"), None).await.expect(200);
    assert_eq!(gone.body["status"], "cancelled");
    app.shut_down().await;
}

#[tokio::test]
async fn a_guest_does_not_move_a_booking_past_its_fee_and_staff_do() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let body = json!({
        "name": "Stay", "mode": "nights", "resource_ids": [unit], "price_per": "night",
        "price": {"amount": 5_000, "currency": "EUR"},
        "cancellation_policy": {"tiers": [{"hours_before": 30 * 24, "fee_percent": 80}]},
    });
    let offering = id(&app.post(&tenant, "/offerings", &body).await.expect(201));
    let soon = today(&app).await + Days::new(10);
    let (booking, path) = booked(&app, &tenant, offering, soon).await;
    let later = soon + Days::new(100);
    let moved = json!({"check_in": later, "check_out": later + Days::new(2)});
    let reschedule = format!("{path}/reschedule");
    let refused = as_guest(&app, &booking, Method::POST, &reschedule, Some(&moved)).await;
    refused.expect_problem(409, "wrong_state");
    let still = as_guest(&app, &booking, Method::GET, &path, None).await.expect(200);
    assert_eq!(still.body["check_in"], json!(soon), "nothing has moved");
    let staff =
        app.post(&tenant, &format!("/bookings/{}/reschedule", id(&booking)), &moved).await.expect(200);
    assert_eq!(staff.body["check_in"], json!(later));
    // By now cancelling costs nothing, so that the guest may move it again.
    let further = json!({"check_in": later + Days::new(5), "check_out": later + Days::new(7)});
    as_guest(&app, &booking, Method::POST, &reschedule, Some(&further)).await.expect(200);
    // What does cost is paid by whoever cancels.
    let (booking, path) = booked(&app, &tenant, offering, soon).await;
    let gone = as_guest(&app, &booking, Method::POST, &format!("{path}/cancel"), None).await.expect(200);
    assert_eq!(gone.body["fee"]["amount"], 8_000);
    app.shut_down().await;
}

#[tokio::test]
async fn a_page_of_one_tenant_signs_nobody_of_another_out() {
    let app = start().await;
    let (camp, hotel) = (app.tenant("camp").await, app.tenant("hotel").await);
    let ada = app.person(&camp, "ada@example.org", Tier::TenantOwner).await;
    let logout = async |slug: &str| {
        let request = app
            .client
            .post(app.url("/auth/logout"))
            .header("Content-Type", "application/json")
            .header("X-Tenant-Slug", slug)
            .header("Cookie", format!("__Host-daybook_refresh={}", ada.refresh));
        read(request).await
    };
    let refused = logout(&hotel.slug).await.expect_problem(403, "tenant_mismatch");
    assert_eq!(refused.header("set-cookie"), None, "the cookie stays where it is");
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect(200);
    let refreshed = app.refresh(&ada.refresh).await.expect(200);
    assert!(refresh_cookie(&refreshed).is_some());
    logout(&camp.slug).await.expect(204);
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_no_more_memory_than_it_uses() {
    let app = start().await;
    let server = Host::beside(&app, app.db.app_url.clone()).serve();
    // proc_pid_status(5): whether huge pages may be taken.
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let huge = status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).unwrap();
    assert_eq!(huge.trim(), "0");
    server.terminate();
    app.shut_down().await;
}

#[tokio::test]
async fn a_server_that_is_stopped_as_soon_as_it_listens_takes_its_postgres_along() {
    let host = Host::embedded();
    host.serve().terminate();
    assert!(!host.data.join("pg/postmaster.pid").exists());
}
