//! Resources: what is occupied.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
pub mod update;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use daybook_domain::{
    local_time::parse_zone,
    registry::Registered as _,
    resource::{Resource, ResourceKind},
};
use daybook_projections::resources::ResourceRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    problem::Result,
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

/// One unit or a pool of interchangeable ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One pitch, room, person.
    Unit,
    /// Interchangeable units.
    Pool,
}

impl From<Kind> for ResourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Unit => Self::Unit,
            Kind::Pool => Self::Pool,
        }
    }
}

/// A resource.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Resource)]
pub struct ResourceBody {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `unit` or `pool`.
    #[schema(example = "pool")]
    pub kind: String,
    /// How many bookings it takes at once.
    pub capacity: i64,
    /// Its IANA time zone.
    #[schema(example = "Europe/Brussels")]
    pub time_zone: String,
    /// Whether it takes no more bookings.
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

impl From<ResourceRow> for ResourceBody {
    fn from(row: ResourceRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            kind: row.kind,
            capacity: row.capacity.into(),
            time_zone: row.time_zone,
            archived: row.archived,
            version: row.version,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }
    }
}

impl ResourceBody {
    /// The resource as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let resource = Resource::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            name: resource.name.clone(),
            kind: resource.kind.as_str().to_owned(),
            capacity: resource.capacity.into(),
            time_zone: resource.time_zone.name().to_owned(),
            archived: resource.archived,
            version: changed.sequence,
            created_at: None,
            updated_at: None,
        })
    }
}

fn zone(name: Option<&str>) -> Result<Option<Tz>> {
    Ok(name.map(|name| parse_zone(name, "/time_zone")).transpose()?)
}
