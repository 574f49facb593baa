//! `GET /audit/keys`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        problem::{ProblemBody, Result},
        respond,
    },
    ledger,
};

/// The keys that checkpoints are checked with.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditKeys {
    /// What checkpoints of this log, and its keys, are named.
    origin: String,
    /// Those that sign or signed the log's checkpoints, oldest first.
    keys: Vec<AuditKey>,
    /// Those of the log of all logs' heads (`/audit/head`).
    head_log_keys: Vec<AuditKey>,
}

/// A key.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditKey {
    /// The key, as C2SP signed-note writes it: `<name>+<hash>+<base64>`.
    vkey: String,
    /// Since when it has signed.
    first_used_at: Option<DateTime<Utc>>,
    /// Whether it signs now.
    live: bool,
}

impl From<ledger::VerifierKey> for AuditKey {
    fn from(key: ledger::VerifierKey) -> Self {
        Self { vkey: key.vkey, first_used_at: key.first_used_at, live: key.live }
    }
}

/// The public keys that sign, and signed, the log's checkpoints. While keys are rotated two sign each.
#[utoipa::path(
    get, path = "/api/v1/audit/keys", tag = "audit", operation_id = "audit_keys",
    responses(
        (status = 200, body = AuditKeys),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn keys(State(state): State<AppState>, call: CallContext) -> Result<Response> {
    let ledger = state.ledger();
    let of = |keys: Vec<ledger::VerifierKey>| keys.into_iter().map(AuditKey::from).collect();
    respond::json(&AuditKeys {
        origin: ledger.origin(&call.schema).await?,
        keys: of(ledger.verifier_keys(&call.schema).await?),
        head_log_keys: of(ledger.head_log_keys().await?),
    })
}
