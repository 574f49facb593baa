//! Lock-outs: of an account at an address, for a quarter of an hour, and never of its owner by others.

use std::iter;

use daybook::config::SettingsPatch;
use daybook_domain::permission::Tier;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    app::{Answer, TestApp, TestTenant},
    people::{PASSWORD, generous},
};

const ADA: &str = "ada@example.org";
/// Where the attacker is, and where Ada is.
const ATTACKER: &str = "203.0.113.7";
const HOME: &str = "198.51.100.9";
const WRONG: &str = "wrong-password";

/// A server behind one proxy, with a tenant and Ada's account.
async fn start() -> (TestApp, TestTenant) {
    let patch = SettingsPatch { trusted_proxy_hops: Some(1), ..generous() };
    let app = TestApp::start_with(patch).await;
    let tenant = app.business("camp").await;
    app.account(Some(&tenant), ADA, Tier::TenantOwner, None).await;
    (app, tenant)
}

/// Tries to sign in from an address.
async fn login(app: &TestApp, tenant: &TestTenant, ip: &str, email: &str, password: &str) -> Answer {
    let headers = [("X-Tenant-Slug", tenant.slug.as_str()), ("X-Forwarded-For", ip)];
    app.anonymous("/auth/login", &headers, &json!({"email": email, "password": password})).await
}

/// Fails as often as it takes to lock Ada's account at an address.
async fn lock(app: &TestApp, tenant: &TestTenant, ip: &str) {
    for _ in 0..5 {
        login(app, tenant, ip, ADA, WRONG).await.expect_problem(401, "unauthenticated");
    }
    login(app, tenant, ip, ADA, WRONG).await.expect_problem(429, "rate_limited");
}

fn retry_after(answer: &Answer) -> u32 {
    answer.header("retry-after").unwrap().parse().unwrap()
}

/// Every counter: how many failures, and since when.
async fn counters(app: &TestApp) -> Vec<(Vec<u8>, i32, f64)> {
    sqlx::query_as(
        "SELECT key, failures, extract(epoch FROM since)::double precision
         FROM daybook_platform.login_failures ORDER BY key",
    )
    .fetch_all(app.store.database().owner())
    .await
    .unwrap()
}

/// As if everything had been tried that many minutes ago.
async fn minutes_ago(app: &TestApp, minutes: f64) {
    sqlx::query("UPDATE daybook_platform.login_failures SET since = now() - make_interval(secs => $1 * 60)")
        .bind(minutes)
        .execute(app.store.database().owner())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_locked_out_victim_signs_in_from_elsewhere() {
    let (app, tenant) = start().await;
    // Parallel tries cannot outrun the count.
    let tries = join_all((0..20).map(|_| login(&app, &tenant, ATTACKER, ADA, WRONG))).await;
    assert_eq!(tries.iter().filter(|answer| answer.status == 401).count(), 5);
    assert_eq!(tries.iter().filter(|answer| answer.status == 429).count(), 15);
    let locked = login(&app, &tenant, ATTACKER, ADA, PASSWORD).await.expect_problem(429, "rate_limited");
    assert!((880..=900).contains(&retry_after(&locked)), "{}", retry_after(&locked));
    // However the account is written, and whatever is said to the left of what the proxy saw.
    for (ip, email) in [(ATTACKER, " ADA@example.org"), (&*format!("{HOME}, {ATTACKER}"), ADA)] {
        login(&app, &tenant, ip, email, PASSWORD).await.expect_problem(429, "rate_limited");
    }
    // The lock is of the two: Ada is let in elsewhere, and others are let in there.
    login(&app, &tenant, HOME, ADA, PASSWORD).await.expect(200);
    login(&app, &tenant, ATTACKER, ADA, PASSWORD).await.expect_problem(429, "rate_limited");
    app.account(Some(&tenant), "bob@example.org", Tier::TenantStaff, None).await;
    login(&app, &tenant, ATTACKER, "bob@example.org", PASSWORD).await.expect(200);
    // Another tenant's account of the same address is another one.
    let hotel = app.tenant("hotel").await;
    app.account(Some(&hotel), ADA, Tier::TenantOwner, None).await;
    login(&app, &hotel, ATTACKER, ADA, PASSWORD).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn trying_while_locked_makes_no_lock_longer() {
    let (app, tenant) = start().await;
    lock(&app, &tenant, ATTACKER).await;
    minutes_ago(&app, 10.0).await;
    let before = counters(&app).await;
    for password in [WRONG, PASSWORD, WRONG] {
        let locked = login(&app, &tenant, ATTACKER, ADA, password).await.expect_problem(429, "rate_limited");
        assert!((290..=300).contains(&retry_after(&locked)), "{}", retry_after(&locked));
    }
    assert_eq!(counters(&app).await, before);
    minutes_ago(&app, 14.8).await;
    login(&app, &tenant, ATTACKER, ADA, PASSWORD).await.expect_problem(429, "rate_limited");
    minutes_ago(&app, 15.0).await;
    login(&app, &tenant, ATTACKER, ADA, PASSWORD).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_sign_in_forgives_the_failures_before_it_at_its_own_address() {
    let (app, tenant) = start().await;
    for ip in [ATTACKER, HOME] {
        for _ in 0..4 {
            login(&app, &tenant, ip, ADA, WRONG).await.expect(401);
        }
    }
    login(&app, &tenant, HOME, ADA, PASSWORD).await.expect(200);
    login(&app, &tenant, ATTACKER, ADA, WRONG).await.expect(401);
    login(&app, &tenant, ATTACKER, ADA, PASSWORD).await.expect_problem(429, "rate_limited");
    lock(&app, &tenant, HOME).await;
    app.shut_down().await;
}

#[tokio::test]
async fn failures_from_everywhere_lock_an_account_but_not_where_it_signed_in_from() {
    let (app, tenant) = start().await;
    login(&app, &tenant, HOME, ADA, PASSWORD).await.expect(200);
    // Fifty failures, five from each of ten addresses; and none of them locks anything at another.
    let addresses: Vec<String> = (1..=10).map(|n| format!("203.0.113.{n}")).collect();
    let tries = addresses.iter().flat_map(|ip| iter::repeat_n(ip, 5));
    let answers = join_all(tries.map(|ip| login(&app, &tenant, ip, ADA, WRONG))).await;
    assert!(answers.iter().all(|answer| answer.status == 401), "fifty are compared");
    let elsewhere = "192.0.2.1";
    let before = counters(&app).await;
    let locked = login(&app, &tenant, elsewhere, ADA, PASSWORD).await.expect_problem(429, "rate_limited");
    assert!((800..=900).contains(&retry_after(&locked)), "{}", retry_after(&locked));
    assert_eq!(counters(&app).await, before, "what is refused is not counted, at no address");
    // Ada's own address is known; a failure or two there do not change that.
    for _ in 0..4 {
        login(&app, &tenant, HOME, ADA, WRONG).await.expect(401);
    }
    login(&app, &tenant, HOME, ADA, PASSWORD).await.expect(200);
    // What she gets wrong herself there counts there alone, and five are as many as anywhere.
    lock(&app, &tenant, HOME).await;
    login(&app, &tenant, elsewhere, ADA, PASSWORD).await.expect_problem(429, "rate_limited");
    minutes_ago(&app, 15.0).await;
    login(&app, &tenant, elsewhere, ADA, PASSWORD).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn the_address_of_another_account_is_not_known_to_this_one() {
    let (app, tenant) = start().await;
    app.account(Some(&tenant), "bob@example.org", Tier::TenantStaff, None).await;
    login(&app, &tenant, HOME, "bob@example.org", PASSWORD).await.expect(200);
    let tries = (1..=10).flat_map(|n| iter::repeat_n(format!("203.0.113.{n}"), 5));
    let tries: Vec<String> = tries.collect();
    join_all(tries.iter().map(|ip| login(&app, &tenant, ip, ADA, WRONG))).await;
    login(&app, &tenant, HOME, ADA, PASSWORD).await.expect_problem(429, "rate_limited");
    login(&app, &tenant, HOME, "bob@example.org", PASSWORD).await.expect(200);
    app.shut_down().await;
}

/// Whoever has found a signed-in browser does not find the password out with it.
#[tokio::test]
async fn the_password_of_ones_own_session_is_tried_five_times() {
    let (app, tenant) = start().await;
    let signed_in = login(&app, &tenant, HOME, ADA, PASSWORD).await.expect(200);
    let token = signed_in.text("access_token");
    let change = json!({"current_password": WRONG, "new_password": "mountain-lake-nine"});
    let mail = json!({"email": "eve@example.org", "password": WRONG});
    for n in 0..5 {
        // By whichever route: they have one count.
        let answer = if n % 2 == 0 {
            app.post_as(&token, "/auth/password/change", &change).await
        } else {
            app.with_token(&token, Method::PATCH, "/me", Some(&mail)).await
        };
        assert_eq!(answer.expect(422).body["errors"][0]["code"], "wrong_password");
    }
    let right = json!({"current_password": PASSWORD, "new_password": "mountain-lake-nine"});
    app.post_as(&token, "/auth/password/change", &right).await.expect_problem(429, "rate_limited");
    let right = json!({"email": "eve@example.org", "password": PASSWORD});
    app.with_token(&token, Method::PATCH, "/me", Some(&right)).await.expect_problem(429, "rate_limited");
    // Signing in is another thing: its owner is not locked out by it.
    login(&app, &tenant, HOME, ADA, PASSWORD).await.expect(200);
    minutes_ago(&app, 15.0).await;
    app.with_token(&token, Method::PATCH, "/me", Some(&right)).await.expect(200);
    app.shut_down().await;
}
