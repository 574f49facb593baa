//! The cluster on disk: made once, configured at every start, with our roles and database in it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use super::{
    APP_ROLE, Account, Binaries, DATABASE, EmbeddedPgError, OWNER_ROLE, SUPERUSER,
    credentials::Credentials,
    layout::{Layout, make_private},
    process::clean_environment,
};
use crate::random;

/// Ours, written at every start. `postgresql.conf` includes it after initdb's lines; what an operator adds
/// below the include, or sets with `ALTER SYSTEM`, wins.
const SETTINGS: &str = "\
# Written by daybook at every start. Change postgresql.conf instead: what comes there after the include wins.

# An acknowledged command is durable.
fsync = on
synchronous_commit = on
full_page_writes = on

# A small machine that runs the server beside it.
max_connections = 100
shared_buffers = 256MB
wal_compression = on
max_wal_size = 2GB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
random_page_cost = 1.1
jit = off
autovacuum = on
# Migrations touch the schemas of many tenants.
max_locks_per_transaction = 256

password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'

# The log goes to pg.log. It must not hold personal data: no statements, no values in error details.
logging_collector = off
log_destination = stderr
log_line_prefix = '%m [%p] '
log_checkpoints = off
log_statement = none
log_min_error_statement = panic
log_error_verbosity = terse
";

/// A password on every way in, also on the socket.
const HBA: &str = "\
# Written by daybook when it made this cluster.
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
";

/// Where a cluster is made before it is renamed into place.
const UNFINISHED: &str = "pg.init-";

/// Makes the cluster. It appears in its place whole, so that a first start which was killed leaves nothing
/// but a directory to remove.
pub(super) async fn create(
    layout: &Layout,
    binaries: &Binaries,
    account: Option<&Account>,
    credentials: &Credentials,
) -> Result<(), EmbeddedPgError> {
    remove_unfinished(&layout.data_dir);
    let workshop = layout.data_dir.join(format!("{UNFINISHED}{}", hex::encode(random::bytes::<4>()?)));
    let made = create_in(&workshop, layout, binaries, account, credentials).await;
    // Only tidiness: the next first start removes what is left.
    let _ = fs::remove_dir_all(&workshop);
    made
}

async fn create_in(
    workshop: &Path,
    layout: &Layout,
    binaries: &Binaries,
    account: Option<&Account>,
    credentials: &Credentials,
) -> Result<(), EmbeddedPgError> {
    make_private(workshop, account)?;
    let password_file = workshop.join("password");
    write_new(&password_file, credentials.superuser_password.expose_secret(), account)?;

    let cluster = workshop.join("pg");
    // Byte order for text, the same on every machine. Where C.UTF-8 is missing, C sorts alike.
    if let Err(error) = initdb(binaries, account, &cluster, &password_file, "C.UTF-8").await {
        tracing::debug!(%error, "initdb with the locale C.UTF-8 failed; trying C");
        initdb(binaries, account, &cluster, &password_file, "C").await?;
    }

    append(&cluster.join("postgresql.conf"), "\ninclude_if_exists = 'daybook.conf'\n")?;
    replace(&cluster.join("pg_hba.conf"), HBA, account)?;
    configure(&cluster, account)?;
    fs::rename(&cluster, &layout.cluster)
        .map_err(EmbeddedPgError::io("rename into place", &layout.cluster))?;
    sync(&layout.data_dir)
}

async fn initdb(
    binaries: &Binaries,
    account: Option<&Account>,
    cluster: &Path,
    password_file: &Path,
    locale: &str,
) -> Result<(), EmbeddedPgError> {
    let program = binaries.program("initdb");
    let mut command = Command::new(&program);
    command
        .arg("-D")
        .arg(cluster)
        .args(["--username", SUPERUSER, "--encoding", "UTF8", "--locale", locale])
        .args(["--auth", "scram-sha-256", "--data-checksums", "--no-instructions"])
        .arg(format!("--pwfile={}", password_file.display()));
    clean_environment(&mut command);
    if let Some(account) = account {
        account.apply(&mut command);
    }
    let output = tokio::process::Command::from(command)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(EmbeddedPgError::io("run", program))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(EmbeddedPgError::InitFailed { output: text.trim().to_owned() })
}

/// Writes our settings, so that a newer daybook's tuning reaches an older cluster.
pub(super) fn configure(cluster: &Path, account: Option<&Account>) -> Result<(), EmbeddedPgError> {
    let path = cluster.join("daybook.conf");
    if fs::read_to_string(&path).is_ok_and(|current| current == SETTINGS) {
        return Ok(());
    }
    replace(&path, SETTINGS, account)
}

/// Makes the roles and the database where they are missing; a start that was killed in between is finished
/// by the next one.
pub(super) async fn provision(
    superuser: &PgConnectOptions,
    credentials: &Credentials,
) -> Result<(), EmbeddedPgError> {
    let sql = EmbeddedPgError::sql;
    let mut connection =
        PgConnection::connect_with(superuser).await.map_err(sql("connect as its superuser"))?;
    let roles: Vec<String> =
        sqlx::query_scalar("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'daybook%'")
            .fetch_all(&mut connection)
            .await
            .map_err(sql("list its roles"))?;
    // The passwords are letters and digits; `CREATE ROLE` takes no parameters.
    let definitions = [
        (OWNER_ROLE, "CREATEROLE INHERIT", &credentials.owner_password),
        (APP_ROLE, "NOCREATEROLE NOINHERIT", &credentials.app_password),
    ];
    for (role, rights, password) in definitions {
        if roles.iter().any(|existing| existing == role) {
            continue;
        }
        let create = format!(
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOREPLICATION NOBYPASSRLS {rights} PASSWORD '{}'",
            password.expose_secret()
        );
        sqlx::raw_sql(&create).execute(&mut connection).await.map_err(sql("create a role"))?;
    }

    // No rights of its own on the database means that they are still PostgreSQL's defaults.
    let has_rights: Option<bool> =
        sqlx::query_scalar("SELECT datacl IS NOT NULL FROM pg_database WHERE datname = $1")
            .bind(DATABASE)
            .fetch_optional(&mut connection)
            .await
            .map_err(sql("look for the database"))?;
    if has_rights.is_none() {
        let create =
            format!("CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE} TEMPLATE template0 ENCODING 'UTF8'");
        sqlx::raw_sql(&create).execute(&mut connection).await.map_err(sql("create the database"))?;
    }
    if has_rights != Some(true) {
        let rights = format!(
            "BEGIN; REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC; \
             GRANT CONNECT ON DATABASE {DATABASE} TO {APP_ROLE}; COMMIT"
        );
        sqlx::raw_sql(&rights).execute(&mut connection).await.map_err(sql("set the database's rights"))?;
    }
    // The work is done; an impolite goodbye changes nothing.
    let _ = connection.close().await;
    let mut inside = PgConnection::connect_with(&superuser.clone().database(DATABASE))
        .await
        .map_err(sql("connect to the database as its superuser"))?;
    keep_roles(&mut inside).await.map_err(sql("take set_config away"))?;
    let _ = inside.close().await;
    Ok(())
}

/// Takes `set_config` away from everybody but the owner, in the database of this superuser's connection.
///
/// The login role may become any tenant's, so that it can serve each. It does so by a statement of its own, which is
/// never made of input. With this function any query could do the same half-way through, an injected one as well.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn keep_roles(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let open: bool = sqlx::query_scalar(
        "SELECT has_function_privilege('public', 'pg_catalog.set_config(text, text, boolean)', 'EXECUTE')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if open {
        let revoke = format!(
            "BEGIN; REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC;
             GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO {OWNER_ROLE}; COMMIT"
        );
        sqlx::raw_sql(&revoke).execute(connection).await?;
    }
    Ok(())
}

/// What first starts that were killed left behind.
fn remove_unfinished(data_dir: &Path) {
    let leftovers: Vec<PathBuf> = fs::read_dir(data_dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED))
        .map(|entry| entry.path())
        .collect();
    for leftover in leftovers {
        tracing::info!(path = %leftover.display(), "removing what an interrupted first start left behind");
        // An initdb of that start may still run; it fails, and the rest goes with the next first start.
        let _ = fs::remove_dir_all(&leftover);
    }
}

fn append(path: &Path, text: &str) -> Result<(), EmbeddedPgError> {
    let open = OpenOptions::new().append(true).open(path);
    open.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .map_err(EmbeddedPgError::io("write", path))
}

fn replace(path: &Path, text: &str, account: Option<&Account>) -> Result<(), EmbeddedPgError> {
    let temporary = path.with_extension("conf.new");
    // Of a start that was killed.
    let _ = fs::remove_file(&temporary);
    write_new(&temporary, text, account)?;
    fs::rename(&temporary, path).map_err(EmbeddedPgError::io("write", path))
}

/// Writes a file that must not exist: we may be root in another user's directory, and follow no link there.
fn write_new(path: &Path, text: &str, account: Option<&Account>) -> Result<(), EmbeddedPgError> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = open.map_err(EmbeddedPgError::io("create", path))?;
    account.map_or(Ok(()), |account| account.own_file(&file, path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(EmbeddedPgError::io("write", path))
}

fn sync(directory: &Path) -> Result<(), EmbeddedPgError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(EmbeddedPgError::io("make durable", directory))
}
