//! Roles of a tenant's own: named bundles of permissions for staff.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
pub mod update;

use chrono::{DateTime, Utc};
use daybook_domain::{
    permission::{Permission, Permissions},
    registry::Registered as _,
    role::Role,
};
use daybook_projections::roles::RoleRow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

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

/// A role of the tenant's own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Role)]
pub struct RoleBody {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it allows, as `resource:action:scope`.
    pub permissions: Vec<String>,
    /// Whether it is given to nobody any more.
    pub archived: bool,
    /// The version, as in `ETag`.
    pub version: i64,
    /// When it was made; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTime<Utc>>,
}

impl From<RoleRow> for RoleBody {
    fn from(row: RoleRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            permissions: row.permissions,
            archived: row.archived,
            version: row.version,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }
    }
}

impl RoleBody {
    /// The role as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let role = Role::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            name: role.name.clone(),
            permissions: role.permissions.iter().map(|permission| permission.to_string()).collect(),
            archived: role.archived,
            version: changed.sequence,
            created_at: None,
            updated_at: None,
        })
    }
}

/// Permissions as requests name them.
///
/// # Errors
/// `validation_failed` at the one there is not.
pub fn permissions(names: &[String]) -> Result<Permissions> {
    let unknown = |at: usize| {
        let pointer = format!("/permissions/{at}");
        Problem::field(&pointer, "unknown_permission", "a permission is resource:action:scope")
    };
    let read = |(at, name): (usize, &String)| {
        let permission = name.parse::<Permission>().ok().filter(|permission| permission.is_meaningful());
        permission.ok_or_else(|| unknown(at))
    };
    names.iter().enumerate().map(read).collect()
}
