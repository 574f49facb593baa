//! Small files made for tests.

use std::{collections::BTreeMap, fmt::Write as _};

/// The columns the importer reads, in an order of their own.
pub const HEADER: &str = "hotel,is_canceled,lead_time,arrival_date_year,arrival_date_month,\
arrival_date_day_of_month,stays_in_weekend_nights,stays_in_week_nights,adults,children,babies,country,\
assigned_room_type,deposit_type,customer_type,adr,reservation_status,reservation_status_date";

/// One line of a file, by column.
#[derive(Clone, Debug)]
pub struct Line(BTreeMap<&'static str, String>);

/// Three nights from 1 January 2016 in City Hotel A for two, booked ten days before and checked out in time.
pub fn line() -> Line {
    let values = [
        ("hotel", "City Hotel"),
        ("is_canceled", "0"),
        ("lead_time", "10"),
        ("arrival_date_year", "2016"),
        ("arrival_date_month", "January"),
        ("arrival_date_day_of_month", "1"),
        ("stays_in_weekend_nights", "0"),
        ("stays_in_week_nights", "3"),
        ("adults", "2"),
        ("children", "0"),
        ("babies", "0"),
        ("country", "PRT"),
        ("assigned_room_type", "A"),
        ("deposit_type", "No Deposit"),
        ("customer_type", "Transient"),
        ("adr", "100.5"),
        ("reservation_status", "Check-Out"),
        ("reservation_status_date", "2016-01-04"),
    ];
    Line(values.into_iter().map(|(column, value)| (column, value.to_owned())).collect())
}

impl Line {
    pub fn set(mut self, column: &'static str, value: &str) -> Self {
        self.0.insert(column, value.to_owned());
        self
    }

    pub fn assigned(self, room_type: &str) -> Self {
        self.set("assigned_room_type", room_type)
    }

    pub fn nights(self, nights: u32) -> Self {
        self.set("stays_in_week_nights", &nights.to_string())
    }

    /// Booked `lead` days before this day of January 2016.
    pub fn arriving(self, day: u32, lead: u32) -> Self {
        self.set("arrival_date_day_of_month", &day.to_string()).set("lead_time", &lead.to_string())
    }

    pub fn ended(self, status: &str, date: &str) -> Self {
        self.set("reservation_status", status).set("reservation_status_date", date)
    }
}

/// A file of these lines.
pub fn file(lines: &[Line]) -> String {
    let mut text = format!("{HEADER}\n");
    for line in lines {
        let values: Vec<&str> = HEADER.split(',').map(|column| line.0[column].as_str()).collect();
        writeln!(text, "{}", values.join(",")).unwrap();
    }
    text
}
