//! How many support requests, sessions, hijacks and permission grants there are: by state, by person, and for the platform
//! by tenant. Counted when asked, by the database's clock.

use sqlx::PgConnection;
use uuid::Uuid;

/// The most people, and the most tenants, that are counted apart: those with the most.
pub const MOST: i64 = 100;

/// How many of a kind are in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCount {
    /// `requests`, `sessions`, `hijacks` or `grants`.
    pub kind: String,
    /// Their state.
    pub state: String,
    /// How many.
    pub count: i64,
}

/// How many of a kind are somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonCount {
    /// `requests`, `sessions`, `hijacks` or `grants`.
    pub kind: String,
    /// Who asks, is in it, acts, or was granted it.
    pub user_id: Uuid,
    /// How many.
    pub count: i64,
}

/// How many of a kind are in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantCount {
    /// `requests`, `sessions` or `hijacks`.
    pub kind: String,
    /// Its slug.
    pub tenant: String,
    /// How many.
    pub count: i64,
}

/// Those of a tenant by state.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn by_state(connection: &mut PgConnection) -> Result<Vec<StateCount>, sqlx::Error> {
    sqlx::query_as!(
        StateCount,
        r#"SELECT kind AS "kind!", state AS "state!", count(*) AS "count!"
           FROM (
               SELECT 'requests' AS kind,
                      CASE WHEN status = 'requested' AND lapses_at <= now() THEN 'lapsed'
                           WHEN status = 'approved' AND open_until > now() THEN 'open' ELSE status END AS state
               FROM support_requests
               UNION ALL
               SELECT 'sessions', CASE WHEN refused IS NOT NULL THEN 'refused'
                                       WHEN ended_at IS NOT NULL OR until <= now() THEN 'ended' ELSE 'open' END
               FROM support_sessions
               UNION ALL
               SELECT 'hijacks', CASE WHEN refused IS NOT NULL THEN 'refused'
                                      WHEN ended_at IS NOT NULL OR until <= now() THEN 'ended' ELSE 'open' END
               FROM hijacks
               UNION ALL
               SELECT 'grants', CASE WHEN revoked THEN 'revoked' WHEN expires_at <= now() THEN 'expired'
                                     ELSE 'active' END
               FROM permission_grants
           ) AS all_of_them
           GROUP BY kind, state ORDER BY kind, state"#
    )
    .fetch_all(connection)
    .await
}

/// Those of a tenant by person, the most first.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn by_person(connection: &mut PgConnection) -> Result<Vec<PersonCount>, sqlx::Error> {
    sqlx::query_as!(
        PersonCount,
        r#"SELECT kind AS "kind!", user_id AS "user_id!", count(*) AS "count!"
           FROM (
               SELECT 'requests' AS kind, requested_by AS user_id FROM support_requests
               UNION ALL SELECT 'sessions', user_id FROM support_sessions
               UNION ALL SELECT 'hijacks', hijacker FROM hijacks WHERE hijacker IS NOT NULL
               UNION ALL SELECT 'grants', grantee FROM permission_grants
           ) AS all_of_them
           GROUP BY kind, user_id ORDER BY count(*) DESC, kind, user_id LIMIT $1"#,
        MOST
    )
    .fetch_all(connection)
    .await
}

/// Those of the platform's people in all active tenants by state.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn of_all_by_state(connection: &mut PgConnection) -> Result<Vec<StateCount>, sqlx::Error> {
    sqlx::query_as!(
        StateCount,
        r#"SELECT kind AS "kind!", state AS "state!", count(*) AS "count!"
           FROM (
               SELECT 'requests' AS kind,
                      CASE WHEN r.status = 'requested' AND r.lapses_at <= now() THEN 'lapsed'
                           WHEN r.status = 'approved' AND r.open_until > now() THEN 'open' ELSE r.status END AS state
               FROM support_overview r JOIN tenants t ON t.id = r.tenant_id AND t.active
               UNION ALL
               SELECT CASE o.kind WHEN 'hijack' THEN 'hijacks' ELSE 'sessions' END,
                      CASE WHEN o.refused IS NOT NULL THEN 'refused'
                           WHEN o.ended_at IS NOT NULL OR o.until <= now() THEN 'ended' ELSE 'open' END
               FROM masquerade_overview o LEFT JOIN tenants t ON t.id = o.tenant_id
               WHERE o.tenant_id IS NULL OR t.active
           ) AS all_of_them
           GROUP BY kind, state ORDER BY kind, state"#
    )
    .fetch_all(connection)
    .await
}

/// Those of the platform's people in all active tenants by person, the most first.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn of_all_by_person(connection: &mut PgConnection) -> Result<Vec<PersonCount>, sqlx::Error> {
    sqlx::query_as!(
        PersonCount,
        r#"SELECT kind AS "kind!", user_id AS "user_id!", count(*) AS "count!"
           FROM (
               SELECT 'requests' AS kind, r.requested_by AS user_id
               FROM support_overview r JOIN tenants t ON t.id = r.tenant_id AND t.active
               UNION ALL
               SELECT CASE o.kind WHEN 'hijack' THEN 'hijacks' ELSE 'sessions' END, o.user_id
               FROM masquerade_overview o LEFT JOIN tenants t ON t.id = o.tenant_id
               WHERE o.tenant_id IS NULL OR t.active
           ) AS all_of_them
           GROUP BY kind, user_id ORDER BY count(*) DESC, kind, user_id LIMIT $1"#,
        MOST
    )
    .fetch_all(connection)
    .await
}

/// Those of the platform's people by tenant, the most first.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn of_all_by_tenant(connection: &mut PgConnection) -> Result<Vec<TenantCount>, sqlx::Error> {
    sqlx::query_as!(
        TenantCount,
        r#"SELECT kind AS "kind!", tenant AS "tenant!", count(*) AS "count!"
           FROM (
               SELECT 'requests' AS kind, t.slug AS tenant
               FROM support_overview r JOIN tenants t ON t.id = r.tenant_id AND t.active
               UNION ALL
               SELECT CASE o.kind WHEN 'hijack' THEN 'hijacks' ELSE 'sessions' END, t.slug
               FROM masquerade_overview o JOIN tenants t ON t.id = o.tenant_id AND t.active
           ) AS all_of_them
           GROUP BY kind, tenant ORDER BY count(*) DESC, kind, tenant LIMIT $1"#,
        MOST
    )
    .fetch_all(connection)
    .await
}
