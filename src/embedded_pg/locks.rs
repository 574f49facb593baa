//! Who uses the data directory. Three lock files, because a lock that the kernel releases when its holder
//! dies is the only one that a `kill -9` cannot leave behind:
//!
//! - `daybook.lock`: held by *the* server for as long as it runs; a second server is refused;
//! - `pg.users`: shared by every daybook that uses the PostgreSQL, so that the last one stops it;
//! - `pg.lock`: held for the moment in which PostgreSQL is started, adopted or stopped.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use super::EmbeddedPgError;

/// The server's claim on the data directory.
#[derive(Debug)]
pub(super) struct ServerLock {
    _file: File,
}

impl ServerLock {
    pub(super) async fn acquire(data_dir: &Path) -> Result<Self, EmbeddedPgError> {
        let path = data_dir.join("daybook.lock");
        let mut file = open(&path)?;
        let mut tries = 1;
        // A server that has just ended may still be held by a process it was starting: between fork and
        // exec that has copies of its parent's files.
        while !attempt(&file, FlockOperation::NonBlockingLockExclusive, &path)? {
            if tries < 10 {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            let mut pid = String::new();
            // The holder may be between locking and writing; its pid is a courtesy.
            let _ = file.read_to_string(&mut pid);
            let pid = match pid.trim() {
                "" => "unknown".to_owned(),
                pid => pid.to_owned(),
            };
            return Err(EmbeddedPgError::InUse { data_dir: data_dir.to_owned(), pid });
        }
        let write = |file: &mut File| -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(EmbeddedPgError::io("write", path))?;
        Ok(Self { _file: file })
    }
}

/// One use of the PostgreSQL.
#[derive(Debug)]
pub(super) struct UserLock {
    file: File,
}

impl UserLock {
    /// Call with the [`TransitionLock`] held: only its holder ever asks for the exclusive form, so this
    /// does not wait.
    pub(super) fn acquire(data_dir: &Path) -> Result<Self, EmbeddedPgError> {
        let path = data_dir.join("pg.users");
        let file = open(&path)?;
        flock(&file, FlockOperation::LockShared)
            .map_err(|error| EmbeddedPgError::io("lock", &path)(error.into()))?;
        Ok(Self { file })
    }

    /// Ends this use; true when it was the last one. Call with the [`TransitionLock`] held.
    ///
    /// Asked twice, for the same reason as above.
    pub(super) fn was_last(self) -> bool {
        let last = || flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        last() || {
            std::thread::sleep(Duration::from_millis(20));
            last()
        }
    }
}

/// The right to start or stop PostgreSQL.
#[derive(Debug)]
pub(super) struct TransitionLock {
    _file: File,
}

impl TransitionLock {
    pub(super) fn try_acquire(data_dir: &Path) -> Result<Option<Self>, EmbeddedPgError> {
        let path = data_dir.join("pg.lock");
        let file = open(&path)?;
        Ok(attempt(&file, FlockOperation::NonBlockingLockExclusive, &path)?.then_some(Self { _file: file }))
    }

    pub(super) async fn acquire(data_dir: &Path, limit: Duration) -> Result<Self, EmbeddedPgError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(lock) = Self::try_acquire(data_dir)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(EmbeddedPgError::Busy {
                    data_dir: data_dir.to_owned(),
                    seconds: limit.as_secs(),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn open(path: &Path) -> Result<File, EmbeddedPgError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(EmbeddedPgError::io("open", path))
}

fn attempt(file: &File, operation: FlockOperation, path: &Path) -> Result<bool, EmbeddedPgError> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(false),
        Err(error) => Err(EmbeddedPgError::io("lock", path)(error.into())),
    }
}
