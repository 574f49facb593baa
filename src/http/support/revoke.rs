//! `POST /support/requests/{id}/revoke`

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use daybook_domain::{
    SupportRequestId,
    support_request::{SupportActor, SupportRequestCommand},
};
use daybook_projections::Schema;

use super::{SupportRequestBody, actor, answer, copied, of_tenant, reason, tenant_of};
use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        ReasonOnly,
        context::{CommandContext, PlatformCommand},
        json::OptionalJson,
        path::Id,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// Who takes a request back: somebody of the tenant, or one of the platform's own people.
#[derive(Clone, Debug)]
pub enum Revoker {
    /// Of the tenant.
    Tenant(CommandContext),
    /// Of the platform.
    Platform(PlatformCommand),
}

impl FromRequestParts<AppState> for Revoker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        if of_tenant(parts) {
            CommandContext::from_request_parts(parts, state).await.map(Self::Tenant)
        } else {
            PlatformCommand::from_request_parts(parts, state).await.map(Self::Platform)
        }
    }
}

/// Take a request back, or close its window at once. For an owner or a manager of the tenant, for whoever made it, and for
/// those who manage the platform's people. A reason is required.
#[utoipa::path(
    post, path = "/api/v1/support/requests/{id}/revoke", tag = "support", operation_id = "revoke_support",
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The version it is meant for"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again"),
    ),
    request_body(content = Option<ReasonOnly>),
    responses(
        (status = 200, body = SupportRequestBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke(
    State(state): State<AppState>,
    revoker: Revoker,
    Id(id): Id<SupportRequestId>,
    OptionalJson { value, hash }: OptionalJson<ReasonOnly>,
) -> Result<Response> {
    let why = reason(value.reason.as_deref())?;
    match revoker {
        Revoker::Tenant(context) => {
            let command = SupportRequestCommand::Revoke { by: actor(&context), reason: why };
            let command = Command::to(id, command);
            let kind = SecurityEventKind::SupportRevoked;
            let committed = answer(&state, context, command, value.reason, hash, kind).await?;
            respond::done(&committed, &SupportRequestBody::of(&committed, None)?)
        }
        Revoker::Platform(context) => {
            let (user, _) = context.principal.session().ok_or_else(Problem::not_found)?;
            let by = SupportActor::Platform { user, tier: context.principal.tier };
            let (tenant, slug) = tenant_of(&state, id).await?;
            let command = Command::to(id, SupportRequestCommand::Revoke { by, reason: why })
                .expecting(context.if_match.expected());
            let line = context
                .security(SecurityEventKind::SupportRevoked, tenant)
                .detail(format!("support_request:{id}"));
            let unit = context.unit(vec![command], value.reason, hash)?;
            let committed = state.store().execute(&Schema::tenant(tenant), unit).await?;
            if !committed.replayed {
                state.security_log().record(line);
            }
            let schema = Schema::tenant(tenant);
            state.masquerade_log().ended_by(state.store(), &schema, &committed, None).await;
            copied(&state, tenant).await;
            respond::done(&committed, &SupportRequestBody::of(&committed, Some(slug))?)
        }
    }
}
