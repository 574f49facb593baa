//! Signing in and out: tokens, their replacement, their theft, and what ends them.

use std::time::{Duration, Instant};

use daybook::{
    auth::access_token::{self, AccessClaims},
    workers::credential_pruning,
};
use daybook_domain::{permission::Tier, tenant::TenantCommand};
use futures_util::future::join_all;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    app::{TestApp, TestTenant, read},
    people::{PASSWORD, generous, refresh_cookie},
};

async fn start() -> TestApp {
    TestApp::start_with(generous()).await
}

#[tokio::test]
async fn a_user_signs_in_is_known_and_signs_out() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "Ada@Example.org", Tier::TenantOwner).await;
    let me = app.get_as(&ada.token, "/me").await.expect(200);
    assert_eq!((&me.body["role"], &me.body["tenant_slug"]), (&json!("tenant_owner"), &json!("camp")));
    assert_eq!(
        app.login(Some(&tenant), "ada@EXAMPLE.org", PASSWORD).await.status,
        200,
        "in any case of letters"
    );

    tokio::time::sleep(Duration::from_secs(1)).await;
    let sessions = app.get_as(&ada.token, "/auth/sessions").await;
    assert_eq!(sessions.status, 401, "the plan allows one session, so the second sign-in ended the first");
    let ada = app.sign_in(Some(&tenant), "ada@example.org").await;
    let sessions = app.get_as(&ada.token, "/auth/sessions").await.expect(200);
    assert_eq!(sessions.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(sessions.body["items"][0]["current"], true);

    let out = read(
        app.client
            .post(app.url("/auth/logout"))
            .header("Content-Type", "application/json")
            .header("Cookie", format!("__Host-daybook_refresh={}", ada.refresh)),
    )
    .await
    .expect(204);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect_problem(401, "unauthenticated");
    app.refresh(&ada.refresh).await.expect_problem(401, "unauthenticated");

    let events = app.get(&tenant, "/audit/events?type=user.session_ended").await.expect(200);
    let whys: Vec<&str> = events.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["payload"]["why"].as_str().unwrap())
        .collect();
    assert_eq!(whys, ["cap", "cap", "logout"]);
    assert!(!events.body.to_string().contains("@"), "no address is in the log");
    app.shut_down().await;
}

#[tokio::test]
async fn known_and_unknown_accounts_are_refused_alike() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let gone = app.account(Some(&tenant), "gone@example.org", Tier::TenantStaff, None).await;
    let gone_answer =
        app.request(&tenant, Method::POST, &format!("/users/{gone}/deactivate"), &[], Some(&json!({}))).await;
    assert_eq!(gone_answer.status, 200, "{}", gone_answer.body);
    let strip = |mut answer: crate::support::app::Answer| {
        answer.body["request_id"] = json!(null);
        (answer.status, answer.body.to_string())
    };
    let wrong = strip(app.login(Some(&tenant), "ada@example.org", "wrong-password").await);
    for (email, password) in [
        ("nobody@example.org", PASSWORD),
        ("gone@example.org", PASSWORD),
        ("not an address", PASSWORD),
        ("", ""),
        ("ada@example.org", &"x".repeat(2_000)),
    ] {
        assert_eq!(strip(app.login(Some(&tenant), email, password).await), wrong, "{email}");
    }
    let nowhere = TestTenant { slug: "nowhere".into(), ..tenant.clone() };
    assert_eq!(strip(app.login(Some(&nowhere), "ada@example.org", PASSWORD).await), wrong);
    assert_eq!(strip(app.login(None, "ada@example.org", PASSWORD).await), wrong, "not of the platform");
    assert_eq!(wrong.0, 401);
    app.shut_down().await;
}

#[tokio::test]
async fn fifty_parallel_refreshes_leave_one_live_chain_and_the_user_signed_in() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let answers = join_all((0..50).map(|_| app.refresh(&ada.refresh))).await;
    let mut successors: Vec<String> =
        answers.into_iter().map(|answer| refresh_cookie(&answer.expect(200)).unwrap()).collect();
    successors.dedup();
    assert_eq!(successors.len(), 1, "each got the same successor");
    let next = app.refresh(&successors[0]).await.expect(200);
    app.get_as(&next.text("access_token"), "/me").await.expect(200);
    let live: i64 = sqlx::query_scalar(
        &tenant.schema().sql("SELECT count(*) FROM {s}.refresh_tokens WHERE used_at IS NULL"),
    )
    .fetch_one(app.store.database().owner())
    .await
    .unwrap();
    assert_eq!(live, 1);
    app.shut_down().await;
}

#[tokio::test]
async fn a_refresh_token_used_again_after_the_grace_ends_its_family() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let second = refresh_cookie(&app.refresh(&ada.refresh).await.expect(200)).unwrap();
    for seconds in [0, 9] {
        let ago = format!(
            "UPDATE {{s}}.refresh_tokens SET used_at = now() - interval '{seconds} seconds' WHERE used_at IS NOT NULL"
        );
        assert_eq!(app.sql(&tenant.schema(), &ago).await, 1);
        let again = app.refresh(&ada.refresh).await.expect(200);
        assert_eq!(refresh_cookie(&again).as_ref(), Some(&second), "{seconds} seconds are in the grace");
    }
    let ago =
        "UPDATE {s}.refresh_tokens SET used_at = now() - interval '11 seconds' WHERE used_at IS NOT NULL";
    assert_eq!(app.sql(&tenant.schema(), ago).await, 1, "the successor was not used");
    let thief = app.refresh(&ada.refresh).await.expect_problem(401, "unauthenticated");
    assert!(thief.header("set-cookie").unwrap().contains("Max-Age=0"));
    app.refresh(&second).await.expect_problem(401, "unauthenticated");
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect_problem(401, "unauthenticated");
    let events = app.get(&tenant, "/audit/events?type=user.session_ended").await.expect(200);
    assert_eq!(events.body["items"][0]["payload"]["why"], "reuse");
    app.shut_down().await;
}

#[tokio::test]
async fn a_program_without_pages_uses_the_cookie() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let mut cookie = ada.refresh;
    for headers in [vec![], vec![("Sec-Fetch-Site", "same-origin")], vec![("Sec-Fetch-Site", "none")]] {
        let mut request = app
            .client
            .post(app.url("/auth/refresh"))
            .header("Content-Type", "application/json; charset=utf-8")
            .header("Cookie", format!("theme=dark; __Host-daybook_refresh={cookie}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        cookie = refresh_cookie(&read(request).await.expect(200)).unwrap();
    }
    app.shut_down().await;
}

#[tokio::test]
async fn a_token_of_another_key_tenant_or_session_is_nobodys() {
    let app = start().await;
    let (camp, hotel) = (app.tenant("camp").await, app.tenant("hotel").await);
    let ada = app.person(&camp, "ada@example.org", Tier::TenantOwner).await;
    let sid = {
        let sessions = app.get_as(&ada.token, "/auth/sessions").await.expect(200);
        sessions.body["items"][0]["id"].as_str().unwrap().parse::<Uuid>().unwrap()
    };
    let issue = |sub, sid, tenant: Option<Uuid>, seconds| {
        let claims = AccessClaims {
            sub,
            sid,
            usage: access_token::Use::Session,
            act: None,
            tenant_id: tenant,
            role: "tenant_owner".into(),
        };
        let token =
            access_token::issue(&app.keys, claims, daybook::clock::now(), chrono::Duration::seconds(seconds))
                .unwrap();
        token.expose_secret().to_owned()
    };
    app.get_as(&issue(ada.id, sid, Some(camp.id.0), 60), "/me").await.expect(200);
    for wrong in [
        issue(ada.id, sid, Some(hotel.id.0), 60),
        issue(ada.id, sid, None, 60),
        issue(Uuid::now_v7(), sid, Some(camp.id.0), 60),
        issue(ada.id, Uuid::now_v7(), Some(camp.id.0), 60),
        issue(ada.id, sid, Some(camp.id.0), 0),
        ada.refresh.clone(),
        format!("{}x", ada.token),
    ] {
        app.get_as(&wrong, "/me").await.expect_problem(401, "unauthenticated");
    }
    let brief = issue(ada.id, sid, Some(camp.id.0), 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    app.get_as(&brief, "/me").await.expect_problem(401, "unauthenticated");

    let slug = |value: &'static str| {
        read(app.client.get(app.url("/me")).bearer_auth(&ada.token).header("X-Tenant-Slug", value))
    };
    slug("camp").await.expect(200);
    slug("hotel").await.expect_problem(403, "tenant_mismatch");
    slug("nowhere").await.expect_problem(403, "tenant_mismatch");
    app.shut_down().await;
}

#[tokio::test]
async fn rotating_the_keys_logs_nobody_out() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    app.keys.rotate(daybook::clock::now()).unwrap();
    app.get_as(&ada.token, "/me").await.expect(200);
    let next = app.refresh(&ada.refresh).await.expect(200);
    app.get_as(&next.text("access_token"), "/me").await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_session_cap_holds_under_a_race_and_refuses_nobody() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let answers = join_all((0..4).map(|_| app.login(Some(&tenant), "ada@example.org", PASSWORD))).await;
    let tokens: Vec<String> =
        answers.into_iter().map(|answer| answer.expect(200).text("access_token")).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let alive = join_all(tokens.iter().map(|token| app.get_as(token, "/me"))).await;
    assert_eq!(alive.iter().filter(|answer| answer.status == 200).count(), 1, "a free plan has one session");
    app.shut_down().await;
}

#[tokio::test]
async fn an_inactive_tenants_people_are_nobody_within_a_second() {
    let app = start().await;
    let tenant = app.business("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    app.get_as(&ada.token, "/me").await.expect(200);
    app.admin.command(tenant.id, TenantCommand::Deactivate, &Default::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect_problem(401, "unauthenticated");
    app.get_as(&tenant.token, "/resources").await.expect_problem(401, "unauthenticated");
    app.refresh(&ada.refresh).await.expect_problem(401, "unauthenticated");
    app.login(Some(&tenant), "ada@example.org", PASSWORD).await.expect_problem(401, "unauthenticated");
    app.admin.command(tenant.id, TenantCommand::Activate, &Default::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions() {
    let app = start().await;
    let tenant = app.business("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let other = app.sign_in(Some(&tenant), "ada@example.org").await;
    let change = |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        let (app, token) = (&app, ada.token.clone());
        async move { app.post_as(&token, "/auth/password/change", &body).await }
    };
    change(PASSWORD, "ada@example.org").await.expect_problem(422, "validation_failed");
    change("wrong-password", "mountain-lake-nine").await.expect_problem(422, "validation_failed");
    change(PASSWORD, "mountain-lake-nine").await.expect(204);
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect(200);
    app.get_as(&other.token, "/me").await.expect_problem(401, "unauthenticated");
    app.refresh(&other.refresh).await.expect_problem(401, "unauthenticated");
    app.login(Some(&tenant), "ada@example.org", PASSWORD).await.expect(401);
    app.login(Some(&tenant), "ada@example.org", "mountain-lake-nine").await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_weak_hash_is_made_anew_at_the_next_sign_in() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let user = app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let owner = app.store.database().owner();
    // Made by Django 5.2.
    let django = "pbkdf2_sha256$1000$seasalt$JgZryXe2Ga8ysg6XbzkLpTdyPQrHqsinbL9BnnhgX4A=";
    sqlx::query(&tenant.schema().sql("UPDATE {s}.user_passwords SET hash = $1"))
        .bind(django)
        .execute(owner)
        .await
        .unwrap();
    app.login(Some(&tenant), "ada@example.org", "lètmein").await.expect(200);
    let hash: String =
        sqlx::query_scalar(&tenant.schema().sql("SELECT hash FROM {s}.user_passwords WHERE user_id = $1"))
            .bind(user.0)
            .fetch_one(owner)
            .await
            .unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    app.login(Some(&tenant), "ada@example.org", "lètmein").await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn sign_ins_of_one_address_are_limited_over_all_nodes() {
    let app = TestApp::start().await;
    let node = app.second_node().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let tries = join_all((0..16).map(|n| {
        let at = if n % 2 == 0 { &app } else { &node };
        let email = format!("somebody-{n}@example.org");
        let tenant = tenant.clone();
        async move {
            let spoofed = format!("203.0.113.{n}");
            let request = at
                .client
                .post(at.url("/auth/login"))
                .header("X-Tenant-Slug", &tenant.slug)
                .header("X-Forwarded-For", spoofed)
                .json(&json!({"email": email, "password": PASSWORD}));
            read(request).await
        }
    }))
    .await;
    assert_eq!(tries.iter().filter(|answer| answer.status == 401).count(), 10);
    let refused = tries.into_iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.header("ratelimit-policy"), Some("\"login\";q=10;w=60"));
    app.login(Some(&tenant), "ada@example.org", PASSWORD).await.expect_problem(429, "rate_limited");
    app.shut_down().await;
}

/// The medians of both, taken in turn, are alike: half as long would tell that nothing was hashed.
#[tokio::test]
async fn a_known_account_takes_as_long_as_an_unknown_one() {
    let app = start().await;
    let tenant = app.business("camp").await;
    let mut times = [Vec::new(), Vec::new()];
    for n in 0..15 {
        let known = format!("ada{n}@example.org");
        app.account(Some(&tenant), &known, Tier::TenantStaff, None).await;
        // Hashed as strongly as today's are.
        app.login(Some(&tenant), &known, PASSWORD).await.expect(200);
        for (at, email) in [(0, known), (1, format!("nobody{n}@example.org"))] {
            let begin = Instant::now();
            app.login(Some(&tenant), &email, "wrong-password").await.expect(401);
            times[at].push(begin.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    assert!((0.5..2.0).contains(&(known / unknown)), "{known} {unknown}");
    app.shut_down().await;
}

#[tokio::test]
async fn credentials_that_are_over_are_deleted() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let live = refresh_cookie(&app.refresh(&ada.refresh).await.expect(200)).unwrap();
    let owner = app.store.database().owner();
    let run = async |sql: &str| sqlx::query(&tenant.schema().sql(sql)).execute(owner).await.unwrap();
    let count = async || -> i64 {
        let sql = tenant.schema().sql("SELECT count(*) FROM {s}.refresh_tokens");
        sqlx::query_scalar(&sql).fetch_one(owner).await.unwrap()
    };
    run("UPDATE {s}.refresh_tokens SET issued_at = now() - interval '2 days'").await;
    credential_pruning::prune(&app.store, &tenant.schema()).await.unwrap();
    assert_eq!(count().await, 2, "while their session lives, also used ones tell a thief");
    run("UPDATE {s}.refresh_tokens SET expires_at = now() - interval '1 second' WHERE used_at IS NOT NULL")
        .await;
    credential_pruning::prune(&app.store, &tenant.schema()).await.unwrap();
    assert_eq!(count().await, 1);
    app.refresh(&live).await.expect(200);
    app.shut_down().await;
}
