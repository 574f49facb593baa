//! `GET /me`

use axum::{extract::State, response::Response};

use crate::{
    app::AppState,
    http::{
        auth::{SignedInUser, signed_in},
        context::SignedIn,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
};

/// Who one is, and what one may do.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "me", operation_id = "me",
    responses(
        (status = 200, body = SignedInUser),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(State(state): State<AppState>, SignedIn(principal): SignedIn) -> Result<Response> {
    let Some(user) = principal.account() else { return Err(Problem::no_account()) };
    let session = principal.session().map(|(_, session)| session).unwrap_or_default();
    respond::json(&signed_in(&state, principal.tenant, user, session).await?)
}
