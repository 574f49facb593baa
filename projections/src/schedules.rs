//! Schedules: one row each, as they are now. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::schedule::{Rules, Schedule};
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column, uuid_array},
};

/// A schedule as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRow {
    /// The schedule.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The resources it is for.
    pub resource_ids: Vec<Uuid>,
    /// All that it says, as JSON. See [`ScheduleRow::rules`].
    pub rules: Value,
    /// Whether it is out of use.
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

impl ScheduleRow {
    /// All that it says.
    ///
    /// # Errors
    /// When the row was written by a binary whose schedules have another shape.
    pub fn rules(&self) -> Result<Rules, serde_json::Error> {
        serde::Deserialize::deserialize(&self.rules)
    }
}

/// Which schedules are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleFilter {
    /// Archived ones only, or those that are not; both if not set.
    pub archived: Option<bool>,
    /// For this resource.
    pub resource_id: Option<Uuid>,
}

/// One schedule.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<ScheduleRow>, sqlx::Error> {
    sqlx::query_as!(
        ScheduleRow,
        "SELECT id, name, resource_ids, rules, archived, version, position, created_at, updated_at
         FROM schedules WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Schedules in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &ScheduleFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ScheduleRow>, sqlx::Error> {
    sqlx::query_as!(
        ScheduleRow,
        "SELECT id, name, resource_ids, rules, archived, version, position, created_at, updated_at
         FROM schedules
         WHERE id > $1
           AND ($2::boolean IS NULL OR archived = $2)
           AND ($3::uuid IS NULL OR $3 = ANY(resource_ids))
         ORDER BY id LIMIT $4",
        after.unwrap_or_default(),
        filter.archived,
        filter.resource_id,
        limit
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Schedule>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.schedules (id, name, resource_ids, rules, archived, version, position, created_at, updated_at)
         SELECT id, name, resource_ids::uuid[], rules, archived, version, position, created_at, updated_at
         FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::boolean[], $6::bigint[], $7::bigint[],
                              $8::timestamptz[], $9::timestamptz[])
             AS w (id, name, resource_ids, rules, archived, version, position, created_at, updated_at)
         ON CONFLICT (id) DO UPDATE
         SET name = EXCLUDED.name, resource_ids = EXCLUDED.resource_ids, rules = EXCLUDED.rules,
             archived = EXCLUDED.archived, version = EXCLUDED.version, position = EXCLUDED.position,
             updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.name.as_str()))
        .bind(column!(rows, row => uuid_array(row.state.resource_ids.iter().map(|id| id.0))))
        .bind(column!(rows, row => Json(&row.state.rules)))
        .bind(column!(rows, row => row.state.archived))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
