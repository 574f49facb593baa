//! The query string, as strict as the body: an unknown, repeated or wrong parameter is 422 at `?name`.

use std::borrow::Cow;

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use daybook_domain::{ApiKeyId, BookingId, CustomerId, OfferingId, ResourceId};
use uuid::Uuid;

use super::{
    disclosure::{self, Disclosure},
    problem::{Code, Problem, Result},
};

/// The longest value of a parameter.
const MAX_VALUE: usize = 1_000;

/// The parameters that have not been taken yet.
#[derive(Debug)]
pub struct Params<'q> {
    rest: Vec<(Cow<'q, str>, Cow<'q, str>)>,
}

/// A type that a parameter's value can be read as.
pub trait Value: Sized {
    /// What is expected, for the refusal.
    const EXPECTED: &'static str;

    /// Reads it.
    fn read(text: &str) -> Option<Self>;
}

impl<'q> Params<'q> {
    /// Splits a query string.
    ///
    /// # Errors
    /// `malformed` for NUL; `validation_failed` for a parameter given twice or a value that is far too long.
    pub fn parse(query: Option<&'q str>) -> Result<Self> {
        let Some(query) = query.filter(|query| !query.is_empty()) else {
            return Ok(Self { rest: Vec::new() });
        };
        let mut rest: Vec<(Cow<'q, str>, Cow<'q, str>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if name.contains('\0') || value.contains('\0') {
                return Err(Problem::malformed("The query string holds a NUL character."));
            }
            if value.len() > MAX_VALUE || rest.len() == 32 {
                return Err(wrong(&name, "too_long", "this is too long"));
            }
            if rest.iter().any(|(known, _)| *known == name) {
                return Err(wrong(&name, "repeated", "this parameter is given twice"));
            }
            rest.push((name, value));
        }
        Ok(Self { rest })
    }

    fn take(&mut self, name: &str) -> Option<Cow<'q, str>> {
        let at = self.rest.iter().position(|(known, _)| known == name)?;
        // An empty value is what a form sends for a field left out.
        Some(self.rest.swap_remove(at).1).filter(|value| !value.is_empty())
    }

    /// A parameter as text.
    ///
    /// # Errors
    /// None today; kept for symmetry with the typed ones.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.take(name).map(Cow::into_owned))
    }

    /// A parameter by whose value people are found: every filter and search by personal data is read here.
    ///
    /// # Errors
    /// `forbidden` when it is given by somebody who is not shown such data, and whom a hit would tell it.
    pub fn personal(&mut self, name: &str) -> Result<Option<String>> {
        match (self.take(name), disclosure::current()) {
            (Some(_), Disclosure::Masked) => {
                Err(Problem::new(Code::Forbidden, "Personal data cannot be searched in a redacted session."))
            }
            (value, Disclosure::Masked | Disclosure::Clear) => Ok(value.map(Cow::into_owned)),
        }
    }

    /// A parameter that has one of a few values.
    ///
    /// # Errors
    /// `validation_failed` when it has another.
    pub fn one_of(&mut self, name: &str, values: &[&str]) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) if values.contains(&&*value) => Ok(Some(value.into_owned())),
            Some(_) => Err(wrong(name, "invalid_value", &format!("expected one of {}", values.join(", ")))),
        }
    }

    /// A parameter that may be left out.
    ///
    /// # Errors
    /// `validation_failed` when it is not of its type.
    pub fn optional<T: Value>(&mut self, name: &str) -> Result<Option<T>> {
        match self.take(name) {
            None => Ok(None),
            Some(text) => T::read(&text)
                .map(Some)
                .ok_or_else(|| wrong(name, "invalid_value", &format!("expected {}", T::EXPECTED))),
        }
    }

    /// A parameter that must be given.
    ///
    /// # Errors
    /// `validation_failed` when it is missing or not of its type.
    pub fn required<T: Value>(&mut self, name: &str) -> Result<T> {
        self.optional(name)?.ok_or_else(|| wrong(name, "required", "this parameter is required"))
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// `validation_failed` with `unknown_field`.
    pub fn finish(self) -> Result<()> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, _)) => Err(wrong(name, "unknown_field", "there is no such parameter")),
        }
    }
}

fn wrong(name: &str, code: &str, detail: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::field(format!("?{name}"), code, detail)
}

/// A query that knows its parameters.
pub trait FromParams: Sized {
    /// Takes them.
    ///
    /// # Errors
    /// When one is missing or wrong.
    fn from_params(params: &mut Params<'_>) -> Result<Self>;
}

/// The query string of a request.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: FromParams, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let mut params = Params::parse(parts.uri.query())?;
        let value = T::from_params(&mut params)?;
        params.finish()?;
        Ok(Self(value))
    }
}

impl Value for i64 {
    const EXPECTED: &'static str = "an integer";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for NaiveDate {
    const EXPECTED: &'static str = "a date (YYYY-MM-DD)";

    fn read(text: &str) -> Option<Self> {
        // The parser also takes signs, spaces and single digits; years past four digits overflow PostgreSQL's.
        let canonical = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        canonical.then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()).flatten()
    }
}

impl Value for DateTime<Utc> {
    const EXPECTED: &'static str = "an instant (RFC 3339 with an offset)";

    fn read(text: &str) -> Option<Self> {
        // A plus sign that was not escaped arrives as a space.
        DateTime::parse_from_rfc3339(&text.replace(' ', "+")).ok().map(|time| time.to_utc())
    }
}

/// A date (its first instant in UTC) or an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub DateTime<Utc>);

impl Value for Moment {
    const EXPECTED: &'static str = "a date (YYYY-MM-DD) or an instant (RFC 3339 with an offset)";

    fn read(text: &str) -> Option<Self> {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
        NaiveDate::read(text).map(midnight).or_else(|| DateTime::<Utc>::read(text)).map(Self)
    }
}

impl Value for Uuid {
    const EXPECTED: &'static str = "a UUID";

    fn read(text: &str) -> Option<Self> {
        super::path::uuid(text)
    }
}

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Value for $id {
            const EXPECTED: &'static str = Uuid::EXPECTED;

            fn read(text: &str) -> Option<Self> {
                Uuid::read(text).map(Self)
            }
        }
    )*};
}

ids!(ApiKeyId, BookingId, CustomerId, OfferingId, ResourceId);

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(result: Result<impl std::fmt::Debug>) -> String {
        result.unwrap_err().errors()[0].pointer.clone()
    }

    #[test]
    fn a_wrong_parameter_is_pointed_at() {
        let mut params = Params::parse(Some("from=2026-1-1&to=&x=1")).unwrap();
        assert_eq!(pointer(params.optional::<NaiveDate>("from")), "?from");
        assert_eq!(pointer(params.required::<NaiveDate>("to")), "?to");
        assert_eq!(pointer(params.finish()), "?x");
        assert_eq!(pointer(Params::parse(Some("a=1&a=2"))), "?a");
    }

    #[test]
    fn an_unescaped_plus_is_still_an_offset() {
        let mut params = Params::parse(Some("at=2026-01-01T10:00:00+01:00")).unwrap();
        let at = params.required::<DateTime<Utc>>("at").unwrap();
        assert_eq!(at.to_rfc3339(), "2026-01-01T09:00:00+00:00");
    }

    #[tokio::test]
    async fn nobody_is_found_by_what_is_not_shown() {
        let ask = async |query| Params::parse(Some(query)).unwrap().personal("email");
        let asked = disclosure::scope(Disclosure::Clear, ask("email=ada%40example.org")).await;
        assert_eq!(asked.unwrap().as_deref(), Some("ada@example.org"));
        let refused =
            disclosure::scope(Disclosure::Masked, ask("email=ada%40example.org")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Forbidden);
        assert!(!format!("{refused:?}").contains("ada"));
        assert!(ask("email=ada%40example.org").await.is_err());
        assert_eq!(disclosure::scope(Disclosure::Masked, ask("email=")).await.unwrap(), None);
    }

    #[test]
    fn nul_is_malformed() {
        assert_eq!(Params::parse(Some("a=%00")).unwrap_err().code().status(), 400);
    }
}
