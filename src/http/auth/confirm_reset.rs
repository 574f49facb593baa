//! `POST /auth/password/reset/confirm` and `POST /auth/otp/confirm`: a new password, by link or by code. Either works
//! once, and every session ends.

use axum::{extract::State, response::Response};
use daybook_domain::{Email, ResetId, TenantId, UserId, user::UserCommand};
use daybook_projections::{Schema, refused_logins};
use http::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ask_reset::{self, ResetLink};
use crate::{
    app::AppState,
    auth::{
        link::{self, Purpose},
        named::named_tenant,
        password_policy,
    },
    eventstore::{Attached, Command, StoreError, Unit},
    http::{
        client_address::ClientAddress,
        context::Anonymous,
        json::Json,
        letters,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    mail::templates,
    security_log::{SecurityEvent, SecurityEventKind},
    tenancy::{Access, TenancyError, TenantTx},
};

/// A new password, and the proof that came with a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmLink {
    /// The token of the link.
    #[schema(value_type = String)]
    token: SecretString,
    /// The new password.
    #[schema(value_type = String)]
    new_password: SecretString,
}

/// A new password, and the proof that came as a code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmCode {
    /// The e-mail address of the account.
    email: String,
    /// The six digits.
    #[schema(value_type = String)]
    code: SecretString,
    /// The new password.
    #[schema(value_type = String)]
    new_password: SecretString,
}

fn wrong_token() -> Problem {
    Problem::field("/token", "invalid_token", "the link has been used, has expired, or is none")
}

fn wrong_code() -> Problem {
    Problem::field("/code", "invalid_code", "the code is wrong, has been used, or has expired")
}

/// Set a new password by a link. It works once; every session ends.
#[utoipa::path(
    post, path = "/api/v1/auth/password/reset/confirm", tag = "auth", operation_id = "confirm_password_reset",
    security(()), request_body = ConfirmLink,
    responses(
        (status = 204, description = "The password is set"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn confirm_link(
    State(state): State<AppState>,
    client: Anonymous,
    address: ClientAddress,
    Json { value, .. }: Json<ConfirmLink>,
) -> Result<Response> {
    let limits = state.limits();
    limits.check(&limits.policies().login, &address.limit_key().to_string()).await?;
    let now = crate::clock::now();
    let said: ResetLink =
        link::open(state.store().keys(), Purpose::PasswordReset, value.token.expose_secret(), now)
            .ok_or_else(wrong_token)?;
    let schema = said.tenant.map_or_else(Schema::platform, Schema::tenant);
    if let Some(tenant) = said.tenant
        && state.auth().active_tenant(tenant).await?.is_none()
    {
        return Err(wrong_token());
    }
    let (email, name) = account_of(&state, &schema, said.user).await?.ok_or_else(wrong_token)?;
    password_policy::check(value.new_password.expose_secret(), &[email.as_str(), &name], "/new_password")?;
    let done =
        set(&state, said.tenant, said.user, said.reset, email, value.new_password, client.clone()).await?;
    if done.is_none() {
        refused(&state, said.tenant, Some(said.user), &client);
    }
    done.ok_or_else(wrong_token)
}

/// Notes for the tenant that a new password was not set. What proves nothing about anybody is not noted.
fn refused(state: &AppState, tenant: Option<TenantId>, user: Option<UserId>, client: &Anonymous) {
    if let Some(tenant) = tenant {
        let what = (refused_logins::PASSWORD_RESET, refused_logins::FAILED);
        state.access_log().refused_login(tenant, what, user.map(|user| user.0), client);
    }
}

/// Set a new password by a code. It works once; every session ends.
#[utoipa::path(
    post, path = "/api/v1/auth/otp/confirm", tag = "auth", operation_id = "confirm_code", security(()),
    params(("X-Tenant-Slug" = Option<String>, Header, description = "The tenant; without it, by the Origin's domain")),
    request_body = ConfirmCode,
    responses(
        (status = 204, description = "The password is set"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn confirm_code(
    State(state): State<AppState>,
    headers: HeaderMap,
    client: Anonymous,
    address: ClientAddress,
    Json { value, .. }: Json<ConfirmCode>,
) -> Result<Response> {
    let limits = state.limits();
    limits.check(&limits.policies().login, &address.limit_key().to_string()).await?;
    let email = Email::new(&value.email, "/email")?;
    password_policy::check(value.new_password.expose_secret(), &[email.as_str()], "/new_password")?;
    let (tenant, known) = named_tenant(&state, &headers).await?.accounts();
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    let account = if known { ask_reset::find(&state, &schema, &email).await? } else { None };
    let user = account.map(|(user, _)| user);
    // An account that does not exist is asked for all the same, and its code compared.
    let attempt = attempt(&state, &schema, user.unwrap_or_else(|| UserId(Uuid::now_v7()))).await?;
    let (reset, hash) = attempt.unzip();
    let matches = state.hasher().verify_code(value.code, hash).await.map_err(Problem::internal)?;
    let (Some(user), Some(reset), true) = (user, reset, matches) else {
        let event =
            SecurityEvent::of(SecurityEventKind::OtpFailed, tenant, &client.metadata_of("anonymous".into()))
                .detail(if reset.is_some() { "a wrong code" } else { "no attempts left, or no code" });
        state.security_log().record(event);
        refused(&state, tenant, user, &client);
        return Err(wrong_code());
    };
    // Only who has the code is told what the account's name is like.
    let (email, name) = account_of(&state, &schema, user).await?.ok_or_else(wrong_code)?;
    password_policy::check(value.new_password.expose_secret(), &[&name], "/new_password")?;
    set(&state, tenant, user, reset, email, value.new_password, client).await?.ok_or_else(wrong_code)
}

/// Uses one of a code's five attempts, before anything is compared; `None` when there are none left.
async fn attempt(state: &AppState, schema: &Schema, user: UserId) -> Result<Option<(ResetId, SecretString)>> {
    let mut tx = TenantTx::begin(state.store().database().app(), schema, Access::Write).await?;
    let row: Option<(Uuid, String)> = sqlx::query_as(
        "UPDATE reset_codes SET attempts = attempts + 1
         WHERE user_id = $1 AND attempts < 5 AND expires_at > now()
         RETURNING reset_id, code_hash",
    )
    .bind(user.0)
    .fetch_optional(&mut *tx)
    .await
    .map_err(TenancyError::db("use an attempt of a code"))?;
    tx.commit().await?;
    Ok(row.map(|(reset, hash)| (ResetId(reset), SecretString::from(hash))))
}

/// The address and the name of an active account.
async fn account_of(state: &AppState, schema: &Schema, user: UserId) -> Result<Option<(Email, String)>> {
    let mut tx = TenantTx::begin(state.store().database().app(), schema, Access::Read).await?;
    let row = daybook_projections::users::get(&mut tx, user.0).await?;
    tx.release();
    Ok(row.filter(|row| row.status == "active").and_then(|row| {
        let email = Email::new(row.email.expose()?, "").ok()?;
        Some((email, row.name.into_exposed().unwrap_or_default()))
    }))
}

/// Sets the password; `None` when the request it goes by is not open any more.
async fn set(
    state: &AppState,
    tenant: Option<TenantId>,
    user: UserId,
    reset: ResetId,
    email: Email,
    password: SecretString,
    client: Anonymous,
) -> Result<Option<Response>> {
    let hash = state.hash_password(password).await?;
    let house = letters::house(state, tenant).await?;
    let letter = templates::password_changed(letters::to(email, Some(user)), &house);
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    let event = SecurityEvent::of(SecurityEventKind::PasswordChanged, tenant, &client.metadata(user));
    let unit =
        Unit::of(Command::to(user, UserCommand::ResetPassword { reset_id: reset }), client.metadata(user))
            .attach(Attached::Password { user, hash })
            .attach(Attached::ForgetCode(user))
            .attach(letters::attach(state, tenant, letter)?);
    let committed = match state.store().execute(&schema, unit).await {
        Ok(committed) => committed,
        Err(StoreError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    state.mailer().wake(&schema);
    state.security_log().record(event);
    Ok(Some(respond::silent(&committed)))
}
