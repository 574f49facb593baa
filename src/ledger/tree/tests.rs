use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::eventstore::leaf::leaf_hash;

/// The leaves of the reference tests of Certificate Transparency.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hash(text: &str) -> Hash {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn reference() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect()
}

/// The tree hash as RFC 6962 section 2.1 defines it, without tiles.
fn defined(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            let mut hasher = Sha256::new();
            hasher.update([1]);
            hasher.update(defined(left));
            hasher.update(defined(right));
            hasher.finalize().into()
        }
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
}

#[test]
fn roots_are_those_of_the_reference() {
    let tiles = Tiles::over(&reference()).unwrap();
    for (size, root) in (1..).zip(ROOTS) {
        assert_eq!(tiles.root(size), Ok(hash(root)), "{size}");
    }
    assert_eq!(tiles.root(0), Ok(EMPTY_ROOT));
    assert_eq!(EMPTY_ROOT, defined(&[]));
}

#[test]
fn proofs_are_those_of_the_reference() {
    let tiles = Tiles::over(&reference()).unwrap();
    let proof = |texts: &[&str]| texts.iter().map(|text| hash(text)).collect::<Vec<_>>();
    assert_eq!(tiles.prove_inclusion(1, 0), Ok(vec![]));
    assert_eq!(
        tiles.prove_inclusion(8, 0).unwrap(),
        proof(&[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ])
    );
    assert_eq!(
        tiles.prove_inclusion(5, 1).unwrap(),
        proof(&[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ])
    );
    assert_eq!(tiles.prove_consistency(1, 1), Ok(vec![]));
    assert_eq!(
        tiles.prove_consistency(6, 8).unwrap(),
        proof(&[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ])
    );
    assert_eq!(
        tiles.prove_consistency(2, 5).unwrap(),
        proof(&[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ])
    );
}

#[test]
fn a_tree_of_many_tiles_is_the_tree_of_the_definition() {
    let all = leaves(66_200);
    let tiles = Tiles::over(&all).unwrap();
    for size in [1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_200] {
        assert_eq!(tiles.root(size).unwrap(), defined(&all[..size as usize]), "{size}");
    }
    // The second level is there, and its one hash is that of the first 65,536 leaves.
    assert_eq!(tiles.get(TileId { level: 2, number: 0 }).unwrap(), defined(&all[..65_536]));
    assert_eq!(frontier(65_536), [TileId { level: 2, number: 0 }].into());
    assert_eq!(TileId { level: 1, number: 1 }.width_in(66_200), 2);
    assert_eq!(TileId { level: 0, number: 258 }.width_in(66_200), 152);
}

#[test]
fn what_was_asked_for_is_enough() {
    let all = leaves(70_000);
    let whole = Tiles::over(&all).unwrap();
    let some = |needed: BTreeSet<TileId>| {
        let mut tiles = Tiles::default();
        needed.into_iter().for_each(|id| tiles.put(id, whole.get(id).unwrap().to_vec()));
        tiles
    };
    let root = whole.root(70_000).unwrap();
    assert_eq!(some(needed_for_root(70_000)).root(70_000), Ok(root));
    for index in [0, 255, 256, 65_535, 65_536, 69_999] {
        let tiles = some(needed_for_inclusion(70_000, index));
        let proof = tiles.prove_inclusion(70_000, index).unwrap();
        check_inclusion(&proof, 70_000, &root, index, &tiles.leaf_hash(index).unwrap()).unwrap();
    }
    for from in [1, 256, 65_536, 65_793, 70_000] {
        let proof = some(needed_for_consistency(from, 70_000)).prove_consistency(from, 70_000).unwrap();
        check_consistency(&proof, from, &whole.root(from).unwrap(), 70_000, &root).unwrap();
    }
    let mut cut = whole.clone();
    cut.cut_to(300);
    assert_eq!(cut, Tiles::over(&all[..300]).unwrap());
    let mut grown = some(frontier(70_000));
    let changed = grown.extend(70_000, &leaves(300)).unwrap();
    assert_eq!(changed, [(0, 273), (0, 274), (1, 1)].map(|(level, number)| TileId { level, number }).into());
}

#[test]
fn tiles_that_are_missing_or_not_as_wide_as_they_must_be_are_named() {
    let mut tiles = Tiles::over(&leaves(300)).unwrap();
    let second = TileId { level: 0, number: 1 };
    assert_eq!(tiles.clone().extend(299, &leaves(1)), Err(TreeError::Tile(second)));
    assert_eq!(tiles.clone().extend(301, &leaves(1)), Err(TreeError::Tile(second)));
    tiles.put(second, vec![7; 31]);
    assert_eq!(tiles.root(300), Err(TreeError::Tile(second)));
    tiles.put(second, vec![]);
    assert_eq!(tiles.leaf_hash(256), Err(TreeError::Tile(second)));
    assert_eq!(Tiles::default().root(1), Err(TreeError::Tile(TileId { level: 0, number: 0 })));
    assert_eq!(tiles.prove_inclusion(3, 3), Err(TreeError::OutOfRange));
    assert_eq!(tiles.prove_consistency(4, 3), Err(TreeError::OutOfRange));
}

#[test]
fn nothing_is_shown_by_a_proof_that_was_changed() {
    let tiles = Tiles::over(&leaves(100)).unwrap();
    let (small, root) = (tiles.root(60).unwrap(), tiles.root(100).unwrap());
    let proof = tiles.prove_inclusion(100, 42).unwrap();
    let leaf = tiles.leaf_hash(42).unwrap();
    assert!(check_inclusion(&proof, 100, &root, 43, &leaf).is_err());
    assert!(check_inclusion(&proof[1..], 100, &root, 42, &leaf).is_err());
    assert!(check_inclusion(&proof, 100, &root, 100, &leaf).is_err());
    let consistency = tiles.prove_consistency(60, 100).unwrap();
    check_consistency(&consistency, 60, &small, 100, &root).unwrap();
    for (from, to) in [(61, 100), (59, 100), (100, 60), (0, 100)] {
        assert!(check_consistency(&consistency, from, &small, to, &root).is_err(), "{from} {to}");
    }
    for place in 0..consistency.len() {
        let mut changed = consistency.clone();
        changed[place][0] ^= 1;
        assert!(check_consistency(&changed, 60, &small, 100, &root).is_err());
    }
    check_consistency(&[], 0, &EMPTY_ROOT, 100, &root).unwrap();
    assert!(check_consistency(&[], 0, &small, 100, &root).is_err());
    assert!(check_consistency(&[], 60, &small, 60, &root).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn batches_of_any_size_make_one_tree_and_every_head_goes_on_from_every_one_before(
        batches in proptest::collection::vec(0_usize..700, 1..8),
    ) {
        let all = leaves(batches.iter().sum());
        let mut stored = Tiles::default();
        let mut size = 0_usize;
        let mut heads: Vec<(u64, Hash)> = vec![(0, EMPTY_ROOT)];
        for batch in batches {
            // As it is done over a database: only the frontier is at hand.
            let mut tiles = Tiles::default();
            for id in frontier(size as u64) {
                tiles.put(id, stored.get(id).unwrap().to_vec());
            }
            for id in tiles.extend(size as u64, &all[size..size + batch]).unwrap() {
                stored.put(id, tiles.get(id).unwrap().to_vec());
            }
            size += batch;
            let head = (size as u64, stored.root(size as u64).unwrap());
            prop_assert_eq!(head.1, defined(&all[..size]));
            for (from, from_root) in &heads {
                let proof = stored.prove_consistency(*from, head.0).unwrap();
                prop_assert!(check_consistency(&proof, *from, from_root, head.0, &head.1).is_ok());
            }
            heads.push(head);
        }
        prop_assert_eq!(&stored, &Tiles::over(&all).unwrap());
    }
}
