//! `daybook tenant …`.

use clap::{Args, Subcommand};
use daybook_domain::{ApiKeyId, Currency, Slug, local_time::parse_zone, tenant::TenantCommand as Ask};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{Mode, Runtime, runtime::cli_metadata, say};
use crate::{
    config::Settings,
    eventstore::StoreSettings,
    tenancy::{TenantInfo, admin::NewTenant},
};

#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant and print an API key of its owner's, once.
    #[command(
        after_help = "Example: daybook tenant create camp-river --name 'Camping River' --plan professional"
    )]
    Create(CreateArgs),
    /// List every tenant.
    #[command(after_help = "Example: daybook tenant list --json")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one tenant.
    #[command(after_help = "Example: daybook tenant show camp-river")]
    Show {
        /// The tenant's slug.
        slug: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a tenant be used again.
    #[command(after_help = "Example: daybook tenant activate camp-river --reason 'Invoice paid'")]
    Activate(ReasonArgs),
    /// Stop every use of a tenant, within a second, on every node.
    #[command(after_help = "Example: daybook tenant deactivate camp-river --reason 'Contract ended'")]
    Deactivate(ReasonArgs),
    /// Move a tenant to another plan.
    #[command(after_help = "Example: daybook tenant plan camp-river business")]
    Plan {
        /// The tenant's slug.
        slug: String,
        /// The plan (free, starter, professional, business).
        plan: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Issue a further API key that may do what an owner may, and print it, once.
    #[command(after_help = "Example: daybook tenant issue-key camp-river --label 'booking site'")]
    IssueKey {
        /// The tenant's slug.
        slug: String,
        /// What it is for.
        #[arg(long, default_value = "operator")]
        label: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API key; within a second no node accepts it.
    #[command(after_help = "Example: daybook tenant revoke-key camp-river 01980c1e-…")]
    RevokeKey {
        /// The tenant's slug.
        slug: String,
        /// The key's id, as printed when it was issued.
        key_id: ApiKeyId,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The slug: lower-case letters, digits and hyphens, beginning with a letter.
    slug: String,
    /// The tenant's name.
    #[arg(long)]
    name: String,
    /// The plan (free, starter, professional, business).
    #[arg(long, default_value = "free")]
    plan: String,
    /// The IANA time zone.
    #[arg(long, default_value = "Europe/Brussels")]
    time_zone: String,
    /// The ISO 4217 currency.
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// Print {tenant_id, slug, token, token_id} as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ReasonArgs {
    /// The tenant's slug.
    slug: String,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
}

pub async fn run(settings: Settings, command: TenantCommand) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = act(&runtime, command).await;
    runtime.close().await?;
    result
}

async fn act(runtime: &Runtime, command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::Create(args) => create(runtime, args).await,
        TenantCommand::List { json } => {
            let tenants = runtime.directory.list().await?;
            if json {
                say(serde_json::Value::Array(tenants.iter().map(as_json).collect()));
            } else {
                tenants.iter().for_each(print);
            }
            Ok(())
        }
        TenantCommand::Show { slug, json } => {
            let tenant = runtime.admin.find(&slug).await?;
            if json {
                say(as_json(&tenant))
            } else {
                print(&tenant)
            }
            Ok(())
        }
        TenantCommand::Activate(args) => {
            ask(runtime, &args.slug, Ask::Activate, args.reason, "activate").await
        }
        TenantCommand::Deactivate(args) => {
            ask(runtime, &args.slug, Ask::Deactivate, args.reason, "deactivate").await
        }
        TenantCommand::Plan { slug, plan, reason } => {
            ask(runtime, &slug, Ask::ChangePlan { plan }, reason, "plan").await
        }
        TenantCommand::IssueKey { slug, label, json } => {
            let tenant = runtime.admin.find(&slug).await?;
            let issued =
                runtime.admin.issue_key(tenant.id, &label, &cli_metadata("tenant issue-key")).await?;
            let token = issued.key.expose_secret();
            if json {
                say(json!({ "slug": slug, "token_id": issued.id, "token": token }));
            } else {
                say(format_args!("token  {token}\nid     {}", issued.id));
            }
            Ok(())
        }
        TenantCommand::RevokeKey { slug, key_id, reason } => {
            let tenant = runtime.admin.find(&slug).await?;
            let mut metadata = cli_metadata("tenant revoke-key");
            metadata.reason = reason;
            runtime.admin.revoke_key(tenant.id, key_id, &metadata).await?;
            say(format_args!("revoked {key_id}"));
            Ok(())
        }
    }
}

async fn create(runtime: &Runtime, args: CreateArgs) -> anyhow::Result<()> {
    let new = NewTenant {
        slug: Slug::new(&args.slug, "/slug")?,
        name: args.name,
        plan: args.plan,
        temporary: false,
        time_zone: parse_zone(&args.time_zone, "/time_zone")?,
        currency: Currency::new(&args.currency)?,
    };
    let metadata = cli_metadata("tenant create");
    let id = runtime.admin.create(new, &metadata).await?;
    let issued = runtime.admin.issue_key(id, "operator", &metadata).await?;
    let token = issued.key.expose_secret();
    if args.json {
        say(json!({ "tenant_id": id, "slug": args.slug, "token": token, "token_id": issued.id }));
    } else {
        say(format_args!("tenant {}  {id}\ntoken  {token}\nThe token is shown only now.", args.slug));
    }
    Ok(())
}

async fn ask(
    runtime: &Runtime,
    slug: &str,
    command: Ask,
    reason: Option<String>,
    name: &str,
) -> anyhow::Result<()> {
    let tenant = runtime.admin.find(slug).await?;
    let mut metadata = cli_metadata(&format!("tenant {name}"));
    metadata.reason = reason;
    let state = runtime.admin.command(tenant.id, command, &metadata).await?;
    let active = if state.active { "active" } else { "inactive" };
    say(format_args!("{slug}: {active}, plan {}", state.plan));
    Ok(())
}

fn as_json(tenant: &TenantInfo) -> serde_json::Value {
    json!({
        "tenant_id": tenant.id, "slug": tenant.slug, "name": tenant.name, "plan": tenant.plan,
        "active": tenant.active, "temporary": tenant.temporary, "time_zone": tenant.time_zone,
        "currency": tenant.currency, "region": tenant.region, "created_at": tenant.created_at,
    })
}

fn print(tenant: &TenantInfo) {
    let active = if tenant.active { "active" } else { "inactive" };
    say(format_args!("{:<32} {:<9} {:<13} {}  {}", tenant.slug, active, tenant.plan, tenant.id, tenant.name));
}
