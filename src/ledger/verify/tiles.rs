//! A tree against itself, from its lowest level up, and against everybody who said what its root was.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::{
    findings::Findings,
    frontier::Frontier,
    rows::{self, TileRow},
};
use crate::ledger::{
    Cause,
    rows::Table,
    tree::{Hash, TILE_WIDTH, TileId},
};

/// Tiles read at once.
const BATCH: i64 = 256;
const HASH_SIZE: usize = 32;

/// Somebody said what the root was at a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub size: u64,
    pub root: Hash,
    /// What it means if that is not so.
    pub cause: Cause,
    /// Who said so.
    pub by: String,
}

/// The tree that is looked at.
pub(super) struct Tree<'a> {
    pub table: Table,
    /// How many leaves it says it has.
    pub size: u64,
    /// How many leaves there are to be in it at the most: where the log ends.
    pub log: u64,
    /// What a tile that is wrong is called.
    pub cause: Cause,
    pub findings: &'a Findings,
}

/// Checks all tiles, and the claims.
pub(super) async fn check(
    connection: &mut PgConnection,
    tree: &Tree<'_>,
    mut claims: Vec<Claim>,
) -> Result<(), sqlx::Error> {
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.size));
    let upper = Upper::read(tree, rows::upper_tiles(&mut *connection, tree.table).await?);
    let mut climbing = Climbing { tree, upper, frontier: Frontier::default(), claims, broken: false };
    climbing.compare();
    let tiles = tree.size.div_ceil(TILE_WIDTH);
    let mut next = 0_u64;
    loop {
        let from = i64::try_from(next).unwrap_or(i64::MAX);
        let page = rows::bottom_tiles(&mut *connection, tree.table, from, BATCH).await?;
        let Some((_, last, _)) = page.last() else { break };
        let after = super::unsigned(*last) + 1;
        for (_, number, hashes) in page {
            let number = super::unsigned(number);
            if number >= tiles {
                tree.wrong(0, number, "is not one of the tree's");
                break;
            }
            climbing.gap(next, number);
            climbing.tile(number, Some(hashes));
            next = number + 1;
        }
        next = after;
        if next >= tiles {
            // At most one more page, of what nobody asked for.
            let rest =
                rows::bottom_tiles(&mut *connection, tree.table, i64::try_from(next).unwrap_or(i64::MAX), 1);
            if let Some((_, number, _)) = rest.await?.first() {
                tree.wrong(0, super::unsigned(*number), "is not one of the tree's");
            }
            break;
        }
    }
    climbing.gap(next, tiles);
    climbing.finish();
    Ok(())
}

impl Tree<'_> {
    fn wrong(&self, level: u8, number: u64, what: &str) {
        let below = 1_u64.checked_shl(8 * u32::from(level)).unwrap_or(u64::MAX);
        let first = number.saturating_mul(TILE_WIDTH).saturating_mul(below).saturating_add(1);
        let detail = format!("tile {number} of level {level} {what}");
        match self.table {
            Table::Log => self.findings.at(self.cause, i64::try_from(first).unwrap_or(i64::MAX), detail),
            Table::Heads => self.findings.add(self.cause, format!("the log of heads: {detail}")),
        }
    }
}

/// The tiles above the lowest level.
struct Upper(BTreeMap<TileId, Vec<u8>>);

impl Upper {
    fn read(tree: &Tree<'_>, rows: Vec<TileRow>) -> Self {
        let mut tiles = BTreeMap::new();
        for (level, number, hashes) in rows {
            let id =
                TileId { level: u8::try_from(level).unwrap_or(u8::MAX), number: super::unsigned(number) };
            let width = if id.level < 8 { id.width_in(tree.size) } else { 0 };
            if width == 0 {
                tree.wrong(id.level, id.number, "is not one of the tree's");
            } else if hashes.len() as u64 > width * HASH_SIZE as u64 {
                tree.wrong(id.level, id.number, "is wider than the tree");
            }
            tiles.insert(id, hashes);
        }
        Self(tiles)
    }

    fn hash(&self, level: u8, number: u64) -> Option<Hash> {
        let tile = self.0.get(&TileId { level, number: number / TILE_WIDTH })?;
        let from = usize::try_from(number % TILE_WIDTH).ok()? * HASH_SIZE;
        tile.get(from..from + HASH_SIZE)?.try_into().ok()
    }
}

struct Climbing<'a> {
    tree: &'a Tree<'a>,
    upper: Upper,
    frontier: Frontier,
    /// The smallest last.
    claims: Vec<Claim>,
    /// Whether hashes are missing that nothing else stands for: no root can be told from there on.
    broken: bool,
}

impl Climbing<'_> {
    /// Passes over tiles of the lowest level that are not there: as far as something stands for them, which is not far
    /// however many the tree is said to have.
    fn gap(&mut self, from: u64, to: u64) {
        for number in from..to {
            if self.broken {
                return;
            }
            self.tile(number, None);
        }
    }

    /// Takes the next tile of the lowest level.
    fn tile(&mut self, number: u64, hashes: Option<Vec<u8>>) {
        let id = TileId { level: 0, number };
        let bytes = usize::try_from(id.width_in(self.tree.size)).unwrap_or(0) * HASH_SIZE;
        let hashes = hashes.unwrap_or_default();
        if hashes.len() > bytes {
            self.tree.wrong(0, number, "is wider than the tree");
        }
        if self.broken {
            return;
        }
        let Some(hashes) = hashes.get(..bytes) else {
            self.tree.wrong(0, number, "is missing, or not as wide as the tree");
            // What is above it stands for it, if it was full.
            match self.upper.hash(1, number) {
                Some(hash) if bytes as u64 == TILE_WIDTH * HASH_SIZE as u64 => self.push(8, hash),
                Some(_) | None => self.broken = true,
            }
            return;
        };
        for hash in hashes.chunks_exact(HASH_SIZE) {
            let mut leaf = Hash::default();
            leaf.copy_from_slice(hash);
            self.push(0, leaf);
        }
    }

    fn push(&mut self, height: u8, hash: Hash) {
        let (tree, upper) = (self.tree, &self.upper);
        self.frontier.push(height, hash, |height, number, hash| {
            let level = height / 8;
            if height > 0 && height.is_multiple_of(8) && upper.hash(level, number).as_ref() != Some(hash) {
                let what = format!("does not have the hash of tile {number} below it");
                tree.wrong(level, number / TILE_WIDTH, &what);
            }
        });
        self.compare();
    }

    fn compare(&mut self) {
        let size = self.frontier.size();
        let mut root = None;
        while let Some(claim) = self.claims.pop_if(|claim| claim.size <= size) {
            // A tile that was stood for by what is above it has no sizes in between.
            if claim.size < size {
                self.tree
                    .findings
                    .add(self.tree.cause, format!("no root can be told at size {}", claim.size));
            } else if *root.get_or_insert_with(|| self.frontier.root()) != claim.root {
                let detail = format!("{} says another root for {size} leaves than the tree has", claim.by);
                self.tree.findings.add(claim.cause, detail);
            }
        }
    }

    /// What is said of more than there is.
    fn finish(mut self) {
        for claim in std::mem::take(&mut self.claims) {
            let Tree { size, log, findings, .. } = self.tree;
            let there = format!("{} speaks of {} leaves", claim.by, claim.size);
            if claim.size > *log && matches!(self.tree.table, Table::Log) {
                let position = i64::try_from(log + 1).unwrap_or(i64::MAX);
                findings.at(Cause::TailMissing, position, format!("{there}, the log ends at {log}"));
            } else if claim.size > *size {
                findings.add(self.tree.cause, format!("{there}, the tree has {size}"));
            } else {
                findings.add(self.tree.cause, format!("no root can be told at size {}", claim.size));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tree::EMPTY_ROOT;

    /// What is said of claims about a tree of three leaves, of which none is there, in a log of ten.
    fn found(table: Table, sizes: &[u64]) -> Vec<(Cause, Option<u64>)> {
        let findings = Findings::default();
        let tree = Tree { table, size: 3, log: 10, cause: Cause::TreeMismatch, findings: &findings };
        let claim = |size: &u64| Claim {
            size: *size,
            root: EMPTY_ROOT,
            cause: Cause::CheckpointInconsistent,
            by: "somebody".into(),
        };
        let claims = sizes.iter().map(claim).collect();
        let upper = Upper(BTreeMap::new());
        Climbing { tree: &tree, upper, frontier: Frontier::default(), claims, broken: false }.finish();
        findings.take().1.iter().map(|finding| (finding.cause, finding.position)).collect()
    }

    #[test]
    fn what_is_said_of_more_than_there_is_is_missing_of_the_log_or_of_its_tree() {
        assert_eq!(found(Table::Log, &[]), []);
        assert_eq!(found(Table::Log, &[12]), [(Cause::TailMissing, Some(11))]);
        assert_eq!(found(Table::Log, &[5]), [(Cause::TreeMismatch, None)]);
        assert_eq!(found(Table::Log, &[2]), [(Cause::TreeMismatch, None)]);
        assert_eq!(found(Table::Heads, &[12]), [(Cause::TreeMismatch, None)]);
    }

    #[test]
    fn tiles_that_are_not_there_are_passed_over_at_once() {
        let findings = Findings::default();
        let size = u64::MAX / 2;
        let tree =
            Tree { table: Table::Log, size, log: size, cause: Cause::TreeMismatch, findings: &findings };
        let upper = Upper(BTreeMap::new());
        let mut climbing =
            Climbing { tree: &tree, upper, frontier: Frontier::default(), claims: Vec::new(), broken: false };
        climbing.gap(0, size / TILE_WIDTH);
        assert!(climbing.broken);
        assert_eq!(findings.take().1.len(), 1);
    }
}
