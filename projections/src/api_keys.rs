//! API keys: one row each, without what they are recognised by. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::api_key::{ApiKey, HourlyLimit};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column, int},
    roles::joined,
};

/// An API key as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// The key.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// What it begins with, after `ck_`.
    pub prefix: String,
    /// What it may do, as `resource:action:scope`.
    pub permissions: Vec<String>,
    /// How many calls an hour; the plan's number where not set, any number where negative.
    pub calls_per_hour: Option<i32>,
    /// When it stops working by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was last used, within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The sequence of its last event.
    pub version: i64,
    /// When its first event was recorded.
    pub created_at: DateTime<Utc>,
    /// When its last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// One key.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<ApiKeyRow>, sqlx::Error> {
    sqlx::query_as!(
        ApiKeyRow,
        r#"SELECT k.id, name, prefix, permissions, calls_per_hour, expires_at, revoked,
                  s.last_used_at AS "last_used_at?", version, created_at, updated_at
           FROM api_keys k LEFT JOIN api_key_secrets s ON s.api_key_id = k.id WHERE k.id = $1"#,
        id
    )
    .fetch_optional(connection)
    .await
}

/// Keys in the order of their ids, after the one given; revoked ones, the others, or both.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    revoked: Option<bool>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ApiKeyRow>, sqlx::Error> {
    sqlx::query_as!(
        ApiKeyRow,
        r#"SELECT k.id, name, prefix, permissions, calls_per_hour, expires_at, revoked,
                  s.last_used_at AS "last_used_at?", version, created_at, updated_at
           FROM api_keys k LEFT JOIN api_key_secrets s ON s.api_key_id = k.id
           WHERE k.id > $1 AND ($2::boolean IS NULL OR revoked = $2) ORDER BY k.id LIMIT $3"#,
        after.unwrap_or_default(),
        revoked,
        limit
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, ApiKey>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.api_keys (id, name, prefix, permissions, tier, calls_per_hour, expires_at, revoked, version,
                                   position, created_at, updated_at)
         SELECT id, name, prefix, string_to_array(permissions, ','), tier, calls_per_hour, expires_at, revoked, version,
                position, created_at, updated_at
         FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::timestamptz[],
                     $8::boolean[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::timestamptz[])
              AS w (id, name, prefix, permissions, tier, calls_per_hour, expires_at, revoked, version, position, created_at,
                    updated_at)
         ON CONFLICT (id) DO UPDATE
         SET revoked = EXCLUDED.revoked, version = EXCLUDED.version, position = EXCLUDED.position,
             updated_at = EXCLUDED.updated_at",
    );
    let calls = |hourly: HourlyLimit| match hourly {
        HourlyLimit::Plan => None,
        HourlyLimit::Calls(calls) => Some(int(calls)),
        HourlyLimit::Unlimited => Some(-1),
    };
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.name.as_str()))
        .bind(column!(rows, row => row.state.prefix.as_str()))
        .bind(column!(rows, row => joined(&row.state.permissions)))
        .bind(column!(rows, row => row.state.tier.as_str()))
        .bind(column!(rows, row => calls(row.state.hourly)))
        .bind(column!(rows, row => row.state.expires_at))
        .bind(column!(rows, row => row.state.revoked))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
