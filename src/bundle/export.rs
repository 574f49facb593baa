//! Writing a bundle from the store, piece by piece as it is taken: no transaction is held open between pieces, and no
//! more than a part is in memory.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    mem,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use daybook_domain::{AuditExportId, registry::AggregateType};
use daybook_projections::{
    Schema,
    log::{self, LogFilter, LogRow},
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    format::{
        DisclosedLine, FORMAT, HeadFile, InclusionFile, KeyEntry, KeysFile, Kind, Manifest, OriginKeys,
        PART_BYTES, PART_ROWS, README, RECORD_TYPES, RECORDS, RecordLine, upper_tiles,
    },
    write::{WriteError, Writer},
};
use crate::{
    eventstore::{
        EventStore, StoreError,
        leaf::{Leaf, format_time, leaf_hash},
        open::{self, Opened},
    },
    export::{ExportError, Range},
    ledger::{
        Checkpoint, HeadProof, Ledger, LedgerError, VerifierKey,
        note::{self, LedgerKey},
        tree::{self, Hash, TILE_WIDTH, TileId, TreeError},
    },
    tenancy::{Access, TenancyError, TenantTx},
};

/// Events read at once.
const PAGE: i64 = 1_024;

/// Why a bundle breaks off.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The ledger cannot show what it must, or is away.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The log cannot be read, or lacks an event.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// It cannot be written.
    #[error(transparent)]
    Write(WriteError),
    /// Writing it was interrupted.
    #[error("writing the bundle was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl From<WriteError> for BundleError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Export(error) => Self::Export(error),
            error => Self::Write(error),
        }
    }
}

impl From<StoreError> for BundleError {
    fn from(error: StoreError) -> Self {
        Self::Export(error.into())
    }
}

impl From<TenancyError> for BundleError {
    fn from(error: TenancyError) -> Self {
        Self::Export(StoreError::from(error).into())
    }
}

impl From<TreeError> for BundleError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Tile(id) => Self::Write(WriteError::Tile(id)),
            TreeError::OutOfRange | TreeError::WrongProof => Self::Ledger(LedgerError::NotThere),
        }
    }
}

impl BundleError {
    /// Whether the log is not what it was: to ask again gives no more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Export(ExportError::Missing(_) | ExportError::Format(_)) | Self::Write(_) => true,
            Self::Ledger(error) => error.cause().is_some(),
            Self::Export(ExportError::Store(_) | ExportError::Interrupted(_)) | Self::Interrupted(_) => false,
        }
    }
}

/// What a bundle is to hold.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The positions: at least one.
    pub range: Range,
    /// Of which aggregates the personal values are disclosed.
    pub disclose: BTreeSet<AggregateType>,
    /// Who takes it, as events name them.
    pub exported_by: String,
    /// The export, as the log names it.
    pub export_id: AuditExportId,
    /// When.
    pub at: DateTime<Utc>,
}

/// What was written and not taken yet.
#[derive(Debug, Default)]
struct Written(Vec<u8>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A bundle in progress.
pub struct Bundle {
    ledger: Ledger,
    schema: Schema,
    ask: Ask,
    writer: Option<Writer<Written>>,
    stage: Stage,
    checkpoint: Option<Checkpoint>,
    /// Who signs the list of files: those of the keys that the bundle lists which signed at its beginning.
    keys: Vec<LedgerKey>,
    head_log: bool,
    rows: u64,
    last_position: i64,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Begin,
    /// Past this position.
    Records(i64),
    /// Past this position.
    Parts(i64),
    End,
    Over,
}

impl Bundle {
    /// One of which nothing is written yet.
    #[must_use]
    pub fn new(ledger: &Ledger, schema: &Schema, ask: Ask) -> Self {
        let last_position = ask.range.after;
        Self {
            ledger: ledger.clone(),
            schema: schema.clone(),
            ask,
            writer: Some(Writer::new(Written::default())),
            stage: Stage::Begin,
            checkpoint: None,
            keys: Vec::new(),
            head_log: false,
            rows: 0,
            last_position,
        }
    }

    /// How many events were written so far, and the position of the last of them.
    #[must_use]
    pub fn progress(&self) -> (u64, i64) {
        (self.rows, self.last_position)
    }

    /// Signs the log as it is now, and finds what comes before the events.
    ///
    /// # Errors
    /// When the ledger is not what it must be, or away.
    pub async fn prepare(&mut self) -> Result<(), BundleError> {
        if matches!(self.stage, Stage::Begin)
            && let Some(writer) = self.writer.take()
        {
            self.writer = Some(self.begin(writer).await?);
        }
        Ok(())
    }

    /// The next bytes, which may be none yet; `None` after the last.
    ///
    /// # Errors
    /// When the ledger or the log is not what it must be, or away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BundleError> {
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let mut writer = match self.stage {
            Stage::Begin => self.begin(writer).await?,
            Stage::Records(after) => self.records(writer, after).await?,
            Stage::Parts(after) => self.part(writer, after).await?,
            Stage::End => {
                let written = self.end(writer)?;
                self.stage = Stage::Over;
                return Ok(Some(Bytes::from(written.0)));
            }
            Stage::Over => return Ok(None),
        };
        let bytes = Bytes::from(mem::take(&mut writer.out().0));
        self.writer = Some(writer);
        Ok(Some(bytes))
    }

    fn store(&self) -> &EventStore {
        self.ledger.store()
    }

    fn size(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size)
    }

    /// The first and the last position.
    fn ends(&self) -> (u64, u64) {
        let Range { after, until } = self.ask.range;
        (u64::try_from(after).unwrap_or(0) + 1, u64::try_from(until).unwrap_or(0))
    }

    /// All that comes before the records.
    async fn begin(&mut self, mut writer: Writer<Written>) -> Result<Writer<Written>, BundleError> {
        // The log of heads first: what it names then is not ahead of the checkpoint.
        let head = self.ledger.head_proof(&self.schema).await?;
        let checkpoint = self.ledger.checkpoint_now(&self.schema).await?;
        let (from, to) = self.ends();
        let size = checkpoint.size;
        if to > size {
            return Err(LedgerError::NotYet.into());
        }
        writer.file(Kind::Readme, README.as_bytes())?;
        writer.file(Kind::Checkpoint, checkpoint.note.as_bytes())?;
        // Keys may be rotated while the bundle is written, and those of its end are not in its list.
        let mut keys = self.ledger.signing_keys(&checkpoint.origin)?;
        let log = OriginKeys {
            origin: checkpoint.origin.clone(),
            keys: entries(self.ledger.verifier_keys(&self.schema).await?),
        };
        keys.retain(|key| log.keys.iter().any(|listed| listed.vkey == key.vkey()));
        self.keys = keys;
        let head_log = match &head {
            Some(head) => Some(OriginKeys {
                origin: head.checkpoint.origin.clone(),
                keys: entries(self.ledger.head_log_keys().await?),
            }),
            None => None,
        };
        writer.json(Kind::Keys, &KeysFile { log, head_log })?;
        if let Some(head) = head {
            self.head_log = true;
            writer.file(Kind::HeadCheckpoint, head.checkpoint.note.as_bytes())?;
            writer.json(Kind::HeadProof, &self.head_file(head, size).await?)?;
        }
        let needed = upper_tiles(from, to, size);
        let tiles = self.ledger.tiles(&self.schema, &needed).await?;
        for id in needed {
            writer.tile(id, size, &tiles)?;
        }
        for (kind, position) in [(Kind::First, from), (Kind::Last, to)] {
            let proof = self.ledger.inclusion(&self.schema, position, Some(size)).await?;
            let file = InclusionFile {
                position: position.to_string(),
                leaf_hash: hex::encode(proof.leaf_hash),
                size: size.to_string(),
                root: hex::encode(proof.root),
                proof: all_hex(&proof.proof),
            };
            writer.json(kind, &file)?;
        }
        self.checkpoint = Some(checkpoint);
        self.stage = Stage::Records(0);
        Ok(writer)
    }

    async fn head_file(&self, head: HeadProof, size: u64) -> Result<HeadFile, BundleError> {
        let named: crate::ledger::head_log::Head =
            serde_json::from_str(&head.head).map_err(WriteError::from)?;
        let named: u64 = named.size.parse().unwrap_or(0);
        let consistency = self.ledger.consistency(&self.schema, named, Some(size)).await?;
        Ok(HeadFile {
            entry: head.entry,
            entry_index: head.entry_index.to_string(),
            entry_proof: all_hex(&head.entry_proof),
            head: head.head,
            head_index: head.head_index.to_string(),
            head_count: head.head_count.to_string(),
            head_proof: all_hex(&head.head_proof),
            consistency: all_hex(&consistency.proof),
        })
    }

    /// The next file of records: what was pruned or erased, in the whole log.
    async fn records(
        &mut self,
        mut writer: Writer<Written>,
        after: i64,
    ) -> Result<Writer<Written>, BundleError> {
        let size = self.size();
        let most = i64::try_from(RECORDS).unwrap_or(i64::MAX);
        let mut rows: Vec<LogRow> = Vec::new();
        let mut tx = TenantTx::begin(self.store().database().app(), &self.schema, Access::Read).await?;
        for event_type in RECORD_TYPES {
            let until = i64::try_from(size).ok();
            let filter =
                LogFilter { after, until, event_type: Some(event_type.to_owned()), ..LogFilter::default() };
            let page = log::page(&mut tx, &filter, most).await;
            rows.extend(page.map_err(StoreError::db("read what was pruned or erased"))?);
        }
        tx.release();
        // Of each type the first so many: of all of them together the first so many are whole.
        rows.sort_unstable_by_key(|row| row.position);
        rows.truncate(RECORDS);
        let indexes: Vec<u64> = rows.iter().filter_map(|row| u64::try_from(row.position - 1).ok()).collect();
        let needed = indexes.iter().flat_map(|index| tree::needed_for_inclusion(size, *index)).collect();
        let tiles = self.ledger.tiles(&self.schema, &needed).await?;
        let mut records = Vec::with_capacity(rows.len());
        for (row, index) in rows.iter().zip(indexes) {
            let proof = tiles.prove_inclusion(size, index)?;
            if let Some(checkpoint) = &self.checkpoint {
                tree::check_inclusion(&proof, size, &checkpoint.root, index, &leaf_hash(&row.leaf))?;
            }
            records.push(RecordLine {
                position: row.position.to_string(),
                leaf: BASE64_STANDARD.encode(&row.leaf),
                proof: all_hex(&proof),
            });
        }
        self.stage = match rows.last() {
            Some(last) if rows.len() == RECORDS => Stage::Records(last.position),
            Some(_) | None => Stage::Parts(self.ask.range.after),
        };
        if !records.is_empty() {
            writer.records(&records)?;
        }
        Ok(writer)
    }

    /// The next part of the events.
    async fn part(&mut self, writer: Writer<Written>, after: i64) -> Result<Writer<Written>, BundleError> {
        let until = self.ask.range.until;
        let rows = self.leaves(after).await?;
        let last = rows.last().map_or(until, |row| row.position);
        let disclosed = self.disclosed(&rows).await?;
        let needed: BTreeSet<TileId> = rows
            .iter()
            .filter_map(|row| u64::try_from(row.position - 1).ok())
            .map(|index| TileId { level: 0, number: index / TILE_WIDTH })
            .collect();
        let tiles = self.ledger.tiles(&self.schema, &needed).await?;
        let (size, count) = (self.size(), rows.len() as u64);
        let written = spawn_blocking(move || {
            let mut writer = writer;
            writer.part(size, &tiles, &rows, &disclosed)?;
            Ok::<_, WriteError>(writer)
        });
        let writer = written.await.map_err(BundleError::Interrupted)??;
        self.rows += count;
        self.last_position = last;
        self.stage = if last < until { Stage::Parts(last) } else { Stage::End };
        Ok(writer)
    }

    /// The leaves of a part.
    async fn leaves(&self, after: i64) -> Result<Vec<LogRow>, BundleError> {
        let width = i64::try_from(TILE_WIDTH).unwrap_or(i64::MAX);
        let mut rows: Vec<LogRow> = Vec::new();
        let (mut at, mut bytes) = (after, 0);
        while at < self.ask.range.until && rows.len() < PART_ROWS && bytes < PART_BYTES {
            // To where a tile ends.
            let until = ((at + PAGE) / width * width).min(self.ask.range.until);
            let mut tx = TenantTx::begin(self.store().database().app(), &self.schema, Access::Read).await?;
            let filter = LogFilter { after: at, until: Some(until), ..LogFilter::default() };
            let page = log::page(&mut tx, &filter, PAGE)
                .await
                .map_err(StoreError::db("read the log for a bundle"))?;
            tx.release();
            for row in page {
                if row.position != at + 1 {
                    break;
                }
                at = row.position;
                bytes += row.leaf.len();
                rows.push(row);
            }
            if at != until {
                return Err(ExportError::Missing(at + 1).into());
            }
        }
        Ok(rows)
    }

    /// The personal values of a part that may be shown, and still can.
    async fn disclosed(&self, rows: &[LogRow]) -> Result<Vec<DisclosedLine>, BundleError> {
        let mut committed = Vec::new();
        for row in rows {
            // Few leaves commit to anything; the others are not read at all.
            if !row.leaf.windows(COMMITS.len()).any(|text| text == COMMITS) {
                continue;
            }
            let leaf = Leaf::decode(&row.leaf, row.position)?;
            let shown = AggregateType::parse(&leaf.aggregate_type)
                .is_some_and(|kind| self.ask.disclose.contains(&kind));
            if shown && !leaf.commitments.is_empty() {
                committed.push((row.position, leaf.id, leaf.commitments));
            }
        }
        if committed.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx =
            TenantTx::begin(self.store().database().app(), &self.schema, Access::ReadConsistent).await?;
        let opened = open::open(&mut tx, &self.schema, self.store().keys(), &committed).await?;
        tx.release();
        let line = |Opened { position, event_id, field, subject, salt, value }| DisclosedLine {
            position: i64::to_string(&position),
            event_id,
            field,
            subject,
            salt: hex::encode(salt),
            value,
        };
        Ok(opened.into_iter().map(line).collect())
    }

    fn end(&self, writer: Writer<Written>) -> Result<Written, BundleError> {
        let Some(checkpoint) = &self.checkpoint else { return Err(LedgerError::NotYet.into()) };
        let (from, to) = self.ends();
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            origin: checkpoint.origin.clone(),
            log_id: self.schema.log_id().0,
            from: from.to_string(),
            to: to.to_string(),
            size: checkpoint.size.to_string(),
            root: hex::encode(checkpoint.root),
            rows: Default::default(),
            disclosed: String::new(),
            records: String::new(),
            head_log: self.head_log,
            exported_by: self.ask.exported_by.clone(),
            exported_at: format_time(self.ask.at),
            export_id: Uuid::from(self.ask.export_id),
            files: Vec::new(),
        };
        writer.finish(manifest, |sha256| {
            note::sign_manifest(&checkpoint.origin, sha256, &self.keys)
                .map_err(|error| LedgerError::from(error).into())
        })
    }
}

/// What a leaf holds that commits to personal values.
const COMMITS: &[u8] = br#""commitments":{"#;

fn entries(keys: Vec<VerifierKey>) -> Vec<KeyEntry> {
    keys.into_iter()
        .map(|key| KeyEntry {
            vkey: key.vkey,
            first_used_at: key.first_used_at.map(format_time),
            live: key.live,
        })
        .collect()
}

fn all_hex(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}
