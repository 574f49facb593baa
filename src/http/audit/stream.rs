//! `GET /audit/streams/{type}/{id}`

use axum::{
    extract::{RawPathParams, State},
    response::Response,
};
use daybook_domain::registry::AggregateType;
use daybook_projections::log::{self, LogFilter};
use uuid::Uuid;

use super::AuditPage;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Page},
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond, retained,
    },
};

/// Which page.
#[derive(Debug)]
pub struct Question(Page);

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self(Page::take(params)?))
    }
}

/// Every event of one aggregate that the plan keeps, oldest first; 410 where it has some, and all are past that, and for
/// a cursor that goes on from there.
#[utoipa::path(
    get, path = "/api/v1/audit/streams/{type}/{id}", tag = "audit", operation_id = "audit_stream",
    params(
        ("type" = String, Path, description = "The type of the aggregate (`booking`)"),
        ("id" = Uuid, Path),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = AuditPage),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn stream(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Id(id): Id<Uuid>,
    params: RawPathParams,
    Query(Question(page)): Query<Question>,
) -> Result<Response> {
    let kind = params
        .iter()
        .find(|(name, _)| *name == "type")
        .and_then(|(_, text)| AggregateType::parse(text))
        .ok_or_else(Problem::not_found)?;
    let scope = format!("stream {kind} {id}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let after: Option<i64> = cursors.decode(&page)?;
    let cut = retained::cut(&state, &call).await?;
    let mut filter = LogFilter {
        after: after.unwrap_or(0),
        aggregate_id: Some(id),
        aggregate_type: Some(kind.as_str().to_owned()),
        ..LogFilter::default()
    };
    let mut tx = position::read(&state, &call, min).await?;
    retained::goes_on_from(&mut tx, filter.after, cut).await?;
    filter.readable = Some(retained::readable(&state, &mut tx, &call.schema, cut).await?);
    let mut rows = log::page(&mut tx, &filter, page.fetch()).await?;
    if rows.is_empty() && after.is_none() {
        let known = log::has_stream(&mut tx, kind.as_str(), id).await?;
        return Err(if known { retained::expired(cut) } else { Problem::not_found() });
    }
    tx.release();
    let length = 1_000 + rows.len() * 1_400;
    let answer = respond::json_of_about(length, &AuditPage::new(&mut rows, &page, &cursors)?)?;
    Ok(retained::mark(answer, cut))
}
