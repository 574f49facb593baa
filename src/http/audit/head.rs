//! `GET /audit/head`

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{all_hex, not_yet};
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// That the log's head is in the log of all logs' heads. Hashes are in hex, trees those of RFC 6962.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeadInclusion {
    /// The last checkpoint of the log of heads: a note.
    checkpoint: String,
    /// Its last entry, which is the leaf: when it was made, how many heads and alarms there were, and the root of a tree
    /// over the heads.
    entry: String,
    /// The entry's index in the log of heads.
    entry_index: u64,
    /// The entry's audit path there.
    entry_proof: Vec<String>,
    /// This log's head, which is a leaf of that tree: its origin, size and root, and as `alarms` what was found wrong.
    head: String,
    /// The head's index in that tree.
    head_index: u64,
    /// How many heads are in it.
    head_count: u64,
    /// The head's audit path there.
    head_proof: Vec<String>,
}

/// The proof that this log's head is in the log of all logs' heads, which is signed once a minute and copied elsewhere: a log
/// that vanished or shrank would be missed there.
#[utoipa::path(
    get, path = "/api/v1/audit/head", tag = "audit", operation_id = "audit_head",
    responses(
        (status = 200, body = HeadInclusion),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "Not named there yet"),
    ),
)]
pub async fn head(State(state): State<AppState>, call: CallContext) -> Result<Response> {
    let found = state.ledger().head_proof(&call.schema).await?.ok_or_else(not_yet)?;
    respond::json(&HeadInclusion {
        checkpoint: found.checkpoint.note,
        entry: found.entry,
        entry_index: found.entry_index,
        entry_proof: all_hex(&found.entry_proof),
        head: found.head,
        head_index: found.head_index,
        head_count: found.head_count,
        head_proof: all_hex(&found.head_proof),
    })
}
