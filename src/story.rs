//! The story of a support request, told from what was recorded: who asked, who answered, what was begun in its window,
//! what was seen, changed and refused there, and how it ended.
//!
//! [`Story`] is the telling: it is given the events of a log in order, and answers what is to be said of each that
//! belongs. It knows nothing but those events, so whoever has the log can check it. [`replay`] reads the log for it.
//!
//! What belongs: the request's own stream; the support sessions whose start, or refusal, names it; the hijacks in its
//! window, and those its requester was refused while it waited or was open; what was caused in any of them. Two things
//! are no events and are told all the same, because the events say when they come: that a window closes by itself, and
//! that a request lapses.
//!
//! Nothing of a payload is told but ids, routes, codes and the words that were given as reasons.

pub mod replay;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use chrono::{DateTime, Utc};
use daybook_domain::{
    Decider as _, RecordedEvent, SupportRequestId,
    hijack::HijackEvent,
    masquerade::{Denied, Ended, Viewed},
    registry::{AggregateType, AnyEvent, Registered as _},
    support_request::{Party, SupportRequest, SupportRequestEvent, SupportStatus},
    support_session::{SupportSession, SupportSessionEvent},
};
use serde::Serialize;
use uuid::Uuid;

pub use words::state;

/// What an entry of a story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request was made.
    Requested,
    /// It was approved, which opened the window.
    Approved,
    /// It was denied.
    Denied,
    /// It was taken back, or its window was closed.
    Revoked,
    /// Nobody answered in time. No event says so.
    Lapsed,
    /// The window closed by itself. No event says so.
    WindowClosed,
    /// A support session began.
    SessionStarted,
    /// A support session was asked for, and refused.
    SessionRefused,
    /// A hijack began.
    HijackStarted,
    /// A hijack was asked for, and refused.
    HijackRefused,
    /// Something was read in one of them.
    Viewed,
    /// Something was refused in one of them.
    ActionRefused,
    /// Something was changed in one of them.
    Changed,
    /// One of them ended.
    Ended,
    /// The time of one of them is over, and the event that will say so has not been written yet.
    Overdue,
}

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When it was recorded; what no event says, when it came.
    pub at: DateTime<Utc>,
    /// The event's position in the log; none for what no event says.
    pub position: Option<i64>,
    /// Who did it.
    pub actor: Option<String>,
    /// As whom, in a hijack.
    pub on_behalf_of: Option<String>,
    /// What it is about.
    pub kind: Kind,
    /// What happened, in words.
    pub text: String,
    /// What it happened to (`customer:<id>`).
    pub aggregate: String,
    /// The support session or the hijack it happened in, or that it is about (`hijack:<id>`).
    pub within: Option<String>,
    /// The things that were seen or changed.
    pub ids: Vec<Uuid>,
    /// A short name of `within` in this story.
    #[serde(skip)]
    label: String,
}

impl fmt::Display for Entry {
    /// One line: when, where in the log, in which session, who, what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.position.map_or_else(|| "-".to_owned(), |position| position.to_string());
        let who = self.actor.as_deref().unwrap_or("-");
        write!(f, "{}  {position:>8}  {:<4}{who:<42} ", words::time(self.at), self.label)?;
        if let Some(whom) = &self.on_behalf_of {
            write!(f, "as {whom}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// What was counted while a story was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers that were read.
    pub reads: u64,
    /// Different things that are named in them.
    pub viewed: HashSet<Uuid>,
    /// Whether an answer was about more things than its event names.
    pub more: bool,
    /// Events that were caused.
    pub changed: u64,
    /// Requests that were refused, and starts.
    pub refused: u64,
}

/// A support session or a hijack that belongs.
#[derive(Debug)]
struct Visit {
    label: String,
    aggregate_type: AggregateType,
    id: Uuid,
    until: DateTime<Utc>,
    ended: bool,
}

/// The telling of one support request's story, as far as it was given the log.
#[derive(Debug)]
pub struct Story {
    id: SupportRequestId,
    /// As the events that were told leave it.
    request: SupportRequest,
    /// Whether it was told that time ended it.
    closed: bool,
    /// What began in the window, by the name that events give their cause.
    visits: HashMap<String, Visit>,
    /// How many sessions and how many hijacks there are among them.
    began: (u32, u32),
    counts: Counts,
}

impl Story {
    /// The story of this request, before anything.
    pub fn of(id: SupportRequestId) -> Self {
        Self {
            id,
            request: SupportRequest::default(),
            closed: false,
            visits: HashMap::new(),
            began: (0, 0),
            counts: Counts::default(),
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What is to be said of the next event of the log: nothing when it does not belong. Events are given in the order
    /// of the log; one that is not given and does not belong makes no difference.
    pub fn tell(&mut self, event: &RecordedEvent) -> Vec<Entry> {
        let mut told: Vec<Entry> = self.closed_by_time(event.recorded_at).into_iter().collect();
        let own = match &event.event {
            AnyEvent::SupportRequest(it) if event.aggregate_id == self.id.0 => self.of_request(event, it),
            AnyEvent::SupportSession(it) => self.of_session(event, it),
            AnyEvent::Hijack(it) => self.of_hijack(event, it),
            AnyEvent::SupportRequest(_)
            | AnyEvent::Tenant(_)
            | AnyEvent::Resource(_)
            | AnyEvent::Offering(_)
            | AnyEvent::Schedule(_)
            | AnyEvent::Customer(_)
            | AnyEvent::Booking(_)
            | AnyEvent::User(_)
            | AnyEvent::Role(_)
            | AnyEvent::ApiKey(_)
            | AnyEvent::Settings(_)
            | AnyEvent::Lead(_)
            | AnyEvent::PermissionGrant(_)
            | AnyEvent::AuditExport(_)
            | AnyEvent::LegalHold(_)
            | AnyEvent::AuditTrail(_) => None,
        };
        told.extend(own.or_else(|| self.caused(event)));
        told
    }

    /// What is to be said after the last event, at a time by the database's clock.
    pub fn finish(&mut self, now: DateTime<Utc>) -> Vec<Entry> {
        let mut told: Vec<Entry> = self.closed_by_time(now).into_iter().collect();
        let mut overdue: Vec<(&String, &Visit)> =
            self.visits.iter().filter(|(_, visit)| !visit.ended && visit.until <= now).collect();
        overdue.sort_by_key(|(_, visit)| (visit.until, visit.id));
        told.extend(overdue.into_iter().map(|(name, visit)| Entry {
            at: visit.until,
            position: None,
            actor: None,
            on_behalf_of: None,
            kind: Kind::Overdue,
            text: "its time was over; the log does not say so yet".into(),
            aggregate: name.clone(),
            within: Some(name.clone()),
            ids: Vec::new(),
            label: visit.label.clone(),
        }));
        told
    }

    /// Whether nothing can belong any more that was recorded after this time, but for the ends that have not been told
    /// ([`Self::unended`]) and refusals to begin a session that name the request: those can come years later.
    pub fn is_over(&self, at: DateTime<Utc>) -> bool {
        self.request.id.is_some()
            && !self.request.is_waiting(at)
            && !self.request.is_open(at)
            && self.visits.values().all(|visit| visit.ended || visit.until <= at)
    }

    /// The support sessions and hijacks whose end was not told.
    pub fn unended(&self) -> Vec<(AggregateType, Uuid)> {
        let open = self.visits.values().filter(|visit| !visit.ended);
        open.map(|visit| (visit.aggregate_type, visit.id)).collect()
    }

    /// Whether an event is a session's start, or its refusal, that names the request.
    fn is_named(&self, event: &RecordedEvent) -> bool {
        let named = match SupportSession::event_of(&event.event) {
            Some(
                SupportSessionEvent::Started { support_request_id, .. }
                | SupportSessionEvent::Refused { support_request_id, .. },
            ) => *support_request_id,
            Some(
                SupportSessionEvent::Viewed(_)
                | SupportSessionEvent::Denied(_)
                | SupportSessionEvent::Ended(_)
                | SupportSessionEvent::CarriedOver(_),
            )
            | None => None,
        };
        named == Some(self.id)
    }

    /// The end that time makes, once: a window that closes by itself, a request that lapses.
    fn closed_by_time(&mut self, now: DateTime<Utc>) -> Option<Entry> {
        if self.closed {
            return None;
        }
        let (kind, at, text) = match (self.request.status, self.request.id, self.request.open_until) {
            (SupportStatus::Requested, Some(_), _) => {
                (Kind::Lapsed, self.request.lapses_at, "the request lapsed: nobody answered")
            }
            (SupportStatus::Approved, Some(_), Some(until)) => {
                (Kind::WindowClosed, until, "the window closed by itself")
            }
            (
                SupportStatus::Requested
                | SupportStatus::Approved
                | SupportStatus::Denied
                | SupportStatus::Revoked,
                ..,
            ) => return None,
        };
        (at <= now).then(|| {
            self.closed = true;
            Entry {
                at,
                position: None,
                actor: None,
                on_behalf_of: None,
                kind,
                text: text.into(),
                aggregate: name(AggregateType::SupportRequest, self.id.0),
                within: None,
                ids: Vec::new(),
                label: String::new(),
            }
        })
    }

    fn of_request(&mut self, event: &RecordedEvent, it: &SupportRequestEvent) -> Option<Entry> {
        let opened = self.request.approved_at.is_some();
        self.request.apply(it);
        let (kind, text) = match it {
            SupportRequestEvent::Requested { reason, minutes, .. } => {
                (Kind::Requested, words::asked(*minutes, reason))
            }
            SupportRequestEvent::Approved { until, .. } => {
                (Kind::Approved, format!("approved: open until {}", words::clock(*until)))
            }
            SupportRequestEvent::Denied(ending) => {
                (Kind::Denied, format!("denied: {:?}", ending.reason.as_str()))
            }
            SupportRequestEvent::Revoked(ending) => (Kind::Revoked, words::revoked(ending, opened)),
            // What was before was pruned; that is nothing that happened.
            SupportRequestEvent::CarriedOver(_) => return None,
        };
        Some(self.entry(event, kind, text))
    }

    fn of_session(&mut self, event: &RecordedEvent, it: &SupportSessionEvent) -> Option<Entry> {
        match it {
            SupportSessionEvent::Started { support_request_id, mode, reason, until, .. } => {
                (*support_request_id == Some(self.id)).then(|| {
                    self.begins(event, *until);
                    self.entry(event, Kind::SessionStarted, words::session_began(*mode, *until, reason))
                })
            }
            SupportSessionEvent::Refused { support_request_id, mode, reason, why, .. } => {
                (*support_request_id == Some(self.id)).then(|| {
                    self.counts.refused += 1;
                    self.entry(event, Kind::SessionRefused, words::session_refused(*mode, *why, reason))
                })
            }
            SupportSessionEvent::Viewed(viewed) => self.viewed(event, viewed),
            SupportSessionEvent::Denied(denied) => self.denied(event, denied),
            SupportSessionEvent::Ended(ended) => self.ended(event, *ended),
            SupportSessionEvent::CarriedOver(carried) => {
                if carried.state.support_request_id == Some(self.id) {
                    self.begins(event, carried.state.until);
                }
                None
            }
        }
    }

    fn of_hijack(&mut self, event: &RecordedEvent, it: &HijackEvent) -> Option<Entry> {
        match it {
            HijackEvent::Started { target, via, reason, until, .. } => {
                (via.window() == Some(self.id)).then(|| {
                    self.begins(event, *until);
                    self.entry(event, Kind::HijackStarted, words::hijack_began(*target, *until, reason))
                })
            }
            HijackEvent::Refused { by, target, reason, why, .. } => self.concerns(*by, event).then(|| {
                self.counts.refused += 1;
                self.entry(event, Kind::HijackRefused, words::hijack_refused(*target, *why, reason))
            }),
            HijackEvent::Viewed(viewed) => self.viewed(event, viewed),
            HijackEvent::Denied(denied) => self.denied(event, denied),
            HijackEvent::Ended(ended) => self.ended(event, *ended),
            HijackEvent::CarriedOver(carried) => {
                if carried.state.via.window() == Some(self.id) {
                    self.begins(event, carried.state.until);
                }
                None
            }
        }
    }

    /// Whether what somebody was refused is part of the story: it was whoever asked, while the request waited or was
    /// open, or it was asked for from within.
    fn concerns(&self, by: Party, event: &RecordedEvent) -> bool {
        let at = event.recorded_at;
        let asked = by.user() == Some(self.request.requested_by);
        asked && (self.request.is_waiting(at) || self.request.is_open(at)) || self.cause(event).is_some()
    }

    /// What it was caused in, by the name that events give it.
    fn cause<'a>(&self, event: &'a RecordedEvent) -> Option<&'a String> {
        event.metadata.causation_id.as_ref().filter(|cause| self.visits.contains_key(*cause))
    }

    fn begins(&mut self, event: &RecordedEvent, until: DateTime<Utc>) {
        let label = if event.aggregate_type == AggregateType::Hijack {
            self.began.1 += 1;
            format!("H{}", self.began.1)
        } else {
            self.began.0 += 1;
            format!("S{}", self.began.0)
        };
        let (aggregate_type, id) = (event.aggregate_type, event.aggregate_id);
        self.visits
            .insert(name(aggregate_type, id), Visit { label, aggregate_type, id, until, ended: false });
    }

    /// Whether an event is of the stream of something that began in the window.
    fn follows(&self, event: &RecordedEvent) -> bool {
        self.visits.contains_key(&name(event.aggregate_type, event.aggregate_id))
    }

    fn viewed(&mut self, event: &RecordedEvent, viewed: &Viewed) -> Option<Entry> {
        self.follows(event).then(|| {
            self.counts.reads += 1;
            self.counts.viewed.extend(&viewed.resource_ids);
            self.counts.more |= viewed.more;
            let ids = viewed.resource_ids.clone();
            Entry { ids, ..self.entry(event, Kind::Viewed, words::viewed(viewed)) }
        })
    }

    fn denied(&mut self, event: &RecordedEvent, denied: &Denied) -> Option<Entry> {
        self.follows(event).then(|| {
            self.counts.refused += 1;
            self.entry(event, Kind::ActionRefused, words::denied(denied))
        })
    }

    fn ended(&mut self, event: &RecordedEvent, ended: Ended) -> Option<Entry> {
        let visit = self.visits.get_mut(&name(event.aggregate_type, event.aggregate_id))?;
        visit.ended = true;
        Some(self.entry(event, Kind::Ended, words::ended(ended)))
    }

    /// An event that names something of the window as its cause.
    fn caused(&mut self, event: &RecordedEvent) -> Option<Entry> {
        self.cause(event)?;
        self.counts.changed += 1;
        let reason = event.metadata.reason.as_deref();
        let aggregate = name(event.aggregate_type, event.aggregate_id);
        let text = words::changed(event.event.type_name(), &aggregate, reason);
        Some(Entry { ids: vec![event.aggregate_id], ..self.entry(event, Kind::Changed, text) })
    }

    fn entry(&self, event: &RecordedEvent, kind: Kind, text: String) -> Entry {
        let aggregate = name(event.aggregate_type, event.aggregate_id);
        let own = Some(&aggregate).filter(|name| self.visits.contains_key(*name));
        let within = own.or_else(|| self.cause(event));
        let label = within.and_then(|name| self.visits.get(name)).map(|visit| visit.label.clone());
        Entry {
            at: event.recorded_at,
            position: Some(event.position),
            actor: Some(event.metadata.actor.clone()),
            on_behalf_of: event.metadata.on_behalf_of.clone(),
            kind,
            text,
            within: within.cloned(),
            aggregate,
            ids: Vec::new(),
            label: label.unwrap_or_default(),
        }
    }
}

/// An aggregate as events name their cause (`hijack:<id>`).
fn name(aggregate_type: AggregateType, id: Uuid) -> String {
    format!("{aggregate_type}:{id}")
}
