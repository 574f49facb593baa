//! A tree that grows leaf by leaf and keeps its right edge only: its root is known at every size on the way.

use tlog_tiles::{Hash as Node, node_hash};

use crate::ledger::tree::{EMPTY_ROOT, Hash};

/// The roots of the full subtrees that a tree of so many leaves is made of, the largest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Frontier {
    size: u64,
    /// Each with its height.
    nodes: Vec<(u8, Hash)>,
}

impl Frontier {
    /// How many leaves.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a full subtree of a height, 0: a leaf; the size must be a multiple of it. `full` is told of every subtree
    /// that is full by that, with its height and its number on that height.
    pub(super) fn push(&mut self, height: u8, hash: Hash, mut full: impl FnMut(u8, u64, &Hash)) {
        self.size += 1 << height;
        let (mut height, mut hash) = (height, hash);
        full(height, (self.size >> height) - 1, &hash);
        while let Some((_, left)) = self.nodes.pop_if(|node| node.0 == height) {
            hash = node_hash(Node(left), Node(hash)).0;
            height += 1;
            full(height, (self.size >> height) - 1, &hash);
        }
        self.nodes.push((height, hash));
    }

    /// The root.
    pub(super) fn root(&self) -> Hash {
        let nodes = self.nodes.iter().rev().map(|node| node.1);
        nodes.reduce(|right, left| node_hash(Node(left), Node(right)).0).unwrap_or(EMPTY_ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{eventstore::leaf::leaf_hash, ledger::tree::Tiles};

    #[test]
    fn its_root_is_that_of_the_tree_at_every_size() {
        let leaves: Vec<Hash> = (0..700_u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let tiles = Tiles::over(&leaves).unwrap();
        let mut frontier = Frontier::default();
        let mut of_tiles = Vec::new();
        assert_eq!(frontier.root(), EMPTY_ROOT);
        for leaf in &leaves {
            frontier.push(0, *leaf, |height, number, hash| {
                if height == 8 {
                    of_tiles.push((number, *hash));
                }
            });
            assert_eq!(Ok(frontier.root()), tiles.root(frontier.size()));
        }
        assert_eq!(of_tiles.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1]);
        let mut by_tiles = Frontier::default();
        for (_, hash) in of_tiles {
            by_tiles.push(8, hash, |_, _, _| {});
        }
        assert_eq!(Ok(by_tiles.root()), tiles.root(512));
    }
}
