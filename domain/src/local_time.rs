//! Local time and IANA zones: rules are local, converted per date.

use chrono::{
    DateTime, Days, Duration, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset,
    TimeZone, Utc,
};
use chrono_tz::Tz;

use crate::DomainError;

/// The first instant of a date in a zone. Where midnight falls into a gap it is the gap's end; where the whole
/// date was skipped it is the start of the next one.
pub fn start_of_day(date: NaiveDate, tz: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(NaiveTime::MIN);
    match tz.from_local_datetime(&midnight) {
        LocalResult::Single(at) => at.to_utc(),
        LocalResult::Ambiguous(first, second) => first.min(second).to_utc(),
        LocalResult::None => end_of_gap(midnight, tz),
    }
}

/// The instant at which a gap that holds this local time ends.
pub(crate) fn end_of_gap(local: NaiveDateTime, tz: Tz) -> DateTime<Utc> {
    // The offset in force before the gap maps any time inside it to the gap's end or later. Gaps are at most
    // a day (a zone that crossed the date line), so two days earlier is before it.
    let before = local.checked_sub_days(Days::new(2)).unwrap_or(local);
    let offset = tz.offset_from_utc_datetime(&before).fix();
    let shift = Duration::seconds(i64::from(offset.local_minus_utc()));
    let late = local.checked_sub_signed(shift).unwrap_or(local);
    // Binary search for the change of offset between the two.
    let (mut low, mut high) = (before, late);
    while high - low > Duration::seconds(1) {
        let middle = low + (high - low) / 2;
        if tz.offset_from_utc_datetime(&middle).fix() == offset { low = middle } else { high = middle }
    }
    DateTime::from_timestamp(high.and_utc().timestamp(), 0).unwrap_or_else(|| high.and_utc())
}

/// The instant a local time means. A time in a gap means nothing; in a fold the first, unless an offset says.
///
/// # Errors
/// `time_in_gap` or `offset_mismatch` at `/starts_at`.
pub fn resolve(
    local: NaiveDateTime,
    tz: Tz,
    offset: Option<FixedOffset>,
) -> Result<DateTime<Utc>, DomainError> {
    let candidates = match tz.from_local_datetime(&local) {
        LocalResult::None => {
            return Err(DomainError::field(
                "/starts_at",
                "time_in_gap",
                "this local time does not exist: clocks are moved forward over it",
            ));
        }
        LocalResult::Single(at) => vec![at],
        LocalResult::Ambiguous(a, b) if a <= b => vec![a, b],
        LocalResult::Ambiguous(a, b) => vec![b, a],
    };
    candidates
        .iter()
        .find(|at| offset.is_none_or(|offset| at.offset().fix() == offset))
        .map(|at| at.to_utc())
        .ok_or_else(|| {
            DomainError::field(
                "/starts_at",
                "offset_mismatch",
                "the zone does not have this offset at that time",
            )
        })
}

/// An IANA zone by name.
///
/// # Errors
/// `unknown_time_zone` at `pointer`.
pub fn parse_zone(name: &str, pointer: &str) -> Result<Tz, DomainError> {
    name.parse()
        .map_err(|_| DomainError::field(pointer, "unknown_time_zone", "not the name of an IANA time zone"))
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America::Sao_Paulo, Asia::Kathmandu, Europe::Brussels, Pacific::Apia};
    use proptest::prelude::*;

    use super::*;

    fn local(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_in_a_gap_does_not_exist() {
        let error = resolve(local("2026-03-29T02:30:00"), Brussels, None).unwrap_err();
        assert!(matches!(error, DomainError::Validation { errors } if errors[0].code == "time_in_gap"));
    }

    #[test]
    fn a_time_in_a_fold_means_the_first_unless_an_offset_says() {
        let time = local("2026-10-25T02:30:00");
        let hours = |h: i32| FixedOffset::east_opt(h * 3600).unwrap();
        assert_eq!(resolve(time, Brussels, None).unwrap(), utc("2026-10-25T00:30:00Z"));
        assert_eq!(resolve(time, Brussels, Some(hours(2))).unwrap(), utc("2026-10-25T00:30:00Z"));
        assert_eq!(resolve(time, Brussels, Some(hours(1))).unwrap(), utc("2026-10-25T01:30:00Z"));
        assert!(resolve(time, Brussels, Some(hours(5))).is_err());
    }

    #[test]
    fn a_day_without_midnight_starts_after_the_gap() {
        assert_eq!(start_of_day("2018-11-04".parse().unwrap(), Sao_Paulo), utc("2018-11-04T03:00:00Z"));
    }

    #[test]
    fn a_day_that_was_skipped_starts_with_the_next() {
        let skipped = start_of_day("2011-12-30".parse().unwrap(), Apia);
        assert_eq!(skipped, start_of_day("2011-12-31".parse().unwrap(), Apia));
    }

    #[test]
    fn a_zone_with_a_quarter_offset() {
        assert_eq!(start_of_day("2026-01-01".parse().unwrap(), Kathmandu), utc("2025-12-31T18:15:00Z"));
        assert!(parse_zone("Europe/Atlantis", "/time_zone").is_err());
    }

    proptest! {
        #[test]
        fn no_time_of_a_day_is_before_its_start(day in 0u64..20_000, minute in 0i64..1440, zone in prop::sample::select(vec![Brussels, Sao_Paulo, Apia, Kathmandu])) {
            let date = NaiveDate::from_ymd_opt(1980, 1, 1).unwrap() + Days::new(day);
            if let Ok(at) = resolve(date.and_time(NaiveTime::MIN) + Duration::minutes(minute), zone, None) {
                prop_assert!(start_of_day(date, zone) <= at);
            }
        }
    }
}
