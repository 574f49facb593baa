//! Half-open intervals: of instants `[start, end)` and of nights `[check_in, check_out)`.

use chrono::{DateTime, Datelike, Duration, NaiveDate, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct};

use crate::{DomainError, local_time::start_of_day};

/// The longest stay, in nights: two years.
pub const MAX_NIGHTS: i64 = 732;

/// Instants from `start` up to, and without, `end`. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Interval {
    /// An interval.
    ///
    /// # Errors
    /// `interval_empty` or `interval_reversed` at `/ends_at`.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, DomainError> {
        if start == end {
            return Err(DomainError::field("/ends_at", "interval_empty", "the end must be after the start"));
        }
        if start > end {
            return Err(DomainError::field(
                "/ends_at",
                "interval_reversed",
                "the end must be after the start",
            ));
        }
        Ok(Self { start, end })
    }

    /// What `new` made once, put together again.
    pub(crate) const fn of_parts(start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        Self { start, end }
    }

    /// The first instant in it.
    pub fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// The first instant after it.
    pub fn end(&self) -> DateTime<Utc> {
        self.end
    }

    /// How long it is.
    pub fn duration(&self) -> Duration {
        self.end - self.start
    }

    /// Whether they share an instant.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether `other` lies wholly in it.
    pub fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the instant lies in it.
    pub fn contains_instant(&self, at: DateTime<Utc>) -> bool {
        self.start <= at && at < self.end
    }

    /// The interval with time added on both sides.
    #[must_use]
    pub fn widen(&self, before_minutes: u32, after_minutes: u32) -> Self {
        let before = Duration::minutes(i64::from(before_minutes));
        let after = Duration::minutes(i64::from(after_minutes));
        Self {
            start: self.start.checked_sub_signed(before).unwrap_or(self.start),
            end: self.end.checked_add_signed(after).unwrap_or(self.end),
        }
    }
}

/// The first microsecond of 1970: a placeholder where nothing was ever booked.
impl Default for Interval {
    fn default() -> Self {
        Self { start: DateTime::UNIX_EPOCH, end: DateTime::UNIX_EPOCH + Duration::microseconds(1) }
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut it = serializer.serialize_struct("Interval", 2)?;
        it.serialize_field("start", &text(self.start))?;
        it.serialize_field("end", &text(self.end))?;
        it.end()
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            start: DateTime<Utc>,
            end: DateTime<Utc>,
        }
        let raw = Raw::deserialize(deserializer)?;
        Self::new(raw.start, raw.end).map_err(D::Error::custom)
    }
}

/// Nights as dates: from `check_in` up to, and without, `check_out`. Never empty, at most [`MAX_NIGHTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Nights {
    check_in: NaiveDate,
    check_out: NaiveDate,
}

impl Nights {
    /// Nights.
    ///
    /// # Errors
    /// `interval_empty`, `interval_reversed` or `interval_too_long` at `/check_out`.
    pub fn new(check_in: NaiveDate, check_out: NaiveDate) -> Result<Self, DomainError> {
        if !(1900..=9999).contains(&check_in.year()) || !(1900..=9999).contains(&check_out.year()) {
            return Err(DomainError::field(
                "/check_in",
                "date_out_of_range",
                "dates are between 1900 and 9999",
            ));
        }
        let (code, detail) = match (check_out - check_in).num_days() {
            1..=MAX_NIGHTS => return Ok(Self { check_in, check_out }),
            0 => ("interval_empty", "check-out must be after check-in"),
            ..0 => ("interval_reversed", "check-out must be after check-in"),
            _ => ("interval_too_long", "a stay is at most 732 nights"),
        };
        Err(DomainError::field("/check_out", code, detail))
    }

    /// The date of arrival.
    pub fn check_in(&self) -> NaiveDate {
        self.check_in
    }

    /// The date of departure; its night is not part of the stay.
    pub fn check_out(&self) -> NaiveDate {
        self.check_out
    }

    /// How many nights.
    pub fn count(&self) -> u32 {
        u32::try_from((self.check_out - self.check_in).num_days()).unwrap_or(0)
    }

    /// The date of each night.
    pub fn dates(&self) -> impl Iterator<Item = NaiveDate> + use<> {
        let end = self.check_out;
        self.check_in.iter_days().take_while(move |date| *date < end)
    }

    /// The instants the stay covers in a zone: from the start of the day of arrival to that of departure.
    pub fn to_interval(&self, tz: Tz) -> Interval {
        let (start, end) = (start_of_day(self.check_in, tz), start_of_day(self.check_out, tz));
        // A date that its zone skipped has no instant; an interval has at least one.
        Interval { start, end: end.max(start + Duration::microseconds(1)) }
    }
}

impl<'de> Deserialize<'de> for Nights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            check_in: NaiveDate,
            check_out: NaiveDate,
        }
        let raw = Raw::deserialize(deserializer)?;
        Self::new(raw.check_in, raw.check_out).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn intervals_that_touch_do_not_overlap() {
        let first = Interval::new(at(0), at(10)).unwrap();
        let second = Interval::new(at(10), at(20)).unwrap();
        assert!(!first.overlaps(&second) && !second.overlaps(&first));
        assert!(first.contains_instant(at(0)) && !first.contains_instant(at(10)));
    }

    #[test]
    fn an_interval_is_written_in_microseconds() {
        let interval = Interval::new(at(0), at(1)).unwrap();
        let json = serde_json::to_string(&interval).unwrap();
        assert_eq!(json, r#"{"start":"1970-01-01T00:00:00.000000Z","end":"1970-01-01T00:00:01.000000Z"}"#);
        assert_eq!(serde_json::from_str::<Interval>(&json).unwrap(), interval);
    }

    #[test]
    fn a_stay_has_at_least_a_night_and_an_end() {
        assert!(Nights::new(date("2028-02-29"), date("2028-03-01")).is_ok());
        for (from, to) in
            [("2026-05-01", "2026-05-01"), ("2026-05-02", "2026-05-01"), ("2026-01-01", "4763-11-28")]
        {
            assert!(Nights::new(date(from), date(to)).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn a_night_on_which_clocks_change_has_its_own_length() {
        let nights = Nights::new(date("2026-03-29"), date("2026-03-30")).unwrap();
        assert_eq!(nights.to_interval(chrono_tz::Europe::Brussels).duration(), Duration::hours(23));
    }

    #[test]
    fn dates_at_the_end_of_time_are_refused_and_a_skipped_date_is_not_empty() {
        assert!(Nights::new(NaiveDate::MIN, NaiveDate::MIN.succ_opt().unwrap()).is_err());
        assert!(Nights::new(NaiveDate::MAX.pred_opt().unwrap(), NaiveDate::MAX).is_err());
        let skipped = Nights::new(date("2011-12-30"), date("2011-12-31")).unwrap();
        let interval = skipped.to_interval(chrono_tz::Pacific::Apia);
        assert!(interval.start() < interval.end());
    }

    proptest! {
        #[test]
        fn widening_keeps_what_was_in_it(start in 0i64..1_000_000, length in 1i64..1_000_000, before in 0u32..20_000, after in 0u32..20_000) {
            let interval = Interval::new(at(start), at(start + length)).unwrap();
            prop_assert!(interval.widen(before, after).contains(&interval));
        }

        #[test]
        fn overlap_is_symmetric(a in 0i64..100, b in 1i64..100, c in 0i64..100, d in 1i64..100) {
            let first = Interval::new(at(a), at(a + b)).unwrap();
            let second = Interval::new(at(c), at(c + d)).unwrap();
            prop_assert_eq!(first.overlaps(&second), second.overlaps(&first));
        }
    }
}
