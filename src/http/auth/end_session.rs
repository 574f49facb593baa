//! `DELETE /auth/sessions/{id}`

use axum::{extract::State, response::Response};
use daybook_domain::{
    SessionId,
    user::{SessionEnd, UserCommand},
};

use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::OwnCommand,
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
    security_log::SecurityEventKind,
};

/// End one of one's own sessions; within a second its tokens work nowhere.
#[utoipa::path(
    delete, path = "/api/v1/auth/sessions/{id}", tag = "auth", operation_id = "end_session",
    params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "Ended"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn end_session(
    State(state): State<AppState>,
    own: OwnCommand,
    Id(session_id): Id<SessionId>,
) -> Result<Response> {
    let command = UserCommand::EndSession { session_id, why: SessionEnd::Revoked };
    let unit = own.unit(|user| Command::to(user, command));
    let committed = state.store().execute(&own.schema(), unit).await?;
    state
        .security_log()
        .record(own.security(SecurityEventKind::SessionRevoked).detail(format!("session {session_id}")));
    respond::archived(&committed)
}
