//! The one error type of the domain: every way a decision can be refused, typed.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::schedule::{Closed, ClosedBy};

/// One field that failed validation: an RFC 6901 pointer into the request, a stable code, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// RFC 6901 JSON pointer (`/check_out`).
    pub pointer: String,
    /// Stable code (`interval_reversed`).
    pub code: String,
    /// A sentence for people; never holds the offending value.
    pub detail: String,
}

/// Why a command was refused. Serialisable because a refusal is replayed under its idempotency key.
///
/// No variant holds personal data or the offending value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DomainError {
    /// Input that no state could accept (422 `validation_failed`).
    #[error("validation failed: {}", .errors.first().map_or("", |e| e.detail.as_str()))]
    Validation {
        /// Each failed field.
        errors: Vec<FieldError>,
    },
    /// The thing named does not exist in this tenant (404 `not_found`).
    #[error("{what} not found")]
    NotFound {
        /// The aggregate type (`resource`).
        what: String,
    },
    /// No unit is free for the whole interval (409 `slot_taken`).
    #[error("the slot is taken")]
    SlotTaken,
    /// The schedule is closed for part of the time (409 `closed`).
    #[error("closed on {date}")]
    Closed {
        /// The kind of rule that closes it. Its note stays with those who may know.
        rule: ClosedBy,
        /// The first date it is closed on, in the resource's zone.
        date: NaiveDate,
    },
    /// The hold ran out, and its place has gone to another (410 `hold_expired`).
    #[error("the hold has expired and its place is taken")]
    HoldExpired,
    /// The aggregate's state does not allow the command (409 `wrong_state`).
    #[error("{detail}")]
    WrongState {
        /// The state it is in (`cancelled`).
        state: String,
        /// A sentence for people.
        detail: String,
    },
    /// A value that must be unique is in use (409 `already_exists`).
    #[error("{what} already exists")]
    AlreadyExists {
        /// What must be unique (`slug`).
        what: String,
    },
    /// A rule requires a reason and none was given (422 `validation_failed`, pointer `/reason`).
    #[error("a reason is required")]
    ReasonRequired,
    /// Whoever asks may not do this to what they ask it of (403 `forbidden`).
    #[error("{detail}")]
    Forbidden {
        /// A sentence for people; shown to those who manage permissions.
        detail: String,
    },
    /// A redacted support session changes nothing (403 `support_read_only`).
    #[error("a redacted support session is read only")]
    ReadOnly,
    /// The support session or hijack it was asked in is over (401 `unauthenticated`).
    #[error("the session is over")]
    SessionOver,
    /// Nobody would be left to manage the tenant, or the platform (409 `last_admin`).
    #[error("the last active owner stays")]
    LastAdmin,
    /// The caller's expected version is not the current one (412 `version_conflict`).
    #[error("the version given is not the current one")]
    VersionConflict,
}

impl DomainError {
    /// A single failed field.
    pub fn field(pointer: &str, code: &str, detail: &str) -> Self {
        Self::Validation {
            errors: vec![FieldError { pointer: pointer.into(), code: code.into(), detail: detail.into() }],
        }
    }

    /// An absent aggregate.
    pub fn not_found(what: &str) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// A command the state does not allow.
    pub fn wrong_state(state: &str, detail: &str) -> Self {
        Self::WrongState { state: state.into(), detail: detail.into() }
    }
}

impl From<Closed> for DomainError {
    fn from(closed: Closed) -> Self {
        Self::Closed { rule: closed.rule, date: closed.date }
    }
}
