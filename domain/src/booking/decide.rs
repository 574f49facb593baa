//! The rules of a booking: one function per command.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    BookedTime, Booking, BookingCommand, BookingContext, BookingEvent, BookingStatus, BookingTaken,
    BookingTerms, Candidate, RequestedTime, SlotStart,
    place::{Ask, Timed, check_unit, price_of},
};
use crate::{
    BookingId, CustomerId, DomainError, OfferingId, Personal, ResourceId,
    interval::{Interval, Nights},
    money::Money,
    occupancy::Claim,
    offering::Offering,
    packing,
    text::Notes,
};

type Decision = Result<Vec<BookingEvent>, DomainError>;

/// More guests than this is a typing error.
const MOST_GUESTS: u32 = 10_000;

pub(super) fn decide(booking: &Booking, command: &BookingCommand, context: &BookingContext) -> Decision {
    if let BookingCommand::Book {
        offering_id,
        resource_id,
        unit,
        customer_id,
        when,
        guests,
        hold,
        notes,
        price_override,
    } = command
    {
        let order = Order {
            offering_id: *offering_id,
            resource_id: *resource_id,
            unit: *unit,
            customer_id: *customer_id,
            when,
            guests: *guests,
            hold: *hold,
            notes: notes.as_ref(),
            price_override: *price_override,
        };
        return if booking.id.is_none() {
            book(&order, context)
        } else {
            Err(DomainError::AlreadyExists { what: "booking".into() })
        };
    }
    let Some(id) = booking.id else { return Err(DomainError::not_found("booking")) };
    let existing = Existing { id, booking, status: booking.status_at(context.now), context };
    if let BookingCommand::ByGuest(_) = command {
        existing.guest_may(command.asked())?;
    }
    match command.asked() {
        BookingCommand::Book { .. } => Err(DomainError::AlreadyExists { what: "booking".into() }),
        BookingCommand::Confirm => existing.confirm(),
        BookingCommand::Reject => existing.reject(),
        BookingCommand::Cancel { waive_fee } => existing.cancel(*waive_fee),
        BookingCommand::Reschedule { when, resource_id } => existing.reschedule(when, *resource_id),
        BookingCommand::Reassign { resource_id, unit, unpin } => {
            existing.reassign(*resource_id, *unit, *unpin)
        }
        BookingCommand::CheckIn { unit } => existing.check_in(*unit),
        BookingCommand::CheckOut => existing.check_out(),
        BookingCommand::NoShow => existing.no_show(),
        BookingCommand::Expire => existing.expire(),
        // What is asked is never asked by a guest again.
        BookingCommand::ByGuest(_) => Err(forbidden("this is for the house")),
    }
}

fn forbidden(detail: &str) -> DomainError {
    DomainError::Forbidden { detail: detail.into() }
}

/// The fields of [`BookingCommand::Book`].
struct Order<'a> {
    offering_id: OfferingId,
    resource_id: Option<ResourceId>,
    unit: Option<u32>,
    customer_id: CustomerId,
    when: &'a RequestedTime,
    guests: u32,
    hold: bool,
    notes: Option<&'a Personal<Notes>>,
    price_override: Option<Money>,
}

fn book(order: &Order<'_>, context: &BookingContext) -> Decision {
    let offering = offering(context)?;
    if offering.archived {
        return Err(DomainError::wrong_state("archived", "the offering cannot be booked any more"));
    }
    let customer = context.customer.as_deref().filter(|customer| customer.id.is_some());
    customer.ok_or_else(|| DomainError::not_found("customer"))?.can_book()?;
    match order.guests {
        0 => return Err(DomainError::field("/guests", "guests_required", "at least one guest is required")),
        1..=MOST_GUESTS => {}
        _ => return Err(DomainError::field("/guests", "too_many_guests", "at most 10,000 guests")),
    }
    if let Some(resource_id) = order.resource_id {
        check_offered(offering, resource_id, context)?;
    }
    let offered = context.candidates.iter().filter(|candidate| {
        offering.resource_ids.contains(&candidate.id())
            && order.resource_id.is_none_or(|wanted| wanted == candidate.id())
    });
    let ask = Ask { unit: order.unit, ..Ask::new(context, offering, order.when) };
    let (candidate, timed) = ask.place(offered)?;
    let price = match order.price_override {
        Some(price) => price,
        None => price_of(offering, &timed.when)?,
    };
    let hold_expires_at =
        order.hold.then(|| context.now + TimeDelta::minutes(i64::from(offering.hold_minutes)));
    let taken = Box::new(BookingTaken {
        booking_id: context.id,
        customer_id: order.customer_id,
        offering_id: order.offering_id,
        terms: terms(candidate.id(), order.unit, timed, price),
        guests: order.guests,
        policy: offering.cancellation_policy.clone(),
        requires_approval: offering.requires_approval,
        hold_expires_at,
        notes: order.notes.cloned(),
    });
    Ok(vec![if order.hold {
        BookingEvent::Held(taken)
    } else if taken.requires_approval {
        BookingEvent::Requested(taken)
    } else {
        BookingEvent::Booked(taken)
    }])
}

fn offering(context: &BookingContext) -> Result<&Offering, DomainError> {
    context
        .offering
        .as_deref()
        .filter(|offering| offering.id.is_some())
        .ok_or_else(|| DomainError::not_found("offering"))
}

/// A resource named must be one of the offering's, and exist.
fn check_offered(
    offering: &Offering,
    resource_id: ResourceId,
    context: &BookingContext,
) -> Result<(), DomainError> {
    if !offering.resource_ids.contains(&resource_id) {
        let detail = "the offering is not available on this resource";
        return Err(DomainError::field("/resource_id", "resource_not_offered", detail));
    }
    context.candidate(resource_id).map(|_| ()).ok_or_else(|| DomainError::not_found("resource"))
}

fn terms(resource_id: ResourceId, unit: Option<u32>, timed: Timed, price: Money) -> BookingTerms {
    let Timed { when, during, occupies } = timed;
    BookingTerms { resource_id, unit, when, during, occupies, price }
}

/// A command on a booking that exists.
struct Existing<'a> {
    id: BookingId,
    booking: &'a Booking,
    /// With a hold that ran out counted as expired.
    status: BookingStatus,
    context: &'a BookingContext,
}

impl<'a> Existing<'a> {
    /// What guests may do to their own booking. They do not approve it, waive its fee, or move it out of reach of a fee
    /// or a no-show.
    fn guest_may(&self, command: &BookingCommand) -> Result<(), DomainError> {
        match command {
            BookingCommand::Confirm if self.status == BookingStatus::Pending => {
                Err(forbidden("the booking is for the house to confirm"))
            }
            BookingCommand::Cancel { waive_fee: true } => Err(forbidden("the fee is for the house to waive")),
            BookingCommand::Reschedule { .. } if self.status == BookingStatus::Confirmed => {
                let start = self.booking.during.start();
                if start <= self.context.now {
                    return Err(DomainError::wrong_state("begun", "the booking has begun; ask the house"));
                }
                match self.booking.policy.fee_percent_at(self.context.now, start) {
                    0 => Ok(()),
                    _ => Err(DomainError::wrong_state(
                        "fee_due",
                        "cancelling would cost by now, so moving is for the house to do",
                    )),
                }
            }
            BookingCommand::Confirm | BookingCommand::Cancel { .. } | BookingCommand::Reschedule { .. } => {
                Ok(())
            }
            _ => Err(forbidden("this is for the house")),
        }
    }

    fn confirm(&self) -> Decision {
        let resource_id = self.booking.resource_id;
        match self.status {
            BookingStatus::Held => {}
            BookingStatus::Pending => return Ok(vec![BookingEvent::Confirmed { resource_id }]),
            BookingStatus::Expired => self.compete_again()?,
            BookingStatus::Absent
            | BookingStatus::Confirmed
            | BookingStatus::CheckedIn
            | BookingStatus::Completed
            | BookingStatus::Cancelled
            | BookingStatus::Rejected
            | BookingStatus::NoShow => return self.refuse("confirmed"),
        }
        Ok(vec![if self.booking.requires_approval {
            BookingEvent::Submitted { resource_id }
        } else {
            BookingEvent::Confirmed { resource_id }
        }])
    }

    /// A hold that ran out lost its right, not its chance: it takes its own place again if nobody else has.
    fn compete_again(&self) -> Result<(), DomainError> {
        // Who is to be erased has no booking any more that could come back to life.
        if let Some(customer) = self.context.customer.as_deref().filter(|customer| customer.erasure.is_some())
        {
            customer.can_book()?;
        }
        let candidate = self.own_candidate()?;
        let over = self.context.enforce_window && self.booking.during.end() <= self.context.now;
        let claim = self.booking.firm_claim(self.id);
        let resource = &candidate.resource;
        if over
            || !resource.bookable()
            || !packing::fits(&candidate.occupancy, resource.capacity, &claim, self.context.now)
        {
            return Err(DomainError::HoldExpired);
        }
        Ok(())
    }

    fn reject(&self) -> Decision {
        match self.status {
            BookingStatus::Pending => Ok(vec![BookingEvent::Rejected]),
            _ => self.refuse("rejected"),
        }
    }

    fn cancel(&self, waived: bool) -> Decision {
        let Booking { price, policy, during, .. } = self.booking;
        let percent = match self.status {
            // Nothing was promised yet, so nothing is owed.
            BookingStatus::Held | BookingStatus::Pending => 0,
            BookingStatus::Confirmed => policy.fee_percent_at(self.context.now, during.start()),
            _ => return self.refuse("cancelled"),
        };
        if waived && self.context.reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            return Err(DomainError::ReasonRequired);
        }
        Ok(vec![BookingEvent::Cancelled { fee: price.percent(percent), waived }])
    }

    /// Releases the old place and takes the new in one decision. A pin stays, as somebody chose it: where
    /// that unit is not free at the new time the move is refused, unless it is to another resource. The price
    /// is that of the offering today, the cancellation policy the one agreed.
    fn reschedule(&self, when: &RequestedTime, resource_id: Option<ResourceId>) -> Decision {
        self.require(
            &[BookingStatus::Held, BookingStatus::Pending, BookingStatus::Confirmed],
            "rescheduled",
        )?;
        let own = self.booking.resource_id;
        let offering = offering(self.context)?;
        if let Some(resource_id) = resource_id.filter(|wanted| *wanted != own) {
            check_offered(offering, resource_id, self.context)?;
        }
        let wanted = resource_id.or(self.booking.unit.map(|_| own));
        let unit = self.booking.unit.filter(|_| wanted == Some(own));
        let (mine, others): (Vec<&Candidate>, Vec<&Candidate>) = self
            .context
            .candidates
            .iter()
            .filter(|candidate| wanted.is_none_or(|wanted| wanted == candidate.id()))
            .filter(|candidate| candidate.id() == own || offering.resource_ids.contains(&candidate.id()))
            .partition(|candidate| candidate.id() == own);
        let ask = Ask { unit, ..Ask::new(self.context, offering, when) };
        let (candidate, timed) = ask.place(mine.into_iter().chain(others))?;
        let price = price_of(offering, &timed.when)?;
        Ok(vec![BookingEvent::Rescheduled(Box::new(terms(candidate.id(), unit, timed, price)))])
    }

    /// Another place at the same time and price. A guest who is here keeps a unit: the one given, or a free
    /// one.
    fn reassign(&self, resource_id: Option<ResourceId>, unit: Option<u32>, unpin: bool) -> Decision {
        use BookingStatus::{CheckedIn, Confirmed, Held, Pending};
        self.require(&[Held, Pending, Confirmed, CheckedIn], "reassigned")?;
        if unpin && unit.is_some() {
            return Err(DomainError::field("/unpin", "conflicting", "give a unit or unpin it, not both"));
        }
        if resource_id.is_none() && unit.is_none() && !unpin {
            return Err(DomainError::field(
                "/unit",
                "required",
                "nothing to reassign: name a resource or a unit",
            ));
        }
        let here = self.status == CheckedIn;
        if here && unpin {
            return Err(DomainError::wrong_state("checked_in", "a guest who is here has a unit"));
        }
        let own = self.booking.resource_id;
        match resource_id.filter(|wanted| *wanted != own) {
            Some(other) => self.move_to(other, unit, here),
            None => {
                let candidate = self.own_candidate()?;
                let kept = if unpin { None } else { unit.or(self.booking.unit) };
                self.check_fits(candidate, kept)?;
                let Booking { when, during, occupies, price, .. } = self.booking;
                let timed = Timed { when: when.clone(), during: *during, occupies: *occupies };
                Ok(vec![BookingEvent::Reassigned(Box::new(terms(own, kept, timed, *price)))])
            }
        }
    }

    fn move_to(&self, other: ResourceId, unit: Option<u32>, here: bool) -> Decision {
        let offering = offering(self.context)?;
        check_offered(offering, other, self.context)?;
        // Only the place changes: the time was agreed already, and may have begun.
        let when = same_time(&self.booking.when);
        let mut fixed_length = offering.clone();
        fixed_length.terms.duration_minutes = None;
        let ask = Ask { unit, enforce_window: false, ..Ask::new(self.context, &fixed_length, &when) };
        let (candidate, timed) =
            ask.place(self.context.candidates.iter().filter(|candidate| candidate.id() == other))?;
        let unit = match unit {
            None if here => Some(self.free_unit(candidate, &timed.occupies)?),
            unit => unit,
        };
        Ok(vec![BookingEvent::Reassigned(Box::new(terms(other, unit, timed, self.booking.price)))])
    }

    fn check_in(&self, unit: Option<u32>) -> Decision {
        self.require(&[BookingStatus::Confirmed], "checked in")?;
        let Booking { when, during, occupies, .. } = self.booking;
        let zone = when.zone();
        let local_day = |at: DateTime<Utc>| at.with_timezone(&zone).date_naive();
        if self.context.enforce_window && local_day(self.context.now) < local_day(during.start()) {
            return Err(DomainError::wrong_state(
                "too_early",
                "check-in opens on the day the booking begins",
            ));
        }
        let candidate = self.own_candidate()?;
        let unit = match unit.or(self.booking.unit) {
            Some(unit) => {
                self.check_fits(candidate, Some(unit))?;
                unit
            }
            None => self.free_unit(candidate, occupies)?,
        };
        Ok(vec![BookingEvent::CheckedIn { unit }])
    }

    /// Check-out on date D of the resource's zone frees the nights from D on; an appointment is used until it
    /// is left. The buffer after (cleaning) follows whatever was used.
    fn check_out(&self) -> Decision {
        self.require(&[BookingStatus::CheckedIn], "checked out")?;
        let Booking { when, during, occupies, .. } = self.booking;
        let ended_at = self.context.now.min(during.end());
        let stayed_until = match when {
            BookedTime::Nights { nights, zone } => {
                let today = ended_at.with_timezone(zone).date_naive();
                let kept = Nights::new(nights.check_in(), today.min(nights.check_out())).ok();
                kept.map(|kept| kept.to_interval(*zone).end())
            }
            BookedTime::Slot { .. } => Some(ended_at).filter(|end| *end > during.start()),
        };
        let buffer = occupies.end() - during.end();
        let used = stayed_until.map(|end| Interval::new(occupies.start(), end + buffer)).transpose()?;
        Ok(vec![BookingEvent::CheckedOut { ended_at, used }])
    }

    fn no_show(&self) -> Decision {
        self.require(&[BookingStatus::Confirmed], "marked as no-show")?;
        if self.context.enforce_window && self.context.now < self.booking.during.start() {
            return Err(DomainError::wrong_state("too_early", "the booking has not begun yet"));
        }
        Ok(vec![BookingEvent::NoShow])
    }

    fn expire(&self) -> Decision {
        match (self.booking.status, self.status) {
            (BookingStatus::Held, BookingStatus::Expired) => Ok(vec![BookingEvent::Expired]),
            (BookingStatus::Held, _) => Err(DomainError::wrong_state("held", "the hold has not run out yet")),
            _ => self.refuse("expired"),
        }
    }

    fn own_candidate(&self) -> Result<&'a Candidate, DomainError> {
        self.context.candidate(self.booking.resource_id).ok_or_else(|| DomainError::not_found("resource"))
    }

    fn check_fits(&self, candidate: &Candidate, unit: Option<u32>) -> Result<(), DomainError> {
        check_unit(unit, candidate.resource.capacity)?;
        let claim = Claim { unit, ..self.booking.firm_claim(self.id) };
        if packing::fits(&candidate.occupancy, candidate.resource.capacity, &claim, self.context.now) {
            Ok(())
        } else {
            Err(DomainError::SlotTaken)
        }
    }

    fn free_unit(&self, candidate: &Candidate, occupies: &Interval) -> Result<u32, DomainError> {
        let Candidate { resource, occupancy, .. } = candidate;
        packing::free_unit(occupancy, resource.capacity, occupies, self.id, self.context.now)
            .ok_or(DomainError::SlotTaken)
    }

    fn require(&self, allowed: &[BookingStatus], done: &str) -> Result<(), DomainError> {
        if allowed.contains(&self.status) { Ok(()) } else { self.refuse(done) }
    }

    fn refuse<T>(&self, done: &str) -> Result<T, DomainError> {
        let state = self.status.as_str();
        let spoken = state.replace('_', " ");
        Err(DomainError::wrong_state(state, &format!("a booking that is {spoken} cannot be {done}")))
    }
}

/// A request for the time a booking has already.
fn same_time(when: &BookedTime) -> RequestedTime {
    match when {
        BookedTime::Nights { nights, .. } => RequestedTime::Nights(*nights),
        BookedTime::Slot { interval, .. } => RequestedTime::Slot {
            start: SlotStart::Instant(interval.start().fixed_offset()),
            ends_at: Some(interval.end()),
        },
    }
}
