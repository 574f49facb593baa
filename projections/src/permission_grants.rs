//! Permission grants: one row each, as they are now. Inline.
//!
//! Where one stands follows from its row and the database's clock, whenever it is asked.

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, permission_grant::PermissionGrant};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// A grant as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionGrantRow {
    /// The grant.
    pub id: Uuid,
    /// Who gave it; the operator where absent.
    pub grantor: Option<Uuid>,
    /// Who has it.
    pub grantee: Uuid,
    /// What they may do, as `resource:action:scope`.
    pub permission: String,
    /// Why, in words that may name people.
    pub reason: Disclosed<String>,
    /// From when on.
    pub granted_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
    /// `active`, `expired` or `revoked`, by the database's clock.
    pub state: String,
    /// The user who took it back.
    pub revoked_by: Option<Uuid>,
    /// Why they did; set once it was.
    pub revoked_reason: Disclosed<String>,
    /// The sequence of the last event.
    pub version: i64,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which grants are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionGrantFilter {
    /// Of this grantee only.
    pub grantee: Option<Uuid>,
    /// Of this grantor only.
    pub grantor: Option<Uuid>,
    /// In this state only.
    pub state: Option<String>,
}

/// One grant.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<PermissionGrantRow>, sqlx::Error> {
    sqlx::query_as!(
        PermissionGrantRow,
        r#"SELECT id, grantor, grantee, permission, reason, granted_at, expires_at,
                  CASE WHEN revoked THEN 'revoked' WHEN expires_at > now() THEN 'active' ELSE 'expired' END AS "state!",
                  revoked_by, revoked_reason, version, updated_at
           FROM permission_grants WHERE id = $1"#,
        id
    )
    .fetch_optional(connection)
    .await
}

/// Grants in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &PermissionGrantFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<PermissionGrantRow>, sqlx::Error> {
    sqlx::query_as!(
        PermissionGrantRow,
        r#"SELECT id, grantor, grantee, permission, reason, granted_at, expires_at, state AS "state!", revoked_by,
                  revoked_reason, version, updated_at
           FROM permission_grants
           CROSS JOIN LATERAL (
               SELECT CASE WHEN revoked THEN 'revoked' WHEN expires_at > now() THEN 'active' ELSE 'expired' END AS state
           ) AS stands
           WHERE id > $1 AND ($2::uuid IS NULL OR grantee = $2) AND ($3::uuid IS NULL OR grantor = $3)
             AND ($4::text IS NULL OR state = $4)
           ORDER BY id LIMIT $5"#,
        after.unwrap_or_default(),
        filter.grantee,
        filter.grantor,
        filter.state,
        limit
    )
    .fetch_all(connection)
    .await
}

/// The grants that somebody has now.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn active_of(connection: &mut PgConnection, grantee: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT id FROM permission_grants WHERE grantee = $1 AND NOT revoked AND expires_at > now() ORDER BY id",
        grantee
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, PermissionGrant>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.permission_grants (id, grantor, grantee, permission, reason, granted_at, expires_at, revoked,
                                            revoked_by, revoked_reason, version, position, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[],
                              $7::timestamptz[], $8::boolean[], $9::uuid[], $10::text[], $11::bigint[], $12::bigint[],
                              $13::timestamptz[], $14::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET revoked = EXCLUDED.revoked, revoked_by = EXCLUDED.revoked_by, revoked_reason = EXCLUDED.revoked_reason,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    // An aggregate with an event has been granted; one without has no row.
    let rows: Vec<_> =
        rows.iter().filter_map(|row| row.state.grant.as_ref().map(|grant| (row, grant))).collect();
    let revocation = |row: &Row<'_, PermissionGrant>| row.state.revocation.clone();
    sqlx::query(&sql)
        .bind(column!(rows, it => it.0.id))
        .bind(column!(rows, it => it.1.grantor.map(|user| user.0)))
        .bind(column!(rows, it => it.1.grantee.0))
        .bind(column!(rows, it => it.1.permission.to_string()))
        .bind(column!(rows, it => it.1.reason.as_str()))
        .bind(column!(rows, it => it.1.granted_at))
        .bind(column!(rows, it => it.1.expires_at))
        .bind(column!(rows, it => it.0.state.revocation.is_some()))
        .bind(column!(rows, it => revocation(it.0).and_then(|by| by.revoked_by).map(|user| user.0)))
        .bind(column!(rows, it => revocation(it.0).map(|by| by.reason)))
        .bind(column!(rows, it => it.0.version))
        .bind(column!(rows, it => it.0.position))
        .bind(column!(rows, it => it.0.created_at))
        .bind(column!(rows, it => it.0.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
