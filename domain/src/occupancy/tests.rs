use proptest::prelude::*;

use super::*;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + minute * 60, 0).unwrap()
}

fn interval(start: i64, length: i64) -> Interval {
    Interval::new(at(start), at(start + length)).unwrap()
}

fn claim(id: u128, start: i64, length: i64, expires: Option<i64>) -> Claim {
    Claim {
        booking_id: BookingId(Uuid::from_u128(id)),
        during: interval(start, length),
        unit: None,
        expires_at: expires.map(at),
    }
}

#[test]
fn intervals_that_touch_do_not_overlap() {
    let mut occupancy = Occupancy::default();
    occupancy.insert(claim(1, 0, 60, None));
    assert_eq!(occupancy.overlapping(&interval(60, 60)).count(), 0);
    assert_eq!(occupancy.overlapping(&interval(59, 1)).count(), 1);
    assert_eq!(occupancy.peak(&interval(60, 60), None, at(0)), 0);
}

#[test]
fn a_lapsed_hold_does_not_count_and_is_named() {
    let mut occupancy = Occupancy::default();
    occupancy.insert(claim(1, 0, 60, Some(10)));
    assert_eq!(occupancy.peak(&interval(0, 60), None, at(9)), 1);
    assert_eq!(occupancy.peak(&interval(0, 60), None, at(10)), 0);
    assert_eq!(occupancy.lapsed_in(&interval(0, 60), at(10)), vec![BookingId(Uuid::from_u128(1))]);
    assert!(occupancy.lapsed_in(&interval(0, 60), at(9)).is_empty());
}

#[test]
fn inserting_again_replaces_and_removing_leaves_nothing() {
    let mut occupancy = Occupancy::default();
    occupancy.insert(claim(1, 0, 60, Some(10)));
    occupancy.insert(Claim { unit: Some(1), ..claim(1, 100, 7, None) });
    assert_eq!(occupancy.len(), 1);
    assert_eq!(occupancy.overlapping(&interval(0, 60)).count(), 0);
    assert!(occupancy.remove(&BookingId(Uuid::from_u128(1))).is_some());
    assert!(occupancy.is_empty() && occupancy.coverage.is_empty());
    assert!(occupancy.pins.is_empty() && occupancy.per_class.is_empty());
}

proptest! {
    #[test]
    fn collected_claims_are_those_inserted_one_by_one(
        claims in prop::collection::vec(
            (0_u128..20, 0_i64..50, 1_i64..40, prop::option::weighted(0.3, 0_i64..20), prop::option::weighted(0.3, 1_u32..4)),
            0..30,
        ),
    ) {
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(id, start, length, expires, unit)| Claim { unit, ..claim(id, start, length, expires) })
            .collect();
        let mut one_by_one = Occupancy::default();
        claims.iter().for_each(|claim| one_by_one.insert(*claim));
        let collected: Occupancy = claims.into_iter().collect();
        prop_assert_eq!(collected.claims, one_by_one.claims);
        prop_assert_eq!(collected.keys, one_by_one.keys);
        prop_assert_eq!(collected.per_class, one_by_one.per_class);
        prop_assert_eq!(collected.coverage, one_by_one.coverage);
        prop_assert_eq!(collected.pins, one_by_one.pins);
    }

    #[test]
    fn the_index_agrees_with_a_plain_list(
        steps in prop::collection::vec(
            (0_u128..12, 0_i64..100, 1_i64..90, prop::option::weighted(0.3, 0_i64..20), prop::bool::weighted(0.25)),
            1..40,
        ),
        (from, length, now) in (0_i64..100, 1_i64..60, 0_i64..20),
        ignoring in prop::option::of(0_u128..12),
    ) {
        let mut occupancy = Occupancy::default();
        let mut list: Vec<Claim> = Vec::new();
        for (id, start, length, expires, removes) in steps {
            let new = claim(id, start, length, expires);
            list.retain(|old| old.booking_id != new.booking_id);
            if removes {
                occupancy.remove(&new.booking_id);
            } else {
                occupancy.insert(new);
                list.push(new);
            }
        }
        let query = interval(from, length);
        let ignoring = ignoring.map(|id| BookingId(Uuid::from_u128(id)));
        let mut found: Vec<_> = occupancy.overlapping(&query).map(|claim| claim.booking_id).collect();
        let mut wanted: Vec<_> =
            list.iter().filter(|claim| claim.during.overlaps(&query)).map(|claim| claim.booking_id).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(found, wanted);
        let peak = (from..from + length)
            .map(|minute| {
                let instant = interval(minute, 1);
                list.iter()
                    .filter(|claim| claim.during.overlaps(&instant) && claim.is_live(at(now)))
                    .filter(|claim| Some(claim.booking_id) != ignoring)
                    .count()
            })
            .max();
        prop_assert_eq!(occupancy.peak(&query, ignoring, at(now)) as usize, peak.unwrap());
    }
}
