//! `GET /audit/proof/inclusion`

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{all_hex, clear_only, leaves};
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        problem::{ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
};

/// Of which position, in which tree.
#[derive(Debug)]
pub struct Question {
    position: u64,
    size: Option<u64>,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self {
            position: leaves("position", params.required("position")?, 1)?,
            size: params.optional("size")?.map(|size| leaves("size", size, 1)).transpose()?,
        })
    }
}

/// That an event is in the log, by RFC 6962. Hashes are in hex.
#[derive(Debug, Serialize, ToSchema)]
pub struct InclusionProof {
    /// The event's position.
    position: u64,
    /// The index of its leaf: one less.
    leaf_index: u64,
    /// The leaf's hash.
    leaf_hash: String,
    /// The tree: so many leaves.
    tree_size: u64,
    /// Its root.
    root_hash: String,
    /// The audit path, from the leaf upwards.
    proof: Vec<String>,
    /// The last signed checkpoint: of this tree, or of one that goes on from it.
    checkpoint: String,
}

/// The proof that an event is in the log.
#[utoipa::path(
    get, path = "/api/v1/audit/proof/inclusion", tag = "audit", operation_id = "audit_inclusion",
    params(
        ("position" = i64, Query, minimum = 1, description = "The event's position"),
        ("size" = Option<i64>, Query, minimum = 1, description = "The size of the tree it is in; that of the last checkpoint if left out"),
    ),
    responses(
        (status = 200, body = InclusionProof),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "Not under a signed checkpoint yet"),
    ),
)]
pub async fn inclusion(
    State(state): State<AppState>,
    call: CallContext,
    Query(question): Query<Question>,
) -> Result<Response> {
    clear_only()?;
    let found = state.ledger().inclusion(&call.schema, question.position, question.size).await?;
    respond::json(&InclusionProof {
        position: found.position,
        leaf_index: found.position - 1,
        leaf_hash: hex::encode(found.leaf_hash),
        tree_size: found.size,
        root_hash: hex::encode(found.root),
        proof: all_hex(&found.proof),
        checkpoint: found.checkpoint.note,
    })
}
