//! Checking a bundle. Needs nothing of the server, and nothing but the bundle and a verifier key: no database, no keys
//! file, no network, no settings. What it imports of the rest of the program are pure functions.
//!
//! Nothing that the bundle says of itself is believed: the given key vouches for the checkpoint, its root for the tiles,
//! the tiles for the leaves, the leaves for rows and personal values; and the key once more for the manifest, which has
//! the hash of each file. Files come one after the other and parts are checked side by side, so that memory does not
//! grow with the bundle, but for a few bytes a stream and a line of the manifest a file.

mod head;
mod leaf;
mod manifest;
mod parquet;
mod part;
mod report;
mod rows;
mod source;

use std::{
    collections::{BTreeMap, HashMap},
    hash::RandomState,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
};

pub use report::{Finding, Outcome, Report};

use super::format::{FORMATS, HeadFile, InclusionFile, KeysFile, Kind, Listed};
use crate::{
    eventstore::leaf::format_time,
    ledger::{
        cause::Cause,
        path::{Resource, TilePath},
        tree::{Hash, TILE_WIDTH, TileId, Tiles},
    },
};
use head::Signed;
use part::{Bundle, Checked, Part, Stream, Upper, listed};
use source::Source;

/// What a bundle is checked against.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Verifier keys that are trusted: of this log, perhaps of others.
    pub keys: Vec<String>,
    /// Receipts: a position, and the leaf hash that was given then.
    pub receipts: Vec<(u64, Hash)>,
}

/// Checks a bundle: a file, or a folder that it was unpacked to. `progress` is told how many bytes of it were read; a
/// file is read twice.
///
/// # Errors
/// When it cannot be read. Whatever is wrong with it is in the report.
pub fn verify(path: &Path, ask: &Ask, mut progress: impl FnMut(u64)) -> Result<Report, io::Error> {
    let mut report = Report::default();
    let Some(source) = Source::open(path, &mut report, &mut progress)? else { return Ok(report) };
    let workers = thread::available_parallelism().map_or(2, usize::from).min(16);
    let (jobs, queue) = sync_channel::<(Part, Arc<Upper>)>(1);
    let (done, results) = channel::<Checked>();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (queue, done) = (&queue, done.clone());
            scope.spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((part, upper)) = job else { return };
                    if done.send(part.check(&upper)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        Verification::new(ask, report, jobs, results).run(source, &mut progress)
    })
}

/// How far the files have come: they are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Readme,
    Checkpoint,
    Keys,
    HeadCheckpoint,
    HeadProof,
    Upper,
    First,
    Last,
    Records,
    Parts,
    Manifest,
    Signature,
}

struct Verification<'a> {
    ask: &'a Ask,
    report: Report,
    stage: Stage,
    signed: Option<Signed>,
    keys: Option<KeysFile>,
    head_checkpoint: Option<Vec<u8>>,
    head_log: bool,
    tiles: Tiles,
    order: Vec<TileId>,
    /// The positions that `proof/…` is about.
    ends: [Option<u64>; 2],
    records: Vec<u64>,
    record_files: u64,
    upper: Option<Arc<Upper>>,
    part: Part,
    tile: Option<(u64, Vec<u8>)>,
    /// Parts that were handed on.
    parts: u64,
    jobs: Option<SyncSender<(Part, Arc<Upper>)>>,
    results: Receiver<Checked>,
    /// Parts that came back before their turn.
    early: BTreeMap<u64, Checked>,
    merged: u64,
    followed: Followed,
    listed: Vec<Slot>,
    manifest: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
}

/// A file, or the place of those of a part.
enum Slot {
    File(Listed),
    Part(u64),
}

/// What is known of the parts so far.
#[derive(Default)]
struct Followed {
    range: Option<(u64, u64)>,
    open_end: bool,
    time: Option<String>,
    streams: HashMap<Stream, u64>,
    records: Vec<u64>,
    receipts: Vec<usize>,
    rows: [u64; FORMATS.len()],
    files: HashMap<u64, Vec<Listed>>,
}

impl<'a> Verification<'a> {
    fn new(
        ask: &'a Ask,
        report: Report,
        jobs: SyncSender<(Part, Arc<Upper>)>,
        results: Receiver<Checked>,
    ) -> Self {
        Self {
            ask,
            report,
            stage: Stage::Readme,
            signed: None,
            keys: None,
            head_checkpoint: None,
            head_log: false,
            tiles: Tiles::default(),
            order: Vec::new(),
            ends: [None; 2],
            records: Vec::new(),
            record_files: 0,
            upper: None,
            part: Part { number: 1, ..Part::default() },
            tile: None,
            parts: 0,
            jobs: Some(jobs),
            results,
            early: BTreeMap::new(),
            merged: 0,
            followed: Followed::default(),
            listed: Vec::new(),
            manifest: None,
            signature: None,
        }
    }

    fn run(mut self, mut source: Source, progress: &mut impl FnMut(u64)) -> Result<Report, io::Error> {
        let mut read = 0;
        while let Some((path, bytes)) = source.next(&mut self.report)? {
            read += bytes.len() as u64;
            progress(read);
            let Some(kind) = Kind::parse(&path) else {
                self.find(Finding::new(Cause::ManifestMismatch, "a bundle has no such file").of(path));
                continue;
            };
            if !self.take(kind, bytes) {
                break;
            }
        }
        // What cannot be read any more is not said to lack what comes after it.
        let broken = self.report.outcome() == Outcome::Incomplete
            || self.report.findings.iter().any(|finding| {
                finding.cause == Cause::Malformed && finding.file.is_none() && finding.position.is_none()
            });
        self.jobs = None;
        while let Ok(checked) = self.results.recv() {
            self.come_back(checked);
        }
        if !broken {
            self.finish();
        }
        Ok(self.report)
    }

    fn find(&mut self, finding: Finding) {
        self.report.find(finding);
    }

    /// Takes the next file; answers whether there is any use in going on.
    fn take(&mut self, kind: Kind, bytes: Vec<u8>) -> bool {
        let stage = match kind {
            Kind::Readme => Stage::Readme,
            Kind::Checkpoint => Stage::Checkpoint,
            Kind::Keys => Stage::Keys,
            Kind::HeadCheckpoint => Stage::HeadCheckpoint,
            Kind::HeadProof => Stage::HeadProof,
            Kind::Tile(TilePath { resource: Resource::Tile(id), width })
                if id.level > 0 || width < TILE_WIDTH =>
            {
                Stage::Upper
            }
            Kind::First => Stage::First,
            Kind::Last => Stage::Last,
            Kind::Records(_) => Stage::Records,
            Kind::Tile(_) | Kind::Disclosed(_) | Kind::Events(..) => Stage::Parts,
            Kind::Manifest => Stage::Manifest,
            Kind::Signature => Stage::Signature,
        };
        let many = matches!(stage, Stage::Upper | Stage::Records | Stage::Parts);
        let begins = self.listed.is_empty();
        if stage < self.stage || stage == self.stage && !many && !begins {
            self.find(Finding::new(Cause::RowOrder, "the file is not in its place").of(kind));
            return true;
        }
        self.stage = stage;
        if stage > Stage::Checkpoint && self.signed.is_none() {
            if self.report.found == 0 {
                self.find(Finding::new(Cause::ManifestMismatch, "there is no checkpoint"));
            }
            return false;
        }
        if stage == Stage::Parts {
            self.take_of_part(kind, bytes);
            return !self.is_too_large();
        }
        if stage < Stage::Manifest {
            self.listed.push(Slot::File(listed(kind, &bytes)));
        }
        if stage > Stage::Upper {
            self.above();
        }
        self.take_before_parts(kind, bytes);
        true
    }

    fn take_before_parts(&mut self, kind: Kind, bytes: Vec<u8>) {
        if kind == Kind::Checkpoint {
            self.signed = head::checkpoint(&bytes, &self.ask.keys, &mut self.report);
            return;
        }
        let Some(signed) = &self.signed else { return };
        let report = &mut self.report;
        match kind {
            Kind::Keys => {
                self.keys = head::canonical(kind, &bytes, report);
                if let Some(keys) = &self.keys {
                    head::keys(keys, signed, report);
                }
            }
            Kind::HeadCheckpoint => self.head_checkpoint = Some(bytes),
            Kind::HeadProof => {
                self.head_log = true;
                let note = self.head_checkpoint.take().unwrap_or_default();
                if let Some(proof) = head::canonical::<HeadFile>(kind, &bytes, report) {
                    let keys = self.keys.as_ref().and_then(|keys| keys.head_log.as_ref());
                    head::heads(&note, &proof, keys, signed, report);
                }
            }
            Kind::Tile(TilePath { resource: Resource::Tile(id), width }) => {
                if width != id.width_in(signed.checkpoint.size) || bytes.len() as u64 != width * 32 {
                    let why = "the tile is not as wide as the tree makes it";
                    report.find(Finding::new(Cause::TreeMismatch, why).of(kind));
                } else if self.tiles.get(id).is_some() {
                    report.find(Finding::new(Cause::RowOrder, "the file comes twice").of(kind));
                } else {
                    self.tiles.put(id, bytes);
                    self.order.push(id);
                }
            }
            Kind::First | Kind::Last => {
                if let Some(file) = head::canonical::<InclusionFile>(kind, &bytes, report) {
                    let end = usize::from(kind == Kind::Last);
                    self.ends[end] = head::inclusion(kind, &file, signed, report);
                }
            }
            Kind::Records(number) => {
                self.record_files += 1;
                if number != self.record_files {
                    report.find(Finding::new(Cause::RowOrder, "the file is not in its place").of(kind));
                }
                let before = self.records.last().copied().unwrap_or(0);
                self.records.extend(head::records(kind, &bytes, signed, before, report));
            }
            Kind::Manifest => self.manifest = Some(bytes),
            Kind::Signature => self.signature = Some(bytes),
            Kind::Readme | Kind::Checkpoint | Kind::Tile(_) | Kind::Disclosed(_) | Kind::Events(..) => {}
        }
    }

    /// All upper tiles are there: what they are worth is known now.
    fn above(&mut self) {
        if self.upper.is_some() {
            return;
        }
        let Some(signed) = &self.signed else { return };
        head::upper(&self.tiles, &self.order, signed, &mut self.report);
        self.upper = Some(Arc::new(Upper {
            tiles: std::mem::take(&mut self.tiles),
            size: signed.checkpoint.size,
            log_id: signed.log_id,
            receipts: self.ask.receipts.clone(),
            hasher: RandomState::new(),
        }));
    }

    /// Whether a part has more than any that is written: no more of it is kept.
    fn is_too_large(&mut self) -> bool {
        let too_large = self.part.is_too_large();
        if too_large {
            let why = format!("part {} is larger than any that is written", self.part.number);
            self.find(Finding::new(Cause::Malformed, why));
        }
        too_large
    }

    fn take_of_part(&mut self, kind: Kind, bytes: Vec<u8>) {
        self.above();
        self.part.bytes = self.part.bytes.saturating_add(bytes.len() as u64);
        let size = self.upper.as_ref().map_or(0, |upper| upper.size);
        let misplaced = |what: &str| Finding::new(Cause::RowOrder, what).of(kind);
        let begun = self.part.disclosed.is_some() || self.part.formats.iter().any(Option::is_some);
        match kind {
            Kind::Tile(TilePath { resource: Resource::Tile(id), .. }) => {
                if self.tile.is_some() || begun {
                    self.find(misplaced("the file is not in its place"));
                }
                self.tile = Some((id.number, bytes));
            }
            Kind::Tile(TilePath { resource: Resource::Entries(number), width }) => {
                let whole = width == TileId { level: 0, number }.width_in(size);
                let next = self.part.bundles.last().is_none_or(|last| last.number < number);
                let tile = self.tile.take();
                if begun || !next || tile.as_ref().is_some_and(|(of, _)| *of != number) {
                    self.find(misplaced("the file is not in its place"));
                }
                if !whole {
                    let why = "it does not hold as many leaves as the tree makes it";
                    self.find(Finding::new(Cause::TreeMismatch, why).of(kind));
                    return;
                }
                let tile = tile.map(|(_, tile)| tile);
                self.part.bundles.push(Bundle { number, width, tile, entries: bytes });
            }
            Kind::Disclosed(number) => {
                if number != self.part.number || begun {
                    self.find(misplaced("the file is not in its place"));
                }
                self.part.disclosed = Some(bytes);
            }
            Kind::Events(number, format) => {
                let before = self.part.formats.iter().filter(|bytes| bytes.is_some()).count();
                if number != self.part.number || format != before || self.part.formats[format].is_some() {
                    self.find(misplaced("the file is not in its place"));
                }
                self.part.formats[format] = Some(bytes);
                if format == FORMATS.len() - 1 {
                    self.hand_on();
                }
            }
            _ => {}
        }
    }

    /// Gives a part away to be checked.
    fn hand_on(&mut self) {
        let next = Part { number: self.part.number + 1, ..Part::default() };
        let part = std::mem::replace(&mut self.part, next);
        let Some(upper) = self.upper.clone() else { return };
        self.listed.push(Slot::Part(part.number));
        self.parts += 1;
        if let Some(jobs) = &self.jobs {
            // Nobody takes any only when all have ended, which they do at the end.
            let _ = jobs.send((part, upper));
        }
        while let Ok(checked) = self.results.try_recv() {
            self.come_back(checked);
        }
    }

    /// Takes what was found in a part; those before it are awaited.
    fn come_back(&mut self, checked: Checked) {
        self.early.insert(checked.number, checked);
        while let Some(checked) = self.early.remove(&(self.merged + 1)) {
            self.merged += 1;
            self.merge(checked);
        }
    }

    fn merge(&mut self, checked: Checked) {
        for finding in checked.findings {
            self.report.find(finding);
        }
        let followed = &mut self.followed;
        let report = &mut self.report;
        if let Some((first, last)) = checked.range {
            report.events += last + 1 - first;
            match &mut followed.range {
                Some((_, before)) if *before + 1 == first && !followed.open_end => *before = last,
                Some((_, before)) => {
                    let why = format!("position {before} is followed by position {first}");
                    report.find(Finding::new(Cause::MissingEvent, why).at(*before + 1));
                    *before = last;
                }
                None => followed.range = Some((first, last)),
            }
            followed.open_end = checked.open_end;
        }
        if let Some((first, last)) = checked.times {
            if followed.time.as_ref().is_some_and(|before| first < *before) {
                let position = checked.range.map_or(0, |range| range.0);
                let why = "it was recorded before the event in front of it";
                report.find(Finding::new(Cause::UnexpectedEvent, why).at(position));
            }
            followed.time = Some(last);
        }
        let from_beginning = followed.range.is_some_and(|range| range.0 == 1);
        for run in checked.runs {
            let before = followed.streams.insert(run.stream, run.last);
            // Where nothing came before, a stream begins with 1.
            let before = before.or(from_beginning.then_some(0));
            if let Some(before) = before.filter(|before| before.checked_add(1) != Some(run.first)) {
                report.find(part::sequence_gap(before, run.first, run.position));
            }
        }
        followed.records.extend(checked.records);
        followed.receipts.extend(checked.receipts);
        report.disclosed += checked.disclosed;
        report.withheld += checked.withheld;
        for (all, rows) in followed.rows.iter_mut().zip(checked.rows) {
            *all += rows;
        }
        followed.files.insert(checked.number, checked.files);
    }

    /// What can be told when all is there.
    fn finish(&mut self) {
        self.above();
        let Some(signed) = self.signed.take() else {
            if self.report.found == 0 {
                self.find(Finding::new(Cause::ManifestMismatch, "there is no checkpoint"));
            }
            return;
        };
        if !self.part.bundles.is_empty() || self.part.disclosed.is_some() || self.tile.is_some() {
            let why = "there are leaves without their rows";
            self.find(Finding::new(Cause::RowMissing, why));
        }
        let Some((from, to)) = self.followed.range else {
            self.find(Finding::new(Cause::MissingEvent, "there are no events"));
            return;
        };
        let checkpoint = &signed.checkpoint;
        self.report.origin = Some(checkpoint.origin.clone());
        (self.report.from, self.report.to, self.report.size) = (from, to, checkpoint.size);
        self.report.root = Some(hex::encode(checkpoint.root));
        self.report.signed_at = Some(format_time(checkpoint.at));
        self.report.records = self.records.len() as u64;
        for (end, kind, position) in [(0, Kind::First, from), (1, Kind::Last, to)] {
            if self.ends[end].is_some_and(|end| end != position) {
                self.find(Finding::new(Cause::TreeMismatch, "it is about another position").of(kind));
            }
        }
        for position in &self.followed.records {
            if self.records.binary_search(position).is_err() {
                let why = "the event is not among the records";
                self.report.find(Finding::new(Cause::RowMissing, why).at(*position));
            }
        }
        let within = self.records.iter().filter(|position| (from..=to).contains(*position));
        for position in within {
            if self.followed.records.binary_search(position).is_err() {
                let why = "a record is not among the events";
                self.report.find(Finding::new(Cause::RowMissing, why).at(*position));
            }
        }
        for (place, (position, _)) in self.ask.receipts.iter().enumerate() {
            if !self.followed.receipts.contains(&place) {
                self.report.missing.push(format!("position {position}, of which a receipt was given"));
            }
        }
        if !self.head_log {
            self.report.notes.push("the log of heads did not name this log yet".to_owned());
        }
        self.check_manifest(&signed, from, to);
    }
}

#[cfg(test)]
mod tests;
