//! The load benchmark: the released server as a process of its own over a durable PostgreSQL of its own, on this
//! machine, with what it is to be compared with measured in turn. The table it prints names the targets.
//!
//! ```text
//! make bench                              everything, about a quarter of an hour
//! BENCH_ONLY='bookings 32x1,reads'        only measures whose name holds one of these
//! BENCH_SECONDS=10 BENCH_REPETITIONS=5    longer repetitions (default 3 s), more of them (default 3)
//! BENCH_EVENTS=100000                     the length of the long log that audits read (default 1000000)
//! BENCH_DIR=/mnt/disk                     where the database is (default /var/tmp)
//! ```
//!
//! Nothing here passes or fails by a time: the table says which targets are met. A refusal by the server does end it.

mod accounts;
mod audit;
mod baseline;
mod booking;
mod client;
mod machine;
mod operations;
mod reads;
mod report;
mod stack;
mod support;
mod writes;

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{
    report::{Report, Row, Target},
    stack::Stack,
};

/// A run.
pub struct Bench {
    /// What it runs on.
    pub stack: Stack,
    /// The length of one repetition.
    pub duration: Duration,
    /// How many there are of each measure.
    pub repetitions: usize,
    rows: Vec<Row>,
    most_memory: Option<(f64, f64)>,
}

impl Bench {
    /// The length of one repetition of a comparison.
    pub fn aside(&self) -> Duration {
        self.duration / 2
    }

    /// Takes a row, and tells whoever waits.
    pub fn push(&mut self, row: Row) {
        let p99 = row.p99_ms.map(|p99| format!(", p99 {p99:.1} ms")).unwrap_or_default();
        let clients = row.clients.map(|clients| format!(" ({clients} clients)")).unwrap_or_default();
        eprintln!("  {}{clients}: {:.1} {}{p99}", row.name, row.value, row.unit);
        self.rows.push(row);
    }

    /// The server's memory now, resident and proportional, in MB.
    pub fn memory(&self) -> Option<(f64, f64)> {
        machine::memory(self.stack.server.as_ref()?.pid)
    }

    /// Remembers the server's memory where it is the most so far.
    pub fn sample_memory(&mut self) {
        if let Some(now) = self.memory().filter(|now| self.most_memory.is_none_or(|most| most.0 < now.0)) {
            self.most_memory = Some(now);
        }
    }
}

/// A measure, by the name `BENCH_ONLY` knows it by.
#[derive(Clone, Copy)]
enum Measure {
    Start,
    Provision,
    Bookings { clients: usize, tenants: usize },
    Reads,
    Accounts,
    Support,
    Replay,
    Rebuild,
    Import,
    Ledger { tenants: usize },
    Audit,
    Migrate { tenants: usize },
}

/// All of them; those that leave much behind come late.
const MEASURES: [Measure; 20] = [
    Measure::Start,
    Measure::Provision,
    Measure::Bookings { clients: 1, tenants: 1 },
    Measure::Bookings { clients: 8, tenants: 1 },
    Measure::Bookings { clients: 32, tenants: 1 },
    Measure::Reads,
    Measure::Accounts,
    Measure::Support,
    Measure::Replay,
    Measure::Rebuild,
    Measure::Bookings { clients: 1, tenants: 20 },
    Measure::Bookings { clients: 8, tenants: 20 },
    Measure::Bookings { clients: 32, tenants: 20 },
    Measure::Import,
    Measure::Bookings { clients: 32, tenants: 100 },
    Measure::Ledger { tenants: 1 },
    Measure::Ledger { tenants: 100 },
    Measure::Audit,
    Measure::Migrate { tenants: 100 },
    Measure::Migrate { tenants: 1_000 },
];

impl Measure {
    fn name(self) -> String {
        match self {
            Self::Start => "start".to_owned(),
            Self::Provision => "provision".to_owned(),
            Self::Bookings { clients, tenants } => format!("bookings {clients}x{tenants}"),
            Self::Reads => "reads".to_owned(),
            Self::Accounts => "accounts".to_owned(),
            Self::Support => "support".to_owned(),
            Self::Replay => "replay".to_owned(),
            Self::Rebuild => "rebuild".to_owned(),
            Self::Import => "import".to_owned(),
            Self::Ledger { tenants } => format!("ledger {tenants}"),
            Self::Audit => "audit".to_owned(),
            Self::Migrate { tenants } => format!("migrate {tenants}"),
        }
    }

    /// Whether `BENCH_ONLY` asks for it. A part that ends in a digit must be the whole end of the name.
    fn is_wanted(self, only: &str) -> bool {
        let name = self.name();
        only.split(',').map(str::trim).any(|part| {
            if part.ends_with(|c: char| c.is_ascii_digit()) {
                name.ends_with(part)
            } else {
                name.contains(part)
            }
        })
    }

    async fn run(self, bench: &mut Bench) -> anyhow::Result<()> {
        match self {
            Self::Start => operations::start(bench).await,
            Self::Provision => operations::provision(bench).await,
            Self::Bookings { clients, tenants } => writes::bookings(bench, clients, tenants).await,
            Self::Reads => reads::reads(bench).await,
            Self::Accounts => accounts::accounts(bench).await,
            Self::Support => support::support(bench).await,
            Self::Replay => operations::replay(bench).await,
            Self::Rebuild => operations::rebuild(bench).await,
            Self::Import => operations::import(bench).await,
            Self::Ledger { tenants } => audit::ledger(bench, tenants).await,
            Self::Audit => audit::audit(bench).await,
            Self::Migrate { tenants } => operations::migrate(bench, tenants).await,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --all-targets` runs benchmarks as well, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("this is a benchmark: make bench");
        return Ok(());
    }
    let number = |name: &str, default: f64| match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    };
    let duration = Duration::from_secs_f64(number("BENCH_SECONDS", 3.0)?);
    let repetitions = number("BENCH_REPETITIONS", 3.0)? as usize;
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();

    let begin = Instant::now();
    let stack = Stack::start().await?;
    let mut bench = Bench { stack, duration, repetitions, rows: Vec::new(), most_memory: None };
    // Ctrl-C must not leave a database behind.
    let outcome = tokio::select! {
        outcome = measure(&mut bench, &only) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("wait for Ctrl-C").and(Err(anyhow::anyhow!("interrupted")))
        }
    };
    let Bench { stack, rows, .. } = bench;
    let machine = stack.machine.clone();
    let closed = stack.close().await;
    eprintln!("{:.0} s", begin.elapsed().as_secs_f64());
    let report = Report { machine, seconds: duration.as_secs_f64(), repetitions, rows };
    report.publish()?;
    outcome.and(closed)
}

async fn measure(bench: &mut Bench, only: &str) -> anyhow::Result<()> {
    for measure in MEASURES.into_iter().filter(|measure| measure.is_wanted(only)) {
        eprintln!("{}", measure.name());
        measure.run(bench).await.with_context(|| measure.name())?;
    }
    if let Some((resident, proportional)) = bench.most_memory {
        let target = Target { at_most: Some(150.0), ..Target::default() };
        bench.push(Row::values("memory under load (RSS)", "MB", vec![resident]).wants(target));
        bench.push(Row::values("memory under load (PSS)", "MB", vec![proportional]));
    }
    Ok(())
}
