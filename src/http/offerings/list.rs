//! `GET /offerings`

use axum::{extract::State, response::Response};
use daybook_projections::offerings::{self, OfferingFilter};
use uuid::Uuid;

use super::OfferingBody;
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

/// Which offerings, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: OfferingFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = OfferingFilter {
            archived: params.optional("archived")?,
            resource_id: params.optional("resource_id")?,
            mode: params.one_of("mode", &["nights", "slot"])?,
        };
        Ok(Self { filter, page })
    }
}

/// List offerings, oldest first.
#[utoipa::path(
    get, path = "/api/v1/offerings", tag = "offerings", operation_id = "list_offerings",
    params(
        ("archived" = Option<bool>, Query, description = "Only archived ones, or only those in use"),
        ("resource_id" = Option<Uuid>, Query, description = "Only those of this resource"),
        ("mode" = Option<String>, Query, description = "Only of this mode (`nights`, `slot`)"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<OfferingBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { filter, page }): Query<List>,
) -> Result<Response> {
    let scope = format!("offerings {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = offerings::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    let listing = cursors.page(&page, rows, |row| row.id, OfferingBody::from_row);
    respond::json(&listing.transpose()?)
}
