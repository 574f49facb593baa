//! Where things are in the data directory.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{Account, EmbeddedPgError};

/// The paths of one data directory, which exists and is canonical.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) data_dir: PathBuf,
    /// The cluster.
    pub(super) cluster: PathBuf,
    pub(super) log: PathBuf,
    pub(super) credentials: PathBuf,
    /// Names the server's processes (`cluster_name`), so that they can be told from other servers'.
    pub(super) name: String,
}

/// The longest path that `sockaddr_un` takes, less `/.s.PGSQL.65535`.
const LONGEST_SOCKET_DIRECTORY: usize = 107 - 15;

impl Layout {
    pub(super) fn prepare(data_dir: &Path) -> Result<Self, EmbeddedPgError> {
        // Root's is entered by another user; see `Account::admit`, which opens no more than it must.
        DirBuilder::new()
            .recursive(true)
            .mode(if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 })
            .create(data_dir)
            .map_err(EmbeddedPgError::io("create the data directory", data_dir))?;
        let data_dir =
            data_dir.canonicalize().map_err(EmbeddedPgError::io("resolve the data directory", data_dir))?;
        let digest = Sha256::digest(data_dir.as_os_str().as_bytes());
        Ok(Self {
            cluster: data_dir.join("pg"),
            log: data_dir.join("pg.log"),
            credentials: data_dir.join("pg-credentials.toml"),
            name: format!("daybook-{}", hex::encode(&digest[..8])),
            data_dir,
        })
    }

    pub(super) fn cluster_exists(&self) -> bool {
        // Written by initdb, and the whole cluster is renamed into place at once.
        self.cluster.join("PG_VERSION").exists()
    }

    /// The private directory of the unix socket, made when it is missing: `run` in the data directory, or
    /// one under `XDG_RUNTIME_DIR` or `/tmp` when the path would be too long for a socket.
    pub(super) fn socket_directory(&self, account: Option<&Account>) -> Result<PathBuf, EmbeddedPgError> {
        let inside = self.data_dir.join("run");
        if inside.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY {
            make_private(&inside, account)?;
            return Ok(inside);
        }
        // Root's runtime directory is closed to the account the server runs as.
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|directory| {
            account.is_none()
                && directory.is_absolute()
                && directory.is_dir()
                && directory.as_os_str().len() < 60
        });
        let outside = runtime.unwrap_or_else(|| PathBuf::from("/tmp")).join(&self.name);
        make_private(&outside, account)?;
        // In /tmp somebody else may have been there first.
        let refuse = |reason| EmbeddedPgError::SocketDirectory { directory: outside.clone(), reason };
        let metadata = fs::symlink_metadata(&outside).map_err(EmbeddedPgError::io("look at", &outside))?;
        let owner = account.map_or_else(|| rustix::process::geteuid().as_raw(), Account::uid);
        if !metadata.is_dir() {
            return Err(refuse("is not a directory"));
        }
        if metadata.uid() != owner {
            return Err(refuse("belongs to somebody else"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(refuse("can be entered by others"));
        }
        Ok(outside)
    }
}

/// Makes a 0700 directory of the account's, unless it exists.
pub(super) fn make_private(directory: &Path, account: Option<&Account>) -> Result<(), EmbeddedPgError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Ours from a start that was killed before it could give it away: finish that.
            let metadata =
                fs::symlink_metadata(directory).map_err(EmbeddedPgError::io("look at", directory))?;
            let finish = metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & 0o077 == 0;
            if !finish {
                return Ok(());
            }
        }
        Err(error) => return Err(EmbeddedPgError::io("create", directory)(error)),
    }
    // The process's umask may have taken away more than it should.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
        .map_err(EmbeddedPgError::io("change the mode of", directory))?;
    account.map_or(Ok(()), |account| account.own(directory))
}
