//! The rules of a schedule as requests and answers write them: strict, so that a misspelt field closes nothing.

use chrono::{NaiveDate, NaiveDateTime};
use daybook_domain::{
    schedule::{Block, DatedException, Day, LocalTime, Season, WeeklyRule, Window},
    text::Name,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::problem::Result;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the days of the week")]
pub enum DayBody {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Open on some days of the week.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeeklyBody {
    /// The days.
    pub days: Vec<DayBody>,
    /// Local time `HH:MM`.
    #[schema(value_type = String, example = "09:00")]
    pub opens: LocalTime,
    /// Local time `HH:MM`; `24:00` is the end of the day.
    #[schema(value_type = String, example = "17:30")]
    pub closes: LocalTime,
}

/// Open from one local time to another.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowBody {
    /// Local time `HH:MM`.
    #[schema(value_type = String, example = "09:00")]
    pub opens: LocalTime,
    /// Local time `HH:MM`.
    #[schema(value_type = String, example = "17:30")]
    pub closes: LocalTime,
}

/// Other weekly rules for a range of dates.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeasonBody {
    /// Its name.
    pub name: String,
    /// The first date.
    pub from: NaiveDate,
    /// The first date after it.
    pub until: NaiveDate,
    /// The rules; none means closed.
    pub weekly: Vec<WeeklyBody>,
}

/// Other hours on one date.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptionBody {
    /// The date.
    pub date: NaiveDate,
    /// The hours; none means closed.
    pub windows: Vec<WindowBody>,
}

/// Closed from one local time to another, whatever else says.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockBody {
    /// Local time (`2026-05-01T00:00:00`).
    #[schema(value_type = String, example = "2026-05-01T00:00:00")]
    pub from: NaiveDateTime,
    /// Local time.
    #[schema(value_type = String, example = "2026-05-02T00:00:00")]
    pub until: NaiveDateTime,
    /// Why, for staff. Not for personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl From<DayBody> for Day {
    fn from(day: DayBody) -> Self {
        match day {
            DayBody::Mon => Self::Mon,
            DayBody::Tue => Self::Tue,
            DayBody::Wed => Self::Wed,
            DayBody::Thu => Self::Thu,
            DayBody::Fri => Self::Fri,
            DayBody::Sat => Self::Sat,
            DayBody::Sun => Self::Sun,
        }
    }
}

impl From<Day> for DayBody {
    fn from(day: Day) -> Self {
        match day {
            Day::Mon => Self::Mon,
            Day::Tue => Self::Tue,
            Day::Wed => Self::Wed,
            Day::Thu => Self::Thu,
            Day::Fri => Self::Fri,
            Day::Sat => Self::Sat,
            Day::Sun => Self::Sun,
        }
    }
}

impl From<WeeklyBody> for WeeklyRule {
    fn from(rule: WeeklyBody) -> Self {
        Self { days: rule.days.into_iter().map(Into::into).collect(), opens: rule.opens, closes: rule.closes }
    }
}

impl From<&WeeklyRule> for WeeklyBody {
    fn from(rule: &WeeklyRule) -> Self {
        Self {
            days: rule.days.iter().copied().map(Into::into).collect(),
            opens: rule.opens,
            closes: rule.closes,
        }
    }
}

impl From<&Season> for SeasonBody {
    fn from(season: &Season) -> Self {
        Self {
            name: season.name.as_str().to_owned(),
            from: season.from,
            until: season.until,
            weekly: season.weekly.iter().map(Into::into).collect(),
        }
    }
}

impl From<ExceptionBody> for DatedException {
    fn from(exception: ExceptionBody) -> Self {
        let window = |window: WindowBody| Window { opens: window.opens, closes: window.closes };
        Self { date: exception.date, windows: exception.windows.into_iter().map(window).collect() }
    }
}

impl From<&DatedException> for ExceptionBody {
    fn from(exception: &DatedException) -> Self {
        let window = |window: &Window| WindowBody { opens: window.opens, closes: window.closes };
        Self { date: exception.date, windows: exception.windows.iter().map(window).collect() }
    }
}

impl From<&Block> for BlockBody {
    fn from(block: &Block) -> Self {
        let note = block.note.as_ref().map(|note| note.as_str().to_owned());
        Self { from: block.from, until: block.until, note }
    }
}

/// Weekly rules as the domain has them.
pub(super) fn weekly(rules: Vec<WeeklyBody>) -> Vec<WeeklyRule> {
    rules.into_iter().map(Into::into).collect()
}

/// Exceptions as the domain has them.
pub(super) fn exceptions(exceptions: Vec<ExceptionBody>) -> Vec<DatedException> {
    exceptions.into_iter().map(Into::into).collect()
}

/// Seasons as the domain has them.
///
/// # Errors
/// `validation_failed` at the name that is wrong.
pub(super) fn seasons(seasons: Vec<SeasonBody>) -> Result<Vec<Season>> {
    let season = |(index, season): (usize, SeasonBody)| {
        Ok(Season {
            name: Name::new(&season.name, &format!("/seasons/{index}/name"))?,
            from: season.from,
            until: season.until,
            weekly: weekly(season.weekly),
        })
    };
    seasons.into_iter().enumerate().map(season).collect()
}

/// Blocks as the domain has them.
///
/// # Errors
/// `validation_failed` at the note that is wrong.
pub(super) fn blocks(blocks: Vec<BlockBody>) -> Result<Vec<Block>> {
    let block = |(index, block): (usize, BlockBody)| {
        let note = block.note.map(|note| Name::new(&note, &format!("/blocks/{index}/note"))).transpose()?;
        Ok(Block { from: block.from, until: block.until, note })
    };
    blocks.into_iter().enumerate().map(block).collect()
}
