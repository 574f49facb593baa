//! The events of a part as Parquet, read column by column.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    errors::ParquetError,
    file::reader::{FileReader as _, RowGroupReader, SerializedFileReader},
};

use super::leaf::LeafView;
use crate::{eventstore::leaf::parse_time, export::COLUMNS};

/// The values of a column, one a row.
enum Column {
    Long(Vec<i64>),
    Int(Vec<i32>),
    Bytes(Vec<Option<Bytes>>),
}

/// The rows of a file.
pub(super) struct Table(Vec<Column>);

impl Table {
    /// Reads a file of at most so many rows.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(bytes: Vec<u8>, most: usize) -> Result<Self, String> {
        // The crate checks much, and trusts what is left: bytes made to trip it up must not end the program.
        catch_unwind(AssertUnwindSafe(|| Self::read_trusting(bytes, most)))
            .map_err(|_| "the file cannot be read".to_owned())?
            .map_err(|error| format!("the file cannot be read: {error}"))
    }

    fn read_trusting(bytes: Vec<u8>, most: usize) -> Result<Self, ParquetError> {
        let file = SerializedFileReader::new(Bytes::from(bytes))?;
        let metadata = file.metadata();
        let wrong = |what: &str| ParquetError::General(what.to_owned());
        if usize::try_from(metadata.file_metadata().num_rows()).map_or(true, |rows| rows > most) {
            return Err(wrong("it has more rows than there are events"));
        }
        let descriptor = metadata.file_metadata().schema_descr();
        if !descriptor.columns().iter().map(|column| column.path().string()).eq(COLUMNS) {
            return Err(wrong("its columns are not those of exports"));
        }
        let mut columns: Vec<Column> = descriptor
            .columns()
            .iter()
            .map(|column| match column.physical_type() {
                parquet::basic::Type::INT64 => Column::Long(Vec::new()),
                parquet::basic::Type::INT32 => Column::Int(Vec::new()),
                _ => Column::Bytes(Vec::new()),
            })
            .collect();
        let mut total = 0;
        for group in 0..file.num_row_groups() {
            let group = file.get_row_group(group)?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(usize::MAX);
            total += rows;
            if rows > most || total > most {
                return Err(wrong("it has more rows than there are events"));
            }
            for (index, column) in columns.iter_mut().enumerate() {
                read_column(&*group, index, rows, column)?;
            }
        }
        let table = Self(columns);
        let long = |column: &Column| match column {
            Column::Long(values) => values.len(),
            Column::Int(values) => values.len(),
            Column::Bytes(values) => values.len(),
        };
        if table.0.iter().any(|column| long(column) != total) || !matches!(table.0[0], Column::Long(_)) {
            return Err(wrong("its columns are not of one length"));
        }
        Ok(table)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.positions().len()
    }

    /// The position of each row.
    pub fn positions(&self) -> Vec<u64> {
        match &self.0[0] {
            Column::Long(values) => values.iter().map(|value| u64::try_from(*value).unwrap_or(0)).collect(),
            Column::Int(_) | Column::Bytes(_) => Vec::new(),
        }
    }

    /// The first column in which a row does not say what its leaf says.
    pub fn differs(&self, row: usize, leaf: &LeafView<'_>, hash: &str) -> Option<&'static str> {
        let micros = |time: &str| parse_time(time).map(|time| time.timestamp_micros());
        let text = |text: &str| Cell::Bytes(Some(text.as_bytes().to_vec()));
        let optional = |text: Option<&str>| Cell::Bytes(text.map(|text| text.as_bytes().to_vec()));
        let id = |id: &[u8; 16]| Cell::Bytes(Some(id.to_vec()));
        let cells: [Cell; 19] = [
            id(leaf.id.as_bytes()),
            text(&leaf.event_type),
            Cell::Int(i32::from(leaf.version)),
            text(&leaf.aggregate_type),
            id(leaf.aggregate_id.as_bytes()),
            Cell::Long(leaf.sequence().and_then(|sequence| i64::try_from(sequence).ok())),
            Cell::Long(micros(&leaf.recorded_at)),
            Cell::Long(micros(&leaf.occurred_at)),
            text(&leaf.actor),
            optional(leaf.on_behalf_of.as_deref()),
            optional(leaf.role.as_deref()),
            optional(leaf.support_mode.as_deref()),
            optional(leaf.reason.as_deref()),
            optional(leaf.ip.as_deref()),
            Cell::Bytes(leaf.request_id.map(|id| id.as_bytes().to_vec())),
            optional(leaf.correlation_id.as_deref()),
            optional(leaf.causation_id.as_deref()),
            text(leaf.payload.get()),
            Cell::Bytes(hex::decode(hash).ok()),
        ];
        let same = |(column, cell): (&Column, &Cell)| match (column, cell) {
            (Column::Long(values), Cell::Long(expected)) => values.get(row).copied() == *expected,
            (Column::Int(values), Cell::Int(expected)) => values.get(row) == Some(expected),
            (Column::Bytes(values), Cell::Bytes(expected)) => {
                values.get(row).is_some_and(|value| value.as_deref() == expected.as_deref())
            }
            (Column::Long(_) | Column::Int(_) | Column::Bytes(_), _) => false,
        };
        self.0[1..].iter().zip(&cells).position(|pair| !same(pair)).map(|column| COLUMNS[column + 1])
    }
}

/// What a row is to say.
enum Cell {
    Long(Option<i64>),
    Int(i32),
    Bytes(Option<Vec<u8>>),
}

fn read_column(
    group: &dyn RowGroupReader,
    index: usize,
    rows: usize,
    column: &mut Column,
) -> Result<(), ParquetError> {
    match (column, group.get_column_reader(index)?) {
        (Column::Long(all), ColumnReader::Int64ColumnReader(reader)) => {
            all.extend(values(reader, rows)?.into_iter().flatten());
        }
        (Column::Int(all), ColumnReader::Int32ColumnReader(reader)) => {
            all.extend(values(reader, rows)?.into_iter().flatten());
        }
        (Column::Bytes(all), ColumnReader::ByteArrayColumnReader(reader)) => {
            let read = values(reader, rows)?.into_iter();
            all.extend(read.map(|value| value.map(|value| Bytes::copy_from_slice(value.data()))));
        }
        (Column::Bytes(all), ColumnReader::FixedLenByteArrayColumnReader(reader)) => {
            let read = values(reader, rows)?.into_iter();
            all.extend(read.map(|value| value.map(|value| Bytes::copy_from_slice(value.data()))));
        }
        (_, _) => return Err(ParquetError::General("a column is not of its type".to_owned())),
    }
    Ok(())
}

/// All values of a column in a group: one a row, none where it has none.
fn values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) = reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::General("a column ends too early".to_owned()));
        }
        read += records;
    }
    // Required columns have no levels.
    if levels.is_empty() {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(levels.iter().map(|level| if *level > 0 { values.next() } else { None }).collect())
}
