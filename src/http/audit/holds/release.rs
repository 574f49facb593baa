//! `DELETE /audit/holds/{id}`: releases it; that it stood stays in the log.

use axum::{extract::State, response::Response};
use daybook_domain::{HoldId, legal_hold::LegalHoldCommand};

use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        ReasonOnly,
        context::CommandContext,
        etag::RequiredIfMatch,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
    workers::erasure,
};

/// Release a legal hold; a reason is required. Erasures that waited for it, and for no other, are done within moments.
#[utoipa::path(
    delete, path = "/api/v1/audit/holds/{id}", tag = "audit", operation_id = "release_legal_hold",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is released")),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Released"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn release(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<HoldId>,
    RequiredIfMatch(version): RequiredIfMatch,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let schema = context.call.schema.clone();
    let command = Command::to(id, LegalHoldCommand::Release).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    // What waited for it is done at once. Should this process die, a worker comes by.
    let store = state.store().clone();
    tokio::spawn(async move {
        if let Err(error) = erasure::finish(&store, &schema).await {
            tracing::warn!(%schema, error = &error as &dyn std::error::Error, "erasures wait for a worker");
        }
    });
    respond::archived(&committed)
}
