//! Access tokens: JWT (RFC 7519) with HS256 and nothing else, as RFC 8725 and RFC 9068 advise.
//!
//! Of the keys the newest signs, and the one before it still verifies, so that rotating them logs nobody out.
//!
//! The time is an argument, and the library's own checks of it are off: they know only the system's clock, and by
//! default a minute of leeway.

use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::keys::{Keys, Purpose};

const TYPE: &str = "at+jwt";
const ISSUER: &str = "daybook";
const AUDIENCE: &str = "daybook-api";
const PURPOSE: &str = "access-token";
/// How far a server's clock may be off, in seconds, before it refuses what the database would let in.
const LONG_OVER: i64 = 24 * 3_600;

/// What an access token lets somebody do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Act as the user it names: a sign-in.
    #[default]
    Session,
    /// Look into a tenant: a support session.
    Support,
    /// Act as somebody else: a hijack.
    Hijack,
}

/// Who acts, in a token that names somebody else as its subject (RFC 8693, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The user who acts.
    pub sub: Uuid,
}

/// What a valid access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// The user.
    pub sub: Uuid,
    /// The session: a sign-in, a support session or a hijack.
    pub sid: Uuid,
    /// Which of them.
    #[serde(default, rename = "use")]
    pub usage: Use,
    /// Who acts, where that is not the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
    /// The tenant; none for the platform's own people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Uuid>,
    /// The tier when it was issued; what counts is the tier now.
    pub role: String,
}

#[derive(Serialize, Deserialize)]
struct AllClaims {
    iss: String,
    aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
    #[serde(flatten)]
    access: AccessClaims,
}

/// Not a valid access token; why is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid access token")]
pub struct InvalidToken;

/// A token could not be signed: our own keys are always of the right form.
#[derive(Debug, thiserror::Error)]
#[error("an access token cannot be signed")]
pub struct CannotSign;

/// Issues a token that ends with a support session or a hijack, which the database's clock ends. What the token says of
/// its times is for its holder to read: the session is looked up at every use.
///
/// # Errors
/// [`CannotSign`], which the form of our keys excludes.
pub fn issue_until(
    keys: &Keys,
    access: AccessClaims,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<SecretString, CannotSign> {
    issue(keys, access, from, until - from)
}

/// Issues a token.
///
/// # Errors
/// [`CannotSign`], which the form of our keys excludes.
pub fn issue(
    keys: &Keys,
    access: AccessClaims,
    now: DateTime<Utc>,
    lifetime: Duration,
) -> Result<SecretString, CannotSign> {
    let key = keys.purpose_keys(Purpose::Jwt, PURPOSE).into_iter().next().ok_or(CannotSign)?;
    let header = Header { typ: Some(TYPE.into()), kid: Some(key.id), ..Header::new(Algorithm::HS256) };
    let claims = AllClaims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        iat: now.timestamp(),
        nbf: now.timestamp(),
        exp: (now + lifetime).timestamp(),
        jti: Uuid::now_v7(),
        access,
    };
    let secret = EncodingKey::from_secret(key.key.as_slice());
    jsonwebtoken::encode(&header, &claims, &secret).map(SecretString::from).map_err(|_| CannotSign)
}

/// Verifies a token.
///
/// # Errors
/// [`InvalidToken`] for whatever is wrong with it.
pub fn verify(keys: &Keys, token: &str, now: DateTime<Utc>) -> Result<AccessClaims, InvalidToken> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken)?;
    if header.alg != Algorithm::HS256 || header.typ.as_deref() != Some(TYPE) {
        return Err(InvalidToken);
    }
    let key = header
        .kid
        .as_deref()
        .and_then(|id| keys.purpose_key(Purpose::Jwt, PURPOSE, id))
        .ok_or(InvalidToken)?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "nbf", "sub"]);
    let secret = DecodingKey::from_secret(key.key.as_slice());
    let claims =
        jsonwebtoken::decode::<AllClaims>(token, &secret, &validation).map_err(|_| InvalidToken)?.claims;
    let now = now.timestamp();
    // Of support sessions and hijacks the database's clock is asked, by whoever looks them up: no server's own clock
    // lengthens or shortens them. What was over a day ago by any clock is not even looked up.
    let in_time = match claims.access.usage {
        Use::Session => claims.nbf <= now && now < claims.exp,
        Use::Support | Use::Hijack => now < claims.exp.saturating_add(LONG_OVER),
    };
    if !in_time || claims.iss != ISSUER || claims.aud != AUDIENCE {
        return Err(InvalidToken);
    }
    Ok(claims.access)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn keys() -> Keys {
        Keys::generate(Path::new("keys.toml"), now()).unwrap()
    }

    fn access() -> AccessClaims {
        AccessClaims {
            sub: Uuid::from_u128(1),
            sid: Uuid::from_u128(2),
            usage: Use::Session,
            act: None,
            tenant_id: Some(Uuid::from_u128(3)),
            role: "tenant_owner".into(),
        }
    }

    fn claims() -> Value {
        let at = now().timestamp();
        json!({"iss": ISSUER, "aud": AUDIENCE, "iat": at, "nbf": at, "exp": at + 60, "jti": Uuid::nil(),
               "sub": Uuid::from_u128(1), "sid": Uuid::from_u128(2), "role": "tenant_owner"})
    }

    fn signed(keys: &Keys, algorithm: Algorithm, typ: &str, claims: &Value) -> String {
        let key = keys.purpose_keys(Purpose::Jwt, PURPOSE).remove(0);
        let header = Header { typ: Some(typ.into()), kid: Some(key.id), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(key.key.as_slice())).unwrap()
    }

    #[test]
    fn what_was_issued_is_valid_until_it_expires() {
        let keys = keys();
        let token = issue(&keys, access(), now(), Duration::minutes(30)).unwrap();
        let token = token.expose_secret();
        assert_eq!(verify(&keys, token, now()), Ok(access()));
        assert_eq!(verify(&keys, token, now() + Duration::seconds(1_799)), Ok(access()));
        assert_eq!(verify(&keys, token, now() + Duration::seconds(1_800)), Err(InvalidToken));
        assert_eq!(verify(&keys, token, now() - Duration::seconds(1)), Err(InvalidToken), "not yet");
    }

    #[test]
    fn another_algorithm_type_or_key_is_refused() {
        let keys = keys();
        assert!(verify(&keys, &signed(&keys, Algorithm::HS256, TYPE, &claims()), now()).is_ok());
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert!(verify(&keys, &signed(&keys, algorithm, TYPE, &claims()), now()).is_err());
        }
        for typ in ["JWT", "rt+jwt", ""] {
            assert!(verify(&keys, &signed(&keys, Algorithm::HS256, typ, &claims()), now()).is_err());
        }
        let kid = keys.purpose_keys(Purpose::Jwt, PURPOSE).remove(0).id;
        let body = B64.encode(claims().to_string());
        for header in [
            json!({"alg": "none", "typ": TYPE, "kid": kid}),
            json!({"alg": "RS256", "typ": TYPE, "kid": kid}),
            json!({"alg": "HS256", "typ": TYPE}),
            json!({"alg": "HS256", "typ": TYPE, "kid": "0000000000000000"}),
            json!({"alg": "HS256", "typ": TYPE, "kid": "../../etc/passwd"}),
        ] {
            let head = B64.encode(header.to_string());
            for signature in ["", "AAAA"] {
                assert!(verify(&keys, &format!("{head}.{body}.{signature}"), now()).is_err(), "{header}");
            }
        }
        let other = signed(&self::keys(), Algorithm::HS256, TYPE, &claims());
        assert!(verify(&keys, &other, now()).is_err());
    }

    #[test]
    fn every_claim_is_required_and_of_its_value() {
        let keys = keys();
        for member in ["iss", "aud", "iat", "nbf", "exp", "jti", "sub", "sid", "role"] {
            let mut missing = claims();
            missing.as_object_mut().unwrap().remove(member);
            assert!(
                verify(&keys, &signed(&keys, Algorithm::HS256, TYPE, &missing), now()).is_err(),
                "{member}"
            );
        }
        for (member, value) in [
            ("iss", json!("other")),
            ("iss", json!([ISSUER])),
            ("aud", json!("daybook-mail")),
            ("aud", json!([AUDIENCE, "other"])),
            ("exp", json!(now().timestamp())),
            ("exp", json!("never")),
            ("nbf", json!(now().timestamp() + 1)),
            ("sub", json!("admin")),
        ] {
            let mut wrong = claims();
            wrong[member] = value;
            assert!(verify(&keys, &signed(&keys, Algorithm::HS256, TYPE, &wrong), now()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rotating_once_logs_nobody_out() {
        let keys = keys();
        let token = issue(&keys, access(), now(), Duration::minutes(30)).unwrap();
        keys.rotate(now()).unwrap();
        assert!(verify(&keys, token.expose_secret(), now()).is_ok());
        keys.rotate(now()).unwrap();
        assert!(verify(&keys, token.expose_secret(), now()).is_err());
    }
}
