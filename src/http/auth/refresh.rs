//! `POST /auth/refresh`: another access token for the refresh token in the cookie, which is replaced.

use axum::{extract::State, response::Response};
use daybook_domain::user::{SessionEnd, UserCommand};
use daybook_projections::Schema;
use http::{HeaderMap, header};

use super::{Granted, TokenBody, answer, chrono, cookie};
use crate::{
    app::AppState,
    auth::refresh_token::{Rotated, Shown},
    eventstore::{Command, StoreError, Unit},
    http::{
        client_address::ClientAddress,
        context::Anonymous,
        problem::{Code, Problem, ProblemBody, Result},
    },
    security_log::{SecurityEvent, SecurityEventKind},
};

fn refused() -> Result<Problem> {
    Ok(Problem::new(Code::Unauthenticated, "Sign in again.")
        .with_header(header::SET_COOKIE, cookie::clear()?))
}

/// Get another access token. The cookie is replaced; the one before is good for ten more seconds, for the same answer.
#[utoipa::path(
    post, path = "/api/v1/auth/refresh", tag = "auth", operation_id = "refresh", security(()),
    responses(
        (status = 200, body = TokenBody, description = "The next refresh token is in the cookie"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn refresh(
    State(state): State<AppState>,
    headers: HeaderMap,
    client: Anonymous,
    address: ClientAddress,
) -> Result<Response> {
    cookie::guard(&state, &headers, &client).await?;
    let Some(shown) = cookie::read(&headers).and_then(|text| Shown::parse(&text)) else {
        return Err(refused()?);
    };
    let tenant = shown.tenant;
    cookie::of_this_tenant(&state, &headers, &shown).await?;
    if let Some(tenant) = tenant
        && state.auth().active_tenant(tenant).await?.is_none()
    {
        return Err(refused()?);
    }
    let lifetime = chrono(state.settings().refresh_token_lifetime);
    let (ip, user_agent) = (client.ip().map(str::to_owned), client.user_agent().map(str::to_owned));
    let rotated =
        shown.rotate(state.store().database(), state.store().keys(), lifetime, ip, user_agent).await?;
    match rotated {
        Rotated::Successor { user, session, token, expires_at } => {
            let granted =
                Granted { tenant, user, session, refresh_token: token, refresh_expires_at: expires_at };
            answer(&state, granted).await
        }
        Rotated::Reused { user, session } => {
            let event = SecurityEvent::new(SecurityEventKind::RefreshReuse)
                .actor(format!("user:{user}"))
                .ip(address.0)
                .request_id(client.request_id())
                .detail(format!("session {session}"));
            state.security_log().record(match tenant {
                Some(tenant) => event.tenant(tenant),
                None => event,
            });
            let command = UserCommand::EndSession { session_id: session, why: SessionEnd::Reuse };
            let unit = Unit::of(Command::to(user, command), client.metadata(user));
            let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
            match state.store().execute(&schema, unit).await {
                // Ended by another request a moment ago.
                Ok(_) | Err(StoreError::Refused { .. }) => Err(refused()?),
                Err(error) => Err(error.into()),
            }
        }
        Rotated::Unknown => Err(refused()?),
    }
}
