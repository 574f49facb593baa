use std::{fs, os::unix::fs::PermissionsExt as _};

use ::hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{set::Hidden, *};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_760_000_000, 0).unwrap()
}

fn keys_in(directory: &tempfile::TempDir) -> Keys {
    Keys::load_or_create(&directory.path().join("keys.toml"), true, now()).unwrap()
}

#[test]
fn the_first_start_makes_a_private_file_and_later_ones_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/keys.toml");
    let made = Keys::load_or_create(&path, true, now()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");

    let loaded = Keys::load_or_create(&path, false, now()).unwrap();
    assert_eq!(loaded.fingerprint(), made.fingerprint());
    assert_eq!(loaded.hash_token("x"), made.hash_token("x"));
    assert_eq!(loaded.current().to_toml().as_str(), fs::read_to_string(&path).unwrap());
    assert_eq!(made.fingerprint().len(), 32);
}

#[test]
fn a_missing_file_is_refused_when_the_database_has_tenants() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let error = Keys::load_or_create(&path, false, now()).unwrap_err();
    assert!(matches!(error, KeysError::Missing { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_file_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    keys_in(&directory);
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = Keys::load(&path).unwrap_err();
        assert!(matches!(error, KeysError::Exposed { mode: found, .. } if found == mode), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    Keys::load(&path).unwrap();
}

#[test]
fn a_malformed_file_is_refused_without_quoting_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    keys_in(&directory);
    let text = fs::read_to_string(&path).unwrap();
    for broken in [
        text.replace("token_pepper = \"", "token_pepper = \"SECRETSECRET"),
        text.replace("token_pepper = \"", "token_pepper = SECRETSECRET\""),
        text.replace("token_pepper", "pepper_of_tokens"),
        text.split("\n[[").next().unwrap().to_owned(),
        String::new(),
    ] {
        fs::write(&path, broken).unwrap();
        let error = Keys::load(&path).unwrap_err();
        assert!(matches!(error, KeysError::Malformed { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("SECRETSECRET"), "{error:?}");
    }
}

#[test]
fn a_foreign_file_is_refused_and_a_rotated_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let keys = keys_in(&directory);
    let stored = keys.fingerprint();
    keys.check_fingerprint(None).unwrap();
    keys.check_fingerprint(Some(&stored)).unwrap();

    let foreign = Keys::generate(Path::new("other.toml"), now()).unwrap();
    assert!(matches!(foreign.check_fingerprint(Some(&stored)), Err(KeysError::Foreign { .. })));

    keys.rotate(now()).unwrap();
    keys.save().unwrap();
    let rotated = Keys::load(&keys.path).unwrap();
    assert_ne!(rotated.fingerprint(), stored);
    rotated.check_fingerprint(Some(&stored)).unwrap();

    let mut other = KeySet::clone(&keys.current());
    other.unique_hmac_key = Hidden(Zeroizing::new([7; 32]));
    keys.replace(other);
    assert!(keys.check_fingerprint(Some(&stored)).is_err(), "another uniqueness key is another file");
}

#[test]
fn a_wrapped_key_opens_only_for_its_subject_and_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let keys = keys_in(&directory);
    let (subject, tenant, key) = (Uuid::from_u128(1), Uuid::from_u128(2), [9; 32]);
    let wrapped = keys.wrap_subject_key(subject, tenant, &key, [3; 24]).unwrap();
    assert_eq!(wrapped.len(), WRAPPED_LEN);

    keys.rotate(now()).unwrap();
    assert_ne!(Keys::wrapped_with(&wrapped), keys.master_key_ids().first().cloned());
    assert_eq!(*keys.unwrap_subject_key(subject, tenant, &wrapped).unwrap(), key);

    assert!(keys.unwrap_subject_key(tenant, subject, &wrapped).is_err());
    for length in 0..wrapped.len() {
        assert!(keys.unwrap_subject_key(subject, tenant, &wrapped[..length]).is_err());
    }
    for position in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[position] ^= 1;
        assert!(keys.unwrap_subject_key(subject, tenant, &changed).is_err());
    }
}

#[test]
fn digests_are_separated_by_purpose_kind_and_tenant() {
    let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let digest = keys.hmac_unique("email", a, b"x");
    assert_eq!(digest, keys.hmac_unique("email", a, b"x"));
    assert_ne!(digest, keys.hmac_unique("email", b, b"x"));
    assert_ne!(digest, keys.hmac_unique("phone", a, b"x"));
    assert_ne!(keys.hash_token("a"), keys.hash_token("b"));
}

#[test]
fn hmac_is_the_standard_one() {
    // RFC 4231 has no 32-byte key, so the check is against the fallible constructor.
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&[5; 32]).unwrap();
    mac.update(b"onetwo");
    assert_eq!(super::hmac(&[5; 32], &[b"one", b"two"])[..], mac.finalize().into_bytes()[..]);
}

#[test]
fn debug_shows_no_secret() {
    let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
    let mut set = KeySet::clone(&keys.current());
    set.token_pepper = Hidden(Zeroizing::new([0xab; 32]));
    keys.replace(set);
    let shown = format!("{keys:?} {:?}", keys.current());
    assert!(!shown.contains("q6urq6ur") && !shown.contains("171"), "{shown}");
}

/// What the file was before there were lists for tokens, links and secrets.
fn shorten(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.split("\n[[jwt_keys]]").next().unwrap()).unwrap();
}

#[test]
fn a_file_of_before_gets_the_new_lists_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let made = keys_in(&directory);
    shorten(&path);
    let loaded: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Keys::load(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let text = fs::read_to_string(&path).unwrap();
    for keys in loaded {
        assert_eq!(keys.fingerprint(), made.fingerprint());
        assert_ne!(keys.current().jwt.newest().id(), made.current().jwt.newest().id());
        assert_eq!(keys.current().to_toml().as_str(), text, "all have the same new keys");
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_of_before_that_cannot_be_completed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    keys_in(&directory);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("[[jwt_keys]]\nid = \"", "[[jwt_keys]]\nid = \"zz", 1)).unwrap();
    let error = Keys::load(&path).unwrap_err();
    assert!(error.to_string().contains("an id in jwt_keys"), "{error}");
}

#[test]
fn a_rotation_keeps_what_is_still_needed() {
    let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
    let count = |purpose| keys.current().ring(purpose).count();
    let first = keys.current();
    for round in 1..=13 {
        keys.rotate(now()).unwrap();
        assert_eq!(count(Purpose::Master), 1 + round);
        assert_eq!(count(Purpose::Fernet), 1 + round);
        assert_eq!(count(Purpose::Jwt), 2);
        assert_eq!(count(Purpose::Link), (1 + round).min(12));
        assert_eq!(count(Purpose::Ledger), 2);
    }
    assert!(keys.current().has_retired());
    assert!(keys.current().master.find(&first.master.newest().id()).is_some());
    assert!(keys.current().jwt.find(&first.jwt.newest().id()).is_none());
    keys.drop_retired();
    assert!(!keys.current().has_retired());
    assert_eq!(Purpose::ALL.map(count), [1, 2, 1, 12, 2]);
    assert_eq!(keys.hash_token("x"), hmac(&first.token_pepper.0, &[b"daybook token v1|", b"x"]));
}

#[test]
fn a_running_process_takes_over_a_rotated_file() {
    let directory = tempfile::tempdir().unwrap();
    let running = keys_in(&directory);
    assert!(!running.reload_if_changed().unwrap());

    let rotating = Keys::load(&running.path).unwrap();
    rotating.rotate(now()).unwrap();
    assert!(!running.reload_if_changed().unwrap(), "nothing is saved yet");
    rotating.save().unwrap();
    assert!(!rotating.reload_if_changed().unwrap(), "who wrote it knows it");
    assert!(running.reload_if_changed().unwrap());
    assert_eq!(running.current().to_toml(), rotating.current().to_toml());
    assert!(!running.reload_if_changed().unwrap());

    rotating.drop_retired();
    rotating.save().unwrap();
    assert!(running.reload_if_changed().unwrap());
    assert_eq!(running.master_key_ids().len(), 1);
}

#[test]
fn a_running_process_keeps_its_keys_when_the_file_is_lost_or_foreign() {
    let directory = tempfile::tempdir().unwrap();
    let running = keys_in(&directory);
    let fingerprint = running.fingerprint();
    fs::remove_file(&running.path).unwrap();
    assert!(matches!(running.reload_if_changed(), Err(KeysError::Io { .. })));
    Keys::create(&running.path, now()).unwrap();
    assert!(matches!(running.reload_if_changed(), Err(KeysError::Foreign { .. })));
    assert!(matches!(running.reload_if_changed(), Err(KeysError::Foreign { .. })), "and again");
    assert_eq!(running.fingerprint(), fingerprint);
}

#[test]
fn a_key_is_found_under_one_spelling_of_its_id() {
    let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
    let ring = &keys.current().jwt;
    let id = ring.newest().id();
    assert_eq!(ring.find(&id).unwrap().secret(), ring.newest().secret());
    for other in ["", "00", "zz", &id[..14], &format!("{id}00")] {
        assert!(ring.find(other).is_none(), "{other}");
    }
    assert!(id.to_uppercase() == id || ring.find(&id.to_uppercase()).is_none());
}

#[test]
fn derived_keys_differ_by_label_and_survive_a_rotation() {
    let keys = Keys::generate(Path::new("keys.toml"), now()).unwrap();
    let derived = keys.derive("a");
    assert_ne!(derived, keys.derive("b"));
    keys.rotate(now()).unwrap();
    assert_eq!(derived, keys.derive("a"));
}
