//! The Merkle tree (RFC 6962) in tiles of 256 hashes (C2SP tlog-tiles), without any storage: what is needed is asked
//! for by name first, then given.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use tlog_tiles::{
    Error, Hash as Node, HashReader, Tile, check_record, check_tree, prove_record, prove_tree, tree_hash,
};

/// A hash of the tree: SHA-256.
pub type Hash = [u8; 32];

/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 256;
const HEIGHT: u8 = 8;
const HASH_SIZE: usize = 32;

/// The root of a tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Which tile: of this level (0: hashes of leaves), so many from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// The level.
    pub level: u8,
    /// The number within the level.
    pub number: u64,
}

impl TileId {
    /// How many hashes the tile has in a tree of so many leaves; 0: it has none.
    #[must_use]
    pub fn width_in(self, size: u64) -> u64 {
        let on_level = size.checked_shr(u32::from(self.level) * u32::from(HEIGHT)).unwrap_or(0);
        on_level.saturating_sub(self.number.saturating_mul(TILE_WIDTH)).min(TILE_WIDTH)
    }
}

/// Why a tree does not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A tile is missing, or has not the hashes that it must have.
    #[error("tile {} of level {} is not as wide as the tree", .0.number, .0.level)]
    Tile(TileId),
    /// What was asked for is not in a tree of that size.
    #[error("not in a tree of this size")]
    OutOfRange,
    /// A proof that proves nothing.
    #[error("the proof is wrong")]
    WrongProof,
}

/// Tiles in memory: as many of a tree as somebody needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiles(BTreeMap<TileId, Vec<u8>>);

impl Tiles {
    /// Adds a tile as it is stored: its hashes, one after the other.
    pub fn put(&mut self, id: TileId, hashes: Vec<u8>) {
        self.0.insert(id, hashes);
    }

    /// A tile's hashes, one after the other.
    #[must_use]
    pub fn get(&self, id: TileId) -> Option<&[u8]> {
        self.0.get(&id).map(Vec::as_slice)
    }

    /// The tiles as they were in a tree of so many leaves: what was added to them since is left out.
    pub fn cut_to(&mut self, size: u64) {
        for (id, tile) in &mut self.0 {
            tile.truncate(usize::try_from(id.width_in(size)).unwrap_or(usize::MAX).saturating_mul(HASH_SIZE));
        }
        self.0.retain(|_, tile| !tile.is_empty());
    }

    /// The tree over these leaf hashes.
    ///
    /// # Errors
    /// Never: nothing is missing.
    pub fn over(leaf_hashes: &[Hash]) -> Result<Self, TreeError> {
        let mut tiles = Self::default();
        tiles.extend(0, leaf_hashes)?;
        Ok(tiles)
    }

    /// Adds leaf hashes to a tree of `size` leaves, whose [`frontier`] must be here. Answers which tiles changed.
    ///
    /// # Errors
    /// When a tile of the frontier is missing, or is not as wide as `size` makes it.
    pub fn extend(&mut self, size: u64, leaf_hashes: &[Hash]) -> Result<BTreeSet<TileId>, TreeError> {
        let mut changed = BTreeSet::new();
        for (index, hash) in (size..).zip(leaf_hashes) {
            let (mut level, mut index, mut hash) = (0, index, *hash);
            loop {
                let id = TileId { level, number: index / TILE_WIDTH };
                let tile = self.0.entry(id).or_default();
                if tile.len() as u64 != (index % TILE_WIDTH) * HASH_SIZE as u64 {
                    return Err(TreeError::Tile(id));
                }
                tile.extend_from_slice(&hash);
                changed.insert(id);
                if tile.len() as u64 != TILE_WIDTH * HASH_SIZE as u64 {
                    break;
                }
                // It is full, and its root is a hash of the level above.
                hash = Tile::subtree_hash(tile).0;
                (level, index) = (level + 1, id.number);
            }
        }
        Ok(changed)
    }

    /// The root of the tree's first `size` leaves; [`needed_for_root`] says which tiles must be here.
    ///
    /// # Errors
    /// When a tile is missing or too narrow.
    pub fn root(&self, size: u64) -> Result<Hash, TreeError> {
        self.read(|tiles| tree_hash(size, tiles)).map(|root| root.0)
    }

    /// The hash of a leaf.
    ///
    /// # Errors
    /// When its tile is missing or too narrow.
    pub fn leaf_hash(&self, index: u64) -> Result<Hash, TreeError> {
        let id = TileId { level: 0, number: index / TILE_WIDTH };
        let from = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX).saturating_mul(HASH_SIZE);
        self.get(id)
            .and_then(|tile| tile.get(from..from + HASH_SIZE))
            .and_then(|hash| hash.try_into().ok())
            .ok_or(TreeError::Tile(id))
    }

    /// The audit path of a leaf, from the leaf upwards; [`needed_for_inclusion`] says which tiles must be here.
    ///
    /// # Errors
    /// When the leaf is not in the tree, or a tile is missing or too narrow.
    pub fn prove_inclusion(&self, size: u64, index: u64) -> Result<Vec<Hash>, TreeError> {
        if index >= size {
            return Err(TreeError::OutOfRange);
        }
        self.read(|tiles| prove_record(size, index, tiles)).map(unwrapped)
    }

    /// The proof that the tree of `to` leaves begins with that of `from`; [`needed_for_consistency`] says which tiles
    /// must be here. Empty where one of them says nothing about the other's content: from 0, or from itself.
    ///
    /// # Errors
    /// When `from` is the larger, or a tile is missing or too narrow.
    pub fn prove_consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, TreeError> {
        match from {
            from if from > to => Err(TreeError::OutOfRange),
            0 => Ok(Vec::new()),
            from => self.read(|tiles| prove_tree(to, from, tiles)).map(unwrapped),
        }
    }

    fn read<T>(&self, f: impl FnOnce(&Reading<'_>) -> Result<T, Error>) -> Result<T, TreeError> {
        let reading = Reading { tiles: self, failed: RefCell::new(None) };
        f(&reading).map_err(|_| reading.failed.take().unwrap_or(TreeError::OutOfRange))
    }
}

fn unwrapped(proof: Vec<Node>) -> Vec<Hash> {
    proof.into_iter().map(|node| node.0).collect()
}

/// Reads hashes of the tree off its tiles, and remembers which of them was not as it must be.
struct Reading<'a> {
    tiles: &'a Tiles,
    failed: RefCell<Option<TreeError>>,
}

impl HashReader for Reading<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Node>, Error> {
        let read = |index: &u64| {
            let id = tile_of(*index);
            let hash = self.tiles.get(id).and_then(|data| {
                let width =
                    u32::try_from(data.len() / HASH_SIZE).ok().filter(|width| (1..=256).contains(width))?;
                Tile::new(HEIGHT, id.level, id.number, width, false).hash_at_index(data, *index).ok()
            });
            hash.ok_or_else(|| {
                self.failed.replace(Some(TreeError::Tile(id)));
                Error::InvalidTile
            })
        };
        indexes.iter().map(read).collect()
    }
}

/// Notes which tiles would be read.
#[derive(Default)]
struct Asking(RefCell<BTreeSet<TileId>>);

impl HashReader for Asking {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Node>, Error> {
        self.0.borrow_mut().extend(indexes.iter().map(|index| tile_of(*index)));
        Ok(vec![Node::default(); indexes.len()])
    }
}

fn tile_of(index: u64) -> TileId {
    let tile = Tile::from_index(HEIGHT, index);
    TileId { level: tile.level(), number: tile.level_index() }
}

fn asked(f: impl FnOnce(&Asking) -> Result<(), Error>) -> BTreeSet<TileId> {
    let asking = Asking::default();
    // Whatever is out of range is refused when it is proved.
    let _ = f(&asking);
    asking.0.into_inner()
}

/// The tiles that [`Tiles::root`] reads.
#[must_use]
pub fn needed_for_root(size: u64) -> BTreeSet<TileId> {
    asked(|asking| tree_hash(size, asking).map(drop))
}

/// The tiles that [`Tiles::prove_inclusion`] and [`Tiles::leaf_hash`] read.
#[must_use]
pub fn needed_for_inclusion(size: u64, index: u64) -> BTreeSet<TileId> {
    let mut needed = asked(|asking| prove_record(size, index, asking).map(drop));
    needed.insert(TileId { level: 0, number: index / TILE_WIDTH });
    needed
}

/// The tiles that [`Tiles::prove_consistency`] reads.
#[must_use]
pub fn needed_for_consistency(from: u64, to: u64) -> BTreeSet<TileId> {
    if from == 0 {
        return BTreeSet::new();
    }
    asked(|asking| prove_tree(to, from, asking).map(drop))
}

/// The tiles of a tree that are not full: those that grow next.
#[must_use]
pub fn frontier(size: u64) -> BTreeSet<TileId> {
    let levels = (0..8_u8).map(|level| (level, size >> (level * HEIGHT)));
    levels
        .filter(|(_, hashes)| hashes % TILE_WIDTH != 0)
        .map(|(level, hashes)| TileId { level, number: hashes / TILE_WIDTH })
        .collect()
}

/// Checks that a leaf of this hash is at `index` of the tree of this size and root.
///
/// # Errors
/// [`TreeError::WrongProof`] when that is not shown.
pub fn check_inclusion(
    proof: &[Hash],
    size: u64,
    root: &Hash,
    index: u64,
    leaf_hash: &Hash,
) -> Result<(), TreeError> {
    let proof = proof.iter().copied().map(Node).collect();
    check_record(&proof, size, Node(*root), index, Node(*leaf_hash)).map_err(|_| TreeError::WrongProof)
}

/// Checks that the tree of `to` leaves and this root begins with that of `from` leaves and that root.
///
/// # Errors
/// [`TreeError::WrongProof`] when that is not shown.
pub fn check_consistency(
    proof: &[Hash],
    from: u64,
    from_root: &Hash,
    to: u64,
    to_root: &Hash,
) -> Result<(), TreeError> {
    let right = match from {
        0 => proof.is_empty() && *from_root == EMPTY_ROOT && (to != 0 || *to_root == EMPTY_ROOT),
        from if from == to => proof.is_empty() && from_root == to_root,
        from => {
            let proof = proof.iter().copied().map(Node).collect();
            check_tree(&proof, to, Node(*to_root), from, Node(*from_root)).is_ok()
        }
    };
    if right { Ok(()) } else { Err(TreeError::WrongProof) }
}

#[cfg(test)]
mod tests;
