use std::sync::Arc;

use super::*;
use crate::{
    booking::tests::{
        ZONE, booking_id, candidate, claim, date, instant, nights, resource_id, slot, slot_offering,
        stay_offering,
    },
    packing::fits,
    schedule::{ClosedBy, Schedule},
};

fn now() -> DateTime<Utc> {
    instant("2026-06-01T08:00:00Z")
}

fn stay(from: &str, to: &str) -> Nights {
    Nights::new(date(from), date(to)).unwrap()
}

fn dates(alternative: &Alternative) -> (ResourceId, String) {
    match &alternative.when {
        BookedTime::Nights { nights, .. } => (alternative.resource_id, nights.check_in().to_string()),
        BookedTime::Slot { local_start, .. } => (alternative.resource_id, local_start.to_string()),
    }
}

#[test]
fn units_are_free_where_no_booking_overlaps() {
    let pool = candidate(1, 3, &[claim(7, "2026-07-01", "2026-07-03", None)]);
    let free = |from, to| {
        free_units(&pool.occupancy, 3, &stay(from, to).to_interval(pool.resource.time_zone), now())
    };
    assert_eq!((free("2026-07-02", "2026-07-04"), free("2026-07-03", "2026-07-04")), (2, 3));
}

#[test]
fn the_same_stay_elsewhere_comes_before_another_date() {
    let full = candidate(1, 1, &[claim(7, "2026-07-01", "2026-07-08", None)]);
    let offering = stay_offering();
    let wanted = nights("2026-07-02", "2026-07-04");
    let found = alternatives(&offering, &wanted, &[full.clone(), candidate(2, 1, &[])], now());
    assert_eq!(found.len(), MOST_ALTERNATIVES);
    assert_eq!(dates(&found[0]), (resource_id(2), "2026-07-02".into()));
    let found = alternatives(&offering, &wanted, &[full], now());
    let found: Vec<_> = found.iter().map(|found| dates(found).1).collect();
    assert_eq!(found, ["2026-06-29", "2026-06-28", "2026-06-27"]);
}

#[test]
fn the_next_starts_follow_a_slot_that_is_taken() {
    let offering = slot_offering();
    let during = Interval::new(instant("2026-07-01T08:00:00Z"), instant("2026-07-01T09:10:00Z")).unwrap();
    let busy = Claim { during, ..claim(7, "2026-07-01", "2026-07-02", None) };
    let found = alternatives(&offering, &slot("2026-07-01T08:00:00Z"), &[candidate(1, 1, &[busy])], now());
    let found: Vec<_> = found.iter().map(|found| dates(found).1).collect();
    assert_eq!(found, ["2026-07-01 12:00:00", "2026-07-01 13:00:00", "2026-07-01 14:00:00"]);
    assert!(alternatives(&offering, &slot("2026-07-01T08:00:00Z"), &[], now()).is_empty());
}

#[test]
fn a_search_that_finds_nothing_ends() {
    let mut offering = slot_offering();
    offering.terms.duration_minutes = Some(1);
    let until = |end: &str| {
        let during = Interval::new(instant("2026-07-01T00:00:00Z"), instant(end)).unwrap();
        candidate(1, 1, &[Claim { during, ..claim(7, "2026-07-01", "2026-07-02", None) }])
    };
    let found = |candidate| alternatives(&offering, &slot("2026-07-01T08:00:00Z"), &[candidate], now()).len();
    assert_eq!(found(until("2026-07-04T12:00:00Z")), MOST_ALTERNATIVES);
    // Five thousand minutes are three and a half days.
    assert_eq!(found(until("2026-07-05T00:00:00Z")), 0);
    assert_eq!((most_starts(&offering, 2), most_starts(&slot_offering(), 1)), (2_880, 24));
}

#[test]
fn every_start_offered_can_be_booked_and_none_lies_in_a_gap() {
    let open = slots_on(&slot_offering(), &candidate(1, 1, &[]), date("2027-03-28"), now());
    assert_eq!(open.len(), 23);
    let zone = candidate(1, 1, &[]).resource.time_zone;
    let hours: Vec<_> =
        open.iter().map(|slot| slot.during.start().with_timezone(&zone).format("%H").to_string()).collect();
    assert_eq!(hours[..3], ["00", "01", "03"]);
    let during = Interval::new(instant("2026-07-01T08:00:00Z"), instant("2026-07-01T09:10:00Z")).unwrap();
    let busy = Claim { during, ..claim(7, "2026-07-01", "2026-07-02", None) };
    let pool = candidate(1, 1, &[busy]);
    for slot in slots_on(&slot_offering(), &pool, date("2026-07-01"), now()) {
        let claim = Claim { booking_id: booking_id(8), during: slot.during, unit: None, expires_at: None };
        assert!(fits(&pool.occupancy, 1, &claim, now()));
    }
    assert!(slots_on(&slot_offering(), &pool, date("2026-05-01"), now()).is_empty());
    assert!(slots_on(&stay_offering(), &pool, date("2026-07-01"), now()).is_empty());
}

#[test]
fn nights_are_told_one_by_one() {
    let pool = candidate(1, 2, &[claim(7, "2026-06-02", "2026-06-03", None)]);
    let told = NightsInZone::new(
        &stay_offering(),
        &stay("2026-05-31", "2026-06-04"),
        pool.resource.time_zone,
        now(),
    )
    .on(&pool, now());
    let free: Vec<_> = told.iter().map(|night| night.free).collect();
    assert_eq!(free, [0, 2, 1, 2]);
    assert!(told[0].refusal.is_some() && told[1].refusal.is_none());
}

#[test]
fn what_blocks_is_named_only_where_it_blocks() {
    let lapsed = Claim { expires_at: Some(now()), ..claim(9, "2026-07-01", "2026-07-03", None) };
    let claims =
        [claim(7, "2026-07-01", "2026-07-03", None), claim(8, "2026-07-02", "2026-07-04", Some(1)), lapsed];
    let pool = candidate(1, 2, &claims);
    let ask = |from, to| {
        explain(&pool, OfferingMode::Nights, &stay(from, to).to_interval(pool.resource.time_zone), now())
    };
    assert!(ask("2026-07-01", "2026-07-02").is_empty());
    let night = claims[0].during;
    let night = Interval::new(claims[1].during.start(), night.end()).unwrap();
    let told: Vec<_> = ask("2026-06-29", "2026-07-09")
        .into_iter()
        .map(|blocked| {
            assert_eq!(blocked.interval, night);
            blocked.because
        })
        .collect();
    assert_eq!(
        told,
        [
            Because::Taken { booking_id: booking_id(7), unit: None, expires_at: None },
            Because::Taken { booking_id: booking_id(8), unit: Some(1), expires_at: None },
        ]
    );
}

#[test]
fn closed_hours_are_told_with_the_rule_that_closes_them() {
    let rules = r#"{"weekly": [{"days": ["wed"], "opens": "09:00", "closes": "12:00"}], "seasons": [],
        "exceptions": [], "blocks": [{"from": "2026-07-01T10:00:00", "until": "2026-07-01T10:30:00"}]}"#;
    let schedule = Schedule { rules: serde_json::from_str(rules).unwrap(), ..Schedule::default() };
    let shut = Candidate { schedule: Some(Arc::new(schedule)), ..candidate(1, 1, &[]) };
    let day = Interval::new(instant("2026-07-01T07:00:00Z"), instant("2026-07-01T11:00:00Z")).unwrap();
    let told: Vec<_> = explain(&shut, OfferingMode::Slot, &day, now())
        .into_iter()
        .map(|blocked| match blocked.because {
            Because::Closed(closed) => (closed.rule, blocked.interval.duration().num_minutes()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(ClosedBy::Block, 30), (ClosedBy::Weekly, 60)]);
    let nights =
        explain(&shut, OfferingMode::Nights, &stay("2026-07-01", "2026-07-04").to_interval(ZONE), now());
    assert_eq!(nights.len(), 3);
    let starts: Vec<_> = slots_on(&slot_offering(), &shut, date("2026-07-01"), now())
        .iter()
        .map(|slot| slot.during.start().to_string())
        .collect();
    assert_eq!(starts, ["2026-07-01 07:00:00 UTC", "2026-07-01 08:30:00 UTC"]);
}
