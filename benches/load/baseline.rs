//! What the figures stand beside: the raw limit of the same PostgreSQL at the same durability, and the same booking
//! through stock postgres-es.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use chrono::NaiveDate;
use cqrs_es::{CqrsFramework, persist::PersistedEventStore};
use daybook::embedded_pg::Binaries;
use daybook_domain::booking::Booking;
use postgres_es::PostgresEventRepository;
use sqlx::{
    PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{process::Command, sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::{booking::a_night, report::Outcome};

/// The role of the baselines, and their schema.
const ROLE: &str = "daybook_bench";

/// The tables of postgres-es are its own `init.sql`, but for the schema.
const TABLES: &str = "
    CREATE TABLE daybook_bench.raw (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        payload text NOT NULL
    );
    CREATE TABLE daybook_bench.events (
        aggregate_type text                         NOT NULL,
        aggregate_id   text                         NOT NULL,
        sequence       bigint CHECK (sequence >= 0) NOT NULL,
        event_type     text                         NOT NULL,
        event_version  text                         NOT NULL,
        payload        json                         NOT NULL,
        metadata       json                         NOT NULL,
        PRIMARY KEY (aggregate_type, aggregate_id, sequence)
    );";

/// Both baselines.
pub struct Baseline {
    options: PgConnectOptions,
    password: String,
    pgbench: PathBuf,
    script: PathBuf,
    today: NaiveDate,
}

impl Baseline {
    /// Makes their role and tables; `superuser` says where the server is.
    pub async fn prepare(
        superuser: &PgConnectOptions,
        connection: &mut PgConnection,
        directory: &std::path::Path,
    ) -> anyhow::Result<Self> {
        let password = hex::encode(daybook::random::bytes::<16>()?);
        let role = format!(
            "CREATE ROLE {ROLE} LOGIN PASSWORD '{password}';
             GRANT CONNECT ON DATABASE {} TO {ROLE};
             CREATE SCHEMA {ROLE} AUTHORIZATION {ROLE};
             SET ROLE {ROLE}; {TABLES} RESET ROLE",
            daybook::embedded_pg::DATABASE
        );
        sqlx::raw_sql(&role).execute(&mut *connection).await.context("prepare the baselines")?;
        let pgbench = Binaries::find()?.program("pgbench");
        ensure!(
            pgbench.exists(),
            "{} is missing; it comes with PostgreSQL's server package (make setup)",
            pgbench.display()
        );
        let script = directory.join("raw.sql");
        let row = "x".repeat(400);
        tokio::fs::write(&script, format!("INSERT INTO {ROLE}.raw (payload) VALUES ('{row}');\n")).await?;
        let options = superuser.clone().username(ROLE).password(&password);
        let today = sqlx::query_scalar("SELECT current_date").fetch_one(connection).await?;
        Ok(Self { options, password, pgbench, script, today })
    }

    /// Transactions of one 400-byte row each, a second, by pgbench.
    pub async fn raw(&self, clients: usize, duration: Duration) -> anyhow::Result<f64> {
        let host = match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => self.options.get_host().to_owned(),
        };
        let output = Command::new(&self.pgbench)
            .args(["--no-vacuum", "--protocol=prepared", "--host", &host])
            .args(["--port", &self.options.get_port().to_string(), "--username", ROLE])
            .args(["--client", &clients.to_string(), "--jobs", &clients.min(2).to_string()])
            .args(["--time", &(duration.as_secs_f64().round() as u64).max(1).to_string()])
            .arg("--file")
            .arg(&self.script)
            .arg(daybook::embedded_pg::DATABASE)
            .env("PGPASSWORD", &self.password)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("run {}", self.pgbench.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text
            .lines()
            .filter_map(|line| line.strip_prefix("tps = "))
            .find_map(|line| line.split_whitespace().next()?.parse().ok());
        rate.with_context(|| format!("pgbench:\n{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Bookings a second through stock postgres-es, in this process: no HTTP, no order across aggregates, no guard
    /// against double bookings, no read models.
    pub async fn postgres_es(&self, clients: usize, duration: Duration) -> anyhow::Result<Outcome> {
        let connections = u32::try_from(clients)?;
        let pool = PgPoolOptions::new()
            .min_connections(connections)
            .max_connections(connections)
            .connect_with(self.options.clone())
            .await
            .context("connect postgres-es")?;
        let repository = PostgresEventRepository::new(pool.clone())
            .with_tables("daybook_bench.events", "daybook_bench.snapshots");
        let store = PersistedEventStore::<_, Booking>::new_event_store(repository);
        let (context, command) = a_night(self.today)?;
        let framework = Arc::new(CqrsFramework::new(store, Vec::new(), context));
        let ready = Arc::new(Barrier::new(clients));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (framework, ready, command) = (framework.clone(), ready.clone(), command.clone());
            tasks.spawn(async move {
                ready.wait().await;
                let begin = Instant::now() + duration / 10;
                let end = begin + duration;
                let mut latencies = Vec::new();
                loop {
                    let sent = Instant::now();
                    if sent >= end {
                        return Ok((latencies, begin.elapsed()));
                    }
                    framework
                        .execute(&Uuid::now_v7().to_string(), command.clone())
                        .await
                        .context("postgres-es")?;
                    if sent >= begin {
                        latencies.push(sent.elapsed());
                    }
                }
            });
        }
        let outcome = Outcome::collect(tasks).await;
        pool.close().await;
        outcome
    }
}
