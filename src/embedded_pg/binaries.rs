//! Which PostgreSQL is installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::EmbeddedPgError;

/// The oldest major version that works (`CREATE DATABASE … STRATEGY`, `security_invoker` views).
pub const OLDEST_MAJOR: u32 = 15;

/// A directory with `postgres` and `initdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// The installed binaries: `DAYBOOK_PG_BIN`, else the newest in `/usr/lib/postgresql`, else in `PATH`.
    ///
    /// # Errors
    /// When there are none, or `DAYBOOK_PG_BIN` is not one of them.
    pub fn find() -> Result<Self, EmbeddedPgError> {
        Self::candidates()?.into_iter().next().ok_or(EmbeddedPgError::BinariesMissing)
    }

    /// The binaries for an existing cluster, which only its own major version can run.
    pub(super) fn find_for(cluster: &Path) -> Result<Self, EmbeddedPgError> {
        let version = cluster.join("PG_VERSION");
        let major = fs::read_to_string(&version).map_err(EmbeddedPgError::io("read", &version))?;
        let candidates = Self::candidates()?;
        let Ok(major) = major.trim().parse() else { return Self::find() };
        if candidates.is_empty() {
            return Err(EmbeddedPgError::BinariesMissing);
        }
        let installed = candidates.iter().map(|found| found.major.to_string()).collect::<Vec<_>>().join(", ");
        candidates.into_iter().find(|found| found.major == major).ok_or(EmbeddedPgError::VersionMismatch {
            directory: cluster.to_owned(),
            cluster: major,
            installed,
        })
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The path of one program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What is installed, best first.
    fn candidates() -> Result<Vec<Self>, EmbeddedPgError> {
        if let Some(directory) = env::var_os("DAYBOOK_PG_BIN").filter(|value| !value.is_empty()) {
            let directory = PathBuf::from(directory);
            return match Self::inspect(&directory) {
                Some(found) => Ok(vec![found]),
                None => Err(EmbeddedPgError::BinariesUnusable { directory }),
            };
        }
        let mut packaged: Vec<Self> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|version| Self::inspect(&version.path().join("bin")))
            .collect();
        packaged.sort_by_key(|found| std::cmp::Reverse(found.major));
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path = env::split_paths(&path).filter_map(|directory| Self::inspect(&directory));
        Ok(packaged.into_iter().chain(on_path).collect())
    }

    fn inspect(directory: &Path) -> Option<Self> {
        if !directory.join("initdb").is_file() || !directory.join("postgres").is_file() {
            return None;
        }
        let output = Command::new(directory.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
        (major >= OLDEST_MAJOR).then(|| Self { directory: directory.to_owned(), major })
    }
}

/// The 15 of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, the 18 of `… 18beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 17\n"), Some(17));
        assert_eq!(parse_major("something else"), None);
    }
}
