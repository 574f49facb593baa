//! What a batch locks, catches up with and writes. Each statement names its schema, so that it stays planned on the lane's
//! connection.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use daybook_domain::{
    BookingId, Decider as _, ResourceId, SubjectId,
    audit_trail::AuditTrail,
    booking::Booking,
    occupancy::Claim,
    personal::revealing,
    registry::{AggregateType, AnyState, Registered},
};
use daybook_projections::{Combined, Schema, inline};
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    IdempotencyKey, StoreError,
    cache::{Entry, LaneCache},
    erasure::ERASED,
    idempotency::StoredResponse,
    load::FOLD_VERSION,
    lookups,
};
use crate::tenancy::TenantTx;

/// Past this many foreign events the lane starts with empty caches instead of reading them.
const MAX_CATCH_UP: i64 = 5_000;

/// The log's head under the batch's lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The position of the last event.
    pub position: i64,
    /// The time of this batch: the database's clock, never before the last batch's.
    pub recorded_at: DateTime<Utc>,
}

/// An event to be written.
#[derive(Debug)]
pub(super) struct NewEvent {
    pub position: i64,
    pub event_id: Uuid,
    pub aggregate_type: AggregateType,
    pub aggregate_id: Uuid,
    pub sequence: i64,
    pub event_type: &'static str,
    pub event_version: i32,
    pub recorded_at: DateTime<Utc>,
    /// When its aggregate changed last, which is not now where the event only carries it over.
    pub updated_at: DateTime<Utc>,
    pub actor: String,
    pub on_behalf_of: Option<String>,
    pub leaf: Vec<u8>,
}

/// A sealed personal value to be written.
#[derive(Debug)]
pub(super) struct NewSealed {
    pub position: i64,
    pub field: &'static str,
    pub subject: SubjectId,
    pub ciphertext: Vec<u8>,
}

/// An answer to be kept under its key.
#[derive(Debug)]
pub(super) struct NewResponse {
    pub key: IdempotencyKey,
    pub response: StoredResponse,
    pub positions: Option<(i64, i64)>,
}

/// Everything a batch writes.
pub(super) struct Rows {
    pub head: Head,
    pub events: Vec<NewEvent>,
    pub sealed: Vec<NewSealed>,
    pub new_keys: Vec<(SubjectId, Vec<u8>)>,
    pub unique: Vec<((&'static str, [u8; 32]), Option<Uuid>)>,
    /// Each changed aggregate: its state before the batch, and after.
    pub touched: Vec<(Uuid, AnyState, Entry)>,
    pub snapshot_every: i64,
    pub responses: Vec<NewResponse>,
    pub responses_expire_at: DateTime<Utc>,
}

impl Rows {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.responses.is_empty()
    }
}

/// Locks the log for this batch.
pub(super) async fn lock_head(tx: &mut TenantTx<'_>) -> Result<Head, StoreError> {
    let sql = tx.schema().sql("SELECT position, recorded_at, clock_timestamp() FROM {s}.log_head FOR UPDATE");
    let (position, last, clock): (i64, Option<DateTime<Utc>>, DateTime<Utc>) =
        sqlx::query_as(&sql.replace("recorded_at,", "NULLIF(recorded_at, '-infinity'),"))
            .fetch_one(&mut **tx)
            .await
            .map_err(StoreError::db("lock the log's head"))?;
    // Times in the log never run backwards, also when the database's clock is set back.
    Ok(Head { position, recorded_at: last.map_or(clock, |last| clock.max(last)) })
}

/// Drops from the cache what other processes wrote since it was true.
pub(super) async fn catch_up(
    tx: &mut TenantTx<'_>,
    cache: &mut LaneCache,
    head: i64,
) -> Result<(), StoreError> {
    let Some(known) = cache.known_position else { return Ok(()) };
    if known == head {
        return Ok(());
    }
    if head < known || head - known > MAX_CATCH_UP {
        // Behind what this process wrote: the database was restored under it.
        cache.clear();
        return Ok(());
    }
    let sql = tx.schema().sql(
        "SELECT aggregate_type, aggregate_id, bool_or(event_type = $3) FROM {s}.events
             WHERE position BETWEEN $1 AND $2 GROUP BY aggregate_type, aggregate_id",
    );
    let foreign: Vec<(String, Uuid, bool)> = sqlx::query_as(&sql)
        .bind(known + 1)
        .bind(head)
        .bind(ERASED)
        .fetch_all(&mut **tx)
        .await
        .map_err(StoreError::db("read what other processes wrote"))?;
    let pruned = |(aggregate_type, ..): &(String, Uuid, bool)| aggregate_type == AuditTrail::TYPE;
    if foreign.iter().any(|(.., erased)| *erased) || foreign.iter().any(pruned) {
        // Whoever was erased may be in it in other places than their own; and of a log that was pruned not all that
        // other processes wrote may be there any more.
        cache.clear();
        return Ok(());
    }
    let mut bookings = Vec::new();
    for (aggregate_type, id, _) in foreign {
        cache.states.pop(&id);
        match AggregateType::parse(&aggregate_type) {
            Some(AggregateType::Booking) => bookings.push(id),
            Some(AggregateType::Schedule) => cache.schedule_of.clear(),
            _ => {}
        }
    }
    if !cache.occupancies.is_empty() && !bookings.is_empty() {
        let sql = tx.schema().sql(
            "SELECT w.id, c.resource_id, c.starts_at, c.ends_at, c.unit, c.expires_at
             FROM UNNEST($1::uuid[]) AS w (id) LEFT JOIN {s}.slot_claims c ON c.booking_id = w.id",
        );
        let rows: Vec<(
            Uuid,
            Option<Uuid>,
            Option<DateTime<Utc>>,
            Option<DateTime<Utc>>,
            Option<i32>,
            Option<DateTime<Utc>>,
        )> = sqlx::query_as(&sql)
            .bind(&bookings)
            .fetch_all(&mut **tx)
            .await
            .map_err(StoreError::db("read claims that other processes wrote"))?;
        for (booking, resource, starts_at, ends_at, unit, expires_at) in rows {
            let claim = match (resource, starts_at, ends_at) {
                (Some(resource), Some(start), Some(end)) => {
                    Some((ResourceId(resource), lookups::claim_of(booking, start, end, unit, expires_at)?))
                }
                _ => None,
            };
            cache.occupancies.set(BookingId(booking), claim);
        }
    }
    Ok(())
}

/// Writes a batch. What nearly every batch writes is one statement; what few do are statements of their own, so that
/// there are not many shapes of it to be planned. The order matters to the guards only, which fire at the end of
/// each statement: what is released and moved goes before, or with, what is taken.
pub(super) async fn write(tx: &mut TenantTx<'_>, rows: &Rows) -> Result<(), StoreError> {
    write_personal(tx, rows).await?;
    write_unique(tx, rows).await?;
    let mut combined = Combined::default();
    write_events(&mut combined, tx.schema(), rows);
    // The last event of each aggregate: a replay must arrive at the same row.
    let last: HashMap<Uuid, (i64, DateTime<Utc>)> =
        rows.events.iter().map(|event| (event.aggregate_id, (event.position, event.updated_at))).collect();
    let changes: Vec<inline::Change<'_>> = rows
        .touched
        .iter()
        .map(|(id, _, after)| {
            let (position, recorded_at) =
                last.get(id).copied().unwrap_or((rows.head.position, rows.head.recorded_at));
            inline::Change { id: *id, version: after.sequence, position, recorded_at, state: &after.state }
        })
        .collect();
    let schema = tx.schema().clone();
    inline::apply(tx, &mut combined, &schema, &changes)
        .await
        .map_err(StoreError::db("write inline read models"))?;
    write_claims(tx, &mut combined, rows).await?;
    write_responses(&mut combined, &schema, rows);
    combined.execute(tx).await.map_err(StoreError::db("append events"))?;
    write_snapshots(tx, rows).await
}

fn write_events(combined: &mut Combined, schema: &Schema, rows: &Rows) {
    if rows.events.is_empty() {
        return;
    }
    macro_rules! column {
        ($map:expr) => {
            rows.events.iter().map($map).collect::<Vec<_>>()
        };
    }
    combined
        .rows(
            &schema.sql(
            "INSERT INTO {s}.events (position, event_id, aggregate_type, aggregate_id, sequence, event_type,
                                     event_version, recorded_at, actor, on_behalf_of, leaf)
             SELECT * FROM UNNEST($1::bigint[], $2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::text[],
                                  $7::integer[], $8::timestamptz[], $9::text[], $10::text[], $11::bytea[]) AS w",
            ),
            rows.events.len(),
        )
        .column(column!(|e| e.position))
        .column(column!(|e| e.event_id))
        .column(column!(|e| e.aggregate_type.as_str()))
        .column(column!(|e| e.aggregate_id))
        .column(column!(|e| e.sequence))
        .column(column!(|e| e.event_type))
        .column(column!(|e| e.event_version))
        .column(column!(|e| e.recorded_at))
        .column(column!(|e| e.actor.as_str()))
        .column(column!(|e| e.on_behalf_of.as_deref()))
        .column(column!(|e| e.leaf.as_slice()));
    combined
        .rows(
            &schema.sql(
                "INSERT INTO {s}.streams (aggregate_type, aggregate_id, sequence)
                 SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[]) AS w
                 ON CONFLICT (aggregate_id, aggregate_type) DO UPDATE SET sequence = EXCLUDED.sequence",
            ),
            rows.touched.len(),
        )
        .column(rows.touched.iter().map(|(_, _, e)| e.state.aggregate_type().as_str()).collect::<Vec<_>>())
        .column(rows.touched.iter().map(|(id, _, _)| *id).collect::<Vec<_>>())
        .column(rows.touched.iter().map(|(_, _, e)| e.sequence).collect::<Vec<_>>());
    combined
        .part(&schema.sql("UPDATE {s}.log_head SET position = $1, recorded_at = $2"))
        .bind(rows.head.position)
        .bind(rows.head.recorded_at);
}

async fn write_personal(tx: &mut TenantTx<'_>, rows: &Rows) -> Result<(), StoreError> {
    if !rows.new_keys.is_empty() {
        let sql = tx.schema().sql(
            "INSERT INTO {s}.subject_keys (subject_id, wrapped_key) SELECT * FROM UNNEST($1::uuid[], $2::bytea[])",
        );
        sqlx::query(&sql)
            .bind(rows.new_keys.iter().map(|(subject, _)| subject.0).collect::<Vec<_>>())
            .bind(rows.new_keys.iter().map(|(_, key)| key.as_slice()).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await
            .map_err(StoreError::db("write subject keys"))?;
    }
    if !rows.sealed.is_empty() {
        let sql = tx.schema().sql(
            "INSERT INTO {s}.sealed_values (position, field, subject_id, ciphertext)
             SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::uuid[], $4::bytea[])",
        );
        sqlx::query(&sql)
            .bind(rows.sealed.iter().map(|s| s.position).collect::<Vec<_>>())
            .bind(rows.sealed.iter().map(|s| s.field).collect::<Vec<_>>())
            .bind(rows.sealed.iter().map(|s| s.subject.0).collect::<Vec<_>>())
            .bind(rows.sealed.iter().map(|s| s.ciphertext.as_slice()).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await
            .map_err(StoreError::db("write sealed values"))?;
    }
    Ok(())
}

async fn write_unique(tx: &mut TenantTx<'_>, rows: &Rows) -> Result<(), StoreError> {
    let (taken, released): (Vec<_>, Vec<_>) = rows.unique.iter().partition(|(_, owner)| owner.is_some());
    if !released.is_empty() {
        let sql = tx.schema().sql(
            "DELETE FROM {s}.unique_claims u USING UNNEST($1::text[], $2::bytea[]) AS w (kind, key)
             WHERE u.kind = w.kind AND u.key_hmac = w.key",
        );
        sqlx::query(&sql)
            .bind(released.iter().map(|((kind, _), _)| *kind).collect::<Vec<_>>())
            .bind(released.iter().map(|((_, key), _)| key.as_slice()).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await
            .map_err(StoreError::db("release unique values"))?;
    }
    if !taken.is_empty() {
        // An owner that already had the value in an earlier batch keeps it; anyone else runs into the key.
        let sql = tx.schema().sql(
            "INSERT INTO {s}.unique_claims (kind, key_hmac, owner)
             SELECT w.kind, w.key, w.owner FROM UNNEST($1::text[], $2::bytea[], $3::uuid[]) AS w (kind, key, owner)
             WHERE NOT EXISTS (SELECT 1 FROM {s}.unique_claims u
                               WHERE u.kind = w.kind AND u.key_hmac = w.key AND u.owner = w.owner)",
        );
        sqlx::query(&sql)
            .bind(taken.iter().map(|((kind, _), _)| *kind).collect::<Vec<_>>())
            .bind(taken.iter().map(|((_, key), _)| key.as_slice()).collect::<Vec<_>>())
            .bind(taken.iter().filter_map(|(_, owner)| *owner).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await
            .map_err(StoreError::db("claim unique values"))?;
    }
    Ok(())
}

async fn write_claims(tx: &mut TenantTx<'_>, combined: &mut Combined, rows: &Rows) -> Result<(), StoreError> {
    let (mut capacities, mut released, mut moved, mut taken) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, before, after) in &rows.touched {
        match &after.state {
            AnyState::Resource(resource) => {
                capacities.push((*id, i32::try_from(resource.capacity).unwrap_or(i32::MAX)))
            }
            AnyState::Booking(booking) => {
                let old = Booking::of(before).and_then(|before| before.claim());
                match (old, booking.claim()) {
                    (old, new) if old == new => {}
                    (None, Some(new)) => taken.push(new),
                    (Some(_), Some(new)) => moved.push(new),
                    (Some(_), None) => released.push(*id),
                    (None, None) => {}
                }
            }
            AnyState::Tenant(_)
            | AnyState::Offering(_)
            | AnyState::Schedule(_)
            | AnyState::Customer(_)
            | AnyState::User(_)
            | AnyState::Role(_)
            | AnyState::ApiKey(_)
            | AnyState::Settings(_)
            | AnyState::Lead(_)
            | AnyState::PermissionGrant(_)
            | AnyState::SupportRequest(_)
            | AnyState::SupportSession(_)
            | AnyState::Hijack(_)
            | AnyState::AuditExport(_)
            | AnyState::LegalHold(_)
            | AnyState::AuditTrail(_) => {}
        }
    }
    if !capacities.is_empty() {
        let sql = tx.schema().sql(
            "INSERT INTO {s}.slot_resources (resource_id, capacity) SELECT * FROM UNNEST($1::uuid[], $2::integer[])
             ON CONFLICT (resource_id) DO UPDATE SET capacity = EXCLUDED.capacity",
        );
        sqlx::query(&sql)
            .bind(capacities.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(capacities.iter().map(|(_, capacity)| *capacity).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await
            .map_err(StoreError::db("write capacities"))?;
    }
    // The guard fires for each statement, so that none is made which changes nothing.
    if !moved.is_empty() {
        // What is released frees places for what is moved.
        let sql = tx.schema().sql("DELETE FROM {s}.slot_claims WHERE booking_id = ANY($1)");
        sqlx::query(&sql)
            .bind(std::mem::take(&mut released))
            .execute(&mut **tx)
            .await
            .map_err(StoreError::db("release claims"))?;
        let mut moves = Combined::default();
        let sql = tx.schema().sql(
            "UPDATE {s}.slot_claims c
             SET resource_id = w.resource_id, starts_at = w.starts_at, ends_at = w.ends_at, unit = w.unit,
                 expires_at = w.expires_at
             FROM UNNEST($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::integer[], $6::timestamptz[])
                 AS w (booking_id, resource_id, starts_at, ends_at, unit, expires_at)
             WHERE c.booking_id = w.booking_id",
        );
        bind_claims(moves.rows(&sql, moved.len()), &moved);
        moves.execute(tx).await.map_err(StoreError::db("move claims"))?;
    }
    if !released.is_empty() {
        combined
            .part(&tx.schema().sql("DELETE FROM {s}.slot_claims WHERE booking_id = ANY($1)"))
            .bind(released);
    }
    if !taken.is_empty() {
        let sql = tx.schema().sql(
            "INSERT INTO {s}.slot_claims (booking_id, resource_id, starts_at, ends_at, unit, expires_at)
             SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::integer[], $6::timestamptz[]) AS w",
        );
        bind_claims(combined.rows(&sql, taken.len()), &taken);
    }
    Ok(())
}

fn bind_claims(combined: &mut Combined, claims: &[(ResourceId, Claim)]) {
    combined
        .column(claims.iter().map(|(_, c)| c.booking_id.0).collect::<Vec<_>>())
        .column(claims.iter().map(|(resource, _)| resource.0).collect::<Vec<_>>())
        .column(claims.iter().map(|(_, c)| c.during.start()).collect::<Vec<_>>())
        .column(claims.iter().map(|(_, c)| c.during.end()).collect::<Vec<_>>())
        .column(claims.iter().map(|(_, c)| c.unit.and_then(|u| i32::try_from(u).ok())).collect::<Vec<_>>())
        .column(claims.iter().map(|(_, c)| c.expires_at).collect::<Vec<_>>());
}

fn write_responses(combined: &mut Combined, schema: &Schema, rows: &Rows) {
    if rows.responses.is_empty() {
        return;
    }
    let sql = schema.sql(
        "INSERT INTO {s}.idempotency (scope, key, request_hash, response, first_position, last_position, at, expires_at)
         SELECT w.*, $7, $8 FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::jsonb[], $5::bigint[], $6::bigint[])
             AS w (scope, key, hash, response, first, last)",
    );
    combined
        .rows(&sql, rows.responses.len())
        .column(rows.responses.iter().map(|r| r.key.scope.as_str()).collect::<Vec<_>>())
        .column(rows.responses.iter().map(|r| r.key.key.as_str()).collect::<Vec<_>>())
        .column(rows.responses.iter().map(|r| r.key.request_hash.as_slice()).collect::<Vec<_>>())
        .column(rows.responses.iter().map(|r| Json(&r.response)).collect::<Vec<_>>())
        .column(rows.responses.iter().map(|r| r.positions.map(|p| p.0)).collect::<Vec<_>>())
        .column(rows.responses.iter().map(|r| r.positions.map(|p| p.1)).collect::<Vec<_>>())
        .bind(rows.head.recorded_at)
        .bind(rows.responses_expire_at);
}

/// Long streams get a snapshot each time they pass a multiple of the distance.
async fn write_snapshots(tx: &mut TenantTx<'_>, rows: &Rows) -> Result<(), StoreError> {
    for (id, _, after) in rows.touched.iter().filter(|(.., after)| after.sequence >= rows.snapshot_every) {
        let in_batch = rows.events.iter().filter(|event| event.aggregate_id == *id).count() as i64;
        let passed = after.sequence / rows.snapshot_every > (after.sequence - in_batch) / rows.snapshot_every;
        if !passed {
            continue;
        }
        // The tenant's own schema may hold personal values; erasing a person purges snapshots as well.
        let json = revealing(|| after.state.to_json()).map_err(|source| StoreError::Corrupt {
            what: "a state that does not serialise",
            position: rows.head.position,
            source: Some(source.into()),
        })?;
        let sql = tx.schema().sql(
            "INSERT INTO {s}.snapshots (aggregate_type, aggregate_id, sequence, fold_version, state)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (aggregate_id, aggregate_type) DO UPDATE
             SET sequence = EXCLUDED.sequence, fold_version = EXCLUDED.fold_version, state = EXCLUDED.state",
        );
        sqlx::query(&sql)
            .bind(after.state.aggregate_type().as_str())
            .bind(id)
            .bind(after.sequence)
            .bind(FOLD_VERSION)
            .bind(json)
            .execute(&mut **tx)
            .await
            .map_err(StoreError::db("write a snapshot"))?;
    }
    Ok(())
}
