//! `GET /audit/holds`

use axum::{extract::State, response::Response};
use daybook_projections::legal_holds;
use uuid::Uuid;

use super::LegalHoldBody;
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

/// Which holds, and which page of them.
#[derive(Debug)]
pub struct List {
    standing: Option<bool>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self { page: Page::take(params)?, standing: params.optional("standing")? })
    }
}

/// List legal holds, oldest first.
#[utoipa::path(
    get, path = "/api/v1/audit/holds", tag = "audit", operation_id = "list_legal_holds",
    params(
        ("standing" = Option<bool>, Query, description = "Only those that stand, or only those that were released"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<LegalHoldBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { standing, page }): Query<List>,
) -> Result<Response> {
    let question = format!("legal holds {standing:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = legal_holds::list(&mut tx, standing, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, LegalHoldBody::from))
}
