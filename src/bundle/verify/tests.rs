//! Bundles that lie, and how: those whom somebody changed on the way, and those that we made so ourselves.

mod made;

use std::fs;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    bundle::format::{MOST_OF_A_PART, Manifest},
    eventstore::leaf::leaf_hash,
    ledger::Checkpoint,
};
use made::{Made, Named, check, contain, files, independent, key, origin, sign, signed_anew, tile, unpack};

const TENANT: u128 = 0x01a1_fdc1_c481_719a_9803_a3bb_46f2_2c94;

fn causes(report: &Report) -> Vec<&'static str> {
    let mut causes: Vec<_> = report.findings.iter().map(|finding| finding.cause.as_str()).collect();
    causes.dedup();
    causes
}

/// The first finding's cause and position.
fn first(report: &Report) -> (&'static str, Option<u64>) {
    let finding = report.findings.first().expect("something is found");
    (finding.cause.as_str(), finding.position)
}

fn file<'a>(files: &'a mut [Named], path: &str) -> &'a mut Vec<u8> {
    &mut files.iter_mut().find(|(known, _)| known == path).unwrap_or_else(|| panic!("no {path}")).1
}

/// What is found when the files are changed and the platform itself signs the list of them.
fn forged(made: &Made, change: impl FnOnce(&mut Vec<Named>)) -> Report {
    let mut files = files(&made.bytes());
    change(&mut files);
    check(&signed_anew(files, &made.keys(), |_| ()), &made.ask())
}

#[test]
fn a_bundle_as_it_was_written_is_verified_whatever_its_range() {
    for (size, from, to) in [
        (1, 1, 1),
        (7, 2, 5),
        (256, 1, 256),
        (257, 257, 257),
        (700, 1, 700),
        (1_500, 300, 1_100),
        (1_500, 600, 600),
    ] {
        let made = Made::new(TENANT, size, from, to);
        let report = made.verify();
        assert_eq!(report.outcome(), Outcome::Verified, "{size} {from} {to}: {report}");
        assert_eq!((report.from, report.to, report.size), (from, to, size));
        assert_eq!(report.events, to - from + 1);
        assert_eq!(report.disclosed, made.disclosed.len() as u64);
        assert!(report.head_log_at.is_some());
        independent(&made.bytes(), &made.ask().keys[0]);
    }
}

#[test]
fn one_key_of_two_is_enough_and_another_s_is_not() {
    let made = Made::new(TENANT, 300, 1, 300);
    let bytes = made.bytes();
    let with = |vkey: &str| check(&bytes, &Ask { keys: vec![vkey.to_owned()], receipts: Vec::new() });
    for seed in [1, 2] {
        assert_eq!(with(key(&origin(TENANT), seed).vkey()).outcome(), Outcome::Verified);
    }
    assert_eq!(first(&with(key(&origin(TENANT), 3).vkey())).0, "checkpoint_foreign");
    assert_eq!(first(&with(key(&origin(8), 1).vkey())).0, "checkpoint_foreign");
    assert_eq!(first(&with(key(made::HEADS, 7).vkey())).0, "checkpoint_foreign");
}

#[test]
fn a_log_that_the_log_of_heads_does_not_name_yet_is_noted() {
    let mut made = Made::new(TENANT, 20, 1, 20);
    made.head = None;
    let report = made.verify();
    assert_eq!(report.outcome(), Outcome::Verified, "{report}");
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn leaves_are_those_of_the_tree() {
    let made = || Made::new(TENANT, 700, 100, 650);
    let shown = |change: &dyn Fn(&mut Made)| {
        let mut made = made();
        change(&mut made);
        made.verify()
    };
    let edited = shown(&|made| {
        let sealed = made.log.clone();
        made.edit(300, |leaf| leaf.metadata.actor = "user:2".into());
        made.log = sealed;
    });
    assert_eq!(first(&edited), ("leaf_edited", Some(300)));
    let swapped = forged(&made(), |files| {
        let entries = file(files, "tile/entries/000");
        let mut leaves: Vec<Vec<u8>> = Vec::new();
        while !entries.is_empty() {
            let length = 2 + usize::from(u16::from_be_bytes([entries[0], entries[1]]));
            leaves.push(entries.drain(..length).collect());
        }
        leaves.swap(119, 120);
        *entries = leaves.concat();
    });
    assert_eq!(first(&swapped), ("position_swapped", Some(120)));
    let missing = shown(&|made| {
        made.shown.remove(200);
    });
    assert_eq!(first(&missing), ("missing_event", Some(300)));
    let whole_tile = shown(&|made| made.shown.retain(|row| !(257..=512).contains(&row.position)));
    assert!(causes(&whole_tile).contains(&"missing_event"), "{whole_tile}");
    let tail = shown(&|made| made.shown.truncate(500));
    assert!(causes(&tail).contains(&"manifest_mismatch"), "{tail}");
}

#[test]
fn what_is_in_the_tree_must_make_sense_also_when_it_was_signed() {
    let sealed = |change: &dyn Fn(&mut Made)| {
        let mut made = Made::new(TENANT, 700, 1, 700);
        // The head that was named before is of another tree then, and says so.
        made.head = None;
        change(&mut made);
        made.seal();
        made.verify()
    };
    let backdated = sealed(&|made| {
        made.edit(400, |leaf| leaf.recorded_at = "2026-11-21T09:00:00.000000Z".into());
    });
    assert_eq!(first(&backdated), ("unexpected_event", Some(400)));
    // The first of a part: what is before it is in another.
    let backdated = sealed(&|made| {
        made.edit(513, |leaf| leaf.recorded_at = "2026-11-21T09:00:00.000000Z".into());
    });
    assert_eq!(first(&backdated), ("unexpected_event", Some(513)));
    let gap = sealed(&|made| made.edit(400, |leaf| leaf.sequence = "99".into()));
    assert_eq!(first(&gap), ("sequence_gap", Some(400)));
    let gap = sealed(&|made| made.edit(513, |leaf| leaf.sequence = "99".into()));
    assert!(causes(&gap).contains(&"sequence_gap"), "{gap}");
    let begun = sealed(&|made| made.edit(3, |leaf| leaf.sequence = "2".into()));
    assert_eq!(causes(&begun), ["sequence_gap"]);
    assert!(begun.findings.iter().any(|finding| finding.position == Some(3)), "{begun}");
    let other =
        sealed(&|made| made.edit(5, |leaf| leaf.tenant = daybook_domain::TenantId(Uuid::from_u128(8))));
    assert_eq!(first(&other), ("unexpected_event", Some(5)));
    // What the formats are made of refuses it: so it comes in behind.
    let mut made = Made::new(TENANT, 700, 1, 700);
    made.head = None;
    let shown = made.shown.clone();
    made.edit(5, |leaf| leaf.position = "6".into());
    made.seal();
    let (edited, before) =
        (std::mem::replace(&mut made.shown, shown)[4].leaf.clone(), made.shown[4].leaf.clone());
    let moved = forged(&made, |files| {
        let entries = file(files, "tile/entries/000");
        let at = entries.windows(before.len()).position(|leaf| leaf == before).unwrap();
        entries[at..at + before.len()].copy_from_slice(&edited);
    });
    assert_eq!(first(&moved), ("position_swapped", Some(5)));
    let spaced = sealed(&|made| {
        let text = String::from_utf8(made.log[9].leaf.clone()).unwrap().replace("\",\"", "\", \"");
        made.log[9].leaf = text.clone().into_bytes();
        made.shown[9].leaf = text.into_bytes();
    });
    assert_eq!(first(&spaced), ("malformed", Some(10)));
}

#[test]
fn tiles_are_those_of_the_root() {
    let made = Made::new(TENANT, 700, 100, 650);
    for path in ["tile/0/000", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"] {
        let report = forged(&made, |files| file(files, path)[40] ^= 1);
        assert_eq!(first(&report).0, "tree_mismatch", "{path}: {report}");
        let report = forged(&made, |files| file(files, path).truncate(32));
        assert_eq!(first(&report).0, "tree_mismatch", "{path}: {report}");
        let report = forged(&made, |files| files.retain(|(known, _)| known != path));
        assert!(causes(&report).contains(&"tree_mismatch"), "{path}: {report}");
    }
    // All recomputed over an edited log, and the old checkpoint kept.
    let mut edited = made.clone();
    edited.edit(300, |leaf| leaf.metadata.actor = "user:2".into());
    edited.seal();
    edited.checkpoint = made.checkpoint.clone();
    assert!(causes(&edited.verify()).contains(&"tree_mismatch"));
    assert!(made.tiles.get(tile(0, 1)).is_some());
}

#[test]
fn the_checkpoint_is_this_log_s_and_the_newest_that_is_known() {
    let made = Made::new(TENANT, 700, 100, 650);
    let with = |checkpoint: Checkpoint| {
        let mut made = made.clone();
        made.checkpoint = checkpoint;
        made
    };
    let root = made.checkpoint.root;
    let foreign = with(sign(&origin(8), 700, root, &[1]));
    let report = foreign.verify();
    assert_eq!((causes(&report), report.events), (vec!["checkpoint_foreign"], 0), "nothing is spent on it");
    // Whoever has keys of both logs is told as well.
    let mut ask = made.ask();
    ask.keys.push(key(&origin(8), 1).vkey().to_owned());
    let both = check(&foreign.bytes(), &ask);
    assert!(causes(&both).contains(&"unexpected_event"), "{both}");
    let unknown = with(sign(&origin(TENANT), 700, root, &[3]));
    assert_eq!(first(&unknown.verify()).0, "checkpoint_foreign");
    let stripped = forged(&made, |files| {
        let note = file(files, "checkpoint");
        let text = String::from_utf8(note.clone()).unwrap();
        *note = format!("{}\n\n", text.split("\n\n").next().unwrap()).into_bytes();
    });
    assert_ne!(stripped.outcome(), Outcome::Verified);
    let edited = forged(&made, |files| {
        let note = file(files, "checkpoint");
        *note = String::from_utf8(note.clone()).unwrap().replace("\n700\n", "\n701\n").into_bytes();
    });
    assert_eq!(first(&edited).0, "checkpoint_signature");
    // An older one, which was good then: the log of heads remembers more.
    let mut older = Made::new(TENANT, 680, 100, 650);
    older.head = Some(made.head.clone().unwrap());
    older.head.as_mut().unwrap().size = "690".into();
    assert_eq!(first(&older.verify()).0, "checkpoint_stale");
    let mut alarmed = made.clone();
    alarmed.head.as_mut().unwrap().alarms = vec!["checkpoint_inconsistent".into()];
    assert_eq!(causes(&alarmed.verify()), ["head_log_inconsistent"]);
    // A log that was rewritten since the log of heads named it.
    let mut rewritten = made.clone();
    rewritten.edit(300, |leaf| leaf.metadata.actor = "user:2".into());
    rewritten.seal();
    assert_eq!(first(&rewritten.verify()).0, "checkpoint_inconsistent");
}

#[test]
fn rows_say_what_the_leaves_say() {
    let made = Made::new(TENANT, 700, 1, 700);
    let ndjson = "events/000001.ndjson";
    let csv = "events/000001.csv";
    for (path, from, to) in [
        (ndjson, "\"actor\":\"user:1\"", "\"actor\":\"user:2\""),
        (ndjson, "customer.registered", "customer.forgotten"),
        (ndjson, "192.0.2.7", "192.0.2.8"),
        (ndjson, "a;=1+1", "a;=1+2"),
        (ndjson, "\"leaf_hash\":\"", "\"leaf_hash\":\"0"),
        (csv, "192.0.2.7", "192.0.2.8"),
        (csv, "user:1", "user:2"),
        (csv, "'=HYPERLINK(1)", "=HYPERLINK(1)"),
    ] {
        let report = forged(&made, |files| {
            let bytes = file(files, path);
            *bytes = String::from_utf8(bytes.clone()).unwrap().replacen(from, to, 1).into_bytes();
        });
        assert_eq!(causes(&report), ["column_mismatch"], "{path} {from}: {report}");
        assert!(report.findings[0].position.is_some());
    }
    // Another row group, or value, of Parquet.
    let mut other = made.clone();
    other.edit(7, |leaf| leaf.metadata.actor = "user:2".into());
    let parquet = |made: &Made| file(&mut files(&made.bytes()), "events/000001.parquet").clone();
    let report = forged(&made, |files| *file(files, "events/000001.parquet") = parquet(&other));
    assert_eq!((causes(&report), first(&report).1), (vec!["column_mismatch"], Some(7)), "{report}");
}

#[test]
fn there_is_a_row_for_each_event_in_their_order() {
    let made = Made::new(TENANT, 700, 1, 700);
    let lines = |path: &str, change: &dyn Fn(&mut Vec<&str>)| {
        forged(&made, |files| {
            let bytes = file(files, path);
            let text = String::from_utf8(bytes.clone()).unwrap();
            let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
            change(&mut lines);
            *bytes = lines.concat().into_bytes();
        })
    };
    // CSV has a row of names, and no line breaks in these cells.
    for (path, at) in [("events/000001.ndjson", 10), ("events/000001.csv", 11), ("events/000002.csv", 11)] {
        let position = if path.contains("000002") { 512 + 11 } else { 11 };
        let dropped = lines(path, &|lines| {
            lines.remove(at);
        });
        assert_eq!(first(&dropped), ("row_missing", Some(position)), "{dropped}");
        let last = lines(path, &|lines| {
            lines.pop();
        });
        assert_eq!(first(&last).0, "row_missing", "{last}");
        let swapped = lines(path, &|lines| lines.swap(at, at + 1));
        assert_eq!(causes(&swapped)[0], "row_order", "{swapped}");
        let repeated = lines(path, &|lines| lines.insert(at, lines[at]));
        assert_eq!(causes(&repeated)[0], "row_order", "{repeated}");
    }
    let mut shorter = made.clone();
    shorter.shown.remove(100);
    shorter.events_a_part = 511;
    let parquet = file(&mut files(&shorter.bytes()), "events/000001.parquet").clone();
    let report = forged(&made, |files| *file(files, "events/000001.parquet") = parquet);
    assert_eq!((causes(&report)[0], first(&report).1), ("row_missing", Some(101)), "{report}");
}

#[test]
fn disclosed_values_are_those_that_were_committed_to() {
    let shown = |change: &dyn Fn(&mut Made)| {
        let mut made = Made::new(TENANT, 300, 1, 300);
        change(&mut made);
        made.verify()
    };
    let at = |made: &Made, line: usize| Some(made.disclosed[line].position.parse::<u64>().unwrap());
    let made = Made::new(TENANT, 300, 1, 300);
    let value = shown(&|made| made.disclosed[6].value = "eve@example.org".into());
    assert_eq!(first(&value), ("sealed_value_invalid", at(&made, 6)));
    let salt = shown(&|made| made.disclosed[6].salt = hex::encode([0; 32]));
    assert_eq!(first(&salt), ("sealed_value_invalid", at(&made, 6)));
    let swapped = shown(&|made| {
        let (a, b) = (made.disclosed[6].clone(), made.disclosed[8].clone());
        (made.disclosed[6].value, made.disclosed[6].salt) = (b.value, b.salt);
        (made.disclosed[8].value, made.disclosed[8].salt) = (a.value, a.salt);
    });
    assert_eq!(causes(&swapped), ["sealed_value_invalid"]);
    let subject = shown(&|made| made.disclosed[6].subject = Uuid::from_u128(77));
    assert_eq!(first(&subject), ("subject_swapped", at(&made, 6)));
    let twice = shown(&|made| made.disclosed.insert(6, made.disclosed[6].clone()));
    assert_eq!(first(&twice).0, "row_order");
    let event = shown(&|made| made.disclosed[6].event_id = Uuid::from_u128(77));
    assert_eq!(first(&event).0, "column_mismatch");
}

#[test]
fn records_are_of_the_log_and_complete() {
    let made = Made::new(TENANT, 700, 200, 600);
    let shown = |records: &[u64]| {
        let mut made = made.clone();
        made.records = records.to_vec();
        made.verify()
    };
    assert_eq!(shown(&made.records).records, 4);
    assert_eq!(first(&shown(&[149, 449, 599])), ("row_missing", Some(299)));
    assert_eq!(first(&shown(&[149, 299, 300, 449, 599])), ("unexpected_event", Some(300)));
    assert_eq!(first(&shown(&[299, 149, 449, 599])), ("row_order", Some(149)));
    let edited = forged(&made, |files| {
        let bytes = file(files, "records/000001.ndjson");
        *bytes = String::from_utf8(bytes.clone()).unwrap().replacen("\"149\"", "\"150\"", 1).into_bytes();
    });
    assert_eq!(first(&edited), ("leaf_edited", Some(150)));
}

#[test]
fn the_manifest_says_what_is_there() {
    let made = Made::new(TENANT, 300, 1, 300);
    let whole = files(&made.bytes());
    let changed = |change: &dyn Fn(&mut Manifest)| {
        check(&signed_anew(whole.clone(), &made.keys(), change), &made.ask())
    };
    assert_eq!(changed(&|_| ()).outcome(), Outcome::Verified);
    let changes: [&dyn Fn(&mut Manifest); 10] = [
        &|manifest| manifest.format.push('0'),
        &|manifest| manifest.from = "2".into(),
        &|manifest| manifest.to = "299".into(),
        &|manifest| manifest.size = "301".into(),
        &|manifest| manifest.root = hex::encode([0; 32]),
        &|manifest| manifest.log_id = Uuid::from_u128(3),
        &|manifest| drop(manifest.rows.insert("csv".into(), "299".into())),
        &|manifest| drop(manifest.files.pop()),
        &|manifest| manifest.files.swap(3, 4),
        &|manifest| manifest.files[2].sha256 = hex::encode([0; 32]),
    ];
    for change in changes {
        let report = changed(change);
        assert_eq!(causes(&report), ["manifest_mismatch"], "{report}");
    }
    // By somebody who has no key; by the key of another log; not at all.
    let forged = check(&signed_anew(whole.clone(), &[key(&origin(TENANT), 9)], |_| ()), &made.ask());
    assert_eq!(first(&forged).0, "checkpoint_foreign");
    let mut stripped = whole.clone();
    stripped.pop();
    assert_eq!(first(&check(&contain(&stripped), &made.ask())).0, "malformed");
    let mut unsigned = whole;
    *file(&mut unsigned, "README.txt") = b"Trust us.\n".to_vec();
    assert_eq!(first(&check(&contain(&unsigned), &made.ask())).0, "manifest_mismatch");
}

#[test]
fn files_are_dropped_repeated_moved_and_added_in_vain() {
    let mut made = Made::new(TENANT, 300, 250, 300);
    made.events_a_part = 256;
    let whole = files(&made.bytes());
    let last = whole.len() - 2;
    for at in 0..last {
        let mut dropped = whole.clone();
        let (path, _) = dropped.remove(at);
        let report = check(&contain(&dropped), &made.ask());
        assert_eq!(report.outcome(), Outcome::Failed, "without {path}");
        let mut repeated = whole.clone();
        repeated.insert(at, whole[at].clone());
        let report = check(&signed_anew(repeated, &made.keys(), |_| ()), &made.ask());
        assert_eq!(report.outcome(), Outcome::Failed, "{path} twice: {report}");
        if at + 1 < last {
            let mut moved = whole.clone();
            moved.swap(at, at + 1);
            let report = check(&contain(&moved), &made.ask());
            assert_eq!(report.outcome(), Outcome::Failed, "{path} moved: {report}");
        }
    }
    let mut more = whole.clone();
    more.insert(5, ("tile/0/000.p/7".into(), vec![0; 224]));
    assert_eq!(check(&signed_anew(more, &made.keys(), |_| ()), &made.ask()).outcome(), Outcome::Failed);
    let mut more = whole;
    more.insert(5, ("notes.txt".into(), b"trust us".to_vec()));
    let report = check(&signed_anew(more, &made.keys(), |_| ()), &made.ask());
    assert!(causes(&report).contains(&"manifest_mismatch"), "{report}");
}

#[test]
fn no_more_is_kept_of_a_part_than_is_ever_written() {
    let made = Made::new(TENANT, 300, 1, 300);
    let mut whole = files(&made.bytes());
    let at = whole.iter().position(|(path, _)| path == "tile/entries/000").unwrap();
    let again = whole[at].clone();
    // Past what is read of it nothing is looked at: not even whether it is a bundle.
    whole.splice(at..at, std::iter::repeat_n(again, 100));
    let report = check(&signed_anew(whole, &made.keys(), |_| ()), &made.ask());
    assert_eq!(report.outcome(), Outcome::Failed);
    assert!(report.to_string().contains("part 1 is larger than any that is written"), "{report}");
    assert_eq!(report.events, 0);
    let part = |bytes| super::Part { bytes, ..Default::default() };
    assert!(!part(MOST_OF_A_PART).is_too_large() && part(MOST_OF_A_PART + 1).is_too_large());
}

#[test]
fn a_receipt_is_of_the_leaf_that_is_there() {
    let made = Made::new(TENANT, 700, 100, 650);
    let bytes = made.bytes();
    let with = |position: u64, hash: Hash| {
        let mut ask = made.ask();
        ask.receipts = vec![(position, hash)];
        check(&bytes, &ask)
    };
    let hash = |position: usize| leaf_hash(&made.log[position - 1].leaf);
    assert_eq!(with(300, hash(300)).outcome(), Outcome::Verified);
    assert_eq!(first(&with(300, hash(301))), ("receipt_mismatch", Some(300)));
    for outside in [99, 651] {
        assert_eq!(with(outside, hash(300)).outcome(), Outcome::Incomplete);
    }
}

#[test]
fn a_folder_is_as_good_as_the_file() {
    let made = Made::new(TENANT, 300, 200, 300);
    let whole = files(&made.bytes());
    let folder = tempfile::tempdir().unwrap();
    unpack(&whole, folder.path());
    let run = || verify(folder.path(), &made.ask(), |_| ()).unwrap();
    assert_eq!(run().outcome(), Outcome::Verified);
    for (path, bytes) in &whole {
        let place = folder.path().join(path);
        fs::remove_file(&place).unwrap();
        assert_eq!(run().outcome(), Outcome::Incomplete, "without {path}");
        for bit in [0, bytes.len() * 4 + 1, bytes.len() * 8 - 1] {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&place, flipped).unwrap();
            assert_eq!(run().outcome(), Outcome::Failed, "bit {bit} of {path}");
        }
        fs::write(&place, bytes).unwrap();
    }
    assert_eq!(run().outcome(), Outcome::Verified);
    fs::write(folder.path().join("events/more.csv"), "").unwrap();
    assert_eq!(first(&run()).0, "manifest_mismatch");
}

#[test]
fn a_download_that_broke_off_is_incomplete() {
    let made = Made::new(TENANT, 300, 1, 300);
    let bytes = made.bytes();
    for length in [0, 5, 100, bytes.len() / 2, bytes.len() - 100, bytes.len() - 1] {
        let report = check(&bytes[..length], &made.ask());
        assert_eq!(report.outcome(), Outcome::Incomplete, "{length}: {report}");
    }
    assert_eq!(check(b"what is this, and why is it so long? It is no bundle at all, of which there can be no doubt, I think, can there.", &made.ask()).outcome(), Outcome::Failed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_flipped_bit_fails(at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), bit in 0..8_u32) {
        static BUNDLE: std::sync::LazyLock<(Made, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let made = Made::new(TENANT, 600, 230, 290);
            let bytes = made.bytes();
            (made, bytes)
        });
        let (made, bytes) = &*BUNDLE;
        // In the file as it is handed out.
        let mut flipped = bytes.clone();
        flipped[at.index(bytes.len())] ^= 1 << bit;
        prop_assert_eq!(check(&flipped, &made.ask()).outcome(), Outcome::Failed);
        // In a file within it, by somebody who closes it again.
        let mut flipped = files(bytes);
        let which = which.index(flipped.len());
        let at = at.index(flipped[which].1.len());
        flipped[which].1[at] ^= 1 << bit;
        let report = check(&contain(&flipped), &made.ask());
        prop_assert_eq!(report.outcome(), Outcome::Failed, "{} byte {}: {}", flipped[which].0, at, report);
        // And by somebody who can sign: whatever is not a matter of words is found out all the same.
        if !["README.txt", "keys.json", "manifest.json", "manifest.sig"].contains(&flipped[which].0.as_str()) {
            let path = flipped[which].0.clone();
            let report = check(&signed_anew(flipped, &made.keys(), |_| ()), &made.ask());
            let loose = path.ends_with(".parquet") || path.ends_with(".csv") || path.starts_with("records/")
                || path.starts_with("proof/") || path.starts_with("head-log/") || path.starts_with("disclosed/")
                || path == "checkpoint";
            prop_assert!(loose || report.outcome() == Outcome::Failed, "{} byte {}: {}", path, at, report);
        }
    }
}
