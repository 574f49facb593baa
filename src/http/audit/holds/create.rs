//! `POST /audit/holds`

use axum::{extract::State, response::Response};
use daybook_domain::{CustomerId, HoldId, Name, legal_hold::LegalHoldCommand};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::LegalHoldBody;
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

/// A legal hold to be placed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceHold {
    /// What it is known as, such as a case's number. It stays in the log: no place for personal data.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Whose data is not to be erased; everybody's if left out.
    customer_id: Option<Uuid>,
    /// The first position of the log that is not to be pruned; all of the log if left out.
    #[schema(minimum = 1)]
    from_position: Option<i64>,
    /// Why.
    #[schema(min_length = 1)]
    reason: Option<String>,
}

/// Place a legal hold: from now on, and until it is released, nothing it covers is pruned or erased.
#[utoipa::path(
    post, path = "/api/v1/audit/holds", tag = "audit", operation_id = "place_legal_hold",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = PlaceHold,
    responses(
        (status = 201, body = LegalHoldBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<PlaceHold>,
) -> Result<Response> {
    let command = LegalHoldCommand::Place {
        name: Name::new(&value.name, "/name")?,
        customer_id: value.customer_id.map(CustomerId),
        from_position: value.from_position,
    };
    let schema = context.call.schema.clone();
    let command = Command::create(HoldId(Uuid::now_v7()), command).expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], value.reason, hash)?).await?;
    respond::created(&committed, "audit/holds", &LegalHoldBody::of(&committed)?)
}
