//! `daybook import …`.

use clap::Subcommand;

use super::{Mode, Runtime};
use crate::{
    config::Settings,
    import::{self, ImportArgs},
};

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Import a history of bookings.
    Bookings {
        #[command(flatten)]
        args: ImportArgs,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(settings: Settings, command: ImportCommand) -> anyhow::Result<()> {
    let ImportCommand::Bookings { args, json } = command;
    let runtime = Runtime::open(settings, Mode::Command, import::store_settings()).await?;
    let result = async {
        let tenant = runtime.admin.find(&args.tenant).await?;
        anyhow::ensure!(tenant.active, "tenant {} is not active", tenant.slug);
        import::execute(&args, &runtime.store, &daybook_projections::Schema::tenant(tenant.id), json).await?;
        Ok(())
    }
    .await;
    runtime.close().await?;
    result
}
