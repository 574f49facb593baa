//! `POST /signup`

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use daybook_domain::text::{Email, Name};
use daybook_projections::Schema;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{FIELD, SignupLink, Waiting, slug};
use crate::{
    app::AppState,
    auth::{
        link::{self, Purpose},
        password_policy, sealed,
    },
    http::{
        auth::chrono,
        client_address::ClientAddress,
        json::Json,
        letters,
        problem::{Code, Problem, ProblemBody, Result},
    },
    mail::{outbox, sealer::KeySealer, templates},
    security_log::{SecurityEvent, SecurityEventKind},
    tenancy::{Access, TenancyError, TenantTx},
};

/// How long a sign-up waits for its address to be confirmed.
const LIFETIME: Duration = Duration::from_secs(86_400);

/// A tenant to be, and its owner.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signup {
    /// The tenant's name.
    tenant_name: String,
    /// The tenant's slug.
    slug: String,
    /// The owner's e-mail address.
    email: String,
    /// The owner's name; the first part of the address where there is none.
    name: Option<String>,
    /// The owner's password.
    #[schema(value_type = String)]
    password: SecretString,
}

/// Sign a tenant up: a link to confirm goes to the address, and works for a day.
#[utoipa::path(
    post, path = "/api/v1/signup", tag = "signup", operation_id = "sign_up", security(()),
    request_body = Signup,
    responses(
        (status = 202, description = "A link to confirm is on its way"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn ask(
    State(state): State<AppState>,
    address: ClientAddress,
    Json { value, .. }: Json<Signup>,
) -> Result<Response> {
    let limits = state.limits();
    let allowance = limits.check(&limits.policies().signup, &address.limit_key().to_string()).await?;
    let tenant_name = Name::new(&value.tenant_name, "/tenant_name")?;
    let slug = slug(&value.slug)?;
    let email = Email::new(&value.email, "/email")?;
    let local = email.as_str().split('@').next().unwrap_or_default().to_owned();
    let name = Name::new(value.name.as_deref().unwrap_or(&local), "/name")?;
    let attributes = [email.as_str(), name.as_str(), tenant_name.as_str()];
    password_policy::check(value.password.expose_secret(), &attributes, "/password")?;
    let domain = email.as_str().rsplit('@').next().unwrap_or_default().to_lowercase();
    limits.check(&limits.policies().signup_domain, &domain).await?;
    if state.directory().by_slug(slug.as_str()).await?.is_some() {
        return Err(Problem::new(Code::AlreadyExists, "This slug is in use."));
    }
    let waiting = Waiting {
        tenant_name: tenant_name.as_str().to_owned(),
        slug: slug.as_str().to_owned(),
        email: email.as_str().to_owned(),
        name: name.as_str().to_owned(),
        password_hash: state.hash_password(value.password).await?.expose_secret().to_owned(),
    };
    let payload = Zeroizing::new(serde_json::to_vec(&waiting).map_err(Problem::internal)?);
    let keys = state.store().keys();
    let sealed = sealed::seal(keys, None, FIELD, &payload).map_err(Problem::internal)?;
    let id = Uuid::now_v7();
    let expires_at = crate::clock::now() + chrono(LIFETIME);
    let token =
        link::sign(keys, Purpose::Signup, &SignupLink { id }, expires_at).map_err(Problem::internal)?;
    let link = letters::link(&state, "signup", &token);
    let letter =
        templates::signup_confirmation(letters::to(email, None), tenant_name.as_str(), &link, LIFETIME)
            .seal(&KeySealer(keys.clone()), None)
            .map_err(Problem::internal)?;

    let platform = Schema::platform();
    let attempted = "keep a sign-up";
    let mut tx = TenantTx::begin(state.store().database().app(), &platform, Access::Write).await?;
    sqlx::query("INSERT INTO signups (id, sealed_payload, expires_at) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(sealed)
        .bind(expires_at)
        .execute(&mut *tx)
        .await
        .map_err(TenancyError::db(attempted))?;
    // What was never confirmed goes with the next one that is asked for.
    sqlx::query("DELETE FROM signups WHERE expires_at < now()")
        .execute(&mut *tx)
        .await
        .map_err(TenancyError::db(attempted))?;
    outbox::insert(&mut tx, &platform, &letter).await.map_err(TenancyError::db(attempted))?;
    tx.commit().await?;
    state.mailer().wake(&platform);
    state.security_log().record(SecurityEvent::new(SecurityEventKind::SignedUp).ip(address.0));
    Ok((allowance, StatusCode::ACCEPTED).into_response())
}
