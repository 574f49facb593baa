//! The strict JSON body: what any two readers could understand differently is refused.
//!
//! Two passes. The first reads the text as JSON without knowing what it means and refuses what is malformed: syntax,
//! lone surrogates, NUL, duplicate keys, numbers past 64 bits, depth. The second reads it into the request's type
//! and says which field is wrong.

use std::{borrow::Cow, fmt};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::{Path, Segment};

use super::problem::{Code, Problem, Result};
use crate::app::AppState;

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 32;

/// A JSON body of a type that refuses unknown fields.
#[derive(Clone, Debug)]
pub struct Json<T> {
    /// The request.
    pub value: T,
    /// A keyed digest of the body's bytes: what an idempotency key is bound to.
    pub hash: [u8; 32],
}

/// A JSON body that may be left out, which means every field's default.
#[derive(Clone, Debug)]
pub struct OptionalJson<T> {
    /// The request.
    pub value: T,
    /// A keyed digest of the body's bytes.
    pub hash: [u8; 32],
}

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let bytes = read(&parts.headers, body, state.settings().body_limit).await?;
        Ok(Self { value: parse(&bytes)?, hash: digest(state, &bytes) })
    }
}

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, state.settings().body_limit).await?;
        let hash = digest(state, &bytes);
        if bytes.is_empty() {
            return Ok(Self { value: T::default(), hash });
        }
        require_json(&parts.headers)?;
        Ok(Self { value: parse(&bytes)?, hash })
    }
}

/// What a body is told from others by, and kept as under an idempotency key. A body may hold a password: whoever has the
/// database alone must not be able to guess at it.
fn digest(state: &AppState, bytes: &[u8]) -> [u8; 32] {
    state.store().keys().digest("idempotency", &[bytes])
}

/// `application/json`, or a type with a `+json` suffix; UTF-8 if it says which.
fn require_json(headers: &HeaderMap) -> Result<()> {
    let is_json =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| {
            let mut parts = text.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let json =
                kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
            json && parts.all(|parameter| match parameter.split_once('=') {
                Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                    value.trim_matches('"').eq_ignore_ascii_case("utf-8")
                }
                _ => true,
            })
        });
    // A compressed body would have to be unpacked within the limit; nobody needs one here.
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if is_json && !encoded {
        Ok(())
    } else {
        Err(Problem::new(Code::UnsupportedMediaType, "Send the body as application/json in UTF-8."))
    }
}

async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes> {
    let too_large = || Problem::new(Code::TooLarge, format!("The body may have at most {limit} bytes."));
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::malformed("The body broke off.")),
    }
}

/// Reads a body into its type.
///
/// # Errors
/// `malformed` for what is not proper JSON; `validation_failed` with a pointer for what is not of the type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    check(bytes)?;
    // A derived reader takes an array for a struct, by position; nobody means that.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::field("", "invalid_type", "expected an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().clone();
        mistyped(&path, &error.into_inner().to_string())
    })
}

/// The field that is wrong, without the value that is in it.
fn mistyped(path: &Path, message: &str) -> Problem {
    let pointer = pointer(path);
    if let Some(field) = quoted(message, "unknown field `") {
        // The key itself is the last segment of the path where the reader had got that far.
        let pointer = if pointer.ends_with(&format!("/{}", escape(field))) {
            pointer
        } else {
            format!("{pointer}/{}", escape(field))
        };
        return Problem::field(pointer, "unknown_field", "there is no such field");
    }
    if let Some(field) = quoted(message, "missing field `") {
        return Problem::field(format!("{pointer}/{}", escape(field)), "required", "this field is required");
    }
    let position = message.rfind(" at line ").unwrap_or(message.len());
    let message = &message[..position];
    // What was expected is a text of ours; what comes before it quotes the value.
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid type") => {
            Problem::field(pointer, "invalid_type", format!("expected {expected}"))
        }
        Some((found, expected)) if found.starts_with("unknown variant") => {
            Problem::field(pointer, "invalid_value", format!("expected {expected}"))
        }
        _ => Problem::field(pointer, "invalid_value", "this is not a valid value"),
    }
}

fn quoted<'m>(message: &'m str, start: &str) -> Option<&'m str> {
    message.strip_prefix(start)?.split_once('`').map(|(field, _)| field)
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

fn escape(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) {
        Cow::Owned(key.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(key)
    }
}

fn check(bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::malformed("The body is not UTF-8."))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Checked { depth: 0 }.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| {
        let text = error.to_string();
        let own = REFUSALS.iter().find(|refusal| text.starts_with(**refusal));
        Problem::malformed(own.copied().unwrap_or("The body is not well-formed JSON."))
    })
}

const NUL: &str = "The body holds a NUL character.";
const TOO_DEEP: &str = "The body is nested too deeply.";
const DUPLICATE: &str = "The body names a field twice.";
const TOO_BIG: &str = "The body holds a number that is too large.";
const REFUSALS: [&str; 4] = [NUL, TOO_DEEP, DUPLICATE, TOO_BIG];
/// The largest integer that every reader of JSON agrees on.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Walks over any JSON and keeps nothing of it.
#[derive(Clone, Copy)]
struct Checked {
    depth: usize,
}

impl Checked {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH { Err(E::custom(TOO_DEEP)) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key, borrowed where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        if text.contains('\0') { Err(E::custom(NUL)) } else { Ok(Cow::Owned(text.to_owned())) }
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        if i64::try_from(number).is_ok() { Ok(()) } else { Err(E::custom(TOO_BIG)) }
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        if number.abs() < MAX_EXACT { Ok(()) } else { Err(E::custom(TOO_BIG)) }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') { Err(E::custom(NUL)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys: Vec<Cow<'de, str>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            // Small objects are compared one by one; large ones would make that quadratic.
            let twice = if keys.len() < 16 {
                keys.contains(&key)
            } else {
                if seen.is_empty() {
                    seen.extend(keys.iter().cloned());
                }
                !seen.insert(key.clone())
            };
            if twice {
                return Err(A::Error::custom(DUPLICATE));
            }
            entries.next_value_seed(inner)?;
            if keys.len() < 16 {
                keys.push(key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Request {
        name: String,
        #[serde(default)]
        tiers: Vec<Tier>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Tier {
        hours: u32,
    }

    fn refusal(text: &str) -> (u16, String, String) {
        let problem = parse::<Request>(text.as_bytes()).unwrap_err();
        let (pointer, code) = problem
            .errors()
            .first()
            .map_or_else(Default::default, |error| (error.pointer.clone(), error.code.clone()));
        (problem.code().status().as_u16(), pointer, code)
    }

    #[test]
    fn what_readers_disagree_about_is_malformed() {
        let deep = format!("{{\"name\": {}1{}}}", "[".repeat(40), "]".repeat(40));
        let very_deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "{\"name\": \"a\"} x",
            "{\"name\": \"\\u0000\"}",
            "{\"na\\u0000me\": \"\"}",
            "{\"name\": \"\\ud800\"}",
            "{\"name\": \"a\", \"name\": \"b\"}",
            "{\"name\": \"a\", \"other\": {\"x\": 1, \"\\u0078\": 2}}",
            "{\"name\": 1e400}",
            "{\"name\": 123456789012345678901234567890}",
            &deep,
            &very_deep,
        ] {
            assert_eq!(refusal(text).0, 400, "{}", &text[..text.len().min(60)]);
        }
        assert_eq!(parse::<Request>(b"{\"name\": \"\xff\"}").unwrap_err().code(), Code::Malformed);
    }

    #[test]
    fn a_wrong_field_is_pointed_at() {
        for (text, pointer, code) in [
            ("{\"name\": \"a\", \"role\": \"owner\"}", "/role", "unknown_field"),
            ("{\"name\": \"a\", \"a/b~\": 1}", "/a~1b~0", "unknown_field"),
            ("{}", "/name", "required"),
            ("{\"name\": 5}", "/name", "invalid_type"),
            (
                "{\"name\": \"a\", \"tiers\": [{\"hours\": 1}, {\"hours\": \"x\"}]}",
                "/tiers/1/hours",
                "invalid_type",
            ),
            (
                "{\"name\": \"a\", \"tiers\": [{\"hours\": 1, \"price\": 2}]}",
                "/tiers/0/price",
                "unknown_field",
            ),
            ("{\"name\": \"a\", \"tiers\": [{}]}", "/tiers/0/hours", "required"),
            ("{\"name\": \"a\", \"tiers\": [{\"hours\": -1}]}", "/tiers/0/hours", "invalid_value"),
            ("[]", "", "invalid_type"),
        ] {
            let (status, found, kind) = refusal(text);
            assert_eq!((status, found.as_str(), kind.as_str()), (422, pointer, code), "{text}");
        }
    }

    #[test]
    fn the_offending_value_is_never_repeated() {
        let problem =
            parse::<Request>(b"{\"name\": \"a\", \"tiers\": \"Ada Canary, expected x\"}").unwrap_err();
        assert!(!format!("{:?}", problem.errors()).contains("Ada"));
    }

    #[test]
    fn many_keys_are_still_compared() {
        let keys: Vec<String> = (0..100).map(|n| format!("\"k{n}\": 1")).collect();
        assert!(check(format!("{{{}}}", keys.join(",")).as_bytes()).is_ok());
        assert!(check(format!("{{{}, \"k7\": 1}}", keys.join(",")).as_bytes()).is_err());
        assert!(check(format!("{{{}, \"k77\": 1}}", keys.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn only_json_is_json() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            require_json(&headers).is_ok()
        };
        assert!(with("application/json") && with("application/json; charset=UTF-8"));
        assert!(with("application/merge-patch+json"));
        assert!(
            !with("text/plain") && !with("application/jsonx") && !with("application/json; charset=latin1")
        );
        assert!(require_json(&HeaderMap::new()).is_err());
    }
}
