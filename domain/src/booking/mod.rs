//! Bookings: `held` -> `pending` -> `confirmed` -> `checked_in` -> `completed`, or `cancelled`, `rejected`,
//! `expired`, `no_show`.
//!
//! A booking is its own aggregate; what makes it possible (the offering, the resources that could take it and
//! who is on them, the customer) comes in with the [`BookingContext`]. A decision never changes an occupancy:
//! the writer does, from [`Booking::claim`], once the events are appended.
//!
//! Deliberately absent: choosing alternatives (see [`crate::availability`]) and channel bookings, which are
//! recorded although they do not fit.

mod command;
mod decide;
mod event;
mod place;
mod state;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use command::{BookingCommand, RequestedTime, SlotStart};
pub use event::{BookingEvent, BookingTaken, BookingTerms};
pub(crate) use place::{Ask, Timed, check_open, check_window, timed};
pub use state::{BookedTime, Booking, BookingStatus, PERSONAL, is_personal};

use crate::{
    BookingId, Decider, DomainError, PersonalVisitor, ResourceId, customer::Customer, impl_cqrs_aggregate,
    occupancy::Occupancy, offering::Offering, resource::Resource, schedule::Schedule,
};

/// What a decision about a booking needs to know besides the booking.
#[derive(Clone, Debug)]
pub struct BookingContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The booking decided about.
    pub id: BookingId,
    /// The offering booked; `None` if there is no such offering.
    pub offering: Option<Arc<Offering>>,
    /// The resources that could take it, in the order to be tried. For a booking that exists: its own
    /// resource, and whichever it may move to.
    pub candidates: Vec<Candidate>,
    /// Who books; `None` if there is no such customer.
    pub customer: Option<Arc<Customer>>,
    /// The reason given with the command.
    pub reason: Option<String>,
    /// Whether time rules hold (notice, advance window, the past, too early to check in). Off for imported
    /// history.
    pub enforce_window: bool,
}

impl BookingContext {
    fn candidate(&self, id: ResourceId) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.id() == id)
    }
}

/// A resource that could take a booking.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The resource.
    pub resource: Arc<Resource>,
    /// When it is open; always, without a schedule.
    pub schedule: Option<Arc<Schedule>>,
    /// Who is on it.
    pub occupancy: Arc<Occupancy>,
}

impl Candidate {
    /// The resource's id.
    pub fn id(&self) -> ResourceId {
        self.resource.id.unwrap_or_default()
    }
}

impl Decider for Booking {
    const TYPE: &'static str = "booking";
    type Command = BookingCommand;
    type Event = BookingEvent;
    type Context = BookingContext;

    fn decide(
        &self,
        command: &BookingCommand,
        context: &BookingContext,
    ) -> Result<Vec<BookingEvent>, DomainError> {
        decide::decide(self, command, context)
    }

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        if let Some(notes) = &mut self.notes {
            visit("notes", self.customer_id.into(), notes);
        }
    }

    fn apply(&mut self, event: &BookingEvent) {
        self.fold(event);
    }
}

impl_cqrs_aggregate!(Booking, BookingEvent);
