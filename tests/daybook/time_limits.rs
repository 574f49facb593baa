//! What takes too long, and what there is too little of: each is answered, or cut off, in time.

use std::time::{Duration, Instant};

use daybook::{config::SettingsPatch, tenancy::database::PoolSettings};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{
    app::{Answer, TestApp},
    process::Host,
};

fn assert_secured(answer: &Answer) {
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!(answer.header("x-request-id"), answer.body["request_id"].as_str());
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let limit = Duration::from_millis(600);
    let patch = SettingsPatch { header_timeout: Some("600ms".parse().unwrap()), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let begin = Instant::now();
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
    let (mut reader, mut writer) = slow.into_split();
    // A byte now and then does not begin the time anew.
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), reader.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "who takes for ever is waited for");
    let taken = begin.elapsed();
    assert!(taken >= limit && taken < limit * 4, "{taken:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    trickle.abort();

    // Who says nothing at all is not kept either, nor is a connection that was used once.
    let mut kept = TcpStream::connect(app.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let silent = TcpStream::connect(app.address).await.unwrap();
    for (mut stream, expected) in [(kept, "HTTP/1.1 200"), (silent, "")] {
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await;
        assert!(read.is_ok() && answer.starts_with(expected), "{answer}");
    }
    app.shut_down().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    let patch = SettingsPatch { request_timeout: Some("500ms".parse().unwrap()), ..SettingsPatch::default() };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    app.get(&tenant, "/customers").await.expect(200);
    let lock = tenant.schema().sql("LOCK TABLE {s}.customers IN ACCESS EXCLUSIVE MODE");
    let mut blocking = app.store.database().owner().begin().await.unwrap();
    sqlx::raw_sql(&lock).execute(&mut *blocking).await.unwrap();
    let begin = Instant::now();
    let answer = app.get(&tenant, "/customers").await.expect_problem(503, "unavailable");
    let taken = begin.elapsed();
    assert!(taken >= Duration::from_millis(500) && taken < Duration::from_secs(4), "{taken:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_secured(&answer);
    // Another route is not held up, and afterwards this one is not either.
    app.get(&tenant, "/resources").await.expect(200);
    blocking.rollback().await.unwrap();
    app.get(&tenant, "/customers").await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn without_a_free_connection_one_is_told_to_come_back() {
    let pools = PoolSettings {
        read_connections: 1,
        write_connections: 1,
        acquire_timeout: Duration::from_millis(300),
        ..PoolSettings::default()
    };
    let app = TestApp::start_on(SettingsPatch::default(), pools).await;
    let tenant = app.tenant("camp").await;
    app.get(&tenant, "/customers").await.expect(200);
    let taken = app.store.database().app().acquire(None).await.unwrap();
    let answer = app.get(&tenant, "/customers").await.expect_problem(503, "unavailable");
    let retry: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(retry >= 1);
    assert_secured(&answer);
    assert!(!answer.body.to_string().to_lowercase().contains("pool"), "{}", answer.body);
    let login = app.login(Some(&tenant), "ada@example.org", "river-pitch-seven").await;
    assert!(login.expect_problem(503, "unavailable").header("retry-after").is_some());
    drop(taken);
    app.get(&tenant, "/customers").await.expect(200);
    app.post(&tenant, "/customers", &json!({"name": "Ada"})).await.expect(201);
    app.shut_down().await;
}

#[test]
fn a_database_elsewhere_is_spoken_to_over_checked_tls_or_not_at_all() {
    let host = Host::embedded();
    let local = "postgres://app:canary@127.0.0.1:1/daybook";
    let remote = |mode: &str| format!("postgres://app:canary@db.example.invalid/daybook{mode}");
    let mut cases: Vec<(String, String, &str)> = Vec::new();
    for mode in ["", "?sslmode=disable", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca"] {
        cases.push((remote(mode), remote("?sslmode=verify-full"), "DATABASE_URL"));
        cases.push((local.to_owned(), remote(mode), "DAYBOOK_ADMIN_DATABASE_URL"));
    }
    let serve = |app: &str, admin: &str| {
        let mut command = host.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("DATABASE_URL", app).env("DAYBOOK_ADMIN_DATABASE_URL", admin);
        let output = command.env("DAYBOOK_POOL_TIMEOUT", "1s").output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    for (app, admin, variable) in cases {
        let (code, said) = serve(&app, &admin);
        assert_eq!(code, Some(1), "{app} {admin}: {said}");
        assert!(said.contains(variable) && said.contains("sslmode=verify-full"), "{app} {admin}: {said}");
        assert!(!said.contains("canary") && !said.contains("listening"), "{said}");
    }
    // What is allowed fails for another reason: nobody is there.
    let (code, said) = serve(&remote("?sslmode=verify-full"), &remote("?sslmode=verify-full"));
    assert!(code == Some(1) && !said.contains("add ?sslmode"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}
