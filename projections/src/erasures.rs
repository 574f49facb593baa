//! Erasures: customers of whom it was asked that they be forgotten, and where each stands. Read from the customers.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// An erasure as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasureRow {
    /// The customer.
    pub customer_id: Uuid,
    /// `requested` (about to be done), `queued` (a legal hold stands against it) or `done`.
    pub status: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When it was done.
    pub erased_at: Option<DateTime<Utc>>,
}

/// The statuses.
pub const STATUSES: [&str; 3] = ["requested", "queued", "done"];

/// The erasure of one customer, if one was asked for.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, customer: Uuid) -> Result<Option<ErasureRow>, sqlx::Error> {
    sqlx::query_as!(
        ErasureRow,
        r#"SELECT c.id AS customer_id, c.erasure_requested_at AS "requested_at!", c.erased_at,
                  CASE WHEN c.erased_at IS NOT NULL THEN 'done'
                       WHEN EXISTS (SELECT FROM legal_holds h WHERE h.released_at IS NULL
                                    AND (h.customer_id IS NULL OR h.customer_id = c.id)) THEN 'queued'
                       ELSE 'requested' END AS "status!"
           FROM customers c WHERE c.id = $1 AND c.erasure_requested_at IS NOT NULL"#,
        customer
    )
    .fetch_optional(connection)
    .await
}

/// Erasures in the order of the customers' ids, after the one given; of one status, or all.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    status: Option<&str>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ErasureRow>, sqlx::Error> {
    sqlx::query_as!(
        ErasureRow,
        r#"SELECT c.id AS customer_id, c.erasure_requested_at AS "requested_at!", c.erased_at, status AS "status!"
           FROM customers c
           CROSS JOIN LATERAL (
               SELECT CASE WHEN c.erased_at IS NOT NULL THEN 'done'
                           WHEN EXISTS (SELECT FROM legal_holds h WHERE h.released_at IS NULL
                                        AND (h.customer_id IS NULL OR h.customer_id = c.id)) THEN 'queued'
                           ELSE 'requested' END AS status
           ) AS stands
           WHERE c.erasure_requested_at IS NOT NULL AND c.id > $1 AND ($2::text IS NULL OR status = $2)
           ORDER BY c.id LIMIT $3"#,
        after.unwrap_or_default(),
        status,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Customers whose erasure was asked for and can be done, no legal hold stands against it: in the order of their ids, after the
/// one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn due(
    connection: &mut PgConnection,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT c.id FROM customers c
         WHERE c.erasure_requested_at IS NOT NULL AND c.erased_at IS NULL AND c.id > $1
           AND NOT EXISTS (SELECT FROM legal_holds h WHERE h.released_at IS NULL
                           AND (h.customer_id IS NULL OR h.customer_id = c.id))
         ORDER BY c.id LIMIT $2",
        after.unwrap_or_default(),
        limit
    )
    .fetch_all(connection)
    .await
}
