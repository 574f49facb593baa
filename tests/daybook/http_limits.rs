//! Rate limits where a client meets them: at the handlers that ask for them.

use daybook::config::SettingsPatch;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, TestTenant, read},
    people::PASSWORD,
};

const TOKEN: &str = "not.a.token";

/// A call without credentials; each claims to be from another address, which nobody who is not a proxy of ours may.
async fn call(app: &TestApp, tenant: &TestTenant, n: u32, path: &str, body: &Value) -> Answer {
    let request = app
        .client
        .post(app.url(path))
        .header("X-Tenant-Slug", &tenant.slug)
        .header("X-Forwarded-For", format!("203.0.113.{n}"))
        .json(body);
    read(request).await
}

fn assert_refused(answer: Answer, name: &str, quota: u32, window: u64) {
    let answer = answer.expect_problem(429, "rate_limited");
    assert_eq!(answer.header("ratelimit-policy"), Some(format!("\"{name}\";q={quota};w={window}").as_str()));
    let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=window).contains(&retry) && retry + 30 > window, "{retry}");
    assert_eq!(answer.header("ratelimit"), Some(format!("\"{name}\";r=0;t={retry}").as_str()));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

async fn forget_counters(app: &TestApp) {
    sqlx::query("DELETE FROM daybook_platform.rate_counters")
        .execute(app.store.database().owner())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_new_password_is_asked_for_five_times_an_hour() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let ask = async |n: u32, path: &str| {
        let body = json!({"email": format!("ada{n}@example.org")});
        call(&app, &tenant, n, path, &body).await
    };
    let (link, code) = ("/auth/password/reset", "/auth/otp");
    // Both ways count together.
    for (n, path) in [link, code, code, link, code].into_iter().enumerate() {
        let n = u32::try_from(n).unwrap();
        let answer = ask(n, path).await.expect(202);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"reset\";q=5;w=3600"));
        let left = answer.header("ratelimit").unwrap().to_owned();
        assert!(left.starts_with(&format!("\"reset\";r={};t=", 4 - n)), "{left}");
    }
    for path in [link, code] {
        assert_refused(ask(9, path).await, "reset", 5, 3_600);
    }
    app.shut_down().await;
}

/// What proves itself by a link or a code may be guessed at as often as a password.
#[tokio::test]
async fn links_and_codes_are_tried_ten_times_a_minute() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    for (path, body) in [
        ("/auth/password/reset/confirm", json!({"token": TOKEN, "new_password": PASSWORD})),
        (
            "/auth/otp/confirm",
            json!({"email": "ada@example.org", "code": "123456", "new_password": "mountain-lake-nine"}),
        ),
        ("/invitations/accept", json!({"token": TOKEN, "password": PASSWORD})),
        ("/signup/confirm", json!({"token": TOKEN})),
    ] {
        forget_counters(&app).await;
        for n in 0..10 {
            call(&app, &tenant, n, path, &body).await.expect_problem(422, "validation_failed");
        }
        assert_refused(call(&app, &tenant, 10, path, &body).await, "login", 10, 60);
    }
    app.shut_down().await;
}

#[tokio::test]
async fn five_sign_ups_an_hour_come_from_one_address() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let sign_up = async |n: u32, password: &str| {
        let body = json!({
            "tenant_name": "River", "slug": format!("river-{n}"), "email": format!("ada@example{n}.org"), "password": password,
        });
        call(&app, &tenant, n, "/signup", &body).await
    };
    let first = sign_up(0, PASSWORD).await.expect(202);
    assert_eq!(first.header("ratelimit-policy"), Some("\"signup\";q=5;w=3600"));
    assert!(first.header("ratelimit").unwrap().starts_with("\"signup\";r=4;t="));
    // What is refused counts: which slugs are taken is worth asking.
    for n in 1..5 {
        sign_up(n, "short").await.expect_problem(422, "validation_failed");
    }
    assert_refused(sign_up(5, PASSWORD).await, "signup", 5, 3_600);
    app.shut_down().await;
}

#[tokio::test]
async fn a_guest_changes_a_booking_only_so_often() {
    let patch = SettingsPatch { public_bookings_limit_per_hour: Some(2), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    let body = json!({
        "offering_id": offering, "check_in": "2031-05-01", "check_out": "2031-05-03",
        "customer": {"name": "Grace", "email": "grace@example.org"},
    });
    let booked = app.post(&tenant, "/public/bookings", &body).await.expect(201);
    let change = async |action: &str, body: Value| {
        let path = format!("/public/bookings/{}/{action}", booked.text("id"));
        let token = booked.text("guest_token");
        read(app.client.request(Method::POST, app.url(&path)).header("X-Guest-Token", token).json(&body))
            .await
    };
    for day in [10, 12] {
        let moved =
            json!({"check_in": format!("2031-05-{day}"), "check_out": format!("2031-05-{}", day + 1)});
        change("reschedule", moved).await.expect(200);
    }
    let moved = json!({"check_in": "2031-05-20", "check_out": "2031-05-21"});
    assert_refused(change("reschedule", moved).await, "public_bookings", 2, 3_600);
    assert_refused(change("cancel", json!({})).await, "public_bookings", 2, 3_600);
    app.shut_down().await;
}
