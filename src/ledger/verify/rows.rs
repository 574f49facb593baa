//! What verification reads: as the owner of all schemas, since it is no part of serving anybody, and all of a log in one
//! snapshot, however many read it. Nothing is written.

use chrono::{DateTime, Utc};
use daybook_projections::Schema;
use sqlx::{PgConnection, PgPool, Postgres, Transaction, postgres::PgRow};
use uuid::Uuid;

use crate::ledger::rows::Table;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// One state of a log, which several connections may read.
pub(super) struct Snapshot {
    pool: PgPool,
    schema: Schema,
    id: String,
    /// The state is there as long as this is.
    first: Transaction<'static, Postgres>,
}

impl Snapshot {
    pub(super) async fn take(pool: &PgPool, schema: &Schema) -> Result<Self> {
        let begin =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL search_path = {schema}");
        let mut first = pool.begin_with(begin).await?;
        let id = sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut *first).await?;
        Ok(Self { pool: pool.clone(), schema: schema.clone(), id, first })
    }

    /// The connection that took it.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.first
    }

    /// Another connection that sees the same.
    pub(super) async fn join(&self) -> Result<Transaction<'static, Postgres>> {
        // The id is PostgreSQL's own: hexadecimal digits and dashes.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT '{}';
             SET LOCAL search_path = {}; SET LOCAL work_mem = '32MB'",
            self.id, self.schema
        );
        self.pool.begin_with(begin).await
    }
}

/// Where a log and its tree stand.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Heads {
    pub position: i64,
    pub recorded_at: DateTime<Utc>,
    pub size: i64,
    /// The last position that has an event, and how many have one.
    pub last: i64,
}

pub(super) async fn heads(connection: &mut PgConnection) -> Result<Option<Heads>> {
    sqlx::query_as(
        "SELECT h.position, greatest(h.recorded_at, '0001-01-01') AS recorded_at, l.size,
                (SELECT coalesce(max(position), 0) FROM events) AS last
         FROM log_head h CROSS JOIN ledger_head l",
    )
    .fetch_optional(connection)
    .await
}

pub(super) async fn schema_exists(connection: &mut PgConnection, schema: &Schema) -> Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema.name())
        .fetch_one(connection)
        .await
}

/// The events after a position up to another one, every column of them.
pub(super) async fn events(connection: &mut PgConnection, after: i64, through: i64) -> Result<Vec<PgRow>> {
    sqlx::query(
        "SELECT position, leaf, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                recorded_at, actor, on_behalf_of
         FROM events WHERE position > $1 AND position <= $2 ORDER BY position",
    )
    .bind(after)
    .bind(through)
    .fetch_all(connection)
    .await
}

/// The position of the first event after one, up to another.
pub(super) async fn first_event(
    connection: &mut PgConnection,
    after: i64,
    through: i64,
) -> Result<Option<i64>> {
    sqlx::query_scalar("SELECT min(position) FROM events WHERE position > $1 AND position <= $2")
        .bind(after)
        .bind(through)
        .fetch_one(connection)
        .await
}

/// Positions that are none of a log's: below the first one, or after its head.
pub(super) async fn outside(connection: &mut PgConnection, head: i64) -> Result<Vec<i64>> {
    sqlx::query_scalar(
        "SELECT position FROM events WHERE position < 1 OR position > $1 ORDER BY 1 LIMIT 1000",
    )
    .bind(head)
    .fetch_all(connection)
    .await
}

/// A sealed value: position, field, subject, ciphertext.
pub(super) type SealedRow = (i64, String, Uuid, Vec<u8>);

pub(super) async fn sealed_values(
    connection: &mut PgConnection,
    after: i64,
    through: i64,
) -> Result<Vec<SealedRow>> {
    sqlx::query_as(
        "SELECT position, field, subject_id, ciphertext FROM sealed_values
         WHERE position > $1 AND position <= $2 ORDER BY position, field",
    )
    .bind(after)
    .bind(through)
    .fetch_all(connection)
    .await
}

/// A subject's key: subject, the key, when it was destroyed.
pub(super) type KeyRow = (Uuid, Option<Vec<u8>>, Option<DateTime<Utc>>);

pub(super) async fn subject_keys(connection: &mut PgConnection, subjects: &[Uuid]) -> Result<Vec<KeyRow>> {
    sqlx::query_as(
        "SELECT subject_id, wrapped_key, destroyed_at FROM subject_keys WHERE subject_id = ANY($1)",
    )
    .bind(subjects)
    .fetch_all(connection)
    .await
}

/// Every key of a log, a page after a subject.
pub(super) async fn all_subject_keys(
    connection: &mut PgConnection,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<KeyRow>> {
    sqlx::query_as(
        "SELECT subject_id, wrapped_key, destroyed_at FROM subject_keys
         WHERE $1::uuid IS NULL OR subject_id > $1 ORDER BY subject_id LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Sealed values where no event can be.
pub(super) async fn sealed_outside(connection: &mut PgConnection, head: i64) -> Result<Vec<(i64, String)>> {
    sqlx::query_as(
        "SELECT position, field FROM sealed_values WHERE position < 1 OR position > $1 ORDER BY 1, 2 LIMIT 1000",
    )
    .bind(head)
    .fetch_all(connection)
    .await
}

/// Where a stream does not go on as it should: position, type, sequence, the sequence before it.
pub(super) type BrokenStream = (i64, String, Uuid, i64, Option<i64>);

/// Events whose sequence does not follow on the one before in their stream, or that stand before it in the log; those
/// without one before them last.
pub(super) async fn broken_streams(connection: &mut PgConnection) -> Result<Vec<BrokenStream>> {
    sqlx::query_as(
        "SELECT position, aggregate_type, aggregate_id, sequence, before FROM (
             SELECT position, aggregate_type, aggregate_id, sequence,
                    lag(sequence) OVER w AS before, lag(position) OVER w AS before_position
             FROM events
             WINDOW w AS (PARTITION BY aggregate_id, aggregate_type ORDER BY sequence)) AS streams
         WHERE sequence <> coalesce(before, 0) + 1 OR before_position > position
         ORDER BY before IS NULL, position LIMIT 1000",
    )
    .fetch_all(connection)
    .await
}

/// A tile: level, number, hashes.
pub(super) type TileRow = (i16, i64, Vec<u8>);

/// The tiles of the lowest level from a number on.
pub(super) async fn bottom_tiles(
    connection: &mut PgConnection,
    table: Table,
    from: i64,
    limit: i64,
) -> Result<Vec<TileRow>> {
    let sql = format!(
        "SELECT level, number, hashes FROM {} WHERE level = 0 AND number >= $1 ORDER BY number LIMIT $2",
        table.name()
    );
    sqlx::query_as(&sql).bind(from).bind(limit).fetch_all(connection).await
}

/// All tiles above the lowest level.
pub(super) async fn upper_tiles(connection: &mut PgConnection, table: Table) -> Result<Vec<TileRow>> {
    let sql =
        format!("SELECT level, number, hashes FROM {} WHERE level > 0 ORDER BY level, number", table.name());
    sqlx::query_as(&sql).fetch_all(connection).await
}

/// A checkpoint as it is stored: size, time, note.
pub(super) type CheckpointRow = (i64, DateTime<Utc>, String);

/// Checkpoints in the order they were signed in, a page after one.
pub(super) async fn checkpoints(
    connection: &mut PgConnection,
    after: Option<(DateTime<Utc>, i64)>,
    limit: i64,
) -> Result<Vec<CheckpointRow>> {
    sqlx::query_as(
        "SELECT size, signed_at, note FROM ledger_checkpoints
         WHERE $1::timestamptz IS NULL OR (signed_at, size) > ($1, $2) ORDER BY signed_at, size LIMIT $3",
    )
    .bind(after.map(|(at, _)| at))
    .bind(after.map_or(0, |(_, size)| size))
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// A snapshot as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct SnapshotRow {
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    pub sequence: i64,
    pub fold_version: i32,
    pub state: serde_json::Value,
    /// The sequence of the last event of the stream.
    pub last: i64,
}

pub(super) async fn snapshots(
    connection: &mut PgConnection,
    after: (Uuid, &str),
    limit: i64,
) -> Result<Vec<SnapshotRow>> {
    sqlx::query_as(
        "SELECT s.aggregate_type, s.aggregate_id, s.sequence, s.fold_version, s.state,
                coalesce((SELECT max(e.sequence) FROM events e
                          WHERE e.aggregate_id = s.aggregate_id AND e.aggregate_type = s.aggregate_type), 0) AS last
         FROM snapshots s WHERE (s.aggregate_id, s.aggregate_type) > ($1, $2)
         ORDER BY s.aggregate_id, s.aggregate_type LIMIT $3",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Ids that stand for tenants somewhere in the platform's schema: in its list, or in its log.
pub(super) async fn tenants(connection: &mut PgConnection) -> Result<Vec<(Uuid, Option<String>, bool)>> {
    sqlx::query_as(
        "SELECT id, t.slug, t.id IS NOT NULL FROM daybook_platform.tenants t
         FULL JOIN (SELECT DISTINCT aggregate_id AS id FROM daybook_platform.events WHERE aggregate_type = 'tenant') l
         USING (id) ORDER BY t.slug, id",
    )
    .fetch_all(connection)
    .await
}

/// The leaves of the events that made tenants, with the ids of these.
pub(super) async fn tenants_made(connection: &mut PgConnection) -> Result<Vec<(Uuid, Vec<u8>)>> {
    sqlx::query_as(
        "SELECT aggregate_id, leaf FROM daybook_platform.events WHERE event_type = 'tenant.created' ORDER BY position",
    )
    .fetch_all(connection)
    .await
}
