//! Keys of one purpose, of which several live at once.

use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{KEY_ID_LEN, KeysError, Secret};
use crate::random;

/// What a list of keys is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Wraps the keys of subjects.
    Master,
    /// Signs access tokens.
    Jwt,
    /// Seals secrets in the database.
    Fernet,
    /// Signs links.
    Link,
    /// Signs checkpoints of the logs.
    Ledger,
}

impl Purpose {
    /// Every list.
    pub const ALL: [Self; 5] = [Self::Master, Self::Jwt, Self::Fernet, Self::Link, Self::Ledger];

    /// The list's name in the keys file, and for people.
    #[must_use]
    pub fn list(self) -> &'static str {
        match self {
            Self::Master => "master_keys",
            Self::Jwt => "jwt_keys",
            Self::Fernet => "fernet_keys",
            Self::Link => "link_keys",
            Self::Ledger => "ledger_keys",
        }
    }

    /// How many keys a rotation leaves, where what an old one signed runs out by itself. What a master or Fernet key
    /// sealed does not: those stay until everything is sealed anew.
    pub(super) fn kept(self) -> Option<usize> {
        match self {
            Self::Master | Self::Fernet => None,
            // Of checkpoints, so that each is signed by a key that whoever checks it knew before and by the one to come.
            Self::Jwt | Self::Ledger => Some(2),
            // The link of a guest works until after the stay, which may be years ahead.
            Self::Link => Some(12),
        }
    }
}

/// A secret with the id by which what it made names it.
#[derive(Clone)]
pub struct VersionedKey {
    pub(super) id: [u8; KEY_ID_LEN],
    pub(super) secret: Secret,
    pub(super) created_at: DateTime<Utc>,
}

impl std::fmt::Debug for VersionedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VersionedKey").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl VersionedKey {
    pub(super) fn generate(now: DateTime<Utc>) -> Result<Self, KeysError> {
        Ok(Self { id: random::bytes()?, secret: Zeroizing::new(random::bytes()?), created_at: now })
    }

    /// Its id: 16 hex characters.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> DateTime<Utc> {
        self.created_at
    }

    /// The secret itself.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// The keys of one purpose, newest first, never none: the first makes, all open and verify.
#[derive(Clone, Debug)]
pub struct KeyRing {
    newest: VersionedKey,
    older: Vec<VersionedKey>,
}

impl KeyRing {
    pub(super) fn generate(now: DateTime<Utc>) -> Result<Self, KeysError> {
        Ok(Self { newest: VersionedKey::generate(now)?, older: Vec::new() })
    }

    /// `None` when there is none.
    pub(super) fn from_newest_first(mut keys: Vec<VersionedKey>) -> Option<Self> {
        if keys.is_empty() {
            return None;
        }
        let newest = keys.remove(0);
        Some(Self { newest, older: keys })
    }

    /// The key that makes.
    #[must_use]
    pub fn newest(&self) -> &VersionedKey {
        &self.newest
    }

    /// Every key, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &VersionedKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// The key with this id, as [`VersionedKey::id`] writes it.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&VersionedKey> {
        let mut bytes = [0; KEY_ID_LEN];
        hex::decode_to_slice(id, &mut bytes).ok()?;
        // One spelling for each key.
        self.find_bytes(&bytes).filter(|key| key.id() == id)
    }

    pub(super) fn find_bytes(&self, id: &[u8; KEY_ID_LEN]) -> Option<&VersionedKey> {
        self.iter().find(|key| bool::from(key.id.ct_eq(id)))
    }

    /// How many live.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.older.len()
    }

    pub(super) fn rotate(&mut self, newest: VersionedKey, kept: Option<usize>) {
        let previous = std::mem::replace(&mut self.newest, newest);
        self.older.insert(0, previous);
        if let Some(kept) = kept {
            self.older.truncate(kept.saturating_sub(1));
        }
    }

    pub(super) fn drop_older(&mut self) {
        self.older.clear();
    }
}
