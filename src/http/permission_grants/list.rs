//! `GET /permission-grants`

use axum::{extract::State, response::Response};
use daybook_domain::permission_grant::GrantState;
use daybook_projections::permission_grants::{self, PermissionGrantFilter};
use uuid::Uuid;

use super::PermissionGrantBody;
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

/// Which grants, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: PermissionGrantFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = PermissionGrantFilter {
            grantee: params.optional("grantee")?,
            grantor: params.optional("grantor")?,
            state: params.one_of("state", &GrantState::ALL.map(GrantState::as_str))?,
        };
        Ok(Self { filter, page })
    }
}

/// List permission grants, oldest first. Staff see those they were given.
#[utoipa::path(
    get, path = "/api/v1/permission-grants", tag = "permission grants", operation_id = "list_permission_grants",
    params(
        ("grantee" = Option<Uuid>, Query, description = "Only what this account was given"),
        ("grantor" = Option<Uuid>, Query, description = "Only what this account gave"),
        ("state" = Option<String>, Query, description = "Only `active`, `expired` or `revoked` ones"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<PermissionGrantBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { mut filter, page }): Query<List>,
) -> Result<Response> {
    if let Some(own) = scope::own_user(&call) {
        // Somebody else's, asked for by name: there are none to see, as nobody is nil.
        let asked = filter.grantee.unwrap_or(own);
        filter.grantee = Some(if asked == own { own } else { Uuid::nil() });
    }
    let question = format!("permission_grants {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &question);
    let after: Option<Uuid> = cursors.decode(&page)?;
    let mut tx = position::read(&state, &call, min).await?;
    let rows = permission_grants::list(&mut tx, &filter, after, page.fetch()).await?;
    tx.release();
    respond::json(&cursors.page(&page, rows, |row| row.id, PermissionGrantBody::from))
}
