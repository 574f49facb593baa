//! Hijacks: somebody acts as somebody else. The commands are in the log of whom they act as; both names are on everything
//! that is done.

pub mod end;
pub mod get;
pub mod list;
pub mod start;
pub mod status;
pub mod stop;

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use daybook_domain::{
    Disclosed, HijackId, TenantId,
    envelope::Metadata,
    hijack::{Hijack, HijackCommand},
    registry::Registered as _,
    support_request::{Party, SupportActor},
};
use daybook_projections::{Schema, hijacks::HijackRow, masquerade_overview::MasqueradeRow};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    context::client,
    course::{Course, course},
    idempotency::ScopedKey,
    problem::{Problem, Result},
    respond::{subject, wrong_type},
    support::masquerades_copied,
};
use crate::{
    app::AppState,
    auth::{Credential, Principal, authorize::Authorized, masquerade},
    eventstore::{Command, Committed, Unit},
    security_log::{SecurityEvent, SecurityEventKind},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(status::status, start::start))
        .routes(routes!(stop::stop))
        .routes(routes!(list::list))
        .routes(routes!(get::get))
        .routes(routes!(end::end))
}

/// A hijack.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hijack)]
pub struct HijackBody {
    /// Its id.
    id: Uuid,
    /// The slug of the tenant it is in; for the platform's people, and null among themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The account that acts.
    hijacker: Option<Uuid>,
    /// Of which side: `tenant` or `platform`.
    hijacker_side: String,
    /// The account it acts as.
    target: Option<Uuid>,
    /// By what it was allowed: `tier`, `temporary_tenant`, `waiver` or `window`.
    #[schema(example = "window")]
    via: String,
    /// The support request whose window it is in.
    request_id: Option<Uuid>,
    /// Why. Not in the list of all tenants' hijacks.
    #[serde(skip_serializing_if = "Disclosed::is_absent")]
    #[schema(value_type = Option<String>)]
    reason: Disclosed<String>,
    /// How far it has come.
    #[serde(flatten)]
    course: Course,
    /// The version, as in `ETag`.
    version: i64,
}

impl From<HijackRow> for HijackBody {
    fn from(row: HijackRow) -> Self {
        Self {
            id: row.id,
            tenant: None,
            hijacker: row.hijacker,
            hijacker_side: row.hijacker_side,
            target: Some(row.target),
            via: row.via,
            request_id: row.support_request_id,
            reason: row.reason,
            course: course!(row),
            version: row.version,
        }
    }
}

impl From<MasqueradeRow> for HijackBody {
    fn from(row: MasqueradeRow) -> Self {
        Self {
            id: row.id,
            tenant: row.tenant,
            hijacker: Some(row.user_id),
            hijacker_side: "platform".to_owned(),
            target: row.target,
            via: row.how,
            request_id: row.support_request_id,
            reason: Disclosed::ABSENT,
            course: course!(row),
            version: row.version,
        }
    }
}

impl HijackBody {
    /// The hijack as a command left it, then.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let hijack = Hijack::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            tenant: None,
            hijacker: hijack.hijacker().map(|user| user.0),
            hijacker_side: hijack.by.map_or("operator", Party::side).to_owned(),
            target: Some(hijack.target.0),
            via: hijack.via.as_str().to_owned(),
            request_id: hijack.via.window().map(|request| request.0),
            reason: hijack.reason.to_string().into(),
            course: Course::of_hijack(hijack, committed.recorded_at),
            version: changed.sequence,
        })
    }
}

/// A caller who begins or ends hijacks, from wherever they are.
#[derive(Clone, Debug)]
pub struct Hijacker {
    principal: Arc<Principal>,
    metadata: Metadata,
    key: Option<ScopedKey>,
}

impl FromRequestParts<AppState> for Hijacker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &AppState) -> Result<Self> {
        let authorized = parts.extensions.get::<Authorized>().ok_or_else(Problem::not_found)?;
        let principal = authorized.principal.clone();
        let metadata = principal.metadata(client(parts));
        let key = ScopedKey::parse(&parts.headers, &parts.method, parts.uri.path(), &principal.caller())?;
        Ok(Self { principal, metadata, key })
    }
}

impl Hijacker {
    /// Ends a hijack of a log. Whoever is in it ends it as themselves.
    async fn end(&self, state: &AppState, schema: &Schema, id: HijackId) -> Result<Committed> {
        let by = match self.principal.credential {
            Credential::Hijack { by: Party::Tenant { user_id }, .. } => SupportActor::Account(user_id),
            Credential::Hijack { by: Party::Platform { user_id }, tier, .. } => {
                SupportActor::Platform { user: user_id, tier }
            }
            Credential::Hijack { by: Party::Operator, .. }
            | Credential::Session { .. }
            | Credential::ApiKey(_)
            | Credential::Support { .. } => self.principal.support_actor(),
        };
        let command = Command::to(id, HijackCommand::End { by });
        let line = SecurityEvent::of(SecurityEventKind::HijackEnded, schema.tenant_id(), &self.metadata)
            .detail(format!("hijack:{id}"));
        let committed = state.store().execute(schema, Unit::of(command, self.metadata.clone())).await?;
        state.security_log().record(line);
        let ip = self.metadata.ip.as_deref();
        state.masquerade_log().ended_by(state.store(), schema, &committed, ip).await;
        masquerades_copied(state, schema.tenant_id()).await;
        Ok(committed)
    }
}

/// Puts the end of a session into its log whose token was just refused; should that fail, the next attempt or the sweep
/// does.
pub(crate) async fn settle(state: &AppState, token: &str) {
    match masquerade::settle(state.auth(), state.store(), token).await {
        Ok(None) => {}
        Ok(Some((schema, committed))) => {
            state.masquerade_log().ended_by(state.store(), &schema, &committed, None).await;
            let tenant: Option<TenantId> = schema.tenant_id();
            masquerades_copied(state, tenant).await;
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the end of a support session or a hijack is not in the log yet"
            );
        }
    }
}
