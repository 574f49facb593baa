//! Windows, support sessions, hijacks and grants follow the database's clock: a server whose own clock is an hour off
//! changes nothing. Such a server is a process with a clock of its own, that a library put before the C library's tells it.

use std::{fs, path::Path, process::Command, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use daybook::{
    auth::access_token::{self, AccessClaims, Use},
    clock,
    eventstore::{Command as Order, Unit},
};
use daybook_domain::{
    SupportSessionId, UserId,
    envelope::Metadata,
    permission::Tier,
    registry::AggregateType,
    support_session::{SupportMode, SupportSessionEvent},
    tenant::TenantCommand,
    text::Reason,
};
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    permission_grants::{House, UPDATE, a_second},
    support::{
        app::{Answer, TestApp, eventually, id, read},
        people::{PASSWORD, Person},
        process::{Host, Server},
    },
    support_sessions::{begin, start, window},
};

/// The clock of a process, moved. The others it has, that measure how much time passes, stay.
const CLOCK: &str = r"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int) syscall(SYS_clock_gettime, clock, at);
    if (!failed && clock == CLOCK_REALTIME) at->tv_sec += OFFSET;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void) zone;
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
";

/// A node beside another, whose clock is off by so many seconds. The compiler is what Rust links with.
struct Off {
    host: Host,
    server: Server,
    client: reqwest::Client,
}

impl Off {
    async fn by(seconds: i64, app: &TestApp) -> Self {
        let host = Host::beside(app, app.db.app_url.clone());
        let (source, library) = (host.directory().join("clock.c"), host.directory().join("clock.so"));
        fs::write(&source, CLOCK).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", &format!("-DOFFSET=({seconds})"), "-o"])
            .args([&library, &source])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let server = host.serve_with(&[("LD_PRELOAD", library.to_str().unwrap())]);
        let off = Self { host, server, client: reqwest::Client::new() };
        // It is off indeed: so it dates its answers.
        let answer = read(off.client.get(format!("{}/healthz", off.server.address))).await;
        let says = DateTime::parse_from_rfc2822(answer.header("date").unwrap()).unwrap();
        let away = says.to_utc() - clock::now() - TimeDelta::seconds(seconds);
        assert!(away.num_seconds().abs() < 60, "{says} is not {seconds} s off; {}", off.host.log());
        off
    }

    fn request(&self, method: Method, token: &str, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/v1{path}", self.server.address)).bearer_auth(token)
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        read(self.request(Method::GET, token, path)).await
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        read(self.request(Method::POST, token, path).json(body)).await
    }

    /// Signs somebody in here: tokens of sign-ins are valid by the clock of whoever looks at them.
    async fn sign_in(&self, slug: Option<&str>, email: &str) -> Person {
        let body = json!({"email": email, "password": PASSWORD});
        let mut request = self.client.post(format!("{}/api/v1/auth/login", self.server.address)).json(&body);
        if let Some(slug) = slug {
            request = request.header("X-Tenant-Slug", slug);
        }
        let answer = read(request).await.expect(200);
        let id = answer.body["user"]["id"].as_str().unwrap().parse().unwrap();
        Person { id, token: answer.text("access_token"), refresh: String::new() }
    }
}

/// A time of an answer.
fn at(answer: &Answer, member: &str) -> DateTime<Utc> {
    answer.text(member).parse().unwrap()
}

/// The claims of a token that was issued here.
fn claims(app: &TestApp, token: &str) -> AccessClaims {
    access_token::verify(&app.keys, token, clock::now()).unwrap()
}

/// A redacted session of Sue's that has so long to go, as the log and the row have it, with a token of it such as a server
/// makes whose clock is right.
async fn ending_in(
    app: &TestApp,
    tenant: &crate::support::app::TestTenant,
    sue: &Person,
    left: TimeDelta,
) -> String {
    let session = SupportSessionId(Uuid::now_v7());
    let owner = app.store.database().owner();
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(owner).await.unwrap();
    let (from, until) = (now - TimeDelta::minutes(30) + left, now + left);
    let signed_in = claims(app, &sue.token);
    let started = SupportSessionEvent::Started {
        support_session_id: session,
        user_id: UserId(sue.id),
        signed_in: daybook_domain::SessionId(signed_in.sid),
        mode: SupportMode::Redacted,
        support_request_id: None,
        reason: Reason::new("ticket 7", "").unwrap(),
        at: from,
        until,
    };
    let decided = Order::decided(session.0, AggregateType::SupportSession, 0, vec![started.into()]);
    app.store.execute(&tenant.schema(), Unit::of(decided, Metadata::default())).await.unwrap();
    let of_session =
        AccessClaims { sid: session.0, usage: Use::Support, tenant_id: Some(tenant.id.0), ..signed_in };
    issued(app, of_session, from, until)
}

fn issued(app: &TestApp, claims: AccessClaims, from: DateTime<Utc>, until: DateTime<Utc>) -> String {
    access_token::issue_until(&app.keys, claims, from, until).unwrap().expose_secret().to_owned()
}

async fn nothing_changes_by(seconds: i64) {
    let (app, tenant, owner, sue) = start().await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    // Its people may be signed in on both.
    let plan = TenantCommand::ChangePlan { plan: "business".into() };
    app.admin.command(tenant.id, plan, &Metadata::default()).await.unwrap();
    let off = Off::by(seconds, &app).await;
    // Sign-ins do follow the servers' clocks: those of the one are not yet, or no longer, valid with the other.
    assert_eq!(off.get(&sue.token, "/me").await.status, 401);
    let (sue_there, owner_there) = (
        off.sign_in(None, "sue@platform.example").await,
        off.sign_in(Some("camp"), "owner@camp.example").await,
    );
    assert_eq!(app.get_as(&sue_there.token, "/me").await.status, 401);
    let soon = |when: DateTime<Utc>, what: &str| {
        let away = when - clock::now();
        assert!(away.num_seconds().abs() < 60, "{what}: {when}");
    };

    // A window that is asked for, approved and used over there is as long, and in the same time, as any.
    let asking = json!({"tenant": "camp", "reason": "ticket 7", "minutes": 30});
    let request = id(&off.post(&sue_there.token, "/support/requests", &asking).await.expect(201));
    let approve = format!("/support/requests/{request}/approve");
    let approved = off.post(&owner_there.token, &approve, &json!({})).await.expect(200);
    soon(at(&approved, "open_until") - TimeDelta::minutes(30), "the window");
    let real = json!({"tenant": "camp", "mode": "real", "request_id": request, "reason": "ticket 7"});
    let there = off.post(&sue_there.token, "/support/sessions", &real).await.expect(201);
    soon(at(&there, "started_at"), "the session");
    assert_eq!(there.body["expires_at"], approved.body["open_until"]);
    let body = json!({"user_id": staff.id, "reason": "ticket 7"});
    let hijack = off.post(&owner_there.token, "/hijack", &body).await.expect(201);
    soon(at(&hijack, "started_at"), "the hijack");
    assert_eq!(hijack.body["expires_in"], 1_800);
    // Tokens of either node are as good with the other.
    let here = begin(&app, &sue, "camp", "real", Some(window(&app, &sue, &owner, "camp").await)).await;
    let here = here.expect(201);
    for (token, path) in [(&there, "/customers"), (&hijack, "/me"), (&here, "/customers")] {
        let token = token.text("access_token");
        app.get_as(&token, path).await.expect(200);
        off.get(&token, path).await.expect(200);
    }

    // What ends, ends on both at its time: not an hour before, not an hour after.
    let token = ending_in(&app, &tenant, &sue, TimeDelta::seconds(3)).await;
    app.get_as(&token, "/customers").await.expect(200);
    off.get(&token, "/customers").await.expect(200);
    eventually("it is over", Duration::from_secs(4), async || {
        app.get_as(&token, "/customers").await.status == 401
    })
    .await;
    eventually("it is over there too", Duration::from_secs(1), async || {
        off.get(&token, "/customers").await.status == 401
    })
    .await;
    let revoke = format!("/support/requests/{request}/revoke");
    app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
    a_second().await;
    assert_eq!(off.get(&there.text("access_token"), "/customers").await.status, 401);
    assert_eq!(off.get(&here.text("access_token"), "/customers").await.status, 200);
    app.post_as(&owner.token, "/hijack/stop", &json!({})).await.expect(200);
    a_second().await;
    assert_eq!(off.get(&hijack.text("access_token"), "/me").await.status, 401);
    drop(off);
    app.shut_down().await;
}

#[tokio::test]
async fn a_server_an_hour_ahead_changes_nothing() {
    nothing_changes_by(3_600).await;
}

#[tokio::test]
async fn a_server_an_hour_behind_changes_nothing() {
    nothing_changes_by(-3_600).await;
}

#[tokio::test]
async fn grants_do_not_follow_a_servers_clock() {
    let house = House::open().await;
    let mut nodes = Vec::new();
    for seconds in [-3_600, 3_600] {
        let off = Off::by(seconds, &house.app).await;
        let staff = off.sign_in(Some("camp"), "staff@example.org").await;
        nodes.push((off, staff));
    }
    let granted = async |node: &(Off, Person)| {
        let me = node.0.get(&node.1.token, "/me").await.expect(200);
        me.body["granted"].as_array().unwrap().len()
    };
    for node in &nodes {
        assert_eq!(granted(node).await, 0);
    }
    // By one of them; for a minute, on all.
    let manager = nodes[0].0.sign_in(Some("camp"), "manager@example.org").await;
    let body = json!({"grantee_id": house.staff.id, "permission": UPDATE, "reason": "x", "minutes": 1});
    let grant = nodes[0].0.post(&manager.token, "/permission-grants", &body).await.expect(201);
    let left = at(&grant, "expires_at") - clock::now();
    assert!((0..=60).contains(&left.num_seconds()), "{left}");
    a_second().await;
    assert!(house.may_update(&house.app).await);
    for node in &nodes {
        assert_eq!(granted(node).await, 1);
    }
    let sql = format!(
        "UPDATE {{s}}.permission_grants SET expires_at = now() + interval '2500 milliseconds' WHERE id = '{}'",
        id(&grant)
    );
    house.app.sql(&house.tenant.schema(), &sql).await;
    a_second().await;
    for node in &nodes {
        assert_eq!(granted(node).await, 1);
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!house.may_update(&house.app).await);
    for node in &nodes {
        assert_eq!(granted(node).await, 0);
    }
}

#[tokio::test]
async fn only_what_the_database_ends_may_be_dated_wrongly() {
    let (app, tenant, owner, sue) = start().await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let session = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let body = json!({"user_id": staff.id, "reason": "ticket 7"});
    let hijack = app.post_as(&owner.token, "/hijack", &body).await.expect(201);
    let tokens = [session.text("access_token"), hijack.text("access_token")];
    // As a node would date them whose clock is off.
    let dated = |token: &str, hours: i64| {
        let from = clock::now() + TimeDelta::hours(hours);
        issued(&app, claims(&app, token), from, from + TimeDelta::minutes(30))
    };
    let off = [-1, 1].map(|hours| tokens.each_ref().map(|token| dated(token, hours)));
    for [session, hijack] in &off {
        app.get_as(session, "/customers").await.expect(200);
        app.get_as(hijack, "/me").await.expect(200);
    }
    for hours in [-1, 1] {
        for person in [&sue, &owner] {
            app.get_as(&dated(&person.token, 0), "/me").await.expect(200);
            app.get_as(&dated(&person.token, hours), "/me").await.expect_problem(401, "unauthenticated");
        }
    }

    // However a token is dated, there is nothing behind it once it is over.
    let path = format!("/support/sessions/{}", id(&session));
    app.with_token(&sue.token, Method::DELETE, &path, None).await.expect(204);
    app.post_as(&owner.token, "/hijack/stop", &json!({})).await.expect(200);
    a_second().await;
    for [session, hijack] in off.iter().chain([&tokens]) {
        app.get_as(session, "/customers").await.expect_problem(401, "unauthenticated");
        app.get_as(hijack, "/me").await.expect_problem(401, "unauthenticated");
    }
    let over = ending_in(&app, &tenant, &sue, -TimeDelta::seconds(1)).await;
    for hours in [-1, 0, 1] {
        let token = dated(&over, hours);
        app.get_as(&token, "/customers").await.expect_problem(401, "unauthenticated");
    }
    app.shut_down().await;
}

/// Where times are decided on, nobody asks the system for it.
#[test]
fn nobody_who_decides_asks_the_systems_clock() {
    const CLOCKS: &[&str] =
        &["clock::now", "SystemTime::now", "Utc::now", "Local::now", "UNIX_EPOCH.elapsed"];
    fn look(path: &Path, found: &mut Vec<String>, files: &mut usize) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                look(&entry.unwrap().path(), found, files);
            }
            return;
        }
        *files += 1;
        let text = fs::read_to_string(path).unwrap();
        let asks = text.lines().filter(|line| CLOCKS.iter().any(|clock| line.contains(clock)));
        found.extend(asks.map(|line| format!("{}: {}", path.display(), line.trim())));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut files) = (Vec::new(), 0);
    for place in [
        "domain/src",
        "projections/src",
        "src/eventstore",
        "src/auth/grants.rs",
        "src/auth/masquerade.rs",
        "src/auth/principal.rs",
        "src/auth/sightings.rs",
        "src/http/hijack",
        "src/http/support",
        "src/workers/masquerade_sweep.rs",
    ] {
        look(&root.join(place), &mut found, &mut files);
    }
    // A token is verified at a time; of those that this is about, nothing depends on it.
    found.retain(|line| !line.contains("masquerade.rs: let Ok(claims) = access_token::verify("));
    assert_eq!(found, Vec::<String>::new());
    assert!(files > 50, "only {files} files were looked at");
}
