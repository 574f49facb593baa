//! `GET /audit/bundle`: a range of the log with all that proves it, as one file, written as it is read.
//!
//! It is an export like any other: an event before its first byte, one after its last.

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use daybook_domain::{
    AuditExportId,
    audit_export::{ExportFilter, ExportFormat},
    registry::AggregateType,
};
use http::Method;
use uuid::Uuid;

use super::sending::{self, Sent};
use crate::{
    app::AppState,
    auth::{Principal, watch::Watched},
    bundle::export::{Ask, Bundle, BundleError},
    export::{self, ExportError, Range},
    http::{
        context::CommandContext,
        disclosure,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        retained,
    },
};

/// Which positions.
#[derive(Debug)]
pub struct Question {
    from: Option<i64>,
    to: Option<i64>,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let mut position = |name: &str| -> Result<Option<i64>> {
            let position = params.optional::<i64>(name)?;
            match position {
                Some(position) if position < 1 => {
                    Err(Problem::field(format!("?{name}"), "out_of_range", "a position is 1 or more"))
                }
                position => Ok(position),
            }
        };
        Ok(Self { from: position("from")?, to: position("to")? })
    }
}

/// Of which aggregates a caller may see the personal values.
fn disclosed_to(caller: &Principal) -> BTreeSet<AggregateType> {
    AggregateType::ALL.iter().copied().filter(|kind| disclosure::may_see(caller, *kind)).collect()
}

/// Why there is no bundle.
fn refusal(error: BundleError) -> Problem {
    match error {
        BundleError::Ledger(error) => error.into(),
        BundleError::Export(ExportError::Store(error)) => error.into(),
        error => Problem::internal(error),
    }
}

/// A range of the log as evidence that can be checked without us: a `.tar.gz` with the events as they were fixed, the
/// hash tree over them, the signed checkpoint of now, keys, the personal values that the caller may see with the salts of
/// their commitments, and the same events as CSV, JSON lines and Parquet. `README.txt` in it says how to check it with
/// public tools; `daybook audit verify` does so. Needs a plan that has exports, or had them until two weeks ago. It is in
/// the log itself. What was cut off is asked for again.
#[utoipa::path(
    get, path = "/api/v1/audit/bundle", tag = "audit", operation_id = "audit_bundle",
    params(
        ("from" = Option<i64>, Query, description = "From this position on; the first readable one if left out"),
        ("to" = Option<i64>, Query, description = "Up to this position; the log's last if left out"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = String, content_type = "application/gzip"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn bundle(
    State(state): State<AppState>,
    method: Method,
    command: CommandContext,
    min: MinPosition,
    watched: Watched,
    Query(Question { from, to }): Query<Question>,
) -> Result<Response> {
    let call = command.call.clone();
    let allowed = sending::allowed(&state, &method, &call).await?;
    let (cut, at) = (allowed.cut, allowed.now);
    let mut tx = position::read(&state, &call, min).await?;
    if let Some(from) = from {
        retained::holds(&mut tx, from, cut).await?;
    }
    if let Some(to) = to {
        retained::holds(&mut tx, to, cut).await?;
    }
    let filter = ExportFilter::default();
    let asked = export::Ask { after: from.map_or(0, |from| from - 1), until: to, filter };
    let range = Range::of(&mut tx, &asked, cut).await?;
    tx.release();
    if range.until <= range.after {
        return Err(Problem::field("?from", "out_of_range", "there is no event in this range"));
    }

    let id = AuditExportId(Uuid::now_v7());
    let metadata = command.metadata(None)?;
    let ask = Ask {
        range,
        disclose: disclosed_to(&call.caller.principal),
        exported_by: metadata.actor.clone(),
        export_id: id,
        at,
    };
    let mut bundle = Bundle::new(state.ledger(), &call.schema, ask);
    let store = state.store();
    let format = ExportFormat::Bundle;
    let started =
        export::start(store, &call.schema, id, format, range, asked.filter, metadata.clone()).await?;
    // Signed before anything is answered, so that whoever cannot have it is told why.
    if let Err(error) = bundle.prepare().await {
        export::end(store, &call.schema, id, (0, range.after, false), metadata).await?;
        return Err(refusal(error));
    }
    let (first, last) = (range.after + 1, range.until);
    let sent = Sent {
        id,
        range,
        name: format!("{}-audit-{first}-{last}.tar.gz", allowed.slug),
        content_type: "application/gzip",
        position: started.last_position,
    };
    sending::answer(&state, call.schema, metadata, watched, allowed, bundle, sent)
}
