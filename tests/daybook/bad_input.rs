//! Input that no state could accept: each has its documented answer, and none leaves an event.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::{Answer, TestApp, TestTenant, id, read};

/// A tenant with a unit, bookable by nights and by slots.
struct Desk {
    app: TestApp,
    tenant: TestTenant,
    resource: Uuid,
    nights: Uuid,
    slots: Uuid,
    customer: Uuid,
    head: i64,
}

impl Desk {
    async fn open() -> Self {
        let app = TestApp::start().await;
        let tenant = app.tenant("desk").await;
        let resource = app.resource(&tenant, "Pitch", 1).await;
        let nights = app.nights_offering(&tenant, &[resource]).await;
        let slots = app.slot_offering(&tenant, &[resource]).await;
        let customer = app.customer(&tenant, "Ada").await;
        let head = app.head(&tenant).await;
        Self { app, tenant, resource, nights, slots, customer, head }
    }

    async fn raw(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        let url = format!("http://{}/api/v1{path}", self.app.address);
        let request = self.app.client.post(url).bearer_auth(&self.tenant.token);
        read(request.header("content-type", content_type).body(body)).await
    }

    /// A stay, with members replaced or added.
    fn stay(&self, other: &Value) -> Value {
        let mut body = TestApp::stay(self.nights, self.customer, "2031-05-01", "2031-05-03");
        for (name, value) in other.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }

    fn slot(&self, starts_at: &str) -> Value {
        json!({"offering_id": self.slots, "customer_id": self.customer, "starts_at": starts_at})
    }

    /// The pointer and code of the one field that is wrong.
    async fn wrong_field(&self, path: &str, body: &Value) -> (String, String) {
        let answer = self.app.post(&self.tenant, path, body).await.expect_problem(422, "validation_failed");
        let errors = answer.body["errors"].as_array().unwrap().clone();
        assert_eq!(errors.len(), 1, "{}", answer.body);
        assert!(!errors[0]["detail"].as_str().unwrap().is_empty());
        let text = |member: &str| errors[0][member].as_str().unwrap().to_owned();
        (text("pointer"), text("code"))
    }

    /// Nothing of what was asked is in the log, and the server is well.
    async fn close(self) {
        assert_eq!(self.app.head(&self.tenant).await, self.head, "bad input left an event");
        self.app.post(&self.tenant, "/bookings", &self.stay(&json!({}))).await.expect(201);
        self.app.shut_down().await;
    }
}

#[tokio::test]
async fn json_that_two_readers_could_read_differently_is_malformed() {
    let desk = Desk::open().await;
    let deep = format!("{{\"name\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies: [&[u8]; 14] = [
        b"",
        b"{",
        b"nonsense",
        b"{\"name\": \"a\"} {}",
        b"{\"name\": \"a\\u0000b\", \"kind\": \"unit\"}",
        b"{\"na\\u0000me\": \"a\", \"kind\": \"unit\"}",
        b"{\"name\": \"a\0b\", \"kind\": \"unit\"}",
        b"{\"name\": \"\\ud83d\", \"kind\": \"unit\"}",
        b"{\"name\": \"\\udc00\\ud800\", \"kind\": \"unit\"}",
        b"{\"name\": \"\xff\xfe\", \"kind\": \"unit\"}",
        b"{\"name\": \"a\", \"name\": \"b\", \"kind\": \"unit\"}",
        b"{\"name\": \"a\", \"kind\": \"pool\", \"capacity\": 1e999}",
        b"{\"name\": \"a\", \"kind\": \"pool\", \"capacity\": 123456789012345678901234567890}",
        deep.as_bytes(),
    ];
    for body in bodies {
        let answer = desk.raw("/resources", "application/json", body.to_vec()).await;
        assert_eq!(
            answer.status,
            400,
            "{}: {}",
            String::from_utf8_lossy(&body[..body.len().min(60)]),
            answer.body
        );
        answer.expect_problem(400, "malformed");
    }
    desk.close().await;
}

#[tokio::test]
async fn nul_bytes_are_refused_wherever_they_come_in() {
    let desk = Desk::open().await;
    for path in [
        "/resources?cursor=%00",
        "/bookings?status=%00",
        "/audit/events?type=%00&actor=x",
        "/customers?%00=1",
    ] {
        let answer = desk.app.get(&desk.tenant, path).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    desk.app.get(&desk.tenant, "/resources/%00").await.expect_problem(404, "not_found");
    let books = desk.stay(&json!({"notes": "a\u{0}b"}));
    desk.app.post(&desk.tenant, "/bookings", &books).await.expect_problem(400, "malformed");
    desk.close().await;
}

#[tokio::test]
async fn a_field_that_nobody_knows_is_named() {
    let desk = Desk::open().await;
    for (path, body, pointer) in [
        ("/bookings", desk.stay(&json!({"price": {"amount": 1, "currency": "EUR"}})), "/price"),
        ("/bookings", desk.stay(&json!({"status": "confirmed"})), "/status"),
        ("/bookings", desk.stay(&json!({"tenant_id": Uuid::now_v7()})), "/tenant_id"),
        ("/resources", json!({"name": "a", "kind": "unit", "id": Uuid::now_v7()}), "/id"),
        ("/customers", json!({"name": "a", "is_admin": true}), "/is_admin"),
    ] {
        assert_eq!(desk.wrong_field(path, &body).await, (pointer.to_owned(), "unknown_field".to_owned()));
    }
    desk.close().await;
}

#[tokio::test]
async fn intervals_that_are_none_are_refused_by_name() {
    let desk = Desk::open().await;
    for (check_in, check_out, pointer, code) in [
        ("2031-05-03", "2031-05-01", "/check_out", "interval_reversed"),
        ("2031-05-01", "2031-05-01", "/check_out", "interval_empty"),
        // A million nights, which as dates is the year 4768.
        ("2031-05-01", "4769-03-28", "/check_out", "interval_too_long"),
        ("0031-05-01", "2031-05-01", "/check_in", "date_out_of_range"),
        ("2001-05-01", "2001-05-02", "/check_in", "in_the_past"),
        ("2031-02-29", "2031-03-01", "/check_in", "invalid_value"),
        ("2031-05-01T00:00:00Z", "2031-05-02", "/check_in", "invalid_value"),
        ("+12031-05-01", "+12031-05-02", "/check_in", "date_out_of_range"),
    ] {
        let body = desk.stay(&json!({"check_in": check_in, "check_out": check_out}));
        let found = desk.wrong_field("/bookings", &body).await;
        assert_eq!(found, (pointer.to_owned(), code.to_owned()), "{check_in} to {check_out}");
    }
    for (ends_at, code) in [
        ("2031-05-05T09:00:00+02:00", "duration_mismatch"),
        ("2031-05-05T11:00:01+02:00", "duration_mismatch"),
    ] {
        let mut body = desk.slot("2031-05-05T10:00:00+02:00");
        body["ends_at"] = json!(ends_at);
        assert_eq!(desk.wrong_field("/bookings", &body).await, ("/ends_at".to_owned(), code.to_owned()));
    }
    desk.close().await;
}

#[tokio::test]
async fn a_leap_day_exists_in_leap_years_only() {
    let desk = Desk::open().await;
    let leap = desk.stay(&json!({"check_in": "2032-02-29", "check_out": "2032-03-01"}));
    let booked = desk.app.post(&desk.tenant, "/bookings", &leap).await.expect(201);
    assert_eq!(
        (&booked.body["check_in"], &booked.body["price"]["amount"]),
        (&json!("2032-02-29"), &json!(5_000))
    );
    // From the 28th on it takes the 29th as well.
    let around = desk.stay(&json!({"check_in": "2032-02-28", "check_out": "2032-03-01"}));
    desk.app.post(&desk.tenant, "/bookings", &around).await.expect_problem(409, "slot_taken");
    let none = desk.stay(&json!({"check_in": "2100-02-29", "check_out": "2100-03-01"}));
    assert_eq!(desk.wrong_field("/bookings", &none).await.0, "/check_in");
    assert_eq!(desk.app.head(&desk.tenant).await, desk.head + 1);
    desk.app.shut_down().await;
}

#[tokio::test]
async fn a_local_time_in_a_gap_means_nothing_and_one_in_a_fold_the_first() {
    let desk = Desk::open().await;
    // Clocks in Brussels go from 02:00 to 03:00 on 30 March 2031, and from 03:00 to 02:00 on 26 October.
    let gap = desk.slot("2031-03-30T02:30");
    assert_eq!(
        desk.wrong_field("/bookings", &gap).await,
        ("/starts_at".to_owned(), "time_in_gap".to_owned())
    );
    assert_eq!(desk.app.head(&desk.tenant).await, desk.head);
    for (asked, meant) in [
        ("2031-03-30T03:30", "2031-03-30T03:30:00+02:00"),
        ("2031-10-26T02:30", "2031-10-26T02:30:00+02:00"),
        ("2031-10-26T02:30:00+01:00", "2031-10-26T02:30:00+01:00"),
        // An offset that the zone never has still names an instant.
        ("2031-07-01T12:00:00-05:00", "2031-07-01T19:00:00+02:00"),
    ] {
        let answer = desk.app.post(&desk.tenant, "/bookings", &desk.slot(asked)).await.expect(201);
        assert_eq!(answer.body["starts_at"], meant);
    }
    let twice = desk.slot("2031-10-26T00:30:00Z");
    desk.app.post(&desk.tenant, "/bookings", &twice).await.expect_problem(409, "slot_taken");
    let free = format!("/availability?offering_id={}&from=2031-03-30&to=2031-03-31", desk.slots);
    let free = desk.app.get(&desk.tenant, &free).await.expect(200);
    let starts = free.body["resources"][0]["slots"].as_array().unwrap().clone();
    assert!(!starts.is_empty());
    assert!(
        starts.iter().all(|slot| !slot["starts_at"].as_str().unwrap().starts_with("2031-03-30T02")),
        "{starts:?}"
    );
    desk.app.shut_down().await;
}

#[tokio::test]
async fn values_out_of_their_range_are_refused_at_their_field() {
    let desk = Desk::open().await;
    let zone = |zone: &str| json!({"name": "a", "kind": "unit", "time_zone": zone});
    let offering = |price: Value| json!({"name": "a", "mode": "nights", "resource_ids": [desk.resource], "price_per": "night", "price": price});
    for (path, body, pointer) in [
        ("/resources", zone("Mars/Olympus"), "/time_zone"),
        ("/resources", zone("CEST"), "/time_zone"),
        ("/resources", zone("../etc/passwd"), "/time_zone"),
        ("/resources", json!({"name": "", "kind": "unit"}), "/name"),
        ("/resources", json!({"name": "x".repeat(201), "kind": "unit"}), "/name"),
        ("/resources", json!({"name": "a\u{7}", "kind": "unit"}), "/name"),
        ("/resources", json!({"name": "a", "kind": "pool", "capacity": 0}), "/capacity"),
        ("/resources", json!({"name": "a", "kind": "pool", "capacity": 10_001}), "/capacity"),
        ("/resources", json!({"name": "a", "kind": "pool", "capacity": -1}), "/capacity"),
        ("/resources", json!({"name": "a", "kind": "pool", "capacity": 1.5}), "/capacity"),
        ("/resources", json!({"name": "a", "kind": "palace"}), "/kind"),
        ("/customers", json!({"name": "a", "email": "nobody"}), "/email"),
        ("/customers", json!({"name": "a", "phone": "call me"}), "/phone"),
        ("/offerings", offering(json!({"amount": -1, "currency": "EUR"})), "/price"),
        ("/offerings", offering(json!({"amount": 1, "currency": "eur"})), "/price/currency"),
        ("/bookings", desk.stay(&json!({"guests": 0})), "/guests"),
        ("/bookings", desk.stay(&json!({"guests": 4_000_000})), "/guests"),
        ("/bookings", desk.stay(&json!({"unit": 2})), "/unit"),
        ("/bookings", desk.stay(&json!({"notes": "n".repeat(4_001)})), "/notes"),
        ("/bookings", desk.stay(&json!({"reason": "r".repeat(501)})), "/reason"),
    ] {
        let (found, _) = desk.wrong_field(path, &body).await;
        assert!(found.starts_with(pointer), "{path} {body}: {found}");
    }
    // The price of a long stay does not fit: an error, not a wrapped number.
    let most = offering(json!({"amount": i64::MAX, "currency": "EUR"}));
    let dear = desk.app.post(&desk.tenant, "/offerings", &most).await.expect(201);
    let body = desk.stay(&json!({"offering_id": id(&dear)}));
    assert_eq!(desk.wrong_field("/bookings", &body).await.1, "price_overflow");
    assert_eq!(desk.app.head(&desk.tenant).await, desk.head + 1);
}

#[tokio::test]
async fn what_another_tenant_has_is_not_there() {
    let desk = Desk::open().await;
    let other = desk.app.tenant("other").await;
    let resource = desk.app.resource(&other, "Theirs", 1).await;
    let offering = desk.app.nights_offering(&other, &[resource]).await;
    let customer = desk.app.customer(&other, "Grace").await;
    let head = desk.app.head(&other).await;
    for (theirs, absent) in [
        (json!({"offering_id": offering}), json!({"offering_id": Uuid::now_v7()})),
        (json!({"customer_id": customer}), json!({"customer_id": Uuid::now_v7()})),
        (json!({"resource_id": resource}), json!({"resource_id": Uuid::now_v7()})),
    ] {
        let theirs = desk.app.post(&desk.tenant, "/bookings", &desk.stay(&theirs)).await;
        let mut absent = desk.app.post(&desk.tenant, "/bookings", &desk.stay(&absent)).await;
        assert!([404, 422].contains(&theirs.status.as_u16()), "{}", theirs.body);
        // One cannot be told from the other.
        absent.body["request_id"] = theirs.body["request_id"].clone();
        assert_eq!((theirs.status, &theirs.body), (absent.status, &absent.body));
    }
    assert_eq!(desk.app.head(&other).await, head);
    desk.close().await;
}

#[tokio::test]
async fn a_body_must_be_json_of_a_bounded_size() {
    let desk = Desk::open().await;
    let body = desk.stay(&json!({})).to_string();
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "json"]
    {
        desk.raw("/bookings", content_type, body.clone()).await.expect_problem(415, "unsupported_media_type");
    }
    let large = format!("{{\"name\": \"{}\", \"kind\": \"unit\"}}", "x".repeat(1024 * 1024));
    desk.raw("/resources", "application/json", large.clone()).await.expect_problem(413, "too_large");
    desk.close().await;
}

#[tokio::test]
async fn pages_and_parameters_are_checked() {
    let desk = Desk::open().await;
    for path in ["/resources", "/offerings", "/schedules", "/customers", "/bookings", "/audit/events"] {
        for (query, status, code) in [
            ("limit=0", 422, "validation_failed"),
            ("limit=201", 422, "validation_failed"),
            ("limit=-1", 422, "validation_failed"),
            ("limit=ten", 422, "validation_failed"),
            ("limit=99999999999999999999", 422, "validation_failed"),
            ("limit=1&limit=2", 422, "validation_failed"),
            ("colour=red", 422, "validation_failed"),
            ("cursor=nonsense", 400, "malformed"),
            ("cursor=AAAA", 400, "malformed"),
        ] {
            let answer = desk.app.get(&desk.tenant, &format!("{path}?{query}")).await;
            assert_eq!(answer.status.as_u16(), status, "{path}?{query}: {}", answer.body);
            answer.expect_problem(status, code);
        }
        desk.app.get(&desk.tenant, &format!("{path}?limit=200")).await.expect(200);
    }
    // A cursor is of one tenant, one list and one filter.
    desk.app.resource(&desk.tenant, "Second", 1).await;
    let first = desk.app.get(&desk.tenant, "/resources?limit=1").await.expect(200);
    let cursor = first.text("next_cursor");
    let other = desk.app.tenant("other").await;
    for (tenant, path) in [
        (&other, format!("/resources?limit=1&cursor={cursor}")),
        (&desk.tenant, format!("/customers?limit=1&cursor={cursor}")),
        (&desk.tenant, format!("/resources?limit=1&cursor={cursor}x")),
    ] {
        desk.app.get(tenant, &path).await.expect_problem(400, "malformed");
    }
    desk.app.get(&desk.tenant, &format!("/resources?limit=1&cursor={cursor}")).await.expect(200);
    desk.app.shut_down().await;
}

#[tokio::test]
async fn a_change_names_the_version_it_is_made_on() {
    let desk = Desk::open().await;
    let Desk { app, tenant, .. } = &desk;
    for (path, body) in [
        (format!("/resources/{}", desk.resource), json!({"name": "Other"})),
        (format!("/offerings/{}", desk.nights), json!({"name": "Other"})),
        (format!("/customers/{}", desk.customer), json!({"name": "Other"})),
    ] {
        for (method, body) in [(Method::PATCH, Some(&body)), (Method::DELETE, None)] {
            let with = async |headers: &[(&str, &str)]| {
                app.request(tenant, method.clone(), &path, headers, body).await
            };
            with(&[]).await.expect_problem(428, "precondition_required");
            with(&[("If-Match", "\"7\"")]).await.expect_problem(412, "version_conflict");
            with(&[("If-Match", "W/\"1\"")]).await.expect_problem(412, "version_conflict");
            with(&[("If-Match", "1")]).await.expect_problem(400, "malformed");
        }
    }
    desk.close().await;
}

#[tokio::test]
async fn keys_and_positions_are_checked() {
    let desk = Desk::open().await;
    let Desk { app, tenant, .. } = &desk;
    let long = "k".repeat(256);
    for key in ["", "two words", long.as_str()] {
        let answer = app.post_keyed(tenant, "/customers", key, &json!({"name": "Ada"})).await;
        answer.expect_problem(400, "malformed");
    }
    for position in ["-1", "soon", "1.5", "99999999999999999999"] {
        let headers = [("X-Min-Position", position)];
        app.request(tenant, Method::GET, "/bookings", &headers, None).await.expect_problem(400, "malformed");
    }
    desk.close().await;
}

#[tokio::test]
async fn what_is_no_route_or_method_is_a_problem_too() {
    let desk = Desk::open().await;
    let Desk { app, tenant, .. } = &desk;
    let at = async |method: Method, path: &str| {
        read(app.client.request(method, format!("http://{}{path}", app.address)).bearer_auth(&tenant.token))
            .await
    };
    for path in [
        "/",
        "/api/v1",
        "/api/v2/bookings",
        "/api/v1/bookings/",
        "/api/v1//bookings",
        "/%ff",
        "/api/v1/nowhere",
    ] {
        at(Method::GET, path).await.expect_problem(404, "not_found");
    }
    for (method, path) in [
        (Method::DELETE, "/api/v1/bookings"),
        (Method::PUT, "/api/v1/resources"),
        (Method::POST, "/api/v1/audit/events"),
        (Method::DELETE, "/api/v1/audit/events"),
        (Method::GET, "/api/v1/bookings/0190c1e0-0000-7000-8000-000000000000/cancel"),
    ] {
        let answer = at(method, path).await.expect_problem(405, "method_not_allowed");
        assert!(answer.header("allow").is_some(), "{path}");
    }
    desk.close().await;
}
