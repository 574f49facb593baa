//! Domains: the hosts that a tenant's own pages are on. They stand in the platform's log, which is the only one that
//! can keep a host from belonging to two tenants; a position of that log would mean nothing to a tenant, so that
//! answers name none.

pub mod claim;
pub mod list;
pub mod make_primary;
pub mod release;
pub mod verify;

use axum::response::Response;
use chrono::{DateTime, Utc};
use daybook_domain::{
    DomainId, Hostname,
    registry::Registered as _,
    tenant::{Domain, Tenant, TenantCommand},
};
use daybook_projections::{Schema, domains::DomainRow};
use http::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    context::CommandContext,
    headers::IDEMPOTENT_REPLAYED,
    problem::{Problem, Result},
    respond::{self, subject, wrong_type},
};
use crate::{
    app::AppState,
    dns,
    eventstore::{Command, Committed},
    tenancy::{Access, TenantTx},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, claim::claim))
        .routes(routes!(verify::verify))
        .routes(routes!(make_primary::make_primary))
        .routes(routes!(release::release))
}

/// A host that the tenant claims.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Domain)]
pub struct DomainBody {
    /// Its id.
    pub id: Uuid,
    /// The host, as DNS writes it.
    pub hostname: String,
    /// Whether it is proved: pages there may call, and requests from them are for the tenant.
    pub verified: bool,
    /// Whether the tenant is first known by it.
    pub primary: bool,
    /// The record that proves it.
    pub record: RecordBody,
    /// When it was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it was proved; null while it is not.
    pub verified_at: Option<DateTime<Utc>>,
}

/// A record in DNS. It has to stay: it is looked for again and again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DomainRecord)]
pub struct RecordBody {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its text.
    pub value: String,
}

impl RecordBody {
    fn new(hostname: &Hostname, token: &str) -> Self {
        Self { name: dns::challenge_name(hostname), kind: "TXT", value: dns::challenge_value(token) }
    }
}

impl DomainBody {
    /// A domain as a command left it.
    pub fn new(id: DomainId, domain: &Domain) -> Self {
        Self {
            id: id.0,
            hostname: domain.hostname.to_string(),
            verified: domain.is_verified(),
            primary: domain.primary,
            record: RecordBody::new(&domain.hostname, &domain.token),
            claimed_at: domain.claimed_at,
            verified_at: domain.verified_at,
        }
    }

    /// A domain as the read model has it.
    ///
    /// # Errors
    /// `internal` when its host is none.
    pub fn of(row: DomainRow) -> Result<Self> {
        let hostname = Hostname::new(&row.hostname, "")?;
        let domain = Domain {
            hostname,
            token: row.token,
            claimed_at: row.claimed_at,
            verified_at: row.verified_at,
            primary: row.primary_domain,
        };
        Ok(Self::new(DomainId(row.domain_id), &domain))
    }
}

/// The tenant as a command left it.
fn tenant_of(committed: &Committed) -> Result<&Tenant> {
    Tenant::of(&subject(committed)?.state).map(AsRef::as_ref).ok_or_else(wrong_type)
}

/// Gives a command to the tenant's own aggregate.
async fn execute(
    state: &AppState,
    context: CommandContext,
    command: TenantCommand,
    reason: Option<String>,
    hash: [u8; 32],
) -> Result<Committed> {
    let command = Command::to(context.call.caller.tenant, command);
    let unit = context.unit(vec![command], reason, hash)?;
    Ok(state.store().execute(&Schema::platform(), unit).await?)
}

/// 200 with what the domain is now.
fn done(committed: &Committed, id: DomainId) -> Result<Response> {
    let domain = tenant_of(committed)?.domains.get(&id).ok_or_else(Problem::not_found)?;
    let mut response = respond::json(&DomainBody::new(id, domain))?;
    note_replay(&mut response, committed);
    Ok(response)
}

fn note_replay(response: &mut Response, committed: &Committed) {
    if committed.replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
}

/// A read of the platform's tables; each query of them names the tenant.
async fn begin_read(state: &AppState) -> Result<TenantTx<'static>> {
    Ok(TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Read).await?)
}
