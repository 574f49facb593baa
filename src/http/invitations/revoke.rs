//! `DELETE /invitations/{id}`: the link works no more, and the address is free.

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};

use crate::{
    app::AppState,
    eventstore::{Attached, Command},
    http::{
        ReasonOnly,
        context::CommandContext,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Take an invitation back.
#[utoipa::path(
    delete, path = "/api/v1/invitations/{id}", tag = "users", operation_id = "revoke_invitation",
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version it is meant for")),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Taken back"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<UserId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let by = context.call.caller.principal.by();
    let schema = context.call.schema.clone();
    let command =
        Command::to(id, UserCommand::RevokeInvitation { by }).expecting(context.if_match.expected());
    let unit = context.unit(vec![command], value.reason, hash)?.attach(Attached::ForgetUser(id));
    respond::archived(&state.store().execute(&schema, unit).await?)
}
