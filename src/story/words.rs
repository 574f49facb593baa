//! The words of a story. Reasons are the words of others: they are quoted, and what could break a line or turn it round
//! is written as an escape.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use daybook_domain::{
    UserId,
    hijack::HijackRefusal,
    masquerade::{Denied, EndCause, Ended, Viewed},
    support_request::{Ending, Party, SupportRequest, SupportStatus},
    support_session::{SessionRefusal, SupportMode},
    text::Reason,
};

use super::Counts;

/// Things that a line names; the entry has all of them.
const NAMED: usize = 5;

/// A time, to milliseconds, in UTC.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A time of a day that the line itself names.
pub(super) fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S%.3f").to_string()
}

/// Where a request stands at a time by the database's clock.
pub fn state(request: &SupportRequest, now: DateTime<Utc>) -> String {
    let approved = request.approved_by.map(|user| format!("approved by user:{user}"));
    match (request.status, approved, request.open_until, &request.ended) {
        (SupportStatus::Requested, ..) if request.is_waiting(now) => {
            format!("waits for an answer until {}", time(request.lapses_at))
        }
        (SupportStatus::Requested, ..) => format!("lapsed at {}: nobody answered", time(request.lapses_at)),
        (SupportStatus::Approved, Some(approved), Some(until), _) if request.is_open(now) => {
            format!("{approved}, open until {}", time(until))
        }
        (SupportStatus::Approved, Some(approved), Some(until), _) => {
            format!("{approved}, closed by itself at {}", time(until))
        }
        (SupportStatus::Denied, _, _, Some(Ending { by, reason })) => {
            format!("denied by {}: {:?}", party(*by), reason.as_str())
        }
        (SupportStatus::Revoked, Some(approved), _, Some(Ending { by, reason })) => {
            format!("{approved}, closed by {}: {:?}", party(*by), reason.as_str())
        }
        (SupportStatus::Revoked, None, _, Some(Ending { by, reason })) => {
            format!("taken back by {}: {:?}", party(*by), reason.as_str())
        }
        // An event of each of these carries what is missing.
        (status @ (SupportStatus::Approved | SupportStatus::Denied | SupportStatus::Revoked), ..) => {
            status.as_str().to_owned()
        }
    }
}

pub(super) fn asked(minutes: u32, reason: &Reason) -> String {
    format!("asked for {}: {:?}", count(u64::from(minutes), "minute"), reason.as_str())
}

pub(super) fn revoked(ending: &Ending, opened: bool) -> String {
    let what = if opened { "closed the window" } else { "took the request back" };
    format!("{what}: {:?}", ending.reason.as_str())
}

pub(super) fn session_began(mode: SupportMode, until: DateTime<Utc>, reason: &Reason) -> String {
    format!("began a {} session, until {}: {:?}", mode.as_str(), clock(until), reason.as_str())
}

pub(super) fn session_refused(mode: SupportMode, why: SessionRefusal, reason: &Reason) -> String {
    format!("was refused a {} session ({}): {:?}", mode.as_str(), why.as_str(), reason.as_str())
}

pub(super) fn hijack_began(target: UserId, until: DateTime<Utc>, reason: &Reason) -> String {
    format!("began to act as user:{target}, until {}: {:?}", clock(until), reason.as_str())
}

pub(super) fn hijack_refused(target: UserId, why: HijackRefusal, reason: &Reason) -> String {
    format!("was refused to act as user:{target} ({}): {:?}", why.as_str(), reason.as_str())
}

pub(super) fn viewed(viewed: &Viewed) -> String {
    // Nothing but a read is viewed.
    let mut text = format!("viewed GET {}", viewed.route);
    if viewed.status != 200 {
        let _ = write!(text, " ({})", viewed.status);
    }
    let all = &viewed.resource_ids;
    for (place, id) in all.iter().take(NAMED).enumerate() {
        let _ = write!(text, "{}{id}", if place == 0 { ": " } else { ", " });
    }
    match (all.len().saturating_sub(NAMED), viewed.more) {
        (0, false) => {}
        (0, true) => text.push_str(" and more"),
        (others, false) => {
            let _ = write!(text, " and {others} others");
        }
        (others, true) => {
            let _ = write!(text, " and more than {others} others");
        }
    }
    text
}

pub(super) fn denied(denied: &Denied) -> String {
    format!("was refused {} {} ({})", denied.method, denied.route, denied.code)
}

pub(super) fn changed(event_type: &str, aggregate: &str, reason: Option<&str>) -> String {
    let mut text = format!("changed {event_type} {aggregate}");
    if let Some(reason) = reason {
        let _ = write!(text, ": {reason:?}");
    }
    text
}

pub(super) fn ended(ended: Ended) -> String {
    match ended.cause {
        EndCause::Stopped { by } => format!("ended: stopped by {}", party(by)),
        EndCause::Expired => format!("ended: its time was over at {}", clock(ended.at)),
        EndCause::WindowClosed => "ended: the window was closed".into(),
        EndCause::NoLongerAllowed => "ended: it was not allowed any more".into(),
    }
}

fn party(by: Party) -> String {
    match by {
        Party::Tenant { user_id } => format!("user:{user_id} of the tenant"),
        Party::Platform { user_id } => format!("user:{user_id} of the platform"),
        Party::Operator => "the operator".into(),
    }
}

impl Counts {
    /// The counts as a sentence.
    pub fn sentence(&self) -> String {
        let things = count(u64::try_from(self.viewed.len()).unwrap_or(u64::MAX), "thing");
        let more = if self.more { " and more" } else { "" };
        format!(
            "viewed {things}{more} in {}, changed {}, refused {}",
            count(self.reads, "read"),
            self.changed,
            self.refused
        )
    }
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
