//! `GET /audit/errors`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_projections::request_errors::{self, RequestErrorFilter, RequestErrorRow};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, retained,
    },
};

/// Which errors, and which page of them.
#[derive(Debug)]
pub struct Question {
    filter: RequestErrorFilter,
    page: Page,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let status = match params.optional::<i64>("status")? {
            None => None,
            Some(status @ 400..=599) => i32::try_from(status).ok(),
            Some(_) => return Err(Problem::field("?status", "out_of_range", "an error is 400 to 599")),
        };
        let filter = RequestErrorFilter {
            actor: params.text("actor")?,
            status,
            code: params.text("code")?,
            from: params.optional::<Moment>("from")?.map(|moment| moment.0),
            to: params.optional::<Moment>("to")?.map(|moment| moment.0),
        };
        Ok(Self { filter, page })
    }
}

/// A request that failed or was refused, or several that are alike.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestError {
    /// When it began; of several, the first.
    at: DateTime<Utc>,
    /// Its id, as in `X-Request-Id`; of several, the first's.
    request_id: Uuid,
    /// Its method; `several` where too many differ.
    method: String,
    /// The template of its route, nothing of what was asked; `several` where too many differ.
    #[schema(example = "/api/v1/bookings/{id}")]
    route: String,
    /// The status of the answer.
    status: i32,
    /// The code of the problem.
    #[schema(example = "slot_taken")]
    code: String,
    /// Who asked (`user:<id>`, `key:<id>`); null for nobody who is known.
    actor: Option<String>,
    /// As whom, while hijacking.
    on_behalf_of: Option<String>,
    /// How many requests it stands for: when there are many in a minute, those that are alike are counted together.
    times: i32,
}

impl From<RequestErrorRow> for RequestError {
    fn from(row: RequestErrorRow) -> Self {
        let RequestErrorRow { at, request_id, method, route, status, code, actor, on_behalf_of, times } = row;
        Self { at, request_id, method, route, status, code, actor, on_behalf_of, times }
    }
}

/// Requests of the tenant that failed (5xx), and refusals that matter (401, 403, 409, 410, 422, 429), newest first, as far
/// back as the plan keeps history. One is listed about a second after it was answered, and where it is counted, within two
/// minutes.
#[utoipa::path(
    get, path = "/api/v1/audit/errors", tag = "audit", operation_id = "audit_errors",
    params(
        ("actor" = Option<String>, Query, description = "Only of this actor (`key:<id>`)"),
        ("status" = Option<i64>, Query, description = "Only of this status"),
        ("code" = Option<String>, Query, description = "Only of this code (`slot_taken`)"),
        ("from" = Option<String>, Query, description = "Only at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Listing<RequestError>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    Query(Question { mut filter, page }): Query<Question>,
) -> Result<Response> {
    let scope = format!("errors {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let past: Option<(DateTime<Utc>, Uuid)> = cursors.decode(&page)?;
    // A month is dropped as a whole; what of it is past retention is not shown until then.
    let cut = retained::cut(&state, &call).await?;
    filter.from = Some(filter.from.map_or(cut, |from| from.max(cut)));
    let mut tx = position::read(&state, &call, MinPosition(None)).await?;
    retained::reaches(&mut tx, filter.to, cut).await?;
    let rows = request_errors::page(&mut tx, &filter, past, page.fetch()).await?;
    tx.release();
    let answer =
        respond::json(&cursors.page(&page, rows, |last| (last.at, last.request_id), RequestError::from))?;
    Ok(retained::mark(answer, cut))
}
