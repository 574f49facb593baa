//! `daybook import bookings`: a history of bookings, replayed through the same aggregates as any other command.
//!
//! [`source`] reads the file, [`hotel_demand`] its rows, [`plan`] puts their steps in order, [`pools`] sizes the pools,
//! [`identity`] makes the ids, [`commands`] the units; all of that is pure but for reading the file. [`run`] submits the
//! units in order and tallies the answers; [`resume`] looks up what an interrupted run had been answered; [`report`]
//! lists the refusals. [`args`] is the command line.
//!
//! Decisions the format leaves open:
//! - Rows without nights or guests are refused here, with the code `invalid`; they describe no stay a command could
//!   ask for. Everything else is decided by the aggregates.
//! - A price cannot be negative: a row with a negative rate is booked for nothing, and is a warning of the summary.
//! - The rows hold no persons: guests of one hotel, customer type and country share one synthetic customer.
//! - Whether a deposit is kept is the offering's policy: a pool has one offering that cancels for free and, where the
//!   file has such rows, one that keeps the whole price.
//! - A step happened on its day, at midnight of the hotels' zone plus as many milliseconds as it has in order: times
//!   then tell the order within the day, and no more is claimed to be known.
//!
//! An import is identified by the file's content, the log and the options that decide what becomes of a row. Run again
//! it finds each answer under its idempotency key, refusals too, and goes on where it was. When those keys have
//! expired it refuses to run rather than decide a second time.

pub mod args;
pub mod commands;
pub mod hotel_demand;
pub mod identity;
pub mod plan;
pub mod pools;
pub mod report;
pub mod resume;
pub mod run;
pub mod source;
mod tally;
#[cfg(test)]
mod testing;

use std::{io, path::PathBuf};

pub use args::{ImportArgs, execute};
pub use pools::PoolSizing;
pub use report::{ImportSummary, Refusal};
pub use run::{run, store_settings};

use crate::eventstore::StoreError;

/// What to import, and how.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The file, plain or gzip.
    pub file: PathBuf,
    /// How large the pools are.
    pub pools: PoolSizing,
    /// Where the report goes; see [`report::default_path`].
    pub report: Option<PathBuf>,
    /// Reads the first rows only.
    pub limit: Option<usize>,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps answered, of this run and of interrupted ones.
    pub done: u64,
    /// All steps of the plan.
    pub total: u64,
    /// Rows taken so far.
    pub accepted: u64,
    /// Rows refused so far.
    pub refused: u64,
}

/// Why an import stopped. What it had done stays done; the same command resumes it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not of its format; nothing was written.
    #[error("{} is not of the format hotel-demand", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it is not.
        #[source]
        source: hotel_demand::ParseError,
    },
    /// A pool, an offering or a customer could not be made.
    #[error("make {what}")]
    Setup {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A step got no answer: the database is away, or the process is shutting down.
    #[error("line {line}: {step}")]
    Step {
        /// The line of the row.
        line: u64,
        /// What was to be done.
        step: &'static str,
        /// Why it was not.
        #[source]
        source: StoreError,
    },
    /// What earlier runs were answered cannot be read.
    #[error("look up what an earlier run has done")]
    Resume(#[source] StoreError),
    /// The import was begun so long ago that its answers are gone, so that it cannot tell what it had refused.
    #[error("this import was begun before and what it was answered has expired; it is not run a second time")]
    Expired,
    /// The report cannot be written; everything else was done.
    #[error("write the report to {}", path.display())]
    Report {
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The process is shutting down.
    #[error("reading the file was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}
