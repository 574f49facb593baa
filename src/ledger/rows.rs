//! The ledger's rows. Each statement runs where the search path is the schema of the log, or the platform's.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::tree::{TileId, Tiles};

/// A log's leaf, where it stands.
pub(super) type LeafRow = (i64, Vec<u8>);

/// What the signer remembers of a log, as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct SignerRow {
    pub origin: String,
    pub log_id: Uuid,
    pub size: i64,
    pub root: Vec<u8>,
    pub note: String,
    pub signed_at: DateTime<Utc>,
    pub seal: Vec<u8>,
}

/// The public half of a key that signed, as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct KeyRow {
    pub origin: String,
    pub key_id: String,
    pub vkey: String,
    pub first_used_at: DateTime<Utc>,
    pub seal: Vec<u8>,
}

/// An entry of the log of heads, as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct EntryRow {
    pub index: i64,
    pub at: DateTime<Utc>,
    pub entry: Vec<u8>,
    pub heads: Option<Vec<u8>>,
}

/// Which table of tiles.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    /// Of a log.
    Log,
    /// Of the log of heads.
    Heads,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Log => "ledger_tiles",
            Self::Heads => "head_log_tiles",
        }
    }
}

/// The size of the tree, locked until the transaction ends; `None` while somebody else extends it.
pub(super) async fn lock_size(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT size FROM ledger_head FOR UPDATE SKIP LOCKED").fetch_optional(connection).await
}

/// The size of the tree, and the log's position.
pub(super) async fn sizes(connection: &mut PgConnection) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as("SELECT l.size, h.position FROM ledger_head l CROSS JOIN log_head h")
        .fetch_one(connection)
        .await
}

pub(super) async fn leaves(
    connection: &mut PgConnection,
    after: i64,
    through: i64,
) -> Result<Vec<LeafRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT position, leaf FROM events WHERE position > $1 AND position <= $2 ORDER BY position",
    )
    .bind(after)
    .bind(through)
    .fetch_all(connection)
    .await
}

/// Those of the tiles that are there. A number beyond what a column holds is not.
pub(super) async fn tiles(
    connection: &mut PgConnection,
    table: Table,
    wanted: &BTreeSet<TileId>,
) -> Result<Tiles, sqlx::Error> {
    let mut tiles = Tiles::default();
    if wanted.is_empty() {
        return Ok(tiles);
    }
    let (levels, numbers): (Vec<i16>, Vec<i64>) =
        wanted.iter().filter_map(|id| Some((i16::from(id.level), i64::try_from(id.number).ok()?))).unzip();
    let sql = format!(
        "SELECT t.level, t.number, t.hashes FROM UNNEST($1::smallint[], $2::bigint[]) AS w (level, number)
         JOIN {} t ON t.level = w.level AND t.number = w.number",
        table.name()
    );
    let rows: Vec<(i16, i64, Vec<u8>)> =
        sqlx::query_as(&sql).bind(levels).bind(numbers).fetch_all(connection).await?;
    for (level, number, hashes) in rows {
        if let (Ok(level), Ok(number)) = (u8::try_from(level), u64::try_from(number)) {
            tiles.put(TileId { level, number }, hashes);
        }
    }
    Ok(tiles)
}

pub(super) async fn save_tiles(
    connection: &mut PgConnection,
    table: Table,
    tiles: &Tiles,
    changed: &BTreeSet<TileId>,
) -> Result<(), sqlx::Error> {
    let mut levels = Vec::with_capacity(changed.len());
    let mut numbers = Vec::with_capacity(changed.len());
    let mut hashes = Vec::with_capacity(changed.len());
    for id in changed {
        let (Ok(number), Some(tile)) = (i64::try_from(id.number), tiles.get(*id)) else { continue };
        levels.push(i16::from(id.level));
        numbers.push(number);
        hashes.push(tile);
    }
    let sql = format!(
        "INSERT INTO {} (level, number, hashes)
         SELECT level, number, hashes FROM UNNEST($1::smallint[], $2::bigint[], $3::bytea[]) AS n (level, number, hashes)
         ON CONFLICT (level, number) DO UPDATE SET hashes = EXCLUDED.hashes",
        table.name()
    );
    sqlx::query(&sql).bind(levels).bind(numbers).bind(hashes).execute(connection).await?;
    Ok(())
}

pub(super) async fn set_size(connection: &mut PgConnection, size: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE ledger_head SET size = $1").bind(size).execute(connection).await?;
    Ok(())
}

/// Whether a log has this checkpoint, and whether it has any.
pub(super) async fn has_checkpoint(
    connection: &mut PgConnection,
    checkpoint: Option<(i64, DateTime<Utc>)>,
) -> Result<(bool, bool), sqlx::Error> {
    sqlx::query_as(
        "SELECT EXISTS (SELECT FROM ledger_checkpoints WHERE size = $1 AND signed_at = $2),
                EXISTS (SELECT FROM ledger_checkpoints)",
    )
    .bind(checkpoint.map(|(size, _)| size))
    .bind(checkpoint.map(|(_, at)| at))
    .fetch_one(connection)
    .await
}

pub(super) async fn add_checkpoint(
    connection: &mut PgConnection,
    size: i64,
    signed_at: DateTime<Utc>,
    note: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ledger_checkpoints (size, signed_at, note) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(size)
    .bind(signed_at)
    .bind(note)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn signer(
    connection: &mut PgConnection,
    log_id: Uuid,
) -> Result<Option<SignerRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT origin, log_id, size, root, note, signed_at, seal FROM ledger_signer WHERE log_id = $1",
    )
    .bind(log_id)
    .fetch_optional(connection)
    .await
}

pub(super) async fn signers(connection: &mut PgConnection) -> Result<Vec<SignerRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT origin, log_id, size, root, note, signed_at, seal FROM ledger_signer ORDER BY origin",
    )
    .fetch_all(connection)
    .await
}

/// Replaces what is remembered of a log, if it still is what it was. Answers whether it did.
pub(super) async fn remember(
    connection: &mut PgConnection,
    before: Option<&[u8]>,
    row: &SignerRow,
) -> Result<bool, sqlx::Error> {
    let sql = match before {
        None => {
            "INSERT INTO ledger_signer (origin, log_id, size, root, note, signed_at, seal)
             SELECT $1, $2, $3, $4, $5, $6, $7 WHERE $8::bytea IS NULL ON CONFLICT DO NOTHING"
        }
        Some(_) => {
            "UPDATE ledger_signer SET size = $3, root = $4, note = $5, signed_at = $6, seal = $7
             WHERE origin = $1 AND log_id = $2 AND seal = $8"
        }
    };
    let done = sqlx::query(sql)
        .bind(&row.origin)
        .bind(row.log_id)
        .bind(row.size)
        .bind(&row.root)
        .bind(&row.note)
        .bind(row.signed_at)
        .bind(&row.seal)
        .bind(before)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The keys of the logs whose origin ends like this.
pub(super) async fn keys(connection: &mut PgConnection, ending: &str) -> Result<Vec<KeyRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT origin, key_id, vkey, first_used_at, seal FROM ledger_verifier_keys
         WHERE right(origin, length($1)) = $1 ORDER BY first_used_at, key_id",
    )
    .bind(ending)
    .fetch_all(connection)
    .await
}

pub(super) async fn add_key(connection: &mut PgConnection, row: &KeyRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ledger_verifier_keys (origin, key_id, vkey, first_used_at, seal)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(&row.origin)
    .bind(&row.key_id)
    .bind(&row.vkey)
    .bind(row.first_used_at)
    .bind(&row.seal)
    .execute(connection)
    .await?;
    Ok(())
}

/// The schemas of tenants, as PostgreSQL knows them.
pub(super) async fn schemas(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$'")
        .fetch_all(connection)
        .await
}

pub(super) async fn last_entry(connection: &mut PgConnection) -> Result<Option<EntryRow>, sqlx::Error> {
    sqlx::query_as("SELECT index, at, entry, heads FROM head_log_entries ORDER BY index DESC LIMIT 1")
        .fetch_optional(connection)
        .await
}

pub(super) async fn entry(
    connection: &mut PgConnection,
    index: i64,
) -> Result<Option<EntryRow>, sqlx::Error> {
    sqlx::query_as("SELECT index, at, entry, heads FROM head_log_entries WHERE index = $1")
        .bind(index)
        .fetch_optional(connection)
        .await
}

/// Entries from one index up to another, and the heads of those from a third on.
pub(super) async fn entries(
    connection: &mut PgConnection,
    first: i64,
    end: i64,
    heads_from: i64,
) -> Result<Vec<EntryRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT index, at, entry, CASE WHEN index >= $3 THEN heads END AS heads
         FROM head_log_entries WHERE index >= $1 AND index < $2 ORDER BY index",
    )
    .bind(first)
    .bind(end)
    .bind(heads_from)
    .fetch_all(connection)
    .await
}

/// The first entries from one index on, without their heads, and whether these are there.
pub(super) async fn entries_from(
    connection: &mut PgConnection,
    first: i64,
    limit: i64,
) -> Result<Vec<(i64, DateTime<Utc>, Vec<u8>, bool)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT index, at, entry, heads IS NOT NULL FROM head_log_entries WHERE index >= $1 ORDER BY index LIMIT $2",
    )
    .bind(first)
    .bind(limit)
    .fetch_all(connection)
    .await
}

pub(super) async fn add_entry(connection: &mut PgConnection, row: &EntryRow) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO head_log_entries (index, at, entry, heads) VALUES ($1, $2, $3, $4)")
        .bind(row.index)
        .bind(row.at)
        .bind(&row.entry)
        .bind(&row.heads)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets the heads from before a time, but for the first of each day; answers of which entries.
pub(super) async fn expire_heads(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE head_log_entries SET heads = NULL
         WHERE heads IS NOT NULL AND at < $1 AND index NOT IN (
             SELECT min(index) FROM head_log_entries WHERE heads IS NOT NULL AND at < $1
             GROUP BY (at AT TIME ZONE 'UTC')::date)
         RETURNING index",
    )
    .bind(before)
    .fetch_all(connection)
    .await
}

/// Whether a schema and the role of its name are there.
pub(super) async fn is_there(connection: &mut PgConnection, schema: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AND EXISTS (SELECT FROM pg_roles WHERE rolname = $1)",
    )
    .bind(schema)
    .fetch_one(connection)
    .await
}
