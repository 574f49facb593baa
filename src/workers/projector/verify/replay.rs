//! The second pass of a verification: every aggregate folded from its whole stream, one stream after the other, so
//! that memory does not grow with the log.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use daybook_domain::{
    RecordedEvent,
    booking::Booking,
    carried::Standing,
    registry::{AnyState, Registered},
    resource::Resource,
};
use daybook_projections::{Schema, inline};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::BATCH;
use crate::{
    eventstore::{EventStore, load::Reader},
    workers::projector::ProjectorError,
};

/// Aggregates written in one statement a table.
const FLUSH: usize = 1_000;

struct Folded {
    id: Uuid,
    state: AnyState,
    sequence: i64,
    position: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Whether what its events follow is there; until then it was pruned.
    known: bool,
    /// The states that were carried over with their beginnings still there, and how many of them are not what those make.
    carried: i64,
    forged: i64,
}

/// The states that were carried over, beside what they were folded from, as far as that is there.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// How many were compared.
    pub compared: i64,
    /// The streams of those that differ.
    pub differing: Vec<String>,
}

impl Carried {
    fn add(&mut self, folded: &[Folded]) {
        for it in folded {
            self.compared += it.carried;
            let stream = || format!("{}:{}", it.state.aggregate_type(), it.id);
            self.differing.extend((0..it.forged).map(|_| stream()));
        }
    }
}

impl Folded {
    fn first(event: &RecordedEvent) -> Self {
        let mut folded = Self {
            id: event.aggregate_id,
            state: AnyState::new(event.aggregate_type),
            sequence: 0,
            position: 0,
            created_at: event.recorded_at,
            updated_at: event.recorded_at,
            known: event.sequence == 1 && event.event.carried_past().is_none(),
            carried: 0,
            forged: 0,
        };
        folded.next(event);
        folded
    }

    fn next(&mut self, event: &RecordedEvent) {
        self.sequence = event.sequence;
        self.position = event.position;
        let carried = event.event.carried_past();
        let whole = carried.filter(|(standing, _)| *standing == Standing::Whole).map(|(_, past)| past);
        // What followed on pruned events is in the state that replaces it.
        if let Some(past) = whole.filter(|_| !self.known) {
            (self.created_at, self.updated_at) = (past.created_at, past.updated_at);
            self.known = true;
        } else if whole.is_some() {
            let state = event.event.carried().map(|carried| carried.state);
            self.carried += 1;
            self.forged += i64::from(state.as_ref() != Some(&self.state));
        }
        if self.known {
            self.state.apply(&event.event);
            // Carrying it over changes nothing of it.
            if carried.is_none() {
                self.updated_at = event.recorded_at;
            }
        }
    }

    fn is_of(&self, event: &RecordedEvent) -> bool {
        self.id == event.aggregate_id && self.state.aggregate_type() == event.aggregate_type
    }
}

/// Folds every stream and writes what an append would have left of it; answers with what it found of the states that were
/// carried over.
pub(super) async fn inline(
    connection: &mut PgConnection,
    store: &EventStore,
    schema: &Schema,
    scratch: &Schema,
    mut progress: impl FnMut(i64),
) -> Result<Carried, ProjectorError> {
    let mut reader = Reader::disclosing(schema, store.keys());
    let sql = schema.sql(
        "SELECT position, leaf, aggregate_id, sequence, aggregate_type FROM {s}.events
         WHERE (aggregate_id, sequence, aggregate_type) > ($1, $2, $3)
           AND position > (SELECT coalesce(max(p.through_position), 0) FROM {s}.audit_prunings p)
         ORDER BY aggregate_id, sequence, aggregate_type LIMIT $4",
    );
    let attempted = "read the streams";
    let mut after = (Uuid::nil(), 0_i64, String::new());
    let mut folded: Vec<Folded> = Vec::new();
    let mut done = 0;
    let mut carried = Carried::default();
    loop {
        let rows = sqlx::query(&sql)
            .bind(after.0)
            .bind(after.1)
            .bind(&after.2)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await
            .map_err(ProjectorError::db(attempted))?;
        let Some(last) = rows.last() else { break };
        after = (
            last.try_get(2).map_err(ProjectorError::db(attempted))?,
            last.try_get(3).map_err(ProjectorError::db(attempted))?,
            last.try_get(4).map_err(ProjectorError::db(attempted))?,
        );
        let events = reader.decode(connection, rows).await?;
        let mut beginnings = beginnings(&mut reader, connection, &events, folded.last()).await?;
        for event in events {
            done += 1;
            match folded.last_mut().filter(|last| last.is_of(&event)) {
                Some(last) => last.next(&event),
                None => {
                    if folded.len() >= FLUSH {
                        write(connection, store, schema, scratch, &folded).await?;
                        carried.add(&folded);
                        folded.clear();
                    }
                    let mut first = match beginnings.remove(&event.aggregate_id) {
                        Some(beginning) if is_same(&beginning, &event) => Folded::first(&beginning),
                        Some(_) | None => Folded::first(&event),
                    };
                    if first.sequence < event.sequence {
                        first.next(&event);
                    }
                    folded.push(first);
                }
            }
        }
        progress(done);
    }
    carried.add(&folded);
    write(connection, store, schema, scratch, &folded).await?;
    Ok(carried)
}

/// What the streams follow on that begin among these events without their first, because that was pruned.
async fn beginnings(
    reader: &mut Reader<'_>,
    connection: &mut PgConnection,
    events: &[RecordedEvent],
    last: Option<&Folded>,
) -> Result<HashMap<Uuid, RecordedEvent>, ProjectorError> {
    let mut cut: HashMap<Uuid, i64> = HashMap::new();
    let mut before: Option<&RecordedEvent> = None;
    for event in events {
        let goes_on = match before {
            Some(before) => is_same(before, event),
            None => last.is_some_and(|last| last.is_of(event)),
        };
        if !goes_on && event.sequence > 1 {
            cut.insert(event.aggregate_id, event.sequence);
        }
        before = Some(event);
    }
    let known = reader.before(connection, &cut).await?;
    Ok(known.into_iter().map(|event| (event.aggregate_id, event)).collect())
}

fn is_same(one: &RecordedEvent, other: &RecordedEvent) -> bool {
    one.aggregate_id == other.aggregate_id && one.aggregate_type == other.aggregate_type
}

async fn write(
    connection: &mut PgConnection,
    store: &EventStore,
    schema: &Schema,
    scratch: &Schema,
    folded: &[Folded],
) -> Result<(), ProjectorError> {
    let rows: Vec<(inline::Change<'_>, DateTime<Utc>)> = folded
        .iter()
        .map(|it| {
            let change = inline::Change {
                id: it.id,
                version: it.sequence,
                position: it.position,
                recorded_at: it.updated_at,
                state: &it.state,
            };
            (change, it.created_at)
        })
        .collect();
    inline::replay(connection, scratch, &rows)
        .await
        .map_err(ProjectorError::db("replay inline read models"))?;
    write_streams(connection, scratch, folded).await?;
    write_unique(connection, store, schema, scratch, folded).await?;
    if schema.tenant_id().is_some() {
        write_guards(connection, scratch, folded).await?;
    }
    Ok(())
}

async fn write_streams(
    connection: &mut PgConnection,
    scratch: &Schema,
    folded: &[Folded],
) -> Result<(), ProjectorError> {
    sqlx::query(&scratch.sql(
        "INSERT INTO {s}.streams (aggregate_id, aggregate_type, sequence)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::bigint[])",
    ))
    .bind(folded.iter().map(|it| it.id).collect::<Vec<_>>())
    .bind(folded.iter().map(|it| it.state.aggregate_type().as_str()).collect::<Vec<_>>())
    .bind(folded.iter().map(|it| it.sequence).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(ProjectorError::db("replay the streams' sequences"))?;
    Ok(())
}

/// Two owners of one value would be a broken guard; the second is left out, and its row then differs.
async fn write_unique(
    connection: &mut PgConnection,
    store: &EventStore,
    schema: &Schema,
    scratch: &Schema,
    folded: &[Folded],
) -> Result<(), ProjectorError> {
    let claims: Vec<(&'static str, Vec<u8>, Uuid)> = folded
        .iter()
        .flat_map(|it| {
            let keys = it.state.unique_keys();
            keys.into_iter().map(|(kind, value)| {
                let key = store.keys().hmac_unique(kind, schema.log_id().0, value.as_bytes());
                (kind, key.to_vec(), it.id)
            })
        })
        .collect();
    if claims.is_empty() {
        return Ok(());
    }
    sqlx::query(&scratch.sql(
        "INSERT INTO {s}.unique_claims (kind, key_hmac, owner)
         SELECT * FROM UNNEST($1::text[], $2::bytea[], $3::uuid[]) ON CONFLICT DO NOTHING",
    ))
    .bind(claims.iter().map(|claim| claim.0).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.1.as_slice()).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.2).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(ProjectorError::db("replay unique values"))?;
    Ok(())
}

async fn write_guards(
    connection: &mut PgConnection,
    scratch: &Schema,
    folded: &[Folded],
) -> Result<(), ProjectorError> {
    let resources: Vec<(Uuid, i32)> = folded
        .iter()
        .filter_map(|it| Some((it.id, i32::try_from(Resource::of(&it.state)?.capacity).unwrap_or(i32::MAX))))
        .collect();
    sqlx::query(&scratch.sql(
        "INSERT INTO {s}.slot_resources (resource_id, capacity) SELECT * FROM UNNEST($1::uuid[], $2::integer[])",
    ))
    .bind(resources.iter().map(|resource| resource.0).collect::<Vec<_>>())
    .bind(resources.iter().map(|resource| resource.1).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await
    .map_err(ProjectorError::db("replay capacities"))?;

    let claims: Vec<_> = folded.iter().filter_map(|it| Booking::of(&it.state)?.claim()).collect();
    sqlx::query(&scratch.sql(
        "INSERT INTO {s}.slot_claims (booking_id, resource_id, starts_at, ends_at, unit, expires_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::integer[],
                              $6::timestamptz[])",
    ))
    .bind(claims.iter().map(|(_, claim)| claim.booking_id.0).collect::<Vec<_>>())
    .bind(claims.iter().map(|(resource, _)| resource.0).collect::<Vec<_>>())
    .bind(claims.iter().map(|(_, claim)| claim.during.start()).collect::<Vec<_>>())
    .bind(claims.iter().map(|(_, claim)| claim.during.end()).collect::<Vec<_>>())
    .bind(
        claims
            .iter()
            .map(|(_, claim)| claim.unit.and_then(|unit| i32::try_from(unit).ok()))
            .collect::<Vec<_>>(),
    )
    .bind(claims.iter().map(|(_, claim)| claim.expires_at).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(ProjectorError::db("replay claims"))?;
    Ok(())
}
