//! Keeping the copy: that it is a beginning of what is here, and what it lacks.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use daybook_projections::Schema;

use super::LOG_ID;
use crate::{
    ledger::{
        Cause, Checkpoint, Ledger, LedgerError,
        copy::HeadCopy,
        path::{Resource, TilePath},
        rows,
        signer::Remembered,
        stored,
        tree::{self, TILE_WIDTH, TileId},
    },
    tenancy::Access,
};

impl Ledger {
    /// Has the signer ask this copy, once, before it signs anything: what is missing here may be there.
    pub fn keep_copy(&self, copy: HeadCopy) {
        // Of those who say so first one counts; a process has one.
        let _ = self.inner.copy.set(copy);
    }

    /// Whether the copy bears out what is here. It is asked until it has once; what this process saw counts from then on.
    pub(in crate::ledger) async fn copy_agrees(&self) -> Result<(), LedgerError> {
        let Some(copy) = self.inner.copy.get().filter(|copy| copy.is_kept()) else { return Ok(()) };
        if self.inner.copy_agreed.load(Ordering::Relaxed) {
            return Ok(());
        }
        // The copy first: it is never ahead of what is read here after it.
        let note = copy.checkpoint().await?;
        let before = self.remembered(LOG_ID).await?;
        let origin = self.heads_origin(before.as_ref());
        self.check_copy(&origin, before.as_ref(), note.as_deref()).await?;
        self.inner.copy_agreed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the copy is a beginning of the log: answers how long a one.
    pub(super) async fn check_copy(
        &self,
        origin: &str,
        before: Option<&Remembered>,
        note: Option<&str>,
    ) -> Result<u64, LedgerError> {
        let Some(note) = note else { return Ok(0) };
        let refused = |detail: String| Self::refused(origin, Cause::HeadLogInconsistent, detail);
        let Some(before) = before.map(|before| &before.checkpoint) else {
            return Err(refused("there is a copy of a log of heads, and none here".to_owned()));
        };
        let keys: Vec<String> = self.keys_of(origin).await?.into_iter().map(|key| key.vkey).collect();
        let copy = Checkpoint::verify(note, origin, &keys)
            .map_err(|cause| refused(format!("the checkpoint of the copy is not ours: {cause}")))?;
        if copy.size > before.size {
            return Err(refused(format!(
                "the copy has {} entries, and only {} are here",
                copy.size, before.size
            )));
        }
        let mut needed = tree::needed_for_root(before.size);
        needed.extend(tree::needed_for_consistency(copy.size, before.size));
        let tiles = self.head_tiles(&needed).await?;
        let shown = tiles.prove_consistency(copy.size, before.size).and_then(|proof| {
            tree::check_consistency(&proof, copy.size, &copy.root, before.size, &before.root)
        });
        match shown {
            Ok(()) => Ok(copy.size),
            Err(_) => {
                Err(refused(format!("the {} entries of the copy are not the first ones here", copy.size)))
            }
        }
    }

    /// Copies what the copy does not have yet; its checkpoint last, so that it never speaks of what is not there.
    pub(super) async fn copy_heads(
        &self,
        copy: &HeadCopy,
        now: Option<&Remembered>,
        copied: u64,
    ) -> Result<(), LedgerError> {
        let Some(checkpoint) = now.map(|now| &now.checkpoint) else { return Ok(()) };
        let size = checkpoint.size;
        if !copy.is_kept() || copied >= size {
            return Ok(());
        }
        let attempted = "read what is to be copied of the log of heads";
        let missing = |id: TileId| {
            Self::refused(
                &checkpoint.origin,
                Cause::HeadLogInconsistent,
                tree::TreeError::Tile(id).to_string(),
            )
        };
        for level in 0..8 {
            // Hashes of a level before and now; a tile that only grew is a new object.
            let (before, now) = (copied >> (8 * level), size >> (8 * level));
            if now == 0 {
                break;
            }
            for number in before / TILE_WIDTH..now.div_ceil(TILE_WIDTH) {
                let id = TileId { level, number };
                let width = id.width_in(size);
                if width == 0 || id.width_in(copied) == width {
                    continue;
                }
                let tiles = self.head_tiles(&BTreeSet::from([id])).await?;
                let bytes = usize::try_from(width * 32).unwrap_or(usize::MAX);
                let hashes = tiles.get(id).and_then(|tile| tile.get(..bytes)).ok_or_else(|| missing(id))?;
                let path = TilePath { resource: Resource::Tile(id), width };
                copy.write(&path.to_string(), hashes.to_vec()).await?;
            }
        }
        for number in copied / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
            let (first, end) = (number * TILE_WIDTH, ((number + 1) * TILE_WIDTH).min(size));
            let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
            let rows = rows::entries(&mut tx, stored(first), stored(end), stored(copied))
                .await
                .map_err(LedgerError::db(attempted))?;
            tx.release();
            let mut bundle = Vec::new();
            for row in &rows {
                let length =
                    u16::try_from(row.entry.len()).map_err(|_| missing(TileId { level: 0, number }))?;
                bundle.extend_from_slice(&length.to_be_bytes());
                bundle.extend_from_slice(&row.entry);
            }
            if rows.len() as u64 != end - first {
                return Err(missing(TileId { level: 0, number }));
            }
            let path = TilePath { resource: Resource::Entries(number), width: end - first };
            copy.write(&path.to_string(), bundle).await?;
            for row in rows {
                if let Some(heads) = row.heads {
                    copy.write(&format!("heads/{}.json.gz", row.index), heads).await?;
                }
            }
        }
        copy.write("checkpoint", checkpoint.note.clone().into_bytes()).await?;
        Ok(())
    }
}
