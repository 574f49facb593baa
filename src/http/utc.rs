//! Times in answers, as chrono writes them, without its way through `fmt` character by character: a page has many.

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use serde::{Serialize as _, Serializer};

/// `2027-05-01T09:00:00Z`, with as many digits of the second as it has: none, 3, 6 or 9.
///
/// # Errors
/// When the serialiser refuses.
pub fn optional<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(at) = at else { return serializer.serialize_none() };
    let mut text = [0; LONGEST];
    match written(at, &mut text) {
        Some(text) => serializer.serialize_str(text),
        None => at.serialize(serializer),
    }
}

const LONGEST: usize = "9999-12-31T23:59:59.999999999Z".len();

/// `None` for years of other than four digits and for leap seconds.
fn written<'a>(at: &DateTime<Utc>, text: &'a mut [u8; LONGEST]) -> Option<&'a str> {
    let year = u32::try_from(at.year()).ok().filter(|year| *year <= 9_999)?;
    let nanos = at.nanosecond();
    if nanos >= 1_000_000_000 {
        return None;
    }
    text[..20].copy_from_slice(b"0000-00-00T00:00:00Z");
    put(&mut text[..4], year);
    let rest = [at.month(), at.day(), at.hour(), at.minute(), at.second()];
    for (index, value) in rest.into_iter().enumerate() {
        put(&mut text[5 + 3 * index..][..2], value);
    }
    let (digits, fraction) = match nanos {
        0 => (0, 0),
        _ if nanos.is_multiple_of(1_000_000) => (3, nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => (6, nanos / 1_000),
        _ => (9, nanos),
    };
    let mut length = 20;
    if digits > 0 {
        text[19] = b'.';
        put(&mut text[20..20 + digits], fraction);
        text[20 + digits] = b'Z';
        length = 21 + digits;
    }
    std::str::from_utf8(&text[..length]).ok()
}

/// Writes a number into as many digits as there is room for.
fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        // A digit is less than ten.
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Body {
        #[serde(serialize_with = "optional")]
        at: Option<DateTime<Utc>>,
    }

    #[test]
    fn a_time_is_written_as_chrono_does() {
        let nanos =
            [0, 1, 999, 1_000, 120_000, 999_999_000, 5_000_000, 100_000_000, 999_999_999, 1_500_000_000];
        let seconds = [
            0,
            59,
            1_709_164_800,
            951_782_399,
            -1,
            -62_135_596_800,
            -62_167_219_201,
            253_402_300_799,
            253_402_300_800,
        ];
        for seconds in seconds {
            for nanos in nanos {
                let Some(at) = DateTime::from_timestamp(seconds, nanos) else { continue };
                let text = serde_json::to_string(&Body { at: Some(at) }).unwrap();
                assert_eq!(text, format!(r#"{{"at":{}}}"#, serde_json::to_string(&at).unwrap()));
            }
        }
        assert_eq!(serde_json::to_string(&Body { at: None }).unwrap(), r#"{"at":null}"#);
    }
}
