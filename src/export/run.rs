//! An export in progress, and its events.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use daybook_domain::{
    AuditExportId, DomainError,
    audit_export::{AuditExportCommand, ExportFilter, ExportFormat},
    envelope::Metadata,
};
use daybook_projections::{
    Schema,
    log::{self, LogFilter, LogRow, Readable},
    positions,
};
use sqlx::PgConnection;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Encoder, ExportError, Part};
use crate::{
    eventstore::{Command, Committed, EventStore, StoreError, Unit},
    retention,
    tenancy::{Access, TenantTx},
};

/// The most events read at once, and how many at first; and about how many bytes of them.
const PAGE: i64 = 1_000;
const FIRST_PAGE: i64 = 200;
const PAGE_BYTES: usize = 1 << 20;
/// The most bytes of a page, but for its last leaf: how many events are read is guessed by those before, and a leaf may
/// have 64 KiB.
const MOST_BYTES: usize = 4 << 20;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Past this position.
    pub after: i64,
    /// Up to this position; the log's last where none is given.
    pub until: Option<i64>,
    /// What of it.
    pub filter: ExportFilter,
}

/// The positions of an export: past the first, up to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Past this position.
    pub after: i64,
    /// Up to this position.
    pub until: i64,
}

impl Range {
    /// What an ask comes to, in a log that is readable since a cut. Times are made positions, which rise with them.
    ///
    /// # Errors
    /// `validation_failed` when the log has not come so far or the range is reversed, or PostgreSQL refuses.
    pub async fn of(
        connection: &mut PgConnection,
        ask: &Ask,
        cut: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let failed = StoreError::db("find where an export begins");
        let found = async {
            let head = positions::head(connection).await?;
            let since = ask.filter.from.map_or(cut, |from| from.max(cut));
            let first = retention::first_at(connection, since).await?;
            let last = match ask.filter.to {
                Some(to) => log::last_before(connection, to).await?,
                None => i64::MAX,
            };
            Ok::<_, sqlx::Error>((head, first, last))
        };
        let (head, first, last) = found.await.map_err(failed)?;
        let out_of_range = |pointer, why| StoreError::from(DomainError::field(pointer, "out_of_range", why));
        if ask.after > head {
            return Err(out_of_range("?after", "the log has not reached this position"));
        }
        if ask.until.is_some_and(|until| until > head) {
            return Err(out_of_range("?until", "the log has not reached this position"));
        }
        if ask.until.is_some_and(|until| until < ask.after) {
            return Err(out_of_range("?until", "an export does not end before it begins"));
        }
        let until = ask.until.unwrap_or(head).min(last);
        let after = ask.after.max(first - 1).min(head);
        Ok(Self { after, until: until.max(after) })
    }
}

/// Writes down that an export begins: before any of it leaves.
///
/// # Errors
/// When the range is none of the log's, or the log cannot be written.
pub async fn start(
    store: &EventStore,
    schema: &Schema,
    id: AuditExportId,
    format: ExportFormat,
    range: Range,
    filter: ExportFilter,
    metadata: Metadata,
) -> Result<Committed, StoreError> {
    let Range { after, until } = range;
    let command = AuditExportCommand::Start { format, after, until, filter };
    store.execute(schema, Unit::of(Command::create(id, command), metadata)).await
}

/// Writes down that an export is over: how much of it left, and whether that was all.
///
/// # Errors
/// When it is over already, or the log cannot be written.
pub async fn end(
    store: &EventStore,
    schema: &Schema,
    id: AuditExportId,
    (rows, last_position, complete): (u64, i64, bool),
    metadata: Metadata,
) -> Result<Committed, StoreError> {
    let command = AuditExportCommand::End { rows, last_position, complete };
    store.execute(schema, Unit::of(Command::to(id, command), metadata)).await
}

type Page = Result<Vec<LogRow>, ExportError>;

/// An export in progress.
pub struct Export {
    pages: Pages,
    /// The page that is being read while the one before is encoded and taken.
    next: Option<JoinHandle<(Pages, Page)>>,
    encoder: Option<Encoder>,
    rows: u64,
    last_position: i64,
}

/// The pages of an export that are yet to be read.
#[derive(Clone)]
struct Pages {
    store: EventStore,
    schema: Schema,
    filter: LogFilter,
    until: i64,
    /// Nothing of the range is left out, so that a position that is missing is not there.
    whole: bool,
    /// There may be more.
    more: bool,
    /// How many events to read next.
    limit: i64,
}

impl Export {
    /// One that has read nothing yet. What is past the cut at the beginning stays past it, what is not stays readable.
    pub fn new(
        store: &EventStore,
        schema: &Schema,
        range: Range,
        filter: &ExportFilter,
        cut: DateTime<Utc>,
        encoder: Encoder,
    ) -> Self {
        let narrowed = LogFilter {
            after: range.after,
            until: Some(range.until),
            readable: Some(Readable { cut, floor: range.after + 1 }),
            event_type: filter.event_type.clone(),
            actor: filter.actor.clone(),
            aggregate_id: filter.aggregate_id,
            aggregate_type: filter.aggregate_type.clone(),
            // The range says what the times came to.
            from: None,
            to: None,
        };
        let times_only = ExportFilter { from: filter.from, to: filter.to, ..ExportFilter::default() };
        let pages = Pages {
            store: store.clone(),
            schema: schema.clone(),
            filter: narrowed,
            until: range.until,
            whole: *filter == times_only,
            more: range.until > range.after,
            limit: FIRST_PAGE,
        };
        Self { pages, next: None, encoder: Some(encoder), rows: 0, last_position: range.after }
    }

    /// How many events were read so far, and the position of the last of them.
    pub fn progress(&self) -> (u64, i64) {
        (self.rows, self.last_position)
    }

    /// The next part of the file, which may be empty; `None` after the last.
    ///
    /// # Errors
    /// When the log cannot be read, is not what was written, or lacks an event.
    pub async fn next(&mut self) -> Result<Option<Part>, ExportError> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(None) };
        let rows = match self.next.take() {
            Some(reading) => {
                let (pages, page) = reading.await.map_err(ExportError::Interrupted)?;
                self.pages = pages;
                page?
            }
            None => self.pages.read().await?,
        };
        if self.pages.more {
            // Read while this one is encoded, and taken by whoever it is for.
            let mut pages = self.pages.clone();
            self.next = Some(tokio::spawn(async move {
                let page = pages.read().await;
                (pages, page)
            }));
        }
        self.rows += u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.last_position = rows.last().map_or(self.last_position, |row| row.position);
        let last = self.next.is_none();
        let encoded = spawn_blocking(move || {
            let mut out = Vec::with_capacity(rows.iter().map(|row| row.leaf.len() + 200).sum());
            encoder.encode(&rows, &mut out)?;
            if last {
                encoder.finish(&mut out)?;
            }
            Ok::<_, ExportError>((encoder, out))
        });
        let (encoder, out) = encoded.await.map_err(ExportError::Interrupted)??;
        self.encoder = Some(encoder).filter(|_| !last);
        Ok(Some(Part { bytes: Bytes::from(out), rows: self.rows, last_position: self.last_position }))
    }
}

impl Pages {
    async fn read(&mut self) -> Page {
        if !self.more {
            return Ok(Vec::new());
        }
        let mut tx = TenantTx::begin(self.store.database().app(), &self.schema, Access::Read).await?;
        let (rows, cut_short) = log::page_of(&mut tx, &self.filter, self.limit, MOST_BYTES)
            .await
            .map_err(StoreError::db("read the log for an export"))?;
        tx.release();
        if self.whole {
            let expected = self.filter.after + 1;
            for (row, expected) in rows.iter().zip(expected..) {
                if row.position != expected {
                    return Err(ExportError::Missing(expected));
                }
            }
        }
        let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) == self.limit;
        let bytes: usize = rows.iter().map(|row| row.leaf.len()).sum();
        if let Some(each) = bytes.checked_div(rows.len()) {
            self.limit = i64::try_from(PAGE_BYTES / each.max(1)).unwrap_or(PAGE).clamp(1, PAGE);
        }
        self.filter.after = rows.last().map_or(self.filter.after, |row| row.position);
        self.more = (full || cut_short) && self.filter.after < self.until;
        if self.whole && !self.more && self.filter.after != self.until {
            return Err(ExportError::Missing(self.filter.after + 1));
        }
        Ok(rows)
    }
}
