//! `POST /resources`

use axum::{extract::State, response::Response};
use chrono_tz::Tz;
use daybook_domain::{ResourceId, resource::ResourceCommand, text::Name};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Kind, ResourceBody, zone};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        json::Json,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// A resource to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateResource {
    /// Its name.
    name: String,
    /// One unit or a pool.
    kind: Kind,
    /// Units of a pool, 1 if left out.
    capacity: Option<u32>,
    /// An IANA time zone, the tenant's if left out.
    time_zone: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// Create a resource.
#[utoipa::path(
    post, path = "/api/v1/resources", tag = "resources", operation_id = "create_resource",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateResource,
    responses(
        (status = 201, body = ResourceBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<CreateResource>,
) -> Result<Response> {
    let name = Name::new(&value.name, "/name")?;
    let time_zone = match zone(value.time_zone.as_deref())? {
        Some(zone) => zone,
        None => state.tenant_zone(context.call.caller.tenant).await?.unwrap_or(Tz::UTC),
    };
    let command =
        ResourceCommand::Create { name, kind: value.kind.into(), capacity: value.capacity, time_zone };
    let schema = context.call.schema.clone();
    let command = Command::create(ResourceId(Uuid::now_v7()), command).expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::created(&committed, "resources", &ResourceBody::of(&committed)?)
}
