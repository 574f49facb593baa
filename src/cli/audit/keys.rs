//! `daybook audit keys`.

use clap::Args;
use serde_json::json;

use super::log_of;
use crate::{
    cli::{Runtime, say},
    ledger::{Ledger, VerifierKey},
};

#[derive(Debug, Args)]
pub struct KeysArgs {
    /// The tenant [default: the platform's own log].
    #[arg(long, value_name = "SLUG")]
    tenant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the keys that sign, and signed, a log's checkpoints, and those of the log of heads.
pub async fn run(runtime: &Runtime, args: &KeysArgs) -> anyhow::Result<()> {
    let ledger = Ledger::new(runtime.store.clone(), &runtime.settings.public_url());
    let schema = log_of(runtime, args.tenant.as_deref()).await?;
    let origin = ledger.origin(&schema).await?;
    let keys = ledger.verifier_keys(&schema).await?;
    let heads = ledger.head_log_keys().await?;
    if args.json {
        let of = |keys: &[VerifierKey]| -> Vec<_> {
            keys.iter()
                .map(|key| json!({ "vkey": key.vkey, "first_used_at": key.first_used_at, "live": key.live }))
                .collect()
        };
        say(json!({ "origin": origin, "keys": of(&keys), "head_log_keys": of(&heads) }));
        return Ok(());
    }
    for key in keys.iter().chain(&heads) {
        let state = match (key.live, key.first_used_at) {
            (true, Some(since)) => format!("signs since {}", since.format("%F %T UTC")),
            (true, None) => "signs from now on".to_owned(),
            (false, Some(since)) => format!("signed from {}, no longer", since.format("%F %T UTC")),
            (false, None) => "never signed".to_owned(),
        };
        say(format_args!("{}  {state}", key.vkey));
    }
    Ok(())
}
