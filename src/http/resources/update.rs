//! `PATCH /resources/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{ResourceId, resource::ResourceCommand, text::Name};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ResourceBody, zone};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        etag::RequiredIfMatch,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Changes to a resource; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateResource {
    /// A new name.
    name: Option<String>,
    /// Another number of units.
    capacity: Option<u32>,
    /// Another IANA time zone.
    time_zone: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// Change a resource.
#[utoipa::path(
    patch, path = "/api/v1/resources/{id}", tag = "resources", operation_id = "update_resource",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is changed")),
    request_body = UpdateResource,
    responses(
        (status = 200, body = ResourceBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<ResourceId>,
    RequiredIfMatch(version): RequiredIfMatch,
    Json { value, hash }: Json<UpdateResource>,
) -> Result<Response> {
    let command = ResourceCommand::Update {
        name: value.name.map(|name| Name::new(&name, "/name")).transpose()?,
        capacity: value.capacity,
        time_zone: zone(value.time_zone.as_deref())?,
    };
    let schema = context.call.schema.clone();
    let command = Command::to(id, command).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::done(&committed, &ResourceBody::of(&committed)?)
}
