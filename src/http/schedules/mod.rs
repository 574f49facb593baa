//! Schedules: when resources are open. Weekly rules < seasons < dated exceptions < blocks.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
mod rules;
pub mod update;

use chrono::{DateTime, Utc};
use daybook_domain::{registry::Registered as _, schedule::Schedule};
use daybook_projections::schedules::ScheduleRow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

pub use rules::{BlockBody, DayBody, ExceptionBody, SeasonBody, WeeklyBody, WindowBody};

use super::{
    problem::{Problem, Result},
    respond::{subject, wrong_type},
};
use crate::{app::AppState, eventstore::Committed};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, create::create)).routes(routes!(
        get::get,
        update::update,
        archive::archive
    ))
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub struct ScheduleBody {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The resources it is for; a resource has at most one live schedule.
    pub resource_ids: Vec<Uuid>,
    /// Weekly rules; none means open every day, around the clock.
    pub weekly: Vec<WeeklyBody>,
    /// Other weekly rules for ranges of dates.
    pub seasons: Vec<SeasonBody>,
    /// Other hours on single dates.
    pub exceptions: Vec<ExceptionBody>,
    /// Closed, whatever else says.
    pub blocks: Vec<BlockBody>,
    /// Whether it says nothing any more.
    pub archived: bool,
    /// Its version, as in `ETag`.
    pub version: i64,
    /// When it was created; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTime<Utc>>,
}

impl ScheduleBody {
    /// The schedule as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let schedule = Schedule::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            name: schedule.name.as_str().to_owned(),
            resource_ids: schedule.resource_ids.iter().map(|id| id.0).collect(),
            weekly: schedule.rules.weekly.iter().map(Into::into).collect(),
            seasons: schedule.rules.seasons.iter().map(Into::into).collect(),
            exceptions: schedule.rules.exceptions.iter().map(Into::into).collect(),
            blocks: schedule.rules.blocks.iter().map(Into::into).collect(),
            archived: schedule.archived,
            version: changed.sequence,
            created_at: None,
            updated_at: None,
        })
    }

    /// The schedule of a row.
    ///
    /// # Errors
    /// When the row is of another shape.
    pub fn from_row(row: ScheduleRow) -> Result<Self> {
        let rules = row.rules().map_err(Problem::internal)?;
        Ok(Self {
            id: row.id,
            name: row.name,
            resource_ids: row.resource_ids,
            weekly: rules.weekly.iter().map(Into::into).collect(),
            seasons: rules.seasons.iter().map(Into::into).collect(),
            exceptions: rules.exceptions.iter().map(Into::into).collect(),
            blocks: rules.blocks.iter().map(Into::into).collect(),
            archived: row.archived,
            version: row.version,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        })
    }
}
