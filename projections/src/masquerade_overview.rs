//! The support sessions and hijacks of the platform's people in all logs, in the platform's schema. Not written with the
//! events, which are in other schemas, but copied from each log's read models afterwards. Those in tenants that are
//! switched off are not shown.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{hijacks::HijackRow, support_sessions::SupportSessionRow};

/// Which of the two something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A support session.
    SupportSession,
    /// A hijack.
    Hijack,
}

impl Kind {
    /// As the rows have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SupportSession => "support_session",
            Self::Hijack => "hijack",
        }
    }
}

/// A support session or a hijack as the platform sees it among those of all tenants: without anybody's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeRow {
    /// The session, or the hijack.
    pub id: Uuid,
    /// Whose; `None` for the platform's own log.
    pub tenant_id: Option<Uuid>,
    /// The tenant's slug.
    pub tenant: Option<String>,
    /// The platform's account.
    pub user_id: Uuid,
    /// Whom they acted as.
    pub target: Option<Uuid>,
    /// The mode of a session, or by what a hijack was allowed.
    pub how: String,
    /// The support request whose window it is in.
    pub support_request_id: Option<Uuid>,
    /// `open`, `ended` or `refused`.
    pub state: String,
    /// When it began, or was refused.
    pub started_at: DateTime<Utc>,
    /// When it ends by itself, or would have.
    pub until: DateTime<Utc>,
    /// Why it was refused.
    pub refused: Option<String>,
    /// What ended it.
    pub end_cause: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The account that ended it.
    pub ended_by: Option<Uuid>,
    /// Of which side.
    pub ended_side: Option<String>,
    /// Reads that were answered in it.
    pub viewed: i32,
    /// Requests that were refused in it.
    pub denied: i32,
    /// The sequence of the last event.
    pub version: i64,
}

/// Which are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasqueradeFilter {
    /// In the tenant of this slug.
    pub tenant: Option<String>,
    /// Of this state: `open`, `ended` or `refused`.
    pub state: Option<String>,
    /// Of this account.
    pub user_id: Option<Uuid>,
    /// As this account.
    pub target: Option<Uuid>,
    /// Of this mode, or allowed by this.
    pub how: Option<String>,
    /// In the window of this support request.
    pub support_request_id: Option<Uuid>,
}

/// Those of one kind, newest first, before the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    kind: Kind,
    filter: &MasqueradeFilter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<MasqueradeRow>, sqlx::Error> {
    sqlx::query_as!(
        MasqueradeRow,
        r#"SELECT o.id, o.tenant_id, t.slug AS "tenant?", o.user_id, o.target, o.how, o.support_request_id,
                  at_present.state AS "state!", o.started_at, o.until, o.refused, o.end_cause, o.ended_at, o.ended_by,
                  o.ended_side, o.viewed, o.denied, o.version
           FROM masquerade_overview o
           CROSS JOIN LATERAL (
               SELECT CASE WHEN o.refused IS NOT NULL THEN 'refused'
                           WHEN o.ended_at IS NOT NULL OR o.until <= now() THEN 'ended'
                           ELSE 'open' END AS state
           ) AS at_present
           LEFT JOIN tenants t ON t.id = o.tenant_id
           WHERE o.kind = $1 AND o.id < $2 AND (o.tenant_id IS NULL OR t.active)
             AND ($3::text IS NULL OR t.slug = $3) AND ($4::text IS NULL OR at_present.state = $4)
             AND ($5::uuid IS NULL OR o.user_id = $5) AND ($6::uuid IS NULL OR o.target = $6)
             AND ($7::text IS NULL OR o.how = $7) AND ($8::uuid IS NULL OR o.support_request_id = $8)
           ORDER BY o.id DESC LIMIT $9"#,
        kind.as_str(),
        before.unwrap_or(Uuid::max()),
        filter.tenant,
        filter.state,
        filter.user_id,
        filter.target,
        filter.how,
        filter.support_request_id,
        limit
    )
    .fetch_all(connection)
    .await
}

/// In which log one of them is: a tenant's, with its slug, or the platform's own.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn log_of(
    connection: &mut PgConnection,
    kind: Kind,
    id: Uuid,
) -> Result<Option<Option<(Uuid, String)>>, sqlx::Error> {
    let found = sqlx::query!(
        r#"SELECT t.id AS "id?", t.slug AS "slug?" FROM masquerade_overview o LEFT JOIN tenants t ON t.id = o.tenant_id
           WHERE o.id = $1 AND o.kind = $2 AND (o.tenant_id IS NULL OR t.active)"#,
        id,
        kind.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|row| row.id.zip(row.slug)))
}

/// How far the log of a tenant, or the platform's own, was followed.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn followed_to(
    connection: &mut PgConnection,
    kind: Kind,
    tenant: Option<Uuid>,
) -> Result<i64, sqlx::Error> {
    // Two statements, for each of which the index will do.
    let Some(tenant) = tenant else {
        return sqlx::query_scalar!(
            r#"SELECT coalesce(max(position), 0) AS "position!" FROM masquerade_overview
               WHERE tenant_id IS NULL AND kind = $1"#,
            kind.as_str()
        )
        .fetch_one(connection)
        .await;
    };
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(position), 0) AS "position!" FROM masquerade_overview
           WHERE tenant_id = $1 AND kind = $2"#,
        tenant,
        kind.as_str()
    )
    .fetch_one(connection)
    .await
}

/// Copies support sessions of a tenant.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn copy_sessions(
    connection: &mut PgConnection,
    tenant: Uuid,
    rows: &[SupportSessionRow],
) -> Result<(), sqlx::Error> {
    for row in rows {
        let copied = Copied {
            kind: Kind::SupportSession,
            id: row.id,
            tenant: Some(tenant),
            user_id: row.user_id,
            target: None,
            how: &row.mode,
            support_request_id: row.support_request_id,
            started_at: row.started_at,
            until: row.until,
            refused: row.refused.as_deref(),
            end_cause: row.end_cause.as_deref(),
            ended_at: row.ended_at,
            ended_by: row.ended_by,
            ended_side: row.ended_side.as_deref(),
            viewed: row.viewed,
            denied: row.denied,
            version: row.version,
            position: row.position,
            updated_at: row.updated_at,
        };
        copy(connection, copied).await?;
    }
    Ok(())
}

/// Copies hijacks by the platform's people, in a tenant or among themselves.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn copy_hijacks(
    connection: &mut PgConnection,
    tenant: Option<Uuid>,
    rows: &[HijackRow],
) -> Result<(), sqlx::Error> {
    for row in rows {
        let copied = Copied {
            kind: Kind::Hijack,
            id: row.id,
            tenant,
            user_id: row.hijacker.unwrap_or_default(),
            target: Some(row.target),
            how: &row.via,
            support_request_id: row.support_request_id,
            started_at: row.started_at,
            until: row.until,
            refused: row.refused.as_deref(),
            end_cause: row.end_cause.as_deref(),
            ended_at: row.ended_at,
            ended_by: row.ended_by,
            ended_side: row.ended_side.as_deref(),
            viewed: row.viewed,
            denied: row.denied,
            version: row.version,
            position: row.position,
            updated_at: row.updated_at,
        };
        copy(connection, copied).await?;
    }
    Ok(())
}

struct Copied<'a> {
    kind: Kind,
    id: Uuid,
    tenant: Option<Uuid>,
    user_id: Uuid,
    target: Option<Uuid>,
    how: &'a str,
    support_request_id: Option<Uuid>,
    started_at: DateTime<Utc>,
    until: DateTime<Utc>,
    refused: Option<&'a str>,
    end_cause: Option<&'a str>,
    ended_at: Option<DateTime<Utc>>,
    ended_by: Option<Uuid>,
    ended_side: Option<&'a str>,
    viewed: i32,
    denied: i32,
    version: i64,
    position: i64,
    updated_at: DateTime<Utc>,
}

async fn copy(connection: &mut PgConnection, row: Copied<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO masquerade_overview AS o
             (id, kind, tenant_id, user_id, target, how, support_request_id, started_at, until, refused, end_cause,
              ended_at, ended_by, ended_side, viewed, denied, version, position, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
         ON CONFLICT (id) DO UPDATE
         SET end_cause = EXCLUDED.end_cause, ended_at = EXCLUDED.ended_at, ended_by = EXCLUDED.ended_by,
             ended_side = EXCLUDED.ended_side, viewed = EXCLUDED.viewed, denied = EXCLUDED.denied,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at
         WHERE o.version < EXCLUDED.version",
        row.id,
        row.kind.as_str(),
        row.tenant,
        row.user_id,
        row.target,
        row.how,
        row.support_request_id,
        row.started_at,
        row.until,
        row.refused,
        row.end_cause,
        row.ended_at,
        row.ended_by,
        row.ended_side,
        row.viewed,
        row.denied,
        row.version,
        row.position,
        row.updated_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
