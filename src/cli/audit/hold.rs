//! `daybook audit hold`.

use clap::{Args, Subcommand};
use daybook_domain::{
    CustomerId, HoldId, Name,
    legal_hold::{LegalHold, LegalHoldCommand},
    registry::Registered as _,
};
use daybook_projections::{
    Schema,
    legal_holds::{self, LegalHoldRow},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::{Runtime, runtime::cli_metadata, say},
    eventstore::{Command, Unit},
    tenancy::{Access, TenantTx},
    workers::erasure,
};

/// Holds read at once.
const PAGE: i64 = 200;

#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Place a hold: nothing it covers is pruned or erased until it is released.
    #[command(
        after_help = "Example: daybook audit hold place --tenant camp-river --name 'Case 2026-17' --reason 'A writ was served'"
    )]
    Place(PlaceArgs),
    /// List the holds that stand.
    #[command(after_help = "Example: daybook audit hold list --tenant camp-river --json")]
    List {
        /// The tenant's slug.
        #[arg(long, value_name = "SLUG")]
        tenant: String,
        /// Also those that were released.
        #[arg(long)]
        all: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Release a hold, and do the erasures that waited for it.
    #[command(
        after_help = "Example: daybook audit hold release 01a1fdc1-c481-719a-9803-a3bb46f22c94 --tenant camp-river --reason 'The case is closed'"
    )]
    Release {
        /// The hold.
        id: HoldId,
        /// The tenant's slug.
        #[arg(long, value_name = "SLUG")]
        tenant: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// The tenant's slug.
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// What it is known as. It stays in the log: no place for personal data.
    #[arg(long)]
    name: String,
    /// Whose data is not to be erased [default: everybody's].
    #[arg(long, value_name = "ID")]
    customer: Option<CustomerId>,
    /// The first position of the log that is not to be pruned.
    #[arg(long, value_name = "POSITION", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    from_position: i64,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Does what was asked.
pub async fn run(runtime: &Runtime, command: HoldCommand) -> anyhow::Result<()> {
    match command {
        HoldCommand::Place(args) => place(runtime, args).await,
        HoldCommand::List { tenant, all, json } => list(runtime, &tenant, all, json).await,
        HoldCommand::Release { id, tenant, reason } => {
            let schema = Schema::tenant(runtime.admin.find(&tenant).await?.id);
            let mut metadata = cli_metadata("audit hold release");
            metadata.reason = Some(reason);
            let release = Command::to(id, LegalHoldCommand::Release);
            runtime.store.execute(&schema, Unit::of(release, metadata)).await?;
            say(format_args!("released {id}"));
            let erased = erasure::finish(&runtime.store, &schema).await?;
            if erased > 0 {
                say(format_args!("erasures that had waited: {erased} done"));
            }
            Ok(())
        }
    }
}

async fn place(runtime: &Runtime, args: PlaceArgs) -> anyhow::Result<()> {
    let schema = Schema::tenant(runtime.admin.find(&args.tenant).await?.id);
    let mut metadata = cli_metadata("audit hold place");
    metadata.reason = Some(args.reason);
    let command = LegalHoldCommand::Place {
        name: Name::new(&args.name, "--name")?,
        customer_id: args.customer,
        from_position: Some(args.from_position),
    };
    let id = HoldId(Uuid::now_v7());
    let committed = runtime.store.execute(&schema, Unit::of(Command::create(id, command), metadata)).await?;
    let held =
        committed.changed.last().and_then(|it| LegalHold::of(&it.state)).and_then(|it| it.held.clone());
    match held {
        Some(held) if args.json => say(json!({
            "id": id, "name": held.name, "customer_id": held.customer_id, "from_position": held.from(),
            "reason": held.reason, "placed_at": held.placed_at,
        })),
        _ => say(format_args!("placed {id}")),
    }
    Ok(())
}

async fn list(runtime: &Runtime, slug: &str, all: bool, json: bool) -> anyhow::Result<()> {
    let schema = Schema::tenant(runtime.admin.find(slug).await?.id);
    let mut tx = TenantTx::begin(runtime.store.database().app(), &schema, Access::Read).await?;
    let standing = (!all).then_some(true);
    let mut rows: Vec<LegalHoldRow> = Vec::new();
    loop {
        let page = legal_holds::list(&mut tx, standing, rows.last().map(|row| row.id), PAGE).await?;
        let full = i64::try_from(page.len()).is_ok_and(|rows| rows >= PAGE);
        rows.extend(page);
        if !full {
            break;
        }
    }
    tx.release();
    if json {
        say(Value::Array(rows.iter().map(as_json).collect()));
        return Ok(());
    }
    for row in &rows {
        let whose = row.customer_id.map_or_else(|| "everybody".to_owned(), |id| format!("customer {id}"));
        let state = row.released_at.map_or_else(|| "stands".to_owned(), |at| format!("released {at}"));
        say(format_args!("{}  {}  from {}  {whose}  {state}", row.id, row.name, row.from_position));
    }
    Ok(())
}

fn as_json(row: &LegalHoldRow) -> Value {
    json!({
        "id": row.id, "name": row.name, "customer_id": row.customer_id, "from_position": row.from_position,
        "reason": row.reason.expose(), "placed_at": row.placed_at, "released_at": row.released_at,
        "release_reason": row.release_reason.expose(),
    })
}
