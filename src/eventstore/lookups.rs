//! What decisions ask the database for, within their batch. Each statement names its schema, so that it stays planned on
//! the lane's connection.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use daybook_domain::{
    BookingId, Interval, ResourceId,
    occupancy::{Claim, Occupancy},
};
use sqlx::types::Json;
use uuid::Uuid;

use super::{IdempotencyKey, StoreError, Unit, idempotency::StoredResponse};
use crate::tenancy::TenantTx;

/// An answer that was kept.
#[derive(Debug)]
pub(super) struct StoredRow {
    pub response: StoredResponse,
    pub first_position: i64,
    pub last_position: i64,
    pub at: DateTime<Utc>,
}

/// Loads a resource's claims that end after `since`.
pub(super) async fn load_occupancy(
    tx: &mut TenantTx<'_>,
    resource: ResourceId,
    since: DateTime<Utc>,
) -> Result<Occupancy, StoreError> {
    let sql = tx.schema().sql(
        "SELECT booking_id, starts_at, ends_at, unit, expires_at FROM {s}.slot_claims
         WHERE resource_id = $1 AND ends_at > $2",
    );
    let rows: Vec<(Uuid, DateTime<Utc>, DateTime<Utc>, Option<i32>, Option<DateTime<Utc>>)> =
        sqlx::query_as(&sql)
            .bind(resource.0)
            .bind(since)
            .fetch_all(&mut **tx)
            .await
            .map_err(StoreError::db("read a resource's claims"))?;
    rows.into_iter()
        .map(|(booking, start, end, unit, expires_at)| claim_of(booking, start, end, unit, expires_at))
        .collect()
}

/// A claim, as its row has it.
pub(super) fn claim_of(
    booking: Uuid,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    unit: Option<i32>,
    expires_at: Option<DateTime<Utc>>,
) -> Result<Claim, StoreError> {
    let during = Interval::new(start, end).map_err(|_| StoreError::Corrupt {
        what: "a claim without length",
        position: 0,
        source: None,
    })?;
    Ok(Claim {
        booking_id: BookingId(booking),
        during,
        unit: unit.and_then(|unit| u32::try_from(unit).ok()),
        expires_at,
    })
}

/// The answers kept under the keys of a batch, by the unit's index, with the hash of the request.
pub(super) async fn stored_responses(
    tx: &mut TenantTx<'_>,
    units: &[&Unit],
) -> Result<HashMap<usize, ([u8; 32], StoredRow)>, StoreError> {
    let keyed: Vec<(usize, &IdempotencyKey)> = units
        .iter()
        .enumerate()
        .filter_map(|(index, unit)| Some((index, unit.idempotency.as_ref()?)))
        .collect();
    if keyed.is_empty() {
        return Ok(HashMap::new());
    }
    let scopes: Vec<&str> = keyed.iter().map(|(_, key)| key.scope.as_str()).collect();
    let keys: Vec<&str> = keyed.iter().map(|(_, key)| key.key.as_str()).collect();
    let indexes: Vec<i64> = keyed.iter().map(|(index, _)| *index as i64).collect();
    let sql = tx.schema().sql(
        "SELECT w.index, i.request_hash, i.response, i.first_position, i.last_position, i.at
         FROM UNNEST($1::bigint[], $2::text[], $3::text[]) AS w (index, scope, key)
         JOIN {s}.idempotency i ON i.scope = w.scope AND i.key = w.key",
    );
    let rows: Vec<(i64, Vec<u8>, Json<StoredResponse>, Option<i64>, Option<i64>, DateTime<Utc>)> =
        sqlx::query_as(&sql)
            .bind(&indexes)
            .bind(&scopes)
            .bind(&keys)
            .fetch_all(&mut **tx)
            .await
            .map_err(StoreError::db("look for idempotency keys"))?;
    rows.into_iter()
        .map(|(index, hash, response, first, last, at)| {
            let hash = <[u8; 32]>::try_from(hash).map_err(|_| StoreError::Corrupt {
                what: "an idempotency key without a hash",
                position: last.unwrap_or(0),
                source: None,
            })?;
            let row = StoredRow {
                response: response.0,
                first_position: first.unwrap_or(0),
                last_position: last.unwrap_or(0),
                at,
            };
            Ok((usize::try_from(index).unwrap_or(usize::MAX), (hash, row)))
        })
        .collect()
}

/// Who owns a unique value.
pub(super) async fn unique_owner(
    tx: &mut TenantTx<'_>,
    kind: &str,
    key: &[u8],
) -> Result<Option<Uuid>, StoreError> {
    let sql = tx.schema().sql("SELECT owner FROM {s}.unique_claims WHERE kind = $1 AND key_hmac = $2");
    sqlx::query_scalar(&sql)
        .bind(kind)
        .bind(key)
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::db("look for a unique value"))
}

/// Bookings of a customer that are not over.
pub(super) async fn live_bookings(tx: &mut TenantTx<'_>, customer: Uuid) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM {s}.bookings
               WHERE customer_id = $1 AND status IN ('held', 'pending', 'confirmed', 'checked_in')";
    count(tx, sql, customer, "count a customer's bookings").await
}

/// Active accounts of the log's highest tier, without one of them.
pub(super) async fn admins(tx: &mut TenantTx<'_>, but: Uuid) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM {s}.users
               WHERE tier IN ('tenant_owner', 'superuser') AND status = 'active' AND id <> $1";
    count(tx, sql, but, "count the owners").await
}

/// Accounts with a role that are not gone.
pub(super) async fn users_with_role(tx: &mut TenantTx<'_>, role: Uuid) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM {s}.users WHERE role_id = $1 AND status <> 'deleted'";
    count(tx, sql, role, "count a role's accounts").await
}

async fn count(
    tx: &mut TenantTx<'_>,
    sql: &'static str,
    id: Uuid,
    attempted: &'static str,
) -> Result<i64, StoreError> {
    let sql = tx.schema().sql(sql);
    sqlx::query_scalar(&sql).bind(id).fetch_one(&mut **tx).await.map_err(StoreError::db(attempted))
}

/// The names of all plans; only the platform's schema has them.
pub(super) async fn plans(tx: &mut TenantTx<'_>) -> Result<Vec<String>, StoreError> {
    let sql = tx.schema().sql("SELECT id FROM {s}.plans ORDER BY id");
    sqlx::query_scalar(&sql).fetch_all(&mut **tx).await.map_err(StoreError::db("read the plans"))
}
