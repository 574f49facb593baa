//! `daybook audit checkpoint`.

use anyhow::Context as _;
use clap::Args;

use super::{ledger_of, log_of};
use crate::cli::{Runtime, say};

#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// The tenant [default: the platform's own log].
    #[arg(long, value_name = "SLUG")]
    tenant: Option<String>,
    /// Sign the log as it is now, first.
    #[arg(long)]
    now: bool,
}

/// Prints the last signed head of a log, a note.
pub async fn run(runtime: &Runtime, args: &CheckpointArgs) -> anyhow::Result<()> {
    let ledger = ledger_of(runtime)?;
    let schema = log_of(runtime, args.tenant.as_deref()).await?;
    let checkpoint = if args.now {
        ledger.checkpoint_now(&schema).await?
    } else {
        ledger.latest(&schema).await?.context("this log has no checkpoint yet; `--now` signs one")?
    };
    say(checkpoint.note.trim_end());
    Ok(())
}
