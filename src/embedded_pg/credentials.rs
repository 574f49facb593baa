//! The passwords of the private PostgreSQL: random, made once, kept beside the data with mode 0600.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::EmbeddedPgError;
use crate::random;

/// One password per role. Base62, so that they need no quoting anywhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub(super) superuser_password: SecretString,
    pub(super) owner_password: SecretString,
    pub(super) app_password: SecretString,
}

impl Credentials {
    /// What the file holds; made when neither it nor a cluster exists.
    pub(super) fn load_or_create(path: &Path, cluster_exists: bool) -> Result<Self, EmbeddedPgError> {
        match fs::metadata(path) {
            Ok(metadata) => Self::load(path, metadata.mode()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && cluster_exists => {
                Err(EmbeddedPgError::CredentialsMissing { path: path.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(EmbeddedPgError::io("look at", path)(error)),
        }
    }

    fn load(path: &Path, mode: u32) -> Result<Self, EmbeddedPgError> {
        let refuse = |reason: String| EmbeddedPgError::Credentials { path: path.to_owned(), reason };
        if mode & 0o077 != 0 {
            let mode = mode & 0o7777;
            return Err(refuse(format!(
                "has mode {mode:04o}: others can read it. Run `chmod 600 {}`",
                path.display()
            )));
        }
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(EmbeddedPgError::io("read", path))?;
        // `message()` and not the whole error, which quotes the line.
        let credentials: Self = toml::from_str(&text)
            .map_err(|error| refuse(format!("is not the expected TOML ({})", error.message())))?;
        let all = [&credentials.superuser_password, &credentials.owner_password, &credentials.app_password];
        let plain = |password: &&SecretString| {
            let password = password.expose_secret();
            !password.is_empty() && password.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !all.iter().all(plain) {
            return Err(refuse("has a password that is not letters and digits only".into()));
        }
        Ok(credentials)
    }

    fn create(path: &Path) -> Result<Self, EmbeddedPgError> {
        let credentials = Self {
            superuser_password: random::token("")?,
            owner_password: random::token("")?,
            app_password: random::token("")?,
        };
        let text = Zeroizing::new(format!(
            "# The passwords of the private PostgreSQL in this directory.\n\
             superuser_password = \"{}\"\nowner_password = \"{}\"\napp_password = \"{}\"\n",
            credentials.superuser_password.expose_secret(),
            credentials.owner_password.expose_secret(),
            credentials.app_password.expose_secret(),
        ));
        // Whole or not at all: with half a file the cluster would be closed to us.
        let temporary = path.with_extension("toml.new");
        let write = || -> io::Result<()> {
            let _ = fs::remove_file(&temporary);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(path.parent().unwrap_or(path))?.sync_all()
        };
        write().map_err(EmbeddedPgError::io("write", path))?;
        Ok(credentials)
    }
}
