//! `daybook audit …`.

mod bundle;
mod checkpoint;
mod erase;
mod export;
mod hold;
mod keys;
mod prune;
mod story;
mod verify;
mod verify_bundle;

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Subcommand;
use daybook_projections::Schema;

use super::{Mode, Runtime};
use crate::{
    config::Settings,
    eventstore::StoreSettings,
    ledger::{HeadCopy, Ledger},
};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Write a range of the log to a file with all that proves it, to be checked without us.
    #[command(after_help = "Example: daybook audit bundle --tenant camp-river --out camp-river.tar.gz")]
    Bundle(bundle::BundleArgs),
    /// Write the log, or a part of it, to a file.
    #[command(
        after_help = "Example: daybook audit export --tenant camp-river --format csv --out camp-river.csv"
    )]
    Export(export::ExportArgs),
    /// Tell the whole story of a support request, from the tenant's log alone.
    #[command(after_help = "Example: daybook audit story --support-request \
                      01a1fdc1-c481-719a-9803-a3bb46f22c94 --tenant camp-river")]
    Story(story::StoryArgs),
    /// Check a bundle, or logs in use, against what was signed: that nothing was changed, removed, reordered or left out; in
    /// use, all else that is stored as well.
    #[command(after_help = "Example: daybook audit verify camp-river.tar.gz --key \
                      'book.example/t/01a1fdc1-c481-719a-9803-a3bb46f22c94+c74f20a3+ARpc…'\n         \
                      daybook audit verify --tenant camp-river\n\n\
                      Exit code 0: all is as it was written; 1: something was found, and is named by its cause; 2: usage; \
                      3: it is not all there, or could not be checked to the end")]
    Verify(verify::VerifyArgs),
    /// Let go of the events that the tenant's plan no longer keeps; what goes on is carried over first.
    #[command(
        after_help = "Example: daybook audit prune --tenant camp-river --dry-run; exit code 1 when something \
                      stands in the way"
    )]
    Prune(prune::PruneArgs),
    /// Print the keys that a log's checkpoints are checked with, those of now and those before.
    #[command(after_help = "Example: daybook audit keys --tenant camp-river")]
    Keys(keys::KeysArgs),
    /// Print the last signed checkpoint of a log.
    #[command(after_help = "Example: daybook audit checkpoint --tenant camp-river --now")]
    Checkpoint(checkpoint::CheckpointArgs),
    /// Place, list and release legal holds.
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Forget who a customer was, for good; under a legal hold, once that is released.
    #[command(after_help = "Example: daybook audit erase --tenant camp-river --customer \
                      01a1fdc1-c481-719a-9803-a3bb46f22c94 --reason 'She asked for it'")]
    Erase(erase::EraseArgs),
}

impl AuditCommand {
    /// Runs a command that needs nothing: no settings, no database.
    pub fn offline(&self) -> Option<ExitCode> {
        if let Self::Verify(args) = self { args.offline() } else { None }
    }
}

pub async fn run(settings: Settings, command: AuditCommand) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = match command {
        AuditCommand::Bundle(args) => bundle::run(&runtime, &args).await.map(done),
        AuditCommand::Export(args) => export::run(&runtime, &args).await.map(done),
        AuditCommand::Story(args) => story::run(&runtime, &args).await.map(done),
        AuditCommand::Keys(args) => keys::run(&runtime, &args).await.map(done),
        AuditCommand::Checkpoint(args) => checkpoint::run(&runtime, &args).await.map(done),
        AuditCommand::Hold(command) => hold::run(&runtime, command).await.map(done),
        AuditCommand::Erase(args) => erase::run(&runtime, &args).await.map(done),
        AuditCommand::Prune(args) => prune::run(&runtime, &args).await.map(done),
        AuditCommand::Verify(args) => verify::run(&runtime, &args).await,
    };
    runtime.close().await?;
    result
}

/// The ledgers, for a command that signs: what is copied elsewhere has to bear out what is here.
fn ledger_of(runtime: &Runtime) -> anyhow::Result<Ledger> {
    let ledger = Ledger::new(runtime.store.clone(), &runtime.settings.public_url());
    let copy =
        HeadCopy::open(&runtime.settings.ledger_copy()).context("look at the copy of the log of heads")?;
    ledger.keep_copy(copy);
    Ok(ledger)
}

/// Opens a file to write personal data to: for its owner alone, also where it was there before.
fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.write(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The log of a tenant, or the platform's.
async fn log_of(runtime: &Runtime, slug: Option<&str>) -> anyhow::Result<Schema> {
    Ok(match slug {
        Some(slug) => Schema::tenant(runtime.admin.find(slug).await?.id),
        None => Schema::platform(),
    })
}
