//! `POST /invitations/accept`: the invited person chooses a password; then they can sign in.

use axum::{extract::State, response::Response};
use daybook_domain::{text::Name, user::UserCommand};
use daybook_projections::{Schema, users};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use super::InvitationLink;
use crate::{
    app::AppState,
    auth::{
        link::{self, Purpose},
        password_policy,
    },
    eventstore::{Attached, Command, StoreError, Unit},
    http::{
        client_address::ClientAddress,
        context::Anonymous,
        json::Json,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    tenancy::{Access, TenantTx},
};

/// The proof of the invitation, and the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The token of the link.
    #[schema(value_type = String)]
    token: SecretString,
    /// The password to be.
    #[schema(value_type = String)]
    password: SecretString,
    /// The name, if it is to be another than the invitation's.
    name: Option<String>,
}

fn wrong_token() -> Problem {
    Problem::field(
        "/token",
        "invalid_token",
        "the invitation has been used or taken back, has expired, or is none",
    )
}

/// Accept an invitation.
#[utoipa::path(
    post, path = "/api/v1/invitations/accept", tag = "users", operation_id = "accept_invitation", security(()),
    request_body = Accept,
    responses(
        (status = 204, description = "The account is active"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn accept(
    State(state): State<AppState>,
    client: Anonymous,
    address: ClientAddress,
    Json { value, .. }: Json<Accept>,
) -> Result<Response> {
    let limits = state.limits();
    limits.check(&limits.policies().login, &address.limit_key().to_string()).await?;
    let InvitationLink { tenant, user } = link::open(
        state.store().keys(),
        Purpose::Invitation,
        value.token.expose_secret(),
        crate::clock::now(),
    )
    .ok_or_else(wrong_token)?;
    if state.auth().active_tenant(tenant).await?.is_none() {
        return Err(wrong_token());
    }
    let name = value.name.map(|name| Name::new(&name, "/name")).transpose()?;
    let schema = Schema::tenant(tenant);
    let mut tx = TenantTx::begin(state.store().database().app(), &schema, Access::Read).await?;
    let row = users::get(&mut tx, user.0).await?.ok_or_else(wrong_token)?;
    tx.release();
    let attributes = [
        row.email.expose().map_or("", String::as_str),
        name.as_ref().map_or(row.name.expose().map_or("", String::as_str), Name::as_str),
    ];
    password_policy::check(value.password.expose_secret(), &attributes, "/password")?;
    let hash = state.hash_password(value.password).await?;
    let command = Command::to(user, UserCommand::AcceptInvitation { name });
    let unit = Unit::of(command, client.metadata(user)).attach(Attached::Password { user, hash });
    match state.store().execute(&schema, unit).await {
        Ok(committed) => Ok(respond::silent(&committed)),
        Err(StoreError::Refused { .. }) => Err(wrong_token()),
        Err(error) => Err(error.into()),
    }
}
