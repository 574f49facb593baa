//! `GET /api/schema/`: the OpenAPI document, made once from the handlers.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};

use crate::app::AppState;

/// This document.
#[utoipa::path(
    get, path = "/api/schema/", tag = "operations", operation_id = "schema", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")),
)]
pub async fn schema(State(state): State<AppState>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, state.openapi()).into_response()
}
