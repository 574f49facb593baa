//! The private PostgreSQL, with real processes that are really killed.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use daybook::{
    config::{Settings, SettingsPatch},
    database::{Database, OpenMode},
    embedded_pg::{EmbeddedPgError, EmbeddedPostgres},
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tempfile::TempDir;

#[tokio::test]
async fn the_first_start_makes_a_private_durable_cluster() {
    let data = data_dir();
    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();

    for (name, expected) in [("pg", 0o700), ("run", 0o700), ("pg-credentials.toml", 0o600), ("pg.log", 0o600)]
    {
        assert_eq!(mode(&data.path().join(name)), expected, "{name}");
    }
    let pid = postgres.pid();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap().to_owned();
    assert_eq!(group, pid.to_string(), "a Ctrl-C in our terminal must not reach it");

    let mut owner = connect(&postgres.owner_options()).await;
    for (setting, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("server_encoding", "UTF8"),
        ("shared_buffers", "256MB"),
        ("data_checksums", "on"),
        ("log_min_error_statement", "panic"),
    ] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut owner)
            .await
            .unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    sqlx::raw_sql("CREATE EXTENSION btree_gist; CREATE ROLE t_x NOLOGIN; CREATE SCHEMA s")
        .execute(&mut owner)
        .await
        .unwrap();

    let mut app = connect(&postgres.app_options()).await;
    let (role, inherits): (String, bool) =
        sqlx::query_as("SELECT rolname::text, rolinherit FROM pg_roles WHERE rolname = current_user")
            .fetch_one(&mut app)
            .await
            .unwrap();
    assert_eq!((role.as_str(), inherits), ("daybook_app", false));
    for refused in [
        "CREATE SCHEMA mine",
        "CREATE TABLE public.mine (n int)",
        "CREATE TEMP TABLE mine (n int)",
        "CREATE ROLE mine",
    ] {
        assert!(sqlx::query(refused).execute(&mut app).await.is_err(), "{refused}");
    }

    let mut superuser = connect(&postgres.superuser_options()).await;
    let database: String =
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut superuser).await.unwrap();
    assert_eq!(database, "daybook");

    for wrong in [
        postgres.app_options().password("wrong"),
        postgres.superuser_options().password("wrong"),
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(postgres.app_options().get_port())
            .username("daybook_app")
            .database("daybook")
            .password("wrong"),
    ] {
        let error = wrong.connect().await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("28P01"), "{error}");
    }
    postgres.stop().await.unwrap();
    assert!(!alive(pid));
}

#[tokio::test]
async fn data_and_passwords_outlive_a_restart() {
    let data = data_dir();
    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    write_mark(&postgres, 42).await;
    postgres.stop().await.unwrap();
    postgres.stop().await.unwrap();
    assert!(!postgres.is_running());

    let again = EmbeddedPostgres::start(data.path()).await.unwrap();
    assert_eq!(read_mark(&again).await, 42);
    let pid = again.pid();
    drop(again);
    assert!(!alive(pid), "dropping it stops it as well");
}

#[tokio::test]
async fn a_second_server_is_refused_and_named_the_first() {
    let data = data_dir();
    let first = EmbeddedPostgres::start(data.path()).await.unwrap();
    let error = EmbeddedPostgres::start(data.path()).await.unwrap_err();
    let expected = format!("another daybook (pid {}) is using this data directory", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    assert!(first.is_running());
    first.stop().await.unwrap();
    EmbeddedPostgres::start(data.path()).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn commands_work_beside_a_server_and_the_last_one_stops_postgres() {
    let data = data_dir();
    let command = EmbeddedPostgres::join(data.path()).await.unwrap();
    let server = EmbeddedPostgres::start(data.path()).await.unwrap();
    let late = EmbeddedPostgres::join(data.path()).await.unwrap();
    let pid = command.pid();
    assert_eq!((server.pid(), late.pid()), (pid, pid));

    command.stop().await.unwrap();
    write_mark(&server, 1).await;
    server.stop().await.unwrap();
    assert_eq!(read_mark(&late).await, 1);
    late.stop().await.unwrap();
    assert!(!alive(pid) && !late.is_running());
}

#[tokio::test]
async fn a_killed_postgres_is_started_again_and_pools_recover() {
    let data = data_dir();
    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    write_mark(&postgres, 5).await;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(postgres.app_options()).await.unwrap();

    let scenario = async {
        for _ in 0..2 {
            let killed = postgres.pid();
            kill(killed);
            eventually("another postmaster", || postgres.pid() != killed && postgres.is_running()).await;
            let deadline = Instant::now() + Duration::from_secs(10);
            while let Err(error) = sqlx::query("SELECT 1").execute(&pool).await {
                assert!(Instant::now() < deadline, "the pool does not recover: {error}");
            }
            assert_eq!(read_mark(&postgres).await, 5);
        }
        pool.close().await;
        postgres.stop().await.unwrap();
    };
    tokio::join!(postgres.supervise(), scenario);
}

#[tokio::test]
async fn a_stale_pid_file_is_recovered_from() {
    let data = data_dir();
    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    write_mark(&postgres, 9).await;
    let pid_file = data.path().join("pg/postmaster.pid");
    let content = fs::read_to_string(&pid_file).unwrap();
    let pid = postgres.pid();
    kill(pid);
    eventually("the end", || !postgres.is_running()).await;
    drop(postgres);
    assert!(pid_file.exists(), "a killed postmaster leaves its file");

    // The number belongs to nobody.
    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    assert_eq!(read_mark(&postgres).await, 9);
    postgres.stop().await.unwrap();

    // The number belongs to another program of the same user, which PostgreSQL takes for a postmaster.
    let owner = fs::metadata(data.path().join("pg")).unwrap();
    let mut stranger = stranger_of(&owner);
    fs::write(&pid_file, content.replacen(&pid.to_string(), &stranger.id().to_string(), 1)).unwrap();
    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    assert_eq!(read_mark(&postgres).await, 9);
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger is left alone");
    postgres.stop().await.unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_postgres_left_by_a_killed_daybook_is_adopted_and_stopped_with_us() {
    let data = data_dir();
    let (mut other, pid) = other_daybook(data.path());
    let error = EmbeddedPostgres::start(data.path()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("(pid {})", other.id())), "{error}");
    let command = EmbeddedPostgres::join(data.path()).await.unwrap();
    assert_eq!(command.pid(), pid, "a command works beside it");
    write_mark(&command, 3).await;
    command.stop().await.unwrap();
    assert!(alive(pid));

    other.kill().unwrap();
    other.wait().unwrap();
    assert!(alive(pid), "it outlives us");

    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    assert_eq!(postgres.pid(), pid);
    assert_eq!(read_mark(&postgres).await, 3);
    // What was adopted is watched like our own.
    let scenario = async {
        kill(pid);
        eventually("another postmaster", || postgres.pid() != pid && postgres.is_running()).await;
        assert_eq!(read_mark(&postgres).await, 3);
        let pid = postgres.pid();
        postgres.stop().await.unwrap();
        assert!(!alive(pid));
    };
    tokio::join!(postgres.supervise(), scenario);
}

#[tokio::test]
async fn a_first_start_that_was_killed_is_recovered_from() {
    let data = data_dir();
    let (mut other, pid) = other_daybook(data.path());
    let credentials = data.path().join("pg-credentials.toml");
    let before = fs::read_to_string(&credentials).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    eventually("the end", || !alive(pid)).await;
    // As if it had been killed inside initdb: the passwords are written, the cluster is not in its place.
    let unfinished = data.path().join("pg.init-0badcafe");
    fs::create_dir(&unfinished).unwrap();
    fs::rename(data.path().join("pg"), unfinished.join("pg")).unwrap();

    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    write_mark(&postgres, 1).await;
    assert!(!unfinished.exists());
    assert_eq!(fs::read_to_string(&credentials).unwrap(), before);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn exposed_or_missing_passwords_are_refused() {
    let data = data_dir();
    EmbeddedPostgres::start(data.path()).await.unwrap().stop().await.unwrap();
    let credentials = data.path().join("pg-credentials.toml");
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o644)).unwrap();
    let error = EmbeddedPostgres::start(data.path()).await.unwrap_err();
    assert!(matches!(error, EmbeddedPgError::Credentials { .. }), "{error}");
    assert!(error.to_string().contains("chmod 600"), "{error}");

    fs::remove_file(&credentials).unwrap();
    let error = EmbeddedPostgres::start(data.path()).await.unwrap_err();
    assert!(matches!(error, EmbeddedPgError::CredentialsMissing { .. }), "{error}");
}

#[tokio::test]
async fn values_in_failed_statements_stay_out_of_the_log() {
    let data = data_dir();
    let postgres = EmbeddedPostgres::start(data.path()).await.unwrap();
    let mut owner = connect(&postgres.owner_options()).await;
    let setup =
        "CREATE TABLE people (email text PRIMARY KEY); INSERT INTO people VALUES ('canary@example.org')";
    sqlx::raw_sql(setup).execute(&mut owner).await.unwrap();
    sqlx::raw_sql("INSERT INTO people VALUES ('canary@example.org')").execute(&mut owner).await.unwrap_err();
    postgres.stop().await.unwrap();
    let log = fs::read_to_string(data.path().join("pg.log")).unwrap();
    assert!(log.contains("duplicate key") && !log.contains("canary"), "{log}");
}

#[tokio::test]
async fn a_long_path_gets_its_socket_elsewhere() {
    let data = data_dir();
    let long = data.path().join("x".repeat(100));
    open_to_everybody(data.path());
    let postgres = EmbeddedPostgres::start(&long).await.unwrap();
    write_mark(&postgres, 1).await;
    let mut superuser = connect(&postgres.superuser_options()).await;
    let directory: String =
        sqlx::query_scalar("SHOW unix_socket_directories").fetch_one(&mut superuser).await.unwrap();
    let directory = directory.trim_matches('"');
    assert!(!directory.starts_with(long.to_str().unwrap()), "{directory}");
    assert_eq!(mode(Path::new(directory)), 0o700);
    superuser.close().await.unwrap();
    postgres.stop().await.unwrap();
    fs::remove_dir(directory).unwrap();
}

#[tokio::test]
async fn a_closed_parent_directory_is_named_when_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let parent = data_dir();
    let error = EmbeddedPostgres::start(&parent.path().join("data")).await.unwrap_err();
    assert!(matches!(error, EmbeddedPgError::NotTraversable { .. }), "{error}");
    let expected = format!("chmod o+x {}`", parent.path().canonicalize().unwrap().display());
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn the_database_is_opened_as_configured() {
    let data = data_dir();
    let flags = SettingsPatch { data_dir: Some(data.path().to_owned()), ..SettingsPatch::default() };
    let settings = Settings::load_with(None, &|_| None, flags.clone()).unwrap();
    let server = Database::open(&settings, OpenMode::Server).await.unwrap();
    let command = Database::open(&settings, OpenMode::Command).await.unwrap();
    assert!(Database::open(&settings, OpenMode::Server).await.is_err());
    connect(&command.app_options).await;
    command.guard.close().await.unwrap();
    connect(&server.owner_options).await;
    let (closed, ()) = tokio::join!(server.guard.close(), server.guard.supervise());
    closed.unwrap();

    let external = |name: &str| {
        (name == "DATABASE_URL").then(|| "postgres://a:hunter2@db.example/x?sslmode=verify-full".to_owned())
    };
    let settings = Settings::load_with(None, &external, flags.clone()).unwrap();
    let database = Database::open(&settings, OpenMode::Server).await.unwrap();
    assert!(!database.is_embedded());
    assert_eq!((database.owner_options.get_host(), database.app_options.get_username()), ("db.example", "a"));
    let broken = |name: &str| (name == "DATABASE_URL").then(|| "mysql://a:hunter2@db".to_owned());
    let settings = Settings::load_with(None, &broken, flags).unwrap();
    let error = Database::open(&settings, OpenMode::Server).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

/// A daybook in a process of its own, so that it can be killed, and its postmaster's id.
fn other_daybook(data_dir: &Path) -> (Child, i32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("listening on ")), "the other daybook starts");
    let pid_file = fs::read_to_string(data_dir.join("pg/postmaster.pid")).unwrap();
    (child, pid_file.lines().next().unwrap().parse().unwrap())
}

/// A directory below `/tmp` with mode 0700, as a careful user makes it.
fn data_dir() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn open_to_everybody(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    options.connect().await.unwrap()
}

async fn write_mark(postgres: &EmbeddedPostgres, n: i32) {
    let mut owner = connect(&postgres.owner_options()).await;
    sqlx::raw_sql(&format!("CREATE TABLE mark AS SELECT {n} AS n")).execute(&mut owner).await.unwrap();
    owner.close().await.unwrap();
}

async fn read_mark(postgres: &EmbeddedPostgres) -> i32 {
    let mut owner = connect(&postgres.owner_options()).await;
    let n = sqlx::query_scalar("SELECT n FROM mark").fetch_one(&mut owner).await.unwrap();
    owner.close().await.unwrap();
    n
}

/// A program that is not PostgreSQL, of the cluster's user.
fn stranger_of(owner: &fs::Metadata) -> Child {
    use std::os::unix::{fs::MetadataExt as _, process::CommandExt as _};
    let mut command = Command::new("sleep");
    command.arg("600");
    if rustix::process::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.spawn().unwrap()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn alive(pid: i32) -> bool {
    // A zombie that nobody reaps is not alive.
    let running = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    running && test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waiting for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
