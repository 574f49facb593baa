//! Keys of one use each, made of the keys of a list.

use zeroize::Zeroizing;

use super::{Keys, Purpose, VersionedKey, hmac};

/// A key of one use, under the id of the key it is made of.
#[derive(Clone)]
pub struct PurposeKey {
    /// The id, in hex.
    pub id: String,
    /// The key.
    pub key: Zeroizing<[u8; 32]>,
}

impl PurposeKey {
    fn of(key: &VersionedKey, label: &str) -> Self {
        let made = hmac(key.secret(), &[b"daybook purpose v1|", label.as_bytes()]);
        Self { id: key.id(), key: Zeroizing::new(made) }
    }
}

impl Keys {
    /// The keys of a use, newest first.
    #[must_use]
    pub fn purpose_keys(&self, list: Purpose, label: &str) -> Vec<PurposeKey> {
        self.current().ring(list).iter().map(|key| PurposeKey::of(key, label)).collect()
    }

    /// The key of a use under an id. One that is not known yet is looked for in the file: another process may have
    /// rotated it a moment ago.
    #[must_use]
    pub fn purpose_key(&self, list: Purpose, label: &str, id: &str) -> Option<PurposeKey> {
        let find = || self.current().ring(list).find(id).map(|key| PurposeKey::of(key, label));
        find().or_else(|| self.reload_if_changed().ok().filter(|changed| *changed).and_then(|_| find()))
    }

    /// A digest under a key that is never rotated, for what must be the same for ever.
    #[must_use]
    pub fn digest(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        hmac(&self.derive(label), parts)
    }
}
