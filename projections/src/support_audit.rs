//! Support sessions and hijacks of a log together, as an auditor looks at them; and where in the log what was done in
//! one is. Reads the inline read models and the log's own index.

use chrono::{DateTime, Utc};
use daybook_domain::Disclosed;
use sqlx::PgConnection;
use uuid::Uuid;

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

/// Support sessions and hijacks, newest first, before the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &SupportAuditFilter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<SupportAuditRow>, sqlx::Error> {
    sqlx::query_as!(
        SupportAuditRow,
        r#"SELECT id AS "id!", kind AS "kind!", user_id, side AS "side!", target, how AS "how!", support_request_id,
                  reason AS "reason!", at_present.state AS "state!", started_at AS "started_at!", until AS "until!",
                  refused, end_cause, ended_at, viewed AS "viewed!", denied AS "denied!"
           FROM (
               SELECT id, 'support_session' AS kind, user_id, 'platform' AS side, NULL::uuid AS target, mode AS how,
                      support_request_id, reason, started_at, until, refused, end_cause, ended_at, viewed, denied
               FROM support_sessions
               UNION ALL
               SELECT id, 'hijack', hijacker, hijacker_side, target, via, support_request_id, reason, started_at, until,
                      refused, end_cause, ended_at, viewed, denied
               FROM hijacks
           ) AS both_kinds
           CROSS JOIN LATERAL (
               SELECT CASE WHEN refused IS NOT NULL THEN 'refused'
                           WHEN ended_at IS NOT NULL OR until <= now() THEN 'ended' ELSE 'open' END AS state
           ) AS at_present
           WHERE id < $1 AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR at_present.state = $3)
             AND ($4::uuid IS NULL OR user_id = $4) AND ($5::uuid IS NULL OR support_request_id = $5)
             AND ($6::uuid IS NULL OR id = $6) AND ($7::timestamptz IS NULL OR started_at >= $7)
             AND ($8::timestamptz IS NULL OR started_at < $8)
           ORDER BY id DESC LIMIT $9"#,
        before.unwrap_or(Uuid::max()),
        filter.kind,
        filter.state,
        filter.user_id,
        filter.support_request_id,
        filter.id,
        filter.from,
        filter.to,
        limit
    )
    .fetch_all(connection)
    .await
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
