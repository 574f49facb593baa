//! `POST /schedules`

use axum::{extract::State, response::Response};
use daybook_domain::{
    ResourceId, ScheduleId,
    schedule::{Rules, ScheduleCommand},
    text::Name,
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BlockBody, ExceptionBody, ScheduleBody, SeasonBody, WeeklyBody, rules};
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

/// A schedule to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSchedule {
    /// Its name.
    name: String,
    /// The resources it is for.
    resource_ids: Vec<Uuid>,
    /// Weekly rules; none means open every day, around the clock.
    #[serde(default)]
    weekly: Vec<WeeklyBody>,
    /// Other weekly rules for ranges of dates.
    #[serde(default)]
    seasons: Vec<SeasonBody>,
    /// Other hours on single dates.
    #[serde(default)]
    exceptions: Vec<ExceptionBody>,
    /// Closed, whatever else says.
    #[serde(default)]
    blocks: Vec<BlockBody>,
    /// Why.
    reason: Option<String>,
}

/// Create a schedule.
#[utoipa::path(
    post, path = "/api/v1/schedules", tag = "schedules", operation_id = "create_schedule",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateSchedule,
    responses(
        (status = 201, body = ScheduleBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<CreateSchedule>,
) -> Result<Response> {
    let command = ScheduleCommand::Create {
        name: Name::new(&value.name, "/name")?,
        resource_ids: value.resource_ids.into_iter().map(ResourceId).collect(),
        rules: Box::new(Rules {
            weekly: rules::weekly(value.weekly),
            seasons: rules::seasons(value.seasons)?,
            exceptions: rules::exceptions(value.exceptions),
            blocks: rules::blocks(value.blocks)?,
        }),
    };
    let schema = context.call.schema.clone();
    let command = Command::create(ScheduleId(Uuid::now_v7()), command).expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::created(&committed, "schedules", &ScheduleBody::of(&committed)?)
}
