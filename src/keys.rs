//! The keys file: every secret that lives outside the database.
//!
//! A dump of the database alone is inert: personal values are sealed with subject keys, subject keys are
//! wrapped with a master key, and the master keys are only here. The file is made once, on an empty
//! database; the database remembers its [`Keys::fingerprint`], so that a foreign file is refused instead
//! of failing later, one value at a time.

mod file;

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use file::{Existing, write_file};

use crate::random::{self, RandomError};

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

/// The secrets of one installation. Never printed: [`fmt::Debug`](std::fmt::Debug) shows ids only.
pub struct Keys {
    id: Uuid,
    path: PathBuf,
    /// The master keys, as the file has them; a running server sees a rotated file.
    ring: RwLock<Arc<Ring>>,
    unique_hmac_key: Secret,
    token_pepper: Secret,
}

/// Newest first, never empty: the first wraps, signs and seals; all unwrap and verify.
#[derive(Clone)]
struct Ring {
    newest: MasterKey,
    older: Vec<MasterKey>,
    /// The file this was read from, to see that another took its place.
    stamp: Option<Stamp>,
}

/// Inode, and the time of the last change in seconds and nanoseconds: a file that is replaced has another.
type Stamp = (u64, i64, i64);

/// A key of one purpose, made of a master key, under that key's id.
#[derive(Clone)]
pub struct PurposeKey {
    /// The id of the master key, in hex.
    pub id: String,
    /// The key.
    pub key: Zeroizing<[u8; 32]>,
}

/// What can be told of a master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Its id, in hex.
    pub id: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Clone)]
struct MasterKey {
    id: [u8; KEY_ID_LEN],
    key: Secret,
    created_at: DateTime<Utc>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("id", &self.id)
            .field("path", &self.path)
            .field("master_keys", &self.master_key_ids())
            .finish_non_exhaustive()
    }
}

impl Keys {
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
        let keys = Self::generate(path, now)?;
        match write_file(path, keys.to_toml().as_bytes(), Existing::Keep) {
            Ok(()) => {
                tracing::info!(path = %path.display(), fingerprint = keys.fingerprint(), "made a new keys file");
                Self::load(path)
            }
            // Another process made it between our look and our write: its keys are the keys.
            Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(path)
            }
            Err(error) => Err(error),
        }
    }

    /// The keys of an existing file.
    ///
    /// # Errors
    /// When it does not exist, others can read it, or it is malformed.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        let io = |attempt| move |source| KeysError::Io { attempt, path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io("open the keys file"))?;
        let mode = file.metadata().map_err(io("look at the keys file"))?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeysError::Exposed { path: path.to_owned(), mode });
        }
        let stamp = stamp(&file).map_err(io("look at the keys file"))?;
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(io("read the keys file"))?;
        let keys = Self::parse(path, &text)?;
        keys.replace(Ring { stamp: Some(stamp), ..(*keys.ring()).clone() });
        Ok(keys)
    }

    /// Takes the master keys of a file that was rotated since it was read; answers whether it was. Another
    /// installation's file is refused.
    ///
    /// # Errors
    /// As [`Self::load`], and [`KeysError::Foreign`].
    pub fn reload_if_changed(&self) -> Result<bool, KeysError> {
        let io = |attempt| move |source| KeysError::Io { attempt, path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(io("open the keys file"))?;
        let found = stamp(&file).map_err(io("look at the keys file"))?;
        if self.ring().stamp == Some(found) {
            return Ok(false);
        }
        let read = Self::load(&self.path)?;
        let same = read.id == self.id
            && bool::from(read.unique_hmac_key.ct_eq(self.unique_hmac_key.as_slice()))
            && bool::from(read.token_pepper.ct_eq(self.token_pepper.as_slice()));
        if !same {
            let (expected, found) = (self.fingerprint(), read.fingerprint());
            return Err(KeysError::Foreign { path: self.path.clone(), expected, found });
        }
        self.replace((*read.ring()).clone());
        Ok(true)
    }

    /// The keys of a purpose, newest first: each made of a master key, so that rotating those rotates all.
    #[must_use]
    pub fn purpose_keys(&self, purpose: &str) -> Vec<PurposeKey> {
        self.ring().masters().map(|master| master.for_purpose(purpose)).collect()
    }

    /// The key of a purpose under an id. One that is not known yet is looked for in the file: another process may have
    /// rotated it a moment ago.
    #[must_use]
    pub fn purpose_key(&self, purpose: &str, id: &str) -> Option<PurposeKey> {
        let find = || {
            let ring = self.ring();
            ring.masters()
                .find(|master| hex::encode(master.id) == id)
                .map(|master| master.for_purpose(purpose))
        };
        find().or_else(|| self.reload_if_changed().ok().filter(|changed| *changed).and_then(|_| find()))
    }

    /// A digest under a key that is never rotated, for what must be the same for ever.
    #[must_use]
    pub fn digest(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut all: Vec<&[u8]> = vec![b"daybook digest v1|", purpose.as_bytes(), b"|"];
        all.extend(parts);
        hmac(&self.token_pepper, &all)
    }

    /// Fresh keys that are not saved yet.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(path: &Path, now: DateTime<Utc>) -> Result<Self, KeysError> {
        Ok(Self {
            id: Uuid::from_bytes(random::bytes()?),
            path: path.to_owned(),
            ring: RwLock::new(Arc::new(Ring {
                newest: MasterKey::generate(now)?,
                older: Vec::new(),
                stamp: None,
            })),
            unique_hmac_key: Zeroizing::new(random::bytes()?),
            token_pepper: Zeroizing::new(random::bytes()?),
        })
    }

    /// Puts a new master key in front. Old ones stay, so that what they wrapped still opens; save, then
    /// wrap everything again and store the new fingerprint.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn rotate(&self, now: DateTime<Utc>) -> Result<(), KeysError> {
        let ring = self.ring();
        let older = ring.masters().cloned().collect();
        self.replace(Ring { newest: MasterKey::generate(now)?, older, stamp: ring.stamp });
        Ok(())
    }

    /// Forgets all master keys but the newest `keep`; save afterwards. What an older one sealed must have been sealed
    /// again.
    pub fn retire(&self, keep: usize) {
        let ring = self.ring();
        let older = ring.older.iter().take(keep.saturating_sub(1)).cloned().collect();
        self.replace(Ring { older, ..(*ring).clone() });
    }

    /// What can be told of the master keys, newest first.
    #[must_use]
    pub fn status(&self) -> Vec<KeyStatus> {
        let told = |key: &MasterKey| KeyStatus { id: hex::encode(key.id), created_at: key.created_at };
        self.ring().masters().map(told).collect()
    }

    /// Replaces the file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<(), KeysError> {
        write_file(&self.path, self.to_toml().as_bytes(), Existing::Replace)
    }

    /// The installation's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The ids of the master keys, newest first.
    #[must_use]
    pub fn master_key_ids(&self) -> Vec<String> {
        self.ring().masters().map(|key| hex::encode(key.id)).collect()
    }

    /// What the database stores to know its keys file again: 32 hex characters that say nothing about the
    /// keys. It depends on the newest master key and on the keys which cannot be rotated.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint_with(&self.ring().newest)
    }

    /// Compares with what the database stored; `None` (a new database) accepts any file. A rotated file is
    /// accepted as long as it still has the key the database knows.
    ///
    /// # Errors
    /// [`KeysError::Foreign`] when none of the master keys gives `stored`.
    pub fn check_fingerprint(&self, stored: Option<&str>) -> Result<(), KeysError> {
        let Some(expected) = stored else { return Ok(()) };
        let known = self
            .ring()
            .masters()
            .any(|key| bool::from(self.fingerprint_with(key).as_bytes().ct_eq(expected.as_bytes())));
        if known {
            return Ok(());
        }
        Err(KeysError::Foreign {
            path: self.path.clone(),
            expected: expected.to_owned(),
            found: self.fingerprint(),
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
        let aad = subject_key_aad(tenant, subject);
        let ring = self.ring();
        let sealed = ring
            .newest
            .cipher()
            .encrypt(&nonce.into(), Payload { msg: key, aad: &aad })
            .map_err(|_| KeysError::Wrap)?;
        Ok([&ring.newest.id[..], &nonce[..], &sealed[..]].concat())
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
        let (id, rest) = wrapped.split_first_chunk::<KEY_ID_LEN>().ok_or(KeysError::Unwrap)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeysError::Unwrap)?;
        let ring = self.ring();
        let master = ring.masters().find(|key| key.id == *id).ok_or(KeysError::Unwrap)?;
        let aad = subject_key_aad(tenant, subject);
        let opened = master
            .cipher()
            .decrypt(nonce.into(), Payload { msg: sealed, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| KeysError::Unwrap)?;
        opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| KeysError::Unwrap)
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
            &self.unique_hmac_key,
            &[b"daybook unique v1|", &length, kind.as_bytes(), tenant.as_bytes(), value],
        )
    }

    /// The digest under which a bearer token is stored and looked up.
    #[must_use]
    pub fn hash_token(&self, token: &str) -> [u8; 32] {
        hmac(&self.token_pepper, &[b"daybook token v1|", token.as_bytes()])
    }

    fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, ring: Ring) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    fn fingerprint_with(&self, master: &MasterKey) -> String {
        let parts: [&[u8]; 4] = [
            b"daybook keys fingerprint v1|",
            self.id.as_bytes(),
            self.unique_hmac_key.as_slice(),
            self.token_pepper.as_slice(),
        ];
        hex::encode(&hmac(&master.key, &parts)[..16])
    }
}

impl Ring {
    fn masters(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

impl MasterKey {
    fn for_purpose(&self, purpose: &str) -> PurposeKey {
        let key = Zeroizing::new(hmac(&self.key, &[b"daybook purpose v1|", purpose.as_bytes()]));
        PurposeKey { id: hex::encode(self.id), key }
    }

    fn generate(now: DateTime<Utc>) -> Result<Self, KeysError> {
        Ok(Self { id: random::bytes()?, key: Zeroizing::new(random::bytes()?), created_at: now })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.as_slice().into())
    }
}

fn subject_key_aad(tenant: Uuid, subject: Uuid) -> Vec<u8> {
    format!("daybook subject key v1|{tenant}|{subject}").into_bytes()
}

fn hmac(key: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    // `Mac::new` takes the block-sized form of the key, which for a key shorter than the block is the key
    // and zeros; unlike `new_from_slice` it cannot fail.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key.as_slice());
    let mut mac = <Hmac<Sha256> as Mac>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_760_000_000, 0).unwrap()
    }

    fn keys_in(directory: &tempfile::TempDir) -> Keys {
        Keys::load_or_create(&directory.path().join("keys.toml"), true, now()).unwrap()
    }

    #[test]
    fn the_first_start_makes_a_private_file_and_later_ones_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/keys.toml");
        let made = Keys::load_or_create(&path, true, now()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");

        let loaded = Keys::load_or_create(&path, false, now()).unwrap();
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert_eq!(loaded.hash_token("x"), made.hash_token("x"));
        assert_eq!(loaded.to_toml().as_str(), fs::read_to_string(&path).unwrap());
        assert_eq!(made.fingerprint().len(), 32);
    }

    #[test]
    fn a_missing_file_is_refused_when_the_database_has_tenants() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        let error = Keys::load_or_create(&path, false, now()).unwrap_err();
        assert!(matches!(error, KeysError::Missing { .. }), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        keys_in(&directory);
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Keys::load(&path).unwrap_err();
            assert!(matches!(error, KeysError::Exposed { mode: found, .. } if found == mode), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        Keys::load(&path).unwrap();
    }

    #[test]
    fn a_malformed_file_is_refused_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.toml");
        keys_in(&directory);
        let text = fs::read_to_string(&path).unwrap();
        for broken in [
            text.replace("token_pepper = \"", "token_pepper = \"SECRETSECRET"),
            text.replace("token_pepper = \"", "token_pepper = SECRETSECRET\""),
            text.replace("token_pepper", "pepper_of_tokens"),
            text.split("\n[[").next().unwrap().to_owned(),
            String::new(),
        ] {
            fs::write(&path, broken).unwrap();
            let error = Keys::load(&path).unwrap_err();
            assert!(matches!(error, KeysError::Malformed { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("SECRETSECRET"), "{error:?}");
        }
    }

    #[test]
    fn a_foreign_file_is_refused_and_a_rotated_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let keys = keys_in(&directory);
        let stored = keys.fingerprint();
        keys.check_fingerprint(None).unwrap();
        keys.check_fingerprint(Some(&stored)).unwrap();

        let foreign = Keys::generate(Path::new("other.toml"), now()).unwrap();
        assert!(matches!(foreign.check_fingerprint(Some(&stored)), Err(KeysError::Foreign { .. })));

        keys.rotate(now()).unwrap();
        keys.save().unwrap();
        let rotated = Keys::load(&keys.path).unwrap();
        assert_ne!(rotated.fingerprint(), stored);
        rotated.check_fingerprint(Some(&stored)).unwrap();

        let mut keys = keys;
        keys.unique_hmac_key = Zeroizing::new([7; 32]);
        assert!(keys.check_fingerprint(Some(&stored)).is_err(), "another uniqueness key is another file");
    }

    #[test]
    fn a_wrapped_key_opens_only_for_its_subject_and_tenant() {
        let directory = tempfile::tempdir().unwrap();
        let keys = keys_in(&directory);
        let (subject, tenant, key) = (Uuid::from_u128(1), Uuid::from_u128(2), [9; 32]);
        let wrapped = keys.wrap_subject_key(subject, tenant, &key, [3; 24]).unwrap();
        assert_eq!(wrapped.len(), WRAPPED_LEN);

        keys.rotate(now()).unwrap();
        assert_ne!(Keys::wrapped_with(&wrapped), keys.master_key_ids().first().cloned());
        assert_eq!(*keys.unwrap_subject_key(subject, tenant, &wrapped).unwrap(), key);

        assert!(keys.unwrap_subject_key(tenant, subject, &wrapped).is_err());
        for length in 0..wrapped.len() {
            assert!(keys.unwrap_subject_key(subject, tenant, &wrapped[..length]).is_err());
        }
        for position in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[position] ^= 1;
            assert!(keys.unwrap_subject_key(subject, tenant, &changed).is_err());
        }
    }

    #[test]
    fn a_running_server_sees_a_rotated_file_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let keys = keys_in(&directory);
        assert!(!keys.reload_if_changed().unwrap());
        let old = keys.purpose_keys("x").remove(0);

        let operator = Keys::load(&keys.path).unwrap();
        operator.rotate(now()).unwrap();
        operator.save().unwrap();
        let new = operator.purpose_keys("x").remove(0);
        // Under an id it does not know it looks at the file.
        assert_eq!(keys.purpose_key("x", &new.id).unwrap().key, new.key);
        assert_eq!(keys.purpose_key("x", &old.id).unwrap().key, old.key);
        assert!(keys.purpose_key("y", &new.id).unwrap().key != new.key);

        operator.retire(1);
        operator.save().unwrap();
        assert!(keys.reload_if_changed().unwrap());
        assert!(keys.purpose_key("x", &old.id).is_none());

        let foreign = Keys::generate(&keys.path, now()).unwrap();
        foreign.save().unwrap();
        assert!(matches!(keys.reload_if_changed(), Err(KeysError::Foreign { .. })));
        assert_eq!(keys.purpose_keys("x").remove(0).id, new.id, "what was known stays");
    }

    #[test]
    fn digests_are_separated_by_purpose_kind_and_tenant() {
        let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let digest = keys.hmac_unique("email", a, b"x");
        assert_eq!(digest, keys.hmac_unique("email", a, b"x"));
        assert_ne!(digest, keys.hmac_unique("email", b, b"x"));
        assert_ne!(digest, keys.hmac_unique("phone", a, b"x"));
        assert_ne!(keys.hash_token("a"), keys.hash_token("b"));
    }

    #[test]
    fn hmac_is_the_standard_one() {
        // RFC 4231 has no 32-byte key, so the check is against the fallible constructor.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&[5; 32]).unwrap();
        mac.update(b"onetwo");
        assert_eq!(hmac(&Zeroizing::new([5; 32]), &[b"one", b"two"])[..], mac.finalize().into_bytes()[..]);
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
        keys.token_pepper = Zeroizing::new([0xab; 32]);
        let shown = format!("{keys:?}");
        assert!(!shown.contains("q6urq6ur") && !shown.contains("171"), "{shown}");
    }
}
