//! The command line of `daybook import bookings`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use daybook_projections::Schema;
use indicatif::{ProgressBar, ProgressStyle};

use super::{ImportError, ImportOptions, ImportSummary, PoolSizing, Progress, run};
use crate::eventstore::EventStore;

const EXAMPLE: &str = "\
Example:
  daybook import bookings hotel_bookings.csv.gz --tenant sample --pool-size honoured

A killed import goes on where it was when the same command is run again, within the time idempotency keys are kept.";

/// Imports a history of bookings: every row through the same rules as any other booking.
///
/// Rows are replayed day by day, each event with the time it happened beside the time it is recorded. What is refused
/// goes to a report (line, code, reason).
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct ImportArgs {
    /// The file, plain or gzip.
    pub file: PathBuf,
    /// The slug of the tenant it is imported into.
    #[arg(long, value_name = "SLUG")]
    pub tenant: String,
    /// What the file's columns mean.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// The size of every pool of rooms: a number; `honoured`, the most stays that were checked out and shared a
    /// night (overbookings are refused); or `live`, the most bookings that were alive and shared a night (nothing is
    /// refused for space).
    #[arg(long, value_name = "N|honoured|live", default_value = "live", value_parser = parse_pool_size)]
    pub pool_size: PoolSizing,
    /// Where the refusals are listed [default: <FILE's stem>.refusals.csv in the current directory].
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Imports the first rows only.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// The formats of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The columns of "Hotel booking demand datasets" (doi 10.1016/j.dib.2018.11.126).
    #[default]
    HotelDemand,
}

impl ImportArgs {
    /// What they ask for, the tenant apart.
    pub fn options(&self) -> ImportOptions {
        let Format::HotelDemand = self.format;
        ImportOptions {
            file: self.file.clone(),
            pools: self.pool_size,
            report: self.report.clone(),
            limit: self.limit,
        }
    }
}

fn parse_pool_size(text: &str) -> Result<PoolSizing, &'static str> {
    match text {
        "honoured" => Ok(PoolSizing::Honoured),
        "live" => Ok(PoolSizing::Live),
        number => number
            .parse()
            .map(PoolSizing::Fixed)
            .map_err(|_| "expected a number above 0, `honoured` or `live`"),
    }
}

/// Runs an import with a progress bar on standard error, and prints the summary: a line, or JSON.
///
/// # Errors
/// See [`run`]. A row that is refused is no error.
pub async fn execute(
    args: &ImportArgs,
    store: &EventStore,
    schema: &Schema,
    json: bool,
) -> Result<ImportSummary, ImportError> {
    let bar = progress_bar();
    let summary = run(store, schema, args.options(), |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    let summary = summary?;
    for warning in &summary.warnings {
        note(&format!("line {}: {} ({})", warning.line, warning.reason, warning.code));
    }
    if json {
        print(&serde_json::to_string(&summary).unwrap_or_default());
    } else {
        print(&spoken(&summary));
    }
    Ok(summary)
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    let template = "{elapsed_precise} {wide_bar} {percent}%  {per_sec}  {msg}  {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    bar.set_message(format!("{} taken, {} refused", progress.accepted, progress.refused));
}

fn spoken(summary: &ImportSummary) -> String {
    let ImportSummary { rows, accepted, invalid, slot_taken, refused_other, events, seconds, .. } = summary;
    let mut text = format!(
        "{rows} rows: {accepted} accepted, {invalid} invalid, {slot_taken} refused for space, {refused_other} refused \
         otherwise\n{events} events in {seconds:.1} s, {:.0} rows/s",
        summary.rows_per_second
    );
    if summary.steps_refused > 0 {
        text.push_str(&format!("\n{} status changes of accepted rows refused", summary.steps_refused));
    }
    if summary.resumed > 0 {
        text.push_str(&format!("\n{} commands had been decided by an earlier run", summary.resumed));
    }
    text.push_str(&format!("\nreport: {}", summary.report.display()));
    text
}

fn print(text: &str) {
    // A reader that closed the pipe has seen what it wanted.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use std::num::NonZeroU32;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        import: ImportArgs,
    }

    fn parse(args: &[&str]) -> Result<ImportOptions, clap::Error> {
        Cli::try_parse_from([&["import", "x.csv", "--tenant", "sample"], args].concat())
            .map(|cli| cli.import.options())
    }

    #[test]
    fn the_sizes_of_the_pools_are_given_or_named() {
        Cli::command().debug_assert();
        assert_eq!(parse(&[]).unwrap().pools, PoolSizing::Live);
        assert_eq!(parse(&["--pool-size", "honoured"]).unwrap().pools, PoolSizing::Honoured);
        let three = PoolSizing::Fixed(NonZeroU32::new(3).unwrap());
        assert_eq!(parse(&["--pool-size", "3"]).unwrap().pools, three);
        for wrong in [&["--pool-size", "0"][..], &["--pool-size", "sixty"], &["--format", "xml"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_rest_is_passed_on() {
        let options = parse(&["--limit", "5", "--report", "r.csv", "--format", "hotel-demand"]).unwrap();
        assert_eq!((options.limit, options.report), (Some(5), Some("r.csv".into())));
    }
}
