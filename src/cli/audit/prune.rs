//! `daybook audit prune`.

use anyhow::{Context as _, bail};
use clap::Args;
use daybook_projections::Schema;
use serde_json::json;

use super::ledger_of;
use crate::{
    cli::{Runtime, say},
    eventstore::leaf::format_time,
    workers::log_pruning,
};

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Whose log.
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// Only say what would go, and what stands in the way.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prunes it.
pub async fn run(runtime: &Runtime, args: &PruneArgs) -> anyhow::Result<()> {
    let tenant = runtime.admin.find(&args.tenant).await?;
    let (store, schema) = (&runtime.store, Schema::tenant(tenant.id));
    const NONE: &str = "the tenant has no plan";
    let report = if args.dry_run {
        let cut = log_pruning::cut(store.database(), tenant.id).await?.context(NONE)?;
        log_pruning::plan(store, &schema, cut).await?
    } else {
        let ledger = ledger_of(runtime)?;
        log_pruning::prune_tenant(&ledger, tenant.id).await?.context(NONE)?
    };
    if args.json {
        say(json!({ "tenant": tenant.slug, "dry_run": args.dry_run, "pruning": report }));
    } else {
        say(format_args!(
            "{}: {} days of history are kept, from {} on",
            tenant.slug,
            report.cut.history_days,
            format_time(report.cut.at)
        ));
        let (events, through) = (report.events, report.through_position);
        match (report.refused, args.dry_run) {
            (_, _) if events == 0 => say("nothing more is to be pruned"),
            (Some(_), _) => say(format_args!("{events} events up to position {through} stay for now")),
            (None, true) => say(format_args!("{events} events up to position {through} would go")),
            (None, false) => say(format_args!(
                "{events} events up to position {through} are pruned; {} events carry over what goes on",
                report.carried
            )),
        }
        if report.deleted > 0 {
            say(format_args!("{} events were deleted", report.deleted));
        }
    }
    if let Some(hindrance) = report.refused {
        bail!("not pruned: {}", hindrance);
    }
    Ok(())
}
