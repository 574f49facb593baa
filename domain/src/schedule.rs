//! A schedule: when resources are open. Weekly rules < seasons < dated exceptions < blocks; what stands further
//! right wins. Rules are local time, converted per date in the resource's zone.

mod hours;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, Event, FieldError, ResourceId, ScheduleId, carried::CarriedOver,
    impl_cqrs_aggregate, text::Name,
};

pub use hours::{Closed, ClosedBy, LocalTime};

const MAX_ENTRIES: usize = 200;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Open from one local time to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// From then.
    pub opens: LocalTime,
    /// Until then; `24:00` is the end of the day.
    pub closes: LocalTime,
}

/// Open on some days of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeeklyRule {
    /// The days.
    pub days: Vec<Day>,
    /// From then.
    pub opens: LocalTime,
    /// Until then.
    pub closes: LocalTime,
}

/// Other weekly rules for a range of dates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Season {
    /// Its name.
    pub name: Name,
    /// The first date.
    pub from: NaiveDate,
    /// The first date after it.
    pub until: NaiveDate,
    /// The rules; none means closed.
    pub weekly: Vec<WeeklyRule>,
}

/// Other hours on one date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatedException {
    /// The date.
    pub date: NaiveDate,
    /// The hours; none means closed.
    pub windows: Vec<Window>,
}

/// Closed from one local time to another, whatever else says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// From then, local.
    pub from: NaiveDateTime,
    /// Until then, local.
    pub until: NaiveDateTime,
    /// Why, for staff. Not for personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Name>,
}

/// All that a schedule says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Weekly rules; none means open every day, around the clock.
    pub weekly: Vec<WeeklyRule>,
    /// Seasons; they do not overlap.
    pub seasons: Vec<Season>,
    /// Dated exceptions, one a date.
    pub exceptions: Vec<DatedException>,
    /// Blocks.
    pub blocks: Vec<Block>,
}

/// The state of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its id, once it was created.
    pub id: Option<ScheduleId>,
    /// Its name.
    pub name: Name,
    /// The resources it is for; a resource has at most one live schedule.
    pub resource_ids: Vec<ResourceId>,
    /// What it says.
    pub rules: Rules,
    /// Archived schedules say nothing: their resources are always open.
    pub archived: bool,
}

impl Schedule {
    /// A resource has at most one live schedule.
    pub fn unique_keys(&self) -> Vec<(&'static str, String)> {
        if self.id.is_none() || self.archived {
            return Vec::new();
        }
        self.resource_ids.iter().map(|id| ("schedule_of_resource", id.to_string())).collect()
    }
}

/// What can be asked of a schedule.
#[derive(Clone, Debug)]
pub enum ScheduleCommand {
    /// Create it.
    Create {
        /// Its name.
        name: Name,
        /// The resources it is for.
        resource_ids: Vec<ResourceId>,
        /// What it says.
        rules: Box<Rules>,
    },
    /// Change what is given.
    Update {
        /// A new name.
        name: Option<Name>,
        /// Other resources.
        resource_ids: Option<Vec<ResourceId>>,
        /// Other weekly rules.
        weekly: Option<Vec<WeeklyRule>>,
        /// Other seasons.
        seasons: Option<Vec<Season>>,
        /// Other exceptions.
        exceptions: Option<Vec<DatedException>>,
        /// Other blocks.
        blocks: Option<Vec<Block>>,
    },
    /// Say nothing any more.
    Archive,
}

/// What can have happened to a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum ScheduleEvent {
    /// It was created.
    #[serde(rename = "schedule.created")]
    Created {
        /// Its id.
        schedule_id: ScheduleId,
        /// Its name.
        name: Name,
        /// The resources it is for.
        resource_ids: Vec<ResourceId>,
        /// What it says.
        rules: Box<Rules>,
    },
    /// It says something else now.
    #[serde(rename = "schedule.updated")]
    Updated {
        /// Its name now.
        name: Name,
        /// Its resources now.
        resource_ids: Vec<ResourceId>,
        /// All that it says now.
        rules: Box<Rules>,
    },
    /// It says nothing any more.
    #[serde(rename = "schedule.archived")]
    Archived,
    /// Its state, when what was before was pruned.
    #[serde(rename = "schedule.carried_over")]
    CarriedOver(Box<CarriedOver<Schedule>>),
}

impl Event for ScheduleEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("schedule.created", 1),
        ("schedule.updated", 1),
        ("schedule.archived", 1),
        ("schedule.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "schedule.created",
            Self::Updated { .. } => "schedule.updated",
            Self::Archived => "schedule.archived",
            Self::CarriedOver(_) => "schedule.carried_over",
        }
    }
}

/// What a decision about a schedule needs to know.
#[derive(Clone, Debug)]
pub struct ScheduleContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The schedule's id.
    pub id: ScheduleId,
    /// The resources named that exist, and whether each takes bookings.
    pub resources: Vec<(ResourceId, bool)>,
}

impl Decider for Schedule {
    const TYPE: &'static str = "schedule";
    type Command = ScheduleCommand;
    type Event = ScheduleEvent;
    type Context = ScheduleContext;

    fn decide(
        &self,
        command: &ScheduleCommand,
        context: &ScheduleContext,
    ) -> Result<Vec<ScheduleEvent>, DomainError> {
        match command {
            ScheduleCommand::Create { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            ScheduleCommand::Create { name, resource_ids, rules } => {
                validate(rules, resource_ids, Some(&context.resources))?;
                Ok(vec![ScheduleEvent::Created {
                    schedule_id: context.id,
                    name: name.clone(),
                    resource_ids: resource_ids.clone(),
                    rules: rules.clone(),
                }])
            }
            ScheduleCommand::Update { .. } | ScheduleCommand::Archive if self.id.is_none() => {
                Err(DomainError::not_found(Self::TYPE))
            }
            ScheduleCommand::Update { .. } | ScheduleCommand::Archive if self.archived => {
                Err(DomainError::wrong_state("archived", "the schedule is archived"))
            }
            ScheduleCommand::Update { name, resource_ids, weekly, seasons, exceptions, blocks } => {
                let named = resource_ids.is_some();
                let name = name.clone().unwrap_or_else(|| self.name.clone());
                let resource_ids = resource_ids.clone().unwrap_or_else(|| self.resource_ids.clone());
                let rules = Rules {
                    weekly: weekly.clone().unwrap_or_else(|| self.rules.weekly.clone()),
                    seasons: seasons.clone().unwrap_or_else(|| self.rules.seasons.clone()),
                    exceptions: exceptions.clone().unwrap_or_else(|| self.rules.exceptions.clone()),
                    blocks: blocks.clone().unwrap_or_else(|| self.rules.blocks.clone()),
                };
                if name == self.name && resource_ids == self.resource_ids && rules == self.rules {
                    return Ok(Vec::new());
                }
                validate(&rules, &resource_ids, named.then_some(&context.resources))?;
                Ok(vec![ScheduleEvent::Updated { name, resource_ids, rules: Box::new(rules) }])
            }
            ScheduleCommand::Archive => Ok(vec![ScheduleEvent::Archived]),
        }
    }

    fn apply(&mut self, event: &ScheduleEvent) {
        match event {
            ScheduleEvent::Created { schedule_id, name, resource_ids, rules } => {
                *self = Self {
                    id: Some(*schedule_id),
                    name: name.clone(),
                    resource_ids: resource_ids.clone(),
                    rules: rules.as_ref().clone(),
                    archived: false,
                };
            }
            ScheduleEvent::Updated { name, resource_ids, rules } => {
                self.name = name.clone();
                self.resource_ids.clone_from(resource_ids);
                self.rules = rules.as_ref().clone();
            }
            ScheduleEvent::Archived => self.archived = true,
            ScheduleEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

/// Checks a schedule as a whole and reports every entry that fails.
fn validate(
    rules: &Rules,
    resource_ids: &[ResourceId],
    known: Option<&Vec<(ResourceId, bool)>>,
) -> Result<(), DomainError> {
    let mut errors = Vec::new();
    let mut require = |ok: bool, pointer: String, code: &str, detail: &str| {
        if !ok {
            errors.push(FieldError { pointer, code: code.into(), detail: detail.into() });
        }
    };
    require(
        (1..=MAX_ENTRIES).contains(&resource_ids.len()),
        "/resource_ids".into(),
        "invalid_resources",
        "a schedule is for 1 to 200 resources",
    );
    for (index, id) in resource_ids.iter().enumerate() {
        let twice = resource_ids[..index].contains(id);
        require(
            !twice,
            format!("/resource_ids/{index}"),
            "duplicate_resource",
            "the resource is named twice",
        );
        let bookable = known.is_none_or(|known| known.contains(&(*id, true)));
        require(
            bookable,
            format!("/resource_ids/{index}"),
            "unknown_resource",
            "no such resource, or it is archived",
        );
    }
    let Rules { weekly, seasons, exceptions, blocks } = rules;
    let in_range = |date: NaiveDate| (1900..=9999).contains(&date.year());
    let all_in_range = seasons.iter().all(|season| in_range(season.from) && in_range(season.until))
        && exceptions.iter().all(|exception| in_range(exception.date))
        && blocks.iter().all(|block| in_range(block.from.date()) && in_range(block.until.date()));
    require(all_in_range, String::new(), "date_out_of_range", "dates are between 1900 and 9999");
    for (name, length) in [
        ("weekly", weekly.len()),
        ("seasons", seasons.len()),
        ("exceptions", exceptions.len()),
        ("blocks", blocks.len()),
    ] {
        require(length <= MAX_ENTRIES, format!("/{name}"), "too_many", "at most 200 entries");
    }
    let mut check_weekly = |rules: &[WeeklyRule], at: &str| {
        for (index, rule) in rules.iter().enumerate() {
            require(
                !rule.days.is_empty(),
                format!("{at}/{index}/days"),
                "no_days",
                "a rule names at least one day",
            );
            let ordered = rule.opens < rule.closes;
            require(ordered, format!("{at}/{index}/closes"), "interval_reversed", "it closes after it opens");
        }
        require(rules.len() <= MAX_ENTRIES, at.to_owned(), "too_many", "at most 200 entries");
    };
    check_weekly(weekly, "/weekly");
    for (index, season) in seasons.iter().enumerate() {
        check_weekly(&season.weekly, &format!("/seasons/{index}/weekly"));
    }
    for (index, season) in seasons.iter().enumerate() {
        let at = format!("/seasons/{index}");
        require(
            season.from < season.until,
            format!("{at}/until"),
            "interval_reversed",
            "a season ends after it begins",
        );
        let apart =
            seasons[..index].iter().all(|other| season.until <= other.from || other.until <= season.from);
        require(apart, at, "overlapping_season", "seasons do not overlap");
    }
    for (index, exception) in exceptions.iter().enumerate() {
        let at = format!("/exceptions/{index}");
        let once = exceptions[..index].iter().all(|other| other.date != exception.date);
        require(once, format!("{at}/date"), "duplicate_date", "a date has one exception");
        require(
            exception.windows.len() <= MAX_ENTRIES,
            format!("{at}/windows"),
            "too_many",
            "at most 200 entries",
        );
        for (window, hours) in exception.windows.iter().enumerate() {
            let ordered = hours.opens < hours.closes;
            require(
                ordered,
                format!("{at}/windows/{window}/closes"),
                "interval_reversed",
                "it closes after it opens",
            );
        }
    }
    for (index, block) in blocks.iter().enumerate() {
        let ordered = block.from < block.until;
        require(
            ordered,
            format!("/blocks/{index}/until"),
            "interval_reversed",
            "a block ends after it begins",
        );
    }
    if errors.is_empty() { Ok(()) } else { Err(DomainError::Validation { errors }) }
}

impl_cqrs_aggregate!(Schedule, ScheduleEvent);
