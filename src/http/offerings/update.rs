//! `PATCH /offerings/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{
    OfferingId, ResourceId,
    offering::{OfferingChange, OfferingCommand},
    text::Name,
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{OfferingBody, Per, PolicyBody};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        etag::RequiredIfMatch,
        json::Json,
        money::MoneyBody,
        nullable,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Changes to an offering; what is left out stays, null removes. Bookings keep the terms they were made under.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateOffering {
    /// A new name.
    name: Option<String>,
    /// Other resources.
    resource_ids: Option<Vec<Uuid>>,
    /// Another length of a slot, or null for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>)]
    duration_minutes: Option<Option<u32>>,
    /// Another buffer before.
    buffer_before_minutes: Option<u32>,
    /// Another buffer after.
    buffer_after_minutes: Option<u32>,
    /// Another notice.
    min_notice_minutes: Option<u32>,
    /// Another window, or null for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>)]
    max_advance_days: Option<Option<u32>>,
    /// Another price.
    price: Option<MoneyBody>,
    /// What the price is for.
    price_per: Option<Per>,
    /// Whether staff confirm each booking.
    requires_approval: Option<bool>,
    /// Another policy, for bookings made from now on.
    cancellation_policy: Option<PolicyBody>,
    /// Another length of holds.
    hold_minutes: Option<u32>,
    /// Why.
    reason: Option<String>,
}

/// Change an offering.
#[utoipa::path(
    patch, path = "/api/v1/offerings/{id}", tag = "offerings", operation_id = "update_offering",
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The version that is changed")),
    request_body = UpdateOffering,
    responses(
        (status = 200, body = OfferingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<OfferingId>,
    RequiredIfMatch(version): RequiredIfMatch,
    Json { value, hash }: Json<UpdateOffering>,
) -> Result<Response> {
    let change = OfferingChange {
        name: value.name.map(|name| Name::new(&name, "/name")).transpose()?,
        resource_ids: value.resource_ids.map(|ids| ids.into_iter().map(ResourceId).collect()),
        duration_minutes: value.duration_minutes,
        buffer_before_minutes: value.buffer_before_minutes,
        buffer_after_minutes: value.buffer_after_minutes,
        min_notice_minutes: value.min_notice_minutes,
        max_advance_days: value.max_advance_days,
        price: value.price.map(|price| price.parse("/price")).transpose()?,
        price_per: value.price_per.map(Into::into),
        requires_approval: value.requires_approval,
        cancellation_policy: value.cancellation_policy.map(Into::into),
        hold_minutes: value.hold_minutes,
    };
    let schema = context.call.schema.clone();
    let command = Command::to(id, OfferingCommand::Update(Box::new(change))).expecting(version.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::done(&committed, &OfferingBody::of(&committed)?)
}
