//! `POST /auth/password/change`: knowing the old one. Every other session ends.

use axum::{extract::State, response::Response};
use daybook_domain::{Email, user::UserCommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    auth::password_policy,
    eventstore::{Attached, Command},
    http::{
        context::OwnCommand,
        json::Json,
        letters, me,
        problem::{ProblemBody, Result},
        respond,
    },
    mail::templates,
    security_log::SecurityEventKind,
};

/// The old password and the new.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password as it is.
    #[schema(value_type = String)]
    current_password: SecretString,
    /// The password as it is to be.
    #[schema(value_type = String)]
    new_password: SecretString,
}

/// Change one's password. Every other session ends.
#[utoipa::path(
    post, path = "/api/v1/auth/password/change", tag = "auth", operation_id = "change_password",
    request_body = ChangePassword,
    responses(
        (status = 204, description = "Changed"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn change_password(
    State(state): State<AppState>,
    own: OwnCommand,
    Json { value, .. }: Json<ChangePassword>,
) -> Result<Response> {
    let row = me::row(&state, &own).await?;
    let attributes = [&row.email, &row.name].map(|value| value.expose().map_or("", String::as_str));
    password_policy::check(value.new_password.expose_secret(), &attributes, "/new_password")?;
    me::prove_password(&state, &own, value.current_password, "/current_password").await?;
    let hash = state.hash_password(value.new_password).await?;
    let command = UserCommand::ChangePassword { keep: Some(own.session) };
    let mut unit =
        own.unit(|user| Command::to(user, command)).attach(Attached::Password { user: own.user, hash });
    if let Some(email) = row.email.expose().and_then(|email| Email::new(email, "").ok()) {
        let house = letters::house(&state, own.tenant).await?;
        let letter = templates::password_changed(letters::to(email, Some(own.user)), &house);
        unit = unit.attach(letters::attach(&state, own.tenant, letter)?);
    }
    let committed = state.store().execute(&own.schema(), unit).await?;
    state.mailer().wake(&own.schema());
    state.security_log().record(own.security(SecurityEventKind::PasswordChanged));
    Ok(respond::silent(&committed))
}
