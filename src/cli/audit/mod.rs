//! `daybook audit …`.

mod prune;
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
    /// Let go of the events that the tenant's plan no longer keeps; what goes on is carried over first.
    #[command(
        after_help = "Example: daybook audit prune --tenant camp-river --dry-run; exit code 1 when something \
                      stands in the way"
    )]
    Prune(prune::PruneArgs),
}

pub async fn run(settings: Settings, command: AuditCommand) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = match command {
        AuditCommand::Story(args) => story::run(&runtime, &args).await,
        AuditCommand::Prune(args) => prune::run(&runtime, &args).await,
    };
    runtime.close().await?;
    result
}
