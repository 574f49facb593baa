//! `GET /customers`

use axum::{extract::State, response::Response};
use daybook_projections::customers::{self, CustomerFilter};
use uuid::Uuid;

use super::CustomerBody;
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

/// Which customers, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: CustomerFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = CustomerFilter {
            archived: params.optional("archived")?,
            email: params.personal("email")?,
            only: None,
        };
        Ok(Self { filter, page })
    }
}

/// List customers, oldest first.
#[utoipa::path(
    get, path = "/api/v1/customers", tag = "customers", operation_id = "list_customers",
    params(
        ("archived" = Option<bool>, Query, description = "Only archived ones, or only the others"),
        ("email" = Option<String>, Query, description = "Only with exactly this e-mail address"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<CustomerBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { mut filter, page }): Query<List>,
) -> Result<Response> {
    filter.only = call.caller.own_customer().map(|own| own.0);
    let scope = format!("customers {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = customers::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, |row| CustomerBody::read_by(&call, row)))
}
