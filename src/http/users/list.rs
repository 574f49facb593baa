//! `GET /users`

use axum::{extract::State, response::Response};
use daybook_domain::{permission::Tier, user::email_key};
use daybook_projections::users::{self, UserFilter};
use uuid::Uuid;

use super::UserBody;
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

/// Which accounts, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: UserFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        const STATUSES: [&str; 4] = ["invited", "active", "deactivated", "deleted"];
        let page = Page::take(params)?;
        let tiers: Vec<&str> = Tier::ALL.iter().map(|tier| tier.as_str()).collect();
        let filter = UserFilter {
            status: params.one_of("status", &STATUSES)?,
            tier: params.one_of("role", &tiers)?,
            email_key: params.personal("email")?.map(|email| email_key(&email)),
        };
        Ok(Self { filter, page })
    }
}

/// List accounts, oldest first; those that are gone only when asked for.
#[utoipa::path(
    get, path = "/api/v1/users", tag = "users", operation_id = "list_users",
    params(
        ("status" = Option<String>, Query, description = "Only of this status"),
        ("role" = Option<String>, Query, description = "Only of this tier"),
        ("email" = Option<String>, Query, description = "Only with exactly this address, in any case"),
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
    let question = format!("users {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = users::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, UserBody::from))
}
