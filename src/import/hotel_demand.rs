//! The `hotel-demand` format: the columns of "Hotel booking demand datasets" (Antonio, de Almeida, Nunes 2019),
//! read into typed rows. Pure: bytes in, rows out.
//!
//! A file that is not of the format is an error that names the line and the column, before anything is written. A row
//! that is well-formed but describes no stay (no nights, no guests) is a row: [`Row::invalid`] says why it is refused.

use std::collections::HashMap;

use chrono::{Days, NaiveDate};
use csv::{ByteRecord, ReaderBuilder};

/// Why a file cannot be read as `hotel-demand`.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The header lacks a column.
    #[error("the header has no column `{column}`")]
    MissingColumn {
        /// The column.
        column: &'static str,
    },
    /// A value is not of its column's type.
    #[error("line {line}, column `{column}`: expected {expected}")]
    Value {
        /// The line in the file, the header being line 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What would have been right.
        expected: &'static str,
    },
    /// A line is not CSV of as many fields as the header.
    #[error("line {line}: not a CSV record like the header")]
    Csv {
        /// The line in the file.
        line: u64,
        /// What the CSV reader says.
        #[source]
        source: csv::Error,
    },
}

/// How a booking ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest came and left.
    CheckedOut,
    /// Cancelled.
    Cancelled,
    /// The guest did not come.
    NoShow,
}

/// One booking of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line it begins on; the header is line 1.
    pub line: u64,
    /// Index into [`History::pools`].
    pub pool: usize,
    /// Index into [`History::guests`].
    pub guest: usize,
    /// When it was booked: `lead_time` days before the arrival.
    pub booked_on: NaiveDate,
    /// The date of arrival.
    pub arrival: NaiveDate,
    /// How many nights were booked.
    pub nights: u32,
    /// Adults, children and babies.
    pub persons: u32,
    /// Whether the deposit is kept on cancellation.
    pub non_refundable: bool,
    /// The price of the whole stay in cents: average daily rate times nights, rounded half up.
    pub price_cents: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended: `reservation_status_date`.
    pub settled_on: NaiveDate,
}

impl Row {
    /// Why the row is no booking, if it is none.
    pub fn invalid(&self) -> Option<&'static str> {
        match (self.nights, self.persons) {
            (0, 0) => Some("no nights and no guests"),
            (0, _) => Some("no nights"),
            (_, 0) => Some("no guests"),
            (_, _) => None,
        }
    }

    /// The date of departure as booked.
    pub fn departure(&self) -> NaiveDate {
        self.arrival.checked_add_days(Days::new(self.nights.into())).unwrap_or(NaiveDate::MAX)
    }

    /// The price that is booked: a negative rate is a price of nothing, as no price is below zero.
    pub fn booked_cents(&self) -> i64 {
        self.price_cents.max(0)
    }
}

/// A pool of interchangeable rooms: one per hotel and assigned room type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// The hotel.
    pub hotel: String,
    /// The room type.
    pub room_type: String,
}

impl PoolKey {
    /// The pool's name (`City Hotel · A`).
    pub fn name(&self) -> String {
        format!("{} · {}", self.hotel, self.room_type)
    }
}

/// A synthetic customer. The rows hold no persons, so guests of one hotel, customer type and country share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GuestKey {
    /// The hotel.
    pub hotel: String,
    /// The customer type (`Transient`).
    pub customer_type: String,
    /// The country (`PRT`), or `unknown`.
    pub country: String,
}

impl GuestKey {
    /// The customer's name (`Guest PRT, Transient, City Hotel`).
    pub fn name(&self) -> String {
        format!("Guest {}, {}, {}", self.country, self.customer_type, self.hotel)
    }
}

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The bookings, in file order.
    pub rows: Vec<Row>,
    /// The pools, in the order the file first names them.
    pub pools: Vec<PoolKey>,
    /// The customers, in the order the file first names them.
    pub guests: Vec<GuestKey>,
}

/// Reads a file's text, at most `limit` rows of it.
///
/// # Errors
/// The first thing that is not of the format.
pub fn parse(text: &[u8], limit: Option<usize>) -> Result<History, ParseError> {
    let mut reader = ReaderBuilder::new().from_reader(text);
    let header = reader.byte_headers().map_err(|source| ParseError::Csv { line: 1, source })?.clone();
    let columns = Columns::find(&header)?;
    let mut history = History::default();
    let mut pools = Interner::default();
    let mut guests = Interner::default();
    let mut record = ByteRecord::new();
    while limit.is_none_or(|limit| history.rows.len() < limit) {
        let read = reader.read_byte_record(&mut record).map_err(|source| ParseError::Csv {
            line: source.position().map_or(0, csv::Position::line),
            source,
        })?;
        if !read {
            break;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let fields = Fields { record: &record, columns: &columns, line };
        history.rows.push(fields.row(&mut pools, &mut guests)?);
    }
    history.pools = pools.keys;
    history.guests = guests.keys;
    Ok(history)
}

/// Numbers keys in the order they first appear.
struct Interner<K> {
    keys: Vec<K>,
    known: HashMap<K, usize>,
}

impl<K> Default for Interner<K> {
    fn default() -> Self {
        Self { keys: Vec::new(), known: HashMap::new() }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Interner<K> {
    fn index(&mut self, key: K) -> usize {
        *self.known.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            self.keys.len() - 1
        })
    }
}

macro_rules! columns {
    ($($name:ident),* $(,)?) => {
        /// Where each column stands in this file.
        struct Columns { $($name: (usize, &'static str),)* }

        impl Columns {
            fn find(header: &ByteRecord) -> Result<Self, ParseError> {
                let at = |column: &'static str| {
                    let name = column.as_bytes();
                    // Spreadsheets put a byte order mark before the first name.
                    let is = |field: &[u8]| field.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(field).trim_ascii() == name;
                    header.iter().position(is).map(|at| (at, column)).ok_or(ParseError::MissingColumn { column })
                };
                Ok(Self { $($name: at(stringify!($name))?,)* })
            }
        }
    };
}

columns! {
    hotel, lead_time, arrival_date_year, arrival_date_month, arrival_date_day_of_month, stays_in_weekend_nights,
    stays_in_week_nights, adults, children, babies, country, assigned_room_type, deposit_type, customer_type, adr,
    reservation_status, reservation_status_date,
}

/// One record, seen by column.
struct Fields<'a> {
    record: &'a ByteRecord,
    columns: &'a Columns,
    line: u64,
}

type Column = (usize, &'static str);

impl Fields<'_> {
    fn row(&self, pools: &mut Interner<PoolKey>, guests: &mut Interner<GuestKey>) -> Result<Row, ParseError> {
        let c = self.columns;
        let arrival = self.arrival()?;
        let lead_time = self.count(c.lead_time)?;
        let booked_on = arrival
            .checked_sub_days(Days::new(lead_time.into()))
            .ok_or_else(|| self.wrong(c.lead_time, "a number of days"))?;
        let nights = self.sum(&[c.stays_in_weekend_nights, c.stays_in_week_nights])?;
        let persons = self.sum(&[c.adults, c.children, c.babies])?;
        let hotel = self.name(c.hotel)?;
        let pool = PoolKey { hotel: hotel.clone(), room_type: self.name(c.assigned_room_type)? };
        let country = match self.text(c.country)? {
            "" | "NULL" | "NA" => "unknown",
            country => country,
        };
        let guest =
            GuestKey { hotel, customer_type: self.name(c.customer_type)?, country: country.to_owned() };
        Ok(Row {
            line: self.line,
            pool: pools.index(pool),
            guest: guests.index(guest),
            booked_on,
            arrival,
            nights,
            persons,
            non_refundable: self.text(c.deposit_type)? == "Non Refund",
            price_cents: self.price(nights)?,
            outcome: self.outcome()?,
            settled_on: self.date(c.reservation_status_date)?,
        })
    }

    fn wrong(&self, column: Column, expected: &'static str) -> ParseError {
        ParseError::Value { line: self.line, column: column.1, expected }
    }

    fn text(&self, column: Column) -> Result<&str, ParseError> {
        let bytes = self.record.get(column.0).unwrap_or_default();
        std::str::from_utf8(bytes).map(str::trim).map_err(|_| self.wrong(column, "UTF-8 text"))
    }

    fn name(&self, column: Column) -> Result<String, ParseError> {
        match self.text(column)? {
            "" => Err(self.wrong(column, "a name")),
            name => Ok(name.to_owned()),
        }
    }

    /// A whole number; `NA` and `NULL` count nothing, and `2.0` is how some exports write 2.
    fn count(&self, column: Column) -> Result<u32, ParseError> {
        let text = self.text(column)?;
        if matches!(text, "NA" | "NULL") {
            return Ok(0);
        }
        text.strip_suffix(".0").unwrap_or(text).parse().map_err(|_| self.wrong(column, "a whole number"))
    }

    fn sum(&self, columns: &[Column]) -> Result<u32, ParseError> {
        columns.iter().try_fold(0_u32, |sum, column| {
            sum.checked_add(self.count(*column)?).ok_or_else(|| self.wrong(*column, "a smaller number"))
        })
    }

    fn date(&self, column: Column) -> Result<NaiveDate, ParseError> {
        NaiveDate::parse_from_str(self.text(column)?, "%Y-%m-%d")
            .map_err(|_| self.wrong(column, "a date (YYYY-MM-DD)"))
    }

    fn arrival(&self) -> Result<NaiveDate, ParseError> {
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let c = self.columns;
        let year =
            self.text(c.arrival_date_year)?.parse().map_err(|_| self.wrong(c.arrival_date_year, "a year"))?;
        let name = self.text(c.arrival_date_month)?;
        let month = (1..)
            .zip(MONTHS)
            .find_map(|(number, month)| month.eq_ignore_ascii_case(name).then_some(number))
            .ok_or_else(|| self.wrong(c.arrival_date_month, "the name of a month"))?;
        let day = self.count(c.arrival_date_day_of_month)?;
        NaiveDate::from_ymd_opt(year, month, day)
            .ok_or_else(|| self.wrong(c.arrival_date_day_of_month, "a day of that month"))
    }

    fn outcome(&self) -> Result<Outcome, ParseError> {
        let column = self.columns.reservation_status;
        match self.text(column)? {
            "Check-Out" => Ok(Outcome::CheckedOut),
            "Canceled" => Ok(Outcome::Cancelled),
            "No-Show" => Ok(Outcome::NoShow),
            _ => Err(self.wrong(column, "Check-Out, Canceled or No-Show")),
        }
    }

    fn price(&self, nights: u32) -> Result<i64, ParseError> {
        let column = self.columns.adr;
        let micros =
            parse_micros(self.text(column)?).ok_or_else(|| self.wrong(column, "a decimal number"))?;
        // A ten-thousandth of a cent at a time, so that 107.425 times two nights is exact.
        let total = i128::from(micros) * i128::from(nights);
        i64::try_from((total + 5_000).div_euclid(10_000)).map_err(|_| self.wrong(column, "a smaller rate"))
    }
}

/// A decimal number in millionths, without going through a float.
fn parse_micros(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 6 {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let micros = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)?;
    Some(if negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::testing::{HEADER, file, line};

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_row_is_read_by_column_name() {
        let history = parse(file(&[line()]).as_bytes(), None).unwrap();
        let row = &history.rows[0];
        assert_eq!((row.line, row.nights, row.persons), (2, 3, 2));
        assert_eq!(row.booked_on, date("2015-12-22"));
        assert_eq!((row.arrival, row.departure()), (date("2016-01-01"), date("2016-01-04")));
        assert_eq!((row.outcome, row.settled_on), (Outcome::CheckedOut, date("2016-01-04")));
        assert_eq!(row.price_cents, 30_150);
        assert_eq!(history.pools[0].name(), "City Hotel · A");
        assert_eq!(history.guests[0].name(), "Guest PRT, Transient, City Hotel");
    }

    #[test]
    fn pools_and_guests_are_numbered_as_they_appear() {
        let rows = [
            line().assigned("B"),
            line().assigned("A"),
            line().assigned("B").set("country", "NULL"),
            line().assigned("A"),
        ];
        let history = parse(file(&rows).as_bytes(), None).unwrap();
        assert_eq!(history.rows.iter().map(|row| row.pool).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!(history.rows.iter().map(|row| row.guest).collect::<Vec<_>>(), [0, 0, 1, 0]);
        assert_eq!(history.guests[1].country, "unknown");
    }

    #[test]
    fn rows_without_nights_or_guests_say_so() {
        let empty = line().set("adults", "0").set("children", "NA");
        let rows = [line().nights(0), empty.clone(), empty.nights(0), line().set("children", "2.0")];
        let history = parse(file(&rows).as_bytes(), None).unwrap();
        let reasons: Vec<_> = history.rows.iter().map(Row::invalid).collect();
        assert_eq!(reasons, [Some("no nights"), Some("no guests"), Some("no nights and no guests"), None]);
        assert_eq!(history.rows[3].persons, 4);
    }

    #[test]
    fn money_is_exact_and_never_booked_below_zero() {
        let cents = |adr: &str, nights| {
            let rows = [line().set("adr", adr).nights(nights)];
            parse(file(&rows).as_bytes(), None).unwrap().rows[0].clone()
        };
        assert_eq!(cents("107.42", 3).price_cents, 32_226);
        assert_eq!(cents("0.005", 1).price_cents, 1);
        assert_eq!(cents("0.1", 7).price_cents, 70);
        let negative = cents("-6.38", 10);
        assert_eq!((negative.price_cents, negative.booked_cents()), (-6_380, 0));
    }

    #[test]
    fn an_error_names_the_line_and_the_column() {
        for (column, value) in [
            ("adr", "1e3"),
            ("adr", ""),
            ("lead_time", "-1"),
            ("arrival_date_month", "Juli"),
            ("arrival_date_day_of_month", "32"),
            ("reservation_status", "Open"),
            ("reservation_status_date", "7/3/2015"),
            ("hotel", ""),
        ] {
            let text = file(&[line(), line().set(column, value)]);
            match parse(text.as_bytes(), None).unwrap_err() {
                ParseError::Value { line: 3, column: named, .. } => assert_eq!(named, column),
                other => panic!("{column}={value}: {other}"),
            }
            // What the limit leaves out is not read.
            assert_eq!(parse(text.as_bytes(), Some(1)).unwrap().rows.len(), 1);
        }
    }

    #[test]
    fn a_missing_column_is_named() {
        let text = file(&[line()]).replacen("deposit_type", "deposit", 1);
        let error = parse(text.as_bytes(), None).unwrap_err();
        assert_eq!(error.to_string(), "the header has no column `deposit_type`");
        assert!(parse(b"", None).is_err());
    }

    #[test]
    fn a_line_with_too_few_fields_is_an_error() {
        let text = format!("{HEADER}\nCity Hotel,0\n");
        assert!(matches!(parse(text.as_bytes(), None), Err(ParseError::Csv { line: 2, .. })));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_column() {
        let text = format!("\u{feff}{}", file(&[line()]));
        assert_eq!(parse(text.as_bytes(), None).unwrap().rows.len(), 1);
    }
}
