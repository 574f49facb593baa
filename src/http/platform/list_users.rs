//! `GET /platform/users`

use axum::{extract::State, response::Response};
use daybook_domain::TenantId;
use daybook_projections::{
    Schema,
    users::{self, UserFilter},
};
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        cursor::{Cursors, Listing, Page},
        problem::{ProblemBody, Result},
        query::Query,
        respond,
        users::UserBody,
    },
    tenancy::{Access, TenantTx},
};

/// List the accounts of the platform's own people, oldest first.
#[utoipa::path(
    get, path = "/api/v1/platform/users", tag = "platform", operation_id = "list_platform_users",
    params(
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Listing<UserBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list_users(State(state): State<AppState>, Query(page): Query<Page>) -> Result<Response> {
    let cursors = Cursors::new(state.store().keys(), TenantId::default(), "platform users");
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Read).await?;
    let rows = users::list(&mut tx, &UserFilter::default(), after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, UserBody::from))
}
