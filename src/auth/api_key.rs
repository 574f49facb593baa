//! The form of an API key: `ck_`, eight characters it is looked up by, thirty-two that are secret, six of a checksum.
//!
//! The checksum (CRC-32 of all before it, in base62) tells a mistyped or invented key without asking the database.

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::{
    keys::Keys,
    random::{self, RandomError},
};

/// What every key begins with.
pub const PREFIX: &str = "ck_";
const LOOKUP: usize = 8;
const SECRET: usize = 32;
const CHECKSUM: usize = 6;
const LENGTH: usize = PREFIX.len() + LOOKUP + SECRET + CHECKSUM;

/// A new key, and what it is looked up by.
#[derive(Debug)]
pub struct NewKey {
    /// The key itself, shown once.
    pub key: SecretString,
    /// What it is looked up by.
    pub lookup: String,
}

/// Makes a key.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn generate() -> Result<NewKey, RandomError> {
    // 43 characters of 256 random bits; the first ones carry a little less, which the lookup part does not need.
    let random = random::token("")?;
    let random = random.expose_secret();
    let mut key = Zeroizing::new(format!("{PREFIX}{}", &random[random.len() - LOOKUP - SECRET..]));
    let lookup = key[PREFIX.len()..][..LOOKUP].to_owned();
    let checksum = checksum(&key);
    key.push_str(&checksum);
    Ok(NewKey { key: SecretString::from(key.as_str()), lookup })
}

/// What a key is looked up by; `None` for anything that is not a key.
pub fn lookup(key: &str) -> Option<&str> {
    let proper = key.len() == LENGTH
        && key.starts_with(PREFIX)
        && key[PREFIX.len()..].bytes().all(|b| b.is_ascii_alphanumeric());
    if !proper || checksum(&key[..LENGTH - CHECKSUM]) != key[LENGTH - CHECKSUM..] {
        return None;
    }
    Some(&key[PREFIX.len()..][..LOOKUP])
}

/// The hash by which a key is recognised: keyed and salted. The key has 190 random bits, so it need not be slow.
pub fn hash(keys: &Keys, salt: &[u8; 16], key: &str) -> [u8; 32] {
    keys.hash_token(&Zeroizing::new(format!("{}{key}", hex::encode(salt))))
}

fn checksum(text: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_looked_up_by_its_first_characters() {
        let made = generate().unwrap();
        let key = made.key.expose_secret();
        assert_eq!(key.len(), 49);
        assert_eq!(lookup(key), Some(made.lookup.as_str()));
    }

    #[test]
    fn a_mistyped_key_is_none() {
        let made = generate().unwrap();
        let key = made.key.expose_secret();
        let swapped = if key.ends_with('0') { "1" } else { "0" };
        for wrong in [
            String::new(),
            key[..48].to_owned(),
            format!("{key}0"),
            format!("{}{swapped}", &key[..48]),
            key.replacen("ck_", "dk_", 1),
            "ck_é".repeat(10),
        ] {
            assert_eq!(lookup(&wrong), None, "{wrong}");
        }
    }
}
