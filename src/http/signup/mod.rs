//! Sign-up of a tenant: asked for by anybody, made once the e-mail address is confirmed.

pub mod ask;
pub mod confirm;

use daybook_domain::Slug;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::problem::{Problem, Result};
use crate::app::AppState;

/// What the sealed payload of a sign-up is bound to.
const FIELD: &str = "signup";

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(ask::ask)).routes(routes!(confirm::confirm))
}

/// What waits for the address to be confirmed; sealed, because it is somebody's address and password.
#[derive(Serialize, Deserialize)]
struct Waiting {
    tenant_name: String,
    slug: String,
    email: String,
    name: String,
    password_hash: String,
}

/// What the link of a sign-up says.
#[derive(Serialize, Deserialize)]
struct SignupLink {
    #[serde(rename = "s")]
    id: Uuid,
}

/// A slug that is anybody may take.
///
/// # Errors
/// `validation_failed` when it is none, or would pass for the platform itself.
pub(in crate::http) fn slug(text: &str) -> Result<Slug> {
    let slug = Slug::new(text, "/slug")?;
    if slug.is_reserved() {
        return Err(Problem::field("/slug", "reserved", "this name is the platform's own"));
    }
    Ok(slug)
}
