//! kill -9 between "the event is committed" and "the token is issued": there is evidence and no token, never the reverse.
//! A server of its own, in front of it a client that counts bytes, behind it a proxy that holds one commit.

use std::{io, time::Duration};

use daybook_domain::permission::Tier;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    support::{
        app::{Answer, TestApp, TestTenant, eventually, id, read},
        people::Person,
        process::{Host, Server},
        proxy::{Hold, Proxy},
        site::Dice,
    },
    support_sessions::{begin, platform, start},
};

const HOLDS: [Hold; 3] = [Hold::Answer, Hold::Command, Hold::Late];
/// For how long nothing must be heard.
const SILENCE: Duration = Duration::from_millis(400);

/// A tenant on a node that stays, and beside it a server to be killed, which reaches the database through the proxy.
struct World {
    app: TestApp,
    tenant: TestTenant,
    owner: Person,
    staff: Person,
    sue: Person,
    proxy: Proxy,
    host: Host,
    server: Server,
}

/// A way to begin what is looked into: as whom, where, and what the log says of it.
struct Way {
    token: String,
    path: &'static str,
    body: Value,
    started: &'static str,
    viewed: &'static str,
    /// What its token reads.
    reads: &'static str,
}

impl World {
    async fn new() -> Self {
        let (app, tenant, owner, sue) = start().await;
        let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
        let proxy = Proxy::start(&app.db.app_url).await;
        let host = Host::beside(&app, proxy.url(&app.db.app_url));
        let server = host.serve();
        Self { app, tenant, owner, staff, sue, proxy, host, server }
    }

    fn ways(&self) -> [Way; 2] {
        [
            Way {
                token: self.sue.token.clone(),
                path: "/support/sessions",
                body: json!({"tenant": "camp", "mode": "redacted", "reason": "ticket 7"}),
                started: "support.session_started",
                viewed: "support.viewed",
                reads: "/customers",
            },
            Way {
                token: self.owner.token.clone(),
                path: "/hijack",
                body: json!({"user_id": self.staff.id, "reason": "ticket 7"}),
                started: "hijack.started",
                viewed: "hijack.viewed",
                reads: "/me",
            },
        ]
    }

    /// What the log has events of a type of, in order, asked past the proxy.
    async fn log(&self, event_type: &str) -> Vec<Uuid> {
        let sql = self
            .tenant
            .schema()
            .sql("SELECT aggregate_id FROM {s}.events WHERE event_type = $1 ORDER BY position");
        let owner = self.app.store.database().owner();
        sqlx::query_scalar(&sql).bind(event_type).fetch_all(owner).await.unwrap()
    }

    /// Kills the server while it waits for what is held, then lets go, and starts another one.
    fn kill(&mut self) {
        self.server.kill();
        self.proxy.let_go();
        self.server = self.host.serve();
    }

    /// Asks the server that runs now.
    async fn ask(&self, way: &Way, key: &str) -> Answer {
        let request = self.app.client.post(format!("{}/api/v1{}", self.server.address, way.path));
        read(request.bearer_auth(&way.token).header("Idempotency-Key", key).json(&way.body)).await
    }

    async fn reads(&self, way: &Way, token: &str) -> Answer {
        let request = self.app.client.get(format!("{}/api/v1{}", self.server.address, way.reads));
        read(request.bearer_auth(token)).await
    }
}

/// Sends a request, and leaves its answer to be waited for.
async fn send(server: &Server, request: &str, token: &str, more: &str, body: &str) -> TcpStream {
    let address = server.address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (method, path) = request.split_once(' ').unwrap();
    let head = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{more}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Not a byte comes.
async fn is_silent(stream: &mut TcpStream) {
    let mut byte = [0; 1];
    let heard = tokio::time::timeout(SILENCE, stream.read(&mut byte)).await;
    assert!(heard.is_err(), "there is an answer before its event is committed: {heard:?}");
}

/// Not a byte came until the other side was gone.
async fn was_silent(mut stream: TcpStream) {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    assert_eq!(String::from_utf8_lossy(&heard), "", "there was an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_killed_leaves_evidence_and_no_token() {
    let mut world = World::new().await;
    for hold in HOLDS {
        for way in world.ways() {
            let before = world.log(way.started).await;
            let key = Uuid::now_v7().to_string();
            world.proxy.hold(hold, way.started);
            let more = format!("Idempotency-Key: {key}\r\n");
            let request = format!("POST {}", way.path);
            let mut asked = send(&world.server, &request, &way.token, &more, &way.body.to_string()).await;
            world.proxy.held().await;
            is_silent(&mut asked).await;
            let committed = usize::from(hold == Hold::Answer);
            assert_eq!(world.log(way.started).await.len(), before.len() + committed, "{hold:?} {}", way.path);

            world.kill();
            was_silent(asked).await;
            if hold == Hold::Late {
                eventually("it is committed", Duration::from_secs(5), async || {
                    world.log(way.started).await.len() == before.len() + 1
                })
                .await;
            }
            let kept = world.log(way.started).await;
            assert_eq!(
                kept.len(),
                before.len() + usize::from(hold != Hold::Command),
                "{hold:?} {}",
                way.path
            );

            // The repeat is that very session, or the first that there is.
            let began = world.ask(&way, &key).await.expect(201);
            let replayed = began.header("idempotent-replayed") == Some("true");
            assert_eq!(replayed, hold != Hold::Command, "{hold:?} {}", way.path);
            let log = world.log(way.started).await;
            assert_eq!(log.len(), before.len() + 1, "{hold:?} {}", way.path);
            assert_eq!(log.last(), Some(&id(&began)));
            if replayed {
                assert_eq!(log, kept);
            }
            world.reads(&way, &began.text("access_token")).await.expect(200);
            let again = world.ask(&way, &key).await.expect(201);
            assert_eq!((id(&again), world.log(way.started).await), (id(&began), log));
        }
    }
    world.app.assert_gap_free(&world.tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_before_it_is_written_down() {
    let mut world = World::new().await;
    let name = json!({"name": "Ada"});
    world.app.post_as(&world.owner.token, "/customers", &name).await.expect(201);
    for way in world.ways() {
        let began = world.ask(&way, "once").await.expect(201);
        let (session, token) = (id(&began), began.text("access_token"));
        world.reads(&way, &token).await.expect(200);
        let mut seen = vec![session];
        assert_eq!(world.log(way.viewed).await, seen);
        for hold in HOLDS {
            world.proxy.hold(hold, way.viewed);
            let mut asked = send(&world.server, &format!("GET {}", way.reads), &token, "", "").await;
            world.proxy.held().await;
            is_silent(&mut asked).await;
            if hold == Hold::Answer {
                seen.push(session);
            }
            assert_eq!(world.log(way.viewed).await, seen, "{hold:?} {}", way.reads);

            world.kill();
            was_silent(asked).await;
            if hold == Hold::Late {
                seen.push(session);
                eventually("it is committed", Duration::from_secs(5), async || {
                    world.log(way.viewed).await.len() == seen.len()
                })
                .await;
            }
            assert_eq!(world.log(way.viewed).await, seen, "{hold:?} {}", way.reads);
            // The session outlives the server, and its reads are written down on.
            world.reads(&way, &token).await.expect(200);
            seen.push(session);
            assert_eq!(world.log(way.viewed).await, seen);
        }
    }
    world.app.assert_gap_free(&world.tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_was_ever_given_has_its_event() {
    const ROUNDS: u64 = 12;
    const STARTS: u64 = 3;
    let mut dice = Dice::from_env("every_token_that_was_ever_given_has_its_event");
    let mut world = World::new().await;
    let mut ways = Vec::from(world.ways());
    let pat = platform(&world.app, "pat@platform.example", Tier::PlatformSupport).await;
    let other = world.app.person(&world.tenant, "second@camp.example", Tier::TenantOwner).await;
    ways.extend(world.ways());
    ways[2].token = pat.token;
    ways[3].token = other.token;

    // What was asked, by key, and what was answered.
    let mut asked: Vec<(usize, String, Option<Uuid>)> = Vec::new();
    for round in 0..ROUNDS {
        let mut clients = JoinSet::new();
        let (answers, mut so_many) = watch::channel(0_u64);
        for (n, way) in ways.iter().enumerate() {
            let client = reqwest::Client::new();
            let url = format!("{}/api/v1{}", world.server.address, way.path);
            let (token, body, answers) = (way.token.clone(), way.body.clone(), answers.clone());
            clients.spawn(async move {
                let mut told = Vec::new();
                for start in 0..STARTS {
                    let key = format!("{round}-{start}");
                    let request = client.post(&url).bearer_auth(&token).header("Idempotency-Key", &key);
                    let answered = async {
                        let answer = request.json(&body).send().await.ok()?;
                        assert_eq!(answer.status(), 201);
                        let body: Value = answer.json().await.ok()?;
                        assert!(body["access_token"].is_string(), "{body}");
                        body["id"].as_str()?.parse::<Uuid>().ok()
                    }
                    .await;
                    told.push((n, key, answered));
                    if answered.is_none() {
                        break;
                    }
                    answers.send_modify(|answers| *answers += 1);
                }
                told
            });
        }
        // Among the answers, however long they take here.
        let enough = dice.below(2 * STARTS);
        so_many.wait_for(|answers| *answers >= enough).await.unwrap();
        tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
        world.server.kill();
        for (n, key, answered) in clients.join_all().await.into_iter().flatten() {
            // As the log is at this moment, before anybody could have repeated it.
            if let Some(id) = answered {
                assert!(world.log(ways[n].started).await.contains(&id), "a token without its event");
            }
            asked.push((n, key, answered));
        }
        world.server = world.host.serve();
    }
    let given = asked.iter().filter(|(.., answered)| answered.is_some()).count();
    println!("{} were begun, {given} of them answered", asked.len());
    assert!(given > 0 && given < asked.len(), "no kill was between");

    // Under its key each is what it was, or is what it was not told of, or is begun now; and nothing else was.
    let mut begun = [Vec::new(), Vec::new()];
    for (n, key, answered) in &asked {
        let again = world.ask(&ways[*n], key).await.expect(201);
        assert!(answered.is_none_or(|answered| answered == id(&again)));
        begun[n % 2].push(id(&again));
    }
    for (way, mut begun) in ways.iter().zip(begun) {
        let mut log = world.log(way.started).await;
        log.sort_unstable();
        begun.sort_unstable();
        assert_eq!(log, begun);
    }
    world.app.assert_gap_free(&world.tenant).await;
    // It still does what it is for.
    begin(&world.app, &world.sue, "camp", "redacted", None).await.expect(201);
}
