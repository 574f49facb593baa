//! `GET /domains`

use axum::{extract::State, response::Response};
use daybook_projections::domains;
use uuid::Uuid;

use super::{DomainBody, begin_read};
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        problem::{ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
};

/// Which domains, and which page of them.
#[derive(Debug)]
pub struct List {
    verified: Option<bool>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        Ok(Self { verified: params.optional("verified")?, page })
    }
}

/// List the domains that the tenant claims, oldest first.
#[utoipa::path(
    get, path = "/api/v1/domains", tag = "domains", operation_id = "list_domains",
    params(
        ("verified" = Option<bool>, Query, description = "Only proved ones, or only the others"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Listing<DomainBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    Query(List { verified, page }): Query<List>,
) -> Result<Response> {
    let tenant = call.caller.tenant;
    let question = format!("domains {verified:?}");
    let cursors = Cursors::new(state.store().keys(), tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = begin_read(&state).await?;
    let rows = domains::list(&mut tx, tenant.0, verified, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.domain_id, DomainBody::of).transpose()?)
}
