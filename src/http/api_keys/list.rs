//! `GET /api-keys`

use axum::{extract::State, response::Response};
use daybook_projections::api_keys;
use uuid::Uuid;

use super::ApiKeyBody;
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

/// Which keys, and which page of them.
#[derive(Debug)]
pub struct List {
    revoked: Option<bool>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        Ok(Self { revoked: params.optional("revoked")?, page })
    }
}

/// List API keys, oldest first.
#[utoipa::path(
    get, path = "/api/v1/api-keys", tag = "API keys", operation_id = "list_api_keys",
    params(
        ("revoked" = Option<bool>, Query, description = "Only revoked ones, or only the others"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<ApiKeyBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { revoked, page }): Query<List>,
) -> Result<Response> {
    let question = format!("api_keys {revoked:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = api_keys::list(&mut tx, revoked, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, ApiKeyBody::from))
}
