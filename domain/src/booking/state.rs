//! What a booking is now, folded from its events.

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{BookingEvent, BookingTaken, BookingTerms};
use crate::{
    BookingId, CustomerId, OfferingId, Personal, ResourceId,
    interval::{Interval, Nights},
    money::Money,
    occupancy::Claim,
    offering::CancellationPolicy,
    text::Notes,
};

/// Where personal values stand in a booking as JSON.
pub const PERSONAL: &[&str] = &["/notes"];

/// Whether a path into a booking as JSON leads to a personal value, into one, or to something that holds one.
pub fn is_personal(path: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PERSONAL.iter().any(|personal| within(path, personal) || within(personal, path))
}

/// A booking: what was agreed, and what became of it.
///
/// Before its first event it has no id, the status [`BookingStatus::Absent`], and placeholders for the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Booking {
    /// The booking; `None` before the first event.
    pub id: Option<BookingId>,
    /// What is booked.
    pub offering_id: OfferingId,
    /// The resource it is placed on.
    pub resource_id: ResourceId,
    /// The unit it is pinned to.
    pub unit: Option<u32>,
    /// Who booked.
    pub customer_id: CustomerId,
    /// How far it has come.
    pub status: BookingStatus,
    /// The time as it was meant, with the resource's zone.
    pub when: BookedTime,
    /// The guest's interval.
    pub during: Interval,
    /// What the resource is occupied for while the booking stands: the same with buffers.
    pub occupies: Interval,
    /// What was occupied in the end; set by check-out, nothing if no night was used.
    pub used: Option<Interval>,
    /// How many guests.
    pub guests: u32,
    /// The price of the whole booking.
    pub price: Money,
    /// The cancellation policy as it was when the place was taken.
    pub policy: CancellationPolicy,
    /// The cancellation fee owed; `None` if none is.
    pub fee: Option<Money>,
    /// The guest's note.
    pub notes: Option<Personal<Notes>>,
    /// When the hold runs out.
    pub hold_expires_at: Option<DateTime<Utc>>,
    /// Whether staff must approve.
    pub requires_approval: bool,
    /// When the stay ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// How far a booking has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BookingStatus {
    /// Nothing was ever booked under this id.
    #[default]
    Absent,
    /// Held until its expiry.
    Held,
    /// Awaiting approval.
    Pending,
    /// Confirmed.
    Confirmed,
    /// The guest is here.
    CheckedIn,
    /// The guest has left.
    Completed,
    /// Cancelled.
    Cancelled,
    /// Turned down.
    Rejected,
    /// The hold ran out.
    Expired,
    /// The guest did not come.
    NoShow,
}

impl BookingStatus {
    /// The stable name (`checked_in`), as in answers and read models.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::CheckedIn => "checked_in",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::NoShow => "no_show",
        }
    }
}

/// A time as it was meant: in the resource's zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum BookedTime {
    /// A stay by nights.
    Nights {
        /// The nights.
        nights: Nights,
        /// Whose dates they are.
        zone: Tz,
    },
    /// An appointment.
    Slot {
        /// When.
        interval: Interval,
        /// Whose clock was meant.
        zone: Tz,
        /// What that clock shows at the start.
        local_start: NaiveDateTime,
    },
}

impl BookedTime {
    /// The resource's zone.
    pub fn zone(&self) -> Tz {
        match self {
            Self::Nights { zone, .. } | Self::Slot { zone, .. } => *zone,
        }
    }
}

impl Default for Booking {
    fn default() -> Self {
        let zone = Tz::UTC;
        let nowhen = Interval::default();
        Self {
            id: None,
            offering_id: OfferingId::default(),
            resource_id: ResourceId::default(),
            unit: None,
            customer_id: CustomerId::default(),
            status: BookingStatus::Absent,
            when: BookedTime::Slot { interval: nowhen, zone, local_start: NaiveDateTime::default() },
            during: nowhen,
            occupies: nowhen,
            used: None,
            guests: 0,
            price: Money::default(),
            policy: CancellationPolicy::default(),
            fee: None,
            notes: None,
            hold_expires_at: None,
            requires_approval: false,
            ended_at: None,
        }
    }
}

impl Booking {
    /// The status at an instant: a hold past its expiry is expired, swept or not.
    pub fn status_at(&self, now: DateTime<Utc>) -> BookingStatus {
        match self.status {
            BookingStatus::Held if self.hold_expires_at.is_some_and(|at| at <= now) => BookingStatus::Expired,
            status => status,
        }
    }

    /// Whether it is not over: held, pending, confirmed or checked in.
    pub fn is_live(&self) -> bool {
        match self.status {
            BookingStatus::Held
            | BookingStatus::Pending
            | BookingStatus::Confirmed
            | BookingStatus::CheckedIn => true,
            BookingStatus::Absent
            | BookingStatus::Completed
            | BookingStatus::Cancelled
            | BookingStatus::Rejected
            | BookingStatus::Expired
            | BookingStatus::NoShow => false,
        }
    }

    /// What the booking takes up now, and on which resource; nothing once it is over without having been
    /// used.
    pub fn claim(&self) -> Option<(ResourceId, Claim)> {
        let during = if self.is_live() { self.occupies } else { self.used? };
        let expires_at = self.hold_expires_at.filter(|_| self.status == BookingStatus::Held);
        Some((self.resource_id, Claim { booking_id: self.id?, during, unit: self.unit, expires_at }))
    }

    /// Where, when and for how much.
    pub fn terms(&self) -> BookingTerms {
        BookingTerms {
            resource_id: self.resource_id,
            unit: self.unit,
            when: self.when.clone(),
            during: self.during,
            occupies: self.occupies,
            price: self.price,
        }
    }

    /// The claim it would make again at its place, however it stands.
    pub(super) fn firm_claim(&self, booking_id: BookingId) -> Claim {
        Claim { booking_id, during: self.occupies, unit: self.unit, expires_at: None }
    }

    pub(super) fn fold(&mut self, event: &BookingEvent) {
        match event {
            BookingEvent::Held(taken) => self.take(taken, BookingStatus::Held),
            BookingEvent::Requested(taken) => self.take(taken, BookingStatus::Pending),
            BookingEvent::Booked(taken) => self.take(taken, BookingStatus::Confirmed),
            BookingEvent::Submitted { resource_id } => {
                self.resource_id = *resource_id;
                self.set_status(BookingStatus::Pending);
            }
            BookingEvent::Confirmed { resource_id } => {
                self.resource_id = *resource_id;
                self.set_status(BookingStatus::Confirmed);
            }
            BookingEvent::Rejected => self.set_status(BookingStatus::Rejected),
            BookingEvent::Cancelled { fee, waived } => {
                self.fee = (!waived && fee.amount != 0).then_some(*fee);
                self.set_status(BookingStatus::Cancelled);
            }
            BookingEvent::Rescheduled(terms) | BookingEvent::Reassigned(terms) => self.set_terms(terms),
            BookingEvent::CheckedIn { unit } => {
                self.unit = Some(*unit);
                self.set_status(BookingStatus::CheckedIn);
            }
            BookingEvent::CheckedOut { ended_at, used } => {
                self.ended_at = Some(*ended_at);
                self.used = *used;
                self.set_status(BookingStatus::Completed);
            }
            BookingEvent::NoShow => self.set_status(BookingStatus::NoShow),
            BookingEvent::Expired => self.set_status(BookingStatus::Expired),
            BookingEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }

    fn take(&mut self, taken: &BookingTaken, status: BookingStatus) {
        self.id = Some(taken.booking_id);
        self.offering_id = taken.offering_id;
        self.customer_id = taken.customer_id;
        self.guests = taken.guests;
        self.policy = taken.policy.clone();
        self.notes = taken.notes.clone();
        self.hold_expires_at = taken.hold_expires_at;
        self.requires_approval = taken.requires_approval;
        self.status = status;
        self.set_terms(&taken.terms);
    }

    fn set_terms(&mut self, terms: &BookingTerms) {
        let BookingTerms { resource_id, unit, when, during, occupies, price } = terms.clone();
        self.resource_id = resource_id;
        self.unit = unit;
        self.when = when;
        self.during = during;
        self.occupies = occupies;
        self.price = price;
    }

    fn set_status(&mut self, status: BookingStatus) {
        self.status = status;
        // An expired hold keeps no deadline: it may be confirmed late, and then stands without one.
        self.hold_expires_at = None;
    }
}
