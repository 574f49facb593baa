//! What support sessions and hijacks have in common: somebody who is not of the house sees and does things in it, for a
//! while, and each thing they see and each thing they are refused is an event.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DomainError, support_request::Party};

/// How long a support session or a hijack lasts, unless the window it depends on closes before.
pub const LASTS: Duration = Duration::minutes(30);

/// The most ids that one event names: a page of a list has no more items.
pub const MOST_IDS: usize = 200;

/// Something that was read, and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewed {
    /// The template of the route (`/api/v1/bookings/{id}`); nothing of what was asked.
    pub route: String,
    /// The status of the answer.
    pub status: u16,
    /// What the answer was about: the ids of the things in it, at most [`MOST_IDS`].
    pub resource_ids: Vec<Uuid>,
    /// Whether there were more of them than are named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Something that was asked for, and refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The request's method.
    pub method: String,
    /// The template of the route.
    pub route: String,
    /// The status of the refusal.
    pub status: u16,
    /// Its code (`support_read_only`).
    pub code: String,
    /// What it was about: the ids in its path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_ids: Vec<Uuid>,
}

/// What ended a support session or a hijack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum EndCause {
    /// Somebody ended it.
    Stopped {
        /// Who.
        by: Party,
    },
    /// Its time was over.
    Expired,
    /// The window it depended on was closed before its time.
    WindowClosed,
    /// Whoever is in it may not be any more, or whom they acted as has become somebody else.
    NoLongerAllowed,
}

impl EndCause {
    /// The name in read models and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped { .. } => "stopped",
            Self::Expired => "expired",
            Self::WindowClosed => "window_closed",
            Self::NoLongerAllowed => "no_longer_allowed",
        }
    }

    /// Who ended it, where somebody did.
    pub fn by(self) -> Option<Party> {
        match self {
            Self::Stopped { by } => Some(by),
            Self::Expired | Self::WindowClosed | Self::NoLongerAllowed => None,
        }
    }
}

/// How a support session or a hijack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// By what.
    #[serde(flatten)]
    pub cause: EndCause,
    /// Since when nothing can be done in it any more; earlier than the event where only time had ended it.
    pub at: DateTime<Utc>,
}

/// How one that began at a time, and was to last until another, has ended by itself: its time is over, its window is
/// closed, or it is not allowed any more. `None` while it goes on.
pub(crate) fn lapsed(
    until: DateTime<Utc>,
    now: DateTime<Utc>,
    window_open: bool,
    allowed: bool,
) -> Option<Ended> {
    if now >= until {
        Some(Ended { cause: EndCause::Expired, at: until })
    } else if !window_open {
        Some(Ended { cause: EndCause::WindowClosed, at: now })
    } else if !allowed {
        Some(Ended { cause: EndCause::NoLongerAllowed, at: now })
    } else {
        None
    }
}

/// The refusal to end what is over.
pub(crate) fn over() -> DomainError {
    DomainError::wrong_state("ended", "the session is over")
}
