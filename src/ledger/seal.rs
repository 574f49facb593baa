//! Following a log: the hashes of its leaves go into the tree, in order, without a gap.

use daybook_projections::Schema;

use super::{
    Cause, Ledger, LedgerError,
    rows::{self, Table},
    stored,
    tree::{self, Hash},
    unsigned,
};
use crate::{
    eventstore::leaf::leaf_hash,
    tenancy::{Access, TenantTx},
};

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
        match self.extend(&mut tx, unsigned(position)).await {
            Ok(sealed) => {
                tx.commit().await?;
                Ok(sealed)
            }
            Err(error) => {
                // At once: until then whoever looks next would be told that somebody is at it.
                tx.rollback().await?;
                Err(error)
            }
        }
    }

    /// Extends the tree in a transaction of the log's. `looked_at` is the position that was seen before.
    async fn extend(&self, tx: &mut TenantTx<'_>, looked_at: u64) -> Result<Sealed, LedgerError> {
        let attempted = "seal a log";
        let Some(size) = rows::lock_size(tx).await.map_err(LedgerError::db(attempted))? else {
            // The size is not known without the lock; nobody goes by it.
            return Ok(Sealed { size: 0, position: looked_at, busy: true });
        };
        // Read after the lock and before the events: each up to there is committed, and seen by the next statement.
        let (_, position) = rows::sizes(tx).await.map_err(LedgerError::db(attempted))?;
        let origin = self.new_origin(tx.schema().log_id().0);
        if position < size {
            let detail = format!("the log ends at {position}, its tree at {size}");
            return Err(Self::refused(&origin, Cause::TailMissing, detail));
        }
        let through = position.min(size.saturating_add(BATCH));
        let leaves = rows::leaves(tx, size, through).await.map_err(LedgerError::db(attempted))?;
        let in_order = (size + 1..).zip(&leaves).take_while(|(expected, (position, _))| position == expected);
        let hashes: Vec<Hash> = in_order.map(|(_, (_, leaf))| leaf_hash(leaf)).collect();
        let (size, through) = (unsigned(size), unsigned(through));
        let sealed = size + hashes.len() as u64;
        if sealed != through {
            return Err(Self::refused(
                &origin,
                Cause::MissingEvent,
                format!("no event at position {}", sealed + 1),
            ));
        }
        if !hashes.is_empty() {
            let mut tiles = rows::tiles(tx, Table::Log, &tree::frontier(size))
                .await
                .map_err(LedgerError::db(attempted))?;
            let changed = tiles
                .extend(size, &hashes)
                .map_err(|error| Self::refused(&origin, Cause::TreeMismatch, error.to_string()))?;
            rows::save_tiles(tx, Table::Log, &tiles, &changed).await.map_err(LedgerError::db(attempted))?;
            rows::set_size(tx, stored(sealed)).await.map_err(LedgerError::db(attempted))?;
            metrics::counter!("daybook_ledger_sealed_events_total").increment(hashes.len() as u64);
        }
        Ok(Sealed { size: sealed, position: unsigned(position), busy: false })
    }

    /// Why a log cannot be looked at: often that its schema, or its role, is there no more.
    pub(super) async fn unless_missing(&self, schema: &Schema, error: LedgerError) -> LedgerError {
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
