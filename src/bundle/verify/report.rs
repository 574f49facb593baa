//! What a verification found.

use std::fmt;

use serde::Serialize;

use crate::ledger::cause::Cause;

/// The most findings that are kept; all are counted.
const KEPT: usize = 100;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub cause: Cause,
    /// At which position of the log, where it is about one.
    pub position: Option<u64>,
    /// In which file.
    pub file: Option<String>,
    /// In words.
    pub detail: String,
}

impl Finding {
    /// One about the whole.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, position: None, file: None, detail: detail.into() }
    }

    /// At a position.
    #[must_use]
    pub fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    /// In a file.
    #[must_use]
    pub fn of(mut self, file: impl fmt::Display) -> Self {
        self.file = Some(file.to_string());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(position) = self.position {
            write!(f, " at position {position}")?;
        }
        if let Some(file) = &self.file {
            write!(f, " in {file}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut finding = serializer.serialize_struct("Finding", 4)?;
        finding.serialize_field("cause", self.cause.as_str())?;
        finding.serialize_field("position", &self.position)?;
        finding.serialize_field("file", &self.file)?;
        finding.serialize_field("detail", &self.detail)?;
        finding.end()
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of it is as it must be.
    Verified,
    /// Something is not.
    Failed,
    /// It is not all there.
    Incomplete,
}

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whose log.
    pub origin: Option<String>,
    /// The first position.
    pub from: u64,
    /// The last position.
    pub to: u64,
    /// How many events there are under the checkpoint.
    pub size: u64,
    /// The root over them, in hex.
    pub root: Option<String>,
    /// When the checkpoint was signed.
    pub signed_at: Option<String>,
    /// Who took the bundle, as events name them.
    pub exported_by: Option<String>,
    /// The time of the last entry of the log of heads that names this log.
    pub head_log_at: Option<String>,
    /// How many events were checked.
    pub events: u64,
    /// How many personal values are as their leaves commit to them.
    pub disclosed: u64,
    /// How many personal values are not shown.
    pub withheld: u64,
    /// How many records of what was pruned or erased.
    pub records: u64,
    /// What is not as it must be; the first so many.
    pub findings: Vec<Finding>,
    /// How many of them there are.
    pub found: u64,
    /// What is not there.
    pub missing: Vec<String>,
    /// What whoever reads this should know.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds a finding.
    pub fn find(&mut self, finding: Finding) {
        self.found += 1;
        // One kind must not hide another.
        let new = !self.findings.iter().any(|known| known.cause == finding.cause);
        if self.findings.len() < KEPT || new {
            self.findings.push(finding);
        }
    }

    /// How it went.
    pub fn outcome(&self) -> Outcome {
        if self.found > 0 {
            Outcome::Failed
        } else if !self.missing.is_empty() {
            Outcome::Incomplete
        } else {
            Outcome::Verified
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let more = self.found.saturating_sub(self.findings.len() as u64);
        if more > 0 {
            writeln!(f, "and {more} more")?;
        }
        for missing in &self.missing {
            writeln!(f, "missing: {missing}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        match self.outcome() {
            Outcome::Failed => write!(f, "FAILED"),
            Outcome::Incomplete => write!(f, "INCOMPLETE"),
            Outcome::Verified => {
                let Self { from, to, size, events, disclosed, withheld, records, .. } = self;
                let origin = self.origin.as_deref().unwrap_or_default();
                let (root, at) =
                    (self.root.as_deref().unwrap_or_default(), self.signed_at.as_deref().unwrap_or_default());
                writeln!(f, "{events} events, positions {from} to {to} of {origin}")?;
                writeln!(f, "under the checkpoint of {at}: {size} events, root {root}")?;
                if let Some(at) = &self.head_log_at {
                    writeln!(f, "named in the log of heads at {at}")?;
                }
                writeln!(
                    f,
                    "{disclosed} personal values disclosed, {withheld} not; {records} records of pruning and erasure"
                )?;
                write!(f, "VERIFIED")
            }
        }
    }
}
