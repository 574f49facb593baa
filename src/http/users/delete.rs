//! `DELETE /users/{id}`: the account is gone, with all it was recognised by; what it did stays in the log.

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};

use super::{not_own, run};
use crate::{
    app::AppState,
    eventstore::Attached,
    http::{
        ReasonOnly,
        context::CommandContext,
        etag::RequiredIfMatch,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// Delete an account. The last active owner's stays.
#[utoipa::path(
    delete, path = "/api/v1/users/{id}", tag = "users", operation_id = "delete_user",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is deleted")),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Deleted"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn delete(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<UserId>,
    RequiredIfMatch(_): RequiredIfMatch,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    not_own(&context, id)?;
    let command = UserCommand::Delete { by: context.call.caller.principal.by() };
    let forget = vec![Attached::ForgetUser(id)];
    let event = context.security(SecurityEventKind::AccountDeleted).detail(format!("user {id}"));
    let deleted = run(&state, context, id, command, forget, value.reason, hash).await?;
    state.security_log().record(event);
    respond::archived(&deleted)
}
