//! The support requests of all tenants, in the platform's schema. Not written with the events, which are in other
//! schemas, but copied from each tenant's read model afterwards; how late that is, is said where it is done. Requests of
//! tenants that are switched off are not shown.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support_requests::SupportRequestRow;

/// A support request as the platform sees it among those of all tenants: without the words of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverviewRow {
    /// The request.
    pub id: Uuid,
    /// Whose.
    pub tenant_id: Uuid,
    /// The tenant's slug.
    pub tenant: String,
    /// The platform's account that asks.
    pub requested_by: Uuid,
    /// How long the window is to be.
    pub minutes: i32,
    /// What was last said about it; `lapsed` when that came to nothing in time.
    pub state: String,
    /// Whether the window is open.
    pub open: bool,
    /// When it was made.
    pub requested_at: DateTime<Utc>,
    /// When it lapses, unless it is answered before.
    pub lapses_at: DateTime<Utc>,
    /// The tenant's account that approved it.
    pub approved_by: Option<Uuid>,
    /// When the window opened.
    pub approved_at: Option<DateTime<Utc>>,
    /// When the window closes, or would have.
    pub open_until: Option<DateTime<Utc>>,
    /// The account that denied or revoked it.
    pub ended_by: Option<Uuid>,
    /// Of which side: `tenant`, `platform` or `operator`.
    pub ended_side: Option<String>,
    /// The sequence of the last event.
    pub version: i64,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which support requests are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverviewFilter {
    /// Of the tenant of this slug.
    pub tenant: Option<String>,
    /// Of this state, or, as `open`, those whose window is.
    pub state: Option<String>,
    /// Made by this account.
    pub requested_by: Option<Uuid>,
}

/// Support requests of all tenants in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &OverviewFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<OverviewRow>, sqlx::Error> {
    sqlx::query_as!(
        OverviewRow,
        r#"SELECT r.id, r.tenant_id, t.slug AS tenant, r.requested_by, r.minutes, at_present.state AS "state!", at_present.open AS "open!",
                  r.requested_at, r.lapses_at, r.approved_by, r.approved_at, r.open_until, r.ended_by, r.ended_side,
                  r.version, r.updated_at
           FROM support_overview r
           CROSS JOIN LATERAL (
               SELECT CASE WHEN r.status = 'requested' AND r.lapses_at <= now() THEN 'lapsed' ELSE r.status END AS state,
                      coalesce(r.status = 'approved' AND r.open_until > now(), false) AS open
           ) AS at_present
           JOIN tenants t ON t.id = r.tenant_id AND t.active
           WHERE r.id > $1 AND ($2::text IS NULL OR t.slug = $2)
             AND ($3::text IS NULL OR at_present.state = $3 OR ($3 = 'open' AND at_present.open))
             AND ($4::uuid IS NULL OR r.requested_by = $4)
           ORDER BY r.id LIMIT $5"#,
        after.unwrap_or_default(),
        filter.tenant,
        filter.state,
        filter.requested_by,
        limit
    )
    .fetch_all(connection)
    .await
}

/// The active tenant that a support request is of, and its slug.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn tenant_of(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<(Uuid, String)>, sqlx::Error> {
    let found = sqlx::query!(
        "SELECT t.id, t.slug FROM support_overview o JOIN tenants t ON t.id = o.tenant_id AND t.active WHERE o.id = $1",
        id
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|row| (row.id, row.slug)))
}

/// How far a tenant's log was followed. Rows are copied in the order of their positions, and a position that is
/// committed later is higher, so nothing below is missing.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn followed_to(connection: &mut PgConnection, tenant: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(position), 0) AS "position!" FROM support_overview WHERE tenant_id = $1"#,
        tenant
    )
    .fetch_one(connection)
    .await
}

/// What the copies of a log lag behind, and how far they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// The position of the support request that changed last.
    pub requests: i64,
    /// Of the support session that did.
    pub sessions: i64,
    /// Of the hijack by one of the platform's people that did.
    pub hijacks: i64,
}

/// Where the read models of a tenant stand.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn latest(connection: &mut PgConnection) -> Result<Latest, sqlx::Error> {
    sqlx::query_as!(
        Latest,
        r#"SELECT (SELECT coalesce(max(position), 0) FROM support_requests) AS "requests!",
                  (SELECT coalesce(max(position), 0) FROM support_sessions) AS "sessions!",
                  (SELECT coalesce(max(position), 0) FROM hijacks WHERE hijacker_side = 'platform') AS "hijacks!""#
    )
    .fetch_one(connection)
    .await
}

/// How far they were copied.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn copied(connection: &mut PgConnection, tenant: Uuid) -> Result<Latest, sqlx::Error> {
    sqlx::query_as!(
        Latest,
        r#"SELECT (SELECT coalesce(max(position), 0) FROM support_overview WHERE tenant_id = $1) AS "requests!",
                  (SELECT coalesce(max(position), 0) FROM masquerade_overview
                   WHERE tenant_id = $1 AND kind = 'support_session') AS "sessions!",
                  (SELECT coalesce(max(position), 0) FROM masquerade_overview
                   WHERE tenant_id = $1 AND kind = 'hijack') AS "hijacks!""#,
        tenant
    )
    .fetch_one(connection)
    .await
}

/// Copies a row; answers whether that told anything new. Of two nodes that copy the same, one is told so.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn copy(
    connection: &mut PgConnection,
    tenant: Uuid,
    row: &SupportRequestRow,
) -> Result<bool, sqlx::Error> {
    let copied = sqlx::query!(
        "INSERT INTO support_overview AS o
             (id, tenant_id, requested_by, minutes, status, requested_at, lapses_at, approved_by, approved_at,
              open_until, ended_by, ended_side, version, position, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (id) DO UPDATE
         SET status = EXCLUDED.status, approved_by = EXCLUDED.approved_by, approved_at = EXCLUDED.approved_at,
             open_until = EXCLUDED.open_until, ended_by = EXCLUDED.ended_by, ended_side = EXCLUDED.ended_side,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at
         WHERE o.version < EXCLUDED.version",
        row.id,
        tenant,
        row.requested_by,
        row.minutes,
        row.state,
        row.requested_at,
        row.lapses_at,
        row.approved_by,
        row.approved_at,
        row.open_until,
        row.ended_by,
        row.ended_side,
        row.version,
        row.position,
        row.updated_at,
    )
    .execute(connection)
    .await?;
    Ok(copied.rows_affected() > 0)
}
