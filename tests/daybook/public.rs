//! What guests and booking sites do without an account, and what they cannot.

use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook::{
    auth::link::{self, Purpose},
    config::SettingsPatch,
};
use daybook_domain::tenant::TenantCommand;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::{Answer, TestApp, TestTenant, id, read};

/// A call without credentials.
pub async fn call(
    app: &TestApp,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut request = app.client.request(method, app.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    read(request).await
}

fn stay(offering: Uuid, check_in: &str, check_out: &str) -> Value {
    json!({
        "offering_id": offering, "check_in": check_in, "check_out": check_out, "guests": 2, "notes": "late",
        "customer": {"name": "Grace Hopper", "email": "grace@example.org", "phone": "+32 470 00 00 00"},
    })
}

async fn book(app: &TestApp, tenant: &TestTenant, body: &Value) -> Answer {
    call(app, Method::POST, "/public/bookings", &[("X-Tenant-Slug", &tenant.slug)], Some(body)).await
}

async fn free(app: &TestApp, slug: &str, offering: Uuid) -> Answer {
    let path = format!("/public/availability?offering_id={offering}&from=2031-05-01&to=2031-05-04");
    call(app, Method::GET, &path, &[("X-Tenant-Slug", slug)], None).await
}

/// A link as the server signs them.
fn forged(app: &TestApp, purpose: Purpose, tenant: Uuid, booking: Uuid, until: DateTime<Utc>) -> String {
    let payload = json!({"tenant": tenant, "booking": booking});
    link::sign(&app.keys, purpose, &payload, until).unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn a_guest_books_sees_moves_and_cancels_by_their_link() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    let answer = free(&app, "camp", offering).await.expect(200);
    assert_eq!(answer.body["resources"][0]["nights"][0]["free"], 1);
    assert!(answer.header("ratelimit").unwrap().starts_with("\"public_availability\";r=59;"));

    let body = stay(offering, "2031-05-01", "2031-05-03");
    let headers = [("X-Tenant-Slug", "camp"), ("Idempotency-Key", "once")];
    let booked = call(&app, Method::POST, "/public/bookings", &headers, Some(&body)).await.expect(201);
    let again = call(&app, Method::POST, "/public/bookings", &headers, Some(&body)).await.expect(201);
    assert_eq!((again.header("idempotent-replayed"), id(&again)), (Some("true"), id(&booked)));
    for hidden in ["customer_id", "notes", "customer", "unit"] {
        assert!(booked.body.get(hidden).is_none(), "{}", booked.body);
    }
    assert!(booked.header("ratelimit").unwrap().starts_with("\"public_bookings\";r=29;"));
    let path = format!("/public/bookings/{}", id(&booked));
    assert_eq!(booked.header("location"), Some(format!("/api/v1{path}").as_str()));
    let token = booked.text("guest_token");

    // The link says whose tenant it is; the header or, for a page, the query has it.
    let link = [("X-Guest-Token", token.as_str())];
    let seen = call(&app, Method::GET, &path, &link, None).await.expect(200);
    assert_eq!((&seen.body["status"], seen.header("etag")), (&json!("confirmed"), booked.header("etag")));
    call(&app, Method::GET, &format!("{path}?token={token}"), &[], None).await.expect(200);

    let refused = book(&app, &tenant, &body).await.expect_problem(409, "slot_taken");
    assert!(!refused.body["alternatives"].as_array().unwrap().is_empty());

    for wrong in [json!({"waive_fee": true, "reason": "please"}), json!({"status": "confirmed"})] {
        call(&app, Method::POST, &format!("{path}/cancel"), &link, Some(&wrong))
            .await
            .expect_problem(422, "validation_failed");
    }
    let moved = json!({"check_in": "2031-06-01", "check_out": "2031-06-02"});
    let elsewhere = json!({"check_in": "2031-06-01", "check_out": "2031-06-02", "resource_id": unit});
    let reschedule = format!("{path}/reschedule");
    call(&app, Method::POST, &reschedule, &link, Some(&elsewhere)).await.expect(422);
    let moved = call(&app, Method::POST, &reschedule, &link, Some(&moved)).await.expect(200);
    assert_eq!(moved.body["check_in"], "2031-06-01");
    let newer = moved.text("guest_token");
    let link = [("X-Guest-Token", newer.as_str())];
    let gone = call(&app, Method::POST, &format!("{path}/cancel"), &link, None).await.expect(200);
    assert_eq!(gone.body["status"], "cancelled");

    // The log says that a guest did it.
    let events = app.get(&tenant, &format!("/audit/streams/booking/{}", id(&booked))).await.expect(200);
    let events = events.body["items"].as_array().unwrap().clone();
    assert!(events.len() >= 3 && events.iter().all(|event| event["actor"] == "guest"));
    let customers = app.get(&tenant, "/customers").await.expect(200);
    assert_eq!(customers.body["items"].as_array().unwrap().len(), 1);
    app.shut_down().await;
}

#[tokio::test]
async fn a_link_opens_its_booking_only() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("hotel").await);
    let unit = app.resource(&tenant, "Cabin", 2).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    let body = stay(offering, "2031-05-01", "2031-05-03");
    let (mine, theirs) = (book(&app, &tenant, &body).await.expect(201), book(&app, &tenant, &body).await);
    let (mine, theirs) = ((id(&mine), mine.text("guest_token")), (id(&theirs), theirs.text("guest_token")));
    let (now, later) = (daybook::clock::now(), daybook::clock::now() + chrono::TimeDelta::days(1));
    let (here, there) = (tenant.id.0, other.id.0);
    let path = format!("/public/bookings/{}", mine.0);
    let cases = [
        (None, 401),
        (Some("x.y.z".to_owned()), 401),
        (Some(theirs.1), 404),
        (Some(forged(&app, Purpose::Invitation, here, mine.0, later)), 401),
        (Some(forged(&app, Purpose::GuestBooking, here, mine.0, now)), 401),
        (Some(forged(&app, Purpose::GuestBooking, there, mine.0, later)), 404),
        (Some(forged(&app, Purpose::GuestBooking, Uuid::now_v7(), mine.0, later)), 404),
    ];
    for (token, status) in cases {
        for (method, at) in [
            (Method::GET, path.clone()),
            (Method::POST, format!("{path}/cancel")),
            (Method::POST, format!("{path}/reschedule")),
        ] {
            let headers: Vec<(&str, &str)> =
                token.iter().map(|token| ("X-Guest-Token", token.as_str())).collect();
            let body = json!({"check_in": "2031-06-01", "check_out": "2031-06-02"});
            let body = at.ends_with("reschedule").then_some(&body);
            call(&app, method.clone(), &at, &headers, body).await.expect(status);
        }
    }
    // The right link, at another tenant's.
    let headers = [("X-Guest-Token", mine.1.as_str()), ("X-Tenant-Slug", "hotel")];
    call(&app, Method::GET, &path, &headers, None).await.expect_problem(404, "not_found");
    // In the query a link only reads.
    call(&app, Method::POST, &format!("{path}/cancel?token={}", mine.1), &[], None).await.expect(401);
    let still = app.get(&tenant, &format!("/bookings/{}", mine.0)).await.expect(200);
    assert_eq!(still.body["status"], "confirmed");
    app.shut_down().await;
}

#[tokio::test]
async fn the_tenant_is_named_by_key_or_slug_and_by_nothing_else() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    app.tenant("hotel").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    free(&app, "nowhere", offering).await.expect_problem(404, "not_found");
    free(&app, "hotel", offering).await.expect_problem(404, "not_found");
    let path = format!("/public/availability?offering_id={offering}&from=2031-05-01&to=2031-05-04");
    call(&app, Method::GET, &path, &[], None).await.expect_problem(404, "not_found");
    app.get(&tenant, &path).await.expect(200);
    app.request(&tenant, Method::GET, &path, &[("X-Tenant-Slug", "hotel")], None)
        .await
        .expect_problem(403, "tenant_mismatch");
    let ada = app.person(&tenant, "ada@example.org", daybook_domain::permission::Tier::TenantOwner).await;
    app.get_as(&ada.token, &path).await.expect_problem(401, "unauthenticated");
    app.get_as("ck_00000000", &path).await.expect_problem(401, "unauthenticated");
    // A key may do here what it may do.
    let key = json!({"name": "Site", "permissions": ["availability:read:tenant"]});
    let key = app.post_as(&ada.token, "/api-keys", &key).await.expect(201).text("key");
    app.get_as(&key, &path).await.expect(200);
    let body = stay(offering, "2031-05-01", "2031-05-03");
    app.post_as(&key, "/public/bookings", &body).await.expect_problem(403, "forbidden");
    let booked = app.post(&tenant, "/public/bookings", &body).await.expect(201);
    let history = app.get(&tenant, &format!("/audit/streams/booking/{}", id(&booked))).await.expect(200);
    assert_eq!(history.body["items"][0]["actor"], format!("key:{}", tenant.token_id.0));

    // What is not offered any more is not there.
    let delete = format!("/offerings/{offering}");
    app.request(&tenant, Method::DELETE, &delete, &[("If-Match", "*")], None).await.expect(204);
    free(&app, "camp", offering).await.expect_problem(404, "not_found");
    app.shut_down().await;
}

#[tokio::test]
async fn a_house_may_close_its_public_pages_and_a_tenant_that_is_off_has_none() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    let body = stay(offering, "2031-05-01", "2031-05-03");
    let booked = book(&app, &tenant, &body).await.expect(201);
    let settings = json!({"public_bookings": false});
    app.request(&tenant, Method::PATCH, "/settings", &[("If-Match", "\"0\"")], Some(&settings))
        .await
        .expect(200);
    free(&app, "camp", offering).await.expect_problem(404, "not_found");
    book(&app, &tenant, &body).await.expect_problem(404, "not_found");
    let path = format!("/public/availability?offering_id={offering}&from=2031-05-01&to=2031-05-04");
    app.get(&tenant, &path).await.expect(200);
    let settings = json!({"public_bookings": true});
    app.request(&tenant, Method::PATCH, "/settings", &[("If-Match", "\"1\"")], Some(&settings))
        .await
        .expect(200);
    free(&app, "camp", offering).await.expect(200);

    app.admin.command(tenant.id, TenantCommand::Deactivate, &Default::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    free(&app, "camp", offering).await.expect_problem(404, "not_found");
    let token = booked.text("guest_token");
    let path = format!("/public/bookings/{}", id(&booked));
    call(&app, Method::GET, &path, &[("X-Guest-Token", &token)], None).await.expect_problem(404, "not_found");
    app.shut_down().await;
}

#[tokio::test]
async fn guests_ask_and_book_only_so_often() {
    let patch = SettingsPatch { public_bookings_limit_per_hour: Some(2), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 9).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    for _ in 0..60 {
        free(&app, "camp", offering).await.expect(200);
    }
    let refused = free(&app, "camp", offering).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"public_availability\";q=60;w=60"));
    let body = stay(offering, "2031-05-01", "2031-05-03");
    book(&app, &tenant, &body).await.expect(201);
    book(&app, &tenant, &body).await.expect(201);
    let refused = book(&app, &tenant, &body).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"public_bookings\";q=2;w=3600"));
    app.post(&tenant, "/public/bookings", &body).await.expect(201);
    app.shut_down().await;
}
