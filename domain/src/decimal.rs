//! 64-bit integers as decimal strings: readers of JSON keep 53 bits of a number. For `#[serde(with = "crate::decimal")]`.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// Writes an integer as its digits.
///
/// # Errors
/// Those of the serialiser.
pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Reads it back.
///
/// # Errors
/// When it is not the digits of an integer of its type.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom("expected the digits of an integer"))
}
