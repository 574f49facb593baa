//! How many rooms each pool has, and what a pool of that size would have taken. Pure.

use std::{fmt, num::NonZeroU32};

use chrono::NaiveDate;

use super::{
    hotel_demand::{History, Outcome, Row},
    plan::{Planned, Step, settled},
};

/// Where the sizes of the pools come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolSizing {
    /// The same size for each.
    Fixed(NonZeroU32),
    /// Per pool the peak of simultaneous checked-out stays, at least 1: what the hotel is known to have housed.
    Honoured,
    /// Per pool the peak of bookings alive at once, over all nights: nothing is refused for space.
    Live,
}

impl fmt::Display for PoolSizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "size={size}"),
            Self::Honoured => f.write_str("honoured"),
            Self::Live => f.write_str("live"),
        }
    }
}

/// The size of every pool of a history.
pub fn capacities(history: &History, steps: &[Planned], sizing: PoolSizing) -> Vec<u32> {
    match sizing {
        PoolSizing::Fixed(size) => vec![size.get(); history.pools.len()],
        PoolSizing::Honoured => honoured(history),
        PoolSizing::Live => replay(history, steps, None).peaks.into_iter().map(|peak| peak.max(1)).collect(),
    }
}

fn honoured(history: &History) -> Vec<u32> {
    let mut houses = Houses::new(history);
    let stays =
        history.rows.iter().filter(|row| row.outcome == Outcome::CheckedOut && row.invalid().is_none());
    for row in stays {
        // The nights that were slept: an early departure leaves the rest.
        houses.take(row, row.arrival, row.departure().min(settled(row)));
    }
    houses.peaks.into_iter().map(|peak| peak.max(1)).collect()
}

/// What pools of given sizes take of a plan.
#[derive(Clone, Debug)]
pub struct Replay {
    /// For each row, whether there was no room for it.
    pub refused: Vec<bool>,
    /// For each pool, the most claims on one night.
    pub peaks: Vec<u32>,
}

/// Replays a plan in memory: a booking takes its nights or is refused, a cancellation or no-show frees them all, a
/// check-out those from its day on. Without capacities nothing is refused.
pub fn replay(history: &History, steps: &[Planned], capacities: Option<&[u32]>) -> Replay {
    let mut houses = Houses::new(history);
    let mut refused = vec![false; history.rows.len()];
    for planned in steps {
        let row = &history.rows[planned.row];
        if refused[planned.row] {
            continue;
        }
        match planned.step {
            Step::Book => {
                let most = capacities.and_then(|capacities| capacities.get(row.pool)).copied();
                if most.is_some_and(|most| houses.fullest(row) >= most) {
                    refused[planned.row] = true;
                } else {
                    houses.take(row, row.arrival, row.departure());
                }
            }
            Step::CheckIn => {}
            Step::CheckOut => houses.free(row, planned.day.max(row.arrival)),
            Step::Cancel | Step::NoShow => houses.free(row, row.arrival),
        }
    }
    Replay { refused, peaks: houses.peaks }
}

/// How many claims there are on each night of each pool.
struct Houses {
    first: NaiveDate,
    nights: Vec<Vec<u32>>,
    peaks: Vec<u32>,
}

impl Houses {
    fn new(history: &History) -> Self {
        let first = history.rows.iter().map(|row| row.arrival).min().unwrap_or(NaiveDate::MIN);
        Self { first, nights: vec![Vec::new(); history.pools.len()], peaks: vec![0; history.pools.len()] }
    }

    fn index(&self, date: NaiveDate) -> usize {
        usize::try_from((date - self.first).num_days()).unwrap_or(0)
    }

    fn fullest(&self, row: &Row) -> u32 {
        let nights = &self.nights[row.pool];
        let (from, until) = (self.index(row.arrival), self.index(row.departure()).min(nights.len()));
        nights.get(from..until).into_iter().flatten().copied().max().unwrap_or(0)
    }

    fn take(&mut self, row: &Row, from: NaiveDate, until: NaiveDate) {
        let (from, until) = (self.index(from), self.index(until));
        let nights = &mut self.nights[row.pool];
        if nights.len() < until {
            nights.resize(until, 0);
        }
        for night in nights.iter_mut().take(until).skip(from) {
            *night += 1;
            self.peaks[row.pool] = self.peaks[row.pool].max(*night);
        }
    }

    fn free(&mut self, row: &Row, from: NaiveDate) {
        let (from, until) = (self.index(from), self.index(row.departure()));
        for night in self.nights[row.pool].iter_mut().take(until).skip(from) {
            *night = night.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::{
        hotel_demand::parse,
        plan::plan,
        testing::{Line, file, line},
    };

    fn history(lines: &[Line]) -> (History, Vec<Planned>) {
        let history = parse(file(lines).as_bytes(), None).unwrap();
        let steps = plan(&history.rows);
        (history, steps)
    }

    fn fixed(size: u32) -> PoolSizing {
        PoolSizing::Fixed(NonZeroU32::new(size).unwrap())
    }

    #[test]
    fn a_cancellation_frees_its_nights_for_a_booking_of_the_same_day() {
        let (history, steps) = history(&[
            line().arriving(9, 5).ended("Canceled", "2016-01-06"),
            line().arriving(9, 3),
            line().arriving(9, 3),
        ]);
        assert_eq!(replay(&history, &steps, Some(&[1])).refused, [false, false, true]);
    }

    #[test]
    fn an_early_check_out_frees_the_nights_not_used() {
        let (history, steps) = history(&[
            line().arriving(5, 5).nights(5).ended("Check-Out", "2016-01-07"),
            line().arriving(7, 0).nights(2).ended("Check-Out", "2016-01-09"),
            line().arriving(8, 4).nights(1).ended("Check-Out", "2016-01-09"),
        ]);
        assert_eq!(replay(&history, &steps, Some(&[1])).refused, [false, false, true]);
        assert_eq!(capacities(&history, &steps, PoolSizing::Honoured), [2]);
    }

    #[test]
    fn honoured_counts_stays_only_and_is_at_least_one() {
        let (history, steps) = history(&[
            line().assigned("A").ended("Canceled", "2015-12-30"),
            line().assigned("B"),
            line().assigned("B"),
            line().assigned("B").ended("No-Show", "2016-01-01"),
            line().assigned("B").set("adults", "0"),
        ]);
        assert_eq!(capacities(&history, &steps, PoolSizing::Honoured), [1, 2]);
        assert_eq!(capacities(&history, &steps, PoolSizing::Live), [1, 3]);
        assert_eq!(capacities(&history, &steps, fixed(7)), [7, 7]);
    }

    /// Claims as a plain list, every night counted anew at each step.
    fn brute_force(history: &History, steps: &[Planned], capacities: &[u32]) -> (Vec<bool>, Vec<u32>) {
        let mut claims: Vec<(usize, usize, NaiveDate, NaiveDate)> = Vec::new();
        let mut refused = vec![false; history.rows.len()];
        let mut peaks = vec![0; history.pools.len()];
        let on = |claims: &[(usize, usize, NaiveDate, NaiveDate)], pool, night| {
            u32::try_from(claims.iter().filter(|c| c.1 == pool && c.2 <= night && night < c.3).count())
                .unwrap()
        };
        for step in steps {
            let row = &history.rows[step.row];
            let nights = || row.arrival.iter_days().take_while(|night| *night < row.departure());
            match step.step {
                Step::Book if nights().any(|night| on(&claims, row.pool, night) >= capacities[row.pool]) => {
                    refused[step.row] = true;
                }
                Step::Book => claims.push((step.row, row.pool, row.arrival, row.departure())),
                Step::CheckIn => {}
                Step::CheckOut => {
                    for claim in claims.iter_mut().filter(|claim| claim.0 == step.row) {
                        claim.3 = claim.3.min(step.day);
                    }
                }
                Step::Cancel | Step::NoShow => claims.retain(|claim| claim.0 != step.row),
            }
            for night in nights() {
                peaks[row.pool] = peaks[row.pool].max(on(&claims, row.pool, night));
            }
        }
        (refused, peaks)
    }

    fn any_line() -> impl Strategy<Value = Line> {
        (
            1u32..20,
            0u32..8,
            0u32..6,
            0u32..8,
            prop::sample::select(vec!["Check-Out", "Canceled", "No-Show"]),
            0..2,
        )
            .prop_map(|(day, lead, nights, settled, status, pool)| {
                line()
                    .arriving(day, lead)
                    .nights(nights)
                    .assigned(if pool == 0 { "A" } else { "B" })
                    .ended(status, &format!("2016-01-{:02}", day + settled))
            })
    }

    proptest! {
        #[test]
        fn a_replay_is_what_counting_every_night_gives(lines in prop::collection::vec(any_line(), 1..60), size in 1u32..5) {
            let (history, steps) = history(&lines);
            let sizes = capacities(&history, &steps, fixed(size));
            let replayed = replay(&history, &steps, Some(&sizes));
            let (refused, peaks) = brute_force(&history, &steps, &sizes);
            prop_assert_eq!(&replayed.refused, &refused);
            prop_assert_eq!(replayed.peaks, peaks);
        }

        #[test]
        fn live_pools_refuse_nothing_and_one_room_less_does(lines in prop::collection::vec(any_line(), 1..60)) {
            let (history, steps) = history(&lines);
            let mut sizes = capacities(&history, &steps, PoolSizing::Live);
            prop_assert!(!replay(&history, &steps, Some(&sizes)).refused.contains(&true));
            for pool in 0..sizes.len() {
                if sizes[pool] > 1 {
                    sizes[pool] -= 1;
                    prop_assert!(replay(&history, &steps, Some(&sizes)).refused.contains(&true));
                    sizes[pool] += 1;
                }
            }
        }

        #[test]
        fn honoured_is_the_fullest_night_of_the_stays(lines in prop::collection::vec(any_line(), 1..60)) {
            let (history, steps) = history(&lines);
            let stays: Vec<&Row> = history
                .rows
                .iter()
                .filter(|row| row.outcome == Outcome::CheckedOut && row.invalid().is_none())
                .collect();
            for (pool, size) in capacities(&history, &steps, PoolSizing::Honoured).into_iter().enumerate() {
                let first: NaiveDate = "2016-01-01".parse().unwrap();
                let fullest = first.iter_days().take(60).map(|night| {
                    stays.iter().filter(|row| {
                        let left = row.departure().min(settled(row));
                        row.pool == pool && row.arrival <= night && night < left
                    }).count()
                }).max().unwrap_or(0);
                prop_assert_eq!(size as usize, fullest.max(1));
            }
        }
    }
}
