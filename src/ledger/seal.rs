//! Following a log: the hashes of its leaves go into the tree, in order, without a gap.

use daybook_projections::Schema;

use super::{
    Cause, Ledger, LedgerError,
    rows::{self, Table},
    stored,
    tree::{self, Hash},
    unsigned,
};
use crate::{eventstore::leaf::leaf_hash, tenancy::Access};

/// Leaves taken in one transaction.
const BATCH: i64 = 2_000;

/// What a turn of sealing found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// How many leaves the tree has.
    pub size: u64,
    /// The log's position then.
    pub position: u64,
    /// Whether somebody else was at it, and nothing was done.
    pub busy: bool,
}

impl Sealed {
    /// Whether there is more to do at once.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.size < self.position
    }
}

impl Ledger {
    /// Extends the tree of a log by a batch of what it does not have yet. One does so at a time, over all nodes.
    ///
    /// # Errors
    /// When the log has a gap or is shorter than its tree, or the tiles are not what they must be; nothing is written
    /// then.
    pub async fn seal(&self, schema: &Schema) -> Result<Sealed, LedgerError> {
        let attempted = "seal a log";
        // A look costs less than a lock, and as a rule there is nothing to do.
        let looked = async {
            let mut tx = self.begin(schema, Access::Read).await?;
            let sizes = rows::sizes(&mut tx).await.map_err(LedgerError::db(attempted))?;
            tx.release();
            Ok(sizes)
        };
        let (size, position) = match looked.await {
            Ok(sizes) => sizes,
            Err(error) => return Err(self.unless_missing(schema, error).await),
        };
        if size == position {
            return Ok(Sealed { size: unsigned(size), position: unsigned(position), busy: false });
        }
        let mut tx = self.begin(schema, Access::Write).await?;
        let Some(size) = rows::lock_size(&mut tx).await.map_err(LedgerError::db(attempted))? else {
            tx.release();
            return Ok(Sealed { size: unsigned(size), position: unsigned(position), busy: true });
        };
        // Read after the lock and before the events: each up to there is committed, and seen by the next statement.
        let (_, position) = rows::sizes(&mut tx).await.map_err(LedgerError::db(attempted))?;
        let origin = || self.new_origin(schema.log_id().0);
        if position < size {
            let detail = format!("the log ends at {position}, its tree at {size}");
            return Err(Self::refused(&origin(), Cause::TailMissing, detail));
        }
        let through = position.min(size.saturating_add(BATCH));
        let leaves = rows::leaves(&mut tx, size, through).await.map_err(LedgerError::db(attempted))?;
        let mut expected = size;
        let mut hashes: Vec<Hash> = Vec::with_capacity(leaves.len());
        for (position, leaf) in &leaves {
            expected += 1;
            if *position != expected {
                break;
            }
            hashes.push(leaf_hash(leaf));
        }
        if hashes.len() as u64 != unsigned(through - size) {
            let detail = format!("no event at position {}", unsigned(size) + hashes.len() as u64 + 1);
            return Err(Self::refused(&origin(), Cause::MissingEvent, detail));
        }
        if hashes.is_empty() {
            tx.release();
            return Ok(Sealed { size: unsigned(size), position: unsigned(position), busy: false });
        }
        let size = unsigned(size);
        let frontier = tree::frontier(size);
        let mut tiles =
            rows::tiles(&mut tx, Table::Log, &frontier).await.map_err(LedgerError::db(attempted))?;
        let changed = tiles
            .extend(size, &hashes)
            .map_err(|error| Self::refused(&origin(), Cause::TreeMismatch, error.to_string()))?;
        let sealed = size + hashes.len() as u64;
        rows::save_tiles(&mut tx, Table::Log, &tiles, &changed).await.map_err(LedgerError::db(attempted))?;
        rows::set_size(&mut tx, stored(sealed)).await.map_err(LedgerError::db(attempted))?;
        tx.commit().await?;
        metrics::counter!("daybook_ledger_sealed_events_total").increment(hashes.len() as u64);
        Ok(Sealed { size: sealed, position: unsigned(position), busy: false })
    }

    /// Why a log cannot be looked at: often that its schema, or its role, is there no more.
    async fn unless_missing(&self, schema: &Schema, error: LedgerError) -> LedgerError {
        let there = async {
            let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
            let there =
                rows::is_there(&mut tx, schema.name()).await.map_err(LedgerError::db("look for a schema"))?;
            tx.release();
            Ok::<_, LedgerError>(there)
        };
        match there.await {
            Ok(false) => {
                let origin = self.new_origin(schema.log_id().0);
                Self::refused(&origin, Cause::TenantMissing, "the log's schema or role is gone")
            }
            Ok(true) | Err(_) => error,
        }
    }
}
