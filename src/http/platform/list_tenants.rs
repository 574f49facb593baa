//! `GET /platform/tenants`

use axum::{extract::State, response::Response};
use daybook_domain::TenantId;
use daybook_projections::{
    Schema,
    tenants::{self, TenantFilter},
};
use uuid::Uuid;

use super::{TenantBody, sells_only};
use crate::{
    app::AppState,
    http::{
        context::SignedIn,
        cursor::{Cursors, Listing, Page},
        problem::{ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
    tenancy::{Access, TenantTx},
};

/// Which tenants, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: TenantFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter =
            TenantFilter { active: params.optional("active")?, temporary: params.optional("temporary")? };
        Ok(Self { filter, page })
    }
}

/// List tenants, oldest first.
#[utoipa::path(
    get, path = "/api/v1/platform/tenants", tag = "platform", operation_id = "list_tenants",
    params(
        ("active" = Option<bool>, Query, description = "Only active ones, or only the others"),
        ("temporary" = Option<bool>, Query, description = "Only demo tenants, or only the others"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Listing<TenantBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list_tenants(
    State(state): State<AppState>,
    SignedIn(principal): SignedIn,
    Query(List { mut filter, page }): Query<List>,
) -> Result<Response> {
    if sells_only(principal.tier) {
        filter.temporary = Some(true);
    }
    let question = format!("tenants {filter:?}");
    let cursors = Cursors::new(state.store().keys(), TenantId::default(), &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Read).await?;
    let rows = tenants::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, TenantBody::from))
}
