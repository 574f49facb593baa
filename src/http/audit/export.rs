//! `GET /audit/export`: the log as a file, written as it is read.
//!
//! That it begins is an event before its first byte, that it is over is one after its last and before the answer ends: an
//! answer that ended well was noted, and one that broke off is unfinished, for whoever asks for the rest. Its end is
//! noted as not whole where the rest will not be had the same way: the caller is not let in any more, or the log is not
//! what it was.

use std::time::{Duration, Instant};

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse as _, Response},
};
use daybook_domain::{AuditExportId, audit_export::ExportFilter, envelope::Metadata, registry::AnyEvent};
use daybook_projections::Schema;
use futures_util::stream;
use http::{HeaderValue, Method, header};
use uuid::Uuid;

use super::events;
use crate::{
    app::AppState,
    auth::watch::Watched,
    export::{self, Ask, Encoder, Export, ExportError, FileFormat, Range},
    http::{
        context::CommandContext,
        disclosure::{self, Disclosure},
        headers::{X_EXPORT_ID, X_EXPORT_UNTIL, X_LOG_POSITION},
        position::{self, MinPosition},
        problem::{Code, Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond::Surprise,
        retained,
    },
    limits::streams::Place,
};

/// How often the credential is looked at again.
const RECHECK: Duration = Duration::from_millis(150);
/// The longest actor that events have.
const MAX_ACTOR: usize = 100;

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

/// `user:<id>`, `system:hold-expiry`, `cli`.
fn is_actor(text: &str) -> bool {
    text.len() <= MAX_ACTOR
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":-_".contains(&byte))
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
    // Nothing would be handed out, and an export written down that never ends.
    if method == Method::HEAD {
        return Err(Problem::new(Code::MethodNotAllowed, "An export has no answer without a body.")
            .with_header(header::ALLOW, HeaderValue::from_static("GET")));
    }
    // The gate lets nobody through from whom anything is hidden; a file would show it.
    if disclosure::current() != Disclosure::Clear {
        return Err(Problem::not_in_masquerade());
    }
    let call = command.call.clone();
    let tenant = state.auth().active_tenant(call.caller.tenant).await?.ok_or_else(Problem::not_found)?;
    let now = tenant.retention.now();
    if tenant.retention.export_right(now).is_none() {
        return Err(Problem::new(Code::PlanLimit, "The plan has no exports of the log."));
    }
    let cut = tenant.retention.cut(now);
    let place = state.streams().enter_export(call.caller.tenant)?;
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
    let name =
        format!("{}-audit-{}-{}.{}", tenant.slug, range.after, range.until, format.recorded().as_str());
    let sending = Sending {
        state: state.clone(),
        schema: call.schema,
        id,
        metadata,
        export,
        watched,
        checked: Instant::now(),
        over: false,
        _place: place,
    };
    let parts = stream::unfold(sending, |mut sending| async move {
        let part = sending.next().await?;
        Some((part, sending))
    });
    let mut response = Body::from_stream(parts).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    let disposition = format!("attachment; filename=\"{name}\"");
    headers
        .insert(header::CONTENT_DISPOSITION, HeaderValue::try_from(disposition).map_err(Problem::internal)?);
    headers.insert(X_EXPORT_ID, HeaderValue::try_from(id.to_string()).map_err(Problem::internal)?);
    headers.insert(X_EXPORT_UNTIL, HeaderValue::from(range.until));
    headers.insert(X_LOG_POSITION, HeaderValue::from(started.last_position));
    Ok(retained::mark(response, cut))
}

/// An export on its way.
struct Sending {
    state: AppState,
    schema: Schema,
    id: AuditExportId,
    metadata: Metadata,
    export: Export,
    watched: Watched,
    /// When the credential was last looked at.
    checked: Instant,
    over: bool,
    _place: Place,
}

impl Sending {
    /// The next bytes; `None` once its end is noted. An error breaks the answer off, so that nobody takes it for whole.
    async fn next(&mut self) -> Option<Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> {
        if self.over {
            return None;
        }
        match self.go_on().await {
            Ok(Some(bytes)) => Some(Ok(bytes)),
            Ok(None) => {
                self.over = true;
                None
            }
            Err(error) => {
                self.over = true;
                tracing::warn!(id = %self.id, error = &*error as &dyn std::error::Error, "an export breaks off");
                Some(Err(error))
            }
        }
    }

    async fn go_on(&mut self) -> Result<Option<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        loop {
            // Another node goes on from where the caller is.
            if self.state.closing().is_cancelled() {
                return Err(Box::new(Surprise("the server stops")));
            }
            if self.checked.elapsed() >= RECHECK {
                let asked = Instant::now();
                if self
                    .watched
                    .still(&self.state)
                    .await
                    .map_err(|_| Surprise("nobody can say who asks"))?
                    .is_none()
                {
                    self.end(false).await?;
                    return Err(Box::new(Surprise("whoever asked is not let in any more")));
                }
                self.checked = asked;
            }
            match self.export.next().await {
                Ok(Some(part)) if part.bytes.is_empty() => {}
                Ok(Some(part)) => return Ok(Some(part.bytes)),
                Ok(None) => {
                    self.end(true).await?;
                    return Ok(None);
                }
                Err(error @ (ExportError::Missing(_) | ExportError::Format(_))) => {
                    self.end(false).await?;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn end(&self, complete: bool) -> Result<(), crate::eventstore::StoreError> {
        let (rows, last) = self.export.progress();
        // All that was asked for was looked at, also where the last of it is of no interest.
        let handed = (rows, last, complete);
        export::end(self.state.store(), &self.schema, self.id, handed, self.metadata.clone()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_no_name_and_no_address() {
        for actor in ["user:01a1fdc1-c481-719a-9803-a3bb46f22c94", "system:hold-expiry", "cli"] {
            assert!(is_actor(actor), "{actor}");
        }
        for wrong in ["ada@example.org", "Ada", "ada lovelace", "\u{e9}"] {
            assert!(!is_actor(wrong), "{wrong}");
        }
    }
}
