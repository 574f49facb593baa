//! `daybook audit erase`.

use clap::Args;
use daybook_domain::{CustomerId, customer::CustomerCommand};
use daybook_projections::Schema;
use serde_json::json;

use crate::{
    cli::{Runtime, runtime::cli_metadata, say},
    eventstore::{Command, Unit},
    workers::erasure,
};

#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The tenant's slug.
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// Whom to forget.
    #[arg(long, value_name = "ID")]
    customer: CustomerId,
    /// Why. It stays in the log: no place for personal data.
    #[arg(long)]
    reason: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Asks for the erasure, and does it unless a legal hold stands against it.
pub async fn run(runtime: &Runtime, args: &EraseArgs) -> anyhow::Result<()> {
    let schema = Schema::tenant(runtime.admin.find(&args.tenant).await?.id);
    let mut metadata = cli_metadata("audit erase");
    metadata.reason = Some(args.reason.clone());
    let request = Command::to(args.customer, CustomerCommand::RequestErasure);
    runtime.store.execute(&schema, Unit::of(request, metadata.clone())).await?;
    let done = erasure::complete(&runtime.store, &schema, args.customer, metadata).await?;
    let status = if erasure::is_done(&done) { "done" } else { "queued" };
    if args.json {
        say(json!({ "customer_id": args.customer, "status": status, "position": done.last_position }));
    } else if status == "done" {
        say(format_args!("{} is erased", args.customer));
    } else {
        say(format_args!("{} will be erased when the legal holds against it are released", args.customer));
    }
    Ok(())
}
