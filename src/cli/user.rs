//! `daybook user …`: accounts, as the operator.

use std::{
    fs::File,
    io::{BufRead as _, Read as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use daybook_domain::{
    DomainError, Email, Name, TenantId, UserId,
    envelope::Metadata,
    permission::Tier,
    user::{By, UserCommand as Ask, email_key},
};
use daybook_projections::{
    Schema,
    users::{self, UserFilter, UserRow},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Mode, Runtime, runtime::cli_metadata, say};
use crate::{
    auth::{
        password::{self, PasswordHasher, PasswordParams},
        password_policy,
    },
    config::Settings,
    eventstore::{Attached, Command, StoreError, StoreSettings, Unit},
    random,
    tenancy::{Access, TenantTx},
};

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account that may do everything on the platform.
    #[command(after_help = "Example: daybook user create-superuser ada@example.org --name 'Ada Lovelace'")]
    CreateSuperuser(NewArgs),
    /// Make an account of a tenant, or with a platform tier one of the platform's.
    #[command(
        after_help = "Example: daybook user create bob@example.org --tenant camp-river --role tenant_owner"
    )]
    Create {
        #[command(flatten)]
        new: NewArgs,
        /// The tenant's slug; left out for the platform's own people.
        #[arg(long)]
        tenant: Option<String>,
        /// The tier.
        #[arg(long)]
        role: String,
    },
    /// Make an account something else.
    #[command(
        after_help = "Example: daybook user set-role bob@example.org tenant_manager --tenant camp-river"
    )]
    SetRole {
        /// The e-mail address of the account.
        email: String,
        /// The tier.
        role: String,
        /// The tenant's slug; left out for the platform's own people.
        #[arg(long)]
        tenant: Option<String>,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let an account sign in no more, which ends every session of it.
    #[command(
        after_help = "Example: daybook user deactivate bob@example.org --tenant camp-river --reason 'left'"
    )]
    Deactivate(WhichArgs),
    /// Let an account sign in again.
    #[command(after_help = "Example: daybook user activate bob@example.org --tenant camp-river")]
    Activate(WhichArgs),
    /// Set a new password, which ends every session of the account.
    #[command(after_help = "Example: daybook user reset-password bob@example.org --tenant camp-river")]
    ResetPassword {
        /// The e-mail address of the account.
        email: String,
        /// The tenant's slug; left out for the platform's own people.
        #[arg(long)]
        tenant: Option<String>,
        /// Read the password from standard input, instead of making one.
        #[arg(long)]
        password_stdin: bool,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Import accounts, with the password hashes Django keeps: a JSON object a line, {"email", "name", "role", "password"}.
    ///
    /// `password` is a hash such as `pbkdf2_sha256$…` or `argon2$argon2id$…`; it is made anew when its owner first signs
    /// in. Accounts whose address is in use are passed over, so that an import can be repeated.
    #[command(after_help = "Example: daybook user import users.jsonl --tenant camp-river")]
    Import {
        /// The file.
        file: PathBuf,
        /// The tenant's slug.
        #[arg(long)]
        tenant: String,
    },
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// The e-mail address: what they sign in with.
    email: String,
    /// The name; the first part of the address if left out.
    #[arg(long)]
    name: Option<String>,
    /// Read the password from standard input, instead of making one.
    #[arg(long)]
    password_stdin: bool,
    /// Print {user_id, email, password} as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct WhichArgs {
    /// The e-mail address of the account.
    email: String,
    /// The tenant's slug; left out for the platform's own people.
    #[arg(long)]
    tenant: Option<String>,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
}

/// One account of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Imported {
    email: String,
    name: Option<String>,
    role: String,
    password: SecretString,
}

pub async fn run(settings: Settings, command: UserCommand) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Command, StoreSettings::default()).await?;
    let result = act(&runtime, command).await;
    runtime.close().await?;
    result
}

async fn act(runtime: &Runtime, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::CreateSuperuser(new) => {
            create(runtime, new, None, Tier::Superuser, "create-superuser").await
        }
        UserCommand::Create { new, tenant, role } => {
            create(runtime, new, tenant.as_deref(), tier(&role)?, "create").await
        }
        UserCommand::SetRole { email, role, tenant, reason } => {
            let schema = schema(runtime, tenant.as_deref()).await?;
            let user = find(runtime, &schema, &email).await?;
            let role = tier(&role)?;
            let mut metadata = cli_metadata("user set-role");
            metadata.reason = reason;
            let command = Ask::ChangeRole { role: role.into(), by: By::Operator };
            runtime.store.execute(&schema, Unit::of(Command::to(user.id, command), metadata)).await?;
            say(format_args!("{email}: {role}"));
            Ok(())
        }
        UserCommand::Deactivate(which) => {
            switch(runtime, which, "deactivate", Ask::Deactivate { by: By::Operator }).await
        }
        UserCommand::Activate(which) => {
            switch(runtime, which, "activate", Ask::Activate { by: By::Operator }).await
        }
        UserCommand::ResetPassword { email, tenant, password_stdin, reason } => {
            let schema = schema(runtime, tenant.as_deref()).await?;
            let user = UserId(find(runtime, &schema, &email).await?.id);
            let password = choose(password_stdin, &email)?;
            let hash = hasher(runtime)?.hash(password.clone()).await?;
            let mut metadata = cli_metadata("user reset-password");
            metadata.reason = reason;
            let unit = Unit::of(Command::to(user, Ask::SetPassword), metadata)
                .attach(Attached::Password { user, hash });
            runtime.store.execute(&schema, unit).await?;
            if password_stdin {
                say(format_args!("{email}: the password is set, every session has ended"));
            } else {
                say(format_args!("{email}  {}", password.expose_secret()));
            }
            Ok(())
        }
        UserCommand::Import { file, tenant } => import(runtime, &file, &tenant).await,
    }
}

async fn switch(runtime: &Runtime, which: WhichArgs, name: &str, ask: Ask) -> anyhow::Result<()> {
    let WhichArgs { email, tenant, reason } = which;
    let schema = schema(runtime, tenant.as_deref()).await?;
    let user = find(runtime, &schema, &email).await?;
    let metadata = Metadata { reason, ..cli_metadata(&format!("user {name}")) };
    runtime.store.execute(&schema, Unit::of(Command::to(user.id, ask), metadata)).await?;
    say(format_args!("{email}: {name}d"));
    Ok(())
}

async fn create(
    runtime: &Runtime,
    new: NewArgs,
    tenant: Option<&str>,
    tier: Tier,
    command: &str,
) -> anyhow::Result<()> {
    let schema = schema(runtime, tenant).await?;
    let password = choose(new.password_stdin, &new.email)?;
    let hash = hasher(runtime)?.hash(password.clone()).await?;
    let user = register(runtime, &schema, &new.email, new.name.as_deref(), tier, hash, command).await?;
    let shown = (!new.password_stdin).then(|| password.expose_secret().to_owned());
    if new.json {
        say(json!({ "user_id": user, "email": new.email, "role": tier.as_str(), "password": shown }));
    } else {
        say(format_args!("{}  {tier}  {user}", new.email));
        if let Some(password) = shown {
            say(format_args!("password  {password}\nThe password is shown only now."));
        }
    }
    Ok(())
}

/// Makes an account with a password's hash.
pub(super) async fn register(
    runtime: &Runtime,
    schema: &Schema,
    email: &str,
    name: Option<&str>,
    tier: Tier,
    hash: SecretString,
    command: &str,
) -> anyhow::Result<UserId> {
    let user = UserId(Uuid::now_v7());
    let local = email.split('@').next().unwrap_or(email);
    let ask = Ask::Register {
        email: Email::new(email, "/email")?,
        name: Name::new(name.unwrap_or(local), "/name")?,
        role: tier.into(),
        modules: Default::default(),
        customer_id: None,
        by: By::Operator,
    };
    let unit = Unit::of(Command::create(user, ask), cli_metadata(&format!("user {command}")))
        .attach(Attached::Password { user, hash });
    runtime.store.execute(schema, unit).await?;
    Ok(user)
}

async fn import(runtime: &Runtime, file: &std::path::Path, tenant: &str) -> anyhow::Result<()> {
    let schema = schema(runtime, Some(tenant)).await?;
    let reader =
        std::io::BufReader::new(File::open(file).with_context(|| format!("open {}", file.display()))?);
    let (mut made, mut known, mut refused) = (0_u64, 0_u64, 0_u64);
    for (at, line) in reader.lines().enumerate() {
        let line = line.context("read the file")?;
        if line.trim().is_empty() {
            continue;
        }
        // Neither the line nor the cause is shown: both may hold what is personal.
        let outcome = match serde_json::from_str::<Imported>(&line) {
            Err(_) => Err("not an account of the documented form"),
            Ok(account) => one(runtime, &schema, account).await?,
        };
        match outcome {
            Ok(true) => made += 1,
            Ok(false) => known += 1,
            Err(why) => {
                refused += 1;
                say(format_args!("line {}: {why}", at + 1));
            }
        }
    }
    say(format_args!("{made} accounts imported, {known} known already, {refused} refused"));
    if refused > 0 {
        bail!("{refused} lines were refused");
    }
    Ok(())
}

/// Imports one account; whether it is new, or why it is not taken.
async fn one(
    runtime: &Runtime,
    schema: &Schema,
    account: Imported,
) -> anyhow::Result<Result<bool, &'static str>> {
    let Some(tier) = Tier::parse(&account.role).filter(|tier| !tier.is_platform() && *tier != Tier::Customer)
    else {
        return Ok(Err("no role of staff, manager or owner"));
    };
    if !password::is_supported(account.password.expose_secret()) {
        return Ok(Err("a password hash that cannot be compared with"));
    }
    if lookup(runtime, schema, &account.email).await?.is_some() {
        return Ok(Ok(false));
    }
    let name = account.name.as_deref();
    match register(runtime, schema, &account.email, name, tier, account.password, "import").await {
        Ok(_) => Ok(Ok(true)),
        // The database being away is no fault of the line.
        Err(error)
            if error.is::<DomainError>()
                || matches!(error.downcast_ref(), Some(StoreError::Refused { .. })) =>
        {
            Ok(Err("not an e-mail address, or not a name"))
        }
        Err(error) => Err(error),
    }
}

fn tier(name: &str) -> anyhow::Result<Tier> {
    let all = || Tier::ALL.iter().map(|tier| tier.as_str()).collect::<Vec<_>>().join(", ");
    Tier::parse(name).with_context(|| format!("no such role; there are {}", all()))
}

async fn schema(runtime: &Runtime, tenant: Option<&str>) -> anyhow::Result<Schema> {
    let id: Option<TenantId> = match tenant {
        Some(slug) => Some(runtime.admin.find(slug).await?.id),
        None => None,
    };
    Ok(id.map_or_else(Schema::platform, Schema::tenant))
}

pub(super) async fn lookup(
    runtime: &Runtime,
    schema: &Schema,
    email: &str,
) -> anyhow::Result<Option<UserRow>> {
    let filter = UserFilter { email_key: Some(email_key(email)), ..UserFilter::default() };
    let mut tx = TenantTx::begin(runtime.store.database().app(), schema, Access::Read).await?;
    let found = users::list(&mut tx, &filter, None, 1).await?.pop();
    tx.release();
    Ok(found)
}

async fn find(runtime: &Runtime, schema: &Schema, email: &str) -> anyhow::Result<UserRow> {
    lookup(runtime, schema, email).await?.with_context(|| format!("no account {email}"))
}

pub(super) fn hasher(runtime: &Runtime) -> anyhow::Result<PasswordHasher> {
    let settings = &runtime.settings;
    Ok(PasswordHasher::new(PasswordParams {
        memory_kib: settings.argon2_memory_kib,
        iterations: settings.argon2_iterations,
        parallel: settings.argon2_parallel,
    })?)
}

/// The password that is read, or a new one: 119 random bits.
fn choose(from_stdin: bool, email: &str) -> anyhow::Result<SecretString> {
    if !from_stdin {
        let random = random::token("")?;
        return Ok(SecretString::from(&random.expose_secret()[..20]));
    }
    let mut text = String::new();
    std::io::stdin().lock().take(1_024).read_to_string(&mut text).context("read the password")?;
    let password = SecretString::from(text.trim_end_matches(['\n', '\r']));
    password_policy::check(password.expose_secret(), &[email], "password")?;
    Ok(password)
}
