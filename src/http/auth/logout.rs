//! `POST /auth/logout`: ends the session on the server and takes the cookie out of the browser.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use daybook_domain::user::{SessionEnd, UserCommand};
use daybook_projections::Schema;
use http::{HeaderMap, StatusCode, header};

use super::cookie;
use crate::{
    app::AppState,
    auth::{authorize, refresh_token::Shown},
    eventstore::{Command, StoreError, Unit},
    http::{
        context::Anonymous,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Sign out: the session of the cookie, or of the access token, ends. Without either there is nothing to end.
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth", operation_id = "logout", security((), ("bearer" = [])),
    responses(
        (status = 204, description = "Signed out; the cookie is gone"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn logout(
    State(state): State<AppState>,
    headers: HeaderMap,
    client: Anonymous,
) -> Result<Response> {
    let mut ends = None;
    if let Some(shown) = cookie::read(&headers).and_then(|text| Shown::parse(&text)) {
        cookie::guard(&state, &headers, &client).await?;
        // A page of one tenant does not sign people of another out.
        cookie::of_this_tenant(&state, &headers, &shown).await?;
        // The cookie may name a tenant that there is not, or one that is switched off: there its session is worth nothing.
        let live = match shown.tenant {
            Some(tenant) => state.auth().active_tenant(tenant).await?.is_some(),
            None => true,
        };
        if live {
            let found = shown.session(state.store().database()).await?;
            ends = found.map(|(user, session)| (shown.tenant, user, session));
        }
    }
    if ends.is_none() && headers.contains_key(header::AUTHORIZATION) {
        let principal = authorize::authenticate(&state, &headers).await?;
        ends = principal.session().map(|(user, session)| (principal.tenant, user, session));
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some((tenant, user, session_id)) = ends {
        let command = UserCommand::EndSession { session_id, why: SessionEnd::Logout };
        let unit = Unit::of(Command::to(user, command), client.metadata(user));
        let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
        match state.store().execute(&schema, unit).await {
            Ok(committed) => respond::command_headers(&mut response, &committed),
            Err(StoreError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    response.headers_mut().append(header::SET_COOKIE, cookie::clear()?);
    Ok(response)
}
