//! `GET /audit/erasures`: who is to be forgotten, and who was.

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::{CustomerId, customer::Customer};
use daybook_projections::erasures::{self, ErasureRow, STATUSES};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
};

/// The erasure of a customer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub struct ErasureBody {
    /// Whose.
    customer_id: Uuid,
    /// `requested` (about to be done), `queued` (a legal hold stands against it) or `done`.
    #[schema(example = "done")]
    status: String,
    /// When it was asked for.
    requested_at: DateTime<Utc>,
    /// When it was done.
    erased_at: Option<DateTime<Utc>>,
}

impl ErasureBody {
    /// The erasure of a customer after it was tried; `None` where none was asked for.
    pub fn of(id: CustomerId, customer: &Customer) -> Option<Self> {
        let erasure = customer.erasure?;
        // It was tried: what is not done was held.
        let status = if customer.is_erased() { "done" } else { "queued" };
        Some(Self {
            customer_id: id.0,
            status: status.to_owned(),
            requested_at: erasure.requested_at,
            erased_at: erasure.erased_at,
        })
    }
}

impl From<ErasureRow> for ErasureBody {
    fn from(row: ErasureRow) -> Self {
        Self {
            customer_id: row.customer_id,
            status: row.status,
            requested_at: row.requested_at,
            erased_at: row.erased_at,
        }
    }
}

/// Which erasures, and which page of them.
#[derive(Debug)]
pub struct List {
    status: Option<String>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self { page: Page::take(params)?, status: params.one_of("status", &STATUSES)? })
    }
}

/// List erasures, in the order of the customers' ids.
#[utoipa::path(
    get, path = "/api/v1/audit/erasures", tag = "audit", operation_id = "list_erasures",
    params(
        ("status" = Option<String>, Query, description = "Only `requested`, `queued` or `done` ones"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<ErasureBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { status, page }): Query<List>,
) -> Result<Response> {
    let question = format!("erasures {status:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = erasures::list(&mut tx, status.as_deref(), after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.customer_id, ErasureBody::from))
}
