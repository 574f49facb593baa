//! `POST /support/requests/{id}/deny`

use axum::{extract::State, response::Response};
use daybook_domain::{SupportRequestId, support_request::SupportRequestCommand};

use super::{SupportRequestBody, actor, answer, reason};
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

/// Do not let the platform's support in. A reason is required, which is sent to whoever asked. For an owner or a manager
/// who is signed in.
#[utoipa::path(
    post, path = "/api/v1/support/requests/{id}/deny", tag = "support", operation_id = "deny_support",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = SupportRequestBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn deny(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<SupportRequestId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let why = reason(value.reason.as_deref())?;
    let command = Command::to(id, SupportRequestCommand::Deny { by: actor(&context), reason: why });
    let committed =
        answer(&state, context, command, value.reason, hash, SecurityEventKind::SupportDenied).await?;
    respond::done(&committed, &SupportRequestBody::of(&committed, None)?)
}
