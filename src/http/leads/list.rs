//! `GET /leads`

use axum::{extract::State, response::Response};
use daybook_projections::leads;
use uuid::Uuid;

use super::LeadBody;
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

/// Which leads, and which page of them.
#[derive(Debug)]
pub struct List {
    handled: Option<bool>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self { page: Page::take(params)?, handled: params.optional("handled")? })
    }
}

/// List leads, oldest first.
#[utoipa::path(
    get, path = "/api/v1/leads", tag = "leads", operation_id = "list_leads",
    params(
        ("handled" = Option<bool>, Query, description = "Only handled ones, or only those that wait"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<LeadBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { handled, page }): Query<List>,
) -> Result<Response> {
    let scope = format!("leads {handled:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = leads::list(&mut tx, handled, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, LeadBody::from))
}
