//! `POST /hijack`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::{
    HijackId, SessionId, UserId,
    hijack::{By, Hijack, HijackCommand, HijackRefusal},
    registry::Registered as _,
    support_request::Party,
    text::Reason,
};
use daybook_projections::Schema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{HijackBody, Hijacker};
use crate::{
    app::AppState,
    auth::{
        Credential,
        access_token::{self, AccessClaims, Act, Use},
        masquerade::Standing,
    },
    eventstore::{Command, Unit},
    http::{
        auth::{SignedInUser, signed_in},
        context::checked_reason,
        json::Json,
        problem::{Code, Problem, ProblemBody, Result},
        respond::{self, subject, wrong_type},
        support::masquerades_copied,
    },
    masquerade_log::{Action, Happened},
    security_log::{SecurityEvent, SecurityEventKind},
};

/// As whom somebody would act.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartHijack {
    /// The account.
    user_id: Uuid,
    /// The slug of the tenant it is in; for the platform's people, who mean one of their own without it.
    tenant: Option<String>,
    /// Why. It stays in the log: name nobody.
    #[schema(min_length = 1)]
    reason: String,
}

/// A hijack that began, and the token to use it with.
#[derive(Serialize, ToSchema)]
pub struct StartedHijack {
    #[serde(flatten)]
    hijack: HijackBody,
    /// The access token: `Authorization: Bearer …`. It ends with the hijack and is not refreshed. One's own session goes
    /// on beside it.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// For how many seconds it is valid.
    expires_in: i64,
    /// Who one is with it.
    user: SignedInUser,
}

/// Act as somebody else: a superuser as anyone, support as a tenant's people, sales as those of temporary tenants, an owner
/// as staff of the same tenant. In a tenant that is not temporary the platform's people also need a support request of
/// theirs whose window is open, unless the tenant waives that. Every attempt is in the log of whom it is about.
#[utoipa::path(
    post, path = "/api/v1/hijack", tag = "hijack", operation_id = "start_hijack",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered with a token of the same hijack")),
    request_body = StartHijack,
    responses(
        (status = 201, body = StartedHijack),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn start(
    State(state): State<AppState>,
    hijacker: Hijacker,
    Json { value, hash }: Json<StartHijack>,
) -> Result<Response> {
    let Hijacker { principal, mut metadata, key } = hijacker;
    let (by, signed_in_as, chained) = match (principal.credential, principal.tenant) {
        (Credential::Session { user, session }, Some(_)) => (By::Account(user), session, false),
        (Credential::Session { user, session }, None) => {
            (By::Platform { user, tier: principal.tier }, session, false)
        }
        (Credential::Support { user, .. }, _) => {
            (By::Platform { user, tier: principal.tier }, SessionId::default(), true)
        }
        (Credential::Hijack { by: Party::Tenant { user_id }, .. }, _) => {
            (By::Account(user_id), SessionId::default(), true)
        }
        (Credential::Hijack { by: Party::Platform { user_id }, tier, .. }, _) => {
            (By::Platform { user: user_id, tier }, SessionId::default(), true)
        }
        (Credential::Hijack { by: Party::Operator, .. } | Credential::ApiKey(_), _) => {
            return Err(Problem::no_account());
        }
    };
    let limits = state.limits();
    limits.check(&limits.policies().masquerade, &by.user().to_string()).await?;
    let reason = Reason::new(&value.reason, "/reason")?;
    let tenant = match (principal.tenant, value.tenant.as_deref()) {
        (own, None) => own,
        (None, Some(slug)) => Some(state.tenant_of_slug(slug).await?.ok_or_else(Problem::not_found)?),
        (Some(_), Some(_)) => {
            let why = "this is for accounts of the platform";
            return Err(Problem::field("/tenant", "unknown_field", why));
        }
    };
    let temporary = match tenant {
        Some(tenant) => state.auth().active_tenant(tenant).await?.ok_or_else(Problem::not_found)?.temporary,
        None => false,
    };
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    let (id, target) = (HijackId(Uuid::now_v7()), UserId(value.user_id));
    let start = HijackCommand::Start { by, signed_in: signed_in_as, chained, target, temporary, reason };
    metadata.reason = checked_reason(Some(value.reason))?;
    let security = |kind| SecurityEvent::of(kind, tenant, &metadata).detail(format!("hijack:{id}"));
    let (began, refused) =
        (security(SecurityEventKind::HijackStarted), security(SecurityEventKind::HijackRefused));
    let ip = metadata.ip.clone();
    let mut unit = Unit::of(Command::create(id, start), metadata);
    unit.idempotency = key.map(|key| key.bind(hash));
    // In the log first: a token without its event must never be, an event without its token may.
    let committed = state.store().execute(&schema, unit).await?;
    let changed = subject(&committed)?;
    let hijack = Hijack::of(&changed.state).ok_or_else(wrong_type)?;
    masquerades_copied(&state, tenant).await;
    let why = hijack.refused.map(|refused| format!("{}: {}", refused.as_str(), hijack.reason));
    let mut claims = AccessClaims {
        sub: target.0,
        sid: changed.id,
        usage: Use::Hijack,
        act: Some(Act { sub: by.user().0 }),
        tenant_id: tenant.map(|tenant| tenant.0),
        role: String::new(),
    };
    // A repeat decides nothing: whether it still goes on is asked, as at every use of its token.
    if committed.replayed && hijack.refused.is_none() {
        still_open(&state, &claims).await?;
    }
    // Of a repeat as well: whoever answered the first may have died before this.
    let happened = Happened {
        action: if why.is_some() { Action::Refused } else { Action::Start },
        schema: &schema,
        by: hijack.by,
        target,
        hijack: changed.id,
        ip: ip.as_deref(),
        reason: why.as_deref().unwrap_or(hijack.reason.as_str()),
    };
    state.masquerade_log().record(state.store(), happened).await;
    state.security_log().record(if why.is_some() { refused } else { began });
    match hijack.refused {
        None => {}
        Some(HijackRefusal::NoSuchAccount) => return Err(Problem::not_found()),
        Some(refused) => {
            return Err(Problem::new(Code::Forbidden, format!("Not allowed: {}.", refused.detail())));
        }
    }
    let user = signed_in(&state, tenant, target, SessionId::default()).await?;
    claims.role.clone_from(&user.role);
    let token = access_token::issue_until(state.store().keys(), claims, hijack.started_at, hijack.until)
        .map_err(Problem::internal)?;
    let body = StartedHijack {
        hijack: HijackBody::of(&committed)?,
        access_token: token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: seconds(hijack.started_at, hijack.until),
        user,
    };
    respond::created(&committed, "hijacks", &body)
}

/// Refuses the repeat of a start when what began then is over.
///
/// # Errors
/// `wrong_state`.
pub(in crate::http) async fn still_open(state: &AppState, claims: &AccessClaims) -> Result<()> {
    match state.auth().standing(claims).await? {
        Standing::GoesOn(_) => Ok(()),
        Standing::NoLongerAllowed | Standing::Over => {
            Err(Problem::new(Code::WrongState, "What began under this Idempotency-Key is over."))
        }
    }
}

fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> i64 {
    (until - from).num_seconds().max(0)
}
