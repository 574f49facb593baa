//! `DELETE /support/sessions/{id}`

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use daybook_domain::{
    SupportSessionId, TenantId, envelope::Metadata, support_session::SupportSessionCommand,
};
use daybook_projections::Schema;

use super::get::tenant_of;
use crate::{
    app::AppState,
    auth::{Credential, Principal, authorize::Authorized},
    eventstore::{Command, Unit},
    http::{
        context::client,
        path::Id,
        problem::{Problem, ProblemBody, Result},
        respond,
        support::masquerades_copied,
    },
    security_log::{SecurityEvent, SecurityEventKind},
};

/// Whoever ends a session: somebody of the tenant, one of the platform's own people, or whoever is in it.
#[derive(Clone, Debug)]
pub struct Ender {
    principal: std::sync::Arc<Principal>,
    metadata: Metadata,
}

impl FromRequestParts<AppState> for Ender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &AppState) -> Result<Self> {
        let authorized = parts.extensions.get::<Authorized>().ok_or_else(Problem::not_found)?;
        let metadata = authorized.principal.metadata(client(parts));
        Ok(Self { principal: authorized.principal.clone(), metadata })
    }
}

/// End a support session: one's own, one in one's tenant as an owner or a manager, or any as one of those who manage the
/// platform's people. Its token is refused from then on, and what it streams is cut.
#[utoipa::path(
    delete, path = "/api/v1/support/sessions/{id}", tag = "support", operation_id = "end_support_session",
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is over"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn end(
    State(state): State<AppState>,
    Ender { principal, metadata }: Ender,
    Id(id): Id<SupportSessionId>,
) -> Result<Response> {
    let tenant: TenantId = match (principal.credential, principal.tenant) {
        // Whoever is in one ends that one.
        (Credential::Support { session, .. }, Some(tenant)) if session == id => tenant,
        (Credential::Support { .. } | Credential::Hijack { .. }, _) => return Err(Problem::not_found()),
        (Credential::Session { .. } | Credential::ApiKey(_), Some(tenant)) => tenant,
        (Credential::Session { .. } | Credential::ApiKey(_), None) => tenant_of(&state, id).await?.0,
    };
    let line = SecurityEvent::of(SecurityEventKind::SupportSessionEnded, Some(tenant), &metadata)
        .detail(format!("support_session:{id}"));
    let command = Command::to(id, SupportSessionCommand::End { by: principal.support_actor() });
    let committed = state.store().execute(&Schema::tenant(tenant), Unit::of(command, metadata)).await?;
    state.security_log().record(line);
    masquerades_copied(&state, Some(tenant)).await;
    respond::archived(&committed)
}
