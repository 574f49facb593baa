//! `PATCH /users/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{
    UserId,
    text::{Email, Name},
    user::UserCommand,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{UserBody, answer, not_own, run};
use crate::{
    app::AppState,
    http::{
        context::CommandContext,
        etag::RequiredIfMatch,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
    },
};

/// Changes to an account; what is left out stays. What it may do is changed by routes of their own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// A new e-mail address: what they sign in with.
    email: Option<String>,
    /// A new name.
    name: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// Change an account's name or e-mail address.
#[utoipa::path(
    patch, path = "/api/v1/users/{id}", tag = "users", operation_id = "update_user",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is changed")),
    request_body = UpdateUser,
    responses(
        (status = 200, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<UserId>,
    RequiredIfMatch(_): RequiredIfMatch,
    Json { value, hash }: Json<UpdateUser>,
) -> Result<Response> {
    not_own(&context, id)?;
    let command = UserCommand::Update {
        email: value.email.map(|text| Email::new(&text, "/email")).transpose()?,
        name: value.name.map(|text| Name::new(&text, "/name")).transpose()?,
        by: context.call.caller.principal.by(),
    };
    answer(&run(&state, context, id, command, Vec::new(), value.reason, hash).await?)
}
