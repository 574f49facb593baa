//! Rate limits: counters that nodes share, and the buckets of one node; what they answer, and what they write down.

use std::{fs, time::Duration};

use axum::response::IntoResponse as _;
use daybook::{
    config::SettingsPatch,
    http::{
        client_address::ClientAddress,
        problem::{Code, Problem},
    },
    limits::{Policy, shared},
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;

use crate::support::app::{Answer, TestApp, read};

const LOGIN: Policy = Policy { name: "login", quota: 10, window: Duration::from_secs(60) };

/// The headers of a refusal, as a client would see them.
fn headers_of(problem: &Problem) -> Vec<(String, String)> {
    let rendered = problem.render(uuid::Uuid::nil());
    let header = |name: &str| rendered.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    ["retry-after", "ratelimit-policy", "ratelimit"]
        .into_iter()
        .filter_map(|name| header(name).map(|value| (name.to_owned(), value)))
        .collect()
}

#[tokio::test]
async fn nodes_share_a_counter_and_let_exactly_the_quota_pass() {
    let app = TestApp::start().await;
    let other = app.second_node().await;
    let hits = (0..40).map(|n| {
        let node = if n % 2 == 0 { &app } else { &other };
        node.state.limits().check(&LOGIN, "203.0.113.7")
    });
    let outcomes = join_all(hits).await;
    let mut left: Vec<u32> = outcomes.iter().flatten().map(|allowance| allowance.remaining).collect();
    left.sort_unstable();
    assert_eq!(left, (0..10).collect::<Vec<_>>());
    for problem in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(problem.code(), Code::RateLimited);
        let headers = headers_of(problem);
        assert_eq!(headers[1].1, "\"login\";q=10;w=60");
        let retry: u64 = headers[0].1.parse().unwrap();
        assert!((55..=60).contains(&retry), "{retry}");
        assert_eq!(headers[2].1, format!("\"login\";r=0;t={retry}"));
    }
    // Another address and another policy have counters of their own.
    assert_eq!(app.state.limits().check(&LOGIN, "203.0.113.8").await.unwrap().remaining, 9);
    let reset = app.state.limits().policies().reset;
    assert_eq!(app.state.limits().check(&reset, "203.0.113.7").await.unwrap().remaining, 4);
    other.shut_down().await;
}

#[tokio::test]
async fn a_window_ends_by_the_databases_clock_and_refusals_do_not_make_it_longer() {
    let app = TestApp::start().await;
    let limits = app.state.limits();
    let policy = Policy { quota: 2, ..LOGIN };
    let move_back = async |seconds: f64| {
        sqlx::query(
            "UPDATE daybook_platform.rate_counters SET window_start = window_start - make_interval(secs => $1)",
        )
        .bind(seconds)
        .execute(app.store.database().owner())
        .await
        .unwrap();
    };
    assert_eq!(limits.peek(&policy, "a").await.unwrap().remaining, 2, "nothing was counted yet");
    let first = limits.check(&policy, "a").await.unwrap();
    assert_eq!((first.remaining, first.reset_after), (1, policy.window));
    assert_eq!(limits.peek(&policy, "a").await.unwrap().remaining, 1);
    assert_eq!(limits.peek(&policy, "a").await.unwrap().remaining, 1, "to look does not count");
    limits.check(&policy, "a").await.unwrap();
    limits.check(&policy, "a").await.unwrap_err();
    move_back(50.0).await;
    let refused = limits.check(&policy, "a").await.unwrap_err();
    let retry: u64 = headers_of(&refused)[0].1.parse().unwrap();
    assert!((5..=10).contains(&retry), "{retry}");
    assert_eq!(limits.peek(&policy, "a").await.unwrap().remaining, 0);
    move_back(11.0).await;
    assert_eq!(limits.peek(&policy, "a").await.unwrap().remaining, 2);
    assert_eq!(limits.check(&policy, "a").await.unwrap().remaining, 1);

    // The table names neither the address nor anything that could be tried out without the keys file.
    limits.check(&policy, "ada@example.com").await.unwrap();
    let keys: Vec<Vec<u8>> = sqlx::query_scalar("SELECT key FROM daybook_platform.rate_counters")
        .fetch_all(app.store.database().owner())
        .await
        .unwrap();
    assert!(keys.len() == 2 && keys.iter().all(|key| key.len() == 32));

    assert_eq!(shared::prune(app.store.database()).await.unwrap(), 0);
    move_back(86_400.0).await;
    assert_eq!(shared::prune(app.store.database()).await.unwrap(), 2);
    app.shut_down().await;
}

#[tokio::test]
async fn without_the_database_nobody_passes() {
    let app = TestApp::start().await;
    app.store.database().close().await;
    let problem = app.state.limits().check(&LOGIN, "a").await.unwrap_err();
    assert_eq!(problem.code(), Code::Unavailable);
    assert_eq!(app.state.limits().peek(&LOGIN, "a").await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn an_allowance_is_part_of_an_answer_or_of_another_refusal() {
    let app = TestApp::start().await;
    let allowance = app.state.limits().check(&LOGIN, "a").await.unwrap();
    let answer = (allowance, "fine").into_response();
    assert_eq!(answer.headers()["ratelimit-policy"], "\"login\";q=10;w=60");
    assert_eq!(answer.headers()["ratelimit"], "\"login\";r=9;t=60");
    let refused = allowance.mark(Problem::new(Code::Unauthenticated, "no"));
    assert_eq!(headers_of(&refused)[1], ("ratelimit".into(), "\"login\";r=9;t=60".into()));
    let public = app.state.limits().check_public_availability(ClientAddress::default().limit_key()).unwrap();
    assert_eq!((public.policy.name, public.policy.quota, public.remaining), ("public_availability", 60, 59));
    app.shut_down().await;
}

#[tokio::test]
async fn variants_of_a_route_share_a_bucket_and_clients_do_not() {
    let patch = SettingsPatch {
        read_limit_per_minute: Some(6),
        trusted_proxy_hops: Some(1),
        ..SettingsPatch::default()
    };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    let ask = async |method: Method, path: &str, from: &str| -> Answer {
        let url = format!("http://{}{path}", app.address);
        read(app.client.request(method, url).bearer_auth(&tenant.token).header("x-forwarded-for", from)).await
    };
    let one = "/api/v1/resources/0198c0de-0000-7000-8000-000000000001";
    let two = "/api/v1/resources/0198c0de-0000-7000-8000-000000000002";
    for (method, path, from) in [
        (Method::GET, one, "2001:db8:1:2::1"),
        (Method::GET, two, "2001:db8:1:2::2"),
        (Method::HEAD, one, "9.9.9.9, 2001:db8:1:2::3"),
        (Method::DELETE, one, "2001:db8:1:2:3:4:5:6"),
        (Method::PUT, one, "[2001:db8:1:2::1]:443"),
        (Method::GET, "/api/v1/resources/x?page=2", "2001:db8:1:2::1"),
    ] {
        let status = ask(method, path, from).await.status;
        assert_ne!(status, 429, "{path}");
    }
    let refused = ask(Method::GET, two, "2001:db8:1:2::ffff").await.expect_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"read\";q=6;w=60"));
    let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&retry), "{retry}");
    assert!(refused.header("ratelimit").unwrap().starts_with("\"read\";r=0;t="));
    assert_eq!(refused.header("x-frame-options"), Some("DENY"));

    // Another network, and another route.
    ask(Method::GET, one, "2001:db8:1:3::1").await.expect(404);
    ask(Method::GET, "/api/v1/resources", "2001:db8:1:2::1").await.expect(200);
    // Paths that are no route are one, so that case and slashes make none that is fresh.
    for path in ["/api/v1/Resources", "/api/v1/resources/", "/api/v1//resources", "/x", "/y", "/z"] {
        ask(Method::GET, path, "1.2.3.4").await.expect(404);
    }
    ask(Method::GET, "/never-seen", "1.2.3.4").await.expect_problem(429, "rate_limited");

    app.state.security_log().flush().await;
    let log = fs::read_to_string(app.state.settings().data_dir.join("logs/security.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert_eq!(lines[0]["event"], "rate_limited");
    assert_eq!((&lines[0]["ip"], &lines[0]["detail"]), (&"2001:db8:1:2::ffff".into(), &"read".into()));
    assert_eq!(lines[0]["request_id"], refused.body["request_id"]);
    app.shut_down().await;
}

#[tokio::test]
async fn our_own_programs_are_not_limited_and_a_made_up_address_is_not_one_of_them() {
    let patch = |hops| SettingsPatch {
        read_limit_per_minute: Some(2),
        trusted_proxy_hops: Some(hops),
        ..SettingsPatch::default()
    };
    let app = TestApp::start_with(patch(0)).await;
    for _ in 0..10 {
        read(app.client.get(format!("http://{}/healthz", app.address))).await.expect(200);
    }
    app.shut_down().await;
    let app = TestApp::start_with(patch(1)).await;
    let ask = || {
        read(app.client.get(format!("http://{}/healthz", app.address)).header("x-forwarded-for", "127.0.0.1"))
    };
    ask().await.expect(200);
    ask().await.expect(200);
    ask().await.expect_problem(429, "rate_limited");
    app.shut_down().await;
}
