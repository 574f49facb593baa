//! The user PostgreSQL runs as: ourselves, or somebody else when we are root, which it refuses.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use super::EmbeddedPgError;

/// A user and group to run PostgreSQL as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account for a new cluster: `None` (ourselves) unless we are root, then the user `postgres`.
    ///
    /// # Errors
    /// When we are root and there is no such user.
    pub fn for_new_cluster() -> Result<Option<Self>, EmbeddedPgError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        find_user(&users, |name, _| name == "postgres").map(Some).ok_or(EmbeddedPgError::NoServiceAccount)
    }

    /// The account for an existing cluster: its owner, because PostgreSQL insists on that.
    pub(super) fn for_cluster(cluster: &Path) -> Result<Option<Self>, EmbeddedPgError> {
        let metadata = fs::metadata(cluster).map_err(EmbeddedPgError::io("look at", cluster))?;
        let (owner, group) = (metadata.uid(), metadata.gid());
        let us = rustix::process::geteuid();
        if us.as_raw() == owner && !us.is_root() {
            return Ok(None);
        }
        if !us.is_root() {
            return Err(EmbeddedPgError::NotOurs { path: cluster.to_owned(), owner });
        }
        if owner == 0 {
            return Self::for_new_cluster();
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let known = find_user(&users, |_, uid| uid == owner);
        Ok(Some(known.unwrap_or(Self { name: owner.to_string(), uid: owner, gid: group })))
    }

    /// The user's numeric id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Makes `command` run as this account, without root's supplementary groups.
    pub fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or directory to this account.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn own(&self, path: &Path) -> Result<(), EmbeddedPgError> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(EmbeddedPgError::io("change the owner of", path))
    }

    /// Gives an open file to this account; `path` is for the error.
    pub(super) fn own_file(&self, file: &fs::File, path: &Path) -> Result<(), EmbeddedPgError> {
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
            .map_err(EmbeddedPgError::io("change the owner of", path))
    }

    /// Lets the account pass through the data directory itself, which is ours to arrange, and checks that it
    /// may pass through the directories above, which are not.
    pub(super) fn admit(&self, data_dir: &Path) -> Result<(), EmbeddedPgError> {
        let metadata = fs::metadata(data_dir).map_err(EmbeddedPgError::io("look at", data_dir))?;
        if !self.may_enter(&metadata) && metadata.uid() == 0 {
            std::os::unix::fs::chown(data_dir, None, Some(self.gid))
                .map_err(EmbeddedPgError::io("change the group of", data_dir))?;
            // What the old group could do is not handed to the new one.
            let mode = (metadata.mode() & 0o7707) | 0o010;
            fs::set_permissions(data_dir, fs::Permissions::from_mode(mode))
                .map_err(EmbeddedPgError::io("change the mode of", data_dir))?;
        }
        match self.first_closed_directory(data_dir)? {
            None => Ok(()),
            Some(directory) => Err(EmbeddedPgError::NotTraversable {
                data_dir: data_dir.to_owned(),
                directory,
                user: self.name.clone(),
            }),
        }
    }

    fn first_closed_directory(&self, path: &Path) -> Result<Option<PathBuf>, EmbeddedPgError> {
        let mut from_root: Vec<&Path> = path.ancestors().collect();
        from_root.reverse();
        for directory in from_root {
            let metadata = fs::metadata(directory).map_err(EmbeddedPgError::io("look at", directory))?;
            if !self.may_enter(&metadata) {
                return Ok(Some(directory.to_owned()));
            }
        }
        Ok(None)
    }

    fn may_enter(&self, directory: &fs::Metadata) -> bool {
        let execute = match directory {
            directory if directory.uid() == self.uid => 0o100,
            directory if directory.gid() == self.gid => 0o010,
            _ => 0o001,
        };
        directory.mode() & execute != 0
    }
}

fn find_user(users: &str, wanted: impl Fn(&str, u32) -> bool) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0 && wanted(name, uid)).then(|| Account { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\n# a comment\nbroken\n\
                         postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn users_are_found_by_name_and_id_and_root_never_is() {
        let postgres = find_user(USERS, |name, _| name == "postgres").unwrap();
        assert_eq!((postgres.uid, postgres.gid), (101, 104));
        assert_eq!(find_user(USERS, |_, uid| uid == 101), Some(postgres));
        assert_eq!(find_user(USERS, |name, _| name == "root"), None);
    }

    #[test]
    fn a_closed_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { name: "stranger".into(), uid: 54_321, gid: 54_321 };
        assert_eq!(stranger.first_closed_directory(&inner).unwrap(), Some(closed.clone()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(stranger.first_closed_directory(&inner).unwrap(), None);
    }
}
