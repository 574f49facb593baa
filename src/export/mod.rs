//! Exports: a part of the log as a file, written as it is read.
//!
//! An [`Export`] is pulled: each part is encoded when it is asked for, from a page that was read meanwhile, so that a
//! slow reader costs two pages of memory and no transaction is held open between them. What is exported is fixed when
//! it begins ([`Range`]): positions do not change, so what is appended meanwhile makes no difference, and whoever was
//! cut off asks for the rest from the last position they have.
//!
//! [`Encoder`] alone makes the same bytes of the same events, however they are paged. It writes in the clear.

mod csv;
mod parquet;
mod run;

use bytes::Bytes;
use daybook_domain::audit_export::ExportFormat;
use daybook_projections::log::LogRow;

use crate::{
    eventstore::StoreError,
    http::{audit::AuditEvent, disclosure},
    tenancy::TenancyError,
};

pub use csv::{inert, original};
pub use run::{Ask, Export, Range, end, start};

/// The columns of an export, which are the members of an item of `GET /audit/events`.
pub const COLUMNS: [&str; 20] = [
    "position",
    "event_id",
    "type",
    "version",
    "aggregate_type",
    "aggregate_id",
    "sequence",
    "recorded_at",
    "occurred_at",
    "actor",
    "on_behalf_of",
    "role",
    "support_mode",
    "reason",
    "ip",
    "request_id",
    "correlation_id",
    "causation_id",
    "payload",
    "leaf_hash",
];

/// Why an export stops.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read, or what is in it is not what was written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A position is missing where none may be: it was pruned or removed meanwhile.
    #[error("the log holds no event at position {0}")]
    Missing(i64),
    /// The file cannot be written in its format.
    #[error("write the format")]
    Format(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Encoding it was interrupted.
    #[error("encoding was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl ExportError {
    /// Whether the log is not what it was: to ask again gives no more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Format(_))
    }
}

impl From<TenancyError> for ExportError {
    fn from(error: TenancyError) -> Self {
        Self::Store(error.into())
    }
}

/// The formats of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated values, RFC 4180, with a row of names.
    Csv,
    /// A JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// Their names.
    pub const NAMES: &'static [&'static str] = &["csv", "ndjson", "parquet"];

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match ExportFormat::parse(name)? {
            ExportFormat::Csv => Some(Self::Csv),
            ExportFormat::Ndjson => Some(Self::Ndjson),
            ExportFormat::Parquet => Some(Self::Parquet),
            ExportFormat::Bundle => None,
        }
    }

    /// As the log calls it.
    pub fn recorded(self) -> ExportFormat {
        match self {
            Self::Csv => ExportFormat::Csv,
            Self::Ndjson => ExportFormat::Ndjson,
            Self::Parquet => ExportFormat::Parquet,
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Writes events in one of the formats, in the clear.
pub enum Encoder {
    /// See [`FileFormat::Csv`]; whether the row of names is yet to be written.
    Csv(bool),
    /// See [`FileFormat::Ndjson`].
    Ndjson,
    /// See [`FileFormat::Parquet`].
    Parquet(Box<parquet::Writer>),
}

impl Encoder {
    /// One that begins a file.
    ///
    /// # Errors
    /// When the format refuses.
    pub fn new(format: FileFormat) -> Result<Self, ExportError> {
        Ok(match format {
            FileFormat::Csv => Self::Csv(true),
            FileFormat::Ndjson => Self::Ndjson,
            FileFormat::Parquet => Self::Parquet(Box::new(parquet::Writer::new()?)),
        })
    }

    /// One that continues a file of whole rows; `None` where a format cannot be continued.
    pub fn continuing(format: FileFormat) -> Option<Self> {
        match format {
            FileFormat::Csv => Some(Self::Csv(false)),
            FileFormat::Ndjson => Some(Self::Ndjson),
            FileFormat::Parquet => None,
        }
    }

    /// Writes the next events to the end of `out`, or keeps them until there are enough for a part.
    ///
    /// # Errors
    /// When a leaf is not of its form, or the format refuses.
    pub fn encode(&mut self, rows: &[LogRow], out: &mut Vec<u8>) -> Result<(), ExportError> {
        match self {
            Self::Csv(names) => {
                if std::mem::take(names) {
                    csv::names(out);
                }
                for row in rows {
                    csv::row(&AuditEvent::read(row)?, out);
                }
            }
            Self::Ndjson => disclosure::in_the_clear(|| {
                for row in rows {
                    serde_json::to_writer(&mut *out, &AuditEvent::read(row)?)
                        .map_err(|error| ExportError::Format(error.into()))?;
                    out.push(b'\n');
                }
                Ok::<_, ExportError>(())
            })?,
            Self::Parquet(writer) => {
                for row in rows {
                    writer.push(&AuditEvent::read(row)?, &row.leaf)?;
                }
                writer.take(out);
            }
        }
        Ok(())
    }

    /// Writes what belongs to the end of the file.
    ///
    /// # Errors
    /// When the format refuses.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ExportError> {
        match self {
            Self::Csv(names) => {
                if std::mem::take(names) {
                    csv::names(out);
                }
            }
            Self::Ndjson => {}
            Self::Parquet(writer) => {
                writer.finish()?;
                writer.take(out);
            }
        }
        Ok(())
    }
}

/// A part of a file, with what it brings.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its bytes.
    pub bytes: Bytes,
    /// How many events were read for the file so far.
    pub rows: u64,
    /// The position of the last of them.
    pub last_position: i64,
}
