//! The keys file's form: TOML with base64 in it, mode 0600, written whole or not at all.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, RwLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{KEY_ID_LEN, Keys, KeysError, MasterKey, Ring, Secret};
use crate::random;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    id: Uuid,
    unique_hmac_key: SecretString,
    token_pepper: SecretString,
    master_keys: Vec<MasterKeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterKeyEntry {
    id: String,
    key: SecretString,
    created_at: DateTime<Utc>,
}

impl Keys {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, KeysError> {
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
        let mut masters = Vec::with_capacity(file.master_keys.len());
        for entry in &file.master_keys {
            let mut id = [0; KEY_ID_LEN];
            hex::decode_to_slice(&entry.id, &mut id)
                .map_err(|_| malformed("a master key's id is not 16 hex characters".into()))?;
            let key = secret("a master key", &entry.key)?;
            masters.push(MasterKey { id, key, created_at: entry.created_at });
        }
        if masters.is_empty() {
            return Err(malformed("it has no master key".into()));
        }
        let newest = masters.remove(0);
        Ok(Self {
            id: file.id,
            path: path.to_owned(),
            ring: RwLock::new(Arc::new(Ring { newest, older: masters, stamp: None })),
            unique_hmac_key: secret("unique_hmac_key", &file.unique_hmac_key)?,
            token_pepper: secret("token_pepper", &file.token_pepper)?,
        })
    }

    pub(super) fn to_toml(&self) -> Zeroizing<String> {
        // Room for everything, so that no copy of a secret is left behind by a reallocation.
        let mut text = Zeroizing::new(String::with_capacity(1024 + 256 * (1 + self.ring().older.len())));
        let base64 = |secret: &Secret| Zeroizing::new(BASE64.encode(secret.as_slice()));
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "# Daybook's keys. Without this file the personal data in the database cannot be read again:\n\
             # keep a copy, apart from the database's backups, and let nobody else read it.\n\
             id = \"{}\"\nunique_hmac_key = \"{}\"\ntoken_pepper = \"{}\"\n",
            self.id,
            base64(&self.unique_hmac_key).as_str(),
            base64(&self.token_pepper).as_str(),
        );
        for master in self.ring().masters() {
            let _ = write!(
                text,
                "\n[[master_keys]]\nid = \"{}\"\nkey = \"{}\"\ncreated_at = \"{}\"\n",
                hex::encode(master.id),
                base64(&master.key).as_str(),
                master.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            );
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
pub(super) fn write_file(path: &Path, content: &[u8], existing: Existing) -> Result<(), KeysError> {
    let io = |attempt| move |source| KeysError::Io { attempt, path: path.to_owned(), source };
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory).map_err(io("create the directory of"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", hex::encode(random::bytes::<6>()?)));
    let temporary = directory.join(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        match existing {
            // A hard link, unlike a rename, refuses to replace a file that is there.
            Existing::Keep => fs::hard_link(&temporary, path)?,
            Existing::Replace => fs::rename(&temporary, path)?,
        }
        File::open(directory)?.sync_all()
    })();
    if written.is_err() || existing == Existing::Keep {
        // After a rename there is nothing to remove; otherwise a leftover is only untidy.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(io("write the keys file"))
}
