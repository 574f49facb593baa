//! Taking a place.

use serde_json::Value;

use super::*;
use crate::{
    Event as _, Notes, Personal,
    diff::{Change, diff},
    personal::revealing,
};

#[test]
fn a_stay_is_confirmed_at_once_with_all_that_is_agreed() {
    let event = event(context(), vec![], book(week()));
    assert!(matches!(event, BookingEvent::Booked(_)));
    let taken = taken(&event);
    assert_eq!(taken.booking_id, booking_id(1));
    assert_eq!(taken.terms.price, euros(70_000));
    assert_eq!(taken.terms.resource_id, resource_id(1));
    assert_eq!(taken.terms.unit, None);
    assert_eq!(taken.terms.during.start(), instant("2026-06-30T22:00:00Z"));
    let (resource, claim) = folded(&[event]).claim().unwrap();
    assert_eq!((resource, claim.expires_at), (resource_id(1), None));
}

#[test]
fn a_hold_expires_and_an_offering_with_approval_leaves_it_pending() {
    let held = folded(&held());
    assert_eq!(held.status, BookingStatus::Held);
    let expiry = instant("2026-06-01T08:15:00Z");
    assert_eq!(held.claim().unwrap().1.expires_at, Some(expiry));
    assert_eq!(held.status_at(expiry), BookingStatus::Expired);
    let pending = folded(&pending());
    assert_eq!(pending.status, BookingStatus::Pending);
    assert!(pending.claim().is_some());
}

#[test]
fn a_pool_takes_k_and_no_more() {
    let one = claim(7, "2026-07-01", "2026-07-05", None);
    let other = claim(8, "2026-07-05", "2026-07-09", None);
    let third = claim(9, "2026-07-04", "2026-07-06", None);
    let with = |claims: &[Claim]| context_with(stay_offering(), vec![candidate(1, 2, claims)]);
    assert!(decided(with(&[one, other]), vec![], book(week())).is_ok());
    assert_eq!(refused(with(&[one, other, third]), vec![], book(week())), DomainError::SlotTaken);
}

#[test]
fn the_next_resource_is_tried_when_one_is_taken() {
    let full = candidate(1, 1, &[claim(7, "2026-07-01", "2026-07-05", None)]);
    let context = context_with(stay_offering(), vec![full, candidate(2, 1, &[])]);
    let event = event(context.clone(), vec![], book(week()));
    assert_eq!(taken(&event).terms.resource_id, resource_id(2));
    let only_the_first = book_with!(week(), resource_id: Some(resource_id(1)));
    assert_eq!(refused(context, vec![], only_the_first), DomainError::SlotTaken);
}

#[test]
fn a_lapsed_hold_does_not_stand_in_the_way() {
    let lapsed = Claim {
        expires_at: Some(instant("2026-06-01T08:00:00Z")),
        ..claim(7, "2026-07-01", "2026-07-05", None)
    };
    let context = context_with(stay_offering(), vec![candidate(1, 1, &[lapsed])]);
    assert!(decided(context, vec![], book(week())).is_ok());
}

#[test]
fn a_unit_chosen_is_pinned_and_must_exist_and_be_free() {
    let pinned = claim(7, "2026-07-01", "2026-07-05", Some(2));
    let context = context_with(stay_offering(), vec![candidate(1, 2, &[pinned])]);
    let on = |unit| book_with!(week(), unit: Some(unit));
    assert_eq!(taken(&event(context.clone(), vec![], on(1))).terms.unit, Some(1));
    assert_eq!(refused(context.clone(), vec![], on(2)), DomainError::SlotTaken);
    assert_eq!(code(&refused(context.clone(), vec![], on(3))), "no_such_unit");
    assert_eq!(code(&refused(context, vec![], on(0))), "no_such_unit");
}

#[test]
fn what_does_not_exist_or_is_archived_is_not_booked() {
    let unknown = |what: &str| DomainError::not_found(what);
    let none = BookingContext { offering: None, ..context() };
    assert_eq!(refused(none, vec![], book(week())), unknown("offering"));
    let none = BookingContext { customer: None, ..context() };
    assert_eq!(refused(none, vec![], book(week())), unknown("customer"));
    let gone = Customer { archived: true, ..(*context().customer.unwrap()).clone() };
    let none = BookingContext { customer: Some(Arc::new(gone)), ..context() };
    assert_eq!(code(&refused(none, vec![], book(week()))), "archived");
    let archived = context_with(Offering { archived: true, ..stay_offering() }, vec![candidate(1, 2, &[])]);
    assert_eq!(code(&refused(archived, vec![], book(week()))), "archived");
    let mut closed_down = candidate(1, 2, &[]);
    closed_down.resource = Arc::new(Resource { archived: true, ..(*closed_down.resource).clone() });
    let context = context_with(stay_offering(), vec![closed_down]);
    assert_eq!(code(&refused(context.clone(), vec![], book(week()))), "archived");
    let elsewhere = book_with!(week(), resource_id: Some(resource_id(9)));
    assert_eq!(code(&refused(context.clone(), vec![], elsewhere)), "resource_not_offered");
    let missing = book_with!(week(), resource_id: Some(resource_id(2)));
    assert_eq!(refused(context, vec![], missing), unknown("resource"));
    assert!(matches!(refused(super::context(), booked(), book(week())), DomainError::AlreadyExists { .. }));
}

#[test]
fn guests_are_counted() {
    assert_eq!(code(&refused(context(), vec![], book_with!(week(), guests: 0))), "guests_required");
    assert_eq!(code(&refused(context(), vec![], book_with!(week(), guests: 10_001))), "too_many_guests");
    assert!(decided(context(), vec![], book_with!(week(), guests: 10_000)).is_ok());
}

#[test]
fn the_time_must_be_of_the_offerings_kind() {
    let slots = context_with(slot_offering(), vec![candidate(1, 1, &[])]);
    assert_eq!(code(&refused(context(), vec![], book(slot("2026-07-01T10:00:00Z")))), "nights_required");
    assert_eq!(code(&refused(slots, vec![], book(week()))), "slot_required");
}

#[test]
fn a_slot_takes_its_duration_and_its_buffers() {
    let slots = context_with(slot_offering(), vec![candidate(1, 1, &[])]);
    let first = event(slots, vec![], book(slot("2026-07-01T10:00:00+02:00")));
    let terms = &taken(&first).terms;
    assert_eq!(terms.price, euros(5_000));
    assert_eq!(terms.during.end(), instant("2026-07-01T09:00:00Z"));
    assert_eq!(terms.occupies.end(), instant("2026-07-01T09:10:00Z"));
    let BookedTime::Slot { local_start, zone, .. } = &terms.when else { panic!("not a slot") };
    assert_eq!((local_start.to_string().as_str(), *zone), ("2026-07-01 10:00:00", ZONE));

    let busy = Claim { booking_id: booking_id(7), ..folded(&[first]).claim().unwrap().1 };
    let slots = context_with(slot_offering(), vec![candidate(1, 1, &[busy])]);
    assert_eq!(refused(slots.clone(), vec![], book(slot("2026-07-01T09:05:00Z"))), DomainError::SlotTaken);
    assert!(decided(slots, vec![], book(slot("2026-07-01T09:10:00Z"))).is_ok());
}

#[test]
fn the_end_of_a_slot_is_the_durations_or_given() {
    let slots = |offering| context_with(offering, vec![candidate(1, 1, &[])]);
    let ending = |end: Option<&str>| {
        book(RequestedTime::Slot {
            start: SlotStart::Instant("2026-07-01T10:00:00Z".parse().unwrap()),
            ends_at: end.map(instant),
        })
    };
    let wrong = refused(slots(slot_offering()), vec![], ending(Some("2026-07-01T12:00:00Z")));
    assert_eq!(code(&wrong), "duration_mismatch");
    assert!(decided(slots(slot_offering()), vec![], ending(Some("2026-07-01T11:00:00Z"))).is_ok());
    let open = || slots(offered(OfferingTerms { duration_minutes: None, ..slot_terms() }));
    assert_eq!(code(&refused(open(), vec![], ending(None))), "required");
    assert_eq!(code(&refused(open(), vec![], ending(Some("2026-07-01T09:00:00Z")))), "interval_reversed");
    assert_eq!(code(&refused(open(), vec![], ending(Some("2026-09-01T09:00:00Z")))), "too_long");
    assert!(decided(open(), vec![], ending(Some("2026-07-02T09:00:00Z"))).is_ok());
}

#[test]
fn a_local_time_in_a_gap_means_nothing_and_in_a_fold_the_first() {
    let slots = || context_with(slot_offering(), vec![candidate(1, 1, &[])]);
    let local = |text: &str| {
        book(RequestedTime::Slot { start: SlotStart::Local(text.parse().unwrap()), ends_at: None })
    };
    assert_eq!(code(&refused(slots(), vec![], local("2027-03-28T02:30:00"))), "time_in_gap");
    let event = event(slots(), vec![], local("2026-10-25T02:30:00"));
    assert_eq!(taken(&event).terms.during.start(), instant("2026-10-25T00:30:00Z"));
}

#[test]
fn the_day_of_arrival_is_bookable_to_its_end() {
    let tonight = || book(nights("2026-06-01", "2026-06-02"));
    assert!(decided(at("2026-06-01T21:59:59Z", context()), vec![], tonight()).is_ok());
    assert_eq!(code(&refused(at("2026-06-01T22:00:00Z", context()), vec![], tonight())), "in_the_past");
    let imported = BookingContext { enforce_window: false, ..at("2027-01-01T00:00:00Z", context()) };
    assert!(decided(imported, vec![], tonight()).is_ok());
}

#[test]
fn notice_and_advance_are_kept() {
    let notice = offered(OfferingTerms { min_notice_minutes: 24 * 60, ..stay_terms() });
    let context = || context_with(notice.clone(), vec![candidate(1, 2, &[])]);
    assert_eq!(code(&refused(context(), vec![], book(nights("2026-06-02", "2026-06-03")))), "too_soon");
    assert!(decided(context(), vec![], book(nights("2026-06-03", "2026-06-04"))).is_ok());
    let advance = offered(OfferingTerms { max_advance_days: Some(30), ..stay_terms() });
    let context = context_with(advance, vec![candidate(1, 2, &[])]);
    assert_eq!(
        code(&refused(context.clone(), vec![], book(nights("2026-07-02", "2026-07-03")))),
        "too_far_ahead"
    );
    assert!(decided(context, vec![], book(nights("2026-07-01", "2026-07-03"))).is_ok());
    let slots = context_with(slot_offering(), vec![candidate(1, 1, &[])]);
    assert_eq!(code(&refused(slots, vec![], book(slot("2026-06-01T07:59:59Z")))), "in_the_past");
}

#[test]
fn a_price_agreed_wins_and_one_too_large_is_refused() {
    let agreed = book_with!(week(), price_override: Some(euros(1)));
    assert_eq!(taken(&event(context(), vec![], agreed)).terms.price, euros(1));
    let dear = offered(OfferingTerms { price: euros(i64::MAX), ..stay_terms() });
    let context = context_with(dear, vec![candidate(1, 2, &[])]);
    assert_eq!(code(&refused(context, vec![], book(week()))), "price_overflow");
}

#[test]
fn notes_are_personal() {
    let notes = serde_json::from_str::<crate::text::Notes>("\"allergic to cats\"").unwrap();
    let mut event = event(context(), vec![], book_with!(week(), notes: Some(crate::Personal::new(notes))));
    assert!(!serde_json::to_string(&event).unwrap().contains("cats"));
    let mut seen = Vec::new();
    crate::Event::visit_personal(&mut event, &mut |field, subject, _| seen.push((field, subject)));
    assert_eq!(seen, vec![("notes", customer_id().into())]);
}

#[test]
fn events_round_trip_under_their_names() {
    let all = [booked(), held(), pending()].concat();
    for event in all {
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], crate::Event::type_name(&event));
        assert_eq!(json["price"]["amount"], "70000");
        assert_eq!(serde_json::from_value::<BookingEvent>(json).unwrap(), event);
    }
    let state = folded(&booked());
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<Booking>(&text).unwrap(), state);
    assert_eq!(Booking::default().claim(), None);
}

#[test]
fn a_closed_schedule_is_not_booked_and_says_which_rule_closes_it() {
    let rules = r#"{"weekly": [], "seasons": [], "exceptions": [], "blocks":
        [{"from": "2026-07-03T12:00:00", "until": "2026-07-04T12:00:00", "note": "pipes"}]}"#;
    let schedule = Schedule { rules: serde_json::from_str(rules).unwrap(), ..Schedule::default() };
    let shut = Candidate { schedule: Some(Arc::new(schedule)), ..candidate(1, 2, &[]) };
    let context = context_with(stay_offering(), vec![shut.clone()]);
    let closed = DomainError::Closed { rule: crate::schedule::ClosedBy::Block, date: date("2026-07-03") };
    assert_eq!(refused(context.clone(), vec![], book(week())), closed);
    assert!(decided(context, vec![], book(nights("2026-07-05", "2026-07-08"))).is_ok());
    let slots = context_with(slot_offering(), vec![shut]);
    assert_eq!(code(&refused(slots.clone(), vec![], book(slot("2026-07-03T09:30:00Z")))), "closed");
    assert!(decided(slots, vec![], book(slot("2026-07-03T09:00:00Z"))).is_ok());
}

#[test]
fn what_is_personal_of_a_booking_is_known_by_its_path() {
    let BookingTaken {
        booking_id,
        customer_id,
        offering_id,
        terms,
        guests,
        policy,
        requires_approval,
        hold_expires_at,
        notes: _,
    } = taken(&booked()[0]).clone();
    // In full: whoever adds a personal field fills it here.
    let taken = BookingTaken {
        booking_id,
        customer_id,
        offering_id,
        terms,
        guests,
        policy,
        requires_approval,
        hold_expires_at,
        notes: Some(Personal::new(Notes::new("canary-notes", "").unwrap())),
    };
    let mut event = BookingEvent::Booked(Box::new(taken));
    let mut visited = Vec::new();
    event.visit_personal(&mut |field, _, _| visited.push(format!("/{field}")));
    let before = serde_json::Value::Object(serde_json::Map::new());
    let after = revealing(|| serde_json::to_value(folded(&[event])).unwrap());
    let changes = diff(&before, &after);
    let holding = |change: &&Change<&Value>| change.new.to_string().contains("canary");
    let (personal, open): (Vec<&Change<&Value>>, Vec<&Change<&Value>>) = changes.iter().partition(holding);
    assert_eq!(
        personal.iter().map(|change| &change.path).collect::<Vec<_>>(),
        visited.iter().collect::<Vec<_>>()
    );
    assert!(personal.iter().all(|change| is_personal(&change.path)));
    assert!(!open.is_empty() && open.iter().all(|change| !is_personal(&change.path)));
    // A part of one, and what holds one.
    assert!(is_personal("/notes/$personal") && is_personal("") && !is_personal("/notes_of_nobody"));
}
