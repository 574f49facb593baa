//! A log file of JSON lines that is kept small: the newest generation and a few older ones.
//!
//! It is written on a thread of its own, behind a bounded queue. Nobody waits for the disk: a line that finds the queue
//! full is dropped and counted.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use file_rotate::{ContentLimit, FileRotate, compression::Compression, suffix::AppendCount};
use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};

/// How long [`RotatingLog::flush`] waits for a disk.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// How large a log grows.
#[derive(Clone, Copy, Debug)]
pub struct RotationSettings {
    /// A generation ends with the line that makes it longer than this.
    pub max_bytes: usize,
    /// How many older generations are kept beside the one being written.
    pub generations: usize,
    /// How many lines may wait to be written.
    pub queue: usize,
}

impl Default for RotationSettings {
    fn default() -> Self {
        Self { max_bytes: 5 * 1024 * 1024, generations: 5, queue: 4_096 }
    }
}

/// A handle to a log file; cheap to clone. The file is made when the first line is written.
#[derive(Clone, Debug)]
pub struct RotatingLog {
    name: &'static str,
    sender: Option<SyncSender<Entry>>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

impl RotatingLog {
    /// A log at `path`. `name` is its label in the metrics and the name of its thread.
    pub fn new(name: &'static str, path: PathBuf, settings: RotationSettings) -> Self {
        let (sender, receiver) = sync_channel(settings.queue);
        let writer = Writer { name, path, settings, file: None };
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || writer.run(&receiver));
        if let Err(error) = &thread {
            tracing::error!(log = name, %error, "no thread to write the log; its lines are dropped");
        }
        Self { name, sender: thread.is_ok().then_some(sender) }
    }

    /// Adds a line. Never waits; what cannot be queued is dropped and counted.
    pub fn write(&self, line: &impl Serialize) {
        let Ok(mut text) = serde_json::to_vec(line) else { return dropped(self.name) };
        text.push(b'\n');
        if self.sender.as_ref().is_none_or(|sender| sender.try_send(Entry::Line(text)).is_err()) {
            dropped(self.name);
        }
    }

    /// Waits until every line before this is written, though not for ever.
    pub async fn flush(&self) {
        let Some(sender) = self.sender.clone() else { return };
        let written = async {
            let (done, written) = oneshot::channel();
            // A full queue is waited out elsewhere than on a thread that serves requests.
            let sent = tokio::task::spawn_blocking(move || sender.send(Entry::Flush(done))).await;
            sent.is_ok_and(|sent| sent.is_ok()) && written.await.is_ok()
        };
        if !timeout(FLUSH_PATIENCE, written).await.unwrap_or(false) {
            tracing::warn!(log = self.name, "the log was not flushed");
        }
    }
}

fn dropped(name: &'static str) {
    metrics::counter!("daybook_log_lines_dropped_total", "log" => name).increment(1);
}

struct Writer {
    name: &'static str,
    path: PathBuf,
    settings: RotationSettings,
    file: Option<FileRotate<AppendCount>>,
}

impl Writer {
    /// Writes until every handle is gone.
    fn run(mut self, receiver: &Receiver<Entry>) {
        let mut failed = false;
        for entry in receiver {
            match entry {
                Entry::Line(line) => match self.write(&line) {
                    Ok(()) => failed = false,
                    Err(error) => {
                        dropped(self.name);
                        // One line a failure, not one for each line that it costs.
                        if !failed {
                            tracing::error!(log = self.name, %error, "the log cannot be written");
                        }
                        failed = true;
                        self.file = None;
                    }
                },
                // Whoever waited may have gone.
                Entry::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            // A file that was taken away is made again: else its lines would go nowhere.
            Some(file) if self.path.exists() => file,
            _ => open(&self.path, self.settings)?,
        };
        // Renaming generations panics when another process renames them at the same time.
        catch_unwind(AssertUnwindSafe(|| file.write_all(line)))
            .unwrap_or_else(|_| Err(io::Error::other("the generations could not be rotated")))?;
        self.file = Some(file);
        Ok(())
    }
}

/// Opens the log for its owner alone. What the rotating writer would panic at or pass over in silence is tried first.
fn open(path: &Path, settings: RotationSettings) -> io::Result<FileRotate<AppendCount>> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).create(true).append(true).mode(0o600);
    drop(options.open(path)?);
    // It may be older than this program, and more open.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let limit = ContentLimit::BytesSurpassed(settings.max_bytes.max(1));
    Ok(FileRotate::new(path, AppendCount::new(settings.generations), limit, Compression::None, Some(options)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn generations_are_rotated_at_whole_lines_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/test.log");
        let settings = RotationSettings { max_bytes: 200, generations: 2, queue: 1_000 };
        let log = RotatingLog::new("test", path.clone(), settings);
        for n in 0..100 {
            log.write(&json!({"n": n, "text": "xxxxxxxxxx"}));
        }
        log.flush().await;
        let mut files: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files, [path.clone(), path.with_extension("log.1"), path.with_extension("log.2")]);
        let mut seen = Vec::new();
        for file in files.iter().rev() {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
            let text = fs::read_to_string(file).unwrap();
            assert!(text.len() < 240, "{}", text.len());
            seen.extend(
                text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap()),
            );
        }
        // Generations are numbered from the newest, so that .2, .1 and the file itself are in order.
        seen.sort_unstable();
        let first = *seen.first().unwrap();
        assert_eq!(seen, (first..100).collect::<Vec<_>>());
        assert!(first > 50);
    }

    #[tokio::test]
    async fn a_file_that_is_taken_away_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/test.log");
        let log = RotatingLog::new("test", path.clone(), RotationSettings::default());
        log.write(&json!(1));
        log.flush().await;
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        log.write(&json!(2));
        log.flush().await;
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("logs"), "a file").unwrap();
        let settings = RotationSettings { queue: 2, ..RotationSettings::default() };
        let log = RotatingLog::new("test", directory.path().join("logs/test.log"), settings);
        for n in 0..1_000 {
            log.write(&n);
        }
        log.flush().await;
    }
}
