//! Secrets at rest: Fernet, with the tenant and the field bound inside the plaintext.
//!
//! The keys are not in the database: a dump alone is inert. All keys open, the
//! newest seals; `daybook keys rotate` seals everything again.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use daybook_domain::TenantId;
use fernet::Fernet;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::keys::{Keys, Purpose, PurposeKey};

const PURPOSE: &str = "fernet";
/// Every token carries this time: with the real one, a clock that is set back would make what is kept unreadable.
const NO_TIME: u64 = 0;

/// A value that cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value is not of this tenant and field, was changed, or its key is not here")]
pub struct SealedError;

#[derive(Serialize, Deserialize)]
struct Bound {
    /// The tenant; nil for the platform.
    t: TenantId,
    /// The field.
    f: String,
    /// The value, in base64.
    v: String,
}

/// Seals a value of a tenant's, or of the platform's, for one field.
///
/// # Errors
/// When the key is not of its form, which ours are.
pub fn seal(keys: &Keys, tenant: Option<TenantId>, field: &str, value: &[u8]) -> Result<String, SealedError> {
    let bound = Bound { t: tenant.unwrap_or_default(), f: field.to_owned(), v: URL_SAFE.encode(value) };
    let plain = Zeroizing::new(serde_json::to_vec(&bound).map_err(|_| SealedError)?);
    let newest = keys.purpose_keys(Purpose::Fernet, PURPOSE).first().and_then(fernet).ok_or(SealedError)?;
    Ok(newest.encrypt_at_time(&plain, NO_TIME))
}

/// Opens what [`seal`] made for the same tenant and field.
///
/// # Errors
/// [`SealedError`] for anything else.
pub fn open(
    keys: &Keys,
    tenant: Option<TenantId>,
    field: &str,
    token: &str,
) -> Result<Zeroizing<Vec<u8>>, SealedError> {
    let plain = decrypt(&all(keys), token)?;
    let bound: Bound = serde_json::from_slice(&plain).map_err(|_| SealedError)?;
    if bound.t != tenant.unwrap_or_default() || bound.f != field {
        return Err(SealedError);
    }
    URL_SAFE.decode(&bound.v).map(Zeroizing::new).map_err(|_| SealedError)
}

/// Seals a token again with the newest key; `None` when it is sealed with that already.
///
/// # Errors
/// When no key opens it.
pub fn reseal(keys: &Keys, token: &str) -> Result<Option<String>, SealedError> {
    let all = all(keys);
    let newest = all.first().ok_or(SealedError)?;
    if newest.decrypt_at_time(token, None, NO_TIME).is_ok() {
        return Ok(None);
    }
    let plain = decrypt(&all, token)?;
    Ok(Some(newest.encrypt_at_time(&plain, NO_TIME)))
}

fn all(keys: &Keys) -> Vec<Fernet> {
    keys.purpose_keys(Purpose::Fernet, PURPOSE).iter().filter_map(fernet).collect()
}

fn decrypt(keys: &[Fernet], token: &str) -> Result<Zeroizing<Vec<u8>>, SealedError> {
    let opened = keys.iter().find_map(|key| key.decrypt_at_time(token, None, NO_TIME).ok());
    opened.map(Zeroizing::new).ok_or(SealedError)
}

fn fernet(key: &PurposeKey) -> Option<Fernet> {
    Fernet::new(&Zeroizing::new(URL_SAFE.encode(key.key.as_slice())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_value_is_opened_for_its_tenant_and_field_only() {
        let keys = Keys::generate(Path::new("keys.toml"), DateTime::UNIX_EPOCH).unwrap();
        let (a, b) = (Some(TenantId(Uuid::from_u128(1))), Some(TenantId(Uuid::from_u128(2))));
        let token = seal(&keys, a, "secret/stripe_key", b"sk_live").unwrap();
        assert_eq!(open(&keys, a, "secret/stripe_key", &token).unwrap().as_slice(), b"sk_live");
        assert!(open(&keys, b, "secret/stripe_key", &token).is_err());
        assert!(open(&keys, None, "secret/stripe_key", &token).is_err());
        assert!(open(&keys, a, "secret/smtp_password", &token).is_err());
        assert!(open(&keys, a, "secret/stripe_key", "gAAAA").is_err());
    }

    #[test]
    fn after_a_rotation_it_is_sealed_again_once() {
        let keys = Keys::generate(Path::new("keys.toml"), DateTime::UNIX_EPOCH).unwrap();
        let token = seal(&keys, None, "x", b"value").unwrap();
        assert_eq!(reseal(&keys, &token).unwrap(), None);
        keys.rotate(DateTime::UNIX_EPOCH).unwrap();
        let again = reseal(&keys, &token).unwrap().unwrap();
        keys.drop_retired();
        assert_eq!(open(&keys, None, "x", &again).unwrap().as_slice(), b"value");
        assert!(open(&keys, None, "x", &token).is_err() && reseal(&keys, &token).is_err());
    }
}
