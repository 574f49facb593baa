//! From rules to instants: the open windows of a date, and why something is closed.

use std::fmt;

use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc, Weekday,
};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Block, Day, Schedule, WeeklyRule};
use crate::{
    Interval, Nights,
    local_time::{end_of_gap, start_of_day},
};

/// Minutes since local midnight, written `HH:MM`; `24:00` is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(u16);

impl LocalTime {
    /// Midnight at the start of the day.
    pub const START: Self = Self(0);
    /// Midnight at the end of the day.
    pub const END: Self = Self(1440);

    /// Parses `HH:MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(hours) || !digits(minutes) {
            return None;
        }
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        let total = hours * 60 + minutes;
        (minutes < 60 && total <= 1440).then_some(Self(total))
    }

    /// The local date and time it is on a date.
    fn on(self, date: NaiveDate) -> NaiveDateTime {
        match NaiveTime::from_num_seconds_from_midnight_opt(u32::from(self.0) * 60, 0) {
            Some(time) => date.and_time(time),
            None => date.checked_add_days(Days::new(1)).unwrap_or(date).and_time(NaiveTime::MIN),
        }
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for LocalTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LocalTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?)
            .ok_or_else(|| D::Error::custom("a local time is HH:MM, from 00:00 to 24:00"))
    }
}

/// Which kind of rule closes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// The weekly rules.
    Weekly,
    /// A season.
    Season,
    /// A dated exception.
    Exception,
    /// A block.
    Block,
}

/// Why something is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The rule that closes it.
    pub rule: ClosedBy,
    /// The local date that is closed.
    pub date: NaiveDate,
    /// The season's name or the block's note.
    pub note: Option<String>,
}

/// The hours that rules below blocks give to a date, and which rule that was.
struct Hours {
    windows: Vec<(LocalTime, LocalTime)>,
    rule: ClosedBy,
    note: Option<String>,
}

impl Schedule {
    /// When it is open on a local date: sorted, apart from each other, in instants.
    ///
    /// An edge inside a DST gap moves to the gap's end; in a fold a window opens at the first and closes at the
    /// second of the two instants, so that an hour that happens twice is open twice.
    pub fn open_windows(&self, date: NaiveDate, tz: Tz) -> Vec<Interval> {
        if self.archived {
            return Interval::new(start_of_day(date, tz), end_of_day(date, tz)).into_iter().collect();
        }
        let mut windows: Vec<(DateTime<Utc>, DateTime<Utc>)> = self
            .hours(date)
            .windows
            .into_iter()
            .map(|(opens, closes)| (first(opens.on(date), tz), last(closes.on(date), tz)))
            .collect();
        windows.sort_unstable();
        let mut open: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::with_capacity(windows.len());
        for (start, end) in windows {
            match open.last_mut() {
                Some(previous) if start <= previous.1 => previous.1 = previous.1.max(end),
                Some(_) | None => open.push((start, end)),
            }
        }
        for block in &self.rules.blocks {
            let (from, until) = block_instants(block, tz);
            open = open
                .into_iter()
                .flat_map(|(start, end)| [(start, end.min(from)), (start.max(until), end)])
                .filter(|(start, end)| start < end)
                .collect();
        }
        open.into_iter().filter_map(|(start, end)| Interval::new(start, end).ok()).collect()
    }

    /// Whether it is open during all of an interval, also across midnights.
    ///
    /// # Errors
    /// Why not: the first rule that closes a part of it.
    pub fn check_open(&self, interval: &Interval, tz: Tz) -> Result<(), Closed> {
        if self.archived {
            return Ok(());
        }
        let mut reached = interval.start();
        // A window belongs to the date it opens on, so the day before cannot reach over midnight.
        let mut date = tz.from_utc_datetime(&reached.naive_utc()).date_naive();
        let mut last_date = date;
        while reached < interval.end() {
            last_date = date;
            for window in self.open_windows(date, tz) {
                if window.start() <= reached && reached < window.end() {
                    reached = window.end();
                }
            }
            let day_ends = end_of_day(date, tz);
            if reached < day_ends.min(interval.end()) {
                break;
            }
            match date.succ_opt() {
                Some(next) => date = next,
                None => break,
            }
        }
        if reached >= interval.end() { Ok(()) } else { Err(self.why(last_date, reached, tz)) }
    }

    /// Whether each night of a stay is open: its date has opening hours, and no block touches the night.
    ///
    /// # Errors
    /// Why not: the first night that is closed.
    pub fn check_nights(&self, nights: &Nights, tz: Tz) -> Result<(), Closed> {
        if self.archived {
            return Ok(());
        }
        for date in nights.dates() {
            let hours = self.hours(date);
            if hours.windows.is_empty() {
                return Err(Closed { rule: hours.rule, date, note: hours.note });
            }
            let (start, end) = (start_of_day(date, tz), end_of_day(date, tz));
            for block in &self.rules.blocks {
                let (from, until) = block_instants(block, tz);
                if from < end && start < until {
                    return Err(closed_by_block(block, date));
                }
            }
        }
        Ok(())
    }

    /// Why an instant of a date is closed.
    fn why(&self, date: NaiveDate, at: DateTime<Utc>, tz: Tz) -> Closed {
        for block in &self.rules.blocks {
            let (from, until) = block_instants(block, tz);
            if from <= at && at < until {
                return closed_by_block(block, date);
            }
        }
        let hours = self.hours(date);
        Closed { rule: hours.rule, date, note: hours.note }
    }

    fn hours(&self, date: NaiveDate) -> Hours {
        let rules = &self.rules;
        if let Some(exception) = rules.exceptions.iter().find(|exception| exception.date == date) {
            let windows = exception.windows.iter().map(|window| (window.opens, window.closes)).collect();
            return Hours { windows, rule: ClosedBy::Exception, note: None };
        }
        if let Some(season) = rules.seasons.iter().find(|season| season.from <= date && date < season.until) {
            return Hours {
                windows: weekly_windows(&season.weekly, date),
                rule: ClosedBy::Season,
                note: Some(season.name.to_string()),
            };
        }
        let windows = if rules.weekly.is_empty() {
            vec![(LocalTime::START, LocalTime::END)]
        } else {
            weekly_windows(&rules.weekly, date)
        };
        Hours { windows, rule: ClosedBy::Weekly, note: None }
    }
}

fn weekly_windows(rules: &[WeeklyRule], date: NaiveDate) -> Vec<(LocalTime, LocalTime)> {
    let day = match date.weekday() {
        Weekday::Mon => Day::Mon,
        Weekday::Tue => Day::Tue,
        Weekday::Wed => Day::Wed,
        Weekday::Thu => Day::Thu,
        Weekday::Fri => Day::Fri,
        Weekday::Sat => Day::Sat,
        Weekday::Sun => Day::Sun,
    };
    rules.iter().filter(|rule| rule.days.contains(&day)).map(|rule| (rule.opens, rule.closes)).collect()
}

fn closed_by_block(block: &Block, date: NaiveDate) -> Closed {
    Closed { rule: ClosedBy::Block, date, note: block.note.as_ref().map(ToString::to_string) }
}

fn block_instants(block: &Block, tz: Tz) -> (DateTime<Utc>, DateTime<Utc>) {
    (first(block.from, tz), last(block.until, tz))
}

fn end_of_day(date: NaiveDate, tz: Tz) -> DateTime<Utc> {
    date.succ_opt().map_or(DateTime::<Utc>::MAX_UTC, |next| start_of_day(next, tz))
}

/// The first instant a local time means; in a gap its end.
fn first(local: NaiveDateTime, tz: Tz) -> DateTime<Utc> {
    match tz.from_local_datetime(&local) {
        LocalResult::Single(at) => at.to_utc(),
        LocalResult::Ambiguous(a, b) => a.min(b).to_utc(),
        LocalResult::None => end_of_gap(local, tz),
    }
}

/// The last instant a local time means; in a gap its end. Midnight is the start of the next day.
fn last(local: NaiveDateTime, tz: Tz) -> DateTime<Utc> {
    if local.time() == NaiveTime::MIN {
        return start_of_day(local.date(), tz);
    }
    match tz.from_local_datetime(&local) {
        LocalResult::Single(at) => at.to_utc(),
        LocalResult::Ambiguous(a, b) => a.max(b).to_utc(),
        LocalResult::None => end_of_gap(local, tz),
    }
}
