//! kill -9, of the server and of PostgreSQL, under load: what was acknowledged is there once, what was not can be
//! repeated, and nothing else happened. Real processes, a real disk, fsync on.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use daybook::{
    config::{Settings, SettingsPatch},
    database::{Database, OpenMode},
    tenancy::Schema,
};
use daybook_domain::TenantId;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use crate::support::{
    process::Host,
    site::{Dice, assert_gap_free, assert_no_double_booking, day},
};

const ROUNDS: u32 = 20;
const CLIENTS: u64 = 6;
/// Few enough days that bookings are refused, many enough that most are not.
const DAYS: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_and_what_was_not_can_be_repeated() {
    let mut dice = Dice::from_env("what_was_acknowledged_survives_kill_9_and_what_was_not_can_be_repeated");
    let host = Host::embedded();
    let mut server = host.serve();
    let tenant = host.json(&["tenant", "create", "crash", "--name", "Crash", "--json"]);
    let world = World::new(&host, &server.address, tenant["token"].as_str().unwrap()).await;

    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        clients.spawn(world.clone().client(Dice::new(dice.below(u64::from(u32::MAX)) + n)));
    }
    for round in 0..ROUNDS {
        let before = world.answered();
        tokio::time::sleep(Duration::from_millis(150 + dice.below(400))).await;
        // The server, PostgreSQL, and now and then both at once.
        let (kill_server, kill_postgres) = (round % 2 == 0 || round % 5 == 1, round % 2 == 1);
        if kill_postgres {
            host.kill_postgres();
        }
        if kill_server {
            server.kill();
            server = host.serve();
            world.address.send_replace(server.address.clone());
        }
        world.wait_until_it_answers(before).await;
    }
    world.stop.send_replace(true);
    let mut answered = Vec::new();
    while let Some(done) = clients.join_next().await {
        answered.extend(done.unwrap());
    }
    println!("{} commands were answered in {ROUNDS} rounds", answered.len());

    repeat_all(&world, &answered).await;
    let tenant = TenantId(tenant["tenant_id"].as_str().unwrap().parse().unwrap());
    verify(&host, &Schema::tenant(tenant), &answered).await;
    println!("{}", host.run(&["projections", "verify", "--tenant", "crash"]));
    server.terminate();
}

/// Every command again, under its key: the same answer, and nothing is done.
async fn repeat_all(world: &Arc<World>, answered: &[Answered]) {
    let mut repeats = JoinSet::new();
    for chunk in answered.chunks(answered.len().div_ceil(CLIENTS as usize)) {
        let (world, chunk) = (world.clone(), chunk.to_vec());
        repeats.spawn(async move {
            for it in chunk {
                let again = world.ask(&it.command).await;
                assert!(again.replayed, "{:?} was done again: {}", it.command, again.body);
                assert_eq!(again.essence(), it.essence(), "{:?}", it.command);
            }
        });
    }
    while let Some(done) = repeats.join_next().await {
        done.unwrap();
    }
}

/// The log holds exactly the commands that were answered with success, each once.
async fn verify(host: &Host, schema: &Schema, answered: &[Answered]) {
    let settings = Settings::load_with(
        None,
        &|_| None,
        SettingsPatch { data_dir: Some(host.data.clone()), ..SettingsPatch::default() },
    )
    .unwrap();
    let database = Database::open(&settings, OpenMode::Command).await.unwrap();
    let owner = PgPoolOptions::new().connect_with(database.owner_options.clone()).await.unwrap();
    assert_gap_free(&owner, schema).await;
    assert_no_double_booking(&owner, schema).await;

    let sql = schema.sql(
        "SELECT aggregate_id, sequence, event_type, count(*) FROM {s}.events WHERE aggregate_type = 'booking'
         GROUP BY 1, 2, 3",
    );
    let rows: Vec<(Uuid, i64, String, i64)> = sqlx::query_as(&sql).fetch_all(&owner).await.unwrap();
    let mut log: HashMap<(Uuid, i64), String> = HashMap::new();
    for (id, sequence, event_type, count) in rows {
        assert_eq!(count, 1, "{event_type} of {id} twice");
        log.insert((id, sequence), event_type);
    }
    let mut seen = HashSet::new();
    for it in answered.iter().filter(|it| it.status < 300) {
        let id: Uuid = it.body["id"].as_str().unwrap().parse().unwrap();
        let version = it.body["version"].as_i64().unwrap();
        assert!(seen.insert((id, version)), "two commands were answered with version {version} of {id}");
        let event_type = log.remove(&(id, version));
        assert_eq!(event_type.as_deref(), Some(it.command.event_type()), "acknowledged, and not in the log");
    }
    assert_eq!(log, HashMap::new(), "in the log, though nobody was answered so");
    // Enough happened, of each kind, for the above to mean something.
    for kind in ["booking.booked", "booking.held", "booking.confirmed", "booking.cancelled"] {
        let count = answered.iter().filter(|it| it.status < 300 && it.command.event_type() == kind).count();
        assert!(count > 10, "only {count} {kind}");
    }
    assert!(answered.iter().any(|it| it.status == 409), "nothing was refused");
    owner.close().await;
}

/// A command as a client repeats it until it is answered.
#[derive(Clone, Debug)]
struct Asked {
    key: String,
    path: String,
    body: Value,
}

#[derive(Clone, Debug)]
struct Answered {
    command: Asked,
    status: u16,
    body: Value,
    replayed: bool,
}

impl Asked {
    fn new(path: String, body: Value) -> Self {
        Self { key: Uuid::now_v7().to_string(), path, body }
    }

    fn event_type(&self) -> &'static str {
        match self.path.rsplit('/').next() {
            Some("cancel") => "booking.cancelled",
            Some("confirm") => "booking.confirmed",
            _ if self.body["hold"] == true => "booking.held",
            _ => "booking.booked",
        }
    }
}

impl Answered {
    /// What a repeat must answer: all of it, but for the request's own id and what is free elsewhere by now.
    fn essence(&self) -> (u16, Value) {
        let mut body = self.body.clone();
        if let Some(object) = body.as_object_mut() {
            object.remove("request_id");
            object.remove("alternatives");
        }
        (self.status, body)
    }
}

struct World {
    address: watch::Sender<String>,
    stop: watch::Sender<bool>,
    token: String,
    client: reqwest::Client,
    offering: Uuid,
    customer: Uuid,
    count: Mutex<usize>,
}

impl World {
    async fn new(host: &Host, address: &str, token: &str) -> Arc<Self> {
        let mut world = Self {
            address: watch::Sender::new(address.to_owned()),
            stop: watch::Sender::new(false),
            token: token.to_owned(),
            client: reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap(),
            offering: Uuid::nil(),
            customer: Uuid::nil(),
            count: Mutex::new(0),
        };
        let made = async |path: &str, body: Value| -> Uuid {
            let answer = world.ask(&Asked::new(path.to_owned(), body)).await;
            assert_eq!(answer.status, 201, "{} {}", answer.body, host.log());
            answer.body["id"].as_str().unwrap().parse().unwrap()
        };
        let unit = made("/resources", json!({"name": "Cabin", "kind": "unit"})).await;
        let pool = made("/resources", json!({"name": "Pitches", "kind": "pool", "capacity": 3})).await;
        let offering = made(
            "/offerings",
            json!({"name": "Stay", "mode": "nights", "resource_ids": [unit, pool], "price_per": "night",
                   "price": {"amount": 5000, "currency": "EUR"}}),
        )
        .await;
        let customer = made("/customers", json!({"name": "Ada"})).await;
        (world.offering, world.customer) = (offering, customer);
        Arc::new(world)
    }

    /// Asks until there is an answer. No answer, a 5xx and a key in flight say nothing of the outcome.
    async fn ask(&self, command: &Asked) -> Answered {
        loop {
            let url = format!("{}/api/v1{}", *self.address.borrow(), command.path);
            let request = self
                .client
                .post(url)
                .bearer_auth(&self.token)
                .header("Idempotency-Key", &command.key)
                .json(&command.body);
            if let Ok(response) = request.send().await {
                let status = response.status().as_u16();
                let replayed = response.headers().contains_key("Idempotent-Replayed");
                let body: Value = response.json().await.unwrap_or_default();
                if status < 500 && body.is_object() && body["code"] != "idempotency_in_flight" {
                    assert!([200, 201, 409].contains(&status), "{command:?}: {body}");
                    return Answered { command: command.clone(), status, body, replayed };
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Books, holds, confirms and cancels until it is told to stop.
    async fn client(self: Arc<Self>, mut dice: Dice) -> Vec<Answered> {
        let mut answered: Vec<Answered> = Vec::new();
        let (mut held, mut confirmed): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        while !*self.stop.borrow() {
            let command = match dice.below(10) {
                0..2 if !confirmed.is_empty() => {
                    let id = confirmed.swap_remove(dice.below(confirmed.len() as u64) as usize);
                    Asked::new(format!("/bookings/{id}/cancel"), json!({}))
                }
                2..4 if !held.is_empty() => {
                    let id = held.swap_remove(dice.below(held.len() as u64) as usize);
                    Asked::new(format!("/bookings/{id}/confirm"), json!({}))
                }
                n => {
                    let from = dice.below(DAYS);
                    let body = json!({
                        "offering_id": self.offering, "customer_id": self.customer, "hold": n % 3 == 0,
                        "check_in": day(from), "check_out": day(from + 1 + dice.below(4)),
                    });
                    Asked::new("/bookings".to_owned(), body)
                }
            };
            let answer = self.ask(&command).await;
            if let Some(id) = answer.body["id"].as_str() {
                match answer.body["status"].as_str() {
                    Some("held") => held.push(id.to_owned()),
                    Some("confirmed") => confirmed.push(id.to_owned()),
                    _ => {}
                }
            }
            *self.count.lock().unwrap() += 1;
            answered.push(answer);
        }
        answered
    }

    fn answered(&self) -> usize {
        *self.count.lock().unwrap()
    }

    /// Until the clients are answered again, so that each round has its load.
    async fn wait_until_it_answers(&self, before: usize) {
        let recovered = async {
            let resumed = self.answered().max(before);
            while self.answered() < resumed + 2 * CLIENTS as usize {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), recovered).await.expect("it does not answer any more");
    }
}
