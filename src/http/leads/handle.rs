//! `POST /leads/{id}/handle`

use axum::{extract::State, response::Response};
use daybook_domain::{LeadId, lead::LeadCommand};

use super::LeadBody;
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
};

/// Say that a lead has been seen to. Once: the second of two colleagues gets 409 `wrong_state`.
#[utoipa::path(
    post, path = "/api/v1/leads/{id}/handle", tag = "leads", operation_id = "handle_lead",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = LeadBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn handle(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<LeadId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let schema = context.call.schema.clone();
    let command = Command::to(id, LeadCommand::Handle).expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::done(&committed, &LeadBody::of(&committed)?)
}
