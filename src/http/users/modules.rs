//! `POST /users/{id}/modules`

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use daybook_domain::{ResourceId, UserId, permission::Module, user::UserCommand};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{UserBody, answer, run};
use crate::{
    app::AppState,
    http::{
        context::CommandContext,
        json::Json,
        path::Id,
        problem::{Problem, ProblemBody, Result},
    },
};

/// What staff work on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assign {
    /// The modules, in place of those they have.
    modules: Vec<String>,
    /// The resources, in place of those they have; left out, they stay.
    resource_ids: Option<Vec<Uuid>>,
    /// Why.
    reason: Option<String>,
}

/// Modules by their names.
///
/// # Errors
/// `validation_failed` at the one there is not.
pub fn parse(names: &[String]) -> Result<BTreeSet<Module>> {
    let unknown =
        |at: usize| Problem::field(format!("/modules/{at}"), "unknown_module", "there is no such module");
    names.iter().enumerate().map(|(at, name)| Module::parse(name).ok_or_else(|| unknown(at))).collect()
}

/// Assign modules and resources to staff.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/modules", tag = "users", operation_id = "assign_modules",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = Assign,
    responses(
        (status = 200, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn modules(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<UserId>,
    Json { value, hash }: Json<Assign>,
) -> Result<Response> {
    let command = UserCommand::Assign {
        modules: parse(&value.modules)?,
        resources: value.resource_ids.map(|ids| ids.into_iter().map(ResourceId).collect()),
        by: context.call.caller.principal.by(),
    };
    answer(&run(&state, context, id, command, Vec::new(), value.reason, hash).await?)
}
