//! Invitations: people who are told by mail that they may make their account.

pub mod accept;
pub mod create;
pub mod list;
pub mod revoke;

use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook_domain::{Email, TenantId, UserId};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::chrono as span,
    letters,
    problem::{Problem, Result},
};
use crate::{
    app::AppState,
    auth::link::{self, Purpose},
    eventstore::Attached,
    mail::templates,
};

/// How long an invitation can be accepted.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

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

/// The letter that invites somebody, and until when they can accept.
///
/// # Errors
/// `internal` when it cannot be signed or sealed.
pub(super) fn letter(
    state: &AppState,
    tenant: TenantId,
    user: UserId,
    email: Email,
    house: &str,
) -> Result<(Attached, DateTime<Utc>)> {
    let until = crate::clock::now() + span(LIFETIME);
    let token =
        link::sign(state.store().keys(), Purpose::Invitation, &InvitationLink { tenant, user }, until)
            .map_err(Problem::internal)?;
    let link = letters::link(state, "invitation", &token);
    let letter = templates::invitation(letters::to(email, Some(user)), house, &link, LIFETIME);
    Ok((letters::attach(state, Some(tenant), letter)?, until))
}
