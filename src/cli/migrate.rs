//! `daybook migrate`.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Mode, Runtime, say};
use crate::{config::Settings, eventstore::StoreSettings, tenancy::migrate};

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Only show which version each schema has.
    #[arg(long)]
    status: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(settings: Settings, args: MigrateArgs) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result =
        if args.status { show(&runtime, args.json).await } else { migrate_all(&runtime, args.json).await };
    runtime.close().await?;
    result
}

async fn show(runtime: &Runtime, json: bool) -> anyhow::Result<()> {
    let schemas = migrate::status(runtime.store.database()).await?;
    if json {
        say(serde_json::to_string(&schemas)?);
        return Ok(());
    }
    for schema in schemas {
        let state = if schema.up_to_date { "up to date" } else { "pending" };
        say(format_args!("{:<32} {:>14}  {state}", schema.slug, schema.version));
    }
    Ok(())
}

async fn migrate_all(runtime: &Runtime, json: bool) -> anyhow::Result<()> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("migrating {bar:30} {pos}/{len} tenants {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let report = migrate::all(runtime.store.database(), |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })
    .await?;
    bar.finish_and_clear();
    if json {
        say(serde_json::to_string(&report)?);
    } else {
        say(format_args!(
            "{} schemas, {} migrated, {} failed",
            report.schemas,
            report.migrated,
            report.failed.len()
        ));
    }
    anyhow::ensure!(
        report.failed.is_empty(),
        "these tenants were not migrated (run the command again to resume): {}",
        report.failed.join(", ")
    );
    Ok(())
}
