//! What can be asked of a booking.

use chrono::{DateTime, FixedOffset, NaiveDateTime, Utc};

use crate::{CustomerId, OfferingId, Personal, ResourceId, interval::Nights, money::Money, text::Notes};

/// A command on one booking.
#[derive(Clone, Debug)]
pub enum BookingCommand {
    /// Take a place: as a hold, pending approval, or confirmed at once.
    Book {
        /// What is booked.
        offering_id: OfferingId,
        /// On which resource; any that fits if not given.
        resource_id: Option<ResourceId>,
        /// In which unit; any if not given. Pins the booking.
        unit: Option<u32>,
        /// For whom.
        customer_id: CustomerId,
        /// When.
        when: RequestedTime,
        /// How many guests come.
        guests: u32,
        /// Whether to hold the place for the offering's hold time only.
        hold: bool,
        /// A note to staff.
        notes: Option<Personal<Notes>>,
        /// The price agreed, in place of the offering's. For importers and staff; no public route offers it.
        price_override: Option<Money>,
    },
    /// Confirm a hold or approve a pending booking. A hold that ran out competes again for its place.
    Confirm,
    /// Turn a pending booking down.
    Reject,
    /// Cancel, for the fee the policy sets.
    Cancel {
        /// Waive that fee; needs a reason.
        waive_fee: bool,
    },
    /// Move to another time, and to another resource if named.
    Reschedule {
        /// The new time.
        when: RequestedTime,
        /// The resource to move to.
        resource_id: Option<ResourceId>,
    },
    /// Move to another resource or unit at the same time, or let the unit go.
    Reassign {
        /// The resource to move to.
        resource_id: Option<ResourceId>,
        /// The unit to pin it to.
        unit: Option<u32>,
        /// Unpin it.
        unpin: bool,
    },
    /// The guest is here. Pins a unit.
    CheckIn {
        /// The unit given; the lowest that leaves every other booking possible if not.
        unit: Option<u32>,
    },
    /// The guest has left; what was not used is free again.
    CheckOut,
    /// The guest did not come.
    NoShow,
    /// The hold has run out.
    Expire,
    /// Asked by the guest whose booking it is: a confirm of what they hold, a cancel, or a reschedule as long as it
    /// costs nobody anything. The house is asked for the rest.
    ByGuest(Box<BookingCommand>),
}

impl BookingCommand {
    /// The command as if the house gave it: what it is about, whoever asks.
    pub fn asked(&self) -> &Self {
        match self {
            Self::ByGuest(command) => command.asked(),
            command => command,
        }
    }
}

/// When a booking is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedTime {
    /// A stay by nights.
    Nights(Nights),
    /// An appointment.
    Slot {
        /// When it begins.
        start: SlotStart,
        /// When it ends; the offering's duration decides where it has one.
        ends_at: Option<DateTime<Utc>>,
    },
}

/// How the start of an appointment was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotStart {
    /// As an instant. Any offset will do: it is the same instant in the resource's zone.
    Instant(DateTime<FixedOffset>),
    /// As the time on the resource's clock.
    Local(NaiveDateTime),
}
