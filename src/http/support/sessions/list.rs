//! `GET /support/sessions`

use axum::{extract::State, response::Response};
use daybook_domain::{TenantId, support_session::SupportMode};
use daybook_projections::{
    Schema,
    masquerade_overview::{self as overview, Kind, MasqueradeFilter},
    support_sessions::{self, SupportSessionFilter},
};
use uuid::Uuid;

use super::{STATES, SupportSessionBody};
use crate::{
    app::AppState,
    http::{
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
        support::Viewer,
    },
    tenancy::{Access, TenantTx},
};

const MODES: &[&str] =
    &[SupportMode::Mock.as_str(), SupportMode::Redacted.as_str(), SupportMode::Real.as_str()];

/// Which support sessions, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: SupportSessionFilter,
    tenant: Option<String>,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self {
            page: Page::take(params)?,
            tenant: params.text("tenant")?,
            filter: SupportSessionFilter {
                state: params.one_of("state", STATES)?,
                mode: params.one_of("mode", MODES)?,
                user_id: params.optional("user_id")?,
                support_request_id: params.optional("request_id")?,
            },
        })
    }
}

/// List support sessions, newest first: a tenant's people their tenant's, the platform's people those in all active
/// tenants. The latter list follows the tenants' logs, as a rule within milliseconds, at worst within half a minute; how
/// much was seen in an open session, within half a minute.
#[utoipa::path(
    get, path = "/api/v1/support/sessions", tag = "support", operation_id = "list_support_sessions",
    params(
        ("state" = Option<String>, Query, description = "`open`, `ended` or `refused`"),
        ("mode" = Option<String>, Query, description = "`mock`, `redacted` or `real`"),
        ("user_id" = Option<Uuid>, Query, description = "Only of this account of the platform"),
        ("request_id" = Option<Uuid>, Query, description = "Only in the window of this support request"),
        ("tenant" = Option<String>, Query, description = "Only in the tenant of this slug; for the platform's people"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position of the caller's own log to have seen"),
    ),
    responses(
        (status = 200, body = Listing<SupportSessionBody>),
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
            let question = format!("support sessions {filter:?}");
            let cursors = Cursors::new(keys, call.caller.tenant, &question);
            let before: Option<Uuid> = cursors.decode(&page)?;
            let mut tx = position::read(&state, &call, min).await?;
            let rows = support_sessions::list(&mut tx, &filter, before, page.fetch()).await?;
            tx.release();
            respond::json(&cursors.page(&page, rows, |row| row.id, SupportSessionBody::from))
        }
        Viewer::Platform(_) => {
            let SupportSessionFilter { state: wanted, mode, user_id, support_request_id } = filter;
            let filter = MasqueradeFilter {
                tenant,
                state: wanted,
                user_id,
                target: None,
                how: mode,
                support_request_id,
            };
            let question = format!("support sessions of all tenants {filter:?}");
            let cursors = Cursors::new(keys, TenantId::default(), &question);
            let before: Option<Uuid> = cursors.decode(&page)?;
            let pool = state.store().database().app();
            let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
            let rows = overview::list(&mut tx, Kind::SupportSession, &filter, before, page.fetch()).await?;
            tx.release();
            respond::json(&cursors.page(&page, rows, |row| row.id, SupportSessionBody::from))
        }
    }
}
