//! `GET /audit/api-calls`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::ApiKeyId;
use daybook_projections::api_calls::{self, ApiCallFilter, ApiCallRow};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, retained,
    },
};

/// Which calls, and which page of them.
#[derive(Debug)]
pub struct Question {
    filter: ApiCallFilter,
    page: Page,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = ApiCallFilter {
            api_key_id: params.optional::<ApiKeyId>("api_key_id")?.map(|key| key.0),
            from: params.optional::<Moment>("from")?.map(|moment| moment.0),
            to: params.optional::<Moment>("to")?.map(|moment| moment.0),
        };
        Ok(Self { filter, page })
    }
}

/// A call made with an API key.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiCall {
    /// When it began.
    at: DateTime<Utc>,
    /// Its id, as in `X-Request-Id`.
    request_id: Uuid,
    /// The key.
    api_key_id: Uuid,
    /// Its method.
    method: String,
    /// The template of its route; nothing of what was asked.
    #[schema(example = "/api/v1/bookings/{id}")]
    route: String,
    /// The status of the answer.
    status: i32,
    /// How long the answer took, in microseconds.
    latency_us: i32,
}

impl From<ApiCallRow> for ApiCall {
    fn from(row: ApiCallRow) -> Self {
        let ApiCallRow { at, request_id, api_key_id, method, route, status, latency_us } = row;
        Self { at, request_id, api_key_id, method, route, status, latency_us }
    }
}

/// Calls made with API keys, newest first, as far back as the plan keeps history. A call is listed about a second after
/// it was answered.
#[utoipa::path(
    get, path = "/api/v1/audit/api-calls", tag = "audit", operation_id = "audit_api_calls",
    params(
        ("api_key_id" = Option<Uuid>, Query, description = "Only with this key"),
        ("from" = Option<String>, Query, description = "Only at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Listing<ApiCall>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    Query(Question { mut filter, page }): Query<Question>,
) -> Result<Response> {
    let scope = format!("api calls {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let past: Option<(DateTime<Utc>, Uuid)> = cursors.decode(&page)?;
    // A month is dropped as a whole; what of it is past retention is not shown until then.
    let cut = retained::cut(&state, &call).await?;
    filter.from = Some(filter.from.map_or(cut, |from| from.max(cut)));
    let mut tx = position::read(&state, &call, MinPosition(None)).await?;
    retained::reaches(&mut tx, filter.to, cut).await?;
    let rows = api_calls::page(&mut tx, &filter, past, page.fetch()).await?;
    tx.release();
    let answer = respond::json(&cursors.page(&page, rows, |last| (last.at, last.request_id), ApiCall::from))?;
    Ok(retained::mark(answer, cut))
}
