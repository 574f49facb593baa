//! What became of each row. Pure: answers in, counts and refusals out.

use daybook_domain::DomainError;

use super::{
    hotel_demand::{History, Row},
    plan::{Planned, Step},
    report::{ImportSummary, Refusal},
};

/// What a row has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its booking is not answered yet.
    Open,
    Accepted,
    Refused,
}

/// What is to be done after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing more.
    Settled,
    /// Ask again: it was refused only because its booking had not been made yet.
    Again,
    /// The booking stands, but was not answered to this import: what it was answered has expired.
    Expired,
}

/// Counts and refusals so far.
pub(super) struct Tally {
    fates: Vec<Fate>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) summary: ImportSummary,
}

impl Tally {
    /// Refuses the rows that are no bookings, and notes those booked otherwise than they stand in the file.
    pub(super) fn new(history: &History) -> Self {
        let summary = ImportSummary { rows: history.rows.len() as u64, ..ImportSummary::default() };
        let mut tally = Self { fates: vec![Fate::Open; history.rows.len()], refusals: Vec::new(), summary };
        for (index, row) in history.rows.iter().enumerate() {
            if let Some(reason) = row.invalid() {
                tally.fates[index] = Fate::Refused;
                tally.summary.invalid += 1;
                tally.refuse(row, "invalid", reason.to_owned());
            } else if row.price_cents < row.booked_cents() {
                let reason = "the rate is negative; booked for a price of 0".to_owned();
                let warning = Refusal { line: row.line, code: "price_clamped".to_owned(), reason };
                tally.summary.warnings.push(warning);
            }
        }
        tally
    }

    /// Whether the row's booking was refused, so that its later steps are left out.
    pub(super) fn is_refused(&self, row: usize) -> bool {
        self.fates[row] == Fate::Refused
    }

    /// Rows refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.summary.invalid + self.summary.slot_taken + self.summary.refused_other
    }

    /// Takes the answer to a step. `fresh` tells that it was decided now.
    pub(super) fn answer(
        &mut self,
        row: &Row,
        planned: Planned,
        refusal: Option<&DomainError>,
        fresh: bool,
    ) -> Next {
        match (planned.step, refusal) {
            (Step::Book, None) => {
                self.fates[planned.row] = Fate::Accepted;
                self.summary.accepted += 1;
            }
            (Step::Book, Some(DomainError::AlreadyExists { .. })) if fresh => return Next::Expired,
            (Step::Book, Some(error)) => {
                self.fates[planned.row] = Fate::Refused;
                let code = code(error);
                match code {
                    "slot_taken" => self.summary.slot_taken += 1,
                    "invalid" => self.summary.invalid += 1,
                    _ => self.summary.refused_other += 1,
                }
                self.refuse(row, code, error.to_string());
            }
            (_, None) => {}
            // A later step of a refused row that was on its way already.
            (_, Some(_)) if self.is_refused(planned.row) => {}
            // Its booking was in a batch that failed, and this step in a later one that did not.
            (_, Some(DomainError::NotFound { .. })) => return Next::Again,
            (step, Some(error)) => self.refuse_step(row, step, error),
        }
        Next::Settled
    }

    /// Notes that a step of an accepted row was refused.
    pub(super) fn refuse_step(&mut self, row: &Row, step: Step, error: &DomainError) {
        self.summary.steps_refused += 1;
        self.refuse(row, code(error), format!("{} refused: {error}", step.as_str()));
    }

    fn refuse(&mut self, row: &Row, code: &str, reason: String) {
        self.refusals.push(Refusal { line: row.line, code: code.to_owned(), reason });
    }
}

/// The stable code of a refusal.
fn code(error: &DomainError) -> &'static str {
    match error {
        DomainError::Validation { .. } => "invalid",
        DomainError::SlotTaken => "slot_taken",
        DomainError::NotFound { .. } => "not_found",
        DomainError::HoldExpired => "hold_expired",
        DomainError::WrongState { .. } => "wrong_state",
        DomainError::AlreadyExists { .. } => "already_exists",
        DomainError::ReasonRequired => "reason_required",
        DomainError::VersionConflict => "version_conflict",
        DomainError::Closed { .. } => "closed",
        DomainError::Forbidden { .. } => "forbidden",
        DomainError::ReadOnly => "support_read_only",
        DomainError::SessionOver => "session_over",
        DomainError::LastAdmin => "last_admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{
        hotel_demand::parse,
        plan::plan,
        testing::{Line, file, line},
    };

    fn start(lines: &[Line]) -> (History, Vec<Planned>, Tally) {
        let history = parse(file(lines).as_bytes(), None).unwrap();
        let (steps, tally) = (plan(&history.rows), Tally::new(&history));
        (history, steps, tally)
    }

    fn codes(tally: &Tally) -> Vec<(u64, &str)> {
        tally.refusals.iter().map(|refusal| (refusal.line, refusal.code.as_str())).collect()
    }

    #[test]
    fn every_row_is_counted_once() {
        let (history, steps, mut tally) = start(&[line(), line().nights(0), line(), line(), line()]);
        let refusals = [
            None,
            Some(DomainError::SlotTaken),
            Some(DomainError::field("/guests", "too_many_guests", "at most 10,000 guests")),
            Some(DomainError::wrong_state("archived", "the offering cannot be booked any more")),
        ];
        let books = steps.iter().filter(|step| step.step == Step::Book);
        for (step, refusal) in books.zip(&refusals) {
            assert_eq!(tally.answer(&history.rows[step.row], *step, refusal.as_ref(), true), Next::Settled);
        }
        let sum = &tally.summary;
        assert_eq!((sum.rows, sum.accepted, sum.invalid, sum.slot_taken, sum.refused_other), (5, 1, 2, 1, 1));
        assert_eq!(codes(&tally), [(3, "invalid"), (4, "slot_taken"), (5, "invalid"), (6, "wrong_state")]);
    }

    #[test]
    fn later_steps_of_a_refused_row_are_part_of_its_refusal() {
        let (history, steps, mut tally) = start(&[line()]);
        tally.answer(&history.rows[0], steps[0], Some(&DomainError::SlotTaken), true);
        assert!(tally.is_refused(0));
        let absent = DomainError::not_found("booking");
        assert_eq!(tally.answer(&history.rows[0], steps[1], Some(&absent), true), Next::Settled);
        assert_eq!(codes(&tally), [(2, "slot_taken")]);
    }

    #[test]
    fn a_change_that_overtook_its_booking_is_asked_again() {
        let (history, steps, mut tally) = start(&[line()]);
        tally.answer(&history.rows[0], steps[0], None, true);
        let absent = DomainError::not_found("booking");
        assert_eq!(tally.answer(&history.rows[0], steps[1], Some(&absent), false), Next::Again);
        tally.refuse_step(&history.rows[0], Step::CheckIn, &absent);
        assert_eq!((tally.summary.accepted, tally.summary.steps_refused), (1, 1));
        assert_eq!(codes(&tally), [(2, "not_found")]);
    }

    #[test]
    fn a_booking_made_by_a_run_whose_answers_are_gone_stops_the_import() {
        let (history, steps, mut tally) = start(&[line()]);
        let exists = DomainError::AlreadyExists { what: "booking".into() };
        assert_eq!(tally.answer(&history.rows[0], steps[0], Some(&exists), true), Next::Expired);
    }

    #[test]
    fn a_negative_rate_is_a_warning_and_no_refusal() {
        let (_, _, tally) = start(&[line().set("adr", "-6.38")]);
        assert!(tally.refusals.is_empty());
        assert_eq!(
            (tally.summary.warnings[0].line, tally.summary.warnings[0].code.as_str()),
            (2, "price_clamped")
        );
    }
}
