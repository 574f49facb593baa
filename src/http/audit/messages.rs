//! `GET /audit/messages`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, TenantId, registry::AggregateType};
use daybook_projections::messages::{self, MessageFilter, MessageRow, STATUSES};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        context::CallContext,
        cursor::{Cursors, Listing, Page},
        disclosure,
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Moment, Params, Query},
        respond, retained,
    },
    mail::{MessageKind, Part, Sealer, sealer::KeySealer},
};

/// Which messages, and which page of them.
#[derive(Debug)]
pub struct Question {
    filter: MessageFilter,
    page: Page,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let page = Page::take(params)?;
        let kinds = MessageKind::ALL.map(MessageKind::as_str);
        let filter = MessageFilter {
            user_id: params.optional("user_id")?,
            kind: params.one_of("kind", &kinds)?,
            status: params.one_of("status", &STATUSES)?,
            from: params.optional::<Moment>("from")?.map(|moment| moment.0),
            to: params.optional::<Moment>("to")?.map(|moment| moment.0),
        };
        Ok(Self { filter, page })
    }
}

/// A message: mail to one person. What was written in it is gone once it is sent or given up.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditMessage)]
pub struct Message {
    /// Its id, and part of its `Message-ID`.
    id: Uuid,
    /// What it tells (`password_reset_link`).
    kind: String,
    /// The account it went to; null where there was none yet.
    user_id: Option<Uuid>,
    /// To whom; null once the person is erased, and the marker of hidden values for whoever may not read all accounts.
    #[schema(value_type = Option<String>)]
    recipient: Disclosed<String>,
    /// `queued`, `sent` or `failed`.
    status: String,
    /// How often it was tried to send it.
    attempts: i32,
    /// The class of the last failure (`smtp_transient`).
    error: Option<String>,
    /// When it was queued.
    queued_at: DateTime<Utc>,
    /// When it was sent.
    sent_at: Option<DateTime<Utc>>,
    /// When it is tried again, while it is queued.
    next_attempt_at: Option<DateTime<Utc>>,
}

impl Message {
    fn of(row: MessageRow, sealer: &dyn Sealer, tenant: TenantId) -> Self {
        let opened = row.sealed_recipient.as_deref().and_then(|sealed| {
            // What no key opens any more is told to nobody.
            let bytes = sealer.open(Some(tenant), Part::Recipient(row.id), sealed).ok()?;
            String::from_utf8(bytes.to_vec()).ok()
        });
        Self {
            id: row.id,
            kind: row.kind,
            user_id: row.user_id,
            recipient: opened.or(row.recipient.into_exposed()).into(),
            status: row.status,
            attempts: row.attempts,
            error: row.last_error,
            queued_at: row.created_at,
            sent_at: row.sent_at,
            next_attempt_at: row.next_attempt_at,
        }
    }
}

/// Messages that were sent, are on their way, or were given up, newest first, as far back as the plan keeps history.
#[utoipa::path(
    get, path = "/api/v1/audit/messages", tag = "audit", operation_id = "audit_messages",
    params(
        ("user_id" = Option<Uuid>, Query, description = "Only to this account"),
        ("kind" = Option<String>, Query, description = "Only of this kind (`invitation`)"),
        ("status" = Option<String>, Query, description = "`queued`, `sent` or `failed`"),
        ("from" = Option<String>, Query, description = "Only queued at or after this date or instant"),
        ("to" = Option<String>, Query, description = "Only queued before this date or instant"),
        ("limit" = Option<i64>, Query, description = "1 to 200, 50 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Listing<Message>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    Query(Question { mut filter, page }): Query<Question>,
) -> Result<Response> {
    let scope = format!("messages {filter:?}");
    let tenant = call.caller.tenant;
    let cursors = Cursors::new(state.store().keys(), tenant, &scope);
    let past: Option<(DateTime<Utc>, Uuid)> = cursors.decode(&page)?;
    let cut = retained::cut(&state, &call).await?;
    filter.from = Some(filter.from.map_or(cut, |from| from.max(cut)));
    let mut tx = position::read(&state, &call, MinPosition(None)).await?;
    retained::reaches(&mut tx, filter.to, cut).await?;
    let rows = messages::page(&mut tx, &filter, past, page.fetch()).await?;
    tx.release();
    let sealer = KeySealer(state.store().keys().clone());
    let told = disclosure::may_see(&call.caller.principal, AggregateType::User);
    let item = |row| {
        let message = Message::of(row, &sealer, tenant);
        if told { message } else { Message { recipient: message.recipient.withheld(), ..message } }
    };
    let answer = respond::json(&cursors.page(&page, rows, |last| (last.created_at, last.id), item))?;
    Ok(retained::mark(answer, cut))
}
