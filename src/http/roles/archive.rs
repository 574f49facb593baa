//! `DELETE /roles/{id}`: it can be given to nobody any more. One that somebody has stays.

use axum::{extract::State, response::Response};
use daybook_domain::{RoleId, role::RoleCommand};

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
};

/// Archive a role that nobody has.
#[utoipa::path(
    delete, path = "/api/v1/roles/{id}", tag = "roles", operation_id = "archive_role",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is archived")),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Archived"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn archive(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<RoleId>,
    RequiredIfMatch(version): RequiredIfMatch,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let schema = context.call.schema.clone();
    let command = Command::to(id, RoleCommand::Archive).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::archived(&committed)
}
