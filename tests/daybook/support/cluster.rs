//! One ephemeral PostgreSQL for a test run, in memory where possible, with fsync off (here and only here:
//! tests of crashes use a durable one). It starts with the first test that asks, and it ends with the test
//! process, however that ends: a guardian waits for the end of a pipe that only the test process holds.

use std::{
    fs,
    future::Future,
    io,
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
    time::{Duration, Instant},
};

use daybook::{
    embedded_pg::{APP_ROLE, Account, Binaries, OWNER_ROLE, keep_roles},
    random,
};
use secrecy::ExposeSecret as _;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::sync::{Mutex, OnceCell};

/// The cluster of this test run.
pub async fn cluster() -> &'static TestCluster {
    static CLUSTER: OnceCell<TestCluster> = OnceCell::const_new();
    super::cryptography();
    CLUSTER.get_or_init(TestCluster::start).await
}

/// An ephemeral cluster with the roles of the embedded one.
pub struct TestCluster {
    socket_directory: PathBuf,
    port: u16,
    owner_password: String,
    app_password: String,
    /// Templates are made one after the other.
    templates: Mutex<()>,
    /// Its standard input is the pipe it waits on.
    _guardian: Child,
    postmaster: Child,
}

/// A database of one test's own, dropped when the test is over.
pub struct TestDb {
    /// Its name.
    pub name: String,
    /// As the role that owns it.
    pub owner_options: PgConnectOptions,
    /// As the role that serves requests.
    pub app_options: PgConnectOptions,
    /// For `DATABASE_URL` of a process under test, as the role that serves requests.
    pub app_url: String,
    /// For `DAYBOOK_ADMIN_DATABASE_URL`.
    pub owner_url: String,
}

impl TestCluster {
    /// As the superuser, in the database `postgres`.
    pub fn admin_options(&self) -> PgConnectOptions {
        self.options("postgres", "postgres")
    }

    /// A new database, empty or a copy of `template`.
    pub async fn create_database(&self, template: Option<&str>) -> TestDb {
        let name = format!("test_{}", hex::encode(random::bytes::<8>().unwrap()));
        self.create_named(&name, template.unwrap_or("template0")).await;
        self.describe(name)
    }

    /// Makes a template of this name with `fill`, unless an earlier test of this run did. Name it by what it
    /// holds, such as the checksum of the migrations.
    pub async fn ensure_template<F: Future<Output = ()>>(
        &self,
        name: &str,
        fill: impl FnOnce(PgConnectOptions) -> F,
    ) {
        let _one_at_a_time = self.templates.lock().await;
        let mut admin = self.admin().await;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut admin)
            .await
            .unwrap();
        if exists {
            return;
        }
        // Under another name until it is complete: a `fill` that panics must not leave half a template.
        let draft = format!("{name}_draft_{}", hex::encode(random::bytes::<4>().unwrap()));
        self.create_named(&draft, "template0").await;
        fill(self.options(OWNER_ROLE, &draft)).await;
        // A connection which `fill` closed may need a moment to be gone, and would keep the name busy.
        let rename = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{draft}';
             ALTER DATABASE {draft} RENAME TO {name}"
        );
        sqlx::raw_sql(&rename).execute(&mut admin).await.unwrap();
    }

    async fn create_named(&self, name: &str, template: &str) {
        let mut admin = self.admin().await;
        let create =
            format!("CREATE DATABASE {name} OWNER {OWNER_ROLE} TEMPLATE {template} STRATEGY FILE_COPY");
        sqlx::raw_sql(&create).execute(&mut admin).await.unwrap();
        // The rights on a database are not copied with it.
        let rights = format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {APP_ROLE}"
        );
        sqlx::raw_sql(&rights).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        // The rights on functions are copied.
        if template == "template0" {
            let mut inside = PgConnection::connect_with(&self.options("postgres", name)).await.unwrap();
            keep_roles(&mut inside).await.unwrap();
            inside.close().await.unwrap();
        }
    }

    async fn admin(&self) -> PgConnection {
        PgConnection::connect_with(&self.admin_options()).await.unwrap()
    }

    fn describe(&self, name: String) -> TestDb {
        let url = |role: &str, password: &str| {
            format!("postgres://{role}:{password}@127.0.0.1:{}/{name}?sslmode=disable", self.port)
        };
        TestDb {
            owner_options: self.options(OWNER_ROLE, &name),
            app_options: self.options(APP_ROLE, &name),
            app_url: url(APP_ROLE, &self.app_password),
            owner_url: url(OWNER_ROLE, &self.owner_password),
            name,
        }
    }

    fn options(&self, role: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_directory)
            .port(self.port)
            .username(role)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    async fn start() -> Self {
        let binaries = Binaries::find().unwrap_or_else(|error| panic!("{error}"));
        let account = Account::for_new_cluster().unwrap_or_else(|error| panic!("{error}"));
        let directory = make_directory(account.as_ref());
        let guardian = spawn_guardian(&binaries, account.as_ref(), &directory);
        initdb(&binaries, account.as_ref(), &directory);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postmaster = spawn_postmaster(&binaries, account.as_ref(), &directory, port);

        let mut cluster = Self {
            socket_directory: directory.clone(),
            port,
            owner_password: random::token("").unwrap().expose_secret().to_owned(),
            app_password: random::token("").unwrap().expose_secret().to_owned(),
            templates: Mutex::new(()),
            _guardian: guardian,
            postmaster,
        };
        let mut admin = cluster.wait_until_ready().await;
        let roles = format!(
            "CREATE ROLE {OWNER_ROLE} LOGIN NOSUPERUSER CREATEROLE NOCREATEDB PASSWORD '{}';
             CREATE ROLE {APP_ROLE} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOINHERIT PASSWORD '{}'",
            cluster.owner_password, cluster.app_password
        );
        sqlx::raw_sql(&roles).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        cluster
    }

    async fn wait_until_ready(&mut self) -> PgConnection {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match PgConnection::connect_with(&self.admin_options()).await {
                Ok(connection) => return connection,
                Err(error) => {
                    let ended = self.postmaster.try_wait().unwrap();
                    let log = fs::read_to_string(self.socket_directory.join("log")).unwrap_or_default();
                    assert!(ended.is_none(), "the test cluster did not start ({ended:?}):\n{log}");
                    assert!(Instant::now() < deadline, "the test cluster does not answer: {error}\n{log}");
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl TestDb {
    /// All of it, as SQL.
    pub async fn dump(&self) -> String {
        let binaries = daybook::embedded_pg::Binaries::find().unwrap();
        let output =
            std::process::Command::new(binaries.program("pg_dump")).arg(&self.owner_url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        // A thread of its own: this may run in a runtime that is about to end. Whatever it does not get to
        // goes with the cluster.
        static DROPPER: LazyLock<mpsc::Sender<String>> = LazyLock::new(|| {
            let (sender, receiver) = mpsc::channel::<String>();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for name in receiver {
                    runtime.block_on(async {
                        let mut admin = cluster().await.admin().await;
                        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                        let _ = sqlx::raw_sql(&drop).execute(&mut admin).await;
                    });
                }
            });
            sender
        });
        let _ = DROPPER.send(std::mem::take(&mut self.name));
    }
}

/// A private directory in memory; on disk where shared memory is small, as in many containers.
fn make_directory(account: Option<&Account>) -> PathBuf {
    const ENOUGH: u64 = 1024 * 1024 * 1024;
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    let name = format!("daybook-test-{}", hex::encode(random::bytes::<6>().unwrap()));
    let make = |parent: &Path| -> io::Result<PathBuf> {
        let directory = parent.join(&name);
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(directory)
    };
    let on_disk = || make(&std::env::temp_dir()).unwrap();
    let directory = if room >= ENOUGH { make(memory).unwrap_or_else(|_| on_disk()) } else { on_disk() };
    if let Some(account) = account {
        account.own(&directory).unwrap();
    }
    directory
}

/// Stops the server and removes its directory when the test process is gone.
fn spawn_guardian(binaries: &Binaries, account: Option<&Account>, directory: &Path) -> Child {
    let script = r#"cat >/dev/null; "$1" stop -D "$2/pg" -m immediate -t 10; rm -rf "$2""#;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, "guardian"])
        .arg(binaries.program("pg_ctl"))
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C ends the tests, and then the guardian has work to do.
        .process_group(0);
    run_as(&mut command, account).spawn().unwrap()
}

fn initdb(binaries: &Binaries, account: Option<&Account>, directory: &Path) {
    let mut command = Command::new(binaries.program("initdb"));
    command
        .arg("-D")
        .arg(directory.join("pg"))
        .args(["--username", "postgres", "--encoding", "UTF8", "--locale", "C.UTF-8"])
        .args(["--auth-local", "trust", "--auth-host", "scram-sha-256", "--no-sync", "--no-instructions"])
        .current_dir("/")
        .stdin(Stdio::null());
    // Trust on the socket: its directory is ours alone, and SCRAM's key derivation is most of a connection.
    let output = run_as(&mut command, account).output().unwrap();
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
}

fn spawn_postmaster(binaries: &Binaries, account: Option<&Account>, directory: &Path, port: u16) -> Child {
    let log =
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(directory.join("log")).unwrap();
    let mut command = Command::new(binaries.program("postgres"));
    command
        .arg("-D")
        .arg(directory.join("pg"))
        .args(["-c", &format!("unix_socket_directories={}", directory.display())])
        .args(["-c", &format!("port={port}")])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0);
    let settings = [
        "listen_addresses=127.0.0.1",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "max_connections=400",
        "max_locks_per_transaction=256",
        "shared_buffers=128MB",
        "checkpoint_timeout=1h",
        "jit=off",
        "timezone=UTC",
    ];
    for setting in settings {
        command.args(["-c", setting]);
    }
    run_as(&mut command, account).spawn().unwrap()
}

fn run_as<'c>(command: &'c mut Command, account: Option<&Account>) -> &'c mut Command {
    command.env_clear().env("LC_ALL", "C").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if let Some(account) = account {
        account.apply(command);
    }
    command
}

#[tokio::test]
async fn databases_are_copies_of_their_template_and_belong_to_the_owner() {
    let cluster = cluster().await;
    let fill = |options: PgConnectOptions| async move {
        let mut owner = PgConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql("CREATE TABLE mark (n int); INSERT INTO mark VALUES (7)")
            .execute(&mut owner)
            .await
            .unwrap();
    };
    cluster.ensure_template("template_of_marks", fill).await;
    cluster.ensure_template("template_of_marks", async |_| panic!("it exists")).await;

    let first = cluster.create_database(Some("template_of_marks")).await;
    let second = cluster.create_database(Some("template_of_marks")).await;
    let mut owner = PgConnection::connect_with(&first.owner_options).await.unwrap();
    sqlx::query("UPDATE mark SET n = 8").execute(&mut owner).await.unwrap();
    let mut owner: PgConnection =
        second.owner_url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let n: i32 = sqlx::query_scalar("SELECT n FROM mark").fetch_one(&mut owner).await.unwrap();
    assert_eq!(n, 7);

    let mut app: PgConnection = second.app_url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    assert!(
        sqlx::query("SELECT n FROM mark").fetch_one(&mut app).await.is_err(),
        "the app role owns nothing"
    );
    let mut app: PgConnection = second.app_options.connect().await.unwrap();
    assert!(sqlx::query("CREATE TABLE own (n int)").execute(&mut app).await.is_err());
}
