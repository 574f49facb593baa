//! Logs: structured, to standard error, one line per failure.

use std::io;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// Starts logging. `DAYBOOK_LOG` filters (`daybook=debug`); CLI commands only log warnings by default.
pub fn init(format: LogFormat, quiet: bool) {
    let default = if quiet { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("DAYBOOK_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{default},sqlx=warn")));
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    // A second initialisation (tests) keeps the first.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
