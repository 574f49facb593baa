//! Leads: one row each, as they are now. Inline. A value that was erased is absent.

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, lead::Lead};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// A lead as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadRow {
    /// The lead.
    pub id: Uuid,
    /// Who asks. Personal; absent once erased.
    pub name: Disclosed<String>,
    /// Their e-mail address. Personal.
    pub email: Disclosed<String>,
    /// Their telephone number. Personal.
    pub phone: Disclosed<String>,
    /// What they wrote. Personal.
    pub message: Disclosed<String>,
    /// The offering they ask about.
    pub offering_id: Option<Uuid>,
    /// Whether somebody has seen to it.
    pub handled: bool,
    /// The sequence of the last event.
    pub version: i64,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// One lead.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<LeadRow>, sqlx::Error> {
    sqlx::query_as!(
        LeadRow,
        "SELECT id, name, email, phone, message, offering_id, handled, version, created_at, updated_at
         FROM leads WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Leads in the order of their ids, after the one given; handled ones, the others, or both.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    handled: Option<bool>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<LeadRow>, sqlx::Error> {
    let after = after.unwrap_or_default();
    // A statement of its own, so that its plan may use the index of those that wait.
    if handled == Some(false) {
        return sqlx::query_as!(
            LeadRow,
            "SELECT id, name, email, phone, message, offering_id, handled, version, created_at, updated_at
             FROM leads WHERE NOT handled AND id > $1 ORDER BY id LIMIT $2",
            after,
            limit
        )
        .fetch_all(connection)
        .await;
    }
    sqlx::query_as!(
        LeadRow,
        "SELECT id, name, email, phone, message, offering_id, handled, version, created_at, updated_at
         FROM leads WHERE id > $1 AND ($2::boolean IS NULL OR handled = $2) ORDER BY id LIMIT $3",
        after,
        handled,
        limit
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Lead>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.leads (id, name, email, phone, message, offering_id, handled, version, position, created_at,
                                updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::boolean[],
                              $8::bigint[], $9::bigint[], $10::timestamptz[], $11::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET name = EXCLUDED.name, email = EXCLUDED.email, phone = EXCLUDED.phone, message = EXCLUDED.message,
             offering_id = EXCLUDED.offering_id, handled = EXCLUDED.handled, version = EXCLUDED.version,
             position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.name.expose().map(|name| name.as_str())))
        .bind(column!(rows, row => row.state.email.as_ref().and_then(|email| email.expose()).map(|email| email.as_str())))
        .bind(column!(rows, row => row.state.phone.as_ref().and_then(|phone| phone.expose()).map(|phone| phone.as_str())))
        .bind(column!(rows, row => row.state.message.as_ref().and_then(|text| text.expose()).map(|text| text.as_str())))
        .bind(column!(rows, row => row.state.offering_id.map(|id| id.0)))
        .bind(column!(rows, row => row.state.handled))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
