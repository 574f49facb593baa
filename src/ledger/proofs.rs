//! What auditors ask for: proofs, tiles, the leaves themselves, and the keys to check signatures with. All of it is about
//! what is under the last signed checkpoint.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use daybook_projections::Schema;
use subtle::ConstantTimeEq as _;

use super::{
    Cause, Checkpoint, Ledger, LedgerError,
    path::{Resource, TilePath},
    rows::{self, Table},
    signer::seal_of_key,
    stored,
    tree::{self, Hash, TILE_WIDTH, TileId, Tiles, TreeError},
};
use crate::tenancy::Access;

/// That the leaf of a position is in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The position; the index of its leaf is one less.
    pub position: u64,
    /// The leaf's hash.
    pub leaf_hash: Hash,
    /// In the tree of so many leaves.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The audit path, from the leaf upwards.
    pub proof: Vec<Hash>,
    /// The last signed checkpoint, which is of this tree or of one that goes on from it.
    pub checkpoint: Checkpoint,
}

/// That one tree goes on from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// The smaller tree's leaves.
    pub from: u64,
    /// Its root.
    pub from_root: Hash,
    /// The larger tree's leaves.
    pub to: u64,
    /// Its root.
    pub to_root: Hash,
    /// The proof (RFC 6962).
    pub proof: Vec<Hash>,
    /// The last signed checkpoint, which is of the larger tree or of one that goes on from it.
    pub checkpoint: Checkpoint,
}

/// A key that signs or signed checkpoints of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// The key's id in the keys file.
    pub key_id: String,
    /// The public half, as signed-note writes it: `<origin>+<key hash>+<base64>`.
    pub vkey: String,
    /// Since when it has signed; `None` for one that has not yet.
    pub first_used_at: Option<DateTime<Utc>>,
    /// Whether it signs now.
    pub live: bool,
}

impl Ledger {
    /// The origin of a log: what its checkpoints and keys are named.
    ///
    /// # Errors
    /// When what is remembered of it was edited, or PostgreSQL refuses.
    pub async fn origin(&self, schema: &Schema) -> Result<String, LedgerError> {
        let last = self.latest(schema).await?;
        Ok(last.map_or_else(|| self.new_origin(schema.log_id().0), |last| last.origin))
    }

    /// Every key that signed or signs checkpoints of a log, oldest first.
    ///
    /// # Errors
    /// When a row was edited or made by somebody else, or PostgreSQL refuses.
    pub async fn verifier_keys(&self, schema: &Schema) -> Result<Vec<VerifierKey>, LedgerError> {
        self.keys_of(&self.origin(schema).await?).await
    }

    pub(super) async fn keys_of(&self, origin: &str) -> Result<Vec<VerifierKey>, LedgerError> {
        let mut tx = self.begin(&Schema::platform(), Access::Read).await?;
        let rows = rows::keys(&mut tx, origin).await.map_err(LedgerError::db("read verifier keys"))?;
        tx.release();
        let live = self.signing_keys(origin)?;
        let mut keys = Vec::with_capacity(rows.len() + live.len());
        for row in rows.into_iter().filter(|row| row.origin == origin) {
            let seal = seal_of_key(self.inner.store.keys(), &row);
            if !bool::from(seal.as_slice().ct_eq(&row.seal)) {
                let detail = "a verifier key is not as it was written";
                return Err(Self::refused(origin, Cause::SignerStateInvalid, detail));
            }
            let live = live.iter().any(|key| key.vkey() == row.vkey);
            let first_used_at = Some(row.first_used_at);
            keys.push(VerifierKey { key_id: row.key_id, vkey: row.vkey, first_used_at, live });
        }
        // Newest first in the file, newest last here.
        for key in live.iter().rev() {
            if !keys.iter().any(|known| known.vkey == key.vkey()) {
                let (key_id, vkey) = (key.id().to_owned(), key.vkey().to_owned());
                keys.push(VerifierKey { key_id, vkey, first_used_at: None, live: true });
            }
        }
        Ok(keys)
    }

    /// The proof that a position's leaf is in the tree of `size` leaves, or of the last checkpoint.
    ///
    /// # Errors
    /// [`LedgerError::NotYet`] and [`LedgerError::NotThere`] for what is not under a checkpoint; refused when the tiles
    /// do not bear it out.
    pub async fn inclusion(
        &self,
        schema: &Schema,
        position: u64,
        size: Option<u64>,
    ) -> Result<Inclusion, LedgerError> {
        let checkpoint = self.covering(schema, position.max(size.unwrap_or(0))).await?;
        let size = size.unwrap_or(checkpoint.size);
        let index = position.checked_sub(1).filter(|index| *index < size).ok_or(LedgerError::NotThere)?;
        let mut needed = tree::needed_for_inclusion(size, index);
        needed.extend(tree::needed_for_root(size));
        let tiles = self.tiles(schema, &needed).await?;
        let proved = || {
            let (leaf_hash, root) = (tiles.leaf_hash(index)?, tiles.root(size)?);
            let proof = tiles.prove_inclusion(size, index)?;
            tree::check_inclusion(&proof, size, &root, index, &leaf_hash)?;
            agrees(&checkpoint, size, &root)?;
            Ok((leaf_hash, root, proof))
        };
        let (leaf_hash, root, proof) = proved().map_err(mismatch(&checkpoint))?;
        Ok(Inclusion { position, leaf_hash, size, root, proof, checkpoint })
    }

    /// The proof that the tree of `to` leaves, or of the last checkpoint, goes on from that of `from`.
    ///
    /// # Errors
    /// As those of [`Self::inclusion`].
    pub async fn consistency(
        &self,
        schema: &Schema,
        from: u64,
        to: Option<u64>,
    ) -> Result<Consistency, LedgerError> {
        let checkpoint = self.covering(schema, from.max(to.unwrap_or(0))).await?;
        let to = to.unwrap_or(checkpoint.size);
        if from > to {
            return Err(LedgerError::NotThere);
        }
        let mut needed = tree::needed_for_consistency(from, to);
        needed.extend(tree::needed_for_root(from));
        needed.extend(tree::needed_for_root(to));
        let tiles = self.tiles(schema, &needed).await?;
        let proved = || {
            let (from_root, to_root) = (tiles.root(from)?, tiles.root(to)?);
            let proof = tiles.prove_consistency(from, to)?;
            tree::check_consistency(&proof, from, &from_root, to, &to_root)?;
            agrees(&checkpoint, to, &to_root)?;
            Ok((from_root, to_root, proof))
        };
        let (from_root, to_root, proof) = proved().map_err(mismatch(&checkpoint))?;
        Ok(Consistency { from, from_root, to, to_root, proof, checkpoint })
    }

    /// The root of the tree's first `size` leaves.
    ///
    /// # Errors
    /// As those of [`Self::inclusion`].
    pub async fn root_at(&self, schema: &Schema, size: u64) -> Result<Hash, LedgerError> {
        let checkpoint = self.covering(schema, size).await?;
        let tiles = self.tiles(schema, &tree::needed_for_root(size)).await?;
        let root = tiles.root(size).and_then(|root| agrees(&checkpoint, size, &root).map(|()| root));
        root.map_err(mismatch(&checkpoint))
    }

    /// The hashes of the leaves of the positions after `after` up to `through`, as the tree has them.
    ///
    /// # Errors
    /// As those of [`Self::inclusion`].
    pub async fn leaf_hashes(
        &self,
        schema: &Schema,
        after: u64,
        through: u64,
    ) -> Result<Vec<Hash>, LedgerError> {
        let checkpoint = self.covering(schema, through).await?;
        if after >= through {
            return Ok(Vec::new());
        }
        let numbers = after / TILE_WIDTH..=(through - 1) / TILE_WIDTH;
        let needed = numbers.map(|number| TileId { level: 0, number }).collect();
        let tiles = self.tiles(schema, &needed).await?;
        (after..through)
            .map(|index| tiles.leaf_hash(index))
            .collect::<Result<_, _>>()
            .map_err(mismatch(&checkpoint))
    }

    /// The bytes at an address of the log's prefix: a tile's hashes, or a bundle of leaves, each after its length in two
    /// bytes.
    ///
    /// # Errors
    /// As those of [`Self::inclusion`], and [`LedgerError::Gone`] for a bundle of which a leaf is not there any more.
    pub async fn resource(&self, schema: &Schema, path: TilePath) -> Result<Vec<u8>, LedgerError> {
        match path.resource {
            Resource::Tile(id) => self.tile(schema, id, path.width).await,
            Resource::Entries(number) => self.entries(schema, number, path.width).await,
        }
    }

    /// The first `width` hashes of a tile.
    ///
    /// # Errors
    /// As those of [`Self::inclusion`].
    pub async fn tile(&self, schema: &Schema, id: TileId, width: u64) -> Result<Vec<u8>, LedgerError> {
        let below = 1_u64.checked_shl(8 * u32::from(id.level)).unwrap_or(u64::MAX);
        let last = id.number.saturating_mul(TILE_WIDTH).saturating_add(width).saturating_mul(below);
        let checkpoint = self.covering(schema, last).await?;
        let tiles = self.tiles(schema, &BTreeSet::from([id])).await?;
        let bytes = usize::try_from(width.saturating_mul(32)).unwrap_or(usize::MAX);
        match tiles.get(id).and_then(|tile| tile.get(..bytes)) {
            Some(hashes) => Ok(hashes.to_vec()),
            None => Err(mismatch(&checkpoint)(TreeError::Tile(id))),
        }
    }

    /// The first `width` leaves of a bundle, each after its length in two bytes (big-endian).
    ///
    /// # Errors
    /// As those of [`Self::inclusion`], and [`LedgerError::Gone`] when a leaf is not there any more.
    pub async fn entries(&self, schema: &Schema, number: u64, width: u64) -> Result<Vec<u8>, LedgerError> {
        let after = number.saturating_mul(TILE_WIDTH);
        let through = after.saturating_add(width);
        let checkpoint = self.covering(schema, through).await?;
        let mut tx = self.begin(schema, Access::Read).await?;
        let leaves = rows::leaves(&mut tx, stored(after), stored(through))
            .await
            .map_err(LedgerError::db("read a bundle of leaves"))?;
        tx.release();
        if leaves.len() as u64 != width {
            return Err(LedgerError::Gone);
        }
        let mut bundle = Vec::with_capacity(leaves.iter().map(|(_, leaf)| leaf.len() + 2).sum());
        for (position, leaf) in leaves {
            let length = u16::try_from(leaf.len()).map_err(|_| {
                let detail = format!("the leaf of position {position} is too long");
                Self::refused(&checkpoint.origin, Cause::LeafEdited, detail)
            })?;
            bundle.extend_from_slice(&length.to_be_bytes());
            bundle.extend_from_slice(&leaf);
        }
        Ok(bundle)
    }

    /// The last checkpoint, if so many leaves are under it.
    async fn covering(&self, schema: &Schema, size: u64) -> Result<Checkpoint, LedgerError> {
        if let Some(checkpoint) = self.latest(schema).await?
            && size <= checkpoint.size
        {
            return Ok(checkpoint);
        }
        let mut tx = self.begin(schema, Access::Read).await?;
        let (_, position) = rows::sizes(&mut tx).await.map_err(LedgerError::db("read the log's position"))?;
        tx.release();
        Err(if size <= super::unsigned(position) { LedgerError::NotYet } else { LedgerError::NotThere })
    }

    /// Those of the tiles that are there, as they are stored: perhaps wider than under the last checkpoint.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn tiles(&self, schema: &Schema, needed: &BTreeSet<TileId>) -> Result<Tiles, LedgerError> {
        let mut tx = self.begin(schema, Access::Read).await?;
        let tiles = rows::tiles(&mut tx, Table::Log, needed).await.map_err(LedgerError::db("read tiles"))?;
        tx.release();
        Ok(tiles)
    }
}

/// A tree as large as the one that was signed is the one that was signed.
fn agrees(checkpoint: &Checkpoint, size: u64, root: &Hash) -> Result<(), TreeError> {
    if size == checkpoint.size && *root != checkpoint.root { Err(TreeError::WrongProof) } else { Ok(()) }
}

fn mismatch(checkpoint: &Checkpoint) -> impl Fn(TreeError) -> LedgerError {
    move |error| Ledger::refused(&checkpoint.origin, Cause::TreeMismatch, error.to_string())
}
