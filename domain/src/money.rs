//! Money: integer minor units and an ISO 4217 currency, never a fraction.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::DomainError;

/// An ISO 4217 currency code: three upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The euro, the default of a tenant.
    pub const EUR: Self = Self(*b"EUR");

    /// Parses a code.
    ///
    /// # Errors
    /// `invalid_currency` when it is not three upper-case letters.
    pub fn new(code: &str) -> Result<Self, DomainError> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_uppercase) => Ok(Self(bytes)),
            _ => Err(DomainError::field(
                "/currency",
                "invalid_currency",
                "a currency is three upper-case letters (ISO 4217)",
            )),
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self::EUR
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Currency {
    type Err = DomainError;

    fn from_str(code: &str) -> Result<Self, DomainError> {
        Self::new(code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// An amount in minor units of a currency. In events the amount is a string, because JSON numbers lose
/// integers past 2^53 in many readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units (cents).
    #[serde(with = "amount_as_string")]
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// Nothing, in a currency.
    pub fn zero(currency: Currency) -> Self {
        Self { amount: 0, currency }
    }

    /// The amount `count` times; `None` when it does not fit.
    pub fn checked_mul(self, count: u32) -> Option<Self> {
        Some(Self { amount: self.amount.checked_mul(i64::from(count))?, ..self })
    }

    /// A share in percent, rounded half up to a minor unit.
    #[must_use]
    pub fn percent(self, percent: u8) -> Self {
        let share = (i128::from(self.amount) * i128::from(percent) + 50).div_euclid(100);
        // A share above 100 % of an amount near the limit is the limit.
        Self { amount: i64::try_from(share).unwrap_or(i64::MAX), ..self }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

mod amount_as_string {
    use super::*;

    pub fn serialize<S: Serializer>(amount: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(amount)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_amount_is_a_string_in_json() {
        let money = Money { amount: 12_500, currency: Currency::EUR };
        let json = serde_json::to_string(&money).unwrap();
        assert_eq!(json, r#"{"amount":"12500","currency":"EUR"}"#);
        assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        assert!(serde_json::from_str::<Money>(r#"{"amount":12500,"currency":"EUR"}"#).is_err());
    }

    #[test]
    fn a_currency_is_three_capitals() {
        for wrong in ["", "eur", "EURO", "E1R", "€"] {
            assert!(Currency::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_half_cent_rounds_up() {
        assert_eq!(Money { amount: 5, currency: Currency::EUR }.percent(50).amount, 3);
    }

    proptest! {
        #[test]
        fn a_share_is_never_more_than_the_whole(amount in 0..i64::MAX, percent in 0u8..=100) {
            let whole = Money { amount, currency: Currency::EUR };
            let share = whole.percent(percent);
            prop_assert!((0..=amount).contains(&share.amount));
            prop_assert_eq!(whole.percent(100), whole);
        }
    }
}
