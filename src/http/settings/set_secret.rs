//! `PUT /secrets/{name}`: write-only. It is sealed with keys that are not in the database, and never shown again.

use axum::{
    extract::{Path, State},
    response::Response,
};
use daybook_domain::settings::{SecretName, SettingsCommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    auth::sealed,
    eventstore::{Attached, Command},
    http::{
        context::CommandContext,
        json::Json,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// The most bytes of a secret.
const MAX_BYTES: usize = 16 * 1024;

/// A secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// Its value.
    #[schema(value_type = String)]
    value: SecretString,
    /// Why.
    reason: Option<String>,
}

/// Set one of the tenant's secrets, such as `stripe_key` or `smtp_password`. Its value is never shown again.
#[utoipa::path(
    put, path = "/api/v1/secrets/{name}", tag = "settings", operation_id = "set_secret",
    params(("name" = String, Path)),
    request_body = SetSecret,
    responses(
        (status = 204, description = "Set"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn set_secret(
    State(state): State<AppState>,
    context: CommandContext,
    Path(name): Path<String>,
    Json { value, hash }: Json<SetSecret>,
) -> Result<Response> {
    let name = SecretName::new(&name)?;
    let secret = value.value.expose_secret();
    if secret.is_empty() || secret.len() > MAX_BYTES {
        return Err(Problem::field("/value", "invalid_length", "a secret has 1 to 16,384 bytes"));
    }
    let tenant = context.call.caller.tenant;
    let field = format!("secret/{}", name.as_str());
    let ciphertext = sealed::seal(state.store().keys(), Some(tenant), &field, secret.as_bytes())
        .map_err(Problem::internal)?
        .into();
    let schema = context.call.schema.clone();
    let command = Command::to(tenant, SettingsCommand::SetSecret { name: name.clone() });
    let unit = context.unit(vec![command], value.reason, hash)?.attach(Attached::Secret { name, ciphertext });
    respond::archived(&state.store().execute(&schema, unit).await?)
}
