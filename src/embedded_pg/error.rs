use std::{io, path::PathBuf};

use crate::random::RandomError;

/// Why the private PostgreSQL cannot be used. Each text says what to do where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedPgError {
    /// No binaries anywhere.
    #[error(
        "no PostgreSQL {} or newer is installed (looked in DAYBOOK_PG_BIN, /usr/lib/postgresql/*/bin and PATH). \
         Install it with `make setup` or `apt-get install postgresql`, or set DATABASE_URL to use a server of \
         your own",
        super::binaries::OLDEST_MAJOR
    )]
    BinariesMissing,
    /// `DAYBOOK_PG_BIN` is set to something else.
    #[error(
        "DAYBOOK_PG_BIN is {directory}, which has no `postgres` and `initdb` of version {} or newer. Correct it, \
         or unset it to use what `make setup` or `apt-get install postgresql` installs",
        super::binaries::OLDEST_MAJOR
    )]
    BinariesUnusable {
        /// The directory named.
        directory: PathBuf,
    },
    /// The cluster was made by a major version that is not installed.
    #[error(
        "the data in {directory} was made by PostgreSQL {cluster}, and only {installed} is installed. Run \
         `apt-get install postgresql-{cluster}`, or point DAYBOOK_PG_BIN at its binaries"
    )]
    VersionMismatch {
        /// The cluster.
        directory: PathBuf,
        /// Its major version.
        cluster: u32,
        /// The major versions found.
        installed: String,
    },
    /// We are root, and there is nobody else to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and this system has no user `postgres`. Create it with \
         `useradd --system --no-create-home postgres`, or run daybook as another user than root"
    )]
    NoServiceAccount,
    /// The server's user cannot reach the data directory.
    #[error(
        "PostgreSQL runs as the user `{user}` because daybook runs as root, and that user may not enter \
         {directory}, so it cannot reach the data directory {data_dir}. Run `chmod o+x {directory}`, or choose a \
         directory elsewhere with --data-dir (such as /var/lib/daybook)"
    )]
    NotTraversable {
        /// The data directory.
        data_dir: PathBuf,
        /// The directory that keeps the user out.
        directory: PathBuf,
        /// The user.
        user: String,
    },
    /// The data belongs to another user.
    #[error("{path} belongs to the user with id {owner}; run daybook as that user (or as root)")]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A second server on the same data directory.
    #[error("another daybook (pid {pid}) is using this data directory: {data_dir}")]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The other process, as it says itself.
        pid: String,
    },
    /// Another daybook was starting or stopping PostgreSQL for too long.
    #[error("another daybook has been starting or stopping the PostgreSQL in {data_dir} for {seconds} s")]
    Busy {
        /// The data directory.
        data_dir: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// The cluster is there, its passwords are not.
    #[error(
        "{path} is missing: it holds the passwords of the PostgreSQL data beside it. Restore it from your backup \
         of the data directory"
    )]
    CredentialsMissing {
        /// The file.
        path: PathBuf,
    },
    /// The passwords file is not usable.
    #[error("{path} {reason}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        reason: String,
    },
    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    InitFailed {
        /// What it said.
        output: String,
    },
    /// The server ended while it was starting.
    #[error("PostgreSQL did not start ({status}). The end of {log}:\n{tail}")]
    StartFailed {
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The server was not ready in time.
    #[error("PostgreSQL was not ready after {seconds} s; see {log}")]
    StartTimeout {
        /// How long we waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// A server that may be ours does not answer.
    #[error(
        "{pid_file} names the process {pid}, a PostgreSQL that does not answer. Stop it; or, when it is not the \
         one of this directory, remove that file"
    )]
    Unresponsive {
        /// The postmaster.
        pid: i32,
        /// The file that names it.
        pid_file: PathBuf,
    },
    /// The server did not end in time.
    #[error("PostgreSQL (pid {pid}) did not stop within {seconds} s")]
    StopTimeout {
        /// The postmaster.
        pid: i32,
        /// How long we waited.
        seconds: u64,
    },
    /// The server is being stopped, so it is not started again.
    #[error("PostgreSQL is being stopped")]
    Stopping,
    /// No private directory for the socket.
    #[error(
        "the data directory's path is too long for a unix socket (at most 107 bytes), and the directory used \
         instead, {directory}, {reason}. Remove that directory, or choose a shorter --data-dir"
    )]
    SocketDirectory {
        /// The directory.
        directory: PathBuf,
        /// Why it is not used.
        reason: &'static str,
    },
    /// PostgreSQL refused what we asked.
    #[error("the private PostgreSQL refused to {attempt}")]
    Sql {
        /// What was attempted.
        attempt: &'static str,
        /// Its answer.
        source: sqlx::Error,
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
    /// No randomness for the passwords.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl EmbeddedPgError {
    /// For `map_err`: what was attempted, on which path.
    pub(super) fn io(attempt: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { attempt, path, source }
    }

    /// For `map_err`: what PostgreSQL was asked.
    pub(super) fn sql(attempt: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { attempt, source }
    }
}
