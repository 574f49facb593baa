//! `daybook audit verify`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};

use super::verify_bundle;
use crate::{
    cli::{Runtime, say},
    eventstore::Receipt,
    ledger::{
        HeadCopy, Ledger,
        tree::Hash,
        verify::{Report, Verification, Wanted},
    },
};

/// Exit code of what could not be checked to the end.
const INCOMPLETE: u8 = 3;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["bundle", "tenant", "all"]))]
pub struct VerifyArgs {
    /// A bundle: the file, or the folder it was unpacked to. Needs no settings, no database and no network.
    #[arg(requires = "key")]
    bundle: Option<PathBuf>,
    /// The log of this tenant.
    #[arg(long, value_name = "SLUG")]
    tenant: Option<String>,
    /// Every log that there is or was: the platform's, those of all tenants, and the log of heads.
    #[arg(long)]
    all: bool,
    /// A verifier key of the log, as it was handed out: one of those given must have signed.
    #[arg(long, value_name = "VKEY", conflicts_with = "all")]
    key: Vec<String>,
    /// A receipt of a command: the position of an event, and the hash of its leaf in hex.
    #[arg(long, value_name = "POSITION:HASH", value_parser = receipt, conflicts_with = "all")]
    receipt: Vec<Receipt>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn receipt(text: &str) -> Result<Receipt, String> {
    let wrong = || "a receipt is a position and 64 hex digits, with a colon between them".to_owned();
    let (position, hash) = text.split_once(':').ok_or_else(wrong)?;
    let position = position.parse().ok().filter(|position| *position > 0).ok_or_else(wrong)?;
    let mut leaf_hash = Hash::default();
    hex::decode_to_slice(hash, &mut leaf_hash).map_err(|_| wrong())?;
    Ok(Receipt { position, leaf_hash })
}

impl VerifyArgs {
    /// Checks a bundle, which needs nothing but itself; `None` where it is not one that is asked about.
    pub fn offline(&self) -> Option<ExitCode> {
        let bundle = self.bundle.as_ref()?;
        let receipts: Vec<(u64, Hash)> =
            self.receipt.iter().map(|receipt| (receipt.position.unsigned_abs(), receipt.leaf_hash)).collect();
        Some(verify_bundle::run(bundle, &self.key, &receipts, self.json))
    }
}

/// Checks the logs that were asked for.
pub async fn run(runtime: &Runtime, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::new(runtime.store.clone(), &runtime.settings.public_url());
    let copy =
        HeadCopy::open(&runtime.settings.ledger_copy()).context("look at the copy of the log of heads")?;
    let verification = Verification::new(ledger, copy);
    let bar = bar();
    let one = match &args.tenant {
        Some(slug) => {
            let found = verification.find(slug).await?;
            Some(found.with_context(|| format!("there is no tenant {slug}, and never was"))?)
        }
        None => None,
    };
    let (heads, said) = verification.heads_for(one.as_ref()).await;
    let wanted = match one {
        Some(one) => vec![one],
        None => verification.logs(&said).await?,
    };
    let mut reports = vec![heads];
    for log in wanted {
        let log = Wanted { receipts: args.receipt.clone(), keys: args.key.clone(), ..log };
        bar.set_prefix(log.name.clone());
        bar.reset();
        let report = verification
            .log(&log, &said, |done, all| {
                bar.set_length(all);
                bar.set_position(done);
            })
            .await;
        reports.push(report);
    }
    bar.finish_and_clear();
    if args.json {
        say(serde_json::to_string(&reports)?);
    } else {
        reports.iter().for_each(say);
    }
    Ok(exit_code(&reports))
}

fn exit_code(reports: &[Report]) -> ExitCode {
    if reports.iter().any(|report| !report.findings.is_empty()) {
        ExitCode::FAILURE
    } else if reports.iter().any(|report| !report.unchecked.is_empty()) {
        ExitCode::from(INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} events {per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}
