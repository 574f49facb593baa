//! `daybook projections …`.

use clap::{Args, Subcommand};
use daybook_projections::{ALL, Schema, parked};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Mode, Runtime, say};
use crate::{
    config::Settings,
    eventstore::StoreSettings,
    tenancy::{Access, TenantInfo, TenantTx},
    workers::projector,
};

/// Parked events shown of one tenant.
const MAX_PARKED: i64 = 1_000;

#[derive(Debug, Subcommand)]
pub enum ProjectionsCommand {
    /// Show where each projection is, and how far behind.
    #[command(after_help = "Example: daybook projections status --tenant camp-river")]
    Status(Scope),
    /// Replay the log into fresh tables beside the live ones, then switch.
    #[command(after_help = "Example: daybook projections rebuild --tenant camp-river --name calendar")]
    Rebuild {
        /// One projection [default: each].
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Replay the log into a scratch schema and compare every read model and guard with it.
    #[command(
        after_help = "Example: daybook projections verify --tenant camp-river; exit code 1 when a row differs"
    )]
    Verify(Scope),
    /// List events that could not be folded, and their successors.
    #[command(after_help = "Example: daybook projections parked --json")]
    Parked(Scope),
    /// Fold parked events again.
    #[command(after_help = "Example: daybook projections retry --tenant camp-river --name calendar")]
    Retry {
        /// One projection [default: each].
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        scope: Scope,
    },
}

#[derive(Debug, Args)]
pub struct Scope {
    /// One tenant [default: each].
    #[arg(long, value_name = "SLUG")]
    tenant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(settings: Settings, command: ProjectionsCommand) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = act(&runtime, command).await;
    runtime.close().await?;
    result
}

async fn act(runtime: &Runtime, command: ProjectionsCommand) -> anyhow::Result<()> {
    match command {
        ProjectionsCommand::Status(scope) => status(runtime, &scope).await,
        ProjectionsCommand::Rebuild { name, scope } => rebuild(runtime, name.as_deref(), &scope).await,
        ProjectionsCommand::Verify(scope) => verify(runtime, &scope).await,
        ProjectionsCommand::Parked(scope) => list_parked(runtime, &scope).await,
        ProjectionsCommand::Retry { name, scope } => retry(runtime, name.as_deref(), &scope).await,
    }
}

async fn tenants(runtime: &Runtime, scope: &Scope) -> anyhow::Result<Vec<TenantInfo>> {
    Ok(match &scope.tenant {
        Some(slug) => vec![runtime.admin.find(slug).await?],
        None => runtime.directory.list().await?,
    })
}

async fn status(runtime: &Runtime, scope: &Scope) -> anyhow::Result<()> {
    for tenant in tenants(runtime, scope).await? {
        for it in projector::status(&runtime.store, &Schema::tenant(tenant.id)).await? {
            if scope.json {
                say(json!({ "tenant": tenant.slug, "projection": it }));
                continue;
            }
            say(format_args!(
                "{:<24} {:<16} v{} {:>10}/{:<10} lag {:>6} events {:>8.1} s  {} parked {}{}",
                tenant.slug,
                it.name,
                it.version,
                it.position,
                it.head,
                it.lag_events,
                it.lag_seconds,
                it.status,
                it.parked,
                it.error.map(|error| format!("  {error}")).unwrap_or_default()
            ));
        }
    }
    Ok(())
}

async fn rebuild(runtime: &Runtime, name: Option<&str>, scope: &Scope) -> anyhow::Result<()> {
    for tenant in tenants(runtime, scope).await? {
        let schema = Schema::tenant(tenant.id);
        for name in names(name) {
            let bar = bar(&format!("{} {name}", tenant.slug));
            let report =
                projector::rebuild(&runtime.store, &schema, name, |done, all| show(&bar, done, all)).await;
            bar.finish_and_clear();
            let report = report?;
            if scope.json {
                say(json!({ "tenant": tenant.slug, "projection": name, "report": report }));
            } else {
                say(format_args!(
                    "{} {name}: {} events replayed, at position {}, {} parked",
                    tenant.slug, report.events, report.position, report.parked
                ));
            }
        }
    }
    Ok(())
}

async fn verify(runtime: &Runtime, scope: &Scope) -> anyhow::Result<()> {
    let mut differing = Vec::new();
    for tenant in tenants(runtime, scope).await? {
        let bar = bar(&tenant.slug);
        let report =
            projector::verify(&runtime.store, &Schema::tenant(tenant.id), |done, all| show(&bar, done, all))
                .await;
        bar.finish_and_clear();
        let report = report?;
        if !report.is_equal() {
            differing.push(tenant.slug.clone());
        }
        if scope.json {
            say(json!({ "tenant": tenant.slug, "equal": report.is_equal(), "report": report }));
            continue;
        }
        say(format_args!("{} at position {}", tenant.slug, report.position));
        for table in &report.tables {
            let verdict = if table.differing == 0 { "equal" } else { "DIFFERS" };
            say(format_args!(
                "  {:<24} {:>9} rows {:>9} replayed {:>6} differing  {verdict}",
                table.table, table.rows, table.replayed, table.differing
            ));
            for key in &table.differing_keys {
                say(format_args!("    {key}"));
            }
        }
        for name in &report.outdated {
            say(format_args!("  {name}: of another version, not compared; rebuild it"));
        }
    }
    anyhow::ensure!(differing.is_empty(), "read models differ from their replay: {}", differing.join(", "));
    Ok(())
}

async fn list_parked(runtime: &Runtime, scope: &Scope) -> anyhow::Result<()> {
    for tenant in tenants(runtime, scope).await? {
        let schema = Schema::tenant(tenant.id);
        let mut tx = TenantTx::begin(runtime.store.database().app(), &schema, Access::Read).await?;
        let rows = parked::list(&mut tx, MAX_PARKED).await?;
        tx.commit().await?;
        for row in rows {
            if scope.json {
                say(json!({ "tenant": tenant.slug, "event": row }));
            } else {
                say(format_args!(
                    "{:<24} {:<16} position {:>10} of {}  {} attempts  {}",
                    tenant.slug, row.projection, row.position, row.key, row.attempts, row.error
                ));
            }
        }
    }
    Ok(())
}

async fn retry(runtime: &Runtime, name: Option<&str>, scope: &Scope) -> anyhow::Result<()> {
    for tenant in tenants(runtime, scope).await? {
        for name in names(name) {
            let report = projector::retry(&runtime.store, &Schema::tenant(tenant.id), name, None).await?;
            if scope.json {
                say(json!({ "tenant": tenant.slug, "projection": name, "report": report }));
            } else {
                say(format_args!(
                    "{} {name}: {} folded, {} still parked",
                    tenant.slug, report.applied, report.parked
                ));
            }
        }
    }
    Ok(())
}

fn names(one: Option<&str>) -> Vec<&str> {
    one.map_or_else(|| ALL.iter().map(|projection| projection.name()).collect(), |name| vec![name])
}

fn bar(label: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} events {per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_prefix(label.to_owned())
}

fn show(bar: &ProgressBar, done: i64, all: i64) {
    bar.set_length(u64::try_from(all).unwrap_or(0));
    bar.set_position(u64::try_from(done).unwrap_or(0));
}
