use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + minute * 60, 0).unwrap()
}

fn claim(id: u128, start: i64, end: i64, unit: Option<u32>) -> Claim {
    Claim {
        booking_id: BookingId(Uuid::from_u128(id)),
        during: Interval::new(at(start), at(end)).unwrap(),
        unit,
        expires_at: None,
    }
}

fn occupied_by(claims: &[Claim]) -> Occupancy {
    let mut occupancy = Occupancy::default();
    for claim in claims {
        occupancy.insert(*claim);
    }
    occupancy
}

/// Tries every unit for every claim.
fn brute_force(claims: &[Claim], capacity: u32) -> bool {
    fn place(claims: &[Claim], units: &mut Vec<u32>, capacity: u32) -> bool {
        let Some(next) = claims.get(units.len()) else { return true };
        (1..=capacity).filter(|unit| next.unit.is_none_or(|pinned| pinned == *unit)).any(|unit| {
            let free = claims
                .iter()
                .zip(units.iter())
                .all(|(other, at)| *at != unit || !other.during.overlaps(&next.during));
            units.push(unit);
            let possible = free && place(claims, units, capacity);
            units.pop();
            possible
        })
    }
    place(claims, &mut Vec::new(), capacity)
}

#[test]
fn a_stay_is_taken_although_no_single_unit_was_free_before() {
    // First-come seating would put the first two in one unit each and strand the third.
    let taken = occupied_by(&[
        claim(1, 0, 2, None),
        claim(2, 4, 6, None),
        claim(3, 0, 3, None),
        claim(4, 3, 6, None),
    ]);
    assert!(fits(&taken, 2, &claim(5, 2, 3, None), at(0)));
    assert!(!fits(&taken, 2, &claim(5, 1, 3, None), at(0)));
}

#[test]
fn a_pin_that_makes_a_taken_booking_impossible_is_refused() {
    // Unit 1 is pinned early and unit 2 late; the long stay would need both.
    let taken = occupied_by(&[claim(1, 0, 2, Some(1)), claim(2, 0, 6, None)]);
    assert!(!fits(&taken, 2, &claim(3, 4, 6, Some(2)), at(0)));
    assert!(fits(&taken, 2, &claim(3, 4, 6, Some(1)), at(0)));
    assert_eq!(
        free_unit(&taken, 2, &claim(3, 4, 6, None).during, claim(3, 4, 6, None).booking_id, at(0)),
        Some(1)
    );
}

#[test]
fn a_unit_outside_the_pool_is_no_unit() {
    let empty = Occupancy::default();
    assert!(!fits(&empty, 2, &claim(1, 0, 1, Some(3)), at(0)));
    assert!(!fits(&empty, 2, &claim(1, 0, 1, Some(0)), at(0)));
    assert!(!fits(&empty, 0, &claim(1, 0, 1, None), at(0)));
}

fn claims() -> impl Strategy<Value = Vec<(i64, i64, Option<u32>)>> {
    prop::collection::vec((0_i64..12, 1_i64..8, prop::option::weighted(0.4, 1_u32..=3)), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Claims are offered one by one, as bookings are: what is taken must stay possible, and what is possible
    /// is taken.
    #[test]
    fn it_agrees_with_brute_force(offered in claims(), capacity in 1_u32..=3) {
        let mut occupancy = Occupancy::default();
        let mut taken: Vec<Claim> = Vec::new();
        for (id, (start, length, unit)) in offered.into_iter().enumerate() {
            let next = claim(id as u128, start, start + length, unit.filter(|unit| *unit <= capacity));
            let lowest = (1..=capacity).find(|unit| {
                let mut with = taken.clone();
                with.push(Claim { unit: Some(*unit), ..next });
                brute_force(&with, capacity)
            });
            prop_assert_eq!(free_unit(&occupancy, capacity, &next.during, next.booking_id, at(0)), lowest);
            taken.push(next);
            let possible = brute_force(&taken, capacity);
            prop_assert_eq!(fits(&occupancy, capacity, &next, at(0)), possible, "{:?}", taken);
            if possible {
                occupancy.insert(next);
            } else {
                taken.pop();
            }
        }
        let everything = Interval::new(at(-1), at(100)).unwrap();
        let packed: HashMap<_, _> =
            assignment(&occupancy, capacity, &everything, at(0)).unwrap().into_iter().collect();
        for one in &taken {
            prop_assert!(one.unit.is_none_or(|unit| unit == packed[&one.booking_id]));
            for other in &taken {
                prop_assert!(
                    one.booking_id == other.booking_id
                        || !one.during.overlaps(&other.during)
                        || packed[&one.booking_id] != packed[&other.booking_id]
                );
            }
        }
    }
}
