//! `daybook audit verify BUNDLE`: without settings, a database, keys or a network.

use std::{io::Write as _, path::Path, process::ExitCode, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    bundle::verify::{self, Ask, Outcome},
    cli::say,
    ledger::tree::Hash,
};

/// Exit code of a call that makes no sense.
const USAGE: u8 = 2;
/// Exit code of a bundle that is not all there.
const INCOMPLETE: u8 = 3;

/// Checks a bundle, a file or the folder it was unpacked to. Without a key nothing can be checked: who makes a bundle can
/// make keys.
pub fn run(bundle: &Path, keys: &[String], receipts: &[(u64, Hash)], as_json: bool) -> ExitCode {
    let complain = |what: &str| {
        let _ = writeln!(std::io::stderr(), "daybook: {what}");
        ExitCode::from(USAGE)
    };
    if keys.is_empty() {
        return complain("a bundle is checked with a verifier key of its log: --key VKEY");
    }
    let bar = bar(bundle);
    let begun = Instant::now();
    let ask = Ask { keys: keys.to_vec(), receipts: receipts.to_vec() };
    let result = verify::verify(bundle, &ask, |read| bar.set_position(read));
    bar.finish_and_clear();
    let report = match result {
        Ok(report) => report,
        Err(error) => return complain(&format!("read {}: {error}", bundle.display())),
    };
    let outcome = report.outcome();
    if as_json {
        let seconds = begun.elapsed().as_secs_f64();
        say(json!({ "outcome": outcome, "seconds": seconds, "report": report }));
    } else {
        say(&report);
    }
    match outcome {
        Outcome::Verified => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::FAILURE,
        Outcome::Incomplete => ExitCode::from(INCOMPLETE),
    }
}

fn bar(bundle: &Path) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style);
    bar.set_message(bundle.file_name().unwrap_or_default().to_string_lossy().into_owned());
    bar
}
