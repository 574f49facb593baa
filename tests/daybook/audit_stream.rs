//! The log as server-sent events: every event once and in order, and nobody told more than they may be.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use daybook_domain::{permission::Tier, tenant::TenantCommand};
use reqwest::{Method, Response};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, read},
    people::generous,
    site::by,
};

/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long until a server that is too busy is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// A block of a stream: what stands between two empty lines.
#[derive(Clone, Debug, Default)]
struct Block {
    id: Option<i64>,
    event: Option<String>,
    data: Option<Value>,
}

/// A client of a stream.
struct Client {
    response: Response,
    text: String,
    blocks: VecDeque<Block>,
    /// What it asked with, and the last place it was told.
    token: String,
    query: String,
    last: Option<i64>,
}

impl Client {
    /// Asks again while the server is too busy to answer, as it says itself.
    async fn open(app: &TestApp, token: &str, query: &str, last: Option<i64>) -> Self {
        let opened = timeout(PATIENCE, async {
            loop {
                let mut request =
                    app.client.get(app.url(&format!("/audit/stream{query}"))).bearer_auth(token);
                if let Some(last) = last {
                    request = request.header("Last-Event-ID", last);
                }
                let response = request.send().await.unwrap();
                if response.status() != 503 || !response.headers().contains_key("retry-after") {
                    return response;
                }
                sleep(AGAIN).await;
            }
        });
        let response = opened.await.expect("it answers");
        assert_eq!(response.status(), 200);
        let (token, query) = (token.to_owned(), query.to_owned());
        Self { response, text: String::new(), blocks: VecDeque::new(), token, query, last }
    }

    /// The next block; `None` at the end.
    async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                self.last = block.id.or(self.last);
                return Some(block);
            }
            let chunk =
                timeout(PATIENCE, self.response.chunk()).await.expect("it says something").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut parsed = Block::default();
                for line in block.lines() {
                    match line.split_once(": ").unwrap() {
                        ("id", id) => parsed.id = Some(id.parse().unwrap()),
                        ("event", event) => parsed.event = Some(event.to_owned()),
                        ("data", data) => parsed.data = Some(serde_json::from_str(data).unwrap()),
                        ("retry" | "", _) => {}
                        (other, _) => panic!("a field {other}"),
                    }
                }
                self.blocks.push_back(parsed);
                self.text = rest.to_owned();
            }
        }
    }

    /// The next event; `None` at the end.
    async fn event(&mut self) -> Option<Block> {
        let found = timeout(PATIENCE, async {
            loop {
                let block = self.block().await?;
                if block.data.is_some() {
                    return Some(block);
                }
            }
        });
        found.await.expect("it tells something")
    }

    /// The next event, however often the stream ends before: it may, early, and is asked for the rest.
    async fn told(&mut self, app: &TestApp) -> Block {
        for _ in 0..100 {
            if let Some(event) = self.event().await {
                return event;
            }
            *self = Self::open(app, &self.token, &self.query, self.last).await;
        }
        panic!("it ends again and again")
    }

    /// How long it takes to end, and the positions of what is told until then.
    async fn end(&mut self) -> (Duration, Vec<i64>) {
        let (begin, mut told) = (Instant::now(), Vec::new());
        while let Some(event) = self.event().await {
            told.extend(event.id);
        }
        (begin.elapsed(), told)
    }
}

/// Registers a customer, once, however often the server is too busy to say so.
async fn write(app: &TestApp, tenant: &TestTenant, name: &str) {
    let key = Uuid::now_v7().to_string();
    let written = timeout(PATIENCE, async {
        loop {
            let answer = app.post_keyed(tenant, "/customers", &key, &json!({"name": name})).await;
            if answer.status != 503 || answer.header("retry-after").is_none() {
                return answer;
            }
            sleep(AGAIN).await;
        }
    });
    written.await.expect("it is written").expect(201);
}

async fn refused(app: &TestApp, token: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = app.client.get(app.url(&format!("/audit/stream{query}"))).bearer_auth(token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    timeout(PATIENCE, read(request)).await.expect("an answer with an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_told_once_and_in_order_also_what_other_nodes_write() {
    const EACH: usize = 60;
    let app = TestApp::start().await;
    let node = app.second_node().await;
    let tenant = app.tenant("camp").await;
    let other = app.tenant("hotel").await;
    write(&app, &tenant, "Before").await;
    let before = app.head(&tenant).await;
    let writing = async {
        let writer = async |app: &TestApp, who: &str| {
            for number in 0..EACH {
                write(app, &tenant, &format!("{who} {number}")).await;
                write(app, &other, "Not yours").await;
            }
        };
        tokio::join!(writer(&app, "Ada"), writer(&node, "Bob"), writer(&node, "Eve"));
    };
    let expected = before + 3 * i64::try_from(EACH).unwrap();
    let reading = async {
        let (mut told, mut last, mut round) = (Vec::new(), None, 0);
        while last != Some(expected) {
            // Cut off again and again; what had arrived and was not read is told anew.
            round += 1;
            assert!(round < 1_000, "it ends again and again");
            let from = if round == 1 { "?after=0" } else { "?after=1" };
            let on = if round % 2 == 0 { &node } else { &app };
            let mut client = Client::open(on, &tenant.token, from, last).await;
            for _ in 0..25 {
                if last == Some(expected) {
                    break;
                }
                // It may end early; the next round goes on from there.
                let Some(event) = client.event().await else { break };
                let data = event.data.unwrap();
                assert_eq!(data["position"].as_i64(), event.id);
                assert_eq!(data["type"].as_str(), event.event.as_deref());
                last = event.id;
                told.push(data);
            }
        }
        told
    };
    let ((), told) = tokio::join!(writing, reading);
    let positions: Vec<i64> = told.iter().map(|event| event["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (1..=expected).collect::<Vec<_>>());
    // Each as the list has it.
    let mut listed = Vec::new();
    while listed.len() < told.len() {
        let path = format!("/audit/events?limit=200&after={}", listed.len());
        let mut page = app.get(&tenant, &path).await.expect(200);
        listed.append(page.body["items"].as_array_mut().unwrap());
    }
    assert_eq!(listed, told);
    node.shut_down().await;
    app.shut_down().await;
}

#[tokio::test]
async fn it_begins_where_it_is_told_to_and_has_the_headers_of_a_stream() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    write(&app, &tenant, "Before").await;
    let head = app.head(&tenant).await;
    let mut now = Client::open(&app, &tenant.token, "", None).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(now.response.headers()[name], value);
    }
    assert!(now.response.headers().contains_key("x-request-id"));
    // Known before anything happens, so that nothing is missed that happens while it is cut off.
    assert_eq!(now.block().await.unwrap().id, Some(head));
    let mut past = Client::open(&app, &tenant.token, "?after=0", Some(head - 1)).await;
    assert_eq!(past.told(&app).await.id, Some(head));
    let begin = Instant::now();
    write(&app, &tenant, "News").await;
    assert_eq!(now.told(&app).await.id, Some(head + 1));
    assert_eq!(past.told(&app).await.id, Some(head + 1));
    assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());

    // What is not wanted is not told, but that there was something is.
    let mut leads = Client::open(&app, &tenant.token, "?type=lead.submitted", None).await;
    let actor = format!("?actor=key:{}", tenant.token_id);
    let mut mine = Client::open(&app, &tenant.token, &actor, Some(0)).await;
    assert_eq!(leads.block().await.unwrap().id, Some(head + 1));
    assert_eq!(mine.told(&app).await.id, Some(head));
    write(&app, &tenant, "More").await;
    let skipped = leads.block().await.unwrap();
    assert!(skipped.id == Some(head + 2) && skipped.data.is_none(), "{skipped:?}");
    assert_eq!(mine.told(&app).await.id, Some(head + 1));
    let lead = json!({"name": "Grace", "email": "grace@example.org"});
    app.post(&tenant, "/public/leads", &lead).await.expect(201);
    let told = leads.told(&app).await;
    assert_eq!((told.id, told.event.as_deref()), (Some(head + 3), Some("lead.submitted")));
    assert!(!told.data.unwrap().to_string().contains("grace@"), "personal data is not in it");
    app.shut_down().await;
}

#[tokio::test]
async fn it_stays_open_past_the_time_of_a_request() {
    let patch = daybook::config::SettingsPatch {
        request_timeout: Some("500ms".parse().unwrap()),
        ..Default::default()
    };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    let mut client = Client::open(&app, &tenant.token, "", None).await;
    sleep(Duration::from_millis(1_500)).await;
    write(&app, &tenant, "News").await;
    assert_eq!(client.event().await.unwrap().event.as_deref(), Some("customer.registered"));
    // A server that stops does not wait for it.
    let begin = Instant::now();
    let (ended, ()) = tokio::join!(client.end(), app.shut_down());
    assert!(ended.1.is_empty());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn what_cannot_be_a_place_in_the_log_is_refused_and_head_has_an_end() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let head = app.head(&tenant).await;
    for garbage in ["none", "-1", "+1", "1.5", "99999999999999999999", "", " ", &(head + 1).to_string()] {
        let answer = refused(&app, &tenant.token, "", &[("Last-Event-ID", garbage)]).await;
        answer.expect_problem(400, "malformed");
    }
    let twice = refused(&app, &tenant.token, "", &[("Last-Event-ID", "1"), ("Last-Event-ID", "2")]).await;
    twice.expect_problem(400, "malformed");
    let ahead = format!("?after={}", head + 1);
    for query in ["?after=x", "?after=-1", "?from=2026-01-01", "?limit=5", &ahead] {
        refused(&app, &tenant.token, query, &[]).await.expect_problem(422, "validation_failed");
    }
    for _ in 0..20 {
        let asked = app.client.head(app.url("/audit/stream")).bearer_auth(&tenant.token);
        let answer = timeout(PATIENCE, read(asked)).await.expect("HEAD has an end").expect(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    }
    app.shut_down().await;
}

#[tokio::test]
async fn who_may_not_read_the_audit_trail_gets_no_stream() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let staff = app.person(&tenant, "bob@example.org", Tier::TenantStaff).await;
    let owner = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let body = json!({"name": "desk", "permissions": ["bookings:read:tenant"]});
    let key = app.post_as(&owner.token, "/api-keys", &body).await.expect(201).text("key");
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    let root = app.sign_in(None, "root@example.org").await;
    for token in [&staff.token, &key, &root.token] {
        refused(&app, token, "", &[]).await.expect_problem(403, "forbidden");
    }
    refused(&app, "ck_00000000", "", &[]).await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[tokio::test]
async fn a_caller_has_ten_streams_and_room_again_when_one_is_closed() {
    let app = TestApp::start_with(generous()).await;
    // Of a plan in which a second sign-in does not end the first, and its streams with it.
    let tenant = app.business("camp").await;
    let owner = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(Client::open(&app, &tenant.token, "", None).await);
    }
    let many = refused(&app, &tenant.token, "", &[]).await.expect_problem(429, "rate_limited");
    assert!(many.header("retry-after").is_some());
    // Somebody else has their own; a caller has them over all their sessions.
    for _ in 0..5 {
        open.push(Client::open(&app, &owner.token, "", None).await);
    }
    let again = app.sign_in(Some(&tenant), "ada@example.org").await;
    for _ in 0..5 {
        open.push(Client::open(&app, &again.token, "", None).await);
    }
    refused(&app, &again.token, "", &[]).await.expect_problem(429, "rate_limited");
    open.remove(0);
    let room = timeout(PATIENCE, async {
        loop {
            let request = app.client.get(app.url("/audit/stream")).bearer_auth(&tenant.token);
            if request.send().await.unwrap().status() == 200 {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    room.await.expect("there is room again");
    app.shut_down().await;
}

/// Opens a stream on another node, ends its credential there or here, and goes on writing: the stream ends within a
/// second and tells nothing that was written later.
async fn ends(
    app: &TestApp,
    node: &TestApp,
    tenant: &TestTenant,
    token: &str,
    what: &str,
    end: impl AsyncFnOnce(),
) {
    let mut client = Client::open(node, token, "", None).await;
    write(app, tenant, "Seen").await;
    assert!(client.told(node).await.data.is_some(), "{what}");
    end().await;
    let begin = Instant::now();
    let written = async {
        sleep(Duration::from_secs(1)).await;
        let late = app.head(tenant).await;
        // Where the tenant is off, so is whoever would write.
        let _ = app.post(tenant, "/customers", &json!({"name": "Unseen"})).await;
        late
    };
    let ((_, told), late) = tokio::join!(client.end(), written);
    // The second of the writer included.
    assert!(begin.elapsed() < Duration::from_millis(1_600), "{what}: {:?}", begin.elapsed());
    assert!(told.iter().all(|position| *position <= late), "{what}: {told:?} past {late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_within_a_second_of_the_credential() {
    let app = TestApp::start_with(generous()).await;
    let node = app.second_node().await;
    let tenant = app.business("camp").await;
    let post = async |token: &str, path: &str, body: Value| {
        let request = app.client.post(app.url(path)).bearer_auth(token).header("If-Match", "*").json(&body);
        let answer = read(request).await;
        assert!(answer.status.is_success(), "{}", answer.body);
    };
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;

    let bob = app.person(&tenant, "bob@example.org", Tier::TenantOwner).await;
    let logout = async || post(&bob.token, "/auth/logout", json!({})).await;
    ends(&app, &node, &tenant, &bob.token, "a session that was ended", logout).await;

    let bob = app.sign_in(Some(&tenant), "bob@example.org").await;
    let path = format!("/users/{}/role", bob.id);
    let demote = async || post(&ada.token, &path, json!({"role": "tenant_staff"})).await;
    ends(&app, &node, &tenant, &bob.token, "a role that was taken away", demote).await;

    let eve = app.person(&tenant, "eve@example.org", Tier::TenantManager).await;
    let path = format!("/users/{}/deactivate", eve.id);
    let off = async || post(&ada.token, &path, json!({})).await;
    ends(&app, &node, &tenant, &eve.token, "an account that was deactivated", off).await;

    let issued = app.admin.issue_key(tenant.id, "stream", &by("test")).await.unwrap();
    let key = issued.key.expose_secret().to_owned();
    let revoke = async || {
        let path = format!("/api-keys/{}", issued.id);
        app.with_token(&tenant.token, Method::DELETE, &path, None).await.expect(204);
    };
    ends(&app, &node, &tenant, &key, "a key that was revoked", revoke).await;

    let off = async || {
        app.admin.command(tenant.id, TenantCommand::Deactivate, &by("test")).await.unwrap();
    };
    ends(&app, &node, &tenant, &ada.token, "a tenant that was deactivated", off).await;
    node.shut_down().await;
    app.shut_down().await;
}
