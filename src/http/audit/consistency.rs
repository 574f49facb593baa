//! `GET /audit/proof/consistency`

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{all_hex, clear_only, leaves};
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
};

/// Between which trees.
#[derive(Debug)]
pub struct Question {
    from: u64,
    to: Option<u64>,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let from = leaves("from", params.required("from")?, 0)?;
        let to = params.optional("to")?.map(|to| leaves("to", to, 0)).transpose()?;
        if to.is_some_and(|to| to < from) {
            return Err(Problem::field("?to", "out_of_range", "a tree goes on from a smaller one"));
        }
        Ok(Self { from, to })
    }
}

/// That one tree goes on from another, by RFC 6962. Hashes are in hex.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsistencyProof {
    /// The smaller tree: so many leaves.
    from: u64,
    /// Its root.
    from_root: String,
    /// The larger tree: so many leaves.
    to: u64,
    /// Its root.
    to_root: String,
    /// The proof.
    proof: Vec<String>,
    /// The last signed checkpoint: of the larger tree, or of one that goes on from it.
    checkpoint: String,
}

/// The proof that a tree goes on from an earlier one: that of a checkpoint somebody kept, as a rule.
#[utoipa::path(
    get, path = "/api/v1/audit/proof/consistency", tag = "audit", operation_id = "audit_consistency",
    params(
        ("from" = i64, Query, minimum = 0, description = "The size of the earlier tree"),
        ("to" = Option<i64>, Query, minimum = 0, description = "The size of the later one; that of the last checkpoint if left out"),
    ),
    responses(
        (status = 200, body = ConsistencyProof),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "Not under a signed checkpoint yet"),
    ),
)]
pub async fn consistency(
    State(state): State<AppState>,
    call: CallContext,
    Query(Question { from, to }): Query<Question>,
) -> Result<Response> {
    clear_only()?;
    let found = state.ledger().consistency(&call.schema, from, to).await?;
    respond::json(&ConsistencyProof {
        from: found.from,
        from_root: hex::encode(found.from_root),
        to: found.to,
        to_root: hex::encode(found.to_root),
        proof: all_hex(&found.proof),
        checkpoint: found.checkpoint.note,
    })
}
