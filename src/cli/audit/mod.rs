//! `daybook audit …`.

mod story;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use super::{Mode, Runtime};
use crate::{config::Settings, eventstore::StoreSettings};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Tell the whole story of a support request, from the tenant's log alone.
    #[command(after_help = "Example: daybook audit story --support-request \
                      01a1fdc1-c481-719a-9803-a3bb46f22c94 --tenant camp-river")]
    Story(story::StoryArgs),
    /// Check logs against their signed ledgers, and all else that is stored against the logs.
    #[command(after_help = "Example: daybook audit verify --tenant camp-river\n\n\
                      Exit code 0: all is as it was written; 1: something was found, and is named by its cause; 2: usage; \
                      3: it could not be checked to the end")]
    Verify(verify::VerifyArgs),
}

pub async fn run(settings: Settings, command: AuditCommand) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = match command {
        AuditCommand::Story(args) => story::run(&runtime, &args).await.map(done),
        AuditCommand::Verify(args) => verify::run(&runtime, &args).await,
    };
    runtime.close().await?;
    result
}
