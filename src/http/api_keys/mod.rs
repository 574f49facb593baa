//! API keys: what programs of a tenant's call with.

pub mod create;
pub mod list;
pub mod revoke;

use chrono::{DateTime, Utc};
use daybook_projections::api_keys::ApiKeyRow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::app::AppState;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list::list, create::create)).routes(routes!(revoke::revoke))
}

/// An API key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyBody {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// What it begins with.
    pub prefix: String,
    /// What it may do, as `resource:action:scope`.
    pub permissions: Vec<String>,
    /// How many calls an hour; null: as the plan says, negative: any number.
    pub calls_per_hour: Option<i32>,
    /// When it stops working by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was last used, within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The version, as in `ETag`.
    pub version: i64,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
}

impl From<ApiKeyRow> for ApiKeyBody {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: format!("{}{}", crate::auth::api_key::PREFIX, row.prefix),
            permissions: row.permissions,
            calls_per_hour: row.calls_per_hour,
            expires_at: row.expires_at,
            revoked: row.revoked,
            last_used_at: row.last_used_at,
            version: row.version,
            created_at: row.created_at,
        }
    }
}
