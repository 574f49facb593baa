//! `GET /support/requests`

use axum::{extract::State, response::Response};
use daybook_domain::TenantId;
use daybook_projections::{
    Schema,
    support_overview::{self as overview, OverviewFilter},
    support_requests,
};
use uuid::Uuid;

use super::{STATES, SupportRequestBody, Viewer};
use crate::{
    app::AppState,
    http::{
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
    tenancy::{Access, TenantTx},
};

/// Which support requests, and which page of them.
#[derive(Debug)]
pub struct List {
    state: Option<String>,
    tenant: Option<String>,
    mine: Option<bool>,
    requested_by: Option<Uuid>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self {
            page: Page::take(params)?,
            state: params.one_of("state", STATES)?,
            tenant: params.text("tenant")?,
            mine: params.optional("mine")?,
            requested_by: params.optional("requested_by")?,
        })
    }
}

/// List support requests, oldest first: a tenant's people their tenant's, the platform's people those of all active
/// tenants. The latter list follows the tenants' logs, as a rule within milliseconds, at worst within half a minute.
#[utoipa::path(
    get, path = "/api/v1/support/requests", tag = "support", operation_id = "list_support_requests",
    params(
        ("state" = Option<String>, Query, description = "`requested`, `approved`, `open` (approved, and the window is not over), `denied`, `revoked` or `lapsed`"),
        ("tenant" = Option<String>, Query, description = "Only of the tenant of this slug; for the platform's people"),
        ("mine" = Option<bool>, Query, description = "Only one's own; for the platform's people"),
        ("requested_by" = Option<Uuid>, Query, description = "Only made by this account of the platform"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position of the caller's own log to have seen"),
    ),
    responses(
        (status = 200, body = Listing<SupportRequestBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    viewer: Viewer,
    min: MinPosition,
    Query(List { state: wanted, tenant, mine, requested_by, page }): Query<List>,
) -> Result<Response> {
    let keys = state.store().keys();
    match viewer {
        Viewer::Tenant(call) => {
            for (name, given) in [("?tenant", tenant.is_some()), ("?mine", mine.is_some())] {
                if given {
                    let why = "this is for accounts of the platform";
                    return Err(Problem::field(name, "unknown_field", why));
                }
            }
            let question = format!("support requests {wanted:?} {requested_by:?}");
            let cursors = Cursors::new(keys, call.caller.tenant, &question);
            let after: Option<Uuid> = cursors.decode(&page)?;
            let mut tx = position::read(&state, &call, min).await?;
            let rows =
                support_requests::list(&mut tx, wanted.as_deref(), requested_by, after, page.fetch()).await?;
            tx.release();
            respond::json(&cursors.page(&page, rows, |row| row.id, SupportRequestBody::from))
        }
        Viewer::Platform(principal) => {
            let own = principal.account().map(|user| user.0);
            let requested_by = own.filter(|_| mine == Some(true)).or(requested_by);
            let filter = OverviewFilter { tenant, state: wanted, requested_by };
            let question = format!("support requests of all tenants {filter:?}");
            let cursors = Cursors::new(keys, TenantId::default(), &question);
            let after: Option<Uuid> = cursors.decode(&page)?;
            let pool = state.store().database().app();
            let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
            let rows = overview::list(&mut tx, &filter, after, page.fetch()).await?;
            tx.release();
            respond::json(&cursors.page(&page, rows, |row| row.id, SupportRequestBody::from))
        }
    }
}
