//! When a booking is wanted, read from the fields of a request.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, Utc};
use daybook_domain::{
    Nights,
    booking::{RequestedTime, SlotStart},
};

use crate::http::problem::{Problem, Result};

/// The time of a request: `check_in` and `check_out`, or `starts_at` and perhaps `ends_at`.
///
/// # Errors
/// `validation_failed` at the field that is missing, wrong or too many.
pub fn requested(
    check_in: Option<NaiveDate>,
    check_out: Option<NaiveDate>,
    starts_at: Option<&str>,
    ends_at: Option<&str>,
) -> Result<RequestedTime> {
    let missing = |pointer| Problem::field(pointer, "required", "this field is required");
    match (check_in, check_out, starts_at, ends_at) {
        (Some(check_in), Some(check_out), None, None) => {
            Ok(RequestedTime::Nights(Nights::new(check_in, check_out)?))
        }
        (None, None, Some(start), end) => {
            Ok(RequestedTime::Slot { start: slot_start(start)?, ends_at: end.map(slot_end).transpose()? })
        }
        (_, _, Some(_), _) => Err(Problem::field(
            "/starts_at",
            "conflicting_fields",
            "a booking is by check_in and check_out or by starts_at, not both",
        )),
        (Some(_), None, None, _) => Err(missing("/check_out")),
        (None, None, None, Some(_)) => Err(missing("/starts_at")),
        (None, _, None, _) => Err(missing("/check_in")),
        (Some(_), Some(_), None, Some(_)) => Err(Problem::field(
            "/ends_at",
            "conflicting_fields",
            "a booking is by check_in and check_out or by starts_at, not both",
        )),
    }
}

/// The time of a booking that exists, as it would be asked for again.
pub fn again(
    check_in: Option<NaiveDate>,
    check_out: Option<NaiveDate>,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
) -> Option<RequestedTime> {
    match (check_in, check_out) {
        (Some(check_in), Some(check_out)) => Nights::new(check_in, check_out).ok().map(RequestedTime::Nights),
        _ => Some(RequestedTime::Slot {
            start: SlotStart::Instant(starts_at.fixed_offset()),
            ends_at: Some(ends_at),
        }),
    }
}

/// RFC 3339 with an offset is an instant; without one it is the time on the resource's clock.
fn slot_start(text: &str) -> Result<SlotStart> {
    if let Some(instant) = instant(text) {
        return Ok(SlotStart::Instant(instant));
    }
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .filter(|_| four_digit_year(text))
        .map(SlotStart::Local)
        .ok_or_else(|| {
            Problem::field(
                "/starts_at",
                "invalid_value",
                "expected RFC 3339, or a local time without an offset",
            )
        })
}

fn slot_end(text: &str) -> Result<DateTime<Utc>> {
    instant(text)
        .map(|end| end.to_utc())
        .ok_or_else(|| Problem::field("/ends_at", "invalid_value", "expected RFC 3339 with an offset"))
}

fn instant(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok().filter(|_| four_digit_year(text))
}

fn four_digit_year(text: &str) -> bool {
    text.as_bytes().get(4) == Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(result: Result<RequestedTime>) -> String {
        result.unwrap_err().errors()[0].pointer.clone()
    }

    #[test]
    fn a_time_is_by_nights_or_by_slot() {
        let day = |day| NaiveDate::from_ymd_opt(2026, 5, day);
        assert!(matches!(requested(day(1), day(2), None, None), Ok(RequestedTime::Nights(_))));
        assert_eq!(pointer(requested(day(1), None, None, None)), "/check_out");
        assert_eq!(pointer(requested(None, None, None, None)), "/check_in");
        assert_eq!(pointer(requested(day(1), day(2), Some("2026-05-01T10:00:00Z"), None)), "/starts_at");
        assert_eq!(pointer(requested(day(1), day(2), None, Some("2026-05-01T10:00:00Z"))), "/ends_at");
        assert_eq!(pointer(requested(day(2), day(1), None, None)), "/check_out");
    }

    #[test]
    fn a_start_is_an_instant_or_local() {
        let start = |text| match requested(None, None, Some(text), None) {
            Ok(RequestedTime::Slot { start, .. }) => Some(start),
            _ => None,
        };
        assert!(matches!(start("2026-05-01T10:00:00+02:00"), Some(SlotStart::Instant(_))));
        assert!(matches!(start("2026-05-01T10:00"), Some(SlotStart::Local(_))));
        assert!(matches!(start("2026-05-01T10:00:00"), Some(SlotStart::Local(_))));
        for wrong in ["", "2026-05-01", "tomorrow", "+12026-05-01T10:00:00Z", "2026-05-01T25:00:00Z"] {
            assert!(start(wrong).is_none(), "{wrong}");
        }
    }
}
