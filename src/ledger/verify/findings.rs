//! What was found: how much of each kind, and the first few of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::ledger::Cause;

/// Findings of one cause that are listed; all are counted.
const LISTED: usize = 20;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What is wrong.
    pub cause: Cause,
    /// At which position of the log, where it is about one.
    pub position: Option<u64>,
    /// How it shows: ids and numbers, nothing personal.
    pub detail: String,
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut it = serializer.serialize_struct("Finding", 3)?;
        it.serialize_field("cause", self.cause.as_str())?;
        it.serialize_field("position", &self.position)?;
        it.serialize_field("detail", &self.detail)?;
        it.end()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} at position {position}: {}", self.cause, self.detail),
            None => write!(f, "{}: {}", self.cause, self.detail),
        }
    }
}

#[derive(Debug, Default)]
struct OfCause {
    count: u64,
    /// Those of the lowest positions, whoever found what first.
    listed: BTreeSet<(Option<u64>, String)>,
}

/// Where those who look put what they find. Of one kind so much may be found that it is not all kept; that never hides
/// another kind.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<BTreeMap<Cause, OfCause>>);

impl Findings {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Cause, OfCause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a finding about the log as a whole.
    pub(super) fn add(&self, cause: Cause, detail: impl Into<String>) {
        self.put(cause, None, detail.into());
    }

    /// Adds a finding at a position.
    pub(super) fn at(&self, cause: Cause, position: i64, detail: impl Into<String>) {
        self.put(cause, u64::try_from(position).ok(), detail.into());
    }

    fn put(&self, cause: Cause, position: Option<u64>, detail: String) {
        let mut all = self.lock();
        let of_cause = all.entry(cause).or_default();
        of_cause.count += 1;
        of_cause.listed.insert((position, detail));
        if of_cause.listed.len() > LISTED {
            of_cause.listed.pop_last();
        }
    }

    /// How much of each kind, and what is listed of it.
    pub(super) fn take(&self) -> (BTreeMap<&'static str, u64>, Vec<Finding>) {
        let all = std::mem::take(&mut *self.lock());
        let counts = all.iter().map(|(cause, it)| (cause.as_str(), it.count)).collect();
        let listed = all.into_iter().flat_map(|(cause, it)| {
            it.listed.into_iter().map(move |(position, detail)| Finding { cause, position, detail })
        });
        (counts, listed.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_of_one_kind_hides_no_other_and_the_lowest_positions_are_listed() {
        let findings = Findings::default();
        for position in (1..=100).rev() {
            findings.at(Cause::LeafEdited, position, "edited");
        }
        findings.add(Cause::TailMissing, "gone");
        let (counts, listed) = findings.take();
        assert_eq!(counts, BTreeMap::from([("leaf_edited", 100), ("tail_missing", 1)]));
        assert_eq!(listed.len(), LISTED + 1);
        assert_eq!(listed[0].position, Some(1));
        assert_eq!(listed[LISTED].to_string(), "tail_missing: gone");
    }
}
