//! For those who run it: health, readiness, metrics and the API's own description. No credentials are asked for.

pub mod docs;
pub mod health;
pub mod metrics;
pub mod ready;
pub mod schema;

use axum::routing::get;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::AppState;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(ready::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(schema::schema))
        // A page for people is no part of the document that it shows.
        .route("/api/docs/", get(docs::index))
        .route("/api/docs/{*path}", get(docs::asset))
}
