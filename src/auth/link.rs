//! Signed links: a payload, and an HMAC of it under a key of one purpose. A link of one purpose is useless for another.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac as _};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;

use crate::keys::{Keys, Purpose as KeyList, PurposeKey};

/// The longest link that is looked at.
const MAX_LENGTH: usize = 2_048;

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Set a new password.
    PasswordReset,
    /// Accept an invitation.
    Invitation,
    /// Confirm a sign-up.
    Signup,
    /// See and change one's own booking.
    GuestBooking,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::PasswordReset => "link/password-reset",
            Self::Invitation => "link/invitation",
            Self::Signup => "link/signup",
            Self::GuestBooking => "link/guest-booking",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    #[serde(rename = "e")]
    expires_at: i64,
    #[serde(rename = "p")]
    payload: T,
}

/// Signs a payload until a time: `<key id>.<payload>.<mac>`. It can be read by whoever has it.
///
/// # Errors
/// When the payload does not serialise.
pub fn sign<T: Serialize>(
    keys: &Keys,
    purpose: Purpose,
    payload: &T,
    expires_at: DateTime<Utc>,
) -> Result<SecretString, serde_json::Error> {
    let body = B64.encode(serde_json::to_vec(&Sealed { expires_at: expires_at.timestamp(), payload })?);
    // There is always a newest key.
    let mut link = String::new();
    for key in keys.purpose_keys(KeyList::Link, purpose.label()).into_iter().take(1) {
        let signed = format!("{}.{body}", key.id);
        let tag = B64.encode(mac(&key, &signed).finalize().into_bytes());
        link = format!("{signed}.{tag}");
    }
    Ok(SecretString::from(link))
}

/// What a link says; `None` when it is not one of this purpose, was changed, or its time is over.
pub fn open<T: DeserializeOwned>(keys: &Keys, purpose: Purpose, link: &str, now: DateTime<Utc>) -> Option<T> {
    if link.len() > MAX_LENGTH {
        return None;
    }
    let (signed, tag) = link.rsplit_once('.')?;
    let (id, body) = signed.split_once('.')?;
    let key = keys.purpose_key(KeyList::Link, purpose.label(), id)?;
    // Compared in constant time.
    mac(&key, signed).verify_slice(&B64.decode(tag).ok()?).ok()?;
    let sealed: Sealed<T> = serde_json::from_slice(&B64.decode(body).ok()?).ok()?;
    (now.timestamp() < sealed.expires_at).then_some(sealed.payload)
}

fn mac(key: &PurposeKey, signed: &str) -> Hmac<Sha256> {
    // The block-sized form: unlike `new_from_slice` it cannot fail.
    let mut block = zeroize::Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key.key.as_slice());
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new((&*block).into());
    mac.update(signed.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::Duration;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn a_link_says_what_was_signed_for_its_purpose_and_time() {
        let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
        let until = now() + Duration::days(3);
        let link = sign(&keys, Purpose::PasswordReset, &"ada", until).unwrap();
        let link = link.expose_secret();
        let read = |purpose, at| open::<String>(&keys, purpose, link, at);
        assert_eq!(read(Purpose::PasswordReset, now()).as_deref(), Some("ada"));
        assert_eq!(read(Purpose::PasswordReset, until), None);
        for other in [Purpose::Invitation, Purpose::Signup, Purpose::GuestBooking] {
            assert_eq!(read(other, now()), None);
        }
        keys.rotate(now()).unwrap();
        assert!(read(Purpose::PasswordReset, now()).is_some(), "rotating ends no link");
    }

    #[test]
    fn no_changed_link_is_opened() {
        let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
        let link = sign(&keys, Purpose::Invitation, &7, now() + Duration::days(1)).unwrap();
        let link = link.expose_secret();
        for place in 0..link.len() {
            let mut bytes = link.as_bytes().to_vec();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of unpadded base64 has bits that mean nothing; they must be zero.
            assert_eq!(open::<i32>(&keys, Purpose::Invitation, &changed, now()), None, "{place}");
        }
        for cut in ["", ".", "..", &link[..link.len() - 1]] {
            assert_eq!(open::<i32>(&keys, Purpose::Invitation, cut, now()), None);
        }
    }
}
