//! The audit trail: what the ledger costs and how far behind it is, and what auditors take out of a long log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use daybook::{
    ledger::Ledger,
    tenancy::Schema,
    workers::log_pruning::{self, Cut},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    Bench,
    client::{Job, get, run},
    report::{Row, Series, Target},
    stack::Tenant,
    writes,
};

const CLIENTS: usize = 32;
/// Events of the long log, unless `BENCH_EVENTS` says otherwise.
const EVENTS: i64 = 1_000_000;
/// Events that are pruned of it.
const PRUNED: i64 = 100_000;
/// How often the server's memory is looked at while it exports.
const LOOK: Duration = Duration::from_millis(50);
/// In so long each of many logs that change is signed.
const SIGNED_ONCE: Duration = Duration::from_secs(20);
/// How long the ledger may take to come to where it is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bookings of so many tenants with the ledger and without, and how long after the last of them a checkpoint has it.
pub async fn ledger(bench: &mut Bench, tenants: usize) -> anyhow::Result<()> {
    bench.stack.tenants(tenants).await?;
    writes::warm(bench, tenants).await?;
    let all = bench.stack.tenants[..tenants].to_vec();
    let tenant = all.first().context("a tenant")?;
    // Of many logs each is signed every twenty seconds, but all of them soon after the start.
    let duration = if tenants == 1 { bench.duration } else { bench.duration.max(SIGNED_ONCE) };
    let (mut off, mut on, mut delays) = (Vec::new(), Series::default(), Vec::new());
    for repetition in 0..bench.repetitions {
        // In turns, as the log grows with each.
        for follows in [repetition % 2 == 0, repetition % 2 != 0] {
            bench.stack.unserve()?;
            bench.stack.ledger_follows = follows;
            bench.stack.serve().await?;
            // Whatever it catches up on at its start is not what is measured.
            for tenant in &all {
                let head = bench.stack.head(tenant).await?;
                wait_for(bench, tenant, head).await?;
            }
            if tenants > 1 {
                writes::book(bench, &all, CLIENTS, bench.duration).await?;
            }
            if follows {
                let (outcome, delay) = tokio::try_join!(
                    writes::book(bench, &all, CLIENTS, duration),
                    to_checkpoint(bench, tenant, duration / 2)
                )?;
                on.push(outcome);
                delays.push(delay.as_secs_f64());
            } else {
                off.push(writes::book(bench, &all, CLIENTS, duration).await?.rate);
            }
            bench.stack.settle().await?;
        }
    }
    let target = Target { ratio: Some(0.95), ..Target::default() };
    let row = Row::rates("bookings with the ledger", CLIENTS, tenants, &on).against("without", &off);
    bench.push(row.wants(target));
    let target = Target { at_most: Some(30.0), ..Target::default() };
    let row = Row::values("from an event to its checkpoint, under load", "s", delays).wants(target);
    bench.push(Row { tenants: Some(tenants), ..row });
    Ok(())
}

/// How long after it was written what is written in a while is under a checkpoint.
async fn to_checkpoint(bench: &Bench, tenant: &Tenant, after: Duration) -> anyhow::Result<Duration> {
    tokio::time::sleep(after).await;
    let (begin, head) = (Instant::now(), bench.stack.head(tenant).await?);
    wait_for(bench, tenant, head).await?;
    Ok(begin.elapsed())
}

/// A log of a million events: sealed, read, exported, bundled, checked.
pub async fn audit(bench: &mut Bench) -> anyhow::Result<()> {
    let events = match std::env::var("BENCH_EVENTS") {
        Ok(text) => text.parse().context("BENCH_EVENTS is not a number")?,
        Err(_) => EVENTS,
    };
    bench.stack.tenants(1).await?;
    writes::fill(bench, 2_000).await?;
    let tenant = bench.stack.tenants.first().context("a tenant")?.clone();
    bench.stack.unserve()?;
    bench.stack.ledger_follows = true;
    lengthen(bench, &tenant.schema, events).await?;
    seal(bench, &tenant.schema).await?;
    bench.stack.serve().await?;
    let head = bench.stack.head(&tenant).await?;
    wait_for(bench, &tenant, head).await?;
    for (name, path, target) in [
        ("inclusion proofs of a million events", proof as fn(usize, i64) -> String, Target::default()),
        (
            "audit, page of 50 in a million events",
            page,
            Target { at_least: Some(5_000.0), p99: Some(15.0), ..Target::default() },
        ),
    ] {
        let mut series = Series::default();
        for _ in 0..bench.repetitions {
            let read = Arc::new(Read { tenant: tenant.clone(), path, head, turn: AtomicUsize::new(0) });
            series.push(run(bench.stack.address, CLIENTS, bench.duration, read).await?);
        }
        bench.push(Row::rates(name, CLIENTS, 1, &series).wants(target));
    }
    exports(bench, &tenant, head).await?;
    offline(bench, &tenant, head).await?;
    live(bench, &tenant, head).await?;
    pruning(bench, &tenant.schema, PRUNED.min(head / 2)).await
}

/// Adds copies of a resource to a log, each of a stream of its own and a microsecond after the one before, and to the read
/// models: nothing tells them from others.
async fn lengthen(bench: &Bench, schema: &Schema, events: i64) -> anyhow::Result<()> {
    let sql = schema.sql(
        "SET session_replication_role = replica;
         INSERT INTO {s}.events (position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                                 recorded_at, actor, on_behalf_of, leaf)
         SELECT h.position + new.i, new.event, e.aggregate_type, new.aggregate, 1, e.event_type, e.event_version,
                new.at, e.actor, e.on_behalf_of,
                '\\x01'::bytea || convert_to(
                    replace(replace(replace(replace(convert_from(substring(e.leaf FROM 2), 'UTF8'),
                        format('\"position\":\"%s\"', e.position), format('\"position\":\"%s\"', h.position + new.i)),
                        e.event_id::text, new.event::text),
                        e.aggregate_id::text, new.aggregate::text),
                        to_char(e.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                        to_char(new.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')),
                    'UTF8')
         FROM {s}.log_head h,
              (SELECT * FROM {s}.events WHERE event_type = 'resource.created' ORDER BY position LIMIT 1) e,
              LATERAL (SELECT i, gen_random_uuid() AS event, gen_random_uuid() AS aggregate,
                              h.recorded_at + i * interval '1 microsecond' AS at
                       FROM generate_series(1, {n}) AS of (i)) new;
         INSERT INTO {s}.streams (aggregate_id, aggregate_type, sequence)
         SELECT aggregate_id, aggregate_type, sequence FROM {s}.events e, {s}.log_head h WHERE e.position > h.position;
         INSERT INTO {s}.resources
         SELECT (jsonb_populate_record(r, jsonb_build_object('id', e.aggregate_id, 'position', e.position, 'version', 1,
                                       'created_at', e.recorded_at, 'updated_at', e.recorded_at))).*
         FROM {s}.resources r, {s}.events e, {s}.log_head h
         WHERE r.id = (SELECT id FROM {s}.resources ORDER BY position LIMIT 1) AND e.position > h.position;
         INSERT INTO {s}.slot_resources
         SELECT (jsonb_populate_record(r, jsonb_build_object('resource_id', e.aggregate_id))).*
         FROM {s}.slot_resources r, {s}.events e, {s}.log_head h
         WHERE r.resource_id = (SELECT resource_id FROM {s}.slot_resources WHERE capacity = 1 LIMIT 1) AND e.position > h.position;
         INSERT INTO {s}.calendar_resources
         SELECT (jsonb_populate_record(r, jsonb_build_object('resource_id', e.aggregate_id))).*
         FROM {s}.calendar_resources r, {s}.events e, {s}.log_head h
         WHERE r.resource_id = (SELECT resource_id FROM {s}.calendar_resources WHERE capacity = 1 LIMIT 1) AND e.position > h.position;
         UPDATE {s}.log_head SET (position, recorded_at) = (SELECT max(position), max(recorded_at) FROM {s}.events);
         UPDATE {s}.projection_checkpoints SET position = (SELECT position FROM {s}.log_head);
         SET session_replication_role = origin",
    );
    bench.stack.as_superuser(&sql.replace("{n}", &events.to_string())).await?;
    // What autovacuum has long done where events came one by one, and would do while the reads are measured.
    for table in ["events", "streams", "resources", "slot_resources", "calendar_resources"] {
        bench.stack.as_superuser(&schema.sql(&format!("VACUUM (ANALYZE) {{s}}.{table}"))).await?;
    }
    Ok(())
}

/// What there is to be sealed, at once and by nobody else.
async fn seal(bench: &mut Bench, schema: &Schema) -> anyhow::Result<()> {
    let ledger = Ledger::new(bench.stack.runtime.store.clone(), &bench.stack.runtime.settings.public_url());
    let before = ledger.seal(schema).await?.size;
    let begin = Instant::now();
    let after = loop {
        let sealed = ledger.seal(schema).await?;
        if !sealed.is_behind() {
            break sealed.size;
        }
    };
    let rate = (after - before) as f64 / begin.elapsed().as_secs_f64();
    let target = Target { at_least: Some(5_000.0), ..Target::default() };
    bench.push(Row::values("events sealed", "/s", vec![rate]).wants(target));
    Ok(())
}

async fn wait_for(bench: &Bench, tenant: &Tenant, head: i64) -> anyhow::Result<()> {
    if !bench.stack.ledger_follows {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    let sql = tenant.schema.sql("SELECT coalesce(max(size), 0) >= $1 FROM {s}.ledger_checkpoints");
    let owner = bench.stack.runtime.store.database().owner();
    while !sqlx::query_scalar::<_, bool>(&sql).bind(head).fetch_one(owner).await? {
        ensure!(Instant::now() < deadline, "no checkpoint of position {head} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn exports(bench: &mut Bench, tenant: &Tenant, head: i64) -> anyhow::Result<()> {
    for (format, least) in [("ndjson", 200_000.0), ("csv", 200_000.0), ("parquet", 150_000.0)] {
        let (mut rates, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..bench.repetitions {
            let path = format!("/api/v1/audit/export?format={format}&until={head}");
            let (before, _) = bench.memory().context("the server's memory")?;
            let begin = Instant::now();
            let (mut most, mut looked) = (before, begin);
            let mut stream = TcpStream::connect(bench.stack.address).await?;
            stream.write_all(&get(&path, &tenant.token)).await?;
            let (mut buffer, mut answer, mut bytes) = (vec![0; 256 * 1024], Vec::new(), 0_usize);
            // The end of a chunked answer, as the last bytes that come.
            while !answer.ends_with(b"\r\n0\r\n\r\n") {
                let read = stream.read(&mut buffer).await?;
                ensure!(read > 0, "the export broke off after {bytes} bytes");
                ensure!(bytes > 0 || buffer.starts_with(b"HTTP/1.1 200"), "an export was refused");
                bytes += read;
                answer.extend_from_slice(&buffer[..read]);
                answer.drain(..answer.len().saturating_sub(8));
                if looked.elapsed() > LOOK {
                    looked = Instant::now();
                    most = most.max(bench.memory().map_or(0.0, |memory| memory.0));
                }
            }
            rates.push(head as f64 / begin.elapsed().as_secs_f64());
            memory.push(most - before);
        }
        let target = Target { at_least: Some(least), ..Target::default() };
        bench.push(Row::values(&format!("export {format}, rows"), "/s", rates).wants(target));
        let target = Target { at_most: Some(64.0), ..Target::default() };
        bench.push(Row::values(&format!("export {format}, more memory (RSS)"), "MB", memory).wants(target));
    }
    Ok(())
}

/// `daybook audit bundle` of all of it, and `daybook audit verify` of that.
async fn offline(bench: &mut Bench, tenant: &Tenant, head: i64) -> anyhow::Result<()> {
    let file = bench.stack.directory().join("bundle.tar.gz");
    let file = file.to_string_lossy().into_owned();
    let ledger = Ledger::new(bench.stack.runtime.store.clone(), &bench.stack.runtime.settings.public_url());
    let keys = ledger.verifier_keys(&tenant.schema).await?;
    let key = keys.first().context("a verifier key")?.vkey.clone();
    let slug = tenant.slug.clone();
    let (took, _) = bench.stack.run(&["audit", "bundle", "--tenant", &slug, "--out", &file]).await?;
    bench.push(Row::values("bundle, events", "/s", vec![head as f64 / took.as_secs_f64()]));
    let mut times = Vec::new();
    for _ in 0..bench.repetitions {
        let (took, _) = bench.stack.run(&["audit", "verify", &file, "--key", &key]).await?;
        times.push(took.as_secs_f64());
    }
    let target = Target { at_most: Some(30.0), ..Target::default() };
    bench.push(Row::values("offline verification of a million events", "s", times).wants(target));
    Ok(())
}

/// `daybook audit verify` of the database.
async fn live(bench: &mut Bench, tenant: &Tenant, head: i64) -> anyhow::Result<()> {
    let slug = tenant.slug.clone();
    let (took, said) = bench.stack.run(&["audit", "verify", "--tenant", &slug, "--json"]).await?;
    ensure!(said.contains("\"findings\":[]"), "{said}");
    bench.push(Row::values("live verification, events", "/s", vec![head as f64 / took.as_secs_f64()]));
    Ok(())
}

/// What the job does to the oldest events of a log, each of which is a stream that goes on.
async fn pruning(bench: &mut Bench, schema: &Schema, events: i64) -> anyhow::Result<()> {
    let ledger = Ledger::new(bench.stack.runtime.store.clone(), &bench.stack.runtime.settings.public_url());
    let sql = schema.sql("SELECT recorded_at + interval '1 microsecond' FROM {s}.events WHERE position = $1");
    let owner = bench.stack.runtime.store.database().owner();
    let at = sqlx::query_scalar(&sql).bind(events).fetch_one(owner).await?;
    let begin = Instant::now();
    let report = log_pruning::prune(&ledger, schema, Cut { at, history_days: 1 }).await?;
    ensure!(report.refused.is_none() && report.deleted >= events.unsigned_abs(), "{report:?}");
    let rate = report.deleted as f64 / begin.elapsed().as_secs_f64();
    bench.push(Row::values("pruned, events of a stream each", "/s", vec![rate]));
    Ok(())
}

fn proof(turn: usize, head: i64) -> String {
    let position = (turn as i64).wrapping_mul(1_000_003).rem_euclid(head) + 1;
    format!("/api/v1/audit/proof/inclusion?position={position}")
}

fn page(turn: usize, head: i64) -> String {
    let after = (turn as i64).wrapping_mul(1_000_003).rem_euclid((head - 50).max(1));
    format!("/api/v1/audit/events?limit=50&after={after}")
}

struct Read {
    tenant: Arc<Tenant>,
    path: fn(usize, i64) -> String,
    head: i64,
    turn: AtomicUsize,
}

impl Job for Read {
    fn next(&self, request: &mut Vec<u8>) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        request.extend_from_slice(&get(&(self.path)(turn, self.head), &self.tenant.token));
        true
    }
}
