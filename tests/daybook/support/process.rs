//! The `daybook` program as processes: commands that run to their end, servers that are stopped or killed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{app::TestApp, cluster::TestDb};

/// A data directory, the database that belongs to it, and the processes over both.
pub struct Host {
    pub data: PathBuf,
    /// `DATABASE_URL` and `DAYBOOK_ADMIN_DATABASE_URL`; without them a private PostgreSQL is started.
    urls: Option<(String, String)>,
    filter: &'static str,
    directory: tempfile::TempDir,
}

/// A server.
pub struct Server {
    pub child: Child,
    /// Such as `http://127.0.0.1:8080`.
    pub address: String,
}

impl Host {
    /// With a private PostgreSQL on a real disk: in memory nothing is lost that fsync would keep.
    pub fn embedded() -> Self {
        super::cryptography();
        let directory = tempfile::Builder::new().prefix("daybook-test").tempdir_in("/var/tmp").unwrap();
        // As root, PostgreSQL runs as another user, who has to get through.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { data: directory.path().join("data"), urls: None, filter: "warn", directory }
    }

    /// On a database of the test cluster.
    pub fn on(db: &TestDb) -> Self {
        super::cryptography();
        let directory = tempfile::tempdir().unwrap();
        let urls = Some((db.app_url.clone(), db.owner_url.clone()));
        Self { data: directory.path().join("data"), urls, filter: "warn", directory }
    }

    /// Another node beside a server under test: its database at this `DATABASE_URL`, and its keys.
    pub fn beside(app: &TestApp, database_url: String) -> Self {
        let host = Self::on(&app.db);
        fs::create_dir(&host.data).unwrap();
        fs::copy(app.data_dir().join("keys.toml"), host.data.join("keys.toml")).unwrap();
        Self { urls: Some((database_url, app.db.owner_url.clone())), ..host }
    }

    /// With logs of this filter.
    pub fn logging(mut self, filter: &'static str) -> Self {
        self.filter = filter;
        self
    }

    /// Where its processes run.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command of it, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DAYBOOK_LOG", self.filter)
            // Most of its servers see no new tenant.
            .env("DAYBOOK_SPARE_SCHEMAS", "0")
            .stdin(Stdio::null())
            .current_dir(self.directory());
        if let Some((app, owner)) = &self.urls {
            command.env("DATABASE_URL", app).env("DAYBOOK_ADMIN_DATABASE_URL", owner);
        }
        command
    }

    /// Runs a command to its end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must end well, and answers with what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let printed = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {printed}{errors}");
        printed
    }

    /// Runs a command that prints one JSON document.
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments)).unwrap()
    }

    /// Starts a server and waits until it says where it listens.
    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// The same, with this in its environment.
    pub fn serve_with(&self, environment: &[(&str, &str)]) -> Server {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("no server: {}", self.log())).unwrap();
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.to_owned();
            }
        };
        // Whatever else it says must not block it.
        let mut printed = fs::OpenOptions::new().create(true).append(true).open(self.printed_file()).unwrap();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may be over, and its directory gone.
                let _ = writeln!(printed, "{line}");
            }
        });
        Server { child, address }
    }

    /// What its servers logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// What its servers printed, after where they listen.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.printed_file()).unwrap_or_default()
    }

    fn printed_file(&self) -> PathBuf {
        self.directory().join("server.out")
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("server.log")
    }

    /// kill -9 to the private PostgreSQL, if it runs right now.
    pub fn kill_postgres(&self) {
        let file = fs::read_to_string(self.data.join("pg/postmaster.pid")).unwrap_or_default();
        if let Some(pid) = file.lines().next().and_then(|line| Pid::from_raw(line.trim().parse().ok()?)) {
            // It may be gone already: then it is being started again.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Server {
    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, upon which it must end well.
    pub fn terminate(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "a server that is told to stop stops well");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only after a failure is it still there; its private PostgreSQL stops with it.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}
