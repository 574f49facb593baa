//! What is measured: a durable private PostgreSQL in a directory of this run's own on a real disk, the release server
//! over it as a process of its own, and tenants with something to book.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use chrono::{Days, NaiveDate};
use daybook::{
    cli::{Mode, Runtime},
    config::{Settings, SettingsPatch},
    embedded_pg::EmbeddedPostgres,
    eventstore::StoreSettings,
    tenancy::{
        Schema,
        admin::{NewTenant, TenantAdmin},
    },
};
use daybook_domain::{Currency, Slug, TenantId, envelope::Metadata};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::{
    baseline::Baseline,
    client::{Connection, get, post},
    machine::Machine,
};

/// The program under test, as it is released.
const DAYBOOK: &str = env!("CARGO_BIN_EXE_daybook");
/// Resources of a tenant. Nights run on from there, so places do not run out: ten years are 365,000 bookings.
pub const RESOURCES: usize = 100;
/// Tenants made at once: creating a schema is the database's work, and it has few cores.
const AT_ONCE: usize = 4;
/// How long to wait for what should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tenant with resources, an offering over all of them and a customer.
pub struct Tenant {
    /// Its schema.
    pub schema: Schema,
    /// Its slug.
    pub slug: String,
    /// Its token.
    pub token: String,
    resources: Vec<String>,
    offering: String,
    customer: String,
    first_night: NaiveDate,
    booked: AtomicUsize,
}

impl Tenant {
    /// The body of a booking of a night that was never asked for before.
    pub fn booking(&self, hold: bool) -> String {
        let place = self.booked.fetch_add(1, Ordering::Relaxed);
        let resource = &self.resources[place % self.resources.len()];
        let night = self.night(place / self.resources.len());
        let (next, offering, customer) = (night + Days::new(1), &self.offering, &self.customer);
        format!(
            r#"{{"offering_id":"{offering}","resource_id":"{resource}","customer_id":"{customer}","check_in":"{night}","check_out":"{next}","guests":2,"hold":{hold}}}"#
        )
    }

    /// How many bookings were asked for.
    pub fn booked(&self) -> usize {
        self.booked.load(Ordering::Relaxed)
    }

    /// A week that has bookings in it, and a resource; another each time.
    pub fn week(&self, turn: usize) -> (NaiveDate, NaiveDate, &str) {
        let weeks = (self.booked() / self.resources.len() / 7).max(1);
        let from = self.night(turn % weeks * 7);
        (from, from + Days::new(7), &self.resources[turn % self.resources.len()])
    }

    /// The offering.
    pub fn offering(&self) -> &str {
        &self.offering
    }

    fn night(&self, number: usize) -> NaiveDate {
        self.first_night + Days::new(number as u64)
    }
}

/// The server process. Dropped, it is killed.
pub struct Server {
    /// Its process id.
    pub pid: u32,
    child: Child,
}

impl Server {
    /// Stops it as an operator does.
    pub fn stop(mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            bail!("the server ended by itself");
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the server does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has been waited for is left alone by both.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything a measure runs on. Fields are dropped in order: the directory goes last.
pub struct Stack {
    /// The server, while it runs.
    pub server: Option<Server>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The library over the same database, as a command beside the server.
    pub runtime: Runtime,
    /// The comparisons.
    pub baseline: Baseline,
    /// Where this runs.
    pub machine: Machine,
    /// Tenants, in the order they were made.
    pub tenants: Vec<Arc<Tenant>>,
    /// How many further tenants exist that have nothing to book.
    pub bare: usize,
    /// Whether the ledger of a server that is started follows the logs; otherwise it does so once a day.
    pub ledger_follows: bool,
    postgres: EmbeddedPostgres,
    today: NaiveDate,
    directory: tempfile::TempDir,
}

impl Stack {
    /// A PostgreSQL without tenants. `BENCH_DIR` says where; not in memory, or durability would cost nothing.
    pub async fn start() -> anyhow::Result<Self> {
        let parent = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let directory = tempfile::Builder::new()
            .prefix("daybook-bench-")
            .tempdir_in(&parent)
            .with_context(|| format!("make a directory in {}", parent.display()))?;
        // Started by root, PostgreSQL runs as another user, who must be able to pass.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711))?;
        let data = directory.path().join("data");
        fs::create_dir(&data)?;
        // As a user of its own, so that it outlives every server that is stopped and started.
        let postgres = EmbeddedPostgres::join(&data).await?;
        // Its own connections are few: the server, pgbench and postgres-es share the others.
        let patch = SettingsPatch {
            data_dir: Some(data),
            pool_size: Some(AT_ONCE as u32),
            write_connections: Some(AT_ONCE),
            ..SettingsPatch::default()
        };
        let settings = Settings::load_with(None, &|_| None, patch)?;
        let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
        let superuser = postgres.superuser_options();
        let mut connection = PgConnection::connect_with(&superuser).await?;
        let baseline = Baseline::prepare(&superuser, &mut connection, directory.path()).await?;
        let machine = Machine::look(&mut connection).await?;
        recycle_wal(&mut connection).await?;
        let today = sqlx::query_scalar("SELECT current_date").fetch_one(&mut connection).await?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Self {
            server: None,
            address,
            runtime,
            baseline,
            machine,
            tenants: Vec::new(),
            bare: 0,
            ledger_follows: true,
            postgres,
            today,
            directory,
        })
    }

    /// A command of the program, on this database and nothing else of this environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(DAYBOOK);
        command.args(arguments).current_dir(self.directory.path()).env_clear().stdin(Stdio::null());
        for name in ["PATH", "DAYBOOK_PG_BIN"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("DAYBOOK_DATA_DIR", self.directory.path().join("data"));
        // Made where that is measured, and nowhere meanwhile.
        command.env("DAYBOOK_SPARE_SCHEMAS", "0");
        // All clients of a benchmark come from one address.
        command.env("DAYBOOK_LOGIN_LIMIT_PER_MINUTE", "1000000");
        command
    }

    /// Runs a command to its end; how long it took and what it printed.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<(Duration, String)> {
        let command = self.command(arguments);
        let begin = Instant::now();
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
        let took = begin.elapsed();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "daybook {}: {errors}", arguments.join(" "));
        Ok((took, String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Starts the server; how long it took from there to the first answer to a client.
    pub async fn serve(&mut self) -> anyhow::Result<Duration> {
        ensure!(self.server.is_none(), "the server runs");
        let path = self.directory.path().join("server.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        let mut command = self.command(&["serve", "--listen", &self.address.to_string()]);
        command.stdout(log.try_clone()?).stderr(log);
        if !self.ledger_follows {
            command.env("DAYBOOK_LEDGER_SEAL_INTERVAL", "24h");
        }
        let begin = Instant::now();
        let child = command.spawn().context("start the server")?;
        let server = self.server.insert(Server { pid: child.id(), child });
        loop {
            let token = self.tenants.first().map_or("none", |tenant| tenant.token.as_str());
            // Looked at first: another process might listen there.
            if begin.elapsed() > PATIENCE || server.child.try_wait()?.is_some() {
                bail!("the server does not start:\n{}", fs::read_to_string(path)?);
            }
            if let Ok(mut connection) = Connection::open(self.address).await {
                let (status, body) = connection.exchange(&get("/api/v1/resources?limit=1", token)).await?;
                // Without a tenant there is nobody it could let in.
                let expected = if self.tenants.is_empty() { 401 } else { 200 };
                ensure!(status == expected, "the first answer: {status} {}", String::from_utf8_lossy(body));
                return Ok(begin.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Starts the server unless it runs.
    pub async fn serving(&mut self) -> anyhow::Result<()> {
        if self.server.is_none() {
            self.serve().await?;
        }
        Ok(())
    }

    /// Stops the server, if it runs.
    pub fn unserve(&mut self) -> anyhow::Result<()> {
        self.server.take().map_or(Ok(()), Server::stop)
    }

    /// Makes a tenant with a token, as `daybook tenant create` does; how long it took.
    pub async fn provision(&self, slug: &str) -> anyhow::Result<(Duration, TenantId, String)> {
        let begin = Instant::now();
        let (id, token) = provision(&self.runtime.admin, slug).await?;
        Ok((begin.elapsed(), id, token))
    }

    /// Sees to it that there are so many tenants with something to book.
    pub async fn tenants(&mut self, wanted: usize) -> anyhow::Result<()> {
        self.serving().await?;
        let mut making = JoinSet::new();
        for number in self.tenants.len()..wanted {
            let (admin, address) = (self.runtime.admin.clone(), self.address);
            let (slug, first_night) = (format!("bench-{number}"), self.today + Days::new(30));
            making.spawn(async move {
                let (id, token) = provision(&admin, &slug).await?;
                furnish(address, id, slug, token, first_night).await
            });
            if making.len() >= AT_ONCE {
                self.take_made(&mut making).await?;
            }
        }
        while !making.is_empty() {
            self.take_made(&mut making).await?;
        }
        Ok(())
    }

    async fn take_made(&mut self, making: &mut JoinSet<anyhow::Result<Tenant>>) -> anyhow::Result<()> {
        if let Some(made) = making.join_next().await {
            self.tenants.push(Arc::new(made.context("making a tenant panicked")??));
        }
        Ok(())
    }

    /// Sees to it that there are so many tenants in all, most of them with nothing in them.
    pub async fn crowd(&mut self, wanted: usize) -> anyhow::Result<()> {
        let mut making = JoinSet::new();
        while self.tenants.len() + self.bare < wanted {
            let (admin, slug) = (self.runtime.admin.clone(), format!("crowd-{}", self.bare));
            self.bare += 1;
            making.spawn(async move { provision(&admin, &slug).await });
            if making.len() >= AT_ONCE
                && let Some(made) = making.join_next().await
            {
                made.context("making a tenant panicked")??;
            }
        }
        while let Some(made) = making.join_next().await {
            made.context("making a tenant panicked")??;
        }
        Ok(())
    }

    /// Takes the newest migration of every tenant back, an index and its function, so that it is to be done again.
    pub async fn undo_last_migration(&self) -> anyhow::Result<()> {
        const UNDO: &str = "
            DO $$ DECLARE tenant name; BEGIN
                FOR tenant IN SELECT nspname FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$' LOOP
                    EXECUTE format('DROP INDEX %1$I.bookings_by_time;
                                    DROP FUNCTION %1$I.booking_length_class;
                                    DELETE FROM %1$I.schema_migrations WHERE version = 20261121000006', tenant);
                END LOOP;
                DELETE FROM daybook_platform.tenant_schemas;
            END $$";
        self.as_superuser(UNDO).await.context("take a migration back")
    }

    /// Runs SQL as the superuser of the database.
    pub async fn as_superuser(&self, sql: &str) -> anyhow::Result<()> {
        let mut superuser = PgConnection::connect_with(&self.postgres.superuser_options()).await?;
        sqlx::raw_sql(sql).execute(&mut superuser).await?;
        Ok(superuser.close().await?)
    }

    /// The position of a tenant's log.
    pub async fn head(&self, tenant: &Tenant) -> anyhow::Result<i64> {
        let sql = tenant.schema.sql("SELECT position FROM {s}.log_head");
        Ok(sqlx::query_scalar(&sql).fetch_one(self.runtime.store.database().owner()).await?)
    }

    /// Waits until the read models have caught up, so that one measure does not pay for another.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for tenant in self.tenants.iter().filter(|tenant| tenant.booked() > 0) {
            let sql = tenant.schema.sql(
                "SELECT coalesce(bool_and(position >= (SELECT position FROM {s}.log_head)), true)
                 FROM {s}.projection_checkpoints WHERE status = 'live'",
            );
            let owner = self.runtime.store.database().owner();
            while !sqlx::query_scalar::<_, bool>(&sql).fetch_one(owner).await? {
                if Instant::now() > deadline {
                    eprintln!("the read models of {} are still behind after {PATIENCE:?}", tenant.slug);
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Where files of this run go.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops everything, as far as it can be: each part also where another failed.
    pub async fn close(mut self) -> anyhow::Result<()> {
        let served = self.unserve().context("stop the server");
        let closed = self.runtime.close().await;
        let stopped = self.postgres.stop().await.context("stop PostgreSQL");
        let removed = self.directory.close().context("remove the directory of this run");
        served.and(closed).and(stopped).and(removed)
    }
}

/// Brings the write-ahead log to where it is on a server that has been up for a while: segments that are overwritten.
/// A new one is filled with zeros while everybody's commit waits, which a server does only in its first gigabyte.
async fn recycle_wal(connection: &mut PgConnection) -> anyhow::Result<()> {
    const SEGMENTS: usize = 64;
    for _ in 0..SEGMENTS {
        // A switch is none where nothing was written since the last.
        sqlx::raw_sql("SELECT pg_logical_emit_message(true, 'bench', ''); SELECT pg_switch_wal()")
            .execute(&mut *connection)
            .await
            .context("fill the write-ahead log")?;
    }
    sqlx::raw_sql("CHECKPOINT").execute(connection).await.context("recycle the write-ahead log")?;
    Ok(())
}

async fn provision(admin: &TenantAdmin, slug: &str) -> anyhow::Result<(TenantId, String)> {
    let metadata = Metadata { actor: "bench".into(), ..Metadata::default() };
    let new = NewTenant {
        slug: Slug::new(slug, "/slug")?,
        name: format!("Benchmark {slug}"),
        plan: "business".into(),
        temporary: false,
        time_zone: chrono_tz::Europe::Brussels,
        currency: Currency::EUR,
    };
    let id = admin.create(new, &metadata).await?;
    let issued = admin.issue_key(id, "bench", &metadata).await?;
    Ok((id, issued.key.expose_secret().to_owned()))
}

/// Gives a tenant something to book, over HTTP.
async fn furnish(
    address: SocketAddr,
    id: TenantId,
    slug: String,
    token: String,
    first_night: NaiveDate,
) -> anyhow::Result<Tenant> {
    let mut connection = Connection::open(address).await?;
    let mut resources = Vec::with_capacity(RESOURCES);
    for number in 1..=RESOURCES {
        let body = json!({"name": format!("Room {number}"), "kind": "unit"});
        resources.push(create(&mut connection, &token, "resources", &body).await?);
    }
    let offering = json!({
        "name": "A night", "mode": "nights", "resource_ids": resources, "price_per": "night",
        "price": {"amount": 12_500, "currency": "EUR"},
        "cancellation_policy": {"tiers": [{"hours_before": 48, "fee_percent": 50}]},
        // Longer than a run: what is swept meanwhile is not measured here.
        "hold_minutes": 1440,
    });
    let offering = create(&mut connection, &token, "offerings", &offering).await?;
    let customer = create(&mut connection, &token, "customers", &json!({"name": "Ada Lovelace"})).await?;
    let schema = Schema::tenant(id);
    Ok(Tenant {
        schema,
        slug,
        token,
        resources,
        offering,
        customer,
        first_night,
        booked: AtomicUsize::new(0),
    })
}

async fn create(
    connection: &mut Connection,
    token: &str,
    collection: &str,
    body: &Value,
) -> anyhow::Result<String> {
    let mut request = Vec::new();
    post(&mut request, &format!("/api/v1/{collection}"), token, &body.to_string());
    let (status, answer) = connection.exchange(&request).await?;
    ensure!(status == 201, "{collection}: {status} {}", String::from_utf8_lossy(answer));
    let answer: Value = serde_json::from_slice(answer)?;
    answer["id"].as_str().map(str::to_owned).context("an answer without an id")
}
