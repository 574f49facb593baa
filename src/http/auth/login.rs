//! `POST /auth/login`: by e-mail address and password, in the tenant that the slug or the origin names; without either,
//! for the platform's own people. Whether there is such an account shows in nothing: not in the status, the body, or
//! the time.

use std::time::Instant;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use daybook_domain::{
    SessionId, TenantId, UserId,
    envelope::Metadata,
    user::{UserCommand, email_key},
};
use daybook_projections::{Schema, refused_logins};
use http::{HeaderMap, HeaderValue, header};
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Granted, TokenBody, answer, chrono};
use crate::{
    app::AppState,
    auth::{lockout::Attempt, named::named_tenant, refresh_token},
    eventstore::{Attached, Command, Committed, NewRefreshToken, Unit},
    http::{
        client_address::ClientAddress,
        context::Anonymous,
        json::Json,
        problem::{Code, Problem, ProblemBody, Result},
        respond,
    },
    security_log::{SecurityEvent, SecurityEventKind},
    tenancy::{Access, TenancyError, TenantTx},
};

/// The longest address that is looked for.
const MAX_EMAIL: usize = 254;
/// Sessions at once for the platform's own people.
const PLATFORM_SESSIONS: u32 = 5;

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The e-mail address of the account.
    email: String,
    /// Its password.
    #[schema(value_type = String)]
    password: SecretString,
}

/// An account as signing in finds it.
struct Account {
    user: UserId,
    hash: Option<SecretString>,
    known_address: bool,
    /// The sequence of the account when its hash was read.
    sequence: i64,
}

/// Sign in.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth", operation_id = "login", security(()),
    params(("X-Tenant-Slug" = Option<String>, Header, description = "The tenant; without it, by the Origin's domain")),
    request_body = Login,
    responses(
        (status = 200, body = TokenBody, description = "The refresh token is in the cookie"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn login(
    State(state): State<AppState>,
    headers: HeaderMap,
    client: Anonymous,
    address: ClientAddress,
    Json { value, .. }: Json<Login>,
) -> Result<Response> {
    let limits = state.limits();
    let allowance = limits.check(&limits.policies().login, &address.limit_key().to_string()).await?;
    let began = Instant::now();
    // An unknown tenant has no accounts, and takes as long as a known one.
    let (tenant, known) = named_tenant(&state, &headers).await?.accounts();
    let from = address.limit_key().to_string();
    let email = email_key(&value.email);
    let account = if !known || email.len() > MAX_EMAIL || email.contains(char::is_control) {
        None
    } else {
        find(&state, tenant, &email, &from).await?
    };
    let known_address = account.as_ref().is_some_and(|account| account.known_address);
    let attempt = Attempt::new(state.store().keys(), tenant, &email, &from, known_address);
    let database = state.store().database();
    let noted = |kind, user: Option<UserId>| {
        let event = SecurityEvent::new(kind).ip(address.0).request_id(client.request_id());
        let event = match user {
            Some(user) => event.actor(format!("user:{user}")),
            None => event,
        };
        state.security_log().record(match tenant {
            Some(tenant) => event.tenant(tenant),
            None => event,
        });
    };
    let refused_as = |outcome, user: Option<UserId>| {
        if let Some(tenant) = tenant {
            let user = user.map(|user| user.0);
            state.access_log().refused_login(tenant, (refused_logins::SIGN_IN, outcome), user, &client);
        }
    };
    if let Err(locked) = attempt.begin(database).await? {
        refused_as(refused_logins::LOCKED_OUT, account.as_ref().map(|account| account.user));
        noted(SecurityEventKind::LoginLocked, account.map(|account| account.user));
        return Err(Problem::new(Code::RateLimited, "Too many failures; try again later.")
            .with_header(header::RETRY_AFTER, HeaderValue::from(locked.retry_after)));
    }
    let stored = account.as_ref().and_then(|account| account.hash.clone());
    let password = value.password;
    let verdict = state.hasher().verify(password.clone(), stored).await.map_err(Problem::internal)?;
    let user = account.as_ref().map(|account| account.user);
    let Some(account) = account.filter(|_| verdict.matches) else {
        refused_as(refused_logins::FAILED, user);
        noted(SecurityEventKind::LoginFailed, user);
        // Hashes of other kinds, as imported accounts have, take another time to compare than ours.
        tokio::time::sleep_until((began + state.settings().failed_login_time).into()).await;
        return Err(allowance.mark(refused()));
    };
    attempt.succeeded(database).await?;
    let rehashed = if verdict.rehash {
        Some(state.hasher().hash(password).await.map_err(Problem::internal)?)
    } else {
        None
    };
    let (user, metadata) = (account.user, client.metadata(account.user));
    let (granted, committed) = start_session(&state, tenant, &account, from, metadata, rehashed).await?;
    noted(SecurityEventKind::LoginSucceeded, Some(user));
    let mut response = answer(&state, granted).await?;
    respond::command_headers(&mut response, &committed);
    Ok((allowance, response).into_response())
}

/// One answer to whatever is wrong.
fn refused() -> Problem {
    Problem::new(Code::Unauthenticated, "The e-mail address or the password is wrong.")
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="daybook""#))
}

/// The active account of an address, with its password's hash and whether it knows where this comes from.
async fn find(
    state: &AppState,
    tenant: Option<TenantId>,
    email: &str,
    from: &str,
) -> Result<Option<Account>> {
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    let mut tx = TenantTx::begin(state.store().database().app(), &schema, Access::Read).await?;
    let row: Option<(Uuid, Option<String>, bool, i64)> = sqlx::query_as(
        "SELECT u.id, p.hash, EXISTS (SELECT FROM known_addresses k WHERE k.user_id = u.id AND k.ip = $2), u.version
         FROM users u LEFT JOIN user_passwords p ON p.user_id = u.id
         WHERE u.email_key = $1 AND u.status = 'active'",
    )
    .bind(email)
    .bind(from)
    .fetch_optional(&mut *tx)
    .await
    .map_err(TenancyError::db("look for an account"))?;
    tx.release();
    Ok(row.map(|(user, hash, known_address, sequence)| Account {
        user: UserId(user),
        hash: hash.map(SecretString::from),
        known_address,
        sequence,
    }))
}

/// Starts a session; past the plan's number of them the oldest ends.
async fn start_session(
    state: &AppState,
    tenant: Option<TenantId>,
    account: &Account,
    from: String,
    metadata: Metadata,
    rehashed: Option<SecretString>,
) -> Result<(Granted, Committed)> {
    let Account { user, sequence, .. } = *account;
    let cap = match tenant {
        Some(tenant) => state.auth().active_tenant(tenant).await?.ok_or_else(refused)?.sessions_per_user,
        None => PLATFORM_SESSIONS,
    };
    let settings = state.settings();
    let now = crate::clock::now();
    let session = SessionId(Uuid::now_v7());
    let session_expires_at = now + chrono(settings.session_lifetime);
    let refresh_expires_at = session_expires_at.min(now + chrono(settings.refresh_token_lifetime));
    let refresh_token = refresh_token::generate(tenant).map_err(Problem::internal)?;
    let (ip, user_agent) = (metadata.ip.clone(), metadata.user_agent.clone());
    let command = UserCommand::StartSession {
        session_id: session,
        expires_at: session_expires_at,
        cap,
        seen: sequence,
    };
    let mut unit =
        Unit::of(Command::to(user, command), metadata).attach(Attached::RefreshToken(NewRefreshToken {
            hash: refresh_token::hash(&refresh_token),
            session,
            user,
            expires_at: refresh_expires_at,
            ip,
            user_agent,
            known_from: Some(from),
        }));
    if let Some(hash) = rehashed {
        unit = unit.attach(Attached::Password { user, hash });
    }
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    match state.store().execute(&schema, unit).await {
        Ok(committed) => {
            Ok((Granted { tenant, user, session, refresh_token, refresh_expires_at }, committed))
        }
        // Deactivated, deleted or given another password a moment ago.
        Err(crate::eventstore::StoreError::Refused { .. }) => Err(refused()),
        Err(error) => Err(error.into()),
    }
}
