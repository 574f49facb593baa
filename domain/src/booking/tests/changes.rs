//! What becomes of a booking once it is taken.

use super::*;
use crate::offering::CancellationPolicy;

fn checked_in() -> Vec<BookingEvent> {
    let mut events = booked();
    events.push(event(on_arrival(), booked(), BookingCommand::CheckIn { unit: None }));
    events
}

fn on_arrival() -> BookingContext {
    at("2026-07-01T13:00:00Z", context())
}

fn after(mut given: Vec<BookingEvent>, more: BookingEvent) -> Vec<BookingEvent> {
    given.push(more);
    given
}

fn cancel() -> BookingCommand {
    BookingCommand::Cancel { waive_fee: false }
}

fn reschedule(when: RequestedTime) -> BookingCommand {
    BookingCommand::Reschedule { when, resource_id: None }
}

fn reassign(resource: Option<u128>, unit: Option<u32>, unpin: bool) -> BookingCommand {
    BookingCommand::Reassign { resource_id: resource.map(resource_id), unit, unpin }
}

#[test]
fn nothing_happens_to_a_booking_that_does_not_exist() {
    for command in [BookingCommand::Confirm, cancel(), BookingCommand::CheckOut, BookingCommand::Expire] {
        assert_eq!(refused(context(), vec![], command), DomainError::not_found("booking"));
    }
}

#[test]
fn a_hold_is_confirmed_or_submitted_for_approval() {
    let confirmed = BookingEvent::Confirmed { resource_id: resource_id(1) };
    assert_eq!(event(context(), held(), BookingCommand::Confirm), confirmed);
    let hold = vec![event(with_approval(), vec![], book_with!(week(), hold: true))];
    let submitted = event(with_approval(), hold.clone(), BookingCommand::Confirm);
    assert_eq!(submitted, BookingEvent::Submitted { resource_id: resource_id(1) });
    let submitted = after(hold, submitted);
    assert_eq!(folded(&submitted).claim().unwrap().1.expires_at, None);
    assert_eq!(event(context(), submitted, BookingCommand::Confirm), confirmed);
    assert_eq!(code(&refused(context(), booked(), BookingCommand::Confirm)), "confirmed");
}

#[test]
fn a_late_confirm_competes_again() {
    let free = || at("2026-06-01T08:15:00Z", context());
    let expired = after(held(), event(free(), held(), BookingCommand::Expire));
    assert_eq!(folded(&expired).claim(), None);
    for given in [held(), expired] {
        let again = event(free(), given.clone(), BookingCommand::Confirm);
        let booking = folded(&after(given.clone(), again));
        assert_eq!(booking.status, BookingStatus::Confirmed);
        assert!(booking.claim().unwrap().1.expires_at.is_none());
        let full = vec![candidate(1, 1, &[claim(7, "2026-07-02", "2026-07-03", None)])];
        let full = BookingContext { candidates: full, ..free() };
        assert_eq!(refused(full, given.clone(), BookingCommand::Confirm), DomainError::HoldExpired);
        let over = at("2026-08-01T00:00:00Z", context());
        assert_eq!(refused(over, given, BookingCommand::Confirm), DomainError::HoldExpired);
    }
}

#[test]
fn only_a_hold_that_ran_out_expires() {
    assert_eq!(code(&refused(context(), held(), BookingCommand::Expire)), "held");
    let late = || at("2026-06-01T08:15:00Z", context());
    let expired = after(held(), event(late(), held(), BookingCommand::Expire));
    assert_eq!(code(&refused(late(), expired, BookingCommand::Expire)), "expired");
    assert_eq!(code(&refused(late(), booked(), BookingCommand::Expire)), "confirmed");
    assert_eq!(code(&refused(late(), held(), cancel())), "expired");
}

#[test]
fn only_a_pending_booking_is_rejected() {
    assert_eq!(event(context(), pending(), BookingCommand::Reject), BookingEvent::Rejected);
    assert_eq!(folded(&after(pending(), BookingEvent::Rejected)).claim(), None);
    assert_eq!(code(&refused(context(), booked(), BookingCommand::Reject)), "confirmed");
    assert_eq!(code(&refused(context(), held(), BookingCommand::Reject)), "held");
}

/// Half the price from a week before on, as agreed on 1 June.
fn strict() -> BookingContext {
    let policy = serde_json::from_str::<CancellationPolicy>(
        r#"{"tiers": [{"hours_before": 168, "fee_percent": 50}]}"#,
    );
    let offering = offered(OfferingTerms { cancellation_policy: policy.unwrap(), ..stay_terms() });
    context_with(offering, vec![candidate(1, 2, &[])])
}

#[test]
fn cancelling_costs_what_was_agreed() {
    let given = || vec![event(strict(), vec![], book(week()))];
    let early = event(context(), given(), cancel());
    assert_eq!(early, BookingEvent::Cancelled { fee: euros(0), waived: false });
    assert_eq!(folded(&after(given(), early)).fee, None);
    let late = event(at("2026-06-29T08:00:00Z", context()), given(), cancel());
    assert_eq!(late, BookingEvent::Cancelled { fee: euros(35_000), waived: false });
    let booking = folded(&after(given(), late));
    assert_eq!((booking.fee, booking.claim()), (Some(euros(35_000)), None));
}

#[test]
fn guests_move_their_booking_only_while_that_is_free() {
    let by_guest = |command| BookingCommand::ByGuest(Box::new(command));
    let moved = || by_guest(reschedule(nights("2026-08-01", "2026-08-02")));
    let given = || vec![event(strict(), vec![], book(week()))];
    let at = |now| at(now, strict());
    assert!(matches!(event(at("2026-06-20T08:00:00Z"), given(), moved()), BookingEvent::Rescheduled(_)));
    assert_eq!(code(&refused(at("2026-06-29T08:00:00Z"), given(), moved())), "fee_due");
    assert_eq!(code(&refused(at("2026-07-02T08:00:00Z"), given(), moved())), "begun");
    let house = reschedule(nights("2026-08-01", "2026-08-02"));
    assert!(matches!(event(at("2026-06-29T08:00:00Z"), given(), house), BookingEvent::Rescheduled(_)));
    let late = event(at("2026-06-29T08:00:00Z"), given(), by_guest(cancel()));
    assert_eq!(late, BookingEvent::Cancelled { fee: euros(35_000), waived: false });
}

#[test]
fn guests_neither_approve_nor_waive_nor_do_the_work_of_the_house() {
    let by_guest = |command| BookingCommand::ByGuest(Box::new(command));
    let forbidden = |error| matches!(error, DomainError::Forbidden { .. });
    let hold = vec![event(with_approval(), vec![], book_with!(week(), hold: true))];
    let submitted = event(with_approval(), hold.clone(), by_guest(BookingCommand::Confirm));
    assert_eq!(submitted, BookingEvent::Submitted { resource_id: resource_id(1) });
    assert!(forbidden(refused(context(), after(hold, submitted), by_guest(BookingCommand::Confirm))));
    let waive = BookingCommand::Cancel { waive_fee: true };
    for command in [waive, reassign(None, Some(1), false), BookingCommand::CheckIn { unit: None }] {
        assert!(forbidden(refused(on_arrival(), booked(), by_guest(command))));
    }
    let twice = by_guest(by_guest(BookingCommand::NoShow));
    assert!(forbidden(refused(on_arrival(), booked(), twice)));
}

#[test]
fn holds_and_requests_are_cancelled_for_free() {
    let free = BookingEvent::Cancelled { fee: euros(0), waived: false };
    assert_eq!(event(context(), held(), cancel()), free);
    let offering =
        offered(OfferingTerms { requires_approval: true, ..strict().offering.unwrap().terms.clone() });
    let given = vec![event(context_with(offering, vec![candidate(1, 2, &[])]), vec![], book(week()))];
    assert_eq!(event(at("2026-06-30T08:00:00Z", context()), given, cancel()), free);
}

#[test]
fn waiving_a_fee_needs_a_reason() {
    let given = || vec![event(strict(), vec![], book(week()))];
    let waive = BookingCommand::Cancel { waive_fee: true };
    let late = || at("2026-06-30T08:00:00Z", context());
    assert_eq!(refused(late(), given(), waive.clone()), DomainError::ReasonRequired);
    let blank = BookingContext { reason: Some(" ".into()), ..late() };
    assert_eq!(refused(blank, given(), waive.clone()), DomainError::ReasonRequired);
    let explained = BookingContext { reason: Some("storm".into()), ..late() };
    let event = event(explained, given(), waive);
    assert_eq!(event, BookingEvent::Cancelled { fee: euros(35_000), waived: true });
    assert_eq!(folded(&after(given(), event)).fee, None);
}

#[test]
fn cancelling_twice_is_refused() {
    let cancelled = after(booked(), event(context(), booked(), cancel()));
    assert_eq!(code(&refused(context(), cancelled, cancel())), "cancelled");
    assert_eq!(code(&refused(context(), checked_in(), cancel())), "checked_in");
}

#[test]
fn a_booking_may_move_over_its_own_old_time() {
    let own = claim(1, "2026-07-01", "2026-07-08", None);
    let full = |claims: &[Claim]| context_with(stay_offering(), vec![candidate(1, 1, claims)]);
    let later = || reschedule(nights("2026-07-04", "2026-07-10"));
    let event = event(full(&[own]), booked(), later());
    let booking = folded(&after(booked(), event));
    assert_eq!((booking.price, booking.status), (euros(60_000), BookingStatus::Confirmed));
    assert_eq!(booking.claim().unwrap().1.during, claim(1, "2026-07-04", "2026-07-10", None).during);
    let other = claim(7, "2026-07-09", "2026-07-12", None);
    assert_eq!(refused(full(&[own, other]), booked(), later()), DomainError::SlotTaken);
}

#[test]
fn a_booking_moves_to_another_resource_only_if_it_must() {
    let full = candidate(1, 1, &[claim(7, "2026-07-10", "2026-07-12", None)]);
    let context = context_with(stay_offering(), vec![candidate(2, 1, &[]), full]);
    let moved = |to: &str, until: &str| match event(context.clone(), booked(), reschedule(nights(to, until)))
    {
        BookingEvent::Rescheduled(terms) => terms.resource_id,
        other => panic!("{other:?}"),
    };
    assert_eq!(moved("2026-07-02", "2026-07-09"), resource_id(1));
    assert_eq!(moved("2026-07-10", "2026-07-11"), resource_id(2));
    let elsewhere = BookingCommand::Reschedule { when: week(), resource_id: Some(resource_id(9)) };
    assert_eq!(code(&refused(context, booked(), elsewhere)), "resource_not_offered");
}

#[test]
fn a_pin_stays_with_a_booking_that_moves() {
    let given = || vec![event(context(), vec![], book_with!(week(), unit: Some(2)))];
    let taken = claim(7, "2026-07-10", "2026-07-12", Some(2));
    let context = || context_with(stay_offering(), vec![candidate(1, 2, &[taken]), candidate(2, 1, &[])]);
    let over = reschedule(nights("2026-07-10", "2026-07-11"));
    assert_eq!(refused(context(), given(), over), DomainError::SlotTaken);
    let event = event(context(), given(), reschedule(nights("2026-07-12", "2026-07-13")));
    assert_eq!(folded(&after(given(), event)).unit, Some(2));
}

#[test]
fn staff_pin_move_and_unpin() {
    let taken = claim(7, "2026-07-03", "2026-07-05", Some(2));
    let context = || context_with(stay_offering(), vec![candidate(1, 2, &[taken]), candidate(2, 1, &[])]);
    let pinned = after(booked(), event(context(), booked(), reassign(None, Some(1), false)));
    assert_eq!(folded(&pinned).unit, Some(1));
    assert_eq!(refused(context(), booked(), reassign(None, Some(2), false)), DomainError::SlotTaken);
    let unpinned = after(pinned.clone(), event(context(), pinned.clone(), reassign(None, None, true)));
    assert_eq!(folded(&unpinned).unit, None);
    let moved =
        folded(&after(pinned.clone(), event(context(), pinned.clone(), reassign(Some(2), None, false))));
    assert_eq!((moved.resource_id, moved.unit, moved.price), (resource_id(2), None, euros(70_000)));
    assert_eq!(code(&refused(context(), pinned.clone(), reassign(None, Some(1), true))), "conflicting");
    assert_eq!(code(&refused(context(), pinned.clone(), reassign(None, None, false))), "required");
    assert_eq!(code(&refused(context(), pinned, reassign(None, Some(3), false))), "no_such_unit");
}

#[test]
fn a_guest_who_is_here_moves_from_unit_to_unit() {
    let context = || {
        let context = context_with(stay_offering(), vec![candidate(1, 2, &[]), candidate(2, 1, &[])]);
        at("2026-07-03T08:00:00Z", context)
    };
    let moved = event(context(), checked_in(), reassign(Some(2), None, false));
    assert_eq!(folded(&after(checked_in(), moved)).unit, Some(1));
    assert_eq!(code(&refused(context(), checked_in(), reassign(None, None, true))), "checked_in");
}

#[test]
fn check_in_gives_the_lowest_unit_that_leaves_all_others_possible() {
    let pinned = claim(7, "2026-07-05", "2026-07-09", Some(1));
    let context =
        || at("2026-07-01T13:00:00Z", context_with(stay_offering(), vec![candidate(1, 2, &[pinned])]));
    let given = |unit| BookingCommand::CheckIn { unit };
    assert_eq!(event(context(), booked(), given(None)), BookingEvent::CheckedIn { unit: 2 });
    assert_eq!(refused(context(), booked(), given(Some(1))), DomainError::SlotTaken);
    assert_eq!(code(&refused(context(), booked(), given(Some(5)))), "no_such_unit");
    assert_eq!(code(&refused(context(), pending(), given(None))), "pending");
}

#[test]
fn check_in_opens_on_the_day_of_arrival() {
    let check_in = || BookingCommand::CheckIn { unit: None };
    let eve = || at("2026-06-30T21:59:59Z", context());
    assert_eq!(code(&refused(eve(), booked(), check_in())), "too_early");
    assert!(decided(at("2026-06-30T22:00:00Z", context()), booked(), check_in()).is_ok());
    let imported = BookingContext { enforce_window: false, ..eve() };
    assert!(decided(imported, booked(), check_in()).is_ok());
}

#[test]
fn early_check_out_frees_the_nights_not_used() {
    let used_until = |now: &str| {
        let event = event(at(now, context()), checked_in(), BookingCommand::CheckOut);
        let booking = folded(&after(checked_in(), event));
        assert_eq!(booking.status, BookingStatus::Completed);
        (booking.ended_at.unwrap(), booking.claim().map(|(_, claim)| claim.during))
    };
    let nights = |until| Some(claim(1, "2026-07-01", until, None).during);
    assert_eq!(used_until("2026-07-03T09:00:00Z"), (instant("2026-07-03T09:00:00Z"), nights("2026-07-03")));
    assert_eq!(used_until("2026-07-20T09:00:00Z"), (instant("2026-07-07T22:00:00Z"), nights("2026-07-08")));
    assert_eq!(used_until("2026-07-01T14:00:00Z"), (instant("2026-07-01T14:00:00Z"), None));
    assert_eq!(code(&refused(context(), booked(), BookingCommand::CheckOut)), "confirmed");
}

#[test]
fn an_appointment_left_early_keeps_its_cleaning() {
    let slots = |now| at(now, context_with(slot_offering(), vec![candidate(1, 1, &[])]));
    let booked = vec![event(slots("2026-06-01T08:00:00Z"), vec![], book(slot("2026-06-01T10:00:00Z")))];
    let check_in = BookingCommand::CheckIn { unit: None };
    let here = after(booked.clone(), event(slots("2026-06-01T10:00:00Z"), booked, check_in));
    let out = event(slots("2026-06-01T10:30:00Z"), here.clone(), BookingCommand::CheckOut);
    let used = folded(&after(here, out)).used.unwrap();
    let (from, to) = (instant("2026-06-01T10:00:00Z"), instant("2026-06-01T10:40:00Z"));
    assert_eq!(used, Interval::new(from, to).unwrap());
}

#[test]
fn a_guest_who_does_not_come_frees_the_place() {
    assert_eq!(code(&refused(context(), booked(), BookingCommand::NoShow)), "too_early");
    let event = event(on_arrival(), booked(), BookingCommand::NoShow);
    assert_eq!(event, BookingEvent::NoShow);
    assert_eq!(folded(&after(booked(), event)).claim(), None);
    assert_eq!(code(&refused(on_arrival(), checked_in(), BookingCommand::NoShow)), "checked_in");
}
