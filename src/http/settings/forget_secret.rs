//! `DELETE /secrets/{name}`

use axum::{
    extract::{Path, State},
    response::Response,
};
use daybook_domain::settings::{SecretName, SettingsCommand};

use crate::{
    app::AppState,
    eventstore::{Attached, Command},
    http::{
        ReasonOnly,
        context::CommandContext,
        json::OptionalJson,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// Forget one of the tenant's secrets.
#[utoipa::path(
    delete, path = "/api/v1/secrets/{name}", tag = "settings", operation_id = "forget_secret",
    params(("name" = String, Path)),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Forgotten"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn forget_secret(
    State(state): State<AppState>,
    context: CommandContext,
    Path(name): Path<String>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let name = SecretName::new(&name).map_err(|_| Problem::not_found())?;
    let schema = context.call.schema.clone();
    let command =
        Command::to(context.call.caller.tenant, SettingsCommand::RemoveSecret { name: name.clone() });
    let unit = context.unit(vec![command], value.reason, hash)?.attach(Attached::ForgetSecret(name));
    let committed = state.store().execute(&schema, unit).await?;
    respond::archived(&committed)
}
