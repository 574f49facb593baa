//! Money as the API writes it: `{"amount": 12500, "currency": "EUR"}`, an integer of minor units.

use daybook_domain::{Currency, Money};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Problem, Result};

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoneyBody {
    /// Minor units (cents).
    #[schema(example = 12500)]
    pub amount: i64,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
}

impl MoneyBody {
    /// The amount as the domain has it.
    ///
    /// # Errors
    /// `invalid_currency` at `{pointer}/currency`.
    pub fn parse(&self, pointer: &str) -> Result<Money> {
        let currency = Currency::new(&self.currency).map_err(|_| {
            let pointer = format!("{pointer}/currency");
            Problem::field(pointer, "invalid_currency", "a currency is three upper-case letters (ISO 4217)")
        })?;
        Ok(Money { amount: self.amount, currency })
    }
}

impl From<Money> for MoneyBody {
    fn from(money: Money) -> Self {
        Self { amount: money.amount, currency: money.currency.to_string() }
    }
}
