//! `POST /offerings`

use axum::{extract::State, response::Response};
use daybook_domain::{
    OfferingId, ResourceId,
    offering::{DEFAULT_HOLD_MINUTES, OfferingCommand, OfferingTerms},
    text::Name,
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Mode, OfferingBody, Per, PolicyBody};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        json::Json,
        money::MoneyBody,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// An offering to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOffering {
    /// Its name.
    name: String,
    /// By nights or by slots.
    mode: Mode,
    /// The resources it is bookable on, in the order they are tried.
    resource_ids: Vec<Uuid>,
    /// Length of a slot; left out, the booking says when it ends.
    duration_minutes: Option<u32>,
    /// Kept free before the guest's interval, 0 if left out.
    buffer_before_minutes: Option<u32>,
    /// Kept free after it, 0 if left out.
    buffer_after_minutes: Option<u32>,
    /// How long before its start it must be booked, 0 if left out.
    min_notice_minutes: Option<u32>,
    /// How long before its start it can be booked.
    max_advance_days: Option<u32>,
    /// The price.
    price: MoneyBody,
    /// What the price is for.
    price_per: Per,
    /// Whether staff confirm each booking, not if left out.
    requires_approval: Option<bool>,
    /// What cancelling costs, nothing if left out.
    cancellation_policy: Option<PolicyBody>,
    /// How long a hold lasts, 15 minutes if left out.
    hold_minutes: Option<u32>,
    /// Why.
    reason: Option<String>,
}

/// Create an offering.
#[utoipa::path(
    post, path = "/api/v1/offerings", tag = "offerings", operation_id = "create_offering",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateOffering,
    responses(
        (status = 201, body = OfferingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<CreateOffering>,
) -> Result<Response> {
    let terms = OfferingTerms {
        name: Name::new(&value.name, "/name")?,
        mode: value.mode.into(),
        resource_ids: value.resource_ids.into_iter().map(ResourceId).collect(),
        duration_minutes: value.duration_minutes,
        buffer_before_minutes: value.buffer_before_minutes.unwrap_or(0),
        buffer_after_minutes: value.buffer_after_minutes.unwrap_or(0),
        min_notice_minutes: value.min_notice_minutes.unwrap_or(0),
        max_advance_days: value.max_advance_days,
        price: value.price.parse("/price")?,
        price_per: value.price_per.into(),
        requires_approval: value.requires_approval.unwrap_or(false),
        cancellation_policy: value.cancellation_policy.map(Into::into).unwrap_or_default(),
        hold_minutes: value.hold_minutes.unwrap_or(DEFAULT_HOLD_MINUTES),
    };
    let schema = context.call.schema.clone();
    let command = OfferingCommand::Create { terms: Box::new(terms) };
    let command = Command::create(OfferingId(Uuid::now_v7()), command).expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::created(&committed, "offerings", &OfferingBody::of(&committed)?)
}
