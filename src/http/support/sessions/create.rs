//! `POST /support/sessions`

use axum::{extract::State, response::Response};
use daybook_domain::{
    SupportRequestId, SupportSessionId, TenantId,
    registry::Registered as _,
    support_session::{SupportMode, SupportSession, SupportSessionCommand},
    text::Reason,
};
use daybook_projections::Schema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::SupportSessionBody;
use crate::{
    app::AppState,
    auth::access_token::{self, AccessClaims, Use},
    eventstore::Command,
    http::{
        context::PlatformCommand,
        hijack::start::still_open,
        json::Json,
        problem::{Code, Problem, ProblemBody, Result},
        respond::{self, subject, wrong_type},
        support::masquerades_copied,
    },
    sample,
    security_log::SecurityEventKind,
};

/// What the sample tenant goes by, whatever its slug is today.
const SAMPLE: &str = "sample";

/// How much a session shows.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The shared sample tenant.
    Mock,
    /// Read only, with personal data masked.
    Redacted,
    /// As it is, in an approved window.
    Real,
}

/// Which session is to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartSession {
    /// The tenant's slug. A mock session is in the sample tenant, whether it is named or not.
    tenant: Option<String>,
    /// How much it is to show.
    mode: Mode,
    /// The support request that the tenant approved; for a real session.
    request_id: Option<Uuid>,
    /// Why. The tenant sees it, and it stays in its log: name nobody.
    #[schema(min_length = 1)]
    reason: String,
}

/// A support session that began, and the token to use it with.
#[derive(Serialize, ToSchema)]
pub struct StartedSession {
    #[serde(flatten)]
    session: SupportSessionBody,
    /// The tenant it is in.
    tenant_id: Uuid,
    /// The access token: `Authorization: Bearer …`. It ends with the session and is not refreshed.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
}

/// Look into a tenant: into the sample tenant, into a real one with personal data masked and nothing to be changed, or
/// into one that approved it. That it began, and everything that is seen in it, is in the tenant's own log.
#[utoipa::path(
    post, path = "/api/v1/support/sessions", tag = "support", operation_id = "start_support_session",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered with a token of the same session")),
    request_body = StartSession,
    responses(
        (status = 201, body = StartedSession),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: PlatformCommand,
    Json { value, hash }: Json<StartSession>,
) -> Result<Response> {
    let mode = match value.mode {
        Mode::Mock => SupportMode::Mock,
        Mode::Redacted => SupportMode::Redacted,
        Mode::Real => SupportMode::Real,
    };
    let (user_id, signed_in) = context.principal.session().ok_or_else(Problem::not_found)?;
    let limits = state.limits();
    limits.check(&limits.policies().masquerade, &user_id.to_string()).await?;
    let reason = Reason::new(&value.reason, "/reason")?;
    let (tenant, sample) = tenant(&state, mode, value.tenant.as_deref()).await?;
    let slug = state.auth().active_tenant(tenant).await?.ok_or_else(Problem::not_found)?.slug.clone();
    let schema = Schema::tenant(tenant);
    let id = SupportSessionId(Uuid::now_v7());
    let command = SupportSessionCommand::Start {
        user_id,
        tier: context.principal.tier,
        signed_in,
        mode,
        support_request_id: value.request_id.map(SupportRequestId),
        sample,
        reason,
    };
    let command = Command::create(id, command).expecting(context.if_match.expected());
    let line = context
        .security(SecurityEventKind::SupportSessionStarted, tenant)
        .detail(format!("support_session:{id}"));
    let role = context.principal.tier.as_str().to_owned();
    // In the log first: a token without its event must never be, an event without its token may.
    let committed =
        state.store().execute(&schema, context.unit(vec![command], Some(value.reason), hash)?).await?;
    let changed = subject(&committed)?;
    let session = SupportSession::of(&changed.state).ok_or_else(wrong_type)?;
    masquerades_copied(&state, Some(tenant)).await;
    if let Some(refused) = session.refused {
        state.security_log().record(line.kind(SecurityEventKind::SupportSessionRefused));
        return Err(Problem::new(Code::Forbidden, format!("Not allowed: {}.", refused.detail())));
    }
    let claims = AccessClaims {
        sub: user_id.0,
        sid: changed.id,
        usage: Use::Support,
        act: None,
        tenant_id: Some(tenant.0),
        role,
    };
    // A repeat decides nothing: whether it still goes on is asked, as at every use of its token.
    if committed.replayed {
        still_open(&state, &claims).await?;
    }
    // Of a repeat as well: whoever answered the first may have died before this.
    state.security_log().record(line);
    let token = access_token::issue_until(state.store().keys(), claims, session.started_at, session.until)
        .map_err(Problem::internal)?;
    let body = StartedSession {
        session: SupportSessionBody::of(&committed, Some(slug))?,
        tenant_id: tenant.0,
        access_token: token.expose_secret().to_owned(),
        token_type: "Bearer",
    };
    respond::created(&committed, "support/sessions", &body)
}

/// The tenant that is meant, and whether it is the sample tenant: that has another slug each day, and goes by
/// [`SAMPLE`] as well.
async fn tenant(state: &AppState, mode: SupportMode, slug: Option<&str>) -> Result<(TenantId, bool)> {
    if mode == SupportMode::Mock {
        // On a task of its own: who goes away must not leave it half made, and others waiting.
        let (store, directory) = (state.store().clone(), state.directory().clone());
        let made = tokio::spawn(async move { sample::ensure(&store, &directory).await });
        let sample = made.await.map_err(Problem::internal)??;
        let named = match slug {
            None | Some(SAMPLE) => sample,
            Some(slug) => state.tenant_of_slug(slug).await?.ok_or_else(Problem::not_found)?,
        };
        return Ok((named, named == sample));
    }
    let slug = slug.ok_or_else(|| Problem::field("/tenant", "required", "name the tenant"))?;
    Ok((state.tenant_of_slug(slug).await?.ok_or_else(Problem::not_found)?, false))
}
