//! `daybook audit …`.

mod checkpoint;
mod erase;
mod export;
mod hold;
mod keys;
mod prune;
mod story;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;
use daybook_projections::Schema;

use super::{Mode, Runtime};
use crate::{config::Settings, eventstore::StoreSettings};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Write the log, or a part of it, to a file.
    #[command(
        after_help = "Example: daybook audit export --tenant camp-river --format csv --out camp-river.csv"
    )]
    Export(export::ExportArgs),
    /// Tell the whole story of a support request, from the tenant's log alone.
    #[command(after_help = "Example: daybook audit story --support-request \
                      01a1fdc1-c481-719a-9803-a3bb46f22c94 --tenant camp-river")]
    Story(story::StoryArgs),
    /// Check logs against their signed ledgers, and all else that is stored against the logs.
    #[command(after_help = "Example: daybook audit verify --tenant camp-river\n\n\
                      Exit code 0: all is as it was written; 1: something was found, and is named by its cause; 2: usage; \
                      3: it could not be checked to the end")]
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

pub async fn run(settings: Settings, command: AuditCommand) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = match command {
        AuditCommand::Export(args) => export::run(&runtime, &args).await,
        AuditCommand::Story(args) => story::run(&runtime, &args).await,
        AuditCommand::Keys(args) => keys::run(&runtime, &args).await,
        AuditCommand::Checkpoint(args) => checkpoint::run(&runtime, &args).await,
        AuditCommand::Verify(args) => verify::run(&runtime, &args).await.map(|found| code = found),
        AuditCommand::Hold(command) => hold::run(&runtime, command).await,
        AuditCommand::Erase(args) => erase::run(&runtime, &args).await,
        AuditCommand::Prune(args) => prune::run(&runtime, &args).await,
    };
    runtime.close().await?;
    result.map(|()| code)
}

/// The log of a tenant, or the platform's.
async fn log_of(runtime: &Runtime, slug: Option<&str>) -> anyhow::Result<Schema> {
    Ok(match slug {
        Some(slug) => Schema::tenant(runtime.admin.find(slug).await?.id),
        None => Schema::platform(),
    })
}
