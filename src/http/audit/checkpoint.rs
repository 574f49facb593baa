//! `GET /audit/checkpoint`

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::header;

use super::{NOTE, not_yet};
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        problem::{ProblemBody, Result},
    },
};

/// The last signed head of the log: a note (C2SP tlog-checkpoint, signed-note).
///
/// This and what is below `tile/` are a log in the layout of C2SP tlog-tiles, with `/api/v1/audit/` as its prefix. The
/// index of a leaf is its event's position less one.
#[utoipa::path(
    get, path = "/api/v1/audit/checkpoint", tag = "audit", operation_id = "audit_checkpoint",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "None is signed yet"),
    ),
)]
pub async fn checkpoint(State(state): State<AppState>, call: CallContext) -> Result<Response> {
    let checkpoint = state.ledger().latest(&call.schema).await?.ok_or_else(not_yet)?;
    Ok(([(header::CONTENT_TYPE, NOTE)], checkpoint.note).into_response())
}
