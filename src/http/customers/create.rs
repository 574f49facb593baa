//! `POST /customers`

use axum::{extract::State, response::Response};
use daybook_domain::CustomerId;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{CustomerBody, Person};
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

/// A customer to be registered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCustomer {
    /// Their name.
    name: String,
    /// Their e-mail address.
    email: Option<String>,
    /// Their telephone number.
    phone: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// Register a customer.
#[utoipa::path(
    post, path = "/api/v1/customers", tag = "customers", operation_id = "create_customer",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateCustomer,
    responses(
        (status = 201, body = CustomerBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<CreateCustomer>,
) -> Result<Response> {
    let CreateCustomer { name, email, phone, reason } = value;
    let command = Person { name, email, phone }.register("")?;
    let schema = context.call.schema.clone();
    let command = Command::create(CustomerId(Uuid::now_v7()), command).expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], reason, hash)?).await?;
    respond::created(&committed, "customers", &CustomerBody::of(&committed)?)
}
