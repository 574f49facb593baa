//! Whatever is asked, in whatever order: a pool is never overbooked, and what it has taken stays possible.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::packing;

#[derive(Clone, Debug)]
enum Step {
    Book { from: i64, length: i64, unit: Option<u32>, hold: bool },
    Confirm(usize),
    Cancel(usize),
    Reschedule { which: usize, from: i64, length: i64 },
    Pin { which: usize, unit: Option<u32> },
    CheckIn(usize),
    CheckOut(usize),
    NoShow(usize),
    Expire(usize),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0_usize..12;
    let span = (0_i64..14, 1_i64..7);
    prop_oneof![
        4 => (span.clone(), prop::option::weighted(0.3, 1_u32..=3), any::<bool>())
            .prop_map(|((from, length), unit, hold)| Step::Book { from, length, unit, hold }),
        2 => which.clone().prop_map(Step::Confirm),
        1 => which.clone().prop_map(Step::Cancel),
        2 => (which.clone(), span).prop_map(|(which, (from, length))| Step::Reschedule { which, from, length }),
        2 => (which.clone(), prop::option::of(1_u32..=3)).prop_map(|(which, unit)| Step::Pin { which, unit }),
        2 => which.clone().prop_map(Step::CheckIn),
        1 => which.clone().prop_map(Step::CheckOut),
        1 => which.clone().prop_map(Step::NoShow),
        1 => which.prop_map(Step::Expire),
        1 => (1_i64..40).prop_map(Step::Wait),
    ]
}

fn stay(from: i64, length: i64) -> RequestedTime {
    let first = date("2026-07-01") + TimeDelta::days(from);
    RequestedTime::Nights(Nights::new(first, first + TimeDelta::days(length)).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_pool_is_never_overbooked(steps in prop::collection::vec(step(), 1..40), capacity in 1_u32..=3) {
        let mut now = instant("2026-06-01T08:00:00Z");
        let mut occupancy = Occupancy::default();
        let mut bookings: Vec<Booking> = Vec::new();
        for step in steps {
            let command = match step.clone() {
                Step::Book { from, length, unit, hold } => book_with!(stay(from, length), unit: unit, hold: hold),
                Step::Confirm(_) => BookingCommand::Confirm,
                Step::Cancel(_) => BookingCommand::Cancel { waive_fee: false },
                Step::Reschedule { from, length, .. } => {
                    BookingCommand::Reschedule { when: stay(from, length), resource_id: None }
                }
                Step::Pin { unit, .. } => {
                    BookingCommand::Reassign { resource_id: None, unit, unpin: unit.is_none() }
                }
                Step::CheckIn(_) => BookingCommand::CheckIn { unit: None },
                Step::CheckOut(_) => BookingCommand::CheckOut,
                Step::NoShow(_) => BookingCommand::NoShow,
                Step::Expire(_) => BookingCommand::Expire,
                Step::Wait(minutes) => {
                    now += TimeDelta::minutes(minutes);
                    continue;
                }
            };
            let which = match step {
                Step::Book { .. } | Step::Wait(_) => bookings.len(),
                Step::Confirm(which) | Step::Cancel(which) | Step::CheckIn(which) | Step::CheckOut(which)
                | Step::NoShow(which) | Step::Expire(which) | Step::Reschedule { which, .. }
                | Step::Pin { which, .. } => which,
            };
            if which > bookings.len() {
                continue;
            }
            if which == bookings.len() {
                bookings.push(Booking::default());
            }
            let mut pool = candidate(1, capacity, &[]);
            pool.occupancy = Arc::new(occupancy.clone());
            let context = BookingContext {
                now,
                id: booking_id(1 + which as u128),
                enforce_window: false,
                ..context_with(stay_offering(), vec![pool])
            };
            let booking = &mut bookings[which];
            let Ok(events) = booking.decide(&command, &context) else { continue };
            for event in &events {
                booking.fold(event);
            }
            match booking.claim() {
                Some((_, claim)) => occupancy.insert(claim),
                None => drop(occupancy.remove(&context.id)),
            }

            let wanted: HashMap<_, _> =
                bookings.iter().filter_map(Booking::claim).map(|(_, claim)| (claim.booking_id, claim)).collect();
            let indexed: HashMap<_, _> = occupancy.iter().map(|claim| (claim.booking_id, claim)).collect();
            prop_assert_eq!(indexed, wanted);
            let season = claim(0, "2026-06-01", "2026-09-01", None).during;
            prop_assert!(occupancy.peak(&season, None, now) <= capacity);
            let live = occupancy.iter().filter(|claim| claim.is_live(now)).count();
            let packed = packing::assignment(&occupancy, capacity, &season, now);
            prop_assert_eq!(packed.map(|packed| packed.len()), Some(live));
        }
    }
}
