//! `GET /auth/sessions`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::Disclosed;
use daybook_projections::users::{self, SessionRow};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        context::SignedIn,
        cursor::Listing,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    tenancy::{Access, TenantTx},
};

/// A session of one's own.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// Its id.
    id: Uuid,
    /// Whether it is the one that asks.
    current: bool,
    /// When it was started.
    started_at: DateTime<Utc>,
    /// When it ends at the latest.
    expires_at: DateTime<Utc>,
    /// When it was last refreshed.
    last_used_at: Option<DateTime<Utc>>,
    /// From where.
    #[schema(value_type = Option<String>)]
    ip: Disclosed<String>,
    /// With what.
    #[schema(value_type = Option<String>)]
    user_agent: Disclosed<String>,
}

/// List one's own sessions that have not ended, newest first.
#[utoipa::path(
    get, path = "/api/v1/auth/sessions", tag = "auth", operation_id = "list_sessions",
    responses(
        (status = 200, body = Listing<Session>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn sessions(State(state): State<AppState>, SignedIn(principal): SignedIn) -> Result<Response> {
    let Some(user) = principal.account() else { return Err(Problem::no_account()) };
    let current = principal.session().map(|(_, session)| session);
    let mut tx = TenantTx::begin(state.store().database().app(), &principal.schema(), Access::Read).await?;
    let rows = users::sessions(&mut tx, user.0).await?;
    tx.release();
    let session = |row: SessionRow| Session {
        id: row.session_id,
        current: current.is_some_and(|current| current.0 == row.session_id),
        started_at: row.started_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        ip: row.ip,
        user_agent: row.user_agent,
    };
    respond::json(&Listing { items: rows.into_iter().map(session).collect(), next_cursor: None })
}
