//! The manifest: signed, and about what is there.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest as _, Sha256};

use super::{
    Finding, Slot, Verification,
    head::{self, Signed},
};
use crate::{
    bundle::format::{FORMAT, FORMATS, Kind, Listed, Manifest},
    ledger::{cause::Cause, note, tree::Hash},
};

impl Verification<'_> {
    /// Checks that a key of the log has signed the manifest, and that it lists what was read.
    pub(super) fn check_manifest(&mut self, signed: &Signed, from: u64, to: u64) {
        let wrong = |why: String| Finding::new(Cause::ManifestMismatch, why).of(Kind::Manifest);
        let Some(bytes) = self.manifest.take() else {
            self.find(wrong("there is none".to_owned()));
            return;
        };
        let sha256: Hash = Sha256::digest(&bytes).into();
        let note = self.signature.take().unwrap_or_default();
        let note = std::str::from_utf8(&note).unwrap_or_default();
        let origin = &signed.checkpoint.origin;
        let mut also: Vec<&str> = self.ask.keys.iter().map(String::as_str).collect();
        let vouched = note::verify_manifest(note, origin, &sha256, &also);
        also.extend(self.keys.iter().flat_map(|keys| &keys.log.keys).map(|key| key.vkey.as_str()));
        let by_all = vouched.and_then(|()| note::verify_whole_manifest(note, origin, &sha256, &also));
        if let Err(cause) = by_all {
            let why = "the manifest is not the one that was signed, or not by a key of the log";
            self.find(Finding::new(cause, why).of(Kind::Signature));
        }
        let Some(manifest) = head::canonical::<Manifest>(Kind::Manifest, &bytes, &mut self.report) else {
            return;
        };
        let followed = std::mem::take(&mut self.followed);
        let rows: BTreeMap<String, String> = FORMATS
            .iter()
            .zip(followed.rows)
            .map(|(name, rows)| ((*name).to_owned(), rows.to_string()))
            .collect();
        let told = [
            ("format", manifest.format == FORMAT),
            ("origin", manifest.origin == *origin),
            ("log_id", manifest.log_id == signed.log_id),
            ("from", manifest.from == from.to_string()),
            ("to", manifest.to == to.to_string()),
            ("size", manifest.size == signed.checkpoint.size.to_string()),
            ("root", manifest.root == hex::encode(signed.checkpoint.root)),
            ("rows", manifest.rows == rows),
            ("disclosed", manifest.disclosed == self.report.disclosed.to_string()),
            ("records", manifest.records == self.records.len().to_string()),
            ("head_log", manifest.head_log == self.head_log),
        ];
        for (name, _) in told.iter().filter(|(_, same)| !same) {
            self.find(wrong(format!("`{name}` is not what is there")));
        }
        let mut parts = followed.files;
        let mut there: Vec<Listed> = Vec::with_capacity(manifest.files.len());
        for slot in std::mem::take(&mut self.listed) {
            match slot {
                Slot::File(listed) => there.push(listed),
                Slot::Part(number) => there.extend(parts.remove(&number).unwrap_or_default()),
            }
        }
        if there != manifest.files {
            self.compare_files(&there, &manifest.files);
        }
        self.report.exported_by = Some(manifest.exported_by);
    }

    fn compare_files(&mut self, there: &[Listed], wanted: &[Listed]) {
        let known: HashMap<&str, &Listed> = there.iter().map(|file| (file.path.as_str(), file)).collect();
        let before = self.report.found;
        for file in wanted {
            let why = match known.get(file.path.as_str()) {
                Some(found) if *found == file => continue,
                Some(_) => "the file is not the one that the manifest lists",
                None => "the manifest lists it, and it is not there",
            };
            self.find(Finding::new(Cause::ManifestMismatch, why).of(&file.path));
        }
        let listed: HashMap<&str, ()> = wanted.iter().map(|file| (file.path.as_str(), ())).collect();
        for file in there.iter().filter(|file| !listed.contains_key(file.path.as_str())) {
            let why = "the manifest does not list it";
            self.find(Finding::new(Cause::ManifestMismatch, why).of(&file.path));
        }
        if self.report.found == before {
            let why = "the files are not in their order, or one comes twice";
            self.find(Finding::new(Cause::ManifestMismatch, why).of(Kind::Manifest));
        }
    }
}
