//! Messages that were sent, are on their way, or were given up. Not a read model: the outbox itself, without what was
//! written in them.

use chrono::{DateTime, Utc};
use daybook_domain::Disclosed;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::newest::{push_before, push_newest};

/// Where a message can be.
pub const STATUSES: [&str; 3] = ["queued", "sent", "failed"];

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id, and part of its `Message-ID`.
    pub id: Uuid,
    /// What it tells (`invitation`).
    pub kind: String,
    /// The account it went to, where there is one.
    pub user_id: Option<Uuid>,
    /// To whom, sealed; `None` once the person is erased.
    pub sealed_recipient: Option<String>,
    /// To whom, of a message from before they were sealed. Personal.
    pub recipient: Disclosed<String>,
    /// Where it is, one of [`STATUSES`].
    pub status: String,
    /// How often it was tried to send it.
    pub attempts: i32,
    /// The class of the last failure (`smtp_transient`).
    pub last_error: Option<String>,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
    /// When it was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it is tried again, while it is queued.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// Which are listed; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// To this account.
    pub user_id: Option<Uuid>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this status.
    pub status: Option<String>,
    /// Queued at or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Queued before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// Messages, newest first, past the one of this time and id.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn page(
    connection: &mut PgConnection,
    filter: &MessageFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<MessageRow>, sqlx::Error> {
    let rows: Vec<Found> = statement(filter, past, limit).build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(MessageRow::from).collect())
}

/// The statement of [`page`].
///
/// Only the conditions that are asked for are in it, so that each kind of question has its own plan.
pub fn statement(
    filter: &MessageFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryBuilder<'_, Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT id, kind, user_id, sealed_recipient, nullif(recipient, '') AS recipient, status, attempts, last_error,
                created_at, sent_at, CASE status WHEN 'queued' THEN next_attempt_at END AS next_attempt_at
         FROM messages WHERE true",
    );
    if let Some(user) = filter.user_id {
        query.push(" AND user_id = ").push_bind(user);
    }
    if let Some(kind) = &filter.kind {
        query.push(" AND kind = ").push_bind(kind);
    }
    if let Some(status) = &filter.status {
        query.push(" AND status = ").push_bind(status);
    }
    if let Some(from) = filter.from {
        query.push(" AND created_at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        push_before(&mut query, ["created_at", "id"], (to, Uuid::nil()));
    }
    if let Some(past) = past {
        push_before(&mut query, ["created_at", "id"], past);
    }
    let narrowed = filter.user_id.is_some() || filter.kind.is_some() || filter.status.is_some();
    push_newest(&mut query, ["created_at", "id"], narrowed, limit);
    query
}

#[derive(sqlx::FromRow)]
struct Found {
    id: Uuid,
    kind: String,
    user_id: Option<Uuid>,
    sealed_recipient: Option<String>,
    recipient: Option<String>,
    status: String,
    attempts: i32,
    last_error: Option<String>,
    created_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
}

impl From<Found> for MessageRow {
    fn from(row: Found) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            user_id: row.user_id,
            sealed_recipient: row.sealed_recipient,
            recipient: row.recipient.into(),
            status: row.status,
            attempts: row.attempts,
            last_error: row.last_error,
            created_at: row.created_at,
            sent_at: row.sent_at,
            next_attempt_at: row.next_attempt_at,
        }
    }
}
