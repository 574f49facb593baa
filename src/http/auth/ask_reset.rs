//! `POST /auth/password/reset` and `POST /auth/otp`: a link or a code to the address of an account. Whether there is
//! such an account shows in nothing: the answer is given before it is looked for.

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use daybook_domain::{
    Email, ResetId, TenantId, UserId,
    envelope::Metadata,
    user::{ResetBy, UserCommand, email_key},
};
use daybook_projections::Schema;
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::chrono;
use crate::{
    app::AppState,
    auth::{
        link::{self, Purpose},
        named::named_tenant,
    },
    eventstore::{Attached, Command, Unit},
    http::{
        client_address::ClientAddress,
        context::Anonymous,
        json::Json,
        letters,
        problem::{Problem, ProblemBody, Result},
    },
    limits::Policy,
    mail::templates,
    random,
    security_log::{SecurityEvent, SecurityEventKind},
    tenancy::{Access, TenancyError, TenantTx},
};

/// How long a link works.
const LINK_LIFETIME: Duration = Duration::from_secs(3 * 86_400);
/// How long a code works.
const CODE_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Letters of this kind to one account: whoever asks from many addresses fills nobody's mailbox.
const PER_ACCOUNT: Policy = Policy { name: "reset_account", quota: 10, window: Duration::from_secs(3_600) };

/// Whose password is to be set anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskReset {
    /// The e-mail address of the account.
    email: String,
}

/// What a link says.
#[derive(Serialize, Deserialize)]
pub(super) struct ResetLink {
    #[serde(rename = "t")]
    pub tenant: Option<TenantId>,
    #[serde(rename = "u")]
    pub user: UserId,
    #[serde(rename = "r")]
    pub reset: ResetId,
}

/// Ask for a link by which a new password can be set: it goes to the address, if there is such an account.
#[utoipa::path(
    post, path = "/api/v1/auth/password/reset", tag = "auth", operation_id = "ask_password_reset", security(()),
    params(("X-Tenant-Slug" = Option<String>, Header, description = "The tenant; without it, by the Origin's domain")),
    request_body = AskReset,
    responses(
        (status = 202, description = "If there is such an account, it is told"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn ask_link(
    State(state): State<AppState>,
    headers: HeaderMap,
    client: Anonymous,
    address: ClientAddress,
    Json { value, .. }: Json<AskReset>,
) -> Result<Response> {
    ask(&state, &headers, client, address, value.email, ResetBy::Link).await
}

/// Ask for a code of six digits by which a new password can be set: it goes to the address, if there is such an account.
#[utoipa::path(
    post, path = "/api/v1/auth/otp", tag = "auth", operation_id = "ask_code", security(()),
    params(("X-Tenant-Slug" = Option<String>, Header, description = "The tenant; without it, by the Origin's domain")),
    request_body = AskReset,
    responses(
        (status = 202, description = "If there is such an account, it is told"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn ask_code(
    State(state): State<AppState>,
    headers: HeaderMap,
    client: Anonymous,
    address: ClientAddress,
    Json { value, .. }: Json<AskReset>,
) -> Result<Response> {
    ask(&state, &headers, client, address, value.email, ResetBy::Code).await
}

async fn ask(
    state: &AppState,
    headers: &HeaderMap,
    client: Anonymous,
    address: ClientAddress,
    email: String,
    by: ResetBy,
) -> Result<Response> {
    let limits = state.limits();
    let allowance = limits.check(&limits.policies().reset, &address.limit_key().to_string()).await?;
    let email = Email::new(&email, "/email")?;
    let (tenant, known) = named_tenant(state, headers).await?.accounts();
    let event = SecurityEvent::new(SecurityEventKind::PasswordResetRequested)
        .ip(address.0)
        .request_id(client.request_id());
    state.security_log().record(match tenant {
        Some(tenant) => event.tenant(tenant),
        None => event,
    });
    if known {
        let state = state.clone();
        tokio::spawn(async move {
            if let Err(problem) = send(&state, tenant, email, by, client).await {
                tracing::warn!(
                    code = problem.code().as_str(),
                    "a request for a new password was not carried out"
                );
            }
        });
    }
    Ok((allowance, StatusCode::ACCEPTED).into_response())
}

async fn send(
    state: &AppState,
    tenant: Option<TenantId>,
    email: Email,
    by: ResetBy,
    client: Anonymous,
) -> Result<()> {
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    // What is sent goes to the address the account has, however the one that was asked with is written.
    let Some((user, email)) = find(state, &schema, &email).await? else { return Ok(()) };
    state.limits().check(&PER_ACCOUNT, &user.to_string()).await?;
    let metadata: Metadata = client.metadata_of("anonymous".into());
    let reset = ResetId(Uuid::now_v7());
    let house = letters::house(state, tenant).await?;
    let addressee = letters::to(email, Some(user));
    let lifetime = if by == ResetBy::Link { LINK_LIFETIME } else { CODE_LIFETIME };
    let expires_at = crate::clock::now() + chrono(lifetime);
    let command = UserCommand::RequestReset { reset_id: reset, by, expires_at };
    let mut unit = Unit::of(Command::to(user, command), metadata);
    let letter = match by {
        ResetBy::Link => {
            let token = link::sign(
                state.store().keys(),
                Purpose::PasswordReset,
                &ResetLink { tenant, user, reset },
                expires_at,
            )
            .map_err(Problem::internal)?;
            let link = letters::link(state, "reset-password", &token);
            templates::password_reset_link(addressee, &house, &link, lifetime)
        }
        ResetBy::Code => {
            let code = six_digits()?;
            let hash = state.hasher().hash_code(code.clone()).await.map_err(Problem::internal)?;
            unit = unit.attach(Attached::ResetCode { user, reset, hash, expires_at });
            templates::password_reset_code(addressee, &house, &code, lifetime)
        }
    };
    unit = unit.attach(letters::attach(state, tenant, letter)?);
    state.store().execute(&schema, unit).await?;
    state.mailer().wake(&schema);
    Ok(())
}

/// The active account of an address, and the address as it has it.
pub(super) async fn find(
    state: &AppState,
    schema: &Schema,
    email: &Email,
) -> Result<Option<(UserId, Email)>> {
    let mut tx = TenantTx::begin(state.store().database().app(), schema, Access::Read).await?;
    let row: Option<(Uuid, String)> =
        sqlx::query_as("SELECT id, email FROM users WHERE email_key = $1 AND status = 'active'")
            .bind(email_key(email.as_str()))
            .fetch_optional(&mut *tx)
            .await
            .map_err(TenancyError::db("look for an account"))?;
    tx.release();
    Ok(row.and_then(|(user, email)| Some((UserId(user), Email::new(&email, "").ok()?))))
}

/// Each of the million codes is as likely as any other.
fn six_digits() -> Result<SecretString> {
    const MILLION: u32 = 1_000_000;
    loop {
        let number = u32::from_be_bytes(random::bytes::<4>().map_err(Problem::internal)?);
        if number < u32::MAX - u32::MAX % MILLION {
            return Ok(SecretString::from(format!("{:06}", number % MILLION)));
        }
    }
}
