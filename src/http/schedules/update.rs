//! `PATCH /schedules/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{ResourceId, ScheduleId, schedule::ScheduleCommand, text::Name};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BlockBody, ExceptionBody, ScheduleBody, SeasonBody, WeeklyBody, rules};
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

/// Changes to a schedule; what is left out stays, and each list that is given replaces the one there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSchedule {
    /// A new name.
    name: Option<String>,
    /// Other resources.
    resource_ids: Option<Vec<Uuid>>,
    /// Other weekly rules.
    weekly: Option<Vec<WeeklyBody>>,
    /// Other seasons.
    seasons: Option<Vec<SeasonBody>>,
    /// Other exceptions.
    exceptions: Option<Vec<ExceptionBody>>,
    /// Other blocks.
    blocks: Option<Vec<BlockBody>>,
    /// Why.
    reason: Option<String>,
}

/// Change a schedule.
#[utoipa::path(
    patch, path = "/api/v1/schedules/{id}", tag = "schedules", operation_id = "update_schedule",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is changed")),
    request_body = UpdateSchedule,
    responses(
        (status = 200, body = ScheduleBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<ScheduleId>,
    RequiredIfMatch(version): RequiredIfMatch,
    Json { value, hash }: Json<UpdateSchedule>,
) -> Result<Response> {
    let command = ScheduleCommand::Update {
        name: value.name.map(|name| Name::new(&name, "/name")).transpose()?,
        resource_ids: value.resource_ids.map(|ids| ids.into_iter().map(ResourceId).collect()),
        weekly: value.weekly.map(rules::weekly),
        seasons: value.seasons.map(rules::seasons).transpose()?,
        exceptions: value.exceptions.map(rules::exceptions),
        blocks: value.blocks.map(rules::blocks).transpose()?,
    };
    let schema = context.call.schema.clone();
    let command = Command::to(id, command).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::done(&committed, &ScheduleBody::of(&committed)?)
}
