//! Tenants: one row each, in the platform's schema. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::tenant::Tenant;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// A tenant as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    /// The tenant.
    pub id: Uuid,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// Whether anything of it may be used.
    pub active: bool,
    /// Whether it is a demo tenant.
    pub temporary: bool,
    /// Its IANA time zone.
    pub time_zone: String,
    /// Its currency.
    pub currency: String,
    /// Its data region label.
    pub region: String,
    /// The sequence of its last event.
    pub version: i64,
    /// The position of its last event.
    pub position: i64,
    /// When its first event was recorded.
    pub created_at: DateTime<Utc>,
    /// When its last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which tenants are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantFilter {
    /// Active ones only, or those that are not; both if not set.
    pub active: Option<bool>,
    /// Demo tenants only, or the others; both if not set.
    pub temporary: Option<bool>,
}

/// One tenant.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<TenantRow>, sqlx::Error> {
    sqlx::query_as!(
        TenantRow,
        "SELECT id, slug, name, plan, active, temporary, time_zone, currency, region, version, position, created_at,
                updated_at
         FROM tenants WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Tenants in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &TenantFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<TenantRow>, sqlx::Error> {
    sqlx::query_as!(
        TenantRow,
        "SELECT id, slug, name, plan, active, temporary, time_zone, currency, region, version, position, created_at,
                updated_at
         FROM tenants WHERE id > $1 AND ($2::boolean IS NULL OR active = $2)
           AND ($4::boolean IS NULL OR temporary = $4)
         ORDER BY id LIMIT $3",
        after.unwrap_or_default(),
        filter.active,
        limit,
        filter.temporary
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Tenant>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.tenants (id, slug, name, plan, active, temporary, time_zone, currency, region, version, position,
                                  created_at, updated_at, ended_plans)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::boolean[], $7::text[],
                              $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::timestamptz[], $13::timestamptz[],
                              $14::jsonb[])
         ON CONFLICT (id) DO UPDATE
         SET slug = EXCLUDED.slug, name = EXCLUDED.name, plan = EXCLUDED.plan, active = EXCLUDED.active,
             temporary = EXCLUDED.temporary, time_zone = EXCLUDED.time_zone, currency = EXCLUDED.currency,
             region = EXCLUDED.region, version = EXCLUDED.version, position = EXCLUDED.position,
             updated_at = EXCLUDED.updated_at, ended_plans = EXCLUDED.ended_plans",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.slug.as_str()))
        .bind(column!(rows, row => row.state.name.as_str()))
        .bind(column!(rows, row => row.state.plan.as_str()))
        .bind(column!(rows, row => row.state.active))
        .bind(column!(rows, row => row.state.temporary))
        .bind(column!(rows, row => row.state.time_zone.name()))
        .bind(column!(rows, row => row.state.currency.to_string()))
        .bind(column!(rows, row => row.state.region.as_str()))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .bind(column!(rows, row => Json(&row.state.ended_plans)))
        .execute(connection)
        .await?;
    Ok(())
}
