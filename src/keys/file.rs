//! The keys file's form: TOML with base64 in it, mode 0600, written whole or not at all.

use std::{
    fmt::Write as _,
    fs::{self, File, Metadata, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    KEY_ID_LEN, KeysError,
    ring::{KeyRing, Purpose, VersionedKey},
    set::{Hidden, KeySet},
};
use crate::random;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    id: Uuid,
    unique_hmac_key: SecretString,
    token_pepper: SecretString,
    master_keys: Vec<KeyEntry>,
    // Files of before these existed have none.
    #[serde(default)]
    jwt_keys: Vec<KeyEntry>,
    #[serde(default)]
    fernet_keys: Vec<KeyEntry>,
    #[serde(default)]
    link_keys: Vec<KeyEntry>,
    #[serde(default)]
    ledger_keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: String,
    key: SecretString,
    created_at: DateTime<Utc>,
}

/// Tells one state of the file from the next: a replaced file has another inode, an edited one another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    bytes: u64,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
            bytes: metadata.size(),
        }
    }
}

/// The file's stamp as it is now.
pub(super) fn stamp(path: &Path) -> Result<Stamp, KeysError> {
    let metadata = fs::metadata(path).map_err(|source| KeysError::Io {
        attempt: "look at the keys file",
        path: path.to_owned(),
        source,
    })?;
    Ok(Stamp::from(&metadata))
}

/// Reads the file; lists it lacks are made and written into it first.
pub(super) fn load(path: &Path) -> Result<(KeySet, Stamp), KeysError> {
    let (set, complete, stamp) = read(path)?;
    if complete {
        return Ok((set, stamp));
    }
    // Of two processes that find the lists missing only one may make them: what the other signed and sealed
    // meanwhile would be lost. A lock on the directory leaves no file behind.
    let io = |attempt| move |source| KeysError::Io { attempt, path: path.to_owned(), source };
    let directory = File::open(directory_of(path)).map_err(io("open the directory of"))?;
    directory.lock().map_err(io("lock the directory of"))?;
    let (set, complete, stamp) = read(path)?;
    if complete {
        return Ok((set, stamp));
    }
    let stamp = write_file(path, set.to_toml().as_bytes(), Existing::Replace)?;
    tracing::info!(path = %path.display(), "added the lists that the keys file did not have");
    Ok((set, stamp))
}

/// The keys, whether the file has all of them (what it lacks is fresh), and the file's stamp.
fn read(path: &Path) -> Result<(KeySet, bool, Stamp), KeysError> {
    let io = |attempt| move |source| KeysError::Io { attempt, path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io("open the keys file"))?;
    let metadata = file.metadata().map_err(io("look at the keys file"))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(io("read the keys file"))?;
    let (set, complete) = parse(path, &text)?;
    Ok((set, complete, Stamp::from(&metadata)))
}

fn parse(path: &Path, text: &str) -> Result<(KeySet, bool), KeysError> {
    let malformed = |reason: String| KeysError::Malformed { path: path.to_owned(), reason };
    // `message()` and not the whole error, which quotes the line.
    let file: KeysFile = toml::from_str(text)
        .map_err(|error| malformed(format!("it is not the expected TOML ({})", error.message())))?;
    let secret = |name: &str, value: &SecretString| {
        let bytes = Zeroizing::new(BASE64.decode(value.expose_secret()).unwrap_or_default());
        <[u8; 32]>::try_from(bytes.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| malformed(format!("{name} is not 32 bytes in base64")))
    };
    let ring = |purpose: Purpose, entries: &[KeyEntry]| {
        let list = purpose.list();
        let mut keys = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut id = [0; KEY_ID_LEN];
            hex::decode_to_slice(&entry.id, &mut id)
                .map_err(|_| malformed(format!("an id in {list} is not 16 hex characters")))?;
            let secret = secret(&format!("a key in {list}"), &entry.key)?;
            keys.push(VersionedKey { id, secret, created_at: entry.created_at });
        }
        Ok::<_, KeysError>(KeyRing::from_newest_first(keys))
    };
    let now = DateTime::from(SystemTime::now());
    let mut complete = true;
    let mut or_fresh = |ring: Option<KeyRing>| {
        complete &= ring.is_some();
        ring.map_or_else(|| KeyRing::generate(now), Ok)
    };
    let set = KeySet {
        id: file.id,
        master: ring(Purpose::Master, &file.master_keys)?
            .ok_or_else(|| malformed("it has no master key".into()))?,
        jwt: or_fresh(ring(Purpose::Jwt, &file.jwt_keys)?)?,
        fernet: or_fresh(ring(Purpose::Fernet, &file.fernet_keys)?)?,
        link: or_fresh(ring(Purpose::Link, &file.link_keys)?)?,
        ledger: or_fresh(ring(Purpose::Ledger, &file.ledger_keys)?)?,
        unique_hmac_key: Hidden(secret("unique_hmac_key", &file.unique_hmac_key)?),
        token_pepper: Hidden(secret("token_pepper", &file.token_pepper)?),
    };
    Ok((set, complete))
}

impl KeySet {
    pub(super) fn to_toml(&self) -> Zeroizing<String> {
        // Room for everything, so that no copy of a secret is left behind by a reallocation.
        let keys: usize = Purpose::ALL.iter().map(|purpose| self.ring(*purpose).count()).sum();
        let mut text = Zeroizing::new(String::with_capacity(1024 + 256 * keys));
        let base64 = |secret: &[u8; 32]| Zeroizing::new(BASE64.encode(secret));
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "# Daybook's keys. Without this file the personal data in the database cannot be read again:\n\
             # keep a copy, apart from the database's backups, and let nobody else read it.\n\
             id = \"{}\"\nunique_hmac_key = \"{}\"\ntoken_pepper = \"{}\"\n",
            self.id,
            base64(&self.unique_hmac_key.0).as_str(),
            base64(&self.token_pepper.0).as_str(),
        );
        for purpose in Purpose::ALL {
            for key in self.ring(purpose).iter() {
                let _ = write!(
                    text,
                    "\n[[{}]]\nid = \"{}\"\nkey = \"{}\"\ncreated_at = \"{}\"\n",
                    purpose.list(),
                    key.id(),
                    base64(key.secret()).as_str(),
                    key.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
                );
            }
        }
        text
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Existing {
    Keep,
    Replace,
}

/// Writes a 0600 file so that it exists whole or not at all, also after a power cut.
pub(super) fn write_file(path: &Path, content: &[u8], existing: Existing) -> Result<Stamp, KeysError> {
    let io = |attempt| move |source| KeysError::Io { attempt, path: path.to_owned(), source };
    let directory = directory_of(path);
    fs::create_dir_all(directory).map_err(io("create the directory of"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", hex::encode(random::bytes::<6>()?)));
    let temporary = directory.join(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        // Linking and renaming change neither the inode nor the time.
        let stamp = Stamp::from(&file.metadata()?);
        match existing {
            // A hard link, unlike a rename, refuses to replace a file that is there.
            Existing::Keep => fs::hard_link(&temporary, path)?,
            Existing::Replace => fs::rename(&temporary, path)?,
        }
        File::open(directory)?.sync_all()?;
        Ok(stamp)
    })();
    if written.is_err() || existing == Existing::Keep {
        // After a rename there is nothing to remove; otherwise a leftover is only untidy.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(io("write the keys file"))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
