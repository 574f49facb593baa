//! A tenant's settings, and its secrets, which are only ever written.

pub mod forget_secret;
pub mod get;
pub mod set_secret;
pub mod update;

use daybook_domain::{registry::Registered as _, settings::Settings};
use daybook_projections::settings::SettingsRow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    problem::Result,
    respond::{subject, wrong_type},
};
use crate::{app::AppState, eventstore::Committed};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(get::get, update::update))
        .routes(routes!(set_secret::set_secret, forget_secret::forget_secret))
}

/// A tenant's settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settings)]
pub struct SettingsBody {
    /// Whether guests may see what is free and book without an account.
    pub public_bookings: bool,
    /// What stands in mails as the name of the house; the tenant's name where null.
    pub display_name: Option<String>,
    /// Whether the platform's support may act as a user of this tenant without an approved window.
    pub hijack_without_approval: bool,
    /// The names of the secrets that are set; their values are never shown.
    pub secrets: Vec<String>,
    /// The version, as in `ETag`.
    pub version: i64,
}

impl From<SettingsRow> for SettingsBody {
    fn from(row: SettingsRow) -> Self {
        Self {
            public_bookings: row.public_bookings,
            display_name: row.display_name,
            hijack_without_approval: row.hijack_without_approval,
            secrets: row.secrets,
            version: row.version,
        }
    }
}

impl SettingsBody {
    /// The settings as a command left them.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let settings = Settings::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            public_bookings: settings.public_bookings,
            display_name: settings.display_name.clone(),
            hijack_without_approval: settings.hijack_without_approval,
            secrets: settings.secrets.iter().cloned().collect(),
            version: changed.sequence,
        })
    }
}
