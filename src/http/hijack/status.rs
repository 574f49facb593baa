//! `GET /hijack`

use axum::{extract::State, response::Response};
use daybook_projections::{
    Schema,
    hijacks::{self, HijackFilter},
    masquerade_overview::{self as overview, Kind, MasqueradeFilter},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::HijackBody;
use crate::{
    app::AppState,
    auth::{Credential, Principal},
    http::{
        context::SignedIn,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    tenancy::{Access, TenantTx},
};

/// Open hijacks of one account that are shown.
const MOST: i64 = 50;

/// As whom one acts.
#[derive(Debug, Serialize, ToSchema)]
pub struct HijackStatus {
    /// Whether this very token acts as somebody else.
    hijacking: bool,
    /// The hijack of this token.
    hijack: Option<HijackBody>,
    /// One's open hijacks, where this token is one's own.
    open: Vec<HijackBody>,
}

/// Whether one acts as somebody else: with this token, or with others that one's own session began.
#[utoipa::path(
    get, path = "/api/v1/hijack", tag = "hijack", operation_id = "hijack_status",
    responses(
        (status = 200, body = HijackStatus),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn status(State(state): State<AppState>, SignedIn(principal): SignedIn) -> Result<Response> {
    let pool = state.store().database().app();
    let hijack = match principal.credential {
        Credential::Hijack { hijack, .. } => {
            let mut tx = TenantTx::begin(pool, &principal.schema(), Access::Read).await?;
            let row = hijacks::get(&mut tx, hijack.0).await?;
            tx.release();
            row.map(HijackBody::from)
        }
        Credential::Session { .. } | Credential::ApiKey(_) | Credential::Support { .. } => None,
    };
    let open = own_open(&state, &principal).await?;
    respond::json(&HijackStatus { hijacking: hijack.is_some(), hijack, open })
}

/// The open hijacks that somebody's own account is behind.
///
/// # Errors
/// When the database is away.
async fn own_open(state: &AppState, principal: &Principal) -> Result<Vec<HijackBody>> {
    Ok(own_open_in(state, principal).await?.into_iter().map(|(_, body)| body).collect())
}

/// The same, each with the log it is in.
///
/// # Errors
/// When the database is away.
pub(super) async fn own_open_in(
    state: &AppState,
    principal: &Principal,
) -> Result<Vec<(Schema, HijackBody)>, Problem> {
    let Some((user, _)) = principal.session() else { return Ok(Vec::new()) };
    let pool = state.store().database().app();
    let open = Some("open".to_owned());
    if principal.tenant.is_some() {
        let schema = principal.schema();
        let filter = HijackFilter { state: open, hijacker: Some(user.0), ..HijackFilter::default() };
        let mut tx = TenantTx::begin(pool, &schema, Access::Read).await?;
        let rows = hijacks::list(&mut tx, &filter, None, MOST).await?;
        tx.release();
        return Ok(rows.into_iter().map(|row| (schema.clone(), row.into())).collect());
    }
    let filter = MasqueradeFilter { state: open, user_id: Some(user.0), ..MasqueradeFilter::default() };
    let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
    let rows = overview::list(&mut tx, Kind::Hijack, &filter, None, MOST).await?;
    tx.release();
    let schema = |tenant: Option<uuid::Uuid>| {
        tenant.map_or_else(Schema::platform, |tenant| Schema::tenant(daybook_domain::TenantId(tenant)))
    };
    Ok(rows.into_iter().map(|row| (schema(row.tenant_id), row.into())).collect())
}
