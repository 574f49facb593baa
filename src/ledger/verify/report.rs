//! What a check came to, for people and for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::findings::Finding;
use crate::ledger::Cause;

/// What a check of a log found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which log.
    pub log: String,
    /// What its checkpoints name it.
    pub origin: Option<String>,
    /// Where it ends.
    pub position: u64,
    /// Up to there it was pruned.
    pub pruned_through: u64,
    /// So many events were looked at.
    pub events: u64,
    /// So many leaves are in the tree.
    pub size: u64,
    /// So many are under the last checkpoint.
    pub signed: u64,
    /// So many checkpoints were looked at.
    pub checkpoints: u64,
    /// So many snapshots were compared with a fold.
    pub snapshots: u64,
    /// How much of what was found, by cause.
    pub counts: BTreeMap<&'static str, u64>,
    /// What was found; of each cause the first few.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Report {
    /// Whether everything was checked, and all is as it was written.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.findings.is_empty() && self.unchecked.is_empty()
    }

    /// Whether this was found.
    #[must_use]
    pub fn has(&self, cause: Cause) -> bool {
        self.findings.iter().any(|finding| finding.cause == cause)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.findings.is_empty(), self.unchecked.is_empty()) {
            (true, true) => "verified",
            (true, false) => "NOT CHECKED TO THE END",
            (false, _) => "FAILED",
        };
        write!(f, "{:<24} {verdict}  ", self.log)?;
        write!(
            f,
            "{} events up to position {}, {} of them signed, {} checkpoints, {} snapshots, in {:.1} s",
            self.events, self.position, self.signed, self.checkpoints, self.snapshots, self.seconds
        )?;
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        for (cause, count) in &self.counts {
            let listed = self.findings.iter().filter(|it| it.cause.as_str() == *cause).count() as u64;
            if *count > listed {
                write!(f, "\n  {cause}: {} more", count - listed)?;
            }
        }
        for unchecked in &self.unchecked {
            write!(f, "\n  not checked: {unchecked}")?;
        }
        Ok(())
    }
}
