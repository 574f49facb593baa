//! `GET /audit/stream`: the log as it is written, as server-sent events.
//!
//! Nothing is queued for a client: a page is read when the one before it has been taken, so who is slow costs a page of
//! memory, is left by the connection's write timeout, and comes back with `Last-Event-ID`. Positions are given out under
//! the lock of the log's head and become visible in their order, so to read on past the last position misses nothing,
//! whichever node wrote it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::{IntoResponse as _, Response},
};
use daybook_domain::{hijack::HijackEvent, masquerade::Viewed, support_session::SupportSessionEvent};
use daybook_projections::{
    Schema,
    log::{self, LogFilter, LogRow},
    positions,
};
use futures_util::stream;
use http::{HeaderName, HeaderValue, header};
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use super::AuditEvent;
use crate::{
    app::AppState,
    auth::{
        Principal,
        sightings::{self, Asked, Sight},
        watch::Watched,
    },
    http::{
        context::CallContext,
        disclosure::{self, Disclosure},
        headers::LAST_EVENT_ID,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        retained,
    },
    limits::streams::Place,
};

/// The most events read at once.
const PAGE: usize = 100;
/// How often the credential is looked at again. The directory's answer may be 400 ms old, in a support session or a hijack
/// twice that: together less than a second.
const RECHECK: Duration = Duration::from_millis(150);
/// How often the log is asked for what other nodes wrote, and a client told of positions that hold nothing for it.
const POLL: Duration = Duration::from_secs(1);
/// How often something is said where there is nothing to say: what stands between would take silence for death.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Tells proxies of nginx's kind not to wait for more.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Which events, and from where on.
#[derive(Debug)]
pub struct Question {
    after: Option<i64>,
    filter: LogFilter,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let after = params.optional::<i64>("after")?;
        if after.is_some_and(|after| after < 0) {
            return Err(Problem::field("?after", "out_of_range", "a position is not negative"));
        }
        let filter = LogFilter {
            event_type: params.text("type")?,
            actor: params.text("actor")?,
            ..LogFilter::default()
        };
        Ok(Self { after, filter })
    }
}

/// The position a client was told last, if it says.
#[derive(Clone, Copy, Debug)]
pub struct LastEventId(Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let mut values = parts.headers.get_all(LAST_EVENT_ID).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            let none = !parts.headers.contains_key(LAST_EVENT_ID);
            return if none { Ok(Self(None)) } else { Err(not_a_position()) };
        };
        value
            .to_str()
            .ok()
            // Only as it was told: the parser also takes a plus sign.
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .map(|position| Self(Some(position)))
            .ok_or_else(not_a_position)
    }
}

fn not_a_position() -> Problem {
    Problem::malformed("Last-Event-ID must be a position in the log.")
}

/// Events of the log as they are written, by position: each with its position as `id`, its type as `event`, and as
/// `data` what `GET /audit/events` has as an item. From `Last-Event-ID` on, else from `after`, else from now. An `id`
/// alone says that there is nothing for the client up to there. It ends within a second of the credential, and before it
/// would pass over what the plan keeps no more: to go on from there is 410.
#[utoipa::path(
    get, path = "/api/v1/audit/stream", tag = "audit", operation_id = "audit_live",
    params(
        ("after" = Option<i64>, Query, description = "Only past this position; not beyond the log's own"),
        ("type" = Option<String>, Query, description = "Only of this type (`booking.confirmed`)"),
        ("actor" = Option<String>, Query, description = "Only of this actor (`key:<id>`)"),
        ("Last-Event-ID" = Option<i64>, Header, description = "The last `id` that was seen; counts before `after`"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Server-sent events, without an end"),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn live(
    State(state): State<AppState>,
    call: CallContext,
    watched: Watched,
    asked: Option<Extension<Asked>>,
    LastEventId(last): LastEventId,
    Query(Question { after, mut filter }): Query<Question>,
) -> Result<Response> {
    let place = state.streams().enter(&call.caller)?;
    // Before the log is read: what is written meanwhile is then news.
    let head_moves = state.store().head_watch(&call.schema);
    let cut = retained::cut(&state, &call).await?;
    let mut tx = position::read(&state, &call, MinPosition(None)).await?;
    let head = positions::head(&mut tx).await?;
    filter.after = match (last, after) {
        // To wait for a position that nobody was told yet would hide what is written until then.
        (Some(last), _) if last > head => return Err(not_a_position()),
        (None, Some(after)) if after > head => {
            return Err(Problem::field("?after", "out_of_range", "the log has not reached this position"));
        }
        (Some(after), _) | (None, Some(after)) => after,
        (None, None) => head,
    };
    // What was told last has been followed by something that nobody can be told any more: that is no place to go on from.
    retained::goes_on_from(&mut tx, filter.after, cut).await?;
    tx.release();
    let now = Instant::now();
    let live = Live {
        schema: call.schema,
        caller: call.caller.principal,
        shown_to: asked.map(|Extension(asked)| asked),
        // Whoever is cut off before the first event knows where to go on.
        ready: VecDeque::from([Bytes::from(format!("retry: 1000\nid: {}\n\n", filter.after))]),
        told: filter.after,
        filter,
        watched,
        head_moves,
        behind: true,
        checked: now,
        asked: now,
        said: now,
        state,
        _place: place,
    };
    let frames = stream::unfold(live, |mut live| async move {
        let frame = live.next().await?;
        Some((Ok::<_, Infallible>(frame), live))
    });
    let headers = [(header::CONTENT_TYPE, EVENT_STREAM), (X_ACCEL_BUFFERING, HeaderValue::from_static("no"))];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// A stream in progress.
struct Live {
    state: AppState,
    schema: Schema,
    watched: Watched,
    /// The caller, as they were when they were last looked at.
    caller: Arc<Principal>,
    /// What is written down of what they are shown, in a support session or a hijack.
    shown_to: Option<Asked>,
    /// What is wanted; past the position that was read last.
    filter: LogFilter,
    /// Of the page that was read last, what the client has not taken yet.
    ready: VecDeque<Bytes>,
    head_moves: watch::Receiver<i64>,
    /// There is, or may be, more to read than was read.
    behind: bool,
    /// The position in the last `id`.
    told: i64,
    /// When the credential was last looked at.
    checked: Instant,
    /// When the log was last asked.
    asked: Instant,
    /// When something was last said.
    said: Instant,
    _place: Place,
}

impl Live {
    /// What the client gets next, once there is something; `None` is the end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.wait_for_more().await {
            Ok(next) => next,
            Err(problem) => {
                // Its head was sent long ago. Whoever reads on asks again, and is told.
                tracing::warn!(?problem, "a stream of the log ends early");
                None
            }
        }
    }

    async fn wait_for_more(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.state.closing().is_cancelled() {
                return Ok(None);
            }
            if self.checked.elapsed() >= RECHECK && !self.check().await? {
                return Ok(None);
            }
            if !self.caller.lasts() {
                return Ok(None);
            }
            if let Some(frame) = self.ready.pop_front() {
                self.said = Instant::now();
                return Ok(Some(frame));
            }
            if self.behind || self.asked.elapsed() >= POLL {
                let rows = self.read().await?;
                if !rows.is_empty() && !self.show(&rows).await? {
                    return Ok(None);
                }
                continue;
            }
            let silence = self.said.elapsed();
            if silence >= KEEP_ALIVE || (silence >= POLL && self.filter.after > self.told) {
                self.told = self.filter.after;
                self.said = Instant::now();
                return Ok(Some(format!(": still here\nid: {}\n\n", self.told).into()));
            }
            self.pause().await;
        }
    }

    /// Whether the caller may still be told anything.
    async fn check(&mut self) -> Result<bool> {
        // Under the time before the question: the answer is at least as new as that.
        let asked = Instant::now();
        let Some(still) = self.watched.still(&self.state).await? else { return Ok(false) };
        self.checked = asked;
        self.caller = still;
        Ok(true)
    }

    /// The next page, which may be empty.
    async fn read(&mut self) -> Result<Vec<LogRow>> {
        self.asked = Instant::now();
        self.head_moves.mark_unchanged();
        let cut = retained::cut_of(&self.state, &self.schema).await?;
        let mut tx = position::read_in(&self.state, &self.schema, MinPosition(None)).await?;
        self.filter.readable = Some(retained::readable(&self.state, &mut tx, &self.schema, cut).await?);
        // The head first: what is written between the two is on the page or past this head, never skipped.
        let head = positions::head(&mut tx).await?;
        // Whoever was too slow for what the plan keeps is told so when they come back, and nothing is passed over.
        retained::goes_on_from(&mut tx, self.filter.after, cut).await?;
        let rows = log::page(&mut tx, &self.filter, i64::try_from(PAGE).unwrap_or(i64::MAX)).await?;
        tx.release();
        self.behind = rows.len() == PAGE;
        let last = rows.last().map_or(self.filter.after, |row| row.position);
        self.filter.after = if self.behind { last } else { last.max(head) };
        Ok(rows)
    }

    /// Makes a page ready to be sent: every event that a client is sent comes through here, right before it. Whether
    /// the caller may still be told is asked once more; `false` when not, and nothing of it is sent.
    async fn show(&mut self, rows: &[LogRow]) -> Result<bool> {
        if !self.check().await? {
            return Ok(false);
        }
        let shown = Disclosure::to(&self.caller);
        let (frames, about) = disclosure::scope(shown, async { frames(rows) }).await?;
        self.note(about).await?;
        self.ready.extend(frames);
        self.told = rows.last().map_or(self.told, |row| row.position);
        Ok(true)
    }

    /// Writes down that somebody who is not of the house is shown events about these aggregates.
    ///
    /// That is an event of this log itself, and so on a page to come. A page of nothing but such events is not written
    /// down, or two who watch would have each other to watch for ever.
    async fn note(&self, about: Vec<Uuid>) -> Result<()> {
        let (Some(asked), Some(within)) = (&self.shown_to, self.caller.within()) else { return Ok(()) };
        if about.is_empty() {
            return Ok(());
        }
        let viewed = Viewed { route: asked.route.clone(), status: 200, resource_ids: about, more: false };
        let sight = Sight::Viewed(viewed);
        sightings::note(&self.state, &self.caller, within, sight, asked.metadata.clone()).await
    }

    /// Waits until the log moves or it is time to look at something.
    async fn pause(&mut self) {
        let until = RECHECK
            .saturating_sub(self.checked.elapsed())
            .min(POLL.saturating_sub(self.asked.elapsed()))
            .min(KEEP_ALIVE.saturating_sub(self.said.elapsed()));
        tokio::select! {
            Ok(()) = self.head_moves.changed() => self.behind = true,
            () = sleep(until) => {}
            () = self.state.closing().cancelled() => {}
        }
    }
}

/// A page as it is sent, and what it is about beside what others were shown.
fn frames(rows: &[LogRow]) -> Result<(Vec<Bytes>, Vec<Uuid>)> {
    let mut frames = Vec::with_capacity(rows.len());
    let mut about = Vec::new();
    for row in rows {
        let event = AuditEvent::read(row)?;
        let data = disclosure::serialising(|| serde_json::to_string(&event)).map_err(Problem::internal)?;
        // A line of each: JSON has no line breaks of its own, and neither have types.
        let event_type = event.event_type.get();
        frames.push(format!("id: {}\nevent: {event_type}\ndata: {data}\n\n", row.position).into());
        let of_others = [SupportSessionEvent::VIEWED, HijackEvent::VIEWED].contains(&event_type.as_ref());
        if !of_others && !about.contains(&event.aggregate_id) {
            about.push(event.aggregate_id);
        }
    }
    Ok((frames, about))
}
