//! `DELETE /api-keys/{id}`: within a second no node accepts it.

use axum::{extract::State, response::Response};
use daybook_domain::{ApiKeyId, api_key::ApiKeyCommand};

use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        ReasonOnly,
        context::CommandContext,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// Revoke an API key. `If-Match` is honoured and not required: a key that leaked is revoked, whatever changed.
#[utoipa::path(
    delete, path = "/api/v1/api-keys/{id}", tag = "API keys", operation_id = "revoke_api_key",
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version it is meant for")),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Revoked"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<ApiKeyId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let schema = context.call.schema.clone();
    let command = Command::to(id, ApiKeyCommand::Revoke).expecting(context.if_match.expected());
    let event = context.security(SecurityEventKind::ApiKeyRevoked).detail(format!("key {id}"));
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    state.security_log().record(event);
    respond::archived(&committed)
}
