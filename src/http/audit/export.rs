//! `GET /audit/export`: the log as a file, written as it is read.
//!
//! That it begins is an event before its first byte, that it is over is one after its last and before the answer ends: an
//! answer that ended well was noted, and one that broke off is unfinished, for whoever asks for the rest. Its end is
//! noted as not whole where the rest will not be had the same way: the caller is not let in any more, or the log is not
//! what it was.

use axum::{extract::State, response::Response};
use daybook_domain::{AuditExportId, audit_export::ExportFilter};
use http::Method;
use uuid::Uuid;

use super::{
    events,
    sending::{self, Sent},
};
use crate::{
    app::AppState,
    auth::watch::Watched,
    export::{self, Ask, Encoder, Export, FileFormat, Range},
    http::{
        context::CommandContext,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        retained,
    },
};

/// Which part of the log, and as what.
#[derive(Debug)]
pub struct Question {
    format: FileFormat,
    ask: Ask,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let missing = || Problem::field("?format", "required", "this parameter is required");
        let format = params.one_of("format", FileFormat::NAMES)?.ok_or_else(missing)?;
        let format = FileFormat::parse(&format).ok_or_else(missing)?;
        let until = params.optional::<i64>("until")?;
        if until.is_some_and(|until| until < 0) {
            return Err(Problem::field("?until", "out_of_range", "a position is not negative"));
        }
        let filter = events::filter(params)?;
        let ask = Ask {
            after: filter.after,
            until,
            filter: ExportFilter {
                event_type: filter.event_type,
                actor: filter.actor,
                aggregate_type: filter.aggregate_type,
                aggregate_id: filter.aggregate_id,
                from: filter.from,
                to: filter.to,
            },
        };
        // It is written down for ever: nothing of it may be anybody's name or address.
        ask.filter.check()?;
        Ok(Self { format, ask })
    }
}

/// A part of the log as a file: CSV, JSON lines (each an item of `GET /audit/events`) or Parquet. What is exported is fixed
/// when it begins; `X-Export-Until` says where it ends. Cut off, it is resumed with `after` the last position that was
/// seen and the same `until`. Needs a plan that has exports, or had them until two weeks ago. It is in the log itself.
#[utoipa::path(
    get, path = "/api/v1/audit/export", tag = "audit", operation_id = "audit_export",
    params(
        ("format" = String, Query, description = "`csv`, `ndjson` or `parquet`"),
        ("after" = Option<i64>, Query, description = "Only past this position"),
        ("until" = Option<i64>, Query, description = "Only up to this position; the log's last if left out"),
        ("type" = Option<String>, Query, description = "Only of this type (`booking.confirmed`)"),
        ("actor" = Option<String>, Query, description = "Only of this actor (`user:<id>`)"),
        ("aggregate" = Option<String>, Query, description = "Only of this aggregate: `<id>` or `<type>:<id>`"),
        ("from" = Option<String>, Query, description = "Only recorded at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only recorded before this date or instant"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, content(
            (String = "text/csv"), (String = "application/x-ndjson"), (String = "application/vnd.apache.parquet"),
        )),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn export(
    State(state): State<AppState>,
    method: Method,
    command: CommandContext,
    min: MinPosition,
    watched: Watched,
    Query(Question { format, ask }): Query<Question>,
) -> Result<Response> {
    let call = command.call.clone();
    let allowed = sending::allowed(&state, &method, &call).await?;
    let cut = allowed.cut;
    let mut tx = position::read(&state, &call, min).await?;
    retained::reaches(&mut tx, ask.filter.to, cut).await?;
    retained::goes_on_from(&mut tx, ask.after, cut).await?;
    if let Some(until) = ask.until.filter(|until| *until > 0) {
        retained::holds(&mut tx, until, cut).await?;
    }
    let range = Range::of(&mut tx, &ask, cut).await?;
    tx.release();

    let id = AuditExportId(Uuid::now_v7());
    let metadata = command.metadata(None)?;
    let encoder = Encoder::new(format).map_err(Problem::internal)?;
    let store = state.store();
    let export = Export::new(store, &call.schema, range, &ask.filter, cut, encoder);
    let started =
        export::start(store, &call.schema, id, format.recorded(), range, ask.filter, metadata.clone())
            .await?;
    let (slug, extension) = (&allowed.slug, format.recorded().as_str());
    let sent = Sent {
        id,
        range,
        name: format!("{slug}-audit-{}-{}.{extension}", range.after, range.until),
        content_type: format.content_type(),
        position: started.last_position,
    };
    sending::answer(&state, call.schema, metadata, watched, allowed, export, sent)
}
