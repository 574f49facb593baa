//! Resources: one row each, as they are now. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::resource::Resource;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column, int},
};

/// A resource as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceRow {
    /// The resource.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `unit` or `pool`.
    pub kind: String,
    /// How many units it has.
    pub capacity: i32,
    /// Its IANA time zone.
    pub time_zone: String,
    /// Whether it takes no more bookings.
    pub archived: bool,
    /// The sequence of its last event.
    pub version: i64,
    /// The position of its last event.
    pub position: i64,
    /// When its first event was recorded.
    pub created_at: DateTime<Utc>,
    /// When its last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which resources are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceFilter {
    /// Archived ones only, or those that are not; both if not set.
    pub archived: Option<bool>,
    /// Of this kind.
    pub kind: Option<String>,
    /// One of these: those the reader is confined to.
    pub among: Option<Vec<Uuid>>,
}

/// One resource.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<ResourceRow>, sqlx::Error> {
    sqlx::query_as!(
        ResourceRow,
        "SELECT id, name, kind, capacity, time_zone, archived, version, position, created_at, updated_at
         FROM resources WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Resources in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &ResourceFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ResourceRow>, sqlx::Error> {
    sqlx::query_as!(
        ResourceRow,
        "SELECT id, name, kind, capacity, time_zone, archived, version, position, created_at, updated_at
         FROM resources
         WHERE id > $1 AND ($2::boolean IS NULL OR archived = $2) AND ($3::text IS NULL OR kind = $3)
           AND ($5::uuid[] IS NULL OR id = ANY($5))
         ORDER BY id LIMIT $4",
        after.unwrap_or_default(),
        filter.archived,
        filter.kind.as_deref(),
        limit,
        filter.among.as_deref()
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Resource>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.resources (id, name, kind, capacity, time_zone, archived, version, position, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::boolean[], $7::bigint[],
                              $8::bigint[], $9::timestamptz[], $10::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET name = EXCLUDED.name, kind = EXCLUDED.kind, capacity = EXCLUDED.capacity, time_zone = EXCLUDED.time_zone,
             archived = EXCLUDED.archived, version = EXCLUDED.version, position = EXCLUDED.position,
             updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.name.as_str()))
        .bind(column!(rows, row => row.state.kind.as_str()))
        .bind(column!(rows, row => int(row.state.capacity)))
        .bind(column!(rows, row => row.state.time_zone.name()))
        .bind(column!(rows, row => row.state.archived))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
