//! `GET /audit/support` and `GET /audit/support/{id}`: who of those who are not of the house was in it, and what they saw
//! and did there.
//!
//! What was seen and done is read from the log itself: in its index by actor, from the first event of a session to its
//! end. Each event of it names the session as its cause.

use axum::{extract::State, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{
    Decider as _, Disclosed,
    hijack::{Hijack, HijackEvent},
    masquerade::{Denied, Viewed},
    support_session::{SupportSession, SupportSessionEvent},
};
use daybook_projections::{
    log::{self, LogFilter, LogRow},
    support_audit::{self, SupportAuditFilter, SupportAuditRow},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::AuditEvent;
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, retained,
        support::sessions::STATES,
    },
    tenancy::TenantTx,
};

const KINDS: &[&str] = &[SupportSession::TYPE, Hijack::TYPE];
/// What was seen and done of each session in the list; the rest is at its own address.
const FIRST: usize = 20;
/// The most sessions on a page.
const MOST: i64 = 50;
/// Events looked at in one statement.
const BATCH: i64 = 200;

/// Which sessions, and which page of them.
#[derive(Debug)]
pub struct List {
    filter: SupportAuditFilter,
    page: Page,
}

impl FromParams for List {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let filter = SupportAuditFilter {
            kind: params.one_of("kind", KINDS)?,
            state: params.one_of("state", STATES)?,
            user_id: params.optional("user_id")?,
            support_request_id: params.optional("request_id")?,
            id: None,
            from: params.optional::<Moment>("from")?.map(|moment| moment.0),
            to: params.optional::<Moment>("to")?.map(|moment| moment.0),
        };
        Ok(Self { filter, page })
    }
}

/// A support session or a hijack, with what was seen and done in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SupportAudit {
    /// Its id.
    id: Uuid,
    /// `support_session` or `hijack`.
    #[schema(example = "support_session")]
    kind: String,
    /// The account that was let in, or acted.
    user_id: Option<Uuid>,
    /// Of which side: `tenant` or `platform`.
    side: String,
    /// Whom it acted as, in a hijack.
    target: Option<Uuid>,
    /// The mode of a session (`redacted`), or by what a hijack was allowed (`window`).
    how: String,
    /// The support request whose window it is in.
    request_id: Option<Uuid>,
    /// Why.
    #[schema(value_type = Option<String>)]
    reason: Disclosed<String>,
    /// `open`, `ended` or `refused`.
    state: String,
    /// When it began, or was refused.
    started_at: DateTime<Utc>,
    /// When it ends by itself, or would have.
    expires_at: DateTime<Utc>,
    /// Why it was refused.
    refused: Option<String>,
    /// What ended it, once that is noted.
    end_cause: Option<String>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
    /// How many reads were answered in it.
    viewed: i32,
    /// How many requests were refused in it.
    denied: i32,
    /// What was seen and done in it, oldest first: the first of it.
    activity: Vec<Activity>,
    /// Whether there is more of it, at the session's own address.
    more: bool,
}

/// Something that was seen, done or refused in a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SupportActivity)]
pub struct Activity {
    /// Its position in the log.
    position: i64,
    /// When.
    at: String,
    /// `viewed`, `refused` or `done`.
    what: &'static str,
    /// The event's type (`support.viewed`, `booking.cancelled`).
    #[serde(rename = "type")]
    event_type: String,
    /// The template of the route, of what was seen or refused.
    route: Option<String>,
    /// The method, of what was refused.
    method: Option<String>,
    /// The status of the answer, of what was seen or refused.
    status: Option<u16>,
    /// The code of the refusal.
    code: Option<String>,
    /// What was seen, or what something was done to.
    resource_ids: Vec<Uuid>,
    /// Whether more was seen than is named.
    truncated: bool,
    /// The type of what something was done to.
    aggregate_type: Option<String>,
}

/// Support sessions and hijacks as far back as the plan keeps history, newest first, each with the first of what was seen and done in it.
#[utoipa::path(
    get, path = "/api/v1/audit/support", tag = "audit", operation_id = "audit_support",
    params(
        ("kind" = Option<String>, Query, description = "`support_session` or `hijack`"),
        ("state" = Option<String>, Query, description = "`open`, `ended` or `refused`"),
        ("user_id" = Option<Uuid>, Query, description = "Only of this account: of the platform, or one that hijacked"),
        ("request_id" = Option<Uuid>, Query, description = "Only in the window of this support request"),
        ("from" = Option<String>, Query, description = "Only begun at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only begun before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, of which 50 are answered at most"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<SupportAudit>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(List { mut filter, mut page }): Query<List>,
) -> Result<Response> {
    let scope = format!("audit of support {filter:?}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let past: Option<(DateTime<Utc>, Uuid)> = cursors.decode(&page)?;
    // Of each session the log is asked as well.
    page.limit = page.limit.min(MOST);
    let cut = retained::cut(&state, &call).await?;
    filter.from = Some(filter.from.map_or(cut, |from| from.max(cut)));
    let mut tx = position::read(&state, &call, min).await?;
    retained::reaches(&mut tx, filter.to, cut).await?;
    let rows = support_audit::list(&mut tx, &filter, past, page.fetch()).await?;
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        // The one row past the page says only that there is another.
        let activity =
            if items.len() < limit { activity(&mut tx, &row, None, FIRST + 1).await? } else { Vec::new() };
        items.push((row, activity));
    }
    tx.release();
    let key = |(row, _): &(SupportAuditRow, _)| (row.started_at, row.id);
    let listing = cursors.page(&page, items, key, |(row, activity)| body(row, activity));
    Ok(retained::mark(respond::json(&listing)?, cut))
}

/// Which page of what was seen and done.
#[derive(Debug)]
pub struct Question(Page);

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self(Page::take(params)?))
    }
}

/// What was seen and done in a support session or a hijack, oldest first.
#[utoipa::path(
    get, path = "/api/v1/audit/support/{id}", tag = "audit", operation_id = "audit_support_activity",
    params(
        ("id" = Uuid, Path, description = "Of the support session, or the hijack"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<Activity>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn one(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Id(id): Id<Uuid>,
    Query(Question(page)): Query<Question>,
) -> Result<Response> {
    let scope = format!("activity of {id}");
    let cursors = Cursors::new(state.store().keys(), call.caller.tenant, &scope);
    let after: Option<i64> = cursors.decode(&page)?;
    let filter = SupportAuditFilter { id: Some(id), ..SupportAuditFilter::default() };
    let mut tx = position::read(&state, &call, min).await?;
    let row = support_audit::list(&mut tx, &filter, None, 1).await?.pop().ok_or_else(Problem::not_found)?;
    let cut = retained::cut(&state, &call).await?;
    if row.started_at < cut {
        return Err(retained::expired(cut));
    }
    let most = usize::try_from(page.fetch()).unwrap_or(usize::MAX);
    let found = activity(&mut tx, &row, after, most).await?;
    tx.release();
    respond::json(&cursors.page(&page, found, |last| last.position, |one| one))
}

fn body(row: SupportAuditRow, mut activity: Vec<Activity>) -> SupportAudit {
    let more = activity.len() > FIRST;
    activity.truncate(FIRST);
    SupportAudit {
        id: row.id,
        kind: row.kind,
        user_id: row.user_id,
        side: row.side,
        target: row.target,
        how: row.how,
        request_id: row.support_request_id,
        reason: row.reason,
        state: row.state,
        started_at: row.started_at,
        expires_at: row.until,
        refused: row.refused,
        end_cause: row.end_cause,
        ended_at: row.ended_at,
        viewed: row.viewed,
        denied: row.denied,
        activity,
        more,
    }
}

/// What was seen and done in a session, past a position; at most so much of it.
async fn activity(
    tx: &mut TenantTx<'_>,
    row: &SupportAuditRow,
    after: Option<i64>,
    most: usize,
) -> Result<Vec<Activity>> {
    let Some(user) = row.user_id.filter(|_| row.refused.is_none()) else { return Ok(Vec::new()) };
    let Some(first) = support_audit::first_position(tx, &row.kind, row.id).await? else {
        return Ok(Vec::new());
    };
    let within = format!("{}:{}", row.kind, row.id);
    let mut filter = LogFilter {
        after: after.unwrap_or(first - 1),
        actor: Some(format!("user:{user}")),
        // Nothing is decided in it at or after that time.
        to: Some(row.until + TimeDelta::microseconds(1)),
        ..LogFilter::default()
    };
    let mut found = Vec::new();
    loop {
        let rows = log::page(tx, &filter, BATCH).await?;
        for event in &rows {
            found.extend(Activity::read(event, &within)?);
            if found.len() >= most {
                return Ok(found);
            }
        }
        match rows.last() {
            Some(last) if i64::try_from(rows.len()).unwrap_or(i64::MAX) == BATCH => {
                filter.after = last.position
            }
            _ => return Ok(found),
        }
    }
}

impl Activity {
    /// What an event says that was caused in a session; `None` for any other, and for its beginning and end.
    fn read(row: &LogRow, within: &str) -> Result<Option<Self>> {
        let event = AuditEvent::read(row)?;
        if event.causation_id.is_none_or(|cause| cause.get() != within) {
            return Ok(None);
        }
        let mut activity = Self {
            position: event.position,
            at: event.recorded_at.get().into_owned(),
            what: "done",
            event_type: event.event_type.get().into_owned(),
            route: None,
            method: None,
            status: None,
            code: None,
            resource_ids: Vec::new(),
            truncated: false,
            aggregate_type: None,
        };
        let payload = event.payload.0.get();
        match activity.event_type.as_str() {
            SupportSessionEvent::VIEWED | HijackEvent::VIEWED => {
                let viewed: Viewed = serde_json::from_str(payload).map_err(Problem::internal)?;
                activity.what = "viewed";
                activity.route = Some(viewed.route);
                activity.status = Some(viewed.status);
                activity.resource_ids = viewed.resource_ids;
                activity.truncated = viewed.more;
            }
            SupportSessionEvent::DENIED | HijackEvent::DENIED => {
                let denied: Denied = serde_json::from_str(payload).map_err(Problem::internal)?;
                activity.what = "refused";
                activity.route = Some(denied.route);
                activity.method = Some(denied.method);
                activity.status = Some(denied.status);
                activity.code = Some(denied.code);
                activity.resource_ids = denied.resource_ids;
            }
            SupportSessionEvent::ENDED | HijackEvent::ENDED => return Ok(None),
            // To go on to somebody else from there.
            HijackEvent::REFUSED => activity.what = "refused",
            // Everything else, of whatever aggregate, is what was done.
            _ => {
                activity.resource_ids = vec![event.aggregate_id];
                activity.aggregate_type = Some(event.aggregate_type.get().into_owned());
            }
        }
        Ok(Some(activity))
    }
}
