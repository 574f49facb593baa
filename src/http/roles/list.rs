//! `GET /roles`

use axum::{extract::State, response::Response};
use daybook_projections::roles;
use uuid::Uuid;

use super::RoleBody;
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

/// Which roles, and which page of them.
#[derive(Debug)]
pub struct List {
    archived: Option<bool>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        Ok(Self { archived: params.optional("archived")?, page })
    }
}

/// List the roles of the tenant's own, oldest first.
#[utoipa::path(
    get, path = "/api/v1/roles", tag = "roles", operation_id = "list_roles",
    params(
        ("archived" = Option<bool>, Query, description = "Only archived ones, or only the others"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<RoleBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { archived, page }): Query<List>,
) -> Result<Response> {
    let question = format!("roles {archived:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = roles::list(&mut tx, archived, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, RoleBody::from))
}
