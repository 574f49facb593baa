//! `POST /support/requests/{id}/approve`

use axum::{extract::State, response::Response};
use daybook_domain::{Email, SupportRequestId, support_request::SupportRequestCommand};
use daybook_projections::{Schema, support_requests, users};

use super::{SupportRequestBody, actor, answer};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        ReasonOnly,
        context::{CallContext, CommandContext},
        json::OptionalJson,
        path::Id,
        position::{self, MinPosition},
        problem::{Code, ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
    tenancy::{Access, TenantTx},
};

/// Let the platform's support in, for the minutes that were asked for, from now on. For an owner or a manager who is signed
/// in; not with an API key, and not by whoever has the e-mail address of the account that asks.
#[utoipa::path(
    post, path = "/api/v1/support/requests/{id}/approve", tag = "support", operation_id = "approve_support",
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
pub async fn approve(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<SupportRequestId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let requester = requester(&state, &context.call, id).await?;
    let refused =
        context.security(SecurityEventKind::SupportApprovalRefused).detail(format!("support_request:{id}"));
    let command = Command::to(id, SupportRequestCommand::Approve { by: actor(&context), requester });
    match answer(&state, context, command, value.reason, hash, SecurityEventKind::SupportApproved).await {
        Ok(committed) => respond::done(&committed, &SupportRequestBody::of(&committed, None)?),
        Err(problem) => {
            if problem.code() == Code::Forbidden {
                state.security_log().record(refused);
            }
            Err(problem)
        }
    }
}

/// The e-mail address of the account that asked, if that is active. It is in the platform's log, which the decision cannot
/// read: so it is looked up here, right before.
async fn requester(state: &AppState, call: &CallContext, id: SupportRequestId) -> Result<Option<Email>> {
    let mut tx = position::read(state, call, MinPosition(None)).await?;
    let request = support_requests::get(&mut tx, id.0).await?;
    tx.release();
    // That there is no such request is the decision's to say.
    let Some(request) = request else { return Ok(None) };
    let pool = state.store().database().app();
    let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
    let user = users::get(&mut tx, request.requested_by).await?;
    tx.release();
    let email = user.filter(|user| user.status == "active").and_then(|user| user.email.into_exposed());
    Ok(email.map(|email| Email::new(&email, "/email")).transpose()?)
}
