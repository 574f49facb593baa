//! `GET /audit/events`

use axum::{extract::State, response::Response};
use daybook_domain::registry::AggregateType;
use daybook_projections::log::{self, LogFilter};
use uuid::Uuid;

use super::AuditPage;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Page},
        path,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, retained,
    },
};

/// Which events, and which page of them.
#[derive(Debug)]
pub struct Question {
    filter: LogFilter,
    page: Page,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        Ok(Self { filter: filter(params)?, page })
    }
}

/// Which events are wanted, as every read of the log takes it.
///
/// # Errors
/// `validation_failed` at the parameter that is wrong.
pub(super) fn filter(params: &mut Params<'_>) -> Result<LogFilter> {
    let after = params.optional::<i64>("after")?.unwrap_or(0);
    if after < 0 {
        return Err(Problem::field("?after", "out_of_range", "a position is not negative"));
    }
    let (aggregate_type, aggregate_id) = match params.text("aggregate")? {
        None => (None, None),
        Some(text) => {
            let (kind, id) = aggregate(&text).ok_or_else(|| {
                Problem::field(
                    "?aggregate",
                    "invalid_value",
                    "expected an id, or a type and an id as type:id",
                )
            })?;
            (kind.map(|kind| kind.as_str().to_owned()), Some(id))
        }
    };
    Ok(LogFilter {
        after,
        until: None,
        readable: None,
        event_type: params.text("type")?,
        actor: params.text("actor")?,
        aggregate_id,
        aggregate_type,
        from: params.optional::<Moment>("from")?.map(|moment| moment.0),
        to: params.optional::<Moment>("to")?.map(|moment| moment.0),
    })
}

fn aggregate(text: &str) -> Option<(Option<AggregateType>, Uuid)> {
    match text.split_once(':') {
        None => Some((None, path::uuid(text)?)),
        Some((kind, id)) => Some((Some(AggregateType::parse(kind)?), path::uuid(id)?)),
    }
}

/// Events of the log by position, from where the plan's history begins, which `X-Readable-From` says. To go on from a
/// position or a cursor whose next event is past that is 410, as is a time that ends before it.
#[utoipa::path(
    get, path = "/api/v1/audit/events", tag = "audit", operation_id = "audit_events",
    params(
        ("after" = Option<i64>, Query, description = "Only past this position"),
        ("type" = Option<String>, Query, description = "Only of this type (`booking.confirmed`)"),
        ("actor" = Option<String>, Query, description = "Only of this actor (`token:<id>`)"),
        ("aggregate" = Option<String>, Query, description = "Only of this aggregate: `<id>` or `<type>:<id>`"),
        ("from" = Option<String>, Query, description = "Only recorded at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only recorded before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = AuditPage),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn events(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(Question { mut filter, page }): Query<Question>,
) -> Result<Response> {
    let scope = format!("audit {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    if let Some(last) = cursors.decode(&page)? {
        filter.after = last;
    }
    let cut = retained::cut(&state, &call).await?;
    let mut tx = position::read(&state, &call, min).await?;
    retained::reaches(&mut tx, filter.to, cut).await?;
    filter.readable = Some(retained::readable(&state, &mut tx, &call.schema, cut).await?);
    let mut rows = log::page(&mut tx, &filter, page.fetch()).await?;
    // A cursor names a position as well: what followed it may be past the cut by now. Not where it is on the page.
    if rows.first().is_none_or(|row| row.position > filter.after.saturating_add(1)) {
        retained::goes_on_from(&mut tx, filter.after, cut).await?;
    }
    tx.release();
    let length = 1_000 + rows.len() * 1_400;
    let answer = respond::json_of_about(length, &AuditPage::new(&mut rows, &page, &cursors)?)?;
    Ok(retained::mark(answer, cut))
}
