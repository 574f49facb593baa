//! Offerings: one row each, as they are now. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::offering::{Offering, OfferingTerms};
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column, uuid_array},
};

/// An offering as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferingRow {
    /// The offering.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `nights` or `slot`.
    pub mode: String,
    /// The resources it is for.
    pub resource_ids: Vec<Uuid>,
    /// All that it says, as JSON. See [`OfferingRow::terms`].
    pub terms: Value,
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

impl OfferingRow {
    /// All that it says.
    ///
    /// # Errors
    /// When the row was written by a binary whose offerings have another shape.
    pub fn terms(&self) -> Result<OfferingTerms, serde_json::Error> {
        serde::Deserialize::deserialize(&self.terms)
    }
}

/// Which offerings are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferingFilter {
    /// Archived ones only, or those that are not; both if not set.
    pub archived: Option<bool>,
    /// For this resource.
    pub resource_id: Option<Uuid>,
    /// Of this mode (`nights`, `slot`).
    pub mode: Option<String>,
}

/// One offering.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<OfferingRow>, sqlx::Error> {
    sqlx::query_as!(
        OfferingRow,
        "SELECT id, name, mode, resource_ids, terms, archived, version, position, created_at, updated_at
         FROM offerings WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Offerings in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &OfferingFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<OfferingRow>, sqlx::Error> {
    sqlx::query_as!(
        OfferingRow,
        "SELECT id, name, mode, resource_ids, terms, archived, version, position, created_at, updated_at
         FROM offerings
         WHERE id > $1
           AND ($2::boolean IS NULL OR archived = $2)
           AND ($3::uuid IS NULL OR $3 = ANY(resource_ids))
           AND ($5::text IS NULL OR mode = $5)
         ORDER BY id LIMIT $4",
        after.unwrap_or_default(),
        filter.archived,
        filter.resource_id,
        limit,
        filter.mode.as_deref()
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Offering>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.offerings (id, name, mode, resource_ids, terms, archived, version, position, created_at, updated_at)
         SELECT id, name, mode, resource_ids::uuid[], terms, archived, version, position, created_at, updated_at
         FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::boolean[], $7::bigint[],
                              $8::bigint[], $9::timestamptz[], $10::timestamptz[])
             AS w (id, name, mode, resource_ids, terms, archived, version, position, created_at, updated_at)
         ON CONFLICT (id) DO UPDATE
         SET name = EXCLUDED.name, mode = EXCLUDED.mode, resource_ids = EXCLUDED.resource_ids, terms = EXCLUDED.terms,
             archived = EXCLUDED.archived, version = EXCLUDED.version, position = EXCLUDED.position,
             updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.name.as_str()))
        .bind(column!(rows, row => row.state.mode.as_str()))
        .bind(column!(rows, row => uuid_array(row.state.resource_ids.iter().map(|id| id.0))))
        .bind(column!(rows, row => Json(&row.state.terms)))
        .bind(column!(rows, row => row.state.archived))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
