//! `Idempotency-Key`: under it a POST may be repeated without being done twice.

use http::{HeaderMap, Method};
use uuid::{Builder, Uuid};

use super::{
    headers::IDEMPOTENCY_KEY,
    problem::{Problem, Result},
};
use crate::{eventstore::IdempotencyKey, keys::Keys};

/// The longest key.
pub const MAX_KEY: usize = 255;

/// A client's key, with the scope it holds in; the body's hash is known later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedKey {
    scope: String,
    key: String,
}

impl ScopedKey {
    /// Reads the header of a POST; other methods are idempotent by themselves.
    ///
    /// # Errors
    /// `malformed` when it is not 1 to 255 visible ASCII characters.
    pub fn parse(headers: &HeaderMap, method: &Method, path: &str, actor: &str) -> Result<Option<Self>> {
        if method != Method::POST {
            return Ok(None);
        }
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let bytes = value.as_bytes();
        let proper = (1..=MAX_KEY).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(key) if proper && values.next().is_none() => {
                Ok(Some(Self { scope: format!("{actor} POST {path}"), key: key.to_owned() }))
            }
            _ => Err(Problem::malformed(
                "Idempotency-Key must be one key of 1 to 255 visible ASCII characters.",
            )),
        }
    }

    /// An id that follows from the key: what is made under it is made once, whatever is repeated.
    pub fn id(&self, keys: &Keys) -> Uuid {
        let digest = keys.digest("idempotent-id", &[self.scope.as_bytes(), b"|", self.key.as_bytes()]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// Binds it to a body.
    pub fn bind(self, request_hash: [u8; 32]) -> IdempotencyKey {
        IdempotencyKey { scope: self.scope, key: self.key, request_hash }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(method: Method, path: &str, key: &[u8]) -> Result<Option<ScopedKey>> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_bytes(key).unwrap());
        ScopedKey::parse(&headers, &method, path, "key:1")
    }

    #[test]
    fn the_same_key_on_another_route_is_another_key() {
        let one = parse(Method::POST, "/api/v1/bookings", b"k").unwrap().unwrap();
        let other = parse(Method::POST, "/api/v1/bookings/x/cancel", b"k").unwrap().unwrap();
        assert_ne!(one, other);
        assert_eq!(one.bind([1; 32]).request_hash, [1; 32]);
    }

    #[test]
    fn only_posts_have_keys() {
        assert_eq!(parse(Method::PATCH, "/", b"k").unwrap(), None);
    }

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        assert!(parse(Method::POST, "/", &[b'k'; 255]).unwrap().is_some());
        for wrong in [&b""[..], &[b'k'; 256], b"a b", "é".as_bytes(), b"a\tb"] {
            assert!(parse(Method::POST, "/", wrong).is_err(), "{wrong:?}");
        }
    }
}
