//! `ETag` and `If-Match` (RFC 9110): an entity tag is the aggregate's sequence.

use axum::{extract::FromRequestParts, http::request::Parts};
use http::{HeaderMap, HeaderValue, header};

use super::problem::{Code, Problem, Result};

/// The entity tag of a sequence: `"3"`.
pub fn etag(sequence: i64) -> HeaderValue {
    // Digits between quotes are always a header value.
    HeaderValue::try_from(format!("\"{sequence}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// What `If-Match` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// Nothing.
    Absent,
    /// `*`: whatever version, as long as it exists.
    Any,
    /// This version.
    Version(i64),
    /// A tag that no version has; a weak tag never matches here.
    Never,
}

impl IfMatch {
    /// Reads the header.
    ///
    /// # Errors
    /// `malformed` when it is not one entity tag or `*`.
    pub fn parse(headers: &HeaderMap) -> Result<Self> {
        let mut values = headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(Self::Absent) };
        let malformed = || Problem::malformed("If-Match must be one entity tag, such as \"3\", or *.");
        let text = value.to_str().map_err(|_| malformed())?.trim();
        if values.next().is_some() {
            return Err(malformed());
        }
        if text == "*" {
            return Ok(Self::Any);
        }
        let (weak, quoted) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let tag = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .filter(|tag| !tag.contains('"'))
            .ok_or_else(malformed)?;
        match tag.parse::<i64>() {
            // Our own spelling only: `"03"` and `"+3"` are other tags.
            Ok(version) if !weak && version >= 0 && version.to_string() == tag => Ok(Self::Version(version)),
            _ => Ok(Self::Never),
        }
    }

    /// The sequence to expect; a tag that no version has expects one that none has.
    pub fn expected(self) -> Option<i64> {
        match self {
            Self::Absent | Self::Any => None,
            Self::Version(version) => Some(version),
            Self::Never => Some(-1),
        }
    }
}

/// `If-Match` where it must be given (PATCH, PUT, DELETE).
#[derive(Clone, Copy, Debug)]
pub struct RequiredIfMatch(pub IfMatch);

impl<S: Send + Sync> FromRequestParts<S> for RequiredIfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        match IfMatch::parse(&parts.headers)? {
            IfMatch::Absent => Err(Problem::new(
                Code::PreconditionRequired,
                "Send the ETag of the version you are changing as If-Match.",
            )),
            given => Ok(Self(given)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &'static str) -> Result<IfMatch> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
        IfMatch::parse(&headers)
    }

    #[test]
    fn a_tag_round_trips() {
        assert_eq!(etag(7), "\"7\"");
        assert_eq!(parse("\"7\"").unwrap(), IfMatch::Version(7));
        assert_eq!(IfMatch::parse(&HeaderMap::new()).unwrap(), IfMatch::Absent);
        assert_eq!(parse("*").unwrap().expected(), None);
    }

    #[test]
    fn a_foreign_or_weak_tag_never_matches() {
        for tag in ["\"abc\"", "W/\"7\"", "\"07\"", "\"+7\"", "\"-7\"", "\"99999999999999999999\""] {
            assert_eq!(parse(tag).unwrap().expected(), Some(-1), "{tag}");
        }
    }

    #[test]
    fn what_is_no_tag_is_malformed() {
        for text in ["7", "\"7", "", "\"7\", \"8\""] {
            assert_eq!(parse(text).unwrap_err().code(), Code::Malformed, "{text}");
        }
    }
}
