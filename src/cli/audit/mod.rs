//! `daybook audit …`.

mod export;
mod story;

use clap::Subcommand;

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
}

pub async fn run(settings: Settings, command: AuditCommand) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = match command {
        AuditCommand::Export(args) => export::run(&runtime, &args).await,
        AuditCommand::Story(args) => story::run(&runtime, &args).await,
    };
    runtime.close().await?;
    result
}
