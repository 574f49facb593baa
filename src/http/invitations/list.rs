//! `GET /invitations`

use axum::{extract::State, response::Response};
use daybook_projections::users::{self, UserFilter};
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
        users::UserBody,
    },
};

/// Which invitations, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: UserFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = UserFilter { status: Some("invited".into()), ..UserFilter::default() };
        Ok(Self { filter, page })
    }
}

/// List invitations that have not been accepted, oldest first.
#[utoipa::path(
    get, path = "/api/v1/invitations", tag = "users", operation_id = "list_invitations",
    params(
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<UserBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { filter, page }): Query<List>,
) -> Result<Response> {
    let question = format!("invitations {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = users::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, UserBody::from))
}
