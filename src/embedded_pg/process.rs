//! The PostgreSQL process: found, started, watched, stopped. Told apart from strangers by its command line,
//! because process ids are used again.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    net::TcpListener,
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::{Account, Binaries, EmbeddedPgError, layout::Layout};

/// What a running server says of itself in `postmaster.pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: i32,
    pub(super) port: u16,
    pub(super) socket_directory: PathBuf,
    pub(super) ready: bool,
}

impl PidFile {
    pub(super) fn path(layout: &Layout) -> PathBuf {
        layout.cluster.join("postmaster.pid")
    }

    pub(super) fn read(layout: &Layout) -> Option<Self> {
        Self::parse(&fs::read_to_string(Self::path(layout)).ok()?)
    }

    /// The pid alone, which a file that is being written has first.
    pub(super) fn read_pid(layout: &Layout) -> Option<i32> {
        fs::read_to_string(Self::path(layout)).ok()?.lines().next()?.trim().parse().ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            pid: lines.first()?.trim().parse().ok()?,
            port: lines.get(3)?.trim().parse().ok()?,
            socket_directory: PathBuf::from(lines.get(4)?),
            ready: lines.get(7).is_some_and(|status| status.trim() == "ready"),
        })
    }
}

/// A postmaster: our child, or one that an earlier daybook left behind.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub(super) pid: i32,
    cluster: PathBuf,
    child: Option<Child>,
}

impl Postmaster {
    /// One that runs already.
    pub(super) fn adopted(pid: i32, layout: &Layout) -> Self {
        Self { pid, cluster: layout.cluster.clone(), child: None }
    }

    pub(super) fn spawn(
        layout: &Layout,
        binaries: &Binaries,
        account: Option<&Account>,
        endpoint: &Endpoint,
    ) -> Result<Self, EmbeddedPgError> {
        let log = open_log(&layout.log)?;
        let errors = log.try_clone().map_err(EmbeddedPgError::io("open", &layout.log))?;
        let program = binaries.program("postgres");
        let mut command = Command::new(&program);
        let socket_directory = endpoint.socket_directory.display().to_string().replace('"', "\"\"");
        command
            .arg("-D")
            .arg(&layout.cluster)
            .args(["-c", &format!("cluster_name={}", layout.name)])
            .args(["-c", &format!("port={}", endpoint.port)])
            .args(["-c", &format!("listen_addresses={}", if endpoint.loopback { "127.0.0.1" } else { "" })])
            .args(["-c", &format!("unix_socket_directories=\"{socket_directory}\"")])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C in our terminal is for us: we stop PostgreSQL after the last request.
            .process_group(0);
        clean_environment(&mut command);
        if let Some(account) = account {
            account.apply(&mut command);
        }
        let child = command.spawn().map_err(EmbeddedPgError::io("run", program))?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        Ok(Self { pid, cluster: layout.cluster.clone(), child: Some(child) })
    }

    /// Whether it still runs; reaps it when it is ours and has ended.
    pub(super) fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => identify(self.pid, &self.cluster) == Identity::Postmaster,
        }
    }

    /// How it ended, for people.
    pub(super) fn status(&mut self) -> String {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => "it ended".to_owned(),
        }
    }

    /// Asks it to shut down: sessions are ended, a checkpoint is written.
    pub(super) fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Makes it end at once; the next start recovers from the log.
    pub(super) fn quit(&mut self) {
        self.signal(Signal::QUIT);
    }

    fn signal(&mut self, signal: Signal) {
        // Looked at first, so that a process id which is used again is never signalled.
        if self.is_running() {
            signal_pid(self.pid, signal);
        }
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) socket_directory: PathBuf,
    /// Names the socket, and is the port on 127.0.0.1.
    pub(super) port: u16,
    /// Also on 127.0.0.1, for tools that cannot use the socket.
    pub(super) loopback: bool,
}

impl Endpoint {
    /// With a port nobody uses.
    pub(super) fn choose(socket_directory: PathBuf) -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        match free {
            Ok(address) => Self { socket_directory, port: address.port(), loopback: true },
            // A sandbox without a loopback interface: the socket is enough.
            Err(_) => Self { socket_directory, port: 5432, loopback: false },
        }
    }
}

/// How much glibc's allocator keeps of what was freed (mallopt(3), in bytes). A batch's statement takes some hundred KiB
/// for the while it runs; as it is, glibc gives them back each time, and the kernel clears them each time anew.
const MALLOC: &str =
    "glibc.malloc.top_pad=524288:glibc.malloc.trim_threshold=2097152:glibc.malloc.mmap_threshold=1048576";

/// PostgreSQL's programs get a small environment of their own: no `PG…` variable of ours changes what they
/// do, and no secret of ours can be read in theirs. Also a directory that every user may be in.
pub(super) fn clean_environment(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C").env("GLIBC_TUNABLES", MALLOC).current_dir("/");
    for kept in ["PATH", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
}

/// Whose a process id from `postmaster.pid` is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nobody's; PostgreSQL finds that out by itself.
    Gone,
    /// This cluster's postmaster; a PostgreSQL that cannot be told from it counts as it.
    Postmaster,
    /// Another program was given the number, which PostgreSQL would take for a running postmaster.
    Stranger,
}

/// Looks at the process with this id.
pub(super) fn identify(pid: i32, cluster: &Path) -> Identity {
    // Negative for a single-user backend, which PostgreSQL deals with itself.
    let Some(valid) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
        return Identity::Gone;
    };
    if !Path::new("/proc/self/cmdline").exists() {
        // Without /proc there is only the number; whoever adopts it asks it for its data directory.
        return if test_kill_process(valid).is_ok() { Identity::Postmaster } else { Identity::Gone };
    }
    // Readable for everybody, unlike /proc/<pid>/exe. Empty for a zombie.
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return Identity::Gone };
    let mut arguments = command_line.split(|byte| *byte == 0);
    let program = arguments.next().map(|program| Path::new(OsStr::from_bytes(program)));
    if !program.and_then(Path::file_name).is_some_and(|name| name == "postgres" || name == "postmaster") {
        return Identity::Stranger;
    }
    if arguments.any(|argument| argument == cluster.as_os_str().as_bytes()) {
        return Identity::Postmaster;
    }
    // Somebody may have started it by hand, with a relative path. A postmaster sits in its data directory.
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(directory) if directory != cluster => Identity::Stranger,
        Ok(_) | Err(_) => Identity::Postmaster,
    }
}

/// Ends server processes whose postmaster was killed. They notice by themselves, as a rule at once; until
/// the last is gone a new postmaster refuses to start, as it must.
pub(super) async fn await_orphans(layout: &Layout) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut told = false;
    loop {
        let orphans = server_processes(&layout.name);
        if orphans.is_empty() || Instant::now() >= deadline {
            return;
        }
        if !told && deadline - Instant::now() < Duration::from_secs(8) {
            tracing::warn!(count = orphans.len(), "ending processes that a killed PostgreSQL left behind");
            orphans.iter().for_each(|pid| signal_pid(*pid, Signal::QUIT));
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The processes under the postmaster: they show the cluster's name as their title.
fn server_processes(name: &str) -> Vec<i32> {
    let title = format!("postgres: {name}: ");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(title.as_bytes()))
        })
        .collect()
}

fn signal_pid(pid: i32, signal: Signal) {
    if let Some(pid) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) {
        // It may have ended in the meantime, which is what the signal is for.
        let _ = kill_process(pid, signal);
    }
}

/// The log, moved aside when it has grown.
fn open_log(path: &Path) -> Result<File, EmbeddedPgError> {
    const LARGE: u64 = 16 * 1024 * 1024;
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LARGE) {
        // Only tidiness: when it fails, the log goes on growing.
        let _ = fs::rename(path, path.with_extension("log.1"));
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(EmbeddedPgError::io("open", path))
}

/// Where the log ends now, to quote only what comes after.
pub(super) fn log_length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The last lines of the log after `start`.
pub(super) fn log_tail(path: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(if start > length { 0 } else { start }.max(length.saturating_sub(4096))))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read_in_every_state() {
        let full = "4711\n/data/pg\n1760000000\n54321\n/data/run\n127.0.0.1\n  1234  5\nready   \n";
        let parsed = PidFile::parse(full).unwrap();
        assert_eq!((parsed.pid, parsed.port, parsed.ready), (4711, 54321, true));
        assert_eq!(parsed.socket_directory, Path::new("/data/run"));
        assert!(!PidFile::parse(&full.replace("ready   ", "starting")).unwrap().ready);
        assert_eq!(PidFile::parse("4711\n/data/pg\n"), None);
        assert_eq!(PidFile::parse(""), None);
    }

    #[test]
    fn strangers_are_no_postmaster() {
        let us = i32::try_from(std::process::id()).unwrap();
        assert_eq!(identify(us, Path::new("/")), Identity::Stranger);
        for nobody in [0, -1, i32::MAX] {
            assert_eq!(identify(nobody, Path::new("/")), Identity::Gone);
        }
    }
}
