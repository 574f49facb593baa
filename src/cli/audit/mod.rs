//! `daybook audit …`.

mod erase;
mod hold;
mod story;

use clap::Subcommand;

use super::{Mode, Runtime};
use crate::{config::Settings, eventstore::StoreSettings};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Tell the whole story of a support request, from the tenant's log alone.
    #[command(after_help = "Example: daybook audit story --support-request \
                      01a1fdc1-c481-719a-9803-a3bb46f22c94 --tenant camp-river")]
    Story(story::StoryArgs),
    /// Place, list and release legal holds.
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Forget who a customer was, for good; under a legal hold, once that is released.
    #[command(after_help = "Example: daybook audit erase --tenant camp-river --customer \
                      01a1fdc1-c481-719a-9803-a3bb46f22c94 --reason 'She asked for it'")]
    Erase(erase::EraseArgs),
}

pub async fn run(settings: Settings, command: AuditCommand) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = match command {
        AuditCommand::Story(args) => story::run(&runtime, &args).await,
        AuditCommand::Hold(command) => hold::run(&runtime, command).await,
        AuditCommand::Erase(args) => erase::run(&runtime, &args).await,
    };
    runtime.close().await?;
    result
}
