//! The conventions every route keeps: problems, headers, versions, repeats, pages, positions.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::{Answer, TestApp, TestTenant, id, read};

async fn raw(app: &TestApp, method: Method, path: &str) -> Answer {
    read(app.client.request(method, format!("http://{}{path}", app.address))).await
}

async fn text(
    app: &TestApp,
    tenant: &TestTenant,
    path: &str,
    kind: &str,
    body: impl Into<reqwest::Body>,
) -> Answer {
    let url = format!("http://{}/api/v1{path}", app.address);
    read(app.client.post(url).bearer_auth(&tenant.token).header("content-type", kind).body(body)).await
}

fn assert_secured(answer: &Answer) {
    assert_eq!(
        answer.header("strict-transport-security"),
        Some("max-age=31536000; includeSubDomains; preload")
    );
    assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("referrer-policy"), Some("strict-origin-when-cross-origin"));
    assert_eq!(answer.header("permissions-policy"), Some("geolocation=(), microphone=(), camera=()"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let id: Uuid = answer.header("x-request-id").unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_security_headers() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(1_100_000));
    for (answer, status, code) in [
        (raw(&app, Method::GET, "/nowhere").await, 404, "not_found"),
        (raw(&app, Method::GET, "/api/v1/resources").await, 401, "unauthenticated"),
        (raw(&app, Method::DELETE, "/healthz").await, 405, "method_not_allowed"),
        (app.get(&tenant, "/resources/nonsense").await, 404, "not_found"),
        (app.get(&tenant, &format!("/resources/{}", Uuid::now_v7())).await, 404, "not_found"),
        (text(&app, &tenant, "/resources", "text/plain", "{}").await, 415, "unsupported_media_type"),
        (text(&app, &tenant, "/resources", "application/json", "{").await, 400, "malformed"),
        (
            text(&app, &tenant, "/resources", "application/json", "{\"name\": \"\\u0000\"}").await,
            400,
            "malformed",
        ),
        (text(&app, &tenant, "/resources", "application/json", large).await, 413, "too_large"),
        (app.post(&tenant, "/resources", &json!({})).await, 422, "validation_failed"),
        (app.get(&tenant, "/resources?limit=0").await, 422, "validation_failed"),
        (app.get(&tenant, "/resources?cursor=x").await, 400, "malformed"),
        (app.get(&tenant, "/resources?nonsense=x").await, 422, "validation_failed"),
    ] {
        assert_secured(&answer);
        let request_id = answer.header("x-request-id").unwrap().to_owned();
        let answer = answer.expect_problem(status, code);
        assert_eq!(answer.body["request_id"], request_id);
        assert_eq!(answer.body["status"], status);
        assert!(answer.body["type"].is_string() && answer.body["title"].is_string());
    }
    let allowed = raw(&app, Method::DELETE, "/healthz").await;
    assert!(allowed.header("allow").unwrap().contains("GET"));
    let unauthenticated = raw(&app, Method::GET, "/api/v1/resources").await;
    assert!(unauthenticated.header("www-authenticate").unwrap().starts_with("Bearer"));
    app.shut_down().await;
}

#[tokio::test]
async fn operations_need_no_credentials() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    app.get(&tenant, "/resources").await.expect(200);
    for path in ["/healthz", "/readyz"] {
        let answer = raw(&app, Method::GET, path).await.expect(200);
        assert_secured(&answer);
    }
    let metrics = raw(&app, Method::GET, "/metrics").await.expect(200);
    assert!(metrics.body.as_str().unwrap().contains("route=\"/api/v1/resources\""), "{}", metrics.body);
    let schema = raw(&app, Method::GET, "/api/schema/").await.expect(200);
    assert!(schema.text("openapi").starts_with("3.1"), "{}", schema.body["openapi"]);
    assert!(schema.body["paths"]["/api/v1/bookings/{id}/check-in"]["post"].is_object());
    assert!(schema.body["components"]["schemas"]["ProblemBody"].is_object());
    app.shut_down().await;
}

#[tokio::test]
async fn another_tenant_s_slug_or_things_are_out_of_reach() {
    let app = TestApp::start().await;
    let (one, other) = (app.tenant("one").await, app.tenant("other").await);
    let resource = app.resource(&one, "Pitch", 1).await;
    app.get(&other, &format!("/resources/{resource}")).await.expect_problem(404, "not_found");
    for slug in ["other", "unknown", "ONE"] {
        let answer = app.request(&one, Method::GET, "/resources", &[("X-Tenant-Slug", slug)], None).await;
        answer.expect_problem(403, "tenant_mismatch");
    }
    app.request(&one, Method::GET, "/resources", &[("X-Tenant-Slug", "one")], None).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn changes_need_the_version_they_are_made_on() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let path = format!("/resources/{}", app.resource(&tenant, "Pitches", 3).await);
    let change = json!({"capacity": 4});
    let patch = async |tag: Option<&str>| {
        let headers: Vec<_> = tag.map(|tag| ("If-Match", tag)).into_iter().collect();
        app.request(&tenant, Method::PATCH, &path, &headers, Some(&change)).await
    };
    patch(None).await.expect_problem(428, "precondition_required");
    patch(Some("\"9\"")).await.expect_problem(412, "version_conflict");
    patch(Some("nonsense")).await.expect_problem(400, "malformed");
    let changed = patch(Some("\"1\"")).await.expect(200);
    assert_eq!((changed.header("etag"), &changed.body["capacity"]), (Some("\"2\""), &json!(4)));
    assert!(changed.header("x-log-position").is_some());
    patch(Some("\"1\"")).await.expect_problem(412, "version_conflict");
    let read = app.get(&tenant, &path).await.expect(200);
    assert_eq!((read.header("etag"), &read.body["version"]), (Some("\"2\""), &json!(2)));
    let archived = app.request(&tenant, Method::DELETE, &path, &[("If-Match", "*")], None).await.expect(204);
    assert_eq!(archived.header("etag"), Some("\"3\""));
    assert_eq!(app.get(&tenant, &path).await.body["archived"], true);
    app.shut_down().await;
}

#[tokio::test]
async fn a_repeated_post_is_answered_and_not_done_again() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let body = json!({"name": "Pitch", "kind": "unit"});
    let first = app.post_keyed(&tenant, "/resources", "k1", &body).await.expect(201);
    let again = app.post_keyed(&tenant, "/resources", "k1", &body).await.expect(201);
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    assert_eq!(first.body, again.body);
    for name in ["etag", "location", "x-log-position"] {
        assert_eq!(first.header(name), again.header(name), "{name}");
    }
    let other = json!({"name": "Other", "kind": "unit"});
    app.post_keyed(&tenant, "/resources", "k1", &other).await.expect_problem(422, "idempotency_key_reused");
    app.post_keyed(&tenant, "/customers", "k1", &json!({"name": "Ada"})).await.expect(201);
    app.post_keyed(&tenant, "/resources", "", &body).await.expect_problem(400, "malformed");
    assert_eq!(app.get(&tenant, "/resources").await.body["items"].as_array().unwrap().len(), 1);
    app.shut_down().await;
}

#[tokio::test]
async fn pages_follow_each_other_under_one_filter() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("other").await);
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(app.resource(&tenant, &format!("Pitch {n}"), 1).await);
    }
    let mut seen: Vec<Uuid> = Vec::new();
    let mut path = "/resources?limit=2".to_owned();
    let mut cursor = Value::Null;
    loop {
        let page = app.get(&tenant, &path).await.expect(200);
        seen.extend(
            page.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| -> Uuid { item["id"].as_str().unwrap().parse().unwrap() }),
        );
        match page.body["next_cursor"].as_str() {
            None => break,
            Some(next) => path = format!("/resources?limit=2&cursor={next}"),
        }
        cursor = page.body["next_cursor"].clone();
    }
    assert_eq!(seen, made);
    let cursor = cursor.as_str().unwrap();
    app.get(&other, &format!("/resources?cursor={cursor}")).await.expect_problem(400, "malformed");
    app.get(&tenant, &format!("/resources?archived=false&cursor={cursor}"))
        .await
        .expect_problem(400, "malformed");
    app.get(&tenant, &format!("/customers?cursor={cursor}")).await.expect_problem(400, "malformed");
    app.shut_down().await;
}

#[tokio::test]
async fn a_read_waits_for_the_position_it_must_have_seen() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let resource = app.resource(&tenant, "Pitch", 1).await;
    let head = app.head(&tenant).await.to_string();
    let at = async |path: &str, position: &str| {
        app.request(&tenant, Method::GET, path, &[("X-Min-Position", position)], None).await
    };
    at(&format!("/resources/{resource}"), &head).await.expect(200);
    let calendar = at("/calendar?from=2026-05-01&to=2026-05-02", &head).await.expect(200);
    assert_eq!(calendar.body["items"][0]["resource_id"], resource.to_string());
    let behind = at("/resources", "999999").await.expect_problem(503, "unavailable");
    assert!(behind.header("retry-after").is_some());
    at("/resources", "-1").await.expect_problem(400, "malformed");
    app.shut_down().await;
}

#[tokio::test]
async fn a_booking_over_http_from_hold_to_history() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let resource = app.resource(&tenant, "Pitch", 1).await;
    let offering = app.nights_offering(&tenant, &[resource]).await;
    let mut body = json!({
        "offering_id": offering, "customer": {"name": "Ada Canary", "email": "ada@example.com"},
        "check_in": "2027-05-01", "check_out": "2027-05-04", "hold": true, "notes": "late",
    });
    let held = app.post(&tenant, "/bookings", &body).await.expect(201);
    assert_eq!(held.body["status"], "held");
    assert_eq!(held.body["price"], json!({"amount": 15_000, "currency": "EUR"}));
    let path = format!("/bookings/{}", id(&held));
    let position = held.header("x-log-position").unwrap().to_owned();

    let taken = app.post(&tenant, "/bookings", &body).await.expect_problem(409, "slot_taken");
    let alternatives = taken.body["alternatives"].as_array().unwrap();
    assert!((1..=3).contains(&alternatives.len()), "{}", taken.body);
    assert!(alternatives[0]["check_in"].is_string());

    body["price_override"] = json!({"amount": 1, "currency": "EUR"});
    let mass = app.post(&tenant, "/bookings", &body).await.expect_problem(422, "validation_failed");
    assert_eq!(
        mass.body["errors"][0],
        json!({
            "pointer": "/price_override", "code": "unknown_field", "detail": "there is no such field"
        })
    );

    let url = format!("http://{}/api/v1{path}/confirm", app.address);
    let confirmed = read(app.client.post(url).bearer_auth(&tenant.token)).await.expect(200);
    assert_eq!((&confirmed.body["status"], &confirmed.body["notes"]), (&json!("confirmed"), &json!("late")));
    let stale = app
        .request(&tenant, Method::POST, &format!("{path}/cancel"), &[("If-Match", "\"1\"")], Some(&json!({})))
        .await;
    stale.expect_problem(412, "version_conflict");
    let waived = app.post(&tenant, &format!("{path}/cancel"), &json!({"waive_fee": true})).await;
    assert_eq!(waived.expect_problem(422, "validation_failed").body["errors"][0]["pointer"], "/reason");

    let then = app.get(&tenant, &format!("{path}?as_of={position}")).await.expect(200);
    assert_eq!((&then.body["status"], then.header("etag")), (&json!("held"), Some("\"1\"")));
    app.get(&tenant, &format!("{path}?as_of=1")).await.expect_problem(404, "not_found");
    app.get(&tenant, &format!("{path}?as_of=99999")).await.expect_problem(422, "validation_failed");
    app.get(&tenant, &format!("{path}?as_of=2001-01-01T00:00:00Z")).await.expect_problem(404, "not_found");

    let head = app.head(&tenant).await.to_string();
    let history = app
        .request(&tenant, Method::GET, &format!("{path}/history"), &[("X-Min-Position", &head)], None)
        .await
        .expect(200);
    assert_eq!(history.body["items"].as_array().unwrap().len(), 2);
    let listed =
        app.get(&tenant, "/bookings?status=confirmed&from=2027-05-01&to=2027-05-02").await.expect(200);
    assert_eq!(listed.body["items"][0]["id"], held.body["id"]);

    let free = app
        .get(&tenant, &format!("/availability?offering_id={offering}&from=2027-04-30&to=2027-05-05"))
        .await;
    let nights: Vec<_> = free.expect(200).body["resources"][0]["nights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|night| night["free"].as_i64().unwrap())
        .collect();
    assert_eq!(nights, [1, 0, 0, 0, 1]);
    let why = app
        .get(&tenant, &format!("/availability/explain?resource_id={resource}&from=2027-05-01&to=2027-05-02"))
        .await
        .expect(200);
    assert_eq!(why.body["blocked"][0]["booking_id"], held.body["id"]);
    app.shut_down().await;
}

#[tokio::test]
async fn the_audit_trail_is_paged_and_filtered() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let resource = app.resource(&tenant, "Pitch", 1).await;
    app.customer(&tenant, "Ada Canary").await;
    let all = app.get(&tenant, "/audit/events").await.expect(200);
    let items = all.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert_eq!((&items[0]["position"], &items[0]["type"]), (&json!(1), &json!("api_key.issued")));
    assert_eq!((&items[1]["position"], &items[1]["type"]), (&json!(2), &json!("resource.created")));
    assert_eq!(items[1]["actor"], format!("key:{}", tenant.token_id));
    assert_eq!(items[1]["leaf_hash"].as_str().unwrap().len(), 64);
    assert!(items[1]["ip"].is_string() && items[1]["request_id"].is_string());
    assert_eq!(items[1]["role"], "tenant_owner");
    assert!(!all.body.to_string().contains("Ada"), "{}", all.body);
    let count = async |query: &str| {
        app.get(&tenant, &format!("/audit/events?{query}")).await.expect(200).body["items"]
            .as_array()
            .unwrap()
            .len()
    };
    let time = items[2]["recorded_at"].as_str().unwrap();
    assert_eq!(count("after=2").await, 1);
    assert_eq!(count("type=customer.registered").await, 1);
    assert_eq!(count(&format!("actor=key:{}", tenant.token_id)).await, 2);
    assert_eq!(count(&format!("aggregate=resource:{resource}")).await, 1);
    assert_eq!(count(&format!("aggregate={resource}")).await, 1);
    assert_eq!(count(&format!("from={time}")).await, 1);
    assert_eq!(count(&format!("to={time}")).await, 2);
    assert_eq!(count("to=2001-01-01").await, 0);
    assert_eq!(count("from=2001-01-01").await, 3);
    let first = app.get(&tenant, "/audit/events?limit=2").await.expect(200);
    let cursor = first.text("next_cursor");
    let next = app.get(&tenant, &format!("/audit/events?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!((&next.body["items"][0]["position"], &next.body["next_cursor"]), (&json!(3), &Value::Null));
    let stream = app.get(&tenant, &format!("/audit/streams/resource/{resource}")).await.expect(200);
    assert_eq!(stream.body["items"].as_array().unwrap().len(), 1);
    app.get(&tenant, &format!("/audit/streams/booking/{resource}")).await.expect_problem(404, "not_found");
    assert_eq!(
        app.get(&tenant, "/audit/events?aggregate=x:y").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    app.shut_down().await;
}

#[tokio::test]
async fn slots_follow_the_schedule_and_a_closed_time_names_others() {
    let app = TestApp::start().await;
    let tenant = app.tenant("clinic").await;
    let resource = app.resource(&tenant, "Room", 1).await;
    let offering = app.slot_offering(&tenant, &[resource]).await;
    let weekly = json!([{"days": ["mon", "tue", "wed", "thu", "fri"], "opens": "09:00", "closes": "12:00"}]);
    let schedule = json!({"name": "Hours", "resource_ids": [resource], "weekly": weekly});
    let made = app.post(&tenant, "/schedules", &schedule).await.expect(201);
    assert_eq!(made.body["weekly"], weekly);
    let read = app.get(&tenant, &format!("/schedules/{}", id(&made))).await.expect(200);
    assert_eq!(read.body["weekly"], weekly);
    app.post(&tenant, "/schedules", &schedule).await.expect_problem(409, "already_exists");

    let starts = async || -> Vec<String> {
        let path = format!("/availability?offering_id={offering}&from=2027-05-03&to=2027-05-04");
        let free = app.get(&tenant, &path).await.expect(200);
        let slots = free.body["resources"][0]["slots"].as_array().unwrap().clone();
        slots.iter().map(|slot| slot["starts_at"].as_str().unwrap().to_owned()).collect()
    };
    let all = ["2027-05-03T09:00:00+02:00", "2027-05-03T10:00:00+02:00", "2027-05-03T11:00:00+02:00"];
    assert_eq!(starts().await, all);
    let customer = app.customer(&tenant, "Ada").await;
    let mut body = json!({"offering_id": offering, "customer_id": customer, "starts_at": "2027-05-03T10:00"});
    let booked = app.post(&tenant, "/bookings", &body).await.expect(201);
    assert_eq!(booked.body["starts_at"], all[1]);
    assert_eq!(starts().await, [all[0], all[2]]);

    let taken = app.post(&tenant, "/bookings", &body).await.expect_problem(409, "slot_taken");
    assert_eq!(taken.body["alternatives"][0]["starts_at"], all[2]);
    body["starts_at"] = json!("2027-05-03T20:00:00+02:00");
    app.post(&tenant, "/bookings", &body).await.expect_problem(409, "closed");
    let path = format!("/bookings/{}/reschedule", id(&booked));
    let moved = app.post(&tenant, &path, &json!({"starts_at": all[0]})).await.expect(200);
    assert_eq!((&moved.body["starts_at"], &moved.body["version"]), (&json!(all[0]), &json!(2)));
    app.post(&tenant, &path, &json!({})).await.expect_problem(422, "validation_failed");

    let why = format!("/availability/explain?resource_id={resource}&from=2027-05-02&to=2027-05-03");
    let why = app.get(&tenant, &why).await.expect(200);
    assert_eq!(
        (&why.body["blocked"][0]["because"], &why.body["blocked"][0]["rule"]),
        (&json!("closed"), &json!("weekly"))
    );
    let long = format!("/availability?offering_id={offering}&from=2027-05-03&to=2027-06-30");
    app.get(&tenant, &long).await.expect_problem(422, "validation_failed");
    app.shut_down().await;
}
