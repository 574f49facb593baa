//! `POST /hijacks/{id}/stop`

use axum::{extract::State, response::Response};
use daybook_domain::HijackId;

use super::{HijackBody, Hijacker, get::schema_of};
use crate::{
    app::AppState,
    http::{
        path::Id,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// End somebody's hijack: one in one's tenant as an owner or a manager, or any as one of those who manage the platform's
/// people. Its token is refused from then on, and what it streams is cut.
#[utoipa::path(
    post, path = "/api/v1/hijacks/{id}/stop", tag = "hijack", operation_id = "end_hijack",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = HijackBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn end(
    State(state): State<AppState>,
    hijacker: Hijacker,
    Id(id): Id<HijackId>,
) -> Result<Response> {
    let (schema, tenant) = schema_of(&state, hijacker.principal.tenant, id).await?;
    let committed = hijacker.end(&state, &schema, id).await?;
    respond::done(&committed, &HijackBody { tenant, ..HijackBody::of(&committed)? })
}
