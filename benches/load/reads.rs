//! Reads over HTTP at 32 clients, in turn with an answer that needs no database.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Context as _;

use crate::{
    Bench,
    client::{Always, Job, get, run},
    report::{Row, Series, Target},
    stack::Tenant,
    writes,
};

const CLIENTS: usize = 32;
/// So many bookings are there at least to be read.
const FILLED: usize = 20_000;

/// A path of a read, given a tenant and how many reads came before.
type Path = fn(&Tenant, usize, i64) -> String;

/// List pages, availability and audit pages.
pub async fn reads(bench: &mut Bench) -> anyhow::Result<()> {
    writes::fill(bench, FILLED).await?;
    let tenant = bench.stack.tenants.first().context("a tenant")?.clone();
    let head = bench.stack.head(&tenant).await?;
    let fast = |rate| Target { at_least: Some(rate), p99: Some(15.0), ..Target::default() };
    let measures: [(&str, Path, Target); 6] = [
        ("bookings, first page of 50", |_, _, _| "/api/v1/bookings?limit=50".to_owned(), fast(8_000.0)),
        ("bookings, page of 50 of a week", bookings_of_a_week, fast(8_000.0)),
        ("availability, 7 days of a resource", week_of_a_resource, fast(8_000.0)),
        ("availability, 7 days of 100 resources", week_of_an_offering, Target::default()),
        ("audit, page of 50 anywhere", audit_page, fast(5_000.0)),
        ("one resource (next to nothing)", |_, _, _| "/api/v1/resources?limit=1".to_owned(), fast(30_000.0)),
    ];
    for (name, path, target) in measures {
        let (mut raw, mut series) = (Vec::new(), Series::default());
        for _ in 0..bench.repetitions {
            let nothing = Arc::new(Always(get("/healthz", "none")));
            raw.push(run(bench.stack.address, CLIENTS, bench.aside(), nothing).await?.rate);
            let read = Arc::new(Read { tenant: tenant.clone(), path, head, turn: AtomicUsize::new(0) });
            series.push(run(bench.stack.address, CLIENTS, bench.duration, read).await?);
            bench.sample_memory();
        }
        let row = Row::rates(name, CLIENTS, 1, &series).against("GET /healthz", &raw);
        bench.push(row.wants(target));
    }
    Ok(())
}

fn bookings_of_a_week(tenant: &Tenant, turn: usize, _head: i64) -> String {
    let (from, to, _) = tenant.week(turn);
    format!("/api/v1/bookings?limit=50&from={from}&to={to}")
}

fn week_of_a_resource(tenant: &Tenant, turn: usize, _head: i64) -> String {
    let (from, to, resource) = tenant.week(turn);
    let offering = tenant.offering();
    format!("/api/v1/availability?offering_id={offering}&resource_id={resource}&from={from}&to={to}")
}

fn week_of_an_offering(tenant: &Tenant, turn: usize, _head: i64) -> String {
    let (from, to, _) = tenant.week(turn);
    format!("/api/v1/availability?offering_id={}&from={from}&to={to}", tenant.offering())
}

/// Strides of a large prime visit the whole log, not only the pages that are warm.
fn audit_page(_tenant: &Tenant, turn: usize, head: i64) -> String {
    let after = (turn as i64).wrapping_mul(1_000_003).rem_euclid((head - 50).max(1));
    format!("/api/v1/audit/events?limit=50&after={after}")
}

struct Read {
    tenant: Arc<Tenant>,
    path: Path,
    head: i64,
    turn: AtomicUsize,
}

impl Job for Read {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        request.extend_from_slice(&get(&(self.path)(&self.tenant, turn, self.head), &self.tenant.token));
        true
    }
}
