//! The report of what was refused, and the summary.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    /// The line in the imported file; the header is line 1.
    pub line: u64,
    /// A stable code: `invalid`, `slot_taken`, or the code of another refusal.
    pub code: String,
    /// A sentence.
    pub reason: String,
}

/// What an import came to. `rows` is the sum of `accepted`, `invalid`, `slot_taken` and `refused_other`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImportSummary {
    /// Rows read.
    pub rows: u64,
    /// Rows whose booking was taken.
    pub accepted: u64,
    /// Rows refused because they are no booking: no nights or no guests.
    pub invalid: u64,
    /// Rows refused because their pool was full.
    pub slot_taken: u64,
    /// Rows refused for another reason.
    pub refused_other: u64,
    /// Status changes of accepted rows that were refused; each is in the report.
    pub steps_refused: u64,
    /// Rows that were changed to be taken; nothing of it is a refusal, so the report does not hold them.
    pub warnings: Vec<Refusal>,
    /// Events written by this run; those of an earlier, interrupted run are not counted again.
    pub events: u64,
    /// Commands that an earlier, interrupted run had already decided.
    pub resumed: u64,
    /// How long this run took.
    pub seconds: f64,
    /// Rows per second of this run.
    pub rows_per_second: f64,
    /// The import's id: the correlation id of its events.
    pub import_id: String,
    /// Where the report is.
    pub report: PathBuf,
}

/// Where the report goes if nothing else is said: `<file stem>.refusals.csv` in the current directory.
pub fn default_path(file: &Path) -> PathBuf {
    // `hotel_bookings.csv.gz` reports to `hotel_bookings.refusals.csv`.
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = name.strip_suffix(".csv").unwrap_or(name);
    PathBuf::from(format!("{stem}.refusals.csv"))
}

/// Writes the report in line order. Another program sees the old file or the whole new one.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, refusals: &mut [Refusal]) -> io::Result<()> {
    refusals.sort();
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let written = write_to(&unfinished, refusals).and_then(|()| std::fs::rename(&unfinished, path));
    if written.is_err() {
        // What is half-written is of no use, and the first error is the one to tell.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn write_to(path: &Path, refusals: &[Refusal]) -> io::Result<()> {
    let mut writer =
        csv::WriterBuilder::new().has_headers(false).from_writer(BufWriter::new(File::create(path)?));
    writer.write_record(["line", "code", "reason"])?;
    for refusal in refusals {
        writer.serialize(refusal)?;
    }
    let mut buffer = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
    buffer.flush()?;
    buffer.get_ref().sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_in_line_order_and_replaces_an_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.refusals.csv");
        std::fs::write(&path, "older").unwrap();
        let refusal =
            |line, code: &str, reason: &str| Refusal { line, code: code.into(), reason: reason.into() };
        let mut refusals =
            [refusal(12, "slot_taken", "full, that night"), refusal(2, "invalid", "no nights")];
        write(&path, &mut refusals).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "line,code,reason\n2,invalid,no nights\n12,slot_taken,\"full, that night\"\n"
        );
        write(&path, &mut []).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line,code,reason\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_report_is_named_after_the_file_without_its_endings() {
        assert_eq!(default_path(Path::new("/data/hotel.csv.gz")), Path::new("hotel.refusals.csv"));
        assert_eq!(default_path(Path::new("bookings")), Path::new("bookings.refusals.csv"));
    }

    #[test]
    fn a_report_that_cannot_be_written_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write(&directory.path().join("absent/report.csv"), &mut []).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
