//! Support requests: the platform's people ask to look into a tenant, its owners and managers answer, and either side
//! takes it back. The commands are in the tenant's own log, whoever gives them.
//!
//! A tenant's people see their tenant's. The platform's people see those of all active tenants, from the overview
//! (`workers/support_overview.rs`), which also says whose a request is when they name nothing but its id.

pub mod approve;
pub mod counts;
pub mod create;
pub mod deny;
pub mod get;
pub mod list;
pub mod revoke;
pub mod sessions;

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, Utc};
use daybook_domain::{
    Disclosed, SupportRequestId, TenantId,
    registry::Registered as _,
    support_request::{SupportActor, SupportRequest},
    text::Reason,
};
use daybook_projections::{
    Schema,
    support_overview::{self as overview, OverviewRow},
    support_requests::SupportRequestRow,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    context::{CallContext, CommandContext, SignedIn, checked_reason},
    problem::{Problem, Result},
    respond::{subject, wrong_type},
};
use crate::{
    app::AppState,
    auth::{Principal, authorize::Authorized},
    eventstore::{Command, Committed},
    security_log::SecurityEventKind,
    tenancy::{Access, TenantTx},
    workers::support_overview,
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get))
        .routes(routes!(approve::approve))
        .routes(routes!(deny::deny))
        .routes(routes!(revoke::revoke))
        .routes(routes!(counts::counts))
        .merge(sessions::routes())
}

/// The states by which lists are narrowed. Those that are `open` are `approved` as well.
const STATES: &[&str] = &["requested", "approved", "open", "denied", "revoked", "lapsed"];

/// A support request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SupportRequest)]
pub struct SupportRequestBody {
    /// Its id.
    id: Uuid,
    /// The slug of the tenant it is about; for the platform's people.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The account of the platform that asks.
    requested_by: Uuid,
    /// Why. Not in the list of all tenants' requests.
    #[serde(skip_serializing_if = "Disclosed::is_absent")]
    #[schema(value_type = Option<String>)]
    reason: Disclosed<String>,
    /// How long the window is, once approved.
    minutes: i32,
    /// `requested`, `approved`, `denied`, `revoked`, or `lapsed` when nobody answered within 24 hours.
    #[schema(example = "requested")]
    state: String,
    /// Whether the window is open.
    open: bool,
    /// When it was made.
    requested_at: DateTime<Utc>,
    /// When it lapses, unless it is answered before.
    lapses_at: DateTime<Utc>,
    /// The account of the tenant that approved it.
    approved_by: Option<Uuid>,
    /// When the window opened.
    approved_at: Option<DateTime<Utc>>,
    /// When the window closes by itself, or would have.
    open_until: Option<DateTime<Utc>>,
    /// The account that denied or revoked it.
    ended_by: Option<Uuid>,
    /// Of which side: `tenant`, `platform` or `operator`.
    ended_side: Option<String>,
    /// Why it was denied or revoked. Not in the list of all tenants' requests.
    #[serde(skip_serializing_if = "Disclosed::is_absent")]
    #[schema(value_type = Option<String>)]
    ended_reason: Disclosed<String>,
    /// The version, as in `ETag`.
    version: i64,
}

impl From<SupportRequestRow> for SupportRequestBody {
    fn from(row: SupportRequestRow) -> Self {
        Self {
            id: row.id,
            tenant: None,
            requested_by: row.requested_by,
            reason: row.reason,
            minutes: row.minutes,
            state: row.state,
            open: row.open,
            requested_at: row.requested_at,
            lapses_at: row.lapses_at,
            approved_by: row.approved_by,
            approved_at: row.approved_at,
            open_until: row.open_until,
            ended_by: row.ended_by,
            ended_side: row.ended_side,
            ended_reason: row.ended_reason,
            version: row.version,
        }
    }
}

impl From<OverviewRow> for SupportRequestBody {
    fn from(row: OverviewRow) -> Self {
        Self {
            id: row.id,
            tenant: Some(row.tenant),
            requested_by: row.requested_by,
            reason: Disclosed::ABSENT,
            minutes: row.minutes,
            state: row.state,
            open: row.open,
            requested_at: row.requested_at,
            lapses_at: row.lapses_at,
            approved_by: row.approved_by,
            approved_at: row.approved_at,
            open_until: row.open_until,
            ended_by: row.ended_by,
            ended_side: row.ended_side,
            ended_reason: Disclosed::ABSENT,
            version: row.version,
        }
    }
}

impl SupportRequestBody {
    /// The request as a command left it, then.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed, tenant: Option<String>) -> Result<Self> {
        let changed = subject(committed)?;
        let request = SupportRequest::of(&changed.state).ok_or_else(wrong_type)?;
        let by = request.ended.as_ref().map(|ended| ended.by);
        Ok(Self {
            id: changed.id,
            tenant,
            requested_by: request.requested_by.0,
            reason: request.reason.to_string().into(),
            minutes: i32::try_from(request.minutes).unwrap_or(i32::MAX),
            state: request.status.as_str().to_owned(),
            open: request.is_open(committed.recorded_at),
            requested_at: request.requested_at,
            lapses_at: request.lapses_at,
            approved_by: request.approved_by.map(|user| user.0),
            approved_at: request.approved_at,
            open_until: request.open_until,
            ended_by: by.and_then(|by| by.user()).map(|user| user.0),
            ended_side: by.map(|by| by.side().to_owned()),
            ended_reason: request.ended.as_ref().map(|ended| ended.reason.to_string()).into(),
            version: changed.sequence,
        })
    }
}

/// Who reads: somebody of a tenant, or one of the platform's own people.
#[derive(Clone, Debug)]
pub enum Viewer {
    /// Of the tenant whose requests they are.
    Tenant(CallContext),
    /// Of the platform.
    Platform(Arc<Principal>),
}

impl FromRequestParts<AppState> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        if of_tenant(parts) {
            return CallContext::from_request_parts(parts, state).await.map(Self::Tenant);
        }
        let SignedIn(principal) = SignedIn::from_request_parts(parts, state).await?;
        Ok(Self::Platform(principal))
    }
}

/// Whether the caller is of a tenant; the gate has seen to it that they may call, whichever they are.
pub(super) fn of_tenant(parts: &Parts) -> bool {
    parts.extensions.get::<Authorized>().is_some_and(|caller| caller.principal.tenant.is_some())
}

/// A caller of a tenant as the rules of support requests know them.
fn actor(context: &CommandContext) -> SupportActor {
    context.call.caller.principal.support_actor()
}

/// The reason given, if it is one.
pub(super) fn reason(text: Option<&str>) -> Result<Option<Reason>> {
    let reason = checked_reason(text.map(str::to_owned))?;
    Ok(reason.map(|text| Reason::new(&text, "/reason")).transpose()?)
}

/// The active tenant of a request that one of the platform's people names, and its slug.
///
/// # Errors
/// `not_found` when there is none.
async fn tenant_of(state: &AppState, id: SupportRequestId) -> Result<(TenantId, String)> {
    let pool = state.store().database().app();
    let mut tx = TenantTx::begin(pool, &Schema::platform(), Access::Read).await?;
    let found = overview::tenant_of(&mut tx, id.0).await?;
    tx.release();
    let (tenant, slug) = found.ok_or_else(Problem::not_found)?;
    Ok((TenantId(tenant), slug))
}

/// Runs a command of a tenant's caller and tells the platform of what became of it.
async fn answer(
    state: &AppState,
    context: CommandContext,
    command: Command,
    reason: Option<String>,
    hash: [u8; 32],
    kind: SecurityEventKind,
) -> Result<Committed> {
    let (tenant, schema) = (context.call.caller.tenant, context.call.schema.clone());
    let line = context.security(kind).detail(format!("support_request:{}", command.id));
    let command = command.expecting(context.if_match.expected());
    let committed = state.store().execute(&schema, context.unit(vec![command], reason, hash)?).await?;
    if !committed.replayed {
        state.security_log().record(line);
    }
    state.masquerade_log().ended_by(state.store(), &schema, &committed, None).await;
    copied(state, tenant).await;
    Ok(committed)
}

/// Copies what was just committed for the platform, and has the letters sent that tell of it. Should that fail, the
/// command is done all the same: the next round makes up for it.
async fn copied(state: &AppState, tenant: TenantId) {
    match support_overview::follow(state.store(), tenant).await {
        Ok(0) => {}
        Ok(_) => state.mailer().wake(&Schema::platform()),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "support requests are not copied yet");
        }
    }
    masquerades_copied(state, Some(tenant)).await;
}

/// The same of support sessions and hijacks: of a tenant, or of the platform's own log.
pub(super) async fn masquerades_copied(state: &AppState, tenant: Option<TenantId>) {
    if let Err(error) = support_overview::follow_masquerades(state.store(), tenant).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "support sessions are not copied yet");
    }
}
