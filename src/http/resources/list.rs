//! `GET /resources`

use axum::{extract::State, response::Response};
use daybook_projections::resources::{self, ResourceFilter};
use uuid::Uuid;

use super::ResourceBody;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond, scope,
    },
};

/// Which resources, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: ResourceFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = ResourceFilter {
            archived: params.optional("archived")?,
            kind: params.one_of("kind", &["unit", "pool"])?,
            among: None,
        };
        Ok(Self { filter, page })
    }
}

/// List resources, oldest first.
#[utoipa::path(
    get, path = "/api/v1/resources", tag = "resources", operation_id = "list_resources",
    params(
        ("archived" = Option<bool>, Query, description = "Only archived ones, or only those in use"),
        ("kind" = Option<String>, Query, description = "Only of this kind (`unit`, `pool`)"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<ResourceBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { mut filter, page }): Query<List>,
) -> Result<Response> {
    scope::narrow_resources(&call, &mut filter);
    let question = format!("resources {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = resources::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, ResourceBody::from))
}
