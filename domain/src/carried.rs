//! What a stream was when its beginning was pruned: an event that holds a whole state.
//!
//! Before the events up to a cut are pruned, each stream that goes on gets a [`CarriedOver`] of [`Standing::Whole`]: its
//! state after everything before it. Folding it replaces the state, so the stream can be read from there on. A stream that
//! has later events than the cut, which are kept, gets one of [`Standing::Base`] as well: its state at the cut, which is
//! what those events follow. Folding that one changes nothing.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::{Personal, PersonalVisitor, SubjectId, decimal};

/// The end of the type strings of these events (`booking.carried_over`).
pub const SUFFIX: &str = ".carried_over";

/// What a carried state stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// For the stream up to this event: folding it replaces the state.
    Whole,
    /// For the stream at a cut, below later events that are kept.
    Base,
}

/// A state with what is known of the events it was folded from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CarriedOver<S> {
    /// What it stands for.
    pub standing: Standing,
    /// What it was folded from, and when that was.
    #[serde(flatten)]
    pub past: Past,
    /// The state.
    pub state: S,
}

/// The events a state was folded from, as far as anything needs to know of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// The sequence of the last of them.
    #[serde(with = "decimal")]
    pub through_sequence: i64,
    /// The position of the last of them.
    #[serde(with = "decimal")]
    pub through_position: i64,
    /// When the first was recorded.
    pub created_at: DateTime<Utc>,
    /// When the last that changed anything was recorded.
    pub updated_at: DateTime<Utc>,
    /// Of a booking, what its state does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booked: Option<Booked>,
    /// Of a person, the e-mail addresses they had before: what is known by one of them alone is found by it when they are erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Personal<Vec<String>>>,
}

/// The field that [`Past::former`] is sealed as.
pub const FORMER: &str = "former_emails";

/// How a booking began, as reports count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    /// The date on which it was taken, by the clock of the place it was taken at.
    pub on: NaiveDate,
    /// Whether it was ever confirmed.
    pub confirmed: bool,
}

impl Past {
    /// Visits what of it is personal. Whose it is, the state says.
    pub fn visit_personal(&mut self, subject: Option<SubjectId>, visit: &mut PersonalVisitor<'_>) {
        if let (Some(subject), Some(former)) = (subject, &mut self.former) {
            visit(FORMER, subject, former);
        }
    }
}

impl<S: Clone> CarriedOver<S> {
    /// Folds it: the state it stands for or, where it is the base of others, what there was.
    pub fn fold_into(&self, state: &mut S) {
        match self.standing {
            Standing::Whole => self.state.clone_into(state),
            Standing::Base => {}
        }
    }
}

#[cfg(test)]
mod tests;
