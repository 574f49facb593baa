//! Roles of a tenant's own: one row each. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::{permission::Permissions, role::Role};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// A role as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRow {
    /// The role.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it allows, as `resource:action:scope`.
    pub permissions: Vec<String>,
    /// Whether it is given to nobody any more.
    pub archived: bool,
    /// The sequence of its last event.
    pub version: i64,
    /// When its first event was recorded.
    pub created_at: DateTime<Utc>,
    /// When its last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// One role.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<RoleRow>, sqlx::Error> {
    sqlx::query_as!(
        RoleRow,
        "SELECT id, name, permissions, archived, version, created_at, updated_at FROM roles WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Roles in the order of their ids, after the one given; archived ones, the others, or both.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    archived: Option<bool>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<RoleRow>, sqlx::Error> {
    sqlx::query_as!(
        RoleRow,
        "SELECT id, name, permissions, archived, version, created_at, updated_at FROM roles
         WHERE id > $1 AND ($2::boolean IS NULL OR archived = $2) ORDER BY id LIMIT $3",
        after.unwrap_or_default(),
        archived,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Permissions as one text, for UNNEST: none of their names has a comma.
pub(crate) fn joined(permissions: &Permissions) -> String {
    permissions.iter().map(|permission| permission.to_string()).collect::<Vec<_>>().join(",")
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Role>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.roles (id, name, permissions, archived, version, position, created_at, updated_at)
         SELECT id, name, string_to_array(permissions, ','), archived, version, position, created_at, updated_at
         FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[], $7::timestamptz[],
                     $8::timestamptz[])
              AS w (id, name, permissions, archived, version, position, created_at, updated_at)
         ON CONFLICT (id) DO UPDATE
         SET name = EXCLUDED.name, permissions = EXCLUDED.permissions, archived = EXCLUDED.archived,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.name.as_str()))
        .bind(column!(rows, row => joined(&row.state.permissions)))
        .bind(column!(rows, row => row.state.archived))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
