//! Support sessions and hijacks of a log together, as an auditor looks at them; and where in the log what was done in
//! one is. Reads the inline read models and the log's own index.

use chrono::{DateTime, Utc};
use daybook_domain::{Decider as _, Disclosed, support_session::SupportSession};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::newest::{push_before, push_newest};

/// A support session or a hijack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportAuditRow {
    /// Its id.
    pub id: Uuid,
    /// `support_session` or `hijack`.
    pub kind: String,
    /// The account that was let in, or acted.
    pub user_id: Option<Uuid>,
    /// Of which side: `tenant` or `platform`.
    pub side: String,
    /// Whom it acted as.
    pub target: Option<Uuid>,
    /// The mode of a session, or by what a hijack was allowed.
    pub how: String,
    /// The support request whose window it is in.
    pub support_request_id: Option<Uuid>,
    /// Why.
    pub reason: Disclosed<String>,
    /// `open`, `ended` or `refused`.
    pub state: String,
    /// When it began, or was refused.
    pub started_at: DateTime<Utc>,
    /// When it ends by itself, or would have.
    pub until: DateTime<Utc>,
    /// Why it was refused.
    pub refused: Option<String>,
    /// What ended it, once that is noted.
    pub end_cause: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Reads that were answered in it.
    pub viewed: i32,
    /// Requests that were refused in it.
    pub denied: i32,
}

/// Which are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SupportAuditFilter {
    /// `support_session` or `hijack`.
    pub kind: Option<String>,
    /// Of this state.
    pub state: Option<String>,
    /// Of this account.
    pub user_id: Option<Uuid>,
    /// In the window of this support request.
    pub support_request_id: Option<Uuid>,
    /// This one only.
    pub id: Option<Uuid>,
    /// Begun then or later.
    pub from: Option<DateTime<Utc>>,
    /// Begun before then.
    pub to: Option<DateTime<Utc>>,
}

/// Support sessions and hijacks, newest first, past the one begun then of this id.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &SupportAuditFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<SupportAuditRow>, sqlx::Error> {
    let rows: Vec<Found> = statement(filter, past, limit).build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(SupportAuditRow::from).collect())
}

/// The statement of [`list`].
///
/// Only the conditions that are asked for are in it, so that each kind of question has its own plan, and each kind of
/// session gives a page from its own index.
pub fn statement(
    filter: &SupportAuditFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryBuilder<'_, Postgres> {
    let kind = filter.kind.as_deref();
    let sessions = kind.is_none_or(|kind| kind == SupportSession::TYPE);
    let hijacks = kind.is_none_or(|kind| kind != SupportSession::TYPE);
    let mut query = QueryBuilder::new(
        "SELECT *, CASE WHEN refused IS NOT NULL THEN 'refused'
                        WHEN ended_at IS NOT NULL OR until <= now() THEN 'ended' ELSE 'open' END AS state
         FROM (",
    );
    if sessions {
        query.push(
            "(SELECT id, 'support_session' AS kind, user_id, 'platform' AS side, NULL::uuid AS target, mode AS how,
                     support_request_id, reason, started_at, until, refused, end_cause, ended_at, viewed, denied
              FROM support_sessions WHERE true",
        );
        narrow(&mut query, filter, past, limit, "user_id");
    }
    if sessions && hijacks {
        query.push(" UNION ALL ");
    }
    if hijacks {
        query.push(
            "(SELECT id, 'hijack' AS kind, hijacker AS user_id, hijacker_side AS side, target, via AS how,
                     support_request_id, reason, started_at, until, refused, end_cause, ended_at, viewed, denied
              FROM hijacks WHERE true",
        );
        narrow(&mut query, filter, past, limit, "hijacker");
    }
    query.push(") AS both_kinds ORDER BY started_at DESC, id DESC LIMIT ").push_bind(limit);
    query
}

/// The conditions that both kinds have, and the end of a part.
fn narrow<'q>(
    query: &mut QueryBuilder<'q, Postgres>,
    filter: &'q SupportAuditFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
    user_column: &str,
) {
    match filter.state.as_deref() {
        None => {}
        Some("refused") => {
            query.push(" AND refused IS NOT NULL");
        }
        Some("open") => {
            query.push(" AND refused IS NULL AND ended_at IS NULL AND until > now()");
        }
        // What began and is not open any more: the open ones among them, which are passed over, are few at any time.
        Some(_) => {
            query.push(" AND refused IS NULL AND (ended_at IS NOT NULL OR until <= now())");
        }
    }
    if let Some(user) = filter.user_id {
        query.push(format!(" AND {user_column} = ")).push_bind(user);
    }
    if let Some(request) = filter.support_request_id {
        query.push(" AND support_request_id = ").push_bind(request);
    }
    if let Some(id) = filter.id {
        query.push(" AND id = ").push_bind(id);
    }
    if let Some(from) = filter.from {
        query.push(" AND started_at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        push_before(query, ["started_at", "id"], (to, Uuid::nil()));
    }
    if let Some(past) = past {
        push_before(query, ["started_at", "id"], past);
    }
    let narrowed = filter.state.is_some()
        || filter.user_id.is_some()
        || filter.support_request_id.is_some()
        || filter.id.is_some();
    push_newest(query, ["started_at", "id"], narrowed, limit);
    query.push(")");
}

#[derive(sqlx::FromRow)]
struct Found {
    id: Uuid,
    kind: String,
    user_id: Option<Uuid>,
    side: String,
    target: Option<Uuid>,
    how: String,
    support_request_id: Option<Uuid>,
    reason: String,
    state: String,
    started_at: DateTime<Utc>,
    until: DateTime<Utc>,
    refused: Option<String>,
    end_cause: Option<String>,
    ended_at: Option<DateTime<Utc>>,
    viewed: i32,
    denied: i32,
}

impl From<Found> for SupportAuditRow {
    fn from(row: Found) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            user_id: row.user_id,
            side: row.side,
            target: row.target,
            how: row.how,
            support_request_id: row.support_request_id,
            reason: row.reason.into(),
            state: row.state,
            started_at: row.started_at,
            until: row.until,
            refused: row.refused,
            end_cause: row.end_cause,
            ended_at: row.ended_at,
            viewed: row.viewed,
            denied: row.denied,
        }
    }
}

/// The position of the first event of a session or a hijack that is left of it.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn first_position(
    connection: &mut PgConnection,
    kind: &str,
    id: Uuid,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT position FROM events WHERE aggregate_id = $1 AND aggregate_type = $2 ORDER BY sequence LIMIT 1",
        id,
        kind
    )
    .fetch_optional(connection)
    .await
}
