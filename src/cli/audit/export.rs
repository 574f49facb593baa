//! `daybook audit export`.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use daybook_domain::{AuditExportId, audit_export::ExportFilter, registry::AggregateType};
use daybook_projections::Schema;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::private;
use crate::{
    cli::{Runtime, runtime::cli_metadata, say},
    export::{self, Ask, COLUMNS, Encoder, Export, FileFormat, Range},
    retention::{self, Retention},
    tenancy::{Access, TenantTx},
};

/// Read at once of a file that is continued.
const CHUNK: usize = 1 << 16;

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Whose log.
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// What it is written as.
    #[arg(long, value_parser = ["csv", "ndjson", "parquet"])]
    format: String,
    /// Where to. It is written beside, and moved there when it is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only past this position.
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: i64,
    /// Only up to this position [default: the log's last].
    #[arg(long, value_name = "POSITION")]
    until: Option<i64>,
    /// Only of this type (`booking.confirmed`).
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only of this actor (`user:<id>`).
    #[arg(long)]
    actor: Option<String>,
    /// Only of this aggregate: `<id>` or `<type>:<id>`.
    #[arg(long)]
    aggregate: Option<String>,
    /// Only recorded at or after this date (UTC) or instant.
    #[arg(long, value_parser = moment)]
    from: Option<DateTime<Utc>>,
    /// Only recorded before this date (UTC) or instant.
    #[arg(long, value_parser = moment)]
    to: Option<DateTime<Utc>>,
    /// Go on where an interrupted run of the same question was: after its last whole line. Not for parquet.
    #[arg(long)]
    resume: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .map(midnight)
        .or_else(|_| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()))
        .map_err(|_| "expected a date (YYYY-MM-DD) or an instant (RFC 3339 with an offset)".to_owned())
}

impl ExportArgs {
    fn filter(&self) -> anyhow::Result<ExportFilter> {
        let (aggregate_type, aggregate_id) = match &self.aggregate {
            None => (None, None),
            Some(text) => {
                let (kind, id) = match text.split_once(':') {
                    Some((kind, id)) => (Some(kind), id),
                    None => (None, text.as_str()),
                };
                let known = |kind| AggregateType::parse(kind).context("there is no such type of aggregate");
                (kind.map(known).transpose()?, Some(id.parse().context("--aggregate is an id, or type:id")?))
            }
        };
        let filter = ExportFilter {
            event_type: self.event_type.clone(),
            actor: self.actor.clone(),
            aggregate_type: aggregate_type.map(|kind| kind.as_str().to_owned()),
            aggregate_id,
            from: self.from,
            to: self.to,
        };
        // It is written down for ever: nothing of it may be anybody's name or address.
        filter.check()?;
        Ok(filter)
    }

    /// Where it is written until it is whole. The name says what was asked, so that nothing else is continued.
    fn part(&self, filter: &ExportFilter) -> anyhow::Result<PathBuf> {
        let asked = serde_json::to_vec(&(&self.tenant, &self.format, self.after, filter))?;
        let name = self.out.file_name().context("--out names a file")?.to_string_lossy();
        let asked = hex::encode(&Sha256::digest(asked)[..6]);
        Ok(self.out.with_file_name(format!("{name}.{asked}.part")))
    }
}

/// Exports. The plan's history counts here as well; that it has exports is not asked of the operator.
pub async fn run(runtime: &Runtime, args: &ExportArgs) -> anyhow::Result<()> {
    let format = FileFormat::parse(&args.format).context("an unknown format")?;
    ensure!(args.after >= 0, "a position is not negative");
    let filter = args.filter()?;
    let part = args.part(&filter)?;
    let tenant = runtime.admin.find(&args.tenant).await?;
    let schema = Schema::tenant(tenant.id);
    let retention =
        Retention::of(runtime.store.database(), tenant.id).await?.context("the tenant is gone")?;
    let cut = retention.cut(retention.now());

    let (mut file, continued) = open(&part, args, format)?;
    let ask = Ask { after: continued.unwrap_or(args.after), until: args.until, filter };
    let mut tx = TenantTx::begin(runtime.store.database().app(), &schema, Access::Read).await?;
    let range = Range::of(&mut tx, &ask, cut).await?;
    // What is named must be there, or the file would look whole and lack its beginning.
    let first = retention::first_at(&mut tx, cut).await?;
    tx.release();
    ensure!(
        ask.after == 0 || ask.after + 1 >= first,
        "what followed position {} is past what the plan keeps: begin anew",
        ask.after
    );
    ensure!(
        ask.until.is_none_or(|until| until == 0 || until >= first)
            && (first == 1 || ask.filter.to.is_none_or(|to| to > cut)),
        "all of that is past what the plan keeps"
    );
    let encoder = match continued {
        Some(_) => Encoder::continuing(format).context("this format cannot be continued")?,
        None => Encoder::new(format)?,
    };
    let id = AuditExportId(Uuid::now_v7());
    let metadata = cli_metadata("audit");
    let recorded = format.recorded();
    let mut export = Export::new(&runtime.store, &schema, range, &ask.filter, cut, encoder);
    export::start(&runtime.store, &schema, id, recorded, range, ask.filter, metadata.clone()).await?;

    let bar = bar(&tenant.slug, range);
    let begun = Instant::now();
    let mut bytes = 0;
    loop {
        let written = match export.next().await {
            Ok(Some(written)) => written,
            Ok(None) => break,
            Err(error) => {
                // Nobody goes on from there, and nothing need be kept for whoever would.
                if error.is_final() {
                    let (rows, last) = export.progress();
                    export::end(&runtime.store, &schema, id, (rows, last, false), metadata).await?;
                }
                return Err(error.into());
            }
        };
        file.write_all(&written.bytes).with_context(|| format!("write {}", part.display()))?;
        bytes += written.bytes.len();
        bar.set_position(u64::try_from(written.last_position - range.after).unwrap_or(0));
    }
    let file = file.into_inner().map_err(|error| error.into_error()).context("write the file")?;
    file.sync_all().with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, &args.out).with_context(|| format!("move {} to its place", part.display()))?;
    bar.finish_and_clear();
    let (rows, last) = export.progress();
    export::end(&runtime.store, &schema, id, (rows, last, true), metadata).await?;

    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        say(json!({
            "tenant": tenant.slug, "export_id": id, "format": args.format, "file": args.out,
            "after": range.after, "until": range.until, "rows": rows, "last_position": last, "bytes": bytes,
            "resumed_after": continued, "seconds": seconds,
        }));
    } else {
        say(format_args!(
            "{rows} events past position {} and up to {} in {}, {bytes} bytes in {seconds:.1} s (export {id})",
            range.after,
            range.until,
            args.out.display()
        ));
    }
    Ok(())
}

/// The file to write to, and after which position it goes on.
fn open(
    part: &Path,
    args: &ExportArgs,
    format: FileFormat,
) -> anyhow::Result<(BufWriter<File>, Option<i64>)> {
    let what = || format!("open {}", part.display());
    if !args.resume {
        let file = private(OpenOptions::new().create(true).truncate(true), part).with_context(what)?;
        return Ok((BufWriter::new(file), None));
    }
    ensure!(format != FileFormat::Parquet, "a parquet file cannot be continued; begin it anew");
    let mut file = private(OpenOptions::new().read(true), part).with_context(|| {
        format!("there is no interrupted export of this question beside {}", args.out.display())
    })?;
    let (whole, last) = whole_rows(&mut file, format).with_context(|| format!("read {}", part.display()))?;
    let Some(last) = last else {
        // Not a single row, perhaps half a row of names: that is to begin anew.
        file.set_len(0).with_context(what)?;
        file.seek(SeekFrom::Start(0)).with_context(what)?;
        return Ok((BufWriter::new(file), None));
    };
    file.set_len(whole).with_context(what)?;
    file.seek(SeekFrom::Start(whole)).with_context(what)?;
    Ok((BufWriter::new(file), Some(last)))
}

/// How many bytes of a file are whole rows, and the position in the last of them.
fn whole_rows(file: &mut File, format: FileFormat) -> anyhow::Result<(u64, Option<i64>)> {
    let mut reader = BufReader::with_capacity(CHUNK, file);
    let (mut whole, mut read, mut last) = (0, 0, None);
    let (mut row, mut quoted, mut names) = (Vec::new(), false, format == FileFormat::Csv);
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = reader.read(&mut chunk)?;
        if length == 0 {
            return Ok((whole, last));
        }
        for byte in &chunk[..length] {
            read += 1;
            row.push(*byte);
            // Line breaks inside of quotes belong to a cell; JSON has none.
            quoted ^= *byte == b'"' && format == FileFormat::Csv;
            if *byte != b'\n' || quoted {
                continue;
            }
            if std::mem::take(&mut names) {
                ensure!(
                    row.starts_with(COLUMNS[0].as_bytes()),
                    "the file does not begin with a row of names"
                );
            } else {
                last = Some(position(&row, format).context("a row without a position")?);
            }
            whole = read;
            row.clear();
        }
    }
}

fn position(row: &[u8], format: FileFormat) -> Option<i64> {
    let digits = match format {
        FileFormat::Ndjson => row.strip_prefix(br#"{"position":"#)?,
        FileFormat::Csv | FileFormat::Parquet => row,
    };
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn bar(name: &str, range: Range) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(range.until - range.after).unwrap_or(0));
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, format: FileFormat) -> (u64, Option<i64>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        whole_rows(&mut file, format).unwrap()
    }

    #[test]
    fn a_file_goes_on_after_its_last_whole_row() {
        let rows = "{\"position\":7,\"x\":1}\n{\"position\":12,\"x\":\"\\\"\"}\n";
        for torn in ["", "{", "{\"position\":13,\"x\":2}"] {
            let length = u64::try_from(rows.len()).unwrap();
            assert_eq!(whole(&format!("{rows}{torn}"), FileFormat::Ndjson), (length, Some(12)), "{torn}");
        }
        let rows = "position,x\r\n7,\"a\r\nb\"\r\n12,\"c\"\"d\"\r\n";
        for torn in ["", "1", "13,\"a\r\n", "13,\"a\"\r"] {
            let length = u64::try_from(rows.len()).unwrap();
            assert_eq!(whole(&format!("{rows}{torn}"), FileFormat::Csv), (length, Some(12)), "{torn:?}");
        }
        assert_eq!(whole("posit", FileFormat::Csv), (0, None));
        assert_eq!(whole("position,x\r\n", FileFormat::Csv), (12, None));
    }
}
