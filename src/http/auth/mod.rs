//! Signing in and out: access tokens in answers, refresh tokens in a cookie that no script reads.

pub mod ask_reset;
pub mod change_password;
pub mod check;
pub mod confirm_reset;
pub mod cookie;
pub mod end_session;
pub mod login;
pub mod logout;
pub mod refresh;
pub mod sessions;

use axum::response::Response;
use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, TenantId, UserId};
use daybook_projections::{Schema, users};
use http::header;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    problem::{Problem, Result},
    respond,
};
use crate::{
    app::AppState,
    auth::{Credential, access_token},
    tenancy::{Access, TenantTx},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(login::login))
        .routes(routes!(check::check))
        .routes(routes!(refresh::refresh))
        .routes(routes!(logout::logout))
        .routes(routes!(sessions::sessions))
        .routes(routes!(end_session::end_session))
        .routes(routes!(change_password::change_password))
        .routes(routes!(ask_reset::ask_link))
        .routes(routes!(ask_reset::ask_code))
        .routes(routes!(confirm_reset::confirm_link))
        .routes(routes!(confirm_reset::confirm_code))
}

/// An access token, and whose it is.
#[derive(Serialize, ToSchema)]
pub struct TokenBody {
    /// The access token: `Authorization: Bearer …`. Keep it in memory only.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// For how many seconds it is valid.
    pub expires_in: u64,
    /// Whose it is.
    pub user: SignedInUser,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedInUser {
    /// Their id.
    pub id: Uuid,
    /// Their e-mail address.
    #[schema(value_type = Option<String>)]
    pub email: Disclosed<String>,
    /// Their name.
    #[schema(value_type = Option<String>)]
    pub name: Disclosed<String>,
    /// Their tier.
    pub role: String,
    /// Their tenant; null for the platform's own people.
    pub tenant_id: Option<Uuid>,
    /// Its slug.
    pub tenant_slug: Option<String>,
    /// What they may do, as `resource:action:scope`.
    pub permissions: Vec<String>,
    /// Those of them that they have for a while only, because somebody granted them.
    pub granted: Vec<GrantedBody>,
}

/// A permission that one has for a while.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GrantedPermission)]
pub struct GrantedBody {
    /// The grant.
    pub grant_id: Uuid,
    /// What one may do by it, as `resource:action:scope`.
    pub permission: String,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// A session that was just started or refreshed.
struct Granted {
    tenant: Option<TenantId>,
    user: UserId,
    session: daybook_domain::SessionId,
    refresh_token: SecretString,
    refresh_expires_at: DateTime<Utc>,
}

/// The answer to a sign-in or a refresh: the access token in it, the refresh token in the cookie.
async fn answer(state: &AppState, granted: Granted) -> Result<Response> {
    let Granted { tenant, user, session, refresh_token, refresh_expires_at } = granted;
    let now = crate::clock::now();
    let signed_in = signed_in(state, tenant, user, session).await?;
    let lifetime = state.settings().access_token_lifetime;
    let claims = access_token::AccessClaims {
        sub: user.0,
        sid: session.0,
        usage: access_token::Use::Session,
        act: None,
        tenant_id: tenant.map(|tenant| tenant.0),
        role: signed_in.role.clone(),
    };
    let token = access_token::issue(state.store().keys(), claims, now, chrono(lifetime))
        .map_err(Problem::internal)?;
    let body = TokenBody {
        access_token: token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: lifetime.as_secs(),
        user: signed_in,
    };
    let mut response = respond::json(&body)?;
    let cookie = cookie::set(&refresh_token, (refresh_expires_at - now).num_seconds().max(0))?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// A length of time as chrono has it; configuration bounds it far below where that matters.
pub(crate) fn chrono(duration: std::time::Duration) -> chrono::Duration {
    chrono::Duration::from_std(duration).unwrap_or(chrono::Duration::days(36_500))
}

/// Who is signed in, as they are now.
///
/// # Errors
/// `unauthenticated` when the account is not active any more.
pub(crate) async fn signed_in(
    state: &AppState,
    tenant: Option<TenantId>,
    user: UserId,
    session: daybook_domain::SessionId,
) -> Result<SignedInUser> {
    let ended = || Problem::new(super::problem::Code::Unauthenticated, "The account is not active.");
    let principal = state.auth().user(tenant, user, session, false).await?.ok_or_else(ended)?;
    debug_assert!(matches!(principal.credential, Credential::Session { .. }));
    let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
    let mut tx = TenantTx::begin(state.store().database().app(), &schema, Access::Read).await?;
    let row = users::get(&mut tx, user.0).await?.ok_or_else(ended)?;
    tx.release();
    let slug = match tenant {
        Some(tenant) => state.auth().active_tenant(tenant).await?.map(|tenant| tenant.slug.clone()),
        None => None,
    };
    Ok(SignedInUser {
        id: row.id,
        email: row.email,
        name: row.name,
        role: row.tier,
        tenant_id: tenant.map(|tenant| tenant.0),
        tenant_slug: slug,
        permissions: principal.permissions.iter().map(|permission| permission.to_string()).collect(),
        granted: principal
            .granted
            .iter()
            .map(|granted| GrantedBody {
                grant_id: granted.id.0,
                permission: granted.permission.to_string(),
                expires_at: granted.expires_at,
            })
            .collect(),
    })
}
