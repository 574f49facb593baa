//! `POST /platform/users`

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};
use daybook_projections::Schema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    auth::password_policy,
    eventstore::{Attached, Command},
    http::{
        context::PlatformCommand,
        json::Json,
        problem::{ProblemBody, Result},
        respond,
        users::{RoleChoice, UserBody, create::NewAccount},
    },
};

/// An account of one of the platform's own people.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePlatformUser {
    /// The e-mail address: what they sign in with.
    email: String,
    /// The name.
    name: String,
    /// The tier: below that of whoever makes it.
    role: String,
    /// The password.
    #[schema(value_type = String)]
    password: SecretString,
    /// Why.
    reason: Option<String>,
}

/// Make an account of one of the platform's own people.
#[utoipa::path(
    post, path = "/api/v1/platform/users", tag = "platform", operation_id = "create_platform_user",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreatePlatformUser,
    responses(
        (status = 201, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create_user(
    State(state): State<AppState>,
    context: PlatformCommand,
    Json { value, hash }: Json<CreatePlatformUser>,
) -> Result<Response> {
    let choice = RoleChoice { role: Some(value.role), role_id: None };
    let new = NewAccount::parse(&value.email, &value.name, choice, None, None)?;
    password_policy::check(
        value.password.expose_secret(),
        &[new.email.as_str(), new.name.as_str()],
        "/password",
    )?;
    let password = state.hash_password(value.password).await?;
    let user = UserId(Uuid::now_v7());
    let command = UserCommand::Register {
        email: new.email,
        name: new.name,
        role: new.role,
        modules: new.modules,
        customer_id: None,
        by: context.principal.by(),
    };
    let unit = context
        .unit(vec![Command::create(user, command)], value.reason, hash)?
        .attach(Attached::Password { user, hash: password });
    let committed = state.store().execute(&Schema::platform(), unit).await?;
    respond::created(&committed, "platform/users", &UserBody::of(&committed)?)
}
