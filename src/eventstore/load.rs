//! Reading a log back: streams, aggregates at a sequence, position or time, and ranges of events.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use daybook_domain::{
    RecordedEvent, SubjectId, TenantId,
    registry::{AggregateType, AnyEvent, AnyState},
};
use daybook_projections::Schema;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    MAX_RECEIPTS, Receipt, StoreError, StreamRef,
    cache::Entry,
    known,
    leaf::{Leaf, leaf_hash},
    seal,
};
use crate::keys::Keys;

/// Past what was pruned: of that nothing is read any more, whether it is deleted yet or not.
///
/// Where streams are read, the position is `position + 0`, which the index of positions does not have: of a table that was
/// not analyzed yet PostgreSQL would rather read all of that index, for each stream, to sift two events by it.
macro_rules! kept {
    ($position:literal) => {
        concat!($position, " > (SELECT coalesce(max(p.through_position), 0) FROM {s}.audit_prunings p)")
    };
}

/// Bump when a fold changes its meaning: snapshots of another version are not used.
pub const FOLD_VERSION: i32 = 2;

/// A version that no snapshot has.
const NO_SNAPSHOTS: i32 = 0;

/// Leaves decoded before other tasks get their turn.
const AT_ONCE: usize = 32;

/// How far a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To its end.
    End,
    /// Up to and including this sequence of the stream.
    Sequence(i64),
    /// Up to and including this position of the log.
    Position(i64),
    /// What was recorded by this time.
    Time(DateTime<Utc>),
}

/// Reads leaves and puts personal values back.
pub struct Reader<'a> {
    schema: &'a Schema,
    keys: &'a Keys,
    /// Whether personal values are unsealed; without it they stay sealed, which is enough for most decisions.
    disclose: bool,
    subject_keys: HashMap<SubjectId, Option<Zeroizing<[u8; 32]>>>,
}

impl<'a> Reader<'a> {
    /// A reader that unseals personal values.
    pub fn disclosing(schema: &'a Schema, keys: &'a Keys) -> Self {
        Self { schema, keys, disclose: true, subject_keys: HashMap::new() }
    }

    /// A reader that leaves personal values sealed.
    pub fn sealed(schema: &'a Schema, keys: &'a Keys) -> Self {
        Self { schema, keys, disclose: false, subject_keys: HashMap::new() }
    }

    /// The schema it reads.
    pub(super) fn schema(&self) -> &'a Schema {
        self.schema
    }

    /// The events after a position, at most `limit` of them, in order.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn after(
        &mut self,
        connection: &mut PgConnection,
        position: i64,
        limit: i64,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let sql = self.schema.sql(concat!(
            "SELECT position, leaf FROM {s}.events WHERE position > $1 AND ",
            kept!("position"),
            " ORDER BY position LIMIT $2"
        ));
        let rows = sqlx::query(&sql)
            .bind(position)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::db("read the log"))?;
        self.decode(connection, rows).await
    }

    /// The events of one type after a position, at most `limit` of them, in order.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn of_type(
        &mut self,
        connection: &mut PgConnection,
        event_type: &str,
        position: i64,
        limit: i64,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let sql = self.schema.sql(concat!(
            "SELECT position, leaf FROM {s}.events WHERE event_type = $1 AND position > $2 AND ",
            kept!("position"),
            " ORDER BY position LIMIT $3"
        ));
        let rows = sqlx::query(&sql)
            .bind(event_type)
            .bind(position)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::db("read the log by type"))?;
        self.decode(connection, rows).await
    }

    /// The events of streams before a sequence of each, each stream's in order. One that was pruned begins with its state.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn before(
        &mut self,
        connection: &mut PgConnection,
        sequences: &HashMap<Uuid, i64>,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, before): (Vec<Uuid>, Vec<i64>) =
            sequences.iter().map(|(id, sequence)| (*id, *sequence)).unzip();
        // Stream by stream (`OFFSET 0`): PostgreSQL would rather read the whole log than look for some hundred streams in it,
        // as it takes each to be much longer than it is.
        //
        // Of a log that was pruned a stream begins with a state that was carried over later; which one, its first event says,
        // and that may be the one which is asked about.
        let rows = sqlx::query(&self.schema.sql(concat!(
            "SELECT e.position, e.leaf
             FROM UNNEST($1::uuid[], $2::bigint[]) AS wanted (id, sequence), LATERAL (
                 SELECT e.position, e.leaf FROM {s}.events e
                 WHERE e.aggregate_id = wanted.id
                   AND (e.sequence < wanted.sequence
                        OR (e.sequence = wanted.sequence OR e.event_type = ANY($3))
                           AND EXISTS (SELECT FROM {s}.audit_prunings))
                   AND ",
            kept!("e.position + 0"),
            " OFFSET 0) AS e
             ORDER BY e.position"
        )))
        .bind(&ids)
        .bind(&before)
        .bind(AnyEvent::carried_types())
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::db("read earlier events"))?;
        let mut events = known::beginning(self.decode(connection, rows).await?);
        events.retain(|event| {
            sequences.get(&event.aggregate_id).is_some_and(|wanted| event.sequence < *wanted)
        });
        Ok(events)
    }

    /// The events of one stream. One that was pruned begins with its state at the cut.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn stream(
        &mut self,
        connection: &mut PgConnection,
        stream: StreamRef,
        until: Until,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let (sequence, position, time) = match until {
            Until::End => (i64::MAX, i64::MAX, DateTime::<Utc>::MAX_UTC),
            Until::Sequence(sequence) => (sequence, i64::MAX, DateTime::<Utc>::MAX_UTC),
            Until::Position(position) => (i64::MAX, position, DateTime::<Utc>::MAX_UTC),
            Until::Time(time) => (i64::MAX, i64::MAX, time),
        };
        // PostgreSQL's own range is narrower than chrono's.
        let time = time.min(DateTime::from_timestamp(32_503_680_000, 0).unwrap_or(time));
        let sql = self.schema.sql(concat!(
            "SELECT position, leaf FROM {s}.events
             WHERE aggregate_id = $1 AND aggregate_type = $2
               AND (sequence <= $3 AND position <= $4 AND recorded_at <= $5 OR event_type = ANY($6)
                    OR sequence = (SELECT min(f.sequence) FROM {s}.events f
                                   WHERE f.aggregate_id = $1 AND f.aggregate_type = $2 AND ",
            kept!("f.position + 0"),
            ")) AND ",
            kept!("position + 0"),
            " ORDER BY sequence"
        ));
        let rows = sqlx::query(&sql)
            .bind(stream.id)
            .bind(stream.aggregate_type.as_str())
            .bind(sequence)
            .bind(position)
            .bind(time)
            .bind(AnyEvent::carried_types())
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::db("read a stream"))?;
        let mut events = known::beginning(self.decode(connection, rows).await?);
        events.retain(|event| {
            event.sequence <= sequence && event.position <= position && event.recorded_at <= time
        });
        Ok(events)
    }

    /// One aggregate folded up to a point; `None` when nothing had happened to it by then.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn aggregate(
        &mut self,
        connection: &mut PgConnection,
        stream: StreamRef,
        until: Until,
    ) -> Result<Option<(Entry, RecordedEvent)>, StoreError> {
        let events = self.stream(connection, stream, until).await?;
        let mut state = AnyState::new(stream.aggregate_type);
        for event in &events {
            state.apply(&event.event);
        }
        Ok(events.into_iter().next_back().map(|last| (Entry { state, sequence: last.sequence }, last)))
    }

    /// Many aggregates at their end, from their snapshots where there are any. Ids without events are absent.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn aggregates(
        &mut self,
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Entry>, StoreError> {
        let mut found = HashMap::new();
        let unreadable = self.fold(connection, ids, FOLD_VERSION, &mut found).await?;
        // A snapshot of an older shape is only a cache that missed.
        if !unreadable.is_empty() {
            self.fold(connection, &unreadable, NO_SNAPSHOTS, &mut found).await?;
        }
        found.retain(|_, entry| entry.sequence > 0);
        Ok(found)
    }

    /// Folds aggregates from their snapshots of one version and what came after them, with one round trip: commands wait
    /// for it under the log's lock. Answers with those whose snapshot cannot be read.
    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        ids: &[Uuid],
        fold_version: i32,
        found: &mut HashMap<Uuid, Entry>,
    ) -> Result<Vec<Uuid>, StoreError> {
        // Stream by stream, as in `before`. A snapshot comes along with the first of its events, or alone.
        let rows = sqlx::query(&self.schema.sql(concat!(
            "SELECT e.position, e.leaf, wanted.id, s.aggregate_type, s.sequence,
                    CASE WHEN e.sequence IS NULL OR e.sequence = s.sequence + 1 THEN s.state END
             FROM UNNEST($1::uuid[]) AS wanted (id)
             LEFT JOIN LATERAL (
                 SELECT s.aggregate_type, s.sequence, s.state FROM {s}.snapshots s
                 WHERE s.aggregate_id = wanted.id AND s.fold_version = $2 OFFSET 0) AS s ON true
             LEFT JOIN LATERAL (
                 SELECT e.position, e.leaf, e.sequence FROM {s}.events e
                 WHERE e.aggregate_id = wanted.id AND e.sequence > coalesce(s.sequence, 0) AND ",
            kept!("e.position + 0"),
            " OFFSET 0) AS e ON true
             ORDER BY e.position"
        )))
        .bind(ids)
        .bind(fold_version)
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::db("read streams"))?;
        let mut unreadable = Vec::new();
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let snapshot: Option<serde_json::Value> =
                row.try_get(5).map_err(StoreError::db("read snapshots"))?;
            if let Some(json) = snapshot {
                let id: Uuid = row.try_get(2).map_err(StoreError::db("read snapshots"))?;
                let aggregate_type: String = row.try_get(3).map_err(StoreError::db("read snapshots"))?;
                let sequence: i64 = row.try_get(4).map_err(StoreError::db("read snapshots"))?;
                match AggregateType::parse(&aggregate_type).map(|of| AnyState::from_json(of, json)) {
                    Some(Ok(state)) => drop(found.insert(id, Entry { state, sequence })),
                    Some(Err(_)) | None => unreadable.push(id),
                }
            }
            if row.try_get::<Option<i64>, _>(0).map_err(StoreError::db("read a position"))?.is_some() {
                events.push(row);
            }
        }
        for event in self.decode(connection, events).await? {
            if unreadable.contains(&event.aggregate_id) {
                continue;
            }
            let entry = found
                .entry(event.aggregate_id)
                .or_insert_with(|| Entry { state: AnyState::new(event.aggregate_type), sequence: 0 });
            // What followed on pruned events is in the state that replaces it further on.
            if event.sequence != entry.sequence + 1 && !known::is_whole(&event) {
                continue;
            }
            entry.state.apply(&event.event);
            entry.sequence = event.sequence;
        }
        Ok(unreadable)
    }

    /// Decodes rows of (position, leaf), putting personal values back where they may be disclosed.
    ///
    /// # Errors
    /// When a leaf is corrupt or a sealed value is not what its leaf commits to.
    pub async fn decode(
        &mut self,
        connection: &mut PgConnection,
        rows: Vec<PgRow>,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = Vec::with_capacity(rows.len());
        let mut committed = HashMap::new();
        for (place, row) in rows.into_iter().enumerate() {
            // Decoding is computing; commands beside it do not wait for the whole of it.
            if place % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let position: i64 = row.try_get(0).map_err(StoreError::db("read a position"))?;
            let leaf = Leaf::decode(row.try_get(1).map_err(StoreError::db("read a leaf"))?, position)?;
            if !leaf.commitments.is_empty() {
                committed.insert(position, leaf.commitments.clone());
            }
            events.push(leaf.into_recorded(position)?);
        }
        if self.disclose && !committed.is_empty() {
            self.unseal(connection, &mut events, &committed).await?;
        }
        Ok(events)
    }

    async fn unseal(
        &mut self,
        connection: &mut PgConnection,
        events: &mut [RecordedEvent],
        committed: &HashMap<i64, std::collections::BTreeMap<String, String>>,
    ) -> Result<(), StoreError> {
        let positions: Vec<i64> = committed.keys().copied().collect();
        let rows: Vec<(i64, String, Uuid, Vec<u8>)> = sqlx::query_as(&self.schema.sql(
            "SELECT position, field, subject_id, ciphertext FROM {s}.sealed_values WHERE position = ANY($1)",
        ))
        .bind(&positions)
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::db("read sealed values"))?;
        let subjects: HashSet<SubjectId> = rows.iter().map(|row| SubjectId(row.2)).collect();
        self.load_subject_keys(connection, subjects).await?;
        let sealed: HashMap<(i64, String), (SubjectId, Vec<u8>)> = rows
            .into_iter()
            .map(|(position, field, subject, bytes)| ((position, field), (SubjectId(subject), bytes)))
            .collect();
        if sealed.len() < committed.values().map(std::collections::BTreeMap::len).sum() {
            self.account_for_missing(connection, events, committed, &sealed).await?;
        }
        for event in events.iter_mut().filter(|event| committed.contains_key(&event.position)) {
            let (tenant, position, event_id) = (self.schema.log_id(), event.position, event.event_id);
            let mut failure = None;
            event.event.visit_personal(&mut |field, of, slot| {
                let value = committed.get(&position).and_then(|fields| fields.get(field)).map(|commitment| {
                    match sealed.get(&(position, field.to_owned())) {
                        // It was erased: what is missing has been accounted for.
                        None => Ok(None),
                        Some((subject, _)) if *subject != of => {
                            Err(StoreError::Sealing("a sealed value is somebody else's"))
                        }
                        Some((subject, bytes)) => match self.subject_keys.get(subject) {
                            Some(Some(key)) => {
                                seal::unseal(key, tenant, event_id, field, bytes, commitment).map(Some)
                            }
                            Some(None) => Ok(None),
                            None => Err(StoreError::Sealing("a sealed value has no subject key")),
                        },
                    }
                });
                let outcome = match value {
                    None => Ok(()),
                    Some(Ok(value)) => slot
                        .restore(value)
                        .map_err(|_| StoreError::Sealing("a sealed value is of another type")),
                    Some(Err(error)) => Err(error),
                };
                if let Err(error) = outcome {
                    failure.get_or_insert(error);
                }
            });
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Values are erased with their subject's key. One that is missing while the key lives, or was never there, was taken
    /// away by somebody.
    async fn account_for_missing(
        &self,
        connection: &mut PgConnection,
        events: &mut [RecordedEvent],
        committed: &HashMap<i64, std::collections::BTreeMap<String, String>>,
        sealed: &HashMap<(i64, String), (SubjectId, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let mut missing: HashSet<SubjectId> = HashSet::new();
        for event in events.iter_mut() {
            let Some(fields) = committed.get(&event.position) else { continue };
            let position = event.position;
            event.event.visit_personal(&mut |field, subject, _| {
                if fields.contains_key(field) && !sealed.contains_key(&(position, field.to_owned())) {
                    missing.insert(subject);
                }
            });
        }
        if missing.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = missing.iter().map(|subject| subject.0).collect();
        // Asked anew: this reader may have known the key before it was destroyed.
        let keys = subject_keys(connection, self.schema, self.keys, &ids).await?;
        for subject in missing {
            match keys.iter().find(|(known, _)| *known == subject) {
                Some((_, None)) => {}
                Some((_, Some(_))) => {
                    return Err(StoreError::Sealing(
                        "a sealed value is missing although its key is not destroyed",
                    ));
                }
                None => return Err(StoreError::Sealing("a sealed value is missing, and its key is unknown")),
            }
        }
        Ok(())
    }

    async fn load_subject_keys(
        &mut self,
        connection: &mut PgConnection,
        subjects: HashSet<SubjectId>,
    ) -> Result<(), StoreError> {
        let missing: Vec<Uuid> = subjects
            .into_iter()
            .filter(|s| !self.subject_keys.contains_key(s))
            .map(|subject| subject.0)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        for (subject, key) in subject_keys(connection, self.schema, self.keys, &missing).await? {
            self.subject_keys.insert(subject, key);
        }
        Ok(())
    }
}

/// The receipts of the events between two positions, or of the last of them, from the log as it is now.
pub(super) async fn receipts(
    connection: &mut PgConnection,
    first: i64,
    last: i64,
) -> Result<Vec<Receipt>, StoreError> {
    let first = first.max(last.saturating_sub(MAX_RECEIPTS as i64 - 1));
    if first > last {
        return Ok(Vec::new());
    }
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT position, leaf FROM events WHERE position BETWEEN $1 AND $2 ORDER BY position",
    )
    .bind(first)
    .bind(last)
    .fetch_all(connection)
    .await
    .map_err(StoreError::db("read the leaves of an answer"))?;
    Ok(rows.into_iter().map(|(position, leaf)| Receipt { position, leaf_hash: leaf_hash(&leaf) }).collect())
}

/// The time by the database's clock, which is the log's.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn clock(connection: &mut PgConnection) -> Result<DateTime<Utc>, StoreError> {
    sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(connection)
        .await
        .map_err(StoreError::db("ask for the time"))
}

/// Reads and unwraps subject keys; a destroyed one is `None`, an unknown one is absent.
///
/// # Errors
/// When PostgreSQL refuses or a key does not unwrap under the master keys.
pub async fn subject_keys(
    connection: &mut PgConnection,
    schema: &Schema,
    keys: &Keys,
    subjects: &[Uuid],
) -> Result<Vec<(SubjectId, Option<Zeroizing<[u8; 32]>>)>, StoreError> {
    let rows: Vec<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(
        &schema.sql("SELECT subject_id, wrapped_key FROM {s}.subject_keys WHERE subject_id = ANY($1)"),
    )
    .bind(subjects)
    .fetch_all(connection)
    .await
    .map_err(StoreError::db("read subject keys"))?;
    rows.into_iter()
        .map(|(subject, wrapped)| {
            let key = wrapped
                .map(|wrapped| {
                    keys.unwrap_subject_key(subject, tenant_uuid(schema.log_id()), &wrapped).map_err(|_| {
                        StoreError::Sealing("a subject key does not unwrap under the master keys")
                    })
                })
                .transpose()?;
            Ok((SubjectId(subject), key))
        })
        .collect()
}

fn tenant_uuid(tenant: TenantId) -> Uuid {
    tenant.0
}
