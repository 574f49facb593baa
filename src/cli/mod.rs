//! The command line: what can be asked, and what every command needs first.

mod audit;
mod demo;
mod import;
mod keys;
mod migrate;
mod projections;
mod runtime;
mod serve;
mod tenant;
mod user;

use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{Settings, SettingsPatch};

pub use runtime::{Mode, Runtime};

/// A multi-tenant booking backend whose event log is the audit trail.
#[derive(Debug, Parser)]
#[command(name = "daybook", version, arg_required_else_help = true)]
struct Cli {
    /// Where the private PostgreSQL, the keys file and the rest of the state live [default: ./data].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration file [default: ./daybook.toml, if there].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP API; starts a private PostgreSQL unless DATABASE_URL is set.
    #[command(after_help = "Example: daybook serve --listen 127.0.0.1:8080 --data-dir ./data")]
    Serve {
        /// The address to listen on [default: 127.0.0.1:8080].
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
    /// Serve with a sample tenant and two demo tenants, and print their tokens.
    #[command(after_help = "Example: daybook demo")]
    Demo(demo::DemoArgs),
    /// Bring the platform's schema and every tenant's up to date.
    #[command(after_help = "Example: daybook migrate --status")]
    Migrate(migrate::MigrateArgs),
    /// Create, list and switch tenants, issue and revoke their tokens.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Make accounts, change what they are, set and import passwords.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make, rotate and show the keys that the database is sealed with.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Import bookings from a file, every row through the aggregates.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Look after the read models.
    #[command(subcommand)]
    Projections(projections::ProjectionsCommand),
    /// Look into the log as an auditor.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// The allocator asks for huge pages wherever the kernel leaves it to programs. Of one that is used anywhere two megabytes are
/// taken: a fifth to a quarter more than without them, idle and under load, for nothing that could be measured. The
/// PostgreSQL that is started from here keeps to small pages as well; its own choice of huge ones (`huge_pages`) is another kind.
fn keep_to_small_pages() {
    #[cfg(target_os = "linux")]
    // Where it is refused, there is only more memory taken.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Parses the arguments of the process and runs the command: exit 0 ok, 1 failed, 2 usage; `audit verify` knows a 3.
pub async fn main() -> ExitCode {
    keep_to_small_pages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Command::Audit(command) = &cli.command
        && let Some(code) = command.offline()
    {
        return code;
    }
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            // People read this one; the chain of causes is theirs to see, unlike a client's.
            let _ = writeln!(std::io::stderr(), "daybook: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let listen = match &cli.command {
        Command::Serve { listen } => *listen,
        Command::Demo(args) => args.listen,
        _ => None,
    };
    let flags = SettingsPatch { data_dir: cli.data_dir, listen, ..SettingsPatch::default() };
    let settings = Settings::load(cli.config.as_deref(), flags)?;
    let quiet = !matches!(cli.command, Command::Serve { .. } | Command::Demo(_));
    crate::telemetry::init(settings.log_format, quiet);
    match cli.command {
        Command::Serve { .. } => serve::run(settings).await,
        Command::Demo(args) => demo::run(settings, args).await,
        Command::Migrate(args) => migrate::run(settings, args).await,
        Command::Tenant(command) => tenant::run(settings, command).await,
        Command::User(command) => user::run(settings, command).await,
        Command::Keys(command) => keys::run(settings, command).await,
        Command::Import(command) => import::run(settings, command).await,
        Command::Projections(command) => projections::run(settings, command).await,
        // What verification finds is how the process ends.
        Command::Audit(command) => return audit::run(settings, command).await,
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Prints a line for people or programs; a closed pipe is not an error.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
