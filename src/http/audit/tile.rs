//! `GET /audit/tile/…`

use axum::{
    extract::{RawPathParams, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};

use super::clear_only;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        retained,
    },
    ledger::{
        path::{Resource, TilePath},
        tree::TILE_WIDTH,
    },
};

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A tile of the tree, or a bundle of leaves, as C2SP tlog-tiles addresses them: `tile/0/x001/234`, `tile/1/000.p/17`,
/// `tile/entries/000.p/5`. A tile is up to 256 hashes; in a bundle each leaf follows its length in two bytes. Hashes stay
/// for ever; a bundle whose first leaf is past what the plan keeps is 410.
#[utoipa::path(
    get, path = "/api/v1/audit/tile/{*path}", tag = "audit", operation_id = "audit_tile",
    params(("path" = String, Path, description = "`<level>/<number>`, or `entries/<number>`; then `.p/<width>` of one that is not full")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "Not under a signed checkpoint yet"),
    ),
)]
pub async fn tile(
    State(state): State<AppState>,
    call: CallContext,
    params: RawPathParams,
) -> Result<Response> {
    clear_only()?;
    let path = params.iter().find(|(name, _)| *name == "path").and_then(|(_, text)| TilePath::parse(text));
    let path = path.ok_or_else(Problem::not_found)?;
    if let Resource::Entries(number) = path.resource {
        let first = number.saturating_mul(TILE_WIDTH).saturating_add(1);
        let cut = retained::cut(&state, &call).await?;
        let mut tx = position::read(&state, &call, MinPosition(None)).await?;
        // No log comes to a position that is none.
        retained::holds(&mut tx, i64::try_from(first).unwrap_or(i64::MAX), cut).await?;
        tx.release();
    }
    let bytes = state.ledger().resource(&call.schema, path).await?;
    Ok(([(header::CONTENT_TYPE, BYTES)], bytes).into_response())
}
