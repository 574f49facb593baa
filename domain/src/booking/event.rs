//! What can have happened to a booking.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{BookedTime, Booking};
use crate::{
    BookingId, CustomerId, Decider as _, Event, OfferingId, Personal, PersonalVisitor, ResourceId,
    carried::CarriedOver, interval::Interval, money::Money, offering::CancellationPolicy, text::Notes,
};

/// An event of a booking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum BookingEvent {
    /// Held for a while.
    #[serde(rename = "booking.held")]
    Held(Box<BookingTaken>),
    /// Taken, pending approval.
    #[serde(rename = "booking.requested")]
    Requested(Box<BookingTaken>),
    /// Taken and confirmed at once.
    #[serde(rename = "booking.booked")]
    Booked(Box<BookingTaken>),
    /// A hold was confirmed by the guest and now awaits approval.
    #[serde(rename = "booking.submitted")]
    Submitted {
        /// Where it is placed.
        resource_id: ResourceId,
    },
    /// Confirmed.
    #[serde(rename = "booking.confirmed")]
    Confirmed {
        /// Where it is placed.
        resource_id: ResourceId,
    },
    /// Turned down.
    #[serde(rename = "booking.rejected")]
    Rejected,
    /// Cancelled.
    #[serde(rename = "booking.cancelled")]
    Cancelled {
        /// The fee the policy sets.
        fee: Money,
        /// Whether it was waived.
        waived: bool,
    },
    /// Moved in time: the old place was released and the new one taken at once.
    #[serde(rename = "booking.rescheduled")]
    Rescheduled(Box<BookingTerms>),
    /// Moved to another resource or unit, at the same time.
    #[serde(rename = "booking.reassigned")]
    Reassigned(Box<BookingTerms>),
    /// The guest is here.
    #[serde(rename = "booking.checked_in")]
    CheckedIn {
        /// The unit given.
        unit: u32,
    },
    /// The guest has left.
    #[serde(rename = "booking.checked_out")]
    CheckedOut {
        /// When the stay ended: at its planned end at the latest.
        ended_at: DateTime<Utc>,
        /// What remains occupied of the resource; nothing if no night was used.
        used: Option<Interval>,
    },
    /// The guest did not come.
    #[serde(rename = "booking.no_show")]
    NoShow,
    /// The hold ran out.
    #[serde(rename = "booking.expired")]
    Expired,
    /// Its state, when what was before was pruned.
    #[serde(rename = "booking.carried_over")]
    CarriedOver(Box<CarriedOver<Booking>>),
}

/// Where, when and for how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BookingTerms {
    /// The resource.
    pub resource_id: ResourceId,
    /// The unit, if pinned.
    pub unit: Option<u32>,
    /// The time as it was meant, with the resource's zone.
    pub when: BookedTime,
    /// The guest's interval.
    pub during: Interval,
    /// What the resource is occupied for: the same with buffers.
    pub occupies: Interval,
    /// The price of the whole booking.
    pub price: Money,
}

/// All that is agreed when a place is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BookingTaken {
    /// The booking.
    pub booking_id: BookingId,
    /// Who booked.
    pub customer_id: CustomerId,
    /// What.
    pub offering_id: OfferingId,
    /// Where, when and for how much.
    #[serde(flatten)]
    pub terms: BookingTerms,
    /// How many guests.
    pub guests: u32,
    /// The cancellation policy, as it was then.
    pub policy: CancellationPolicy,
    /// Whether staff must approve, as it was then.
    pub requires_approval: bool,
    /// When the hold runs out, for holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_expires_at: Option<DateTime<Utc>>,
    /// The guest's note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Personal<Notes>>,
}

impl Event for BookingEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("booking.held", 1),
        ("booking.requested", 1),
        ("booking.booked", 1),
        ("booking.submitted", 1),
        ("booking.confirmed", 1),
        ("booking.rejected", 1),
        ("booking.cancelled", 1),
        ("booking.rescheduled", 1),
        ("booking.reassigned", 1),
        ("booking.checked_in", 1),
        ("booking.checked_out", 1),
        ("booking.no_show", 1),
        ("booking.expired", 1),
        ("booking.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Held(_) => "booking.held",
            Self::Requested(_) => "booking.requested",
            Self::Booked(_) => "booking.booked",
            Self::Submitted { .. } => "booking.submitted",
            Self::Confirmed { .. } => "booking.confirmed",
            Self::Rejected => "booking.rejected",
            Self::Cancelled { .. } => "booking.cancelled",
            Self::Rescheduled(_) => "booking.rescheduled",
            Self::Reassigned(_) => "booking.reassigned",
            Self::CheckedIn { .. } => "booking.checked_in",
            Self::CheckedOut { .. } => "booking.checked_out",
            Self::NoShow => "booking.no_show",
            Self::Expired => "booking.expired",
            Self::CarriedOver(_) => "booking.carried_over",
        }
    }

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        match self {
            Self::Held(taken) | Self::Requested(taken) | Self::Booked(taken) => {
                let subject = taken.customer_id.into();
                if let Some(notes) = &mut taken.notes {
                    visit("notes", subject, notes);
                }
            }
            Self::CarriedOver(carried) => carried.state.visit_personal(visit),
            Self::Submitted { .. }
            | Self::Confirmed { .. }
            | Self::Rejected
            | Self::Cancelled { .. }
            | Self::Rescheduled(_)
            | Self::Reassigned(_)
            | Self::CheckedIn { .. }
            | Self::CheckedOut { .. }
            | Self::NoShow
            | Self::Expired => {}
        }
    }
}
