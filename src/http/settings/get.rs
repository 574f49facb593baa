//! `GET /settings`

use axum::{extract::State, response::Response};
use daybook_projections::settings;

use super::SettingsBody;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Get the tenant's settings.
#[utoipa::path(
    get, path = "/api/v1/settings", tag = "settings", operation_id = "get_settings",
    params(("X-Min-Position" = Option<i64>, Header, description = "The position to have seen")),
    responses(
        (status = 200, body = SettingsBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(State(state): State<AppState>, call: CallContext, min: MinPosition) -> Result<Response> {
    let mut tx = position::read(&state, &call, min).await?;
    let row = settings::get(&mut tx).await?;
    tx.release();
    let version = row.version;
    respond::versioned(&SettingsBody::from(row), version)
}
