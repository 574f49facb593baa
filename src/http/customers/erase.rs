//! `POST /customers/{id}/erase`: who they were is forgotten for good.

use axum::{extract::State, response::Response};
use daybook_domain::{
    CustomerId,
    customer::{Customer, CustomerCommand},
    registry::Registered as _,
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    eventstore::{Command, Committed},
    http::{
        audit::erasures::ErasureBody,
        context::CommandContext,
        json::Json,
        path::Id,
        problem::{ProblemBody, Result},
        respond::{self, subject, wrong_type},
    },
    workers::erasure,
};

/// Why a person is forgotten.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseCustomer {
    /// Why. It stays in the log: no place for personal data.
    #[schema(min_length = 1)]
    reason: Option<String>,
}

/// Erase a customer: their name and contacts, the notes of their bookings, their accounts, what they asked before they were a
/// customer (by their e-mail addresses; where another customer has the address, it goes with the last who has it, and a legal
/// hold on one of them holds for all: find them with `GET /customers?email=`, and erase each). That something happened
/// stays in the log, and every proof holds; about whom is gone, and nobody can bring it back. With a booking that is not
/// over it is 409 `wrong_state`. Under a legal hold it is queued (202), and done when the hold is released; meanwhile they
/// cannot book. Asking again answers where it stands.
#[utoipa::path(
    post, path = "/api/v1/customers/{id}/erase", tag = "customers", operation_id = "erase_customer",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body = EraseCustomer,
    responses(
        (status = 200, body = ErasureBody, description = "Done"),
        (status = 202, body = ErasureBody, description = "Queued: a legal hold stands against it"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn erase(
    State(state): State<AppState>,
    context: CommandContext,
    Id(id): Id<CustomerId>,
    Json { value, hash }: Json<EraseCustomer>,
) -> Result<Response> {
    let schema = context.call.schema.clone();
    let command = Command::to(id, CustomerCommand::RequestErasure).expecting(context.if_match.expected());
    let unit = context.unit(vec![command], value.reason, hash)?;
    let metadata = unit.metadata.clone();
    let asked = state.store().execute(&schema, unit).await?;
    // A transaction of its own: should this process die here, a worker goes on.
    let done = erasure::complete(state.store(), &schema, id, metadata).await?;
    let wrote = asked.first_position <= asked.last_position && !asked.replayed;
    let both = Committed {
        first_position: if wrote { asked.first_position } else { done.first_position },
        replayed: asked.replayed,
        ..done
    };
    let changed = subject(&both)?;
    let customer = Customer::of(&changed.state).ok_or_else(wrong_type)?;
    let body = ErasureBody::of(id, customer).ok_or_else(wrong_type)?;
    let mut response = respond::done(&both, &body)?;
    if !customer.is_erased() {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}
