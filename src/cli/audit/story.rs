//! `daybook audit story`.

use anyhow::{Context as _, ensure};
use clap::Args;
use daybook_domain::{SupportRequestId, TenantId};
use daybook_projections::{Schema, support_overview};

use crate::{
    cli::{Runtime, say},
    story::{self, replay::Replay},
    tenancy::{Access, TenantTx},
};

#[derive(Debug, Args)]
pub struct StoryArgs {
    /// The request.
    #[arg(long, value_name = "ID")]
    support_request: SupportRequestId,
    /// Whose it is [default: the active tenant that the platform's list says].
    #[arg(long, value_name = "SLUG")]
    tenant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Tells it.
pub async fn run(runtime: &Runtime, args: &StoryArgs) -> anyhow::Result<()> {
    let id = args.support_request;
    let (tenant, slug) = match &args.tenant {
        Some(slug) => {
            let tenant = runtime.admin.find(slug).await?;
            (tenant.id, tenant.slug)
        }
        None => tenant_of(runtime, id).await?,
    };
    let replay = Replay::open(&runtime.store, &Schema::tenant(tenant), id).await?;
    let mut replay =
        replay.with_context(|| format!("there is no support request {id} in the log of {slug}"))?;
    if args.json {
        return as_json(&mut replay).await;
    }
    let request = replay.request();
    say(format_args!("Support request {id} of {slug} (tenant:{tenant})"));
    say(format_args!("asked by user:{}; {}", request.requested_by, story::state(request, replay.now())));
    say("");
    while let Some(entries) = replay.next().await? {
        entries.iter().for_each(say);
    }
    let (first, last) = replay.positions();
    say("");
    let later = match replay.later() {
        0 => String::new(),
        1 => ", and one event after them".to_owned(),
        n => format!(", and {n} events after them"),
    };
    let counts = replay.counts().sentence();
    say(format_args!("{counts}; read from positions {first} to {last} of the log{later}"));
    Ok(())
}

/// One array, an entry a line.
async fn as_json(replay: &mut Replay<'_>) -> anyhow::Result<()> {
    let mut before = "[";
    while let Some(entries) = replay.next().await? {
        for entry in entries {
            say(format_args!("{before}{}", serde_json::to_string(&entry)?));
            before = ",";
        }
    }
    // A story has at least the request itself.
    ensure!(before == ",", "the story is empty");
    say("]");
    Ok(())
}

async fn tenant_of(runtime: &Runtime, id: SupportRequestId) -> anyhow::Result<(TenantId, String)> {
    let mut tx = TenantTx::begin(runtime.store.database().app(), &Schema::platform(), Access::Read).await?;
    let found = support_overview::tenant_of(&mut tx, id.0).await?;
    tx.release();
    let (tenant, slug) = found
        .with_context(|| format!("no active tenant is known to have a support request {id}; see --tenant"))?;
    Ok((TenantId(tenant), slug))
}
