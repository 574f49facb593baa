//! `GET /audit/export`: the log as a file, written as it is read.
//!
//! That it begins is an event before its first byte, that it is over is one after its last and before the answer ends: an
//! answer that ended well was noted, and one that broke off is unfinished, for whoever asks for the rest. Its end is
//! noted as not whole where the rest will not be had the same way: the caller is not let in any more, or the log is not
//! what it was.

use axum::{extract::State, response::Response};
use daybook_domain::{AuditExportId, audit_export::ExportFilter, registry::AnyEvent};
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
        path,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        retained,
    },
};

/// The longest name of a job that events have for an actor.
const MAX_ACTOR_WORD: usize = 40;

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
        // What is asked for is written down for ever: nothing of it may be anybody's name or address.
        let known = |name: &String| AnyEvent::types().iter().any(|(_, known, _)| known == name);
        if filter.event_type.as_ref().is_some_and(|name| !known(name)) {
            return Err(Problem::field("?type", "invalid_value", "there is no such type of event"));
        }
        if filter.actor.as_deref().is_some_and(|actor| !is_actor(actor)) {
            return Err(Problem::field("?actor", "invalid_value", "expected an actor as events have it"));
        }
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
        Ok(Self { format, ask })
    }
}

/// Whether it is of a form that events have: `user:<id>`, `guest:<digest>`, `system:hold-expiry`, `cli:import`, a side. What
/// is asked for stays in the log, so it is no place for words.
fn is_actor(text: &str) -> bool {
    let word = |text: &str| {
        !text.is_empty()
            && text.len() <= MAX_ACTOR_WORD
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    match text.split_once(':') {
        Some(("user" | "key" | "token", id)) => path::uuid(id).is_some(),
        Some(("guest", digest)) => {
            digest.len() == 32 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }
        Some(("system" | "cli", what)) => word(what),
        Some(_) => false,
        None => ["tenant", "platform", "operator"].contains(&text),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_no_name_and_no_address() {
        for actor in
            ["user:01a1fdc1-c481-719a-9803-a3bb46f22c94", "system:hold-expiry", "cli:import", "operator"]
        {
            assert!(is_actor(actor), "{actor}");
        }
        for wrong in ["ada@example.org", "Ada", "ada", "user:ada", "guest:ada", "ada lovelace", "\u{e9}"] {
            assert!(!is_actor(wrong), "{wrong}");
        }
    }
}
