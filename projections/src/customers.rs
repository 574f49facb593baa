//! Customers: one row each, as they are now. Inline. A value that was erased is absent.

use chrono::{DateTime, Utc};
use daybook_domain::{Disclosed, customer::Customer};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// A customer as they are now.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomerRow {
    /// The customer.
    pub id: Uuid,
    /// Their name. Personal; absent once erased.
    pub name: Disclosed<String>,
    /// Their e-mail address. Personal.
    pub email: Disclosed<String>,
    /// Their telephone number. Personal.
    pub phone: Disclosed<String>,
    /// Whether they can book no more.
    pub archived: bool,
    /// Where their erasure stands, once it was asked for: as in [`crate::erasures`].
    pub erasure: Option<String>,
    /// The sequence of the last event.
    pub version: i64,
    /// The position of the last event.
    pub position: i64,
    /// When the first event was recorded.
    pub created_at: DateTime<Utc>,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which customers are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerFilter {
    /// Archived ones only, or those that are not; both if not set.
    pub archived: Option<bool>,
    /// With exactly this e-mail address, in any case.
    pub email: Option<String>,
    /// This one only: the one the reader is.
    pub only: Option<Uuid>,
}

/// One customer.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<CustomerRow>, sqlx::Error> {
    sqlx::query_as!(
        CustomerRow,
        r#"SELECT id, name, email, phone, archived, erasure AS "erasure?", version, position, created_at, updated_at
         FROM customers c CROSS JOIN LATERAL (
             SELECT CASE WHEN c.erased_at IS NOT NULL THEN 'done'
                         WHEN c.erasure_requested_at IS NULL THEN NULL
                         WHEN EXISTS (SELECT FROM legal_holds h WHERE h.released_at IS NULL
                                      AND (h.customer_id IS NULL OR h.customer_id = c.id)) THEN 'queued'
                         ELSE 'requested' END AS erasure) AS stands
         WHERE id = $1"#,
        id
    )
    .fetch_optional(connection)
    .await
}

/// Customers in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &CustomerFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<CustomerRow>, sqlx::Error> {
    let after = after.unwrap_or_default();
    if let Some(email) = &filter.email {
        return sqlx::query_as!(
            CustomerRow,
            r#"SELECT id, name, email, phone, archived, erasure AS "erasure?", version, position, created_at, updated_at
             FROM customers c CROSS JOIN LATERAL (
             SELECT CASE WHEN c.erased_at IS NOT NULL THEN 'done'
                         WHEN c.erasure_requested_at IS NULL THEN NULL
                         WHEN EXISTS (SELECT FROM legal_holds h WHERE h.released_at IS NULL
                                      AND (h.customer_id IS NULL OR h.customer_id = c.id)) THEN 'queued'
                         ELSE 'requested' END AS erasure) AS stands
             WHERE lower(email) = lower($1) AND id > $2 AND ($3::boolean IS NULL OR archived = $3)
               AND ($5::uuid IS NULL OR id = $5)
             ORDER BY id LIMIT $4"#,
            email,
            after,
            filter.archived,
            limit,
            filter.only
        )
        .fetch_all(connection)
        .await;
    }
    sqlx::query_as!(
        CustomerRow,
        r#"SELECT id, name, email, phone, archived, erasure AS "erasure?", version, position, created_at, updated_at
         FROM customers c CROSS JOIN LATERAL (
             SELECT CASE WHEN c.erased_at IS NOT NULL THEN 'done'
                         WHEN c.erasure_requested_at IS NULL THEN NULL
                         WHEN EXISTS (SELECT FROM legal_holds h WHERE h.released_at IS NULL
                                      AND (h.customer_id IS NULL OR h.customer_id = c.id)) THEN 'queued'
                         ELSE 'requested' END AS erasure) AS stands
         WHERE id > $1 AND ($2::boolean IS NULL OR archived = $2) AND ($4::uuid IS NULL OR id = $4)
         ORDER BY id LIMIT $3"#,
        after,
        filter.archived,
        limit,
        filter.only
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Customer>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.customers (id, name, email, phone, archived, erasure_requested_at, erased_at, version,
                                    position, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[],
                              $7::timestamptz[], $8::bigint[], $9::bigint[], $10::timestamptz[], $11::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET name = EXCLUDED.name, email = EXCLUDED.email, phone = EXCLUDED.phone, archived = EXCLUDED.archived,
             erasure_requested_at = EXCLUDED.erasure_requested_at, erased_at = EXCLUDED.erased_at, version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.name.expose().map(|name| name.as_str())))
        .bind(column!(rows, row => row.state.email.as_ref().and_then(|email| email.expose()).map(|email| email.as_str())))
        .bind(column!(rows, row => row.state.phone.as_ref().and_then(|phone| phone.expose()).map(|phone| phone.as_str())))
        .bind(column!(rows, row => row.state.archived))
        .bind(column!(rows, row => row.state.erasure.map(|erasure| erasure.requested_at)))
        .bind(column!(rows, row => row.state.erasure.and_then(|erasure| erasure.erased_at)))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
