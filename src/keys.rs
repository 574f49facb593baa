//! The keys file: every secret that lives outside the database.
//!
//! A dump of the database alone is inert: personal values are sealed with subject keys, subject keys are
//! wrapped with a master key, and the master keys are only here. The file is made once, on an empty
//! database; the database remembers its [`Keys::fingerprint`], so that a foreign file is refused instead
//! of failing later, one value at a time.
//!
//! A running process follows the file: [`Keys::reload_if_changed`] takes over what a rotation wrote.

mod file;
mod purpose;
mod ring;
mod set;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;
use zeroize::Zeroizing;

use file::{Existing, Stamp, write_file};
pub(crate) use set::hmac;

pub use purpose::PurposeKey;
pub use ring::{KeyRing, Purpose, VersionedKey};
pub use set::KeySet;

use crate::random::RandomError;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// No file, and the database already holds data sealed with keys we do not have.
    #[error(
        "the keys file {path} is missing, and this database already has tenants: their personal data is sealed \
         with keys that only that file holds, so a new one is not made. Restore it from your backup, or point \
         DAYBOOK_KEYS_FILE at it"
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file belongs to another database.
    #[error(
        "the keys file {path} is not the one this database was made with (the database expects fingerprint \
         {expected}, the file has {found}). Point DAYBOOK_KEYS_FILE at the right file"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What the database remembers.
        expected: String,
        /// What the file's newest key gives.
        found: String,
    },
    /// Others can read the file.
    #[error("the keys file {path} has mode {mode:04o}: others can read it. Run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not what [`Keys::save`] writes. The text never quotes it.
    #[error("the keys file {path} cannot be understood: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without any of its content.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {attempt} {path}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A wrapped key that these keys cannot open: cut, changed, another subject's, or an unknown master key.
    #[error("the wrapped key cannot be opened with these keys")]
    Unwrap,
    /// Sealing failed, which the cipher does only for absurd lengths.
    #[error("the key cannot be wrapped")]
    Wrap,
}

/// Bytes of a wrapped subject key: key id, nonce, key and tag.
pub const WRAPPED_LEN: usize = KEY_ID_LEN + NONCE_LEN + 32 + 16;

const KEY_ID_LEN: usize = 8;
const NONCE_LEN: usize = 24;

type Secret = Zeroizing<[u8; 32]>;

/// The secrets of one installation, as they are now. Never printed: [`fmt::Debug`](std::fmt::Debug) shows ids only.
pub struct Keys {
    path: PathBuf,
    /// Replaced as a whole, so that a reader never sees half of a rotation.
    current: RwLock<Arc<KeySet>>,
    /// Which state of the file `current` is; `None` for keys that are in no file.
    stamp: Mutex<Option<Stamp>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("id", &self.id())
            .field("path", &self.path)
            .field("master_keys", &self.master_key_ids())
            .finish_non_exhaustive()
    }
}

impl Keys {
    fn of(path: &Path, set: KeySet, stamp: Option<Stamp>) -> Self {
        Self { path: path.to_owned(), current: RwLock::new(Arc::new(set)), stamp: Mutex::new(stamp) }
    }

    /// The keys of `path`; made there when it does not exist and the database is empty.
    ///
    /// # Errors
    /// [`KeysError::Missing`] when the database has tenants and the file does not exist; otherwise when the
    /// file is exposed, malformed or cannot be read or written.
    pub fn load_or_create(
        path: &Path,
        database_is_empty: bool,
        now: DateTime<Utc>,
    ) -> Result<Self, KeysError> {
        match Self::load(path) {
            Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        if !database_is_empty {
            return Err(KeysError::Missing { path: path.to_owned() });
        }
        match Self::create(path, now) {
            // Another process made it between our look and our write: its keys are the keys.
            Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(path)
            }
            made => made,
        }
    }

    /// Fresh keys in a new file.
    ///
    /// # Errors
    /// When the file exists or cannot be written, or there is no randomness.
    pub fn create(path: &Path, now: DateTime<Utc>) -> Result<Self, KeysError> {
        let set = KeySet::generate(now)?;
        let stamp = write_file(path, set.to_toml().as_bytes(), Existing::Keep)?;
        tracing::info!(path = %path.display(), fingerprint = set.fingerprint(), "made a new keys file");
        Ok(Self::of(path, set, Some(stamp)))
    }

    /// The keys of an existing file. One written before there were lists for tokens, links, sealed secrets and checkpoints
    /// gets them now, in place.
    ///
    /// # Errors
    /// When it does not exist, others can read it, it is malformed, or it lacks lists and cannot be rewritten.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        let (set, stamp) = file::load(path)?;
        Ok(Self::of(path, set, Some(stamp)))
    }

    /// Fresh keys that are not saved yet.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(path: &Path, now: DateTime<Utc>) -> Result<Self, KeysError> {
        Ok(Self::of(path, KeySet::generate(now)?, None))
    }

    /// Takes over what the file holds now, if it is not what was read or written last. Any thread may call it at
    /// any time; when it fails, the keys stay what they are.
    ///
    /// # Errors
    /// When the file cannot be read, or is another installation's.
    pub fn reload_if_changed(&self) -> Result<bool, KeysError> {
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some() && *stamp == Some(file::stamp(&self.path)?) {
            return Ok(false);
        }
        let (set, found) = file::load(&self.path)?;
        let current = self.current();
        if !set.is_same_installation(&current) {
            return Err(KeysError::Foreign {
                path: self.path.clone(),
                expected: current.fingerprint(),
                found: set.fingerprint(),
            });
        }
        self.replace(set);
        *stamp = Some(found);
        Ok(true)
    }

    /// Puts a new key in front of every list. Of those that sign, the newest few stay, so that what was signed
    /// lately is still accepted; of those that seal, all stay until [`Self::drop_retired`]. Save, then seal
    /// everything again and store the new fingerprint.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn rotate(&self, now: DateTime<Utc>) -> Result<(), KeysError> {
        self.replace(self.current().rotated(now)?);
        Ok(())
    }

    /// Forgets the older keys that sealed. Only once nothing is sealed with them, and the database remembers the
    /// newest fingerprint; then save.
    pub fn drop_retired(&self) {
        self.replace(self.current().without_retired());
    }

    /// Replaces the file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<(), KeysError> {
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        *stamp = Some(write_file(&self.path, self.current().to_toml().as_bytes(), Existing::Replace)?);
        Ok(())
    }

    /// Every key as it is now; holding on to it keeps retired keys alive.
    #[must_use]
    pub fn current(&self) -> Arc<KeySet> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, set: KeySet) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    /// The installation's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.current().id
    }

    /// The ids of the master keys, newest first.
    #[must_use]
    pub fn master_key_ids(&self) -> Vec<String> {
        self.current().master.iter().map(VersionedKey::id).collect()
    }

    /// What the database stores to know its keys file again: 32 hex characters that say nothing about the
    /// keys. It depends on the newest master key and on the keys which cannot be rotated.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.current().fingerprint()
    }

    /// Compares with what the database stored; `None` (a new database) accepts any file. A rotated file is
    /// accepted as long as it still has the key the database knows.
    ///
    /// # Errors
    /// [`KeysError::Foreign`] when none of the master keys gives `stored`.
    pub fn check_fingerprint(&self, stored: Option<&str>) -> Result<(), KeysError> {
        let Some(expected) = stored else { return Ok(()) };
        let current = self.current();
        if current.knows_fingerprint(expected) {
            return Ok(());
        }
        Err(KeysError::Foreign {
            path: self.path.clone(),
            expected: expected.to_owned(),
            found: current.fingerprint(),
        })
    }

    /// Seals a subject's key with the newest master key, bound to its tenant and subject:
    /// key id (8) ‖ nonce (24) ‖ ciphertext and tag (48).
    ///
    /// # Errors
    /// Never for a 32-byte key; typed because the cipher's interface is.
    pub fn wrap_subject_key(
        &self,
        subject: Uuid,
        tenant: Uuid,
        key: &[u8; 32],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Vec<u8>, KeysError> {
        self.current().wrap(subject, tenant, key, nonce)
    }

    /// Opens what [`Self::wrap_subject_key`] sealed, with whichever master key sealed it.
    ///
    /// # Errors
    /// [`KeysError::Unwrap`] when it was changed, is another subject's, or its master key is not here.
    pub fn unwrap_subject_key(
        &self,
        subject: Uuid,
        tenant: Uuid,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, KeysError> {
        self.current().unwrap(subject, tenant, wrapped)
    }

    /// The id of the master key that sealed `wrapped`, to find what still waits to be wrapped again.
    #[must_use]
    pub fn wrapped_with(wrapped: &[u8]) -> Option<String> {
        wrapped.first_chunk::<KEY_ID_LEN>().map(hex::encode)
    }

    /// A keyed digest for uniqueness claims, so that `unique_claims` tells nothing about the values.
    #[must_use]
    pub fn hmac_unique(&self, kind: &str, tenant: Uuid, value: &[u8]) -> [u8; 32] {
        // The kind's length comes first: ("ab", "c") and ("a", "bc") must differ.
        let length = (kind.len() as u64).to_be_bytes();
        hmac(
            &self.current().unique_hmac_key.0,
            &[b"daybook unique v1|", &length, kind.as_bytes(), tenant.as_bytes(), value],
        )
    }

    /// The digest under which a bearer token is stored and looked up.
    #[must_use]
    pub fn hash_token(&self, token: &str) -> [u8; 32] {
        hmac(&self.current().token_pepper.0, &[b"daybook token v1|", token.as_bytes()])
    }

    /// A key for one stable purpose, which rotations leave alone. Another label gives another key.
    #[must_use]
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(hmac(&self.current().token_pepper.0, &[b"daybook derive v1|", label.as_bytes()]))
    }
}
