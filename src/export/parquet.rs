//! Apache Parquet: typed columns, Snappy, in groups of rows of bounded size.

use std::{
    borrow::Cow,
    io::{self, Write},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chrono::DateTime;
use parquet::{
    basic::{Compression, Encoding},
    column::writer::ColumnWriter,
    data_type::{ByteArray, FixedLenByteArray},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

use super::ExportError;
use crate::http::audit::{AuditEvent, Text};

/// The most rows of a group, and about the most bytes of text in one: what is held in memory until it is written.
const GROUP_ROWS: usize = 8_192;
const GROUP_BYTES: usize = 8 << 20;

const SCHEMA: &str = "message events {
    REQUIRED INT64 position;
    REQUIRED FIXED_LEN_BYTE_ARRAY(16) event_id (UUID);
    REQUIRED BYTE_ARRAY type (STRING);
    REQUIRED INT32 version;
    REQUIRED BYTE_ARRAY aggregate_type (STRING);
    REQUIRED FIXED_LEN_BYTE_ARRAY(16) aggregate_id (UUID);
    REQUIRED INT64 sequence;
    REQUIRED INT64 recorded_at (TIMESTAMP(MICROS,true));
    REQUIRED INT64 occurred_at (TIMESTAMP(MICROS,true));
    REQUIRED BYTE_ARRAY actor (STRING);
    OPTIONAL BYTE_ARRAY on_behalf_of (STRING);
    OPTIONAL BYTE_ARRAY role (STRING);
    OPTIONAL BYTE_ARRAY support_mode (STRING);
    OPTIONAL BYTE_ARRAY reason (STRING);
    OPTIONAL BYTE_ARRAY ip (STRING);
    OPTIONAL FIXED_LEN_BYTE_ARRAY(16) request_id (UUID);
    OPTIONAL BYTE_ARRAY correlation_id (STRING);
    OPTIONAL BYTE_ARRAY causation_id (STRING);
    REQUIRED BYTE_ARRAY payload (JSON);
    REQUIRED FIXED_LEN_BYTE_ARRAY(32) leaf_hash;
}";

/// Columns whose values hardly ever repeat.
const DISTINCT: [&str; 10] = [
    "position",
    "event_id",
    "aggregate_id",
    "sequence",
    "recorded_at",
    "occurred_at",
    "request_id",
    "correlation_id",
    "payload",
    "leaf_hash",
];
/// Columns by which a reader skips groups.
const SEARCHED: [&str; 2] = ["position", "recorded_at"];

/// Values of a group, one after the other, and whether each row has one.
#[derive(Default)]
struct Texts {
    data: Vec<u8>,
    ends: Vec<usize>,
    levels: Vec<i16>,
}

impl Texts {
    fn push(&mut self, value: Option<&[u8]>) {
        self.levels.push(i16::from(value.is_some()));
        if let Some(value) = value {
            self.data.extend_from_slice(value);
            self.ends.push(self.data.len());
        }
    }

    fn take(&mut self) -> (Vec<Bytes>, Vec<i16>) {
        let all = Bytes::from(mem::take(&mut self.data));
        let mut begin = 0;
        let values = mem::take(&mut self.ends)
            .into_iter()
            .map(|end| all.slice(mem::replace(&mut begin, end)..end))
            .collect();
        (values, mem::take(&mut self.levels))
    }
}

/// The column of a group, by its type.
enum Column {
    Long(Vec<i64>),
    Int(Vec<i32>),
    Text(Texts),
    Fixed(Texts),
}

/// What was written and not taken yet.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one file.
pub struct Writer {
    file: SerializedFileWriter<Written>,
    written: Written,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Writer {
    pub(super) fn new() -> Result<Self, ExportError> {
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(refused)?);
        let mut properties = WriterProperties::builder()
            .set_created_by("daybook".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::None)
            // The footer grows with every group; what is not needed stays out of it.
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(None);
        for name in DISTINCT {
            let column = ColumnPath::from(name);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::PLAIN);
        }
        for name in SEARCHED {
            properties =
                properties.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Chunk);
        }
        let columns = schema
            .get_fields()
            .iter()
            .map(|field| match field.get_physical_type() {
                parquet::basic::Type::INT64 => Column::Long(Vec::new()),
                parquet::basic::Type::INT32 => Column::Int(Vec::new()),
                parquet::basic::Type::FIXED_LEN_BYTE_ARRAY => Column::Fixed(Texts::default()),
                _ => Column::Text(Texts::default()),
            })
            .collect();
        let written = Written::default();
        let file = SerializedFileWriter::new(written.clone(), schema, Arc::new(properties.build()))
            .map_err(refused)?;
        Ok(Self { file, written, columns, rows: 0, bytes: 0 })
    }

    /// The next event, with its leaf.
    pub(super) fn push(&mut self, event: &AuditEvent<'_>, leaf: &[u8]) -> Result<(), ExportError> {
        let cells: [Cell<'_>; 20] = [
            Cell::Long(event.position),
            Cell::Bytes(Some(event.event_id.as_bytes())),
            Cell::text(event.event_type),
            Cell::Int(i32::from(event.version)),
            Cell::text(event.aggregate_type),
            Cell::Bytes(Some(event.aggregate_id.as_bytes())),
            Cell::Long(event.sequence),
            Cell::Long(micros(&event.recorded_at.get())?),
            Cell::Long(micros(&event.occurred_at.get())?),
            Cell::text(event.actor),
            Cell::optional(event.on_behalf_of),
            Cell::optional(event.role),
            Cell::optional(event.support_mode),
            Cell::optional(event.reason.expose().copied()),
            Cell::optional(event.ip.expose().copied()),
            Cell::Bytes(event.request_id.as_ref().map(|id| id.as_bytes().as_slice())),
            Cell::optional(event.correlation_id),
            Cell::optional(event.causation_id),
            Cell::Bytes(Some(event.payload.0.get().as_bytes())),
            Cell::Bytes(event.leaf_hash.expose().map(|hash| hash.0.as_slice())),
        ];
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match (column, cell) {
                (Column::Long(values), Cell::Long(value)) => values.push(value),
                (Column::Int(values), Cell::Int(value)) => values.push(value),
                (Column::Text(values) | Column::Fixed(values), Cell::Bytes(value)) => values.push(value),
                (Column::Text(values), Cell::Text(value)) => {
                    values.push(value.as_ref().map(|text| text.as_bytes()));
                }
                (_, Cell::Long(_) | Cell::Int(_) | Cell::Bytes(_) | Cell::Text(_)) => {
                    return Err(ExportError::Format("a cell is not of its column's type".into()));
                }
            }
        }
        self.rows += 1;
        self.bytes += leaf.len();
        if self.rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.write_group() } else { Ok(()) }
    }

    /// Writes the last group and the footer.
    pub(super) fn finish(&mut self) -> Result<(), ExportError> {
        self.write_group()?;
        self.file.finish().map_err(refused)?;
        Ok(())
    }

    /// Moves what was written to the end of `out`.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.written.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn write_group(&mut self) -> Result<(), ExportError> {
        if mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        self.bytes = 0;
        let mut group = self.file.next_row_group().map_err(refused)?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column().map_err(refused)? else { break };
            write_column(column, &mut writer).map_err(refused)?;
            writer.close().map_err(refused)?;
        }
        group.close().map_err(refused)?;
        Ok(())
    }
}

/// The value of a row in a column.
enum Cell<'a> {
    Long(i64),
    Int(i32),
    Bytes(Option<&'a [u8]>),
    Text(Option<Cow<'a, str>>),
}

impl<'a> Cell<'a> {
    fn text(value: Text<'a>) -> Self {
        Self::optional(Some(value))
    }

    fn optional(value: Option<Text<'a>>) -> Self {
        Self::Text(value.map(Text::get))
    }
}

fn write_column(column: &mut Column, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
    match (column, writer.untyped()) {
        (Column::Long(values), ColumnWriter::Int64ColumnWriter(writer)) => {
            writer.write_batch(&mem::take(values), None, None)?;
        }
        (Column::Int(values), ColumnWriter::Int32ColumnWriter(writer)) => {
            writer.write_batch(&mem::take(values), None, None)?;
        }
        (Column::Text(texts), ColumnWriter::ByteArrayColumnWriter(writer)) => {
            let (values, levels) = texts.take();
            let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
            // Required columns have no levels, and pass over those given.
            writer.write_batch(&values, Some(&levels), None)?;
        }
        (Column::Fixed(texts), ColumnWriter::FixedLenByteArrayColumnWriter(writer)) => {
            let (values, levels) = texts.take();
            let values: Vec<FixedLenByteArray> =
                values.into_iter().map(|value| FixedLenByteArray::from(ByteArray::from(value))).collect();
            writer.write_batch(&values, Some(&levels), None)?;
        }
        (_, _) => return Err(ParquetError::General("a column is not of its type".to_owned())),
    }
    Ok(())
}

fn refused(error: ParquetError) -> ExportError {
    ExportError::Format(error.into())
}

/// Microseconds since 1970 of a time as leaves write it.
fn micros(text: &str) -> Result<i64, ExportError> {
    fixed(text.as_bytes())
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros()))
        .ok_or_else(|| ExportError::Format("a time is none".into()))
}

/// The same of `2026-01-02T03:04:05.000006Z`, digit by digit: a million events have two million times.
fn fixed(text: &[u8]) -> Option<i64> {
    let text: &[u8; 27] = text.try_into().ok()?;
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
    if separators.iter().any(|(at, separator)| text[*at] != *separator) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, micro) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Howard Hinnant's days from civil: years begin in March, so that the leap day is the last.
    let shifted = year - i64::from(month <= 2);
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micro)
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};

    use super::*;
    use crate::eventstore::leaf::format_time;

    #[test]
    fn times_are_read_digit_by_digit() {
        let mut time = DateTime::<Utc>::UNIX_EPOCH;
        while format_time(time).len() == 27 {
            assert_eq!(fixed(format_time(time).as_bytes()), Some(time.timestamp_micros()), "{time}");
            time += TimeDelta::microseconds(31_556_952_123_457);
        }
        for leap in ["2024-02-29T23:59:59.999999Z", "2000-02-29T00:00:00.000000Z"] {
            let expected = DateTime::parse_from_rfc3339(leap).unwrap().timestamp_micros();
            assert_eq!(micros(leap).unwrap(), expected);
        }
        for wrong in ["2024-13-01T00:00:00.000000Z", "2024-01-01T00:00:00.000000", "x", ""] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
        assert_eq!(micros("1970-01-01T01:00:00+01:00").unwrap(), 0);
    }
}
