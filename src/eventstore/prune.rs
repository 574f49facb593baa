//! What pruning a log asks of it: where the cut is, what stands in the way, which streams have to be carried over, and the
//! deleting itself. The order is in `workers::retention`.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use daybook_domain::{
    audit_export::{AuditExport, UNFINISHED_FOR},
    audit_trail::{AuditTrailCommand, AuditTrailContext},
    legal_hold::LegalHold,
    registry::{AggregateType, Registered as _},
};
use daybook_projections::{
    Schema,
    audit_prunings::{ENDS_WITH_ITS_HISTORY, pruned},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    StoreError, StreamRef,
    batch::Work,
    leaf::{Leaf, format_time},
};
use crate::ledger::Cause;

/// The role that deletes what was pruned, and may do nothing else.
pub const RETENTION_ROLE: &str = "daybook_retention";

/// Something that stands in the way of pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hindrance {
    /// A projection has not come as far as the cut.
    ProjectionBehind,
    /// An event up to the cut could not be folded and waits for it.
    ParkedEvent,
    /// A legal hold stands that keeps a part of it.
    LegalHold,
    /// An export that nobody ended begins below the cut.
    UnfinishedExport,
    /// Something happened to what had seemed to be over.
    NotCarriedOver,
    /// The tenant's plan keeps more by now.
    PlanChanged,
}

impl Hindrance {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::ProjectionBehind,
        Self::ParkedEvent,
        Self::LegalHold,
        Self::UnfinishedExport,
        Self::NotCarriedOver,
        Self::PlanChanged,
    ];

    /// The name it is told by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProjectionBehind => "projection_behind",
            Self::ParkedEvent => "parked_event",
            Self::LegalHold => "legal_hold",
            Self::UnfinishedExport => "unfinished_export",
            Self::NotCarriedOver => "not_carried_over",
            Self::PlanChanged => "plan_changed",
        }
    }
}

/// The position up to which a log is pruned, whether what was is deleted yet or not; 0 when it never was.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn pruned_through(connection: &mut PgConnection, schema: &Schema) -> Result<i64, StoreError> {
    let sql = schema.sql("SELECT coalesce(max(through_position), 0) FROM {s}.audit_prunings");
    sqlx::query_scalar(&sql)
        .fetch_one(connection)
        .await
        .map_err(StoreError::db("read up to where a log is pruned"))
}

/// The position up to which a log is pruned, by its read model and by its newest event that says so; 0 where there is none. The
/// event outlives what it lets go, so that both are the same, unless the read model was written to by somebody.
///
/// # Errors
/// When PostgreSQL refuses or the event is not of a known form.
pub async fn said_through(connection: &mut PgConnection, schema: &Schema) -> Result<(i64, i64), StoreError> {
    // One statement, so that another run's pruning is in both or in neither.
    let (model, position, leaf): (i64, Option<i64>, Option<Vec<u8>>) = sqlx::query_as(&schema.sql(
        "SELECT (SELECT coalesce(max(through_position), 0) FROM {s}.audit_prunings), e.position, e.leaf
         FROM (SELECT 1) AS one
         LEFT JOIN (SELECT position, leaf FROM {s}.events WHERE event_type = 'audit.pruned'
                    ORDER BY position DESC LIMIT 1) AS e ON true",
    ))
    .fetch_one(connection)
    .await
    .map_err(StoreError::db("read up to where a log is pruned"))?;
    let (Some(position), Some(leaf)) = (position, leaf) else { return Ok((model, 0)) };
    let event = Leaf::decode(&leaf, position)?.into_recorded(position)?.event;
    Ok((model, pruned(&event).map_or(0, |pruning| pruning.through_position)))
}

/// What stands in the way of pruning a log up to a position, by what its own schema says. Asked before anything is done,
/// and again under the head's lock, where no writer can come between the answer and the event.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn hindrance(
    connection: &mut PgConnection,
    schema: &Schema,
    cut: i64,
) -> Result<Option<Hindrance>, StoreError> {
    let attempted = "look for what stands in the way of pruning";
    let asks = [
        (
            Hindrance::LegalHold,
            "SELECT EXISTS (SELECT 1 FROM {s}.legal_holds WHERE released_at IS NULL AND from_position <= $1 AND $2 > 0)",
        ),
        (
            Hindrance::ProjectionBehind,
            "SELECT EXISTS (SELECT 1 FROM {s}.projection_checkpoints WHERE position < $1 AND $2 > 0)",
        ),
        (
            Hindrance::ParkedEvent,
            "SELECT EXISTS (SELECT 1 FROM {s}.parked_events WHERE position <= $1 AND $2 > 0)",
        ),
        (
            Hindrance::UnfinishedExport,
            "SELECT EXISTS (SELECT 1 FROM {s}.audit_exports
                            WHERE after_position < $1 AND ended_at IS NULL
                              AND started_at > clock_timestamp() - $2 * interval '1 second')",
        ),
    ];
    // The platform's own log has neither projections nor exports.
    for (hindrance, sql) in asks.into_iter().filter(|_| schema.tenant_id().is_some()) {
        let found: bool = sqlx::query_scalar(&schema.sql(sql))
            .bind(cut)
            .bind(UNFINISHED_FOR.num_seconds() as f64)
            .fetch_one(&mut *connection)
            .await
            .map_err(StoreError::db(attempted))?;
        if found {
            return Ok(Some(hindrance));
        }
    }
    Ok(None)
}

/// A page of the streams whose last event up to a cut is after a position, with that event's position.
///
/// # Errors
/// When PostgreSQL refuses or a stream is of an unknown type.
pub async fn ending_below(
    connection: &mut PgConnection,
    schema: &Schema,
    after: i64,
    cut: i64,
    limit: i64,
) -> Result<Vec<(i64, StreamRef)>, StoreError> {
    let sql = schema.sql(
        "SELECT e.position, e.aggregate_type, e.aggregate_id FROM {s}.events e
         WHERE e.position > $1 AND e.position <= $2
           AND NOT EXISTS (
               SELECT 1 FROM {s}.events l
               WHERE l.aggregate_id = e.aggregate_id AND l.aggregate_type = e.aggregate_type
                 AND l.sequence = e.sequence + 1 AND l.position <= $2)
         ORDER BY e.position LIMIT $3",
    );
    let rows: Vec<(i64, String, Uuid)> = sqlx::query_as(&sql)
        .bind(after)
        .bind(cut)
        .bind(limit)
        .fetch_all(connection)
        .await
        .map_err(StoreError::db("list the streams to be carried over"))?;
    rows.into_iter()
        .map(|(position, aggregate_type, id)| {
            let aggregate_type = AggregateType::parse(&aggregate_type).ok_or(StoreError::Corrupt {
                what: "an unknown aggregate type",
                position,
                source: None,
            })?;
            Ok((position, StreamRef { aggregate_type, id }))
        })
        .collect()
}

/// What a decision about a pruning needs to know.
pub(super) async fn context(
    work: &mut Work<'_, '_>,
    command: &AuditTrailCommand,
) -> Result<AuditTrailContext, StoreError> {
    let AuditTrailCommand::Prune { through_position, .. } = command;
    let schema = work.schema.clone();
    let mut hindrance = match in_this_batch(work, *through_position) {
        Some(hindrance) => Some(hindrance),
        None => hindrance(work.tx, &schema, *through_position).await?,
    };
    if hindrance.is_none() && went_on(work, *through_position).await? {
        hindrance = Some(Hindrance::NotCarriedOver);
    }
    Ok(AuditTrailContext {
        now: work.now(),
        id: schema.log_id(),
        head: work.head.position,
        hindrance: hindrance.map(Hindrance::as_str),
    })
}

/// What was decided just before in this very batch and is not among the rows yet: a hold that keeps a part of what is to go,
/// an export that begins below the cut.
fn in_this_batch(work: &Work<'_, '_>, cut: i64) -> Option<Hindrance> {
    work.touched_states().find_map(|(_, _, after)| {
        let held = LegalHold::of(after)
            .filter(|hold| hold.release.is_none())
            .and_then(|hold| hold.held.as_ref())
            .is_some_and(|held| held.from() <= cut);
        let exported = AuditExport::of(after)
            .is_some_and(|export| export.id.is_some() && export.ended.is_none() && export.after < cut);
        match (held, exported) {
            (true, _) => Some(Hindrance::LegalHold),
            (false, true) => Some(Hindrance::UnfinishedExport),
            (false, false) => None,
        }
    })
}

/// Whether something that was over, and not carried over therefore, went on after the cut.
async fn went_on(work: &mut Work<'_, '_>, cut: i64) -> Result<bool, StoreError> {
    let in_tenant = work.schema.tenant_id().is_some();
    let tables = ENDS_WITH_ITS_HISTORY.iter().filter(|(table, _)| in_tenant || *table == "hijacks");
    let mut streams: Vec<StreamRef> = Vec::new();
    for (table, aggregate_type) in tables {
        let sql = work.schema.sql(
            &"SELECT r.id FROM {s}.{table} r
              WHERE r.position > $1
                AND EXISTS (SELECT 1 FROM {s}.events e
                            WHERE e.aggregate_id = r.id AND e.aggregate_type = '{type}' AND e.position <= $1)
                AND NOT EXISTS (SELECT 1 FROM {s}.events e
                                WHERE e.aggregate_id = r.id AND e.event_type = '{type}.carried_over' AND e.position > $1)
              LIMIT 1"
                .replace("{table}", table)
                .replace("{type}", aggregate_type),
        );
        let found: Option<Uuid> = sqlx::query_scalar(&sql)
            .bind(cut)
            .fetch_optional(&mut **work.tx)
            .await
            .map_err(StoreError::db("look for what went on after a cut"))?;
        if found.is_some() {
            return Ok(true);
        }
        // What this very batch does is not among the rows yet.
        streams.extend(
            work.touched_states()
                .filter(|(_, _, after)| after.aggregate_type().as_str() == *aggregate_type)
                .map(|(id, _, after)| StreamRef { aggregate_type: after.aggregate_type(), id }),
        );
    }
    Ok(!streams.is_empty())
}

/// Whether there are events up to a position.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn has_events(
    connection: &mut PgConnection,
    schema: &Schema,
    through: i64,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(&schema.sql("SELECT EXISTS (SELECT 1 FROM {s}.events WHERE position <= $1)"))
        .bind(through)
        .fetch_one(connection)
        .await
        .map_err(StoreError::db("look for what was pruned"))
}

/// An event as its row has it: the leaf, and what the other columns say of it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Row {
    /// Its position.
    pub position: i64,
    /// Its leaf.
    pub leaf: Vec<u8>,
    event_id: Uuid,
    aggregate_type: String,
    aggregate_id: Uuid,
    sequence: i64,
    event_type: String,
    event_version: i32,
    recorded_at: DateTime<Utc>,
    actor: String,
    on_behalf_of: Option<String>,
}

impl Row {
    /// Whether the columns say what the leaf says, by which alone it was found.
    fn is_as(&self, leaf: &Leaf) -> bool {
        leaf.position == self.position.to_string()
            && leaf.id == self.event_id
            && leaf.aggregate_type == self.aggregate_type
            && leaf.aggregate_id == self.aggregate_id
            && leaf.sequence == self.sequence.to_string()
            && leaf.event_type == self.event_type
            && i32::from(leaf.version) == self.event_version
            && leaf.recorded_at == format_time(self.recorded_at)
            && leaf.metadata.actor == self.actor
            && leaf.metadata.on_behalf_of == self.on_behalf_of
    }
}

/// The events after a position up to another, in order, as they are stored.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn rows(
    connection: &mut PgConnection,
    schema: &Schema,
    after: i64,
    through: i64,
) -> Result<Vec<Row>, StoreError> {
    sqlx::query_as(&schema.sql(
        "SELECT position, leaf, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                recorded_at, actor, on_behalf_of
         FROM {s}.events WHERE position > $1 AND position <= $2 ORDER BY position",
    ))
    .bind(after)
    .bind(through)
    .fetch_all(connection)
    .await
    .map_err(StoreError::db("read the events to be pruned"))
}

/// What is wrong with events whose leaves are known to be what was signed: a column that says something else, a personal
/// value that is gone though its subject's key is not.
///
/// # Errors
/// When PostgreSQL refuses or a leaf is not of a known form.
pub async fn fault(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row],
) -> Result<Option<Cause>, StoreError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(None) };
    let sealed: Vec<(i64, String)> = sqlx::query_as(
        &schema.sql("SELECT position, field FROM {s}.sealed_values WHERE position BETWEEN $1 AND $2"),
    )
    .bind(first.position)
    .bind(last.position)
    .fetch_all(&mut *connection)
    .await
    .map_err(StoreError::db("read sealed values"))?;
    let sealed: HashSet<(i64, String)> = sealed.into_iter().collect();
    let mut without: HashSet<Uuid> = HashSet::new();
    for row in rows {
        let leaf = Leaf::decode(&row.leaf, row.position)?;
        if !row.is_as(&leaf) {
            return Ok(Some(Cause::ColumnMismatch));
        }
        let gone: HashSet<String> = leaf
            .commitments
            .keys()
            .filter(|field| !sealed.contains(&(row.position, (*field).clone())))
            .cloned()
            .collect();
        if !gone.is_empty() {
            leaf.into_recorded(row.position)?.event.visit_personal(&mut |field, subject, _| {
                if gone.contains(field) {
                    without.insert(subject.0);
                }
            });
        }
    }
    // A value that was erased is gone with the key.
    let ids: Vec<Uuid> = without.into_iter().collect();
    let found: bool = sqlx::query_scalar(&schema.sql(
        "SELECT EXISTS (SELECT 1 FROM UNNEST($1::uuid[]) AS w (id)
                        LEFT JOIN {s}.subject_keys k ON k.subject_id = w.id WHERE k.destroyed_at IS NULL)",
    ))
    .bind(&ids)
    .fetch_one(connection)
    .await
    .map_err(StoreError::db("read subject keys"))?;
    Ok(found.then_some(Cause::SealedValueInvalid))
}

/// Deletes up to `limit` of the events up to a position, with their sealed values; answers how many. Everything is in one
/// transaction of its own, as the one role that may.
///
/// # Errors
/// When PostgreSQL refuses: also where no event says that these are pruned.
pub async fn delete_some(
    connection: &mut PgConnection,
    schema: &Schema,
    through: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    use sqlx::{Connection as _, Executor as _};

    let attempted = "delete what was pruned";
    let mut tx = connection.begin().await.map_err(StoreError::db(attempted))?;
    tx.execute(format!("SET LOCAL ROLE {RETENTION_ROLE}").as_str())
        .await
        .map_err(StoreError::db(attempted))?;
    let last: Option<i64> = sqlx::query_scalar(&schema.sql(
        "SELECT max(position) FROM
             (SELECT position FROM {s}.events WHERE position <= $1 ORDER BY position LIMIT $2) AS these",
    ))
    .bind(through)
    .bind(limit)
    .fetch_one(&mut *tx)
    .await
    .map_err(StoreError::db(attempted))?;
    let Some(last) = last else { return Ok(0) };
    sqlx::query(&schema.sql("DELETE FROM {s}.sealed_values WHERE position <= $1"))
        .bind(last)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db(attempted))?;
    let deleted = sqlx::query(&schema.sql("DELETE FROM {s}.events WHERE position <= $1"))
        .bind(last)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db(attempted))?;
    tx.commit().await.map_err(StoreError::db(attempted))?;
    Ok(deleted.rows_affected())
}
