//! `POST /domains/{id}/primary`

use axum::{extract::State, response::Response};
use daybook_domain::{DomainId, tenant::TenantCommand};

use super::{DomainBody, done, execute};
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

/// Make a verified domain the one that the tenant is first known by, in place of the one before.
#[utoipa::path(
    post, path = "/api/v1/domains/{id}/primary", tag = "domains", operation_id = "make_primary_domain",
    params(
        ("id" = Uuid, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = DomainBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn make_primary(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<DomainId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let command = TenantCommand::MakePrimaryDomain { domain_id: id };
    let committed = execute(&state, context, command, value.reason, hash).await?;
    done(&committed, id)
}
