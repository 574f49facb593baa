//! Bundles of a log that was never stored: made with keys that are known here, so that also those who have the keys can
//! be made to lie.

use std::{collections::BTreeMap, fs, io::Cursor, path::Path, process::Command};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{TenantId, envelope::Metadata};
use daybook_projections::log::LogRow;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    bundle::{
        container::{Container, Files},
        format::*,
        verify::{Ask, Report, verify},
        write::Writer,
    },
    eventstore::leaf::{Leaf, commitment, format_time, leaf_hash},
    keys::PurposeKey,
    ledger::{
        head_log::{Entry, Head},
        note::{Checkpoint, LedgerKey, sign_manifest},
        tree::{Hash, TILE_WIDTH, TileId, Tiles},
    },
};

pub const HEADS: &str = "book.example/heads";
pub type Named = (String, Vec<u8>);

pub fn origin(tenant: u128) -> String {
    format!("book.example/t/{}", Uuid::from_u128(tenant))
}

pub fn key(origin: &str, seed: u8) -> LedgerKey {
    LedgerKey::new(origin, &PurposeKey { id: hex::encode([seed; 8]), key: Zeroizing::new([seed; 32]) })
        .unwrap()
}

fn time(position: u64) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-11-21T10:00:00.000001Z".parse().unwrap();
    start + TimeDelta::milliseconds(i64::try_from(position / 3).unwrap())
}

/// A log, and what a bundle of a range of it is made of.
#[derive(Clone)]
pub struct Made {
    pub tenant: u128,
    pub seeds: Vec<u8>,
    /// The whole log, as it is in the tree.
    pub log: Vec<LogRow>,
    /// As it is in the bundle.
    pub shown: Vec<LogRow>,
    pub from: u64,
    pub to: u64,
    pub tiles: Tiles,
    pub checkpoint: Checkpoint,
    pub disclosed: Vec<DisclosedLine>,
    pub records: Vec<u64>,
    pub head: Option<Head>,
    pub events_a_part: usize,
}

impl Made {
    /// A log of so many events, of which a range is shown.
    pub fn new(tenant: u128, size: u64, from: u64, to: u64) -> Self {
        let mut disclosed = Vec::new();
        let mut streams: BTreeMap<u128, u64> = BTreeMap::new();
        let log: Vec<LogRow> =
            (1..=size).map(|position| leaf(tenant, position, &mut streams, &mut disclosed)).collect();
        disclosed.retain(|line| (from..=to).contains(&line.position.parse().unwrap()));
        let shown = log[usize::try_from(from - 1).unwrap()..usize::try_from(to).unwrap()].to_vec();
        let records = (1..=size).filter(|position| is_record(*position)).collect();
        let mut made = Self {
            tenant,
            seeds: vec![2, 1],
            log,
            shown,
            from,
            to,
            tiles: Tiles::default(),
            checkpoint: sign(&origin(tenant), size, [0; 32], &[1]),
            disclosed,
            records,
            head: None,
            events_a_part: 512,
        };
        made.seal();
        let half = size / 2 + 1;
        let root = made.tiles.root(half).unwrap();
        let (origin, root) = (origin(tenant), hex::encode(root));
        made.head = Some(Head { alarms: Vec::new(), origin, root, size: half.to_string() });
        made
    }

    /// Makes the tree over the log as it is now, and signs it.
    pub fn seal(&mut self) {
        let hashes: Vec<Hash> = self.log.iter().map(|row| leaf_hash(&row.leaf)).collect();
        self.tiles = Tiles::over(&hashes).unwrap();
        let size = hashes.len() as u64;
        let root = self.tiles.root(size).unwrap();
        self.checkpoint = sign(&origin(self.tenant), size, root, &self.seeds);
    }

    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Edits the leaf of a position, in the log and where it is shown.
    pub fn edit(&mut self, position: u64, edit: impl Fn(&mut Leaf)) {
        let at = usize::try_from(position - 1).unwrap();
        let mut leaf = Leaf::decode(&self.log[at].leaf, 0).unwrap();
        edit(&mut leaf);
        self.log[at].leaf = leaf.encode().unwrap();
        if (self.from..=self.to).contains(&position) {
            self.shown[usize::try_from(position - self.from).unwrap()].leaf = self.log[at].leaf.clone();
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (size, checkpoint) = (self.size(), &self.checkpoint);
        let origin = origin(self.tenant);
        let mut writer = Writer::new(Vec::new());
        writer.file(Kind::Readme, README.as_bytes()).unwrap();
        writer.file(Kind::Checkpoint, checkpoint.note.as_bytes()).unwrap();
        let keys = |origin: &str, seeds: &[u8]| OriginKeys {
            origin: origin.to_owned(),
            keys: seeds
                .iter()
                .map(|seed| KeyEntry {
                    vkey: key(origin, *seed).vkey().to_owned(),
                    first_used_at: Some(format_time(time(1))),
                    live: true,
                })
                .collect(),
        };
        let head_log = self.head.is_some().then(|| keys(HEADS, &[7]));
        writer.json(Kind::Keys, &KeysFile { log: keys(&origin, &self.seeds), head_log }).unwrap();
        if let Some(head) = &self.head {
            let (note, proof) = self.named(head);
            writer.file(Kind::HeadCheckpoint, note.as_bytes()).unwrap();
            writer.json(Kind::HeadProof, &proof).unwrap();
        }
        for id in upper_tiles(self.from, self.to, size) {
            writer.tile(id, size, &self.tiles).unwrap();
        }
        for (kind, position) in [(Kind::First, self.from), (Kind::Last, self.to)] {
            let file = InclusionFile {
                position: position.to_string(),
                leaf_hash: hex::encode(self.tiles.leaf_hash(position - 1).unwrap()),
                size: size.to_string(),
                root: hex::encode(checkpoint.root),
                proof: all_hex(&self.tiles.prove_inclusion(size, position - 1).unwrap()),
            };
            writer.json(kind, &file).unwrap();
        }
        let record = |position: &u64| RecordLine {
            position: position.to_string(),
            leaf: BASE64_STANDARD.encode(&self.log[usize::try_from(position - 1).unwrap()].leaf),
            proof: all_hex(&self.tiles.prove_inclusion(size, position - 1).unwrap()),
        };
        for records in self.records.chunks(3) {
            writer.records(&records.iter().map(record).collect::<Vec<_>>()).unwrap();
        }
        let mut rest = &self.shown[..];
        while let Some(first) = rest.first() {
            let first = usize::try_from(first.position - 1).unwrap();
            let end = (first / 256 * 256 + self.events_a_part - first).min(rest.len());
            let last = rest[end - 1].position;
            let disclosed: Vec<DisclosedLine> = self
                .disclosed
                .iter()
                .filter(|line| (rest[0].position..=last).contains(&line.position.parse::<i64>().unwrap()))
                .cloned()
                .collect();
            writer.part(size, &self.tiles, &rest[..end], &disclosed).unwrap();
            rest = &rest[end..];
        }
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            origin: checkpoint.origin.clone(),
            log_id: Uuid::from_u128(self.tenant),
            from: self.from.to_string(),
            to: self.to.to_string(),
            size: size.to_string(),
            root: hex::encode(checkpoint.root),
            rows: BTreeMap::new(),
            disclosed: String::new(),
            records: String::new(),
            head_log: self.head.is_some(),
            exported_by: "user:1".to_owned(),
            exported_at: format_time(time(size)),
            export_id: Uuid::from_u128(9),
            files: Vec::new(),
        };
        let bytes = writer.finish(manifest, |sha256| {
            Ok::<_, crate::bundle::write::WriteError>(sign_manifest(&origin, sha256, &self.keys()).unwrap())
        });
        bytes.unwrap()
    }

    pub fn keys(&self) -> Vec<LedgerKey> {
        let origin = origin(self.tenant);
        self.seeds.iter().map(|seed| key(&origin, *seed)).collect()
    }

    pub fn ask(&self) -> Ask {
        Ask { keys: vec![key(&origin(self.tenant), 1).vkey().to_owned()], receipts: Vec::new() }
    }

    pub fn verify(&self) -> Report {
        check(&self.bytes(), &self.ask())
    }

    /// A log of heads in which this head is named, among others.
    fn named(&self, head: &Head) -> (String, HeadFile) {
        let text = |value: &Value| serde_json_canonicalizer::to_string(value).unwrap();
        let head = serde_json::to_value(head).unwrap();
        let other = json!({ "origin": "book.example/platform", "root": hex::encode([3; 32]), "size": "3" });
        let heads = [text(&other), text(&head)];
        let tree = |texts: &[String]| {
            Tiles::over(&texts.iter().map(|text| leaf_hash(text.as_bytes())).collect::<Vec<_>>()).unwrap()
        };
        let of_heads = tree(&heads);
        let alarms = head["alarms"].as_array().map_or(0, Vec::len).to_string();
        let entry = Entry {
            alarms,
            at: format_time(time(self.size())),
            count: "2".to_owned(),
            heads_root: hex::encode(of_heads.root(2).unwrap()),
        };
        let entries = ["before".to_owned(), text(&serde_json::to_value(&entry).unwrap()), "after".to_owned()];
        let log = tree(&entries);
        let note = sign(HEADS, 3, log.root(3).unwrap(), &[7]).note;
        let named: u64 = head["size"].as_str().unwrap().parse().unwrap();
        let proof = HeadFile {
            entry: entries[1].clone(),
            entry_index: "1".to_owned(),
            entry_proof: all_hex(&log.prove_inclusion(3, 1).unwrap()),
            head: heads[1].clone(),
            head_index: "1".to_owned(),
            head_count: "2".to_owned(),
            head_proof: all_hex(&of_heads.prove_inclusion(2, 1).unwrap()),
            consistency: all_hex(&self.tiles.prove_consistency(named, self.size()).unwrap_or_default()),
        };
        (note, proof)
    }
}

fn all_hex(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

pub fn sign(origin: &str, size: u64, root: Hash, seeds: &[u8]) -> Checkpoint {
    let keys: Vec<LedgerKey> = seeds.iter().map(|seed| key(origin, *seed)).collect();
    Checkpoint::sign(origin, size, root, time(size + 3_000), &keys).unwrap()
}

fn is_record(position: u64) -> bool {
    position % 150 == 149
}

/// Customers are registered and changed, and some are erased.
fn leaf(
    tenant: u128,
    position: u64,
    streams: &mut BTreeMap<u128, u64>,
    disclosed: &mut Vec<DisclosedLine>,
) -> LogRow {
    let customer = u128::from(position % 40 + 1);
    let sequence = streams.entry(customer).or_insert(0);
    *sequence += 1;
    let (id, subject) = (Uuid::from_u128(u128::from(position) << 64 | tenant), Uuid::from_u128(customer));
    let mut commitments = BTreeMap::new();
    let (event_type, payload) = if is_record(position) {
        ("customer.erased", json!({ "customer_id": subject }))
    } else {
        for (field, value) in
            [("email", json!("ada@example.org")), ("name", json!("=Ada \"Löve\" \u{1F600}; -x"))]
        {
            let salt = Sha256::digest(format!("{field}{position}")).into();
            let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
            commitments.insert(field.to_owned(), hex::encode(commitment(id, field, &salt, &canonical)));
            // Every third is withheld.
            if !position.is_multiple_of(3) {
                disclosed.push(DisclosedLine {
                    position: position.to_string(),
                    event_id: id,
                    field: field.to_owned(),
                    subject,
                    salt: hex::encode(salt),
                    value,
                });
            }
        }
        let payload = json!({
            "type": "customer.registered", "customer_id": subject, "name": "[personal]", "email": "[personal]",
            "words": "a;=1+1\n\"b\" é",
        });
        ("customer.registered", payload)
    };
    let recorded_at = format_time(time(position));
    let leaf = Leaf {
        tenant: TenantId(Uuid::from_u128(tenant)),
        position: position.to_string(),
        id,
        event_type: event_type.to_owned(),
        version: 1,
        aggregate_type: "customer".to_owned(),
        aggregate_id: subject,
        sequence: sequence.to_string(),
        occurred_at: recorded_at.clone(),
        recorded_at,
        metadata: Metadata {
            actor: "user:1".to_owned(),
            reason: position.is_multiple_of(5).then(|| "=HYPERLINK(1)".to_owned()),
            ip: position.is_multiple_of(2).then(|| "192.0.2.7".to_owned()),
            request_id: position.is_multiple_of(4).then(|| Uuid::from_u128(u128::from(position))),
            user_agent: Some("curl/8".to_owned()),
            ..Metadata::default()
        },
        payload,
        commitments,
        nonce: hex::encode([u8::try_from(position % 256).unwrap(); 16]),
    };
    LogRow { position: i64::try_from(position).unwrap(), leaf: leaf.encode().unwrap() }
}

/// The files of a bundle, in their order.
pub fn files(bundle: &[u8]) -> Vec<Named> {
    let mut files = Files::open(Cursor::new(bundle), |_| ()).unwrap();
    let mut all = Vec::new();
    while let Some(file) = files.next_file().unwrap() {
        all.push(file);
    }
    all
}

/// Puts files in a container again.
pub fn contain(files: &[Named]) -> Vec<u8> {
    let mut container = Container::new(Vec::new());
    for (path, bytes) in files {
        container.append(path, bytes).unwrap();
    }
    container.finish().unwrap()
}

/// The same files with a manifest that lists them as they are now, changed otherwise as well, signed anew.
pub fn signed_anew(mut files: Vec<Named>, keys: &[LedgerKey], change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let at = files.iter().position(|(path, _)| path == "manifest.json").unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&files[at].1).unwrap();
    files.truncate(at);
    manifest.files = files
        .iter()
        .map(|(path, bytes)| Listed {
            bytes: bytes.len().to_string(),
            path: path.clone(),
            sha256: hex::encode(Sha256::digest(bytes)),
        })
        .collect();
    change(&mut manifest);
    let bytes = serde_json_canonicalizer::to_vec(&manifest).unwrap();
    let note = sign_manifest(&manifest.origin, &Sha256::digest(&bytes).into(), keys).unwrap();
    files.push(("manifest.json".to_owned(), bytes));
    files.push(("manifest.sig".to_owned(), note.into_bytes()));
    contain(&files)
}

pub fn check(bundle: &[u8], ask: &Ask) -> Report {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bundle).unwrap();
    verify(file.path(), ask, |_| ()).unwrap()
}

/// What other people's programs say of a bundle.
pub fn independent(bundle: &[u8], vkey: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bundle).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/independent.sh");
    let output = Command::new(script).arg(file.path()).arg(vkey).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Writes files below a folder.
pub fn unpack(files: &[Named], folder: &Path) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A tile's id, by how many leaves are below it.
pub fn tile(level: u8, number: u64) -> TileId {
    assert!(number < TILE_WIDTH * TILE_WIDTH);
    TileId { level, number }
}
