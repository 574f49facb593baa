//! Bookings, cancellations and holds, each in turn with the raw limit and with postgres-es.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    Bench,
    client::{Job, post, run},
    report::{Outcome, Row, Series, Target},
    stack::{RESOURCES, Tenant},
};

const ONE_ROW: &str = "pgbench, one-row inserts";

/// Books with so many clients, each request to the next of so many tenants.
pub async fn bookings(bench: &mut Bench, clients: usize, tenants: usize) -> anyhow::Result<()> {
    bench.stack.tenants(tenants).await?;
    warm(bench, tenants).await?;
    let hot = (clients, tenants) == (32, 1);
    let (mut raw, mut stock) = (Vec::new(), Series::default());
    let (mut booked, mut cancelled, mut held) = (Series::default(), Series::default(), Series::default());
    for _ in 0..bench.repetitions {
        raw.push(bench.stack.baseline.raw(clients, bench.aside()).await?);
        stock.push(bench.stack.baseline.postgres_es(clients, bench.aside()).await?);
        let book = Arc::new(Book::new(&bench.stack.tenants[..tenants], false, hot));
        booked.push(run(bench.stack.address, clients, bench.duration, book.clone()).await?);
        bench.sample_memory();
        if hot {
            // Each begins with read models that are up to date, as the bookings did.
            bench.stack.settle().await?;
            let cancel = Arc::new(Cancel::of(&book));
            cancelled.push(run(bench.stack.address, clients, bench.duration, cancel).await?);
            bench.stack.settle().await?;
            let hold = Arc::new(Book::new(&bench.stack.tenants[..tenants], true, false));
            held.push(run(bench.stack.address, clients, bench.duration, hold).await?);
        }
        bench.stack.settle().await?;
    }
    let target = match (clients, tenants) {
        (32, 1) => Target { ratio: Some(0.4), p99: Some(25.0), ..Target::default() },
        (32, _) => Target { ratio: Some(0.3), p99: Some(40.0), ..Target::default() },
        _ => Target::default(),
    };
    let row = Row::rates("bookings", clients, tenants, &booked).against(ONE_ROW, &raw);
    bench.push(
        Row { postgres_es: Some(stock.rate()), postgres_es_repetitions: stock.rates(), ..row }.wants(target),
    );
    if hot {
        let target = Target { at_least: Some(booked.rate()), ..Target::default() };
        bench.push(Row::rates("cancels", clients, tenants, &cancelled).against(ONE_ROW, &raw).wants(target));
        bench.push(Row::rates("holds", clients, tenants, &held).against(ONE_ROW, &raw).wants(target));
    }
    Ok(())
}

/// Books each resource of each tenant once. The first booking of a resource loads who is on it; with many tenants a
/// short measure would consist of first bookings.
pub async fn warm(bench: &Bench, tenants: usize) -> anyhow::Result<()> {
    let cold: Vec<_> =
        bench.stack.tenants[..tenants].iter().filter(|tenant| tenant.booked() == 0).cloned().collect();
    if !cold.is_empty() {
        let mut book = Book::new(&cold, false, false);
        book.limit = cold.len() * RESOURCES;
        run(bench.stack.address, 32, Duration::from_secs(300), Arc::new(book)).await?;
    }
    bench.stack.settle().await
}

/// Books until the first tenant has so many bookings, for measures that need something to read.
pub async fn fill(bench: &mut Bench, wanted: usize) -> anyhow::Result<()> {
    bench.stack.tenants(1).await?;
    let first = bench.stack.tenants.first().context("a tenant")?.clone();
    let missing = wanted.saturating_sub(first.booked());
    if missing > 0 {
        let mut book = Book::new(&[first], false, false);
        book.limit = missing;
        run(bench.stack.address, 32, Duration::from_secs(300), Arc::new(book)).await?;
    }
    bench.stack.settle().await
}

/// Books with so many clients at these tenants, once.
pub async fn book(
    bench: &Bench,
    tenants: &[Arc<Tenant>],
    clients: usize,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    run(bench.stack.address, clients, duration, Arc::new(Book::new(tenants, false, false))).await
}

/// Bookings of places that are free.
struct Book {
    tenants: Vec<Arc<Tenant>>,
    hold: bool,
    limit: usize,
    turn: AtomicUsize,
    /// Which were made, where that is wanted.
    made: Option<Mutex<Vec<String>>>,
}

impl Book {
    fn new(tenants: &[Arc<Tenant>], hold: bool, remember: bool) -> Self {
        Self {
            tenants: tenants.to_vec(),
            hold,
            limit: usize::MAX,
            turn: AtomicUsize::new(0),
            made: remember.then(Mutex::default),
        }
    }
}

impl Job for Book {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if turn >= self.limit {
            return false;
        }
        let tenant = &self.tenants[turn % self.tenants.len()];
        post(request, "/api/v1/bookings", &tenant.token, &tenant.booking(self.hold));
        true
    }

    fn answered(&self, body: &[u8]) {
        let Some(made) = &self.made else { return };
        // The id comes first; parsing every answer whole would take the server's time.
        let id = body.strip_prefix(br#"{"id":""#).and_then(|rest| rest.get(..36));
        if let Some(id) = id {
            made.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(String::from_utf8_lossy(id).into_owned());
        }
    }
}

/// Cancellations of bookings made before, until there are none left.
struct Cancel {
    tenant: Arc<Tenant>,
    paths: Vec<String>,
    turn: AtomicUsize,
}

impl Cancel {
    fn of(book: &Book) -> Self {
        let made = book.made.as_ref().map(|made| made.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let paths =
            made.unwrap_or_default().iter().map(|id| format!("/api/v1/bookings/{id}/cancel")).collect();
        Self { tenant: book.tenants[0].clone(), paths, turn: AtomicUsize::new(0) }
    }
}

impl Job for Cancel {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let Some(path) = self.paths.get(self.turn.fetch_add(1, Ordering::Relaxed)) else { return false };
        post(request, path, &self.tenant.token, "{}");
        true
    }
}
