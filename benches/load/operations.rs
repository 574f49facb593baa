//! What operators run: starting, provisioning, migrating, importing, replaying, rebuilding.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use daybook::{
    eventstore::load::Reader,
    tenancy::{Access, TenantTx, spare},
};
use serde_json::Value;
use sqlx::Row as _;

use crate::{
    Bench,
    report::{Row, Target},
    writes,
};

/// So many bookings are there at least to be replayed.
const FILLED: usize = 20_000;
/// So many rows of the full history are imported each time; all of them take a minute.
const IMPORTED: &str = "20000";
/// Events a read takes at once.
const PAGE: i64 = 5_000;
/// The history as hotels give it, where it is at hand; a month of it comes with the project.
const HISTORIES: [&str; 3] = [
    "../shared/data/hotel_bookings.csv.gz",
    "data/hotel_bookings.csv.gz",
    "demo/hotel_bookings_july_2016.csv.gz",
];

/// Time to the first answer of a started server with its database up, and its memory then.
pub async fn start(bench: &mut Bench) -> anyhow::Result<()> {
    bench.stack.tenants(1).await?;
    let mut times = Vec::new();
    for _ in 0..bench.repetitions {
        bench.stack.unserve()?;
        times.push(bench.stack.serve().await?.as_secs_f64() * 1e3);
    }
    let target = Target { at_most: Some(300.0), ..Target::default() };
    bench.push(Row::values("first answer of a started server", "ms", times).wants(target));
    // Whatever starts with the server has started by then.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (resident, proportional) = bench.memory().context("the server's memory")?;
    let target = Target { at_most: Some(60.0), ..Target::default() };
    bench.push(Row::values("memory idle (RSS)", "MB", vec![resident]).wants(target));
    bench.push(Row::values("memory idle (PSS)", "MB", vec![proportional]));
    Ok(())
}

/// Tenants made one after the other: in schemas that were ready, as where tenants come now and then, and without.
pub async fn provision(bench: &mut Bench) -> anyhow::Result<()> {
    bench.stack.serving().await?;
    let (mut ready, mut unready) = (Vec::new(), Vec::new());
    for _ in 0..bench.repetitions * 3 {
        for (spares, times) in [(1, &mut ready), (0, &mut unready)] {
            spare::refill(bench.stack.runtime.store.database(), spares).await?;
            let (took, ..) = bench.stack.provision(&format!("crowd-{}", bench.stack.bare)).await?;
            bench.stack.bare += 1;
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    let target = Target { at_most: Some(100.0), ..Target::default() };
    bench.push(Row::values("provision a tenant, a schema ready", "ms", ready).wants(target));
    bench.push(Row::values("provision a tenant, none ready", "ms", unready).wants(target));
    Ok(())
}

/// `daybook migrate` over so many tenants: with nothing to do, and with one change.
pub async fn migrate(bench: &mut Bench, tenants: usize) -> anyhow::Result<()> {
    bench.stack.crowd(tenants).await?;
    let (mut nothing, mut one) = (Vec::new(), Vec::new());
    for _ in 0..bench.repetitions {
        nothing.push(migrated(bench, false).await?);
        bench.stack.undo_last_migration().await?;
        one.push(migrated(bench, true).await?);
    }
    let all = Some(bench.stack.tenants.len() + bench.stack.bare);
    for (name, times, at_most) in
        [("migrate, nothing to do", nothing, 3.0), ("migrate, one change", one, 30.0)]
    {
        let target = Target { at_most: (tenants == 1_000).then_some(at_most), ..Target::default() };
        bench.push(Row { tenants: all, ..Row::values(name, "s", times).wants(target) });
    }
    Ok(())
}

async fn migrated(bench: &Bench, change: bool) -> anyhow::Result<f64> {
    let (took, report) = bench.stack.run(&["migrate", "--json"]).await?;
    let report: Value = serde_json::from_str(&report).context("the report of a migration")?;
    // A time means nothing unless every schema was looked at.
    let all = bench.stack.tenants.len() + bench.stack.bare;
    let seen = report["schemas"].as_u64().and_then(|seen| usize::try_from(seen).ok());
    ensure!(seen.is_some_and(|seen| seen >= all), "{all} tenants, and the migration saw {report}");
    let changed = report["migrated"].as_u64().and_then(|changed| usize::try_from(changed).ok());
    let expected = if change { all } else { 0 };
    ensure!(changed == Some(expected), "{expected} to change, and the migration did {report}");
    Ok(took.as_secs_f64())
}

/// The log of a tenant read and decoded from its leaves, in turn with the same rows merely fetched.
pub async fn replay(bench: &mut Bench) -> anyhow::Result<()> {
    writes::fill(bench, FILLED).await?;
    let tenant = bench.stack.tenants.first().context("a tenant")?.clone();
    let store = &bench.stack.runtime.store;
    let (mut raw, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..bench.repetitions {
        let mut tx = TenantTx::begin(store.database().app(), &tenant.schema, Access::ReadConsistent).await?;
        let sql = "SELECT position, leaf FROM events WHERE position > $1 ORDER BY position LIMIT $2";
        let (begin, mut position, mut bytes, mut count) = (Instant::now(), 0_i64, 0_usize, 0_usize);
        loop {
            let rows = sqlx::query(sql).bind(position).bind(PAGE).fetch_all(&mut *tx).await?;
            let Some(last) = rows.last() else { break };
            position = last.get(0);
            count += rows.len();
            bytes += rows.iter().map(|row| row.get::<&[u8], _>(1).len()).sum::<usize>();
        }
        raw.push(count as f64 / begin.elapsed().as_secs_f64());
        ensure!(bytes > count, "leaves are not empty");

        let mut reader = Reader::sealed(&tenant.schema, store.keys());
        let (begin, mut position, mut count) = (Instant::now(), 0, 0_usize);
        loop {
            let events = reader.after(&mut tx, position, PAGE).await?;
            let Some(last) = events.last() else { break };
            position = last.position;
            count += events.len();
        }
        rates.push(count as f64 / begin.elapsed().as_secs_f64());
    }
    let target = Target { at_least: Some(100_000.0), ..Target::default() };
    let row = Row::values("replay events from leaves", "/s", rates).against("the rows fetched", &raw);
    bench.push(row.wants(target));
    Ok(())
}

/// `daybook projections rebuild` of each projection of a tenant, from the start of the command to its end.
pub async fn rebuild(bench: &mut Bench) -> anyhow::Result<()> {
    writes::fill(bench, FILLED).await?;
    let tenant = bench.stack.tenants.first().context("a tenant")?.clone();
    let events = bench.stack.head(&tenant).await?;
    for projection in daybook_projections::ALL {
        let arguments = ["projections", "rebuild", "--tenant", &tenant.slug, "--name", projection.name()];
        let mut rates = Vec::new();
        for _ in 0..bench.repetitions {
            let (took, _) = bench.stack.run(&arguments).await?;
            rates.push(events as f64 / took.as_secs_f64());
        }
        let target = Target { at_least: Some(20_000.0), ..Target::default() };
        let name = format!("rebuild {}, events", projection.name());
        bench.push(Row::values(&name, "/s", rates).wants(target));
    }
    Ok(())
}

/// `daybook import bookings`, beside the server, each time into a tenant of its own.
pub async fn import(bench: &mut Bench) -> anyhow::Result<()> {
    bench.stack.serving().await?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let history: PathBuf = HISTORIES
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists())
        .context("no history of bookings is at hand")?;
    let (mut rows, mut events) = (Vec::new(), Vec::new());
    for _ in 0..bench.repetitions {
        let slug = format!("crowd-{}", bench.stack.bare);
        bench.stack.provision(&slug).await?;
        bench.stack.bare += 1;
        let report = bench.stack.directory().join("refusals.csv");
        let (history, report) = (history.to_string_lossy(), report.to_string_lossy());
        let arguments = ["import", "bookings", &history, "--tenant", &slug];
        let options = ["--limit", IMPORTED, "--report", &report, "--json"];
        let (_, summary) = bench.stack.run(&[&arguments[..], &options].concat()).await?;
        let summary: Value = serde_json::from_str(&summary).context("the summary of an import")?;
        let figure = |name: &str| summary[name].as_f64().with_context(|| format!("no {name} in {summary}"));
        rows.push(figure("rows_per_second")?);
        events.push(figure("events")? / figure("seconds")?);
    }
    // 119,390 rows in a minute.
    let target = Target { at_least: Some(1_990.0), ..Target::default() };
    bench.push(Row::values("import, rows", "/s", rows).wants(target));
    bench.push(Row::values("import, events", "/s", events));
    Ok(())
}
