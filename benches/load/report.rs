//! What was measured: outcomes, medians, the table and the JSON beside it.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::machine::Machine;

/// One repetition of a measure.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// How many a second.
    pub rate: f64,
    /// The median latency in milliseconds.
    pub p50: f64,
    /// The latency that one in a hundred exceeds.
    pub p99: f64,
}

impl Outcome {
    /// Waits for every client of a repetition; each answers with its latencies and how long it was at it.
    pub async fn collect(
        mut tasks: JoinSet<anyhow::Result<(Vec<Duration>, Duration)>>,
    ) -> anyhow::Result<Self> {
        let (mut latencies, mut took) = (Vec::new(), Duration::ZERO);
        while let Some(client) = tasks.join_next().await {
            let (own, elapsed) = client.context("a client panicked")??;
            latencies.extend(own);
            took = took.max(elapsed);
        }
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        Ok(Self { rate: latencies.len() as f64 / took.as_secs_f64(), p50: at(0.50), p99: at(0.99) })
    }
}

/// The repetitions of one measure.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<Outcome>);

impl Series {
    /// Adds a repetition.
    pub fn push(&mut self, outcome: Outcome) {
        self.0.push(outcome);
    }

    /// The rate of each repetition.
    pub fn rates(&self) -> Vec<f64> {
        self.0.iter().map(|outcome| outcome.rate).collect()
    }

    /// The median rate.
    pub fn rate(&self) -> f64 {
        median(self.0.iter().map(|outcome| outcome.rate))
    }
}

/// The middle of some values; not a number when there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// What is asked of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    /// The value is at least this.
    pub at_least: Option<f64>,
    /// The value is at most this.
    pub at_most: Option<f64>,
    /// The value is at least this share of the raw limit.
    pub ratio: Option<f64>,
    /// The 99th percentile is at most this many milliseconds.
    pub p99: Option<f64>,
}

impl Target {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(value) = self.at_least {
            parts.push(format!(">= {}", number(value)));
        }
        if let Some(value) = self.at_most {
            parts.push(format!("<= {}", number(value)));
        }
        if let Some(value) = self.ratio {
            parts.push(format!(">= {value:.2}x raw"));
        }
        if let Some(value) = self.p99 {
            parts.push(format!("p99 <= {value:.0}"));
        }
        parts.join(", ")
    }

    fn met(&self, row: &Row) -> Option<bool> {
        // A comparison that is missing is not a target that is met.
        let checks = [
            self.at_least.map(|value| row.value >= value),
            self.at_most.map(|value| row.value <= value),
            self.ratio.map(|value| row.ratio.is_some_and(|ratio| ratio >= value)),
            self.p99.map(|value| row.p99_ms.is_some_and(|p99| p99 <= value)),
        ];
        checks.into_iter().flatten().reduce(|all, check| all && check)
    }
}

/// A row of the table. Values are medians of the repetitions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// How many clients at once.
    pub clients: Option<usize>,
    /// How many tenants they wrote to or read from.
    pub tenants: Option<usize>,
    /// The figure.
    pub value: f64,
    /// What it counts.
    pub unit: &'static str,
    /// The median latency.
    pub p50_ms: Option<f64>,
    /// The latency that one in a hundred exceeds.
    pub p99_ms: Option<f64>,
    /// The limit measured in turn with it.
    pub raw: Option<f64>,
    /// What that limit is.
    pub raw_is: Option<&'static str>,
    /// The same booking through stock postgres-es, measured in turn with it.
    pub postgres_es: Option<f64>,
    /// The raw limit in each repetition: how much the machine itself varied.
    pub raw_repetitions: Vec<f64>,
    /// postgres-es in each repetition.
    pub postgres_es_repetitions: Vec<f64>,
    /// The value as a share of the raw limit: the median of what each repetition was of the limit beside it.
    pub ratio: Option<f64>,
    /// What is asked of it.
    pub target: String,
    /// Whether it is so.
    pub met: Option<bool>,
    /// The value of each repetition.
    pub repetitions: Vec<f64>,
}

impl Row {
    /// A row of rates with their latencies.
    pub fn rates(name: &str, clients: usize, tenants: usize, series: &Series) -> Self {
        Self {
            clients: Some(clients),
            tenants: Some(tenants),
            p50_ms: Some(median(series.0.iter().map(|outcome| outcome.p50))),
            p99_ms: Some(median(series.0.iter().map(|outcome| outcome.p99))),
            ..Self::values(name, "/s", series.0.iter().map(|outcome| outcome.rate).collect())
        }
    }

    /// A row of plain values.
    pub fn values(name: &str, unit: &'static str, repetitions: Vec<f64>) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            value: median(repetitions.iter().copied()),
            repetitions,
            ..Self::default()
        }
    }

    /// Sets the limit it is compared with.
    #[must_use]
    pub fn against(mut self, raw_is: &'static str, raw: &[f64]) -> Self {
        // Pairs, not medians of each: the disk's speed can change many times over between repetitions.
        self.ratio = Some(median(self.repetitions.iter().zip(raw).map(|(value, raw)| value / raw)));
        (self.raw, self.raw_is) = (Some(median(raw.iter().copied())), Some(raw_is));
        self.raw_repetitions = raw.to_vec();
        self
    }

    /// Sets what is asked of it; the comparison comes first.
    #[must_use]
    pub fn wants(mut self, target: Target) -> Self {
        self.target = target.text();
        self.met = target.met(&self);
        self
    }
}

/// Everything of one run.
#[derive(Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// The length of one repetition.
    pub seconds: f64,
    /// How many there were.
    pub repetitions: usize,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// The table, for people.
    pub fn table(&self) -> String {
        const HEAD: [&str; 13] = [
            "measure",
            "clients",
            "tenants",
            "median",
            "",
            "p50 ms",
            "p99 ms",
            "raw limit",
            "raw is",
            "ratio",
            "postgres-es",
            "target",
            "met",
        ];
        let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
        let count = |value: Option<usize>| value.map(|value| value.to_string()).unwrap_or_default();
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(self.rows.iter().map(|row| {
            [
                row.name.clone(),
                count(row.clients),
                count(row.tenants),
                number(row.value),
                row.unit.to_owned(),
                optional(row.p50_ms),
                optional(row.p99_ms),
                optional(row.raw),
                row.raw_is.unwrap_or_default().to_owned(),
                row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                optional(row.postgres_es),
                row.target.clone(),
                row.met.map(|met| if met { "yes" } else { "NO" }.to_owned()).unwrap_or_default(),
            ]
        }));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        // Figures to the right, words to the left.
        const WORDS: [usize; 5] = [0, 4, 8, 11, 12];
        let mut text = String::new();
        for line in &lines {
            let mut cells = String::new();
            for (column, cell) in line.iter().enumerate() {
                let width = widths[column];
                // Writing to a string does not fail.
                let _ = if WORDS.contains(&column) {
                    write!(cells, "{cell:<width$}  ")
                } else {
                    write!(cells, "{cell:>width$}  ")
                };
            }
            text.push_str(cells.trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints the table and writes the JSON; the path it is at.
    pub fn publish(&self) -> anyhow::Result<PathBuf> {
        let path = directory().join("load.json");
        let json = serde_json::to_vec_pretty(self)?;
        fs::create_dir_all(directory())?;
        fs::write(&path, json).with_context(|| format!("write {}", path.display()))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}\n\n{}\n{}", self.machine, self.table(), path.display())?;
        Ok(path)
    }
}

/// `target/bench`, wherever `target` is.
fn directory() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().unwrap_or(temporary).join("bench")
}

/// A figure with as many digits as mean something.
fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "-".to_owned(),
        _ if value >= 100.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
