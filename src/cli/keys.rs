//! `daybook keys …`.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sqlx::PgConnection;

use super::{Mode, Runtime, say};
use crate::{
    config::Settings,
    eventstore::StoreSettings,
    keys::{Keys, KeysError, Purpose},
    tenancy::{
        Database,
        reseal::{self, Resealed},
    },
};

/// Servers look at the file every second.
const SERVERS_HAVE_RELOADED: Duration = Duration::from_secs(3);

/// How long transactions from before may still take; a statement's timeout is far less.
const STRAGGLERS: Duration = Duration::from_secs(60);

/// Passes over the database until one finds nothing. The second should.
const MAX_PASSES: usize = 5;

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a keys file where there is none, for a new database.
    #[command(after_help = "Example: daybook keys generate --data-dir ./data")]
    Generate,
    /// Put new keys in front, seal everything anew with them, then drop those that sealed before.
    ///
    /// Beside running servers, which must all see this one file: they take the new keys over without a restart, and
    /// nobody is signed out. Run again, it finishes a rotation that was interrupted. Keep a copy of the new file.
    #[command(after_help = "Example: daybook keys rotate")]
    Rotate(Format),
    /// Show which keys live, and since when; never a key.
    #[command(after_help = "Example: daybook keys status --json")]
    Status(Format),
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Format {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(settings: Settings, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Generate => generate(&settings.keys_file()),
        KeysCommand::Status(format) => status(&settings.keys_file(), format),
        KeysCommand::Rotate(format) => {
            let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
            let result = rotate(&runtime, format).await;
            runtime.close().await?;
            result
        }
    }
}

/// The clock of this machine: there is no database to ask.
fn local_now() -> DateTime<Utc> {
    DateTime::from(std::time::SystemTime::now())
}

fn generate(path: &Path) -> anyhow::Result<()> {
    match Keys::create(path, local_now()) {
        Ok(keys) => {
            say(format_args!("made {}  fingerprint {}", path.display(), keys.fingerprint()));
            Ok(())
        }
        Err(KeysError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{} exists, and what it sealed can be opened with nothing else: it is left alone",
                path.display()
            )
        }
        Err(error) => Err(error.into()),
    }
}

fn status(path: &Path, format: Format) -> anyhow::Result<()> {
    let keys = Keys::load(path)?.current();
    let now = local_now();
    let age = |created_at: DateTime<Utc>| (now - created_at).num_days().max(0);
    if format.json {
        let mut lists = serde_json::Map::new();
        for purpose in Purpose::ALL {
            let ring = keys.ring(purpose);
            let live: Vec<_> = ring
                .iter()
                .map(|key| {
                    let created_at = key.created_at();
                    json!({ "id": key.id(), "created_at": created_at, "age_days": age(created_at) })
                })
                .collect();
            lists.insert(purpose.list().into(), live.into());
        }
        say(json!({ "id": keys.id(), "rotation_unfinished": keys.has_retired(), "lists": lists }));
        return Ok(());
    }
    for purpose in Purpose::ALL {
        let ring = keys.ring(purpose);
        for (at, key) in ring.iter().enumerate() {
            let name = if at == 0 { format!("{} ({})", purpose.list(), ring.count()) } else { String::new() };
            say(format_args!("{name:<16} {}  {:>5} days", key.id(), age(key.created_at())));
        }
    }
    if keys.has_retired() {
        say("a rotation is not finished: run `daybook keys rotate`");
    }
    Ok(())
}

async fn rotate(runtime: &Runtime, format: Format) -> anyhow::Result<()> {
    let database = runtime.store.database();
    let mut connection = database.owner().acquire().await.context("connect as the owner")?.detach();
    // Of two rotations at once one would write over the other's keys. Held until the connection is closed.
    let (alone,): (bool,) =
        sqlx::query_as("SELECT pg_try_advisory_lock(hashtextextended('daybook keys rotate', 0))")
            .fetch_one(&mut connection)
            .await
            .context("ask for the lock of rotations")?;
    ensure!(alone, "another `daybook keys rotate` is running");
    let resumed = begin(&mut connection, runtime.store.keys()).await?;
    let done = finish(&mut connection, database, runtime.store.keys()).await?;
    if format.json {
        say(
            json!({ "resumed": resumed, "resealed": done, "fingerprint": runtime.store.keys().fingerprint() }),
        );
    } else {
        let what = if resumed { "finished the rotation that was interrupted" } else { "rotated" };
        say(format_args!(
            "{what}: {} keys of subjects and {} values sealed anew in {} schemas",
            done.subject_keys, done.values, done.schemas
        ));
        say(
            "Keep a copy of the new keys file. Keep the old one for as long as there are dumps from before: it opens \
             them, and this database no more.",
        );
    }
    Ok(())
}

/// Writes new keys, unless those of an earlier rotation have not replaced the ones before; answers whether that is so.
async fn begin(connection: &mut PgConnection, keys: &Keys) -> anyhow::Result<bool> {
    // Another rotation may have ended between our start and our lock.
    keys.reload_if_changed()?;
    let resumed = keys.current().has_retired();
    if !resumed {
        let now = sqlx::query_scalar("SELECT now()")
            .fetch_one(&mut *connection)
            .await
            .context("ask for the time")?;
        keys.rotate(now)?;
        keys.save()?;
    }
    Ok(resumed)
}

async fn finish(connection: &mut PgConnection, database: &Database, keys: &Keys) -> anyhow::Result<Resealed> {
    tokio::time::sleep(SERVERS_HAVE_RELOADED).await;
    wait_for_stragglers(connection).await?;
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("sealing {bar:30} {pos}/{len} schemas {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut total = Resealed::default();
    for _ in 0..MAX_PASSES {
        let done = reseal::pass(database, keys, |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        })
        .await
        .context("seal everything anew (run the command again to resume)")?;
        ensure!(
            done.unreadable == 0,
            "{} sealed values are opened by none of the keys, see the log; the older keys are kept",
            done.unreadable
        );
        total.schemas = done.schemas;
        total.subject_keys += done.subject_keys;
        total.values += done.values;
        if done.is_clean() {
            bar.finish_and_clear();
            drop_retired(connection, keys).await?;
            return Ok(total);
        }
    }
    bail!(
        "a server still seals with the older keys, which are kept: make all of them read this keys file, then run the command again"
    )
}

/// Waits until every transaction has ended that may have sealed with the older keys and not committed yet.
async fn wait_for_stragglers(connection: &mut PgConnection) -> anyhow::Result<()> {
    let (horizon,): (String,) = sqlx::query_as("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        .fetch_one(&mut *connection)
        .await
        .context("look at the running transactions")?;
    let ended = async {
        loop {
            let (ended,): (bool,) =
                sqlx::query_as("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8")
                    .bind(&horizon)
                    .fetch_one(&mut *connection)
                    .await
                    .context("look at the running transactions")?;
            if ended {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(STRAGGLERS, ended).await.unwrap_or_else(|_| {
        bail!("a transaction from before the rotation does not end; run the command again when it has")
    })
}

/// The database learns the new fingerprint before the file loses the old keys: whenever this is cut off, the file
/// still belongs to the database.
async fn drop_retired(connection: &mut PgConnection, keys: &Keys) -> anyhow::Result<()> {
    sqlx::query("UPDATE daybook_platform.keys_file SET fingerprint = $1")
        .bind(keys.fingerprint())
        .execute(connection)
        .await
        .context("remember the keys file")?;
    keys.drop_retired();
    keys.save()?;
    Ok(())
}
