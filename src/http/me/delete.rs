//! `DELETE /me`: one's own account, knowing its password. What it did stays in the log; who it was does not show.

use axum::{extract::State, response::Response};
use daybook_domain::user::{By, UserCommand};
use http::header;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    eventstore::{Attached, Command},
    http::{
        auth::cookie,
        context::OwnCommand,
        json::Json,
        problem::{ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// The proof that it is oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteMe {
    /// The password.
    #[schema(value_type = String)]
    password: SecretString,
}

/// Delete one's own account. The last active owner's stays.
#[utoipa::path(
    delete, path = "/api/v1/me", tag = "me", operation_id = "delete_me",
    request_body = DeleteMe,
    responses(
        (status = 204, description = "Deleted; every session has ended"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn delete(
    State(state): State<AppState>,
    own: OwnCommand,
    Json { value, .. }: Json<DeleteMe>,
) -> Result<Response> {
    let limits = state.limits();
    limits.check(&limits.policies().account_deletion, &own.user.to_string()).await?;
    super::prove_password(&state, &own, value.password, "/password").await?;
    let by = By::User(own.user);
    let unit =
        own.unit(|user| Command::to(user, UserCommand::Delete { by })).attach(Attached::ForgetUser(own.user));
    let committed = state.store().execute(&own.schema(), unit).await?;
    state.security_log().record(own.security(SecurityEventKind::AccountDeleted));
    let mut response = respond::silent(&committed);
    response.headers_mut().append(header::SET_COOKIE, cookie::clear()?);
    Ok(response)
}
