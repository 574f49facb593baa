//! Signing in, refreshing, and what asking who calls costs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use daybook::{
    auth::password::{PasswordHasher, PasswordParams},
    eventstore::{Attached, Command, Unit},
};
use daybook_domain::{
    UserId,
    envelope::Metadata,
    permission::Tier,
    text::{Email, Name},
    user::{By, UserCommand},
};
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::{
    Bench,
    client::{Always, Connection, get, post_as, run},
    machine,
    report::{Outcome, Row, Series, Target},
};

const CLIENTS: usize = 32;
/// Sign-ins at once while memory is looked at.
const CROWD: usize = 200;
const PASSWORD: &str = "river-pitch-seven";

/// A sign-in: the access token and the refresh token.
struct SignedIn {
    access: String,
    refresh: String,
}

/// All of it.
pub async fn accounts(bench: &mut Bench) -> anyhow::Result<()> {
    bench.stack.tenants(1).await?;
    bench.stack.serving().await?;
    let slug = bench.stack.tenants.first().context("a tenant")?.slug.clone();
    register(bench).await?;
    hashing(bench).await?;
    logins(bench, &slug).await?;
    let mut connection = Connection::open(bench.stack.address).await?;
    let ada = sign_in(&mut connection, &slug, 0).await?;
    asking(bench, &ada.access).await?;
    refreshes(bench, &slug).await?;
    crowd(bench, &slug).await
}

fn email(number: usize) -> String {
    format!("somebody{number}@example.org")
}

/// An account for each of a crowd, all with one password: several sign-ins of one at once count as failures until they
/// succeed, and would lock it.
async fn register(bench: &Bench) -> anyhow::Result<()> {
    let tenant = bench.stack.tenants.first().context("a tenant")?;
    let hasher = PasswordHasher::new(PasswordParams { memory_kib: 19 * 1024, iterations: 2, parallel: 2 })?;
    let hash = hasher.hash(PASSWORD.into()).await?;
    for number in 0..CROWD {
        let user = UserId(Uuid::now_v7());
        let command = UserCommand::Register {
            email: Email::new(&email(number), "/email")?,
            name: Name::new("Somebody", "/name")?,
            role: Tier::TenantOwner.into(),
            modules: Default::default(),
            customer_id: None,
            by: By::Operator,
        };
        let metadata = Metadata { actor: "bench".into(), ..Metadata::default() };
        let unit = Unit::of(Command::create(user, command), metadata)
            .attach(Attached::Password { user, hash: hash.clone() });
        bench.stack.runtime.store.execute(&tenant.schema, unit).await?;
    }
    Ok(())
}

/// One hash, alone on the machine: what bounds sign-ins.
async fn hashing(bench: &mut Bench) -> anyhow::Result<()> {
    let hasher = PasswordHasher::new(PasswordParams { memory_kib: 19 * 1024, iterations: 2, parallel: 1 })?;
    let mut times = Vec::new();
    for _ in 0..9 {
        let begin = Instant::now();
        hasher.hash(PASSWORD.into()).await?;
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
    }
    bench.push(Row::values("one Argon2id hash (19 MiB, t=2, p=1)", "ms", times));
    Ok(())
}

async fn sign_in(connection: &mut Connection, slug: &str, number: usize) -> anyhow::Result<SignedIn> {
    let body = json!({"email": email(number), "password": PASSWORD}).to_string();
    let mut request = Vec::new();
    post_as(&mut request, "/api/v1/auth/login", &format!("x-tenant-slug: {slug}"), &body);
    let (status, answer) = connection.exchange(&request).await?;
    ensure!(status == 200, "sign in: {status} {}", String::from_utf8_lossy(answer));
    let answer: Value = serde_json::from_slice(answer)?;
    let access = answer["access_token"].as_str().context("no access token")?.to_owned();
    let refresh = connection.cookie().context("no refresh token")?;
    Ok(SignedIn { access, refresh })
}

async fn refresh(connection: &mut Connection, token: &str) -> anyhow::Result<String> {
    let mut request = Vec::new();
    post_as(&mut request, "/api/v1/auth/refresh", &format!("cookie: __Host-daybook_refresh={token}"), "{}");
    let (status, answer) = connection.exchange(&request).await?;
    ensure!(status == 200, "refresh: {status} {}", String::from_utf8_lossy(answer));
    connection.cookie().context("no refresh token")
}

async fn logins(bench: &mut Bench, slug: &str) -> anyhow::Result<()> {
    let mut series = Series::default();
    for _ in 0..bench.repetitions {
        let mut tasks = JoinSet::new();
        for number in 0..8 {
            let (address, slug, duration) = (bench.stack.address, slug.to_owned(), bench.duration);
            tasks.spawn(async move {
                let mut connection = Connection::open(address).await?;
                let begin = Instant::now();
                let mut latencies = Vec::new();
                while begin.elapsed() < duration {
                    let sent = Instant::now();
                    sign_in(&mut connection, &slug, number).await?;
                    latencies.push(sent.elapsed());
                }
                Ok((latencies, begin.elapsed()))
            });
        }
        series.push(Outcome::collect(tasks).await?);
    }
    bench.push(Row::rates("sign-ins", 8, 1, &series));
    Ok(())
}

/// The cheapest answer that asks who calls, in turn with one that does not.
async fn asking(bench: &mut Bench, token: &str) -> anyhow::Result<()> {
    let (mut raw, mut series) = (Vec::new(), Series::default());
    for _ in 0..bench.repetitions {
        let nothing = Arc::new(Always(get("/healthz", "none")));
        raw.push(run(bench.stack.address, CLIENTS, bench.aside(), nothing).await?.rate);
        let checked = Arc::new(Always(get("/api/v1/auth/check", token)));
        series.push(run(bench.stack.address, CLIENTS, bench.duration, checked).await?);
    }
    // Two cores answer both: what a request costs more is the difference of the times between answers.
    let overhead =
        series.rates().iter().zip(&raw).map(|(asked, not)| (1.0 / asked - 1.0 / not) * 1e6).collect();
    let target = Target { at_least: Some(30_000.0), ..Target::default() };
    bench.push(
        Row::rates("authenticated no-op", CLIENTS, 1, &series).against("GET /healthz", &raw).wants(target),
    );
    bench.push(Row::values("authentication and permission check", "us", overhead));
    Ok(())
}

async fn refreshes(bench: &mut Bench, slug: &str) -> anyhow::Result<()> {
    let mut tokens = Vec::new();
    let mut connection = Connection::open(bench.stack.address).await?;
    for number in 0..CLIENTS {
        tokens.push(sign_in(&mut connection, slug, number).await?.refresh);
    }
    let mut series = Series::default();
    for _ in 0..bench.repetitions {
        let ready = Arc::new(Barrier::new(CLIENTS));
        let next = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for mut token in std::mem::take(&mut tokens) {
            let (address, duration) = (bench.stack.address, bench.duration);
            let (ready, next) = (ready.clone(), next.clone());
            tasks.spawn(async move {
                let mut connection = Connection::open(address).await?;
                ready.wait().await;
                let begin = Instant::now();
                let mut latencies = Vec::new();
                while begin.elapsed() < duration {
                    let sent = Instant::now();
                    token = refresh(&mut connection, &token).await?;
                    latencies.push(sent.elapsed());
                }
                next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(token);
                Ok((latencies, begin.elapsed()))
            });
        }
        series.push(Outcome::collect(tasks).await?);
        tokens = std::mem::take(&mut *next.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
    let target = Target { at_least: Some(2_500.0), ..Target::default() };
    bench.push(Row::rates("refreshes", CLIENTS, 1, &series).wants(target));
    Ok(())
}

/// The most memory while two hundred sign in at once.
async fn crowd(bench: &mut Bench, slug: &str) -> anyhow::Result<()> {
    let pid = bench.stack.server.as_ref().context("a server")?.pid;
    let over = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn({
        let over = over.clone();
        async move {
            let mut most = 0.0_f64;
            while !over.load(Ordering::Relaxed) {
                most = most.max(machine::memory(pid).map_or(0.0, |(resident, _)| resident));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            most
        }
    });
    let (begin, done) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for number in 0..CROWD {
        let (address, slug, done) = (bench.stack.address, slug.to_owned(), done.clone());
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            sign_in(&mut connection, &slug, number).await?;
            done.fetch_add(1, Ordering::Relaxed);
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    over.store(true, Ordering::Relaxed);
    let most = watcher.await?;
    eprintln!(
        "  {} sign-ins at once took {:.1} s",
        done.load(Ordering::Relaxed),
        begin.elapsed().as_secs_f64()
    );
    let target = Target { at_most: Some(150.0), ..Target::default() };
    bench.push(Row::values("memory (RSS) during 200 sign-ins at once", "MB", vec![most]).wants(target));
    Ok(())
}
