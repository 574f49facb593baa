//! `GET /hijacks`

use axum::{extract::State, response::Response};
use daybook_domain::TenantId;
use daybook_projections::{
    Schema,
    hijacks::{self, HijackFilter},
    masquerade_overview::{self as overview, Kind, MasqueradeFilter},
};
use uuid::Uuid;

use super::HijackBody;
use crate::{
    app::AppState,
    http::{
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
        support::{Viewer, sessions::STATES},
    },
    tenancy::{Access, TenantTx},
};

/// Which hijacks, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: HijackFilter,
    tenant: Option<String>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self {
            page: Page::take(params)?,
            tenant: params.text("tenant")?,
            filter: HijackFilter {
                state: params.one_of("state", STATES)?,
                hijacker: params.optional("hijacker")?,
                target: params.optional("target")?,
                support_request_id: params.optional("request_id")?,
            },
        })
    }
}

/// List hijacks, newest first: a tenant's people those in their tenant, the platform's people those by the platform's
/// people, in all active tenants and among themselves. The latter list follows the logs, as a rule within milliseconds, at
/// worst within half a minute.
#[utoipa::path(
    get, path = "/api/v1/hijacks", tag = "hijack", operation_id = "list_hijacks",
    params(
        ("state" = Option<String>, Query, description = "`open`, `ended` or `refused`"),
        ("hijacker" = Option<Uuid>, Query, description = "Only by this account"),
        ("target" = Option<Uuid>, Query, description = "Only as this account"),
        ("request_id" = Option<Uuid>, Query, description = "Only in the window of this support request"),
        ("tenant" = Option<String>, Query, description = "Only in the tenant of this slug; for the platform's people"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position of the caller's own log to have seen"),
    ),
    responses(
        (status = 200, body = Listing<HijackBody>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    viewer: Viewer,
    min: MinPosition,
    Query(List { filter, tenant, page }): Query<List>,
) -> Result<Response> {
    let keys = state.store().keys();
    match viewer {
        Viewer::Tenant(call) => {
            if tenant.is_some() {
                let why = "this is for accounts of the platform";
                return Err(Problem::field("?tenant", "unknown_field", why));
            }
            let question = format!("hijacks {filter:?}");
            let cursors = Cursors::new(keys, call.caller.tenant, &question);
            let before: Option<Uuid> = cursors.decode(&page)?;
            let mut tx = position::read(&state, &call, min).await?;
            let rows = hijacks::list(&mut tx, &filter, before, page.fetch()).await?;
            tx.release();
            respond::json(&cursors.page(&page, rows, |row| row.id, HijackBody::from))
        }
        Viewer::Platform(_) => {
            let HijackFilter { state: wanted, hijacker, target, support_request_id } = filter;
            let filter = MasqueradeFilter {
                tenant,
                state: wanted,
                user_id: hijacker,
                target,
                how: None,
                support_request_id,
            };
            let question = format!("hijacks of all tenants {filter:?}");
            let cursors = Cursors::new(keys, TenantId::default(), &question);
            let before: Option<Uuid> = cursors.decode(&page)?;
            let pool = state.store().database().app();
            let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
            let rows = overview::list(&mut tx, Kind::Hijack, &filter, before, page.fetch()).await?;
            tx.release();
            respond::json(&cursors.page(&page, rows, |row| row.id, HijackBody::from))
        }
    }
}
