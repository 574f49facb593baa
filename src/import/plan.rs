//! In which order a history is replayed. Pure.
//!
//! Day by day; within a day first the changes of bookings made on earlier days, then the new bookings, then the
//! changes of bookings made that same day, each in file order. A stay has two changes: check-in on the day of arrival,
//! check-out on its `reservation_status_date`; where they fall on one day, they follow one another.
//!
//! Two dates that cannot be are bent, so that a history stays one: nothing happens to a booking before the day it was
//! made (a `reservation_status_date` before that day counts as that day), and who left before the day of arrival was
//! checked in on the day of leaving. A cancellation or no-show keeps its date, before or after the arrival.

use chrono::NaiveDate;

use super::hotel_demand::{Outcome, Row};

/// What is done with a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// It is made.
    Book,
    /// The guest arrives.
    CheckIn,
    /// The guest leaves.
    CheckOut,
    /// It is cancelled.
    Cancel,
    /// The guest did not come.
    NoShow,
}

impl Step {
    /// The stable name, part of the idempotency key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::CheckIn => "check-in",
            Self::CheckOut => "check-out",
            Self::Cancel => "cancel",
            Self::NoShow => "no-show",
        }
    }
}

/// The part of a day a step falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    EarlierChange,
    Booking,
    SameDayChange,
}

/// One step of one row at its place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    /// The day it happened.
    pub day: NaiveDate,
    part: Part,
    /// Index into [`super::hotel_demand::History::rows`].
    pub row: usize,
    /// What happened.
    pub step: Step,
    /// Its place within the day: 1, 2, 3 …
    pub ordinal: u32,
}

/// Puts the steps of every valid row in order.
pub fn plan(rows: &[Row]) -> Vec<Planned> {
    let mut steps = Vec::with_capacity(rows.len() * 3);
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.invalid().is_none()) {
        steps_of(row, |day, step| {
            let part = match step {
                Step::Book => Part::Booking,
                _ if day == row.booked_on => Part::SameDayChange,
                _ => Part::EarlierChange,
            };
            steps.push(Planned { day, part, row: index, step, ordinal: 0 });
        });
    }
    steps.sort_unstable();
    let mut today = (NaiveDate::MIN, 0);
    for step in &mut steps {
        today = if step.day == today.0 { (today.0, today.1 + 1) } else { (step.day, 1) };
        step.ordinal = today.1;
    }
    steps
}

fn steps_of(row: &Row, mut push: impl FnMut(NaiveDate, Step)) {
    push(row.booked_on, Step::Book);
    let ended = settled(row);
    match row.outcome {
        Outcome::CheckedOut => {
            push(row.arrival.min(ended), Step::CheckIn);
            push(ended, Step::CheckOut);
        }
        Outcome::Cancelled => push(ended, Step::Cancel),
        Outcome::NoShow => push(ended, Step::NoShow),
    }
}

/// The day the booking ended, never before it was made.
pub fn settled(row: &Row) -> NaiveDate {
    row.settled_on.max(row.booked_on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{
        hotel_demand::parse,
        testing::{Line, file, line},
    };

    fn planned(lines: &[Line]) -> Vec<(String, u64, &'static str)> {
        let history = parse(file(lines).as_bytes(), None).unwrap();
        plan(&history.rows)
            .iter()
            .map(|step| (step.day.to_string(), history.rows[step.row].line, step.step.as_str()))
            .collect()
    }

    fn on(day: &str, steps: &[(String, u64, &'static str)]) -> Vec<(u64, &'static str)> {
        steps.iter().filter(|step| step.0 == day).map(|step| (step.1, step.2)).collect()
    }

    #[test]
    fn a_day_has_earlier_changes_then_bookings_then_changes_of_that_day() {
        let steps = planned(&[
            line().arriving(5, 0).ended("Canceled", "2016-01-05"),
            line().arriving(5, 2).ended("Check-Out", "2016-01-08"),
            line().arriving(9, 4).ended("No-Show", "2016-01-09"),
            line().arriving(7, 4).ended("Canceled", "2016-01-05"),
        ]);
        assert_eq!(
            on("2016-01-05", &steps),
            [(3, "check-in"), (5, "cancel"), (2, "book"), (4, "book"), (2, "cancel")]
        );
        assert_eq!(steps.len(), 2 + 3 + 2 + 2);
    }

    #[test]
    fn arriving_and_leaving_on_one_day_is_one_after_the_other() {
        let steps = planned(&[
            line().arriving(5, 0).ended("Check-Out", "2016-01-05"),
            line().arriving(6, 1).ended("Check-Out", "2016-01-09"),
        ]);
        assert_eq!(on("2016-01-05", &steps), [(2, "book"), (3, "book"), (2, "check-in"), (2, "check-out")]);
    }

    #[test]
    fn nothing_happens_before_the_booking_and_no_check_in_after_the_check_out() {
        let steps = planned(&[line().arriving(9, 3).ended("Check-Out", "2016-01-07")]);
        assert_eq!(on("2016-01-07", &steps), [(2, "check-in"), (2, "check-out")]);
        let steps = planned(&[line().arriving(9, 3).ended("Canceled", "2015-01-01")]);
        assert_eq!(on("2016-01-06", &steps), [(2, "book"), (2, "cancel")]);
    }

    #[test]
    fn a_cancellation_after_the_arrival_keeps_its_date() {
        let steps = planned(&[line().arriving(9, 3).ended("Canceled", "2016-02-01")]);
        assert_eq!(steps[1], ("2016-02-01".to_owned(), 2, "cancel"));
    }

    #[test]
    fn invalid_rows_are_not_in_the_plan() {
        assert!(planned(&[line().nights(0)]).is_empty());
    }

    #[test]
    fn ordinals_count_from_one_each_day() {
        let lines = [line().arriving(5, 2), line().arriving(5, 2), line().arriving(6, 2)];
        let history = parse(file(&lines).as_bytes(), None).unwrap();
        let ordinals: Vec<u32> = plan(&history.rows).iter().map(|step| step.ordinal).collect();
        assert_eq!(ordinals[..3], [1, 2, 1]);
    }
}
