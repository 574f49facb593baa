//! What can have happened to a hijack.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Hijack, HijackRefusal, Via};
use crate::{
    Event, HijackId, PersonalVisitor, SessionId, UserId,
    carried::CarriedOver,
    masquerade::{Denied, Ended, Viewed},
    support_request::Party,
    text::Reason,
};

/// What can have happened to a hijack. Times are in the events, so that it can be checked from the log alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum HijackEvent {
    /// It began.
    #[serde(rename = "hijack.started")]
    Started {
        /// Its id.
        hijack_id: HijackId,
        /// Who acts.
        by: Party,
        /// The sign-in of theirs that it belongs to.
        signed_in: SessionId,
        /// As whom.
        target: UserId,
        /// By what it was allowed.
        #[serde(flatten)]
        via: Via,
        /// Why.
        reason: Reason,
        /// When it began.
        at: DateTime<Utc>,
        /// When it ends by itself.
        until: DateTime<Utc>,
    },
    /// It was asked for, and refused.
    #[serde(rename = "hijack.refused")]
    Refused {
        /// The id it would have had.
        hijack_id: HijackId,
        /// Who would have acted.
        by: Party,
        /// As whom.
        target: UserId,
        /// The reason they gave.
        reason: Reason,
        /// Why it was refused.
        why: HijackRefusal,
        /// When.
        at: DateTime<Utc>,
    },
    /// Something was read in it.
    #[serde(rename = "hijack.viewed")]
    Viewed(Viewed),
    /// Something was refused in it.
    #[serde(rename = "hijack.action_refused")]
    Denied(Denied),
    /// It ended.
    #[serde(rename = "hijack.ended")]
    Ended(Ended),
    /// Its state, when what was before was pruned.
    #[serde(rename = "hijack.carried_over")]
    CarriedOver(Box<CarriedOver<Hijack>>),
}

impl HijackEvent {
    /// The type of what says that something was read.
    pub const VIEWED: &'static str = "hijack.viewed";
    /// The type of what says that something was refused in it.
    pub const DENIED: &'static str = "hijack.action_refused";
    /// The type of an attempt that was refused.
    pub const REFUSED: &'static str = "hijack.refused";
    /// The type of its end.
    pub const ENDED: &'static str = "hijack.ended";
}

impl Event for HijackEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("hijack.started", 1),
        (Self::REFUSED, 1),
        (Self::VIEWED, 1),
        (Self::DENIED, 1),
        (Self::ENDED, 1),
        ("hijack.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "hijack.started",
            Self::Refused { .. } => Self::REFUSED,
            Self::Viewed(_) => Self::VIEWED,
            Self::Denied(_) => Self::DENIED,
            Self::Ended(_) => Self::ENDED,
            Self::CarriedOver(_) => "hijack.carried_over",
        }
    }

    fn visit_personal(&mut self, _visit: &mut PersonalVisitor<'_>) {}
}
