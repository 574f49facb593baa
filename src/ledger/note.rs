//! Checkpoints (C2SP tlog-checkpoint) as signed notes (C2SP signed-note): made, and checked by anybody who has a
//! verifier key. No storage, no clock.

use chrono::{DateTime, Utc};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use signed_note::{
    Note, NoteError, Signer, StandardVerifier, Verifier, VerifierList, new_ed25519_verifier_key,
};
use tlog_tiles::{Checkpoint as Text, Hash as Node};

use super::{cause::Cause, tree::Hash};
use crate::{
    eventstore::leaf::{format_time, parse_time},
    keys::PurposeKey,
};

/// What the extension line with the time begins with.
const TIME: &str = "time ";
/// What the line about a bundle's manifest begins with.
const MANIFEST: &str = "daybook bundle manifest sha256 ";

/// A signed head of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When it was signed, by the signer's clock.
    pub at: DateTime<Utc>,
    /// The note: text and signatures, as it is handed on.
    pub note: String,
}

impl Checkpoint {
    /// Signs a head with every key.
    ///
    /// # Errors
    /// When the origin cannot be that of a note.
    pub fn sign(
        origin: &str,
        size: u64,
        root: Hash,
        at: DateTime<Utc>,
        keys: &[LedgerKey],
    ) -> Result<Self, NoteError> {
        let extension = format!("{TIME}{}\n", format_time(at));
        let text =
            Text::new(origin, size, Node(root), &extension).map_err(|_| NoteError::MalformedNote)?.to_bytes();
        let mut note = Note::new(&text, &[])?;
        let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
        note.add_sigs(&signers)?;
        let note = String::from_utf8(note.to_bytes()).map_err(|_| NoteError::MalformedNote)?;
        Ok(Self { origin: origin.to_owned(), size, root, at, note })
    }

    /// Reads a note without looking at its signatures.
    ///
    /// # Errors
    /// [`Cause::Malformed`] when it is none.
    pub fn parse(note: &str) -> Result<Self, Cause> {
        let parsed = Note::from_bytes(note.as_bytes()).map_err(|_| Cause::Malformed)?;
        let text = Text::from_bytes(parsed.text()).map_err(|_| Cause::Malformed)?;
        let at = text.extension().lines().find_map(|line| line.strip_prefix(TIME)).and_then(parse_time);
        Ok(Self {
            origin: text.origin().to_owned(),
            size: text.size(),
            root: text.hash().0,
            at: at.ok_or(Cause::Malformed)?,
            note: note.to_owned(),
        })
    }

    /// Reads a note of this origin that at least one of the verifier keys has signed, and that none of them
    /// contradicts. The text of a verifier key is `<origin>+<key hash>+<base64>`.
    ///
    /// # Errors
    /// [`Cause::Malformed`], [`Cause::CheckpointForeign`] (of another origin, or signed by none of the keys), or
    /// [`Cause::CheckpointSignature`].
    pub fn verify(note: &str, origin: &str, keys: &[impl AsRef<str>]) -> Result<Self, Cause> {
        let checkpoint = Self::parse(note)?;
        if checkpoint.origin != origin {
            return Err(Cause::CheckpointForeign);
        }
        vouched(note, origin, keys).map(|_| checkpoint)
    }
}

/// Whether at least one of the verifier keys that are of this origin has signed a note, and none contradicts it. Answers
/// how many did.
fn vouched(note: &str, origin: &str, keys: &[impl AsRef<str>]) -> Result<usize, Cause> {
    let mut known: Vec<Box<dyn Verifier>> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for key in keys {
        let verifier = StandardVerifier::new(key.as_ref()).map_err(|_| Cause::Malformed)?;
        // A key of another log vouches for nothing here, whoever lists it; nor is one ambiguous for being listed twice.
        if verifier.name() == origin && seen.insert(key.as_ref().to_owned()) {
            known.push(Box::new(verifier));
        }
    }
    let parsed = Note::from_bytes(note.as_bytes()).map_err(|_| Cause::Malformed)?;
    match parsed.verify(&VerifierList::new(known)) {
        Ok((verified, _)) => Ok(verified.len()),
        Err(NoteError::UnverifiedNote) => Err(Cause::CheckpointForeign),
        Err(_) => Err(Cause::CheckpointSignature),
    }
}

/// What a note about a bundle's manifest says: whose, and the manifest's SHA-256. No checkpoint reads like it, as the
/// second line of one is a number.
fn manifest_text(origin: &str, sha256: &Hash) -> String {
    format!("{origin}\n{MANIFEST}{}\n", hex::encode(sha256))
}

/// Signs the list of a bundle's files.
///
/// # Errors
/// When the origin cannot be that of a note.
pub fn sign_manifest(origin: &str, sha256: &Hash, keys: &[LedgerKey]) -> Result<String, NoteError> {
    let mut note = Note::new(manifest_text(origin, sha256).as_bytes(), &[])?;
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
    note.add_sigs(&signers)?;
    String::from_utf8(note.to_bytes()).map_err(|_| NoteError::MalformedNote)
}

/// Checks that a note is of this origin, signed by at least one of the verifier keys, and about a manifest of this hash.
///
/// # Errors
/// As [`Checkpoint::verify`]; [`Cause::ManifestMismatch`] when it is about another manifest.
pub fn verify_manifest(
    note: &str,
    origin: &str,
    sha256: &Hash,
    keys: &[impl AsRef<str>],
) -> Result<(), Cause> {
    let parsed = Note::from_bytes(note.as_bytes()).map_err(|_| Cause::Malformed)?;
    if !parsed.text().starts_with(format!("{origin}\n").as_bytes()) {
        return Err(Cause::CheckpointForeign);
    }
    vouched(note, origin, keys)?;
    if parsed.text() == manifest_text(origin, sha256).as_bytes() {
        Ok(())
    } else {
        Err(Cause::ManifestMismatch)
    }
}

/// Checks that every signature of a note about a manifest is one by a verifier key, each by another: nothing else is in it.
///
/// # Errors
/// As [`verify_manifest`].
pub fn verify_whole_manifest(
    note: &str,
    origin: &str,
    sha256: &Hash,
    keys: &[impl AsRef<str>],
) -> Result<(), Cause> {
    verify_manifest(note, origin, sha256, keys)?;
    let signatures = note.strip_prefix(&manifest_text(origin, sha256)).unwrap_or_default().lines().skip(1);
    if signatures.count() == vouched(note, origin, keys)? { Ok(()) } else { Err(Cause::CheckpointSignature) }
}

/// A key that signs for one origin.
pub struct LedgerKey {
    origin: String,
    /// Its id in the keys file.
    id: String,
    key: SigningKey,
    /// The public half, as signed-note writes it.
    vkey: String,
    hash: u32,
}

impl std::fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerKey").field("id", &self.id).field("vkey", &self.vkey).finish_non_exhaustive()
    }
}

impl LedgerKey {
    /// The key of an origin: its seed is a key of that use alone.
    ///
    /// # Errors
    /// When the origin cannot be the name of a key.
    pub fn new(origin: &str, seed: &PurposeKey) -> Result<Self, NoteError> {
        let key = SigningKey::from_bytes(&seed.key);
        let vkey = new_ed25519_verifier_key(origin, &VerifyingKey::from(&key));
        let hash = StandardVerifier::new(&vkey).map_err(|_| NoteError::InvalidSigner)?.key_id();
        Ok(Self { origin: origin.to_owned(), id: seed.id.clone(), key, vkey, hash })
    }

    /// Its id in the keys file.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half, as signed-note writes it.
    #[must_use]
    pub fn vkey(&self) -> &str {
        &self.vkey
    }
}

impl Signer for LedgerKey {
    fn name(&self) -> &str {
        &self.origin
    }

    fn key_id(&self) -> u32 {
        self.hash
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
        Ok(self.key.try_sign(message)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const ORIGIN: &str = "book.example/t/01a1fdc1-c481-719a-9803-a3bb46f22c94";

    fn key(seed: u8) -> LedgerKey {
        LedgerKey::new(ORIGIN, &PurposeKey { id: hex::encode([seed; 8]), key: Zeroizing::new([seed; 32]) })
            .unwrap()
    }

    fn signed(keys: &[LedgerKey]) -> Checkpoint {
        let at = "2026-11-21T10:00:00.000001Z".parse().unwrap();
        Checkpoint::sign(ORIGIN, 7, [5; 32], at, keys).unwrap()
    }

    #[test]
    fn the_text_is_origin_size_root_and_time() {
        let checkpoint = signed(&[key(1)]);
        let text = checkpoint.note.split("\n\n").next().unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [ORIGIN, "7", "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=", "time 2026-11-21T10:00:00.000001Z"]
        );
        assert_eq!(Checkpoint::parse(&checkpoint.note), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::verify(&checkpoint.note, ORIGIN, &[key(1).vkey()]), Ok(checkpoint));
    }

    #[test]
    fn each_of_two_keys_vouches_for_a_note_that_both_signed() {
        let checkpoint = signed(&[key(2), key(1)]);
        assert_eq!(checkpoint.note.lines().filter(|line| line.starts_with('—')).count(), 2);
        for known in [1, 2] {
            assert!(Checkpoint::verify(&checkpoint.note, ORIGIN, &[key(known).vkey()]).is_ok());
        }
        assert_eq!(
            Checkpoint::verify(&checkpoint.note, ORIGIN, &[key(3).vkey()]),
            Err(Cause::CheckpointForeign)
        );
        assert_eq!(
            Checkpoint::verify(&checkpoint.note, ORIGIN, &[] as &[&str]),
            Err(Cause::CheckpointForeign)
        );
    }

    #[test]
    fn a_manifest_is_signed_and_no_checkpoint() {
        let (hash, keys) = ([3; 32], [key(1).vkey().to_owned()]);
        let note = sign_manifest(ORIGIN, &hash, &[key(2), key(1)]).unwrap();
        assert_eq!(verify_manifest(&note, ORIGIN, &hash, &keys), Ok(()));
        assert_eq!(verify_manifest(&note, ORIGIN, &[4; 32], &keys), Err(Cause::ManifestMismatch));
        assert_eq!(verify_manifest(&note, ORIGIN, &hash, &[key(3).vkey()]), Err(Cause::CheckpointForeign));
        assert_eq!(verify_manifest(&note, "another", &hash, &keys), Err(Cause::CheckpointForeign));
        let edited = note.replace("0303", "0304");
        assert_eq!(verify_manifest(&edited, ORIGIN, &hash, &keys), Err(Cause::CheckpointSignature));
        assert_eq!(Checkpoint::verify(&note, ORIGIN, &keys), Err(Cause::Malformed));
        let both = [key(1).vkey().to_owned(), key(2).vkey().to_owned()];
        assert_eq!(verify_whole_manifest(&note, ORIGIN, &hash, &both), Ok(()));
        assert_eq!(verify_whole_manifest(&note, ORIGIN, &hash, &keys), Err(Cause::CheckpointSignature));
        let last = note.lines().last().unwrap();
        let repeated = format!("{note}{last}\n");
        assert_eq!(verify_whole_manifest(&repeated, ORIGIN, &hash, &both), Err(Cause::CheckpointSignature));
        let checkpoint = signed(&[key(1)]).note;
        assert_eq!(verify_manifest(&checkpoint, ORIGIN, &hash, &keys), Err(Cause::ManifestMismatch));
    }

    #[test]
    fn what_was_changed_is_refused_by_name() {
        let note = signed(&[key(1)]).note;
        let keys = [key(1).vkey().to_owned()];
        let verify = |note: &str| Checkpoint::verify(note, ORIGIN, &keys).unwrap_err();
        assert_eq!(verify(&note.replace("\n7\n", "\n8\n")), Cause::CheckpointSignature);
        assert_eq!(verify(&note.replace("10:00:00", "10:00:01")), Cause::CheckpointSignature);
        assert_eq!(verify(&note.replace("/t/01", "/t/02")), Cause::CheckpointForeign);
        assert_eq!(verify(&note.replace("\n7\n", "\n07\n")), Cause::Malformed);
        assert_eq!(verify(note.trim_end()), Cause::Malformed);
        assert_eq!(verify(""), Cause::Malformed);
        assert_eq!(Checkpoint::verify(&note, "book.example/t/another", &keys), Err(Cause::CheckpointForeign));
    }
}
