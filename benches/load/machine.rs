//! Where a run took place: figures of two machines, settings or commits are not compared.

use std::{fmt, fs, process::Command};

use serde::Serialize;
use sqlx::{PgConnection, Row as _};

/// The machine, its PostgreSQL and the commit.
#[derive(Clone, Serialize)]
pub struct Machine {
    cores: usize,
    ram_mb: u64,
    cpu: String,
    load_average: String,
    postgres: String,
    settings: Vec<(String, String)>,
    commit: String,
}

impl Machine {
    /// Looks around.
    pub async fn look(connection: &mut PgConnection) -> anyhow::Result<Self> {
        let settings = sqlx::query(
            "SELECT name, current_setting(name) FROM pg_settings
             WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'wal_compression',
                            'max_wal_size', 'checkpoint_timeout', 'max_connections', 'data_checksums')
             ORDER BY name",
        )
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            ram_mb: field("/proc/meminfo", "MemTotal").and_then(|text| kilobytes(&text)).unwrap_or(0) / 1024,
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            load_average: fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned(),
            postgres: sqlx::query_scalar("SHOW server_version").fetch_one(&mut *connection).await?,
            settings,
            commit: commit(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} cores ({}), {} MB RAM, load before {}",
            self.cores, self.cpu, self.ram_mb, self.load_average
        )?;
        write!(f, "PostgreSQL {}:", self.postgres)?;
        for (name, value) in &self.settings {
            write!(f, " {name}={value}")?;
        }
        write!(f, "\ncommit {}; the load generator runs on the same machine", self.commit)
    }
}

/// The resident memory of a process in MB: all of it, and its proportional share.
pub fn memory(pid: u32) -> Option<(f64, f64)> {
    let of = |file: &str, name: &str| {
        field(&format!("/proc/{pid}/{file}"), name).and_then(|text| kilobytes(&text))
    };
    let megabytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
    Some((megabytes(of("status", "VmRSS")?), megabytes(of("smaps_rollup", "Pss")?)))
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn kilobytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse().ok()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    if changed { format!("{commit} with changes") } else { commit }
}
