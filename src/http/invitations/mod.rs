//! Invitations: people who are told by mail that they may make their account.

pub mod accept;
pub mod create;
pub mod list;
pub mod revoke;

use daybook_domain::{TenantId, UserId};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::AppState;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(revoke::revoke))
        .routes(routes!(accept::accept))
}

/// What the link of an invitation says.
#[derive(Serialize, Deserialize)]
struct InvitationLink {
    #[serde(rename = "t")]
    tenant: TenantId,
    #[serde(rename = "u")]
    user: UserId,
}
