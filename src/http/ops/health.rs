//! `GET /healthz`: the process runs. Says nothing of the database.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::{problem::Result, respond};

/// That it runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
}

/// Whether the process runs.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", operation_id = "health", security(()),
    responses((status = 200, body = Health)),
)]
pub async fn health() -> Result<Response> {
    respond::json(&Health { status: "ok" })
}
