//! `DELETE /domains/{id}`: within a second no node lets its pages call, and another tenant may prove the host.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use daybook_domain::{DomainId, tenant::TenantCommand};
use http::StatusCode;

use super::execute;
use crate::{
    app::AppState,
    http::{
        ReasonOnly,
        context::CommandContext,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// Give a domain up, proved or not.
#[utoipa::path(
    delete, path = "/api/v1/domains/{id}", tag = "domains", operation_id = "release_domain",
    params(("id" = Uuid, Path)),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Given up"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn release(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<DomainId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let command = TenantCommand::ReleaseDomain { domain_id: id };
    execute(&state, context, command, value.reason, hash).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
