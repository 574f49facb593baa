//! `DELETE /platform/users/{id}`: the account is gone, with all it was recognised by; what it did stays in the log.

use axum::{extract::State, response::Response};
use daybook_domain::{UserId, user::UserCommand};

use super::run_on_user;
use crate::{
    app::AppState,
    eventstore::Attached,
    http::{
        ReasonOnly,
        context::PlatformCommand,
        etag::RequiredIfMatch,
        json::OptionalJson,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Delete the account of one of the platform's own people. The last active superuser's stays.
#[utoipa::path(
    delete, path = "/api/v1/platform/users/{id}", tag = "platform", operation_id = "delete_platform_user",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is deleted")),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 204, description = "Deleted"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn delete_user(
    State(state): State<AppState>,
    context: PlatformCommand,
    Id(id): Id<UserId>,
    RequiredIfMatch(_): RequiredIfMatch,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let command = UserCommand::Delete { by: context.principal.by() };
    let forget = vec![Attached::ForgetUser(id)];
    respond::archived(&run_on_user(&state, context, id, command, forget, value.reason, hash).await?)
}
