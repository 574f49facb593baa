//! Availability: what is free, and for those who may know, why not. Exact when read; a decision has the last word.
//!
//! An answer lists every resource asked about, or is a refusal: never an empty list because something failed.

pub mod explain;
pub mod free;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use daybook_domain::{availability, offering::Offering};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{Problem, Result};
use crate::app::AppState;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(free::free)).routes(routes!(explain::explain))
}

/// The most days one question about nights covers.
pub const MAX_NIGHTS: i64 = 62;
/// The most days one question about slots covers.
pub const MAX_SLOT_DAYS: i64 = 31;
/// The most starts one question about slots may have to work out, over all its resources.
pub const MAX_STARTS: u64 = 20_000;

/// Local dates `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// The first date.
    pub from: NaiveDate,
    /// The first date after it.
    pub to: NaiveDate,
}

impl Dates {
    /// Dates in order and not too many.
    ///
    /// # Errors
    /// `validation_failed` at `?to`.
    pub fn new(from: NaiveDate, to: NaiveDate, most: i64) -> Result<Self> {
        let dates = Self { from, to };
        if to <= from {
            return Err(Problem::field("?to", "interval_reversed", "to must be after from"));
        }
        dates.at_most(most)?;
        Ok(dates)
    }

    /// Refuses more than so many days.
    ///
    /// # Errors
    /// `validation_failed` at `?to`.
    pub fn at_most(&self, most: i64) -> Result<()> {
        if (self.to - self.from).num_days() > most {
            return Err(Problem::field("?to", "range_too_long", format!("at most {most} days at once")));
        }
        Ok(())
    }

    /// Refuses more starts of appointments than one question may have, on so many resources.
    ///
    /// # Errors
    /// `validation_failed` at `?to`.
    pub fn few_starts(&self, offering: &Offering, resources: usize) -> Result<()> {
        let resources = u64::try_from(resources).unwrap_or(u64::MAX);
        let a_day = availability::most_starts(offering, 1).saturating_mul(resources);
        let days = (self.to - self.from).num_days().unsigned_abs();
        if a_day.saturating_mul(days) <= MAX_STARTS {
            return Ok(());
        }
        let detail = match MAX_STARTS / a_day.max(1) {
            0 => "too many starts even on one day: ask for one resource".to_owned(),
            most => format!("at most {most} days of these appointments at once"),
        };
        Err(Problem::field("?to", "range_too_long", detail))
    }

    /// Their midnights in UTC, which in other zones are up to a day away.
    pub fn instants(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
        (midnight(self.from), midnight(self.to))
    }
}
