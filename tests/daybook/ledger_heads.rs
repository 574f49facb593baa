//! The log of all logs' heads, and its copy outside the database.

use std::{path::Path, time::Duration};

use daybook::{
    eventstore::{Command, Unit, leaf::leaf_hash},
    ledger::{
        Cause, Checkpoint, HeadCopy, Ledger, LedgerError,
        head_log::{Entry, Head},
        tree,
    },
    tenancy::Schema,
};
use daybook_domain::{customer::CustomerCommand, text::Name};
use flate2::read::GzDecoder;
use uuid::Uuid;

use crate::{
    ledger::{hack, process},
    support::site::{Site, by, new_tenant},
};

/// As often as it is asked.
const ALWAYS: Duration = Duration::ZERO;
const DAILY: Duration = Duration::from_secs(86_400);

/// Two tenants with a checkpoint each, and a folder.
struct World {
    site: Site,
    other: Schema,
    folder: tempfile::TempDir,
    copy: HeadCopy,
}

impl World {
    async fn open() -> Self {
        let site = Site::open().await;
        let other = Schema::tenant(site.admin.create(new_tenant("other"), &by("test")).await.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let copy = HeadCopy::folder(folder.path()).unwrap();
        let world = Self { site, other, folder, copy };
        for schema in [&world.site.schema, &world.other] {
            world.ledger().checkpoint_now(schema).await.unwrap();
        }
        world
    }

    fn ledger(&self) -> Ledger {
        process(&self.site)
    }

    async fn turn(&self, heartbeat: Duration) -> (bool, Vec<String>) {
        let turn = self.ledger().sign_heads(&self.copy, heartbeat).await.unwrap();
        (turn.added, turn.alarms.into_iter().map(|alarm| alarm.cause).collect())
    }

    async fn grow(&self) {
        self.site.new_customer("Grace").await;
        self.ledger().checkpoint_now(&self.site.schema).await.unwrap();
    }

    /// What the log of heads names of a log: its head as it was, and the alarms beside it.
    async fn named(&self, schema: &Schema) -> (Head, Vec<String>) {
        let proof = self.ledger().head_proof(schema).await.unwrap().unwrap();
        let mut head: Head = serde_json::from_str(&proof.head).unwrap();
        let alarms = std::mem::take(&mut head.alarms);
        (head, alarms)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    async fn platform(&self, tables: &[&str], sql: &str) {
        hack(self.site.owner(), &Schema::platform(), tables, sql).await;
    }
}

/// What an auditor finds who has the copy's folder and the keys, and nothing else.
async fn assert_copy_is_sound(ledger: &Ledger, folder: &Path) -> Checkpoint {
    let keys = ledger.head_log_keys().await.unwrap();
    let keys: Vec<String> = keys.into_iter().map(|key| key.vkey).collect();
    let note = std::fs::read_to_string(folder.join("checkpoint")).unwrap();
    let checkpoint = Checkpoint::verify(&note, "book.example:8443/heads", &keys).unwrap();
    let mut hashes = Vec::new();
    for number in 0..checkpoint.size.div_ceil(256) {
        let width = (checkpoint.size - number * 256).min(256);
        let end = if width == 256 { String::new() } else { format!(".p/{width}") };
        let tile = std::fs::read(folder.join(format!("tile/0/{number:03}{end}"))).unwrap();
        let bundle = std::fs::read(folder.join(format!("tile/entries/{number:03}{end}"))).unwrap();
        let mut rest = bundle.as_slice();
        for hash in tile.chunks(32) {
            let (length, after) = rest.split_first_chunk::<2>().unwrap();
            let (leaf, after) = after.split_at(u16::from_be_bytes(*length).into());
            assert_eq!(leaf_hash(leaf), hash);
            let entry: Entry = serde_json::from_slice(leaf).unwrap();
            let heads = std::fs::File::open(folder.join(format!("heads/{}.json.gz", hashes.len()))).unwrap();
            let text = std::io::read_to_string(GzDecoder::new(heads)).unwrap();
            let of_heads: Vec<_> = text.lines().map(|line| leaf_hash(line.as_bytes())).collect();
            let alarms = text.lines().map(|line| serde_json::from_str::<Head>(line).unwrap().alarms.len());
            assert_eq!(
                (entry.count, entry.alarms),
                (of_heads.len().to_string(), alarms.sum::<usize>().to_string())
            );
            let root = tree::Tiles::over(&of_heads).unwrap().root(of_heads.len() as u64).unwrap();
            assert_eq!(entry.heads_root, hex::encode(root));
            hashes.push(leaf_hash(leaf));
            rest = after;
        }
        assert!(rest.is_empty());
    }
    assert_eq!(tree::Tiles::over(&hashes).unwrap().root(checkpoint.size), Ok(checkpoint.root));
    checkpoint
}

fn cause<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> (Option<Cause>, String) {
    let error = result.unwrap_err();
    (error.cause(), error.to_string())
}

#[tokio::test]
async fn heads_are_named_when_one_of_them_changed_or_a_day_went_by() {
    let world = World::open().await;
    assert_eq!(world.ledger().head_proof(&world.other).await.unwrap(), None);
    assert_eq!(world.turn(DAILY).await, (true, vec![]));
    assert_eq!(world.turn(DAILY).await, (false, vec![]));
    world.grow().await;
    assert_eq!(world.turn(DAILY).await, (true, vec![]));
    let asked = world.ledger();
    let before = asked.head_proof(&world.other).await.unwrap().unwrap();
    assert_eq!(world.turn(ALWAYS).await, (true, vec![]));
    let checkpoint = assert_copy_is_sound(&world.ledger(), world.folder.path()).await;
    assert_eq!(checkpoint.size, 3);
    // Who was asked before answers of the entry that is the last one now.
    let now = asked.head_proof(&world.other).await.unwrap();
    assert_eq!(now, world.ledger().head_proof(&world.other).await.unwrap());
    assert_ne!(now.unwrap().checkpoint, before.checkpoint);

    for schema in [&world.site.schema, &world.other] {
        let latest = world.ledger().latest(schema).await.unwrap().unwrap();
        let proof = world.ledger().head_proof(schema).await.unwrap().unwrap();
        assert_eq!(proof.checkpoint, checkpoint);
        let head: serde_json::Value = serde_json::from_str(&proof.head).unwrap();
        assert_eq!(head["origin"], latest.origin);
        assert_eq!(head["size"], latest.size.to_string());
        assert_eq!(head["root"], hex::encode(latest.root));
        let entry: Entry = serde_json::from_str(&proof.entry).unwrap();
        let root = hex::decode(&entry.heads_root).unwrap().try_into().unwrap();
        let leaf = leaf_hash(proof.head.as_bytes());
        tree::check_inclusion(&proof.head_proof, proof.head_count, &root, proof.head_index, &leaf).unwrap();
        let leaf = leaf_hash(proof.entry.as_bytes());
        tree::check_inclusion(
            &proof.entry_proof,
            checkpoint.size,
            &checkpoint.root,
            proof.entry_index,
            &leaf,
        )
        .unwrap();
    }
}

#[tokio::test]
async fn two_nodes_name_them_once() {
    let world = World::open().await;
    for _ in 0..5 {
        world.grow().await;
        let (a, b) = (world.ledger(), world.ledger());
        let (a, b) = tokio::join!(a.sign_heads(&world.copy, DAILY), b.sign_heads(&world.copy, DAILY));
        assert!(a.unwrap().added || b.unwrap().added);
    }
    world.turn(DAILY).await;
    let checkpoint = assert_copy_is_sound(&world.ledger(), world.folder.path()).await;
    assert_eq!(checkpoint.size, 5);
}

#[tokio::test]
async fn a_tenant_that_vanished_is_missed() {
    let world = World::open().await;
    world.turn(DAILY).await;
    let tenant = world.other.tenant_id().unwrap();
    let (named, quiet) = world.named(&world.other).await;
    assert_eq!(quiet, [""; 0]);
    sqlx::raw_sql(&world.other.sql("DROP SCHEMA {s} CASCADE")).execute(world.site.owner()).await.unwrap();
    assert_eq!(world.turn(DAILY).await, (true, vec!["tenant_missing".to_owned()]));
    assert_eq!(cause(world.ledger().seal(&world.other).await).0, Some(Cause::TenantMissing));
    // Whatever else of it is taken away.
    let sql = format!(
        "DELETE FROM {{s}}.ledger_signer WHERE log_id = '{tenant}'; DELETE FROM {{s}}.tenants WHERE id = '{tenant}'"
    );
    world.platform(&["ledger_signer"], &sql).await;
    assert_eq!(world.turn(ALWAYS).await, (true, vec!["tenant_missing".to_owned()]));
    assert_eq!(world.named(&world.other).await, (named, vec!["tenant_missing".to_owned()]));
    // It is in its own leaf, and in nothing that another tenant is shown.
    let proof = world.ledger().head_proof(&world.site.schema).await.unwrap().unwrap();
    let shown = format!("{}{}", proof.entry, proof.head);
    assert!(!shown.contains("tenant_missing") && !shown.contains(&tenant.to_string()), "{shown}");
    assert_copy_is_sound(&world.ledger(), world.folder.path()).await;
}

#[tokio::test]
async fn a_log_that_cannot_be_read_keeps_nobody_else_s_head_back() {
    let world = World::open().await;
    let write = async || {
        let command = Command::create(
            Uuid::now_v7(),
            CustomerCommand::Register { name: Name::new("Eve", "").unwrap(), email: None, phone: None },
        );
        world.site.store.execute(&world.other, Unit::of(command, by("test"))).await.unwrap();
        world.ledger().checkpoint_now(&world.other).await.unwrap();
    };
    write().await;
    world.turn(DAILY).await;
    let (named, _) = world.named(&world.other).await;
    write().await;
    let role = world.other.name();
    for (harm, undo, cause) in [
        (
            "ALTER TABLE {s}.ledger_tiles RENAME TO elsewhere".to_owned(),
            "ALTER TABLE {s}.elsewhere RENAME TO ledger_tiles".to_owned(),
            "tree_mismatch",
        ),
        (
            format!("ALTER ROLE {role} RENAME TO gone_{role}"),
            format!("ALTER ROLE gone_{role} RENAME TO {role}"),
            "tenant_missing",
        ),
    ] {
        sqlx::raw_sql(&world.other.sql(&harm)).execute(world.site.owner()).await.unwrap();
        world.grow().await;
        assert_eq!(world.turn(DAILY).await, (true, vec![cause.to_owned()]), "{harm}");
        assert_eq!(world.named(&world.other).await, (named.clone(), vec![cause.to_owned()]));
        let latest = world.ledger().latest(&world.site.schema).await.unwrap().unwrap();
        assert_eq!(world.named(&world.site.schema).await.0.size, latest.size.to_string());
        sqlx::raw_sql(&world.other.sql(&undo)).execute(world.site.owner()).await.unwrap();
    }
    assert_eq!(world.turn(DAILY).await, (true, vec![]));
    assert_ne!(world.named(&world.other).await.0, named);
    assert_copy_is_sound(&world.ledger(), world.folder.path()).await;
}

#[tokio::test]
async fn a_process_that_saw_nothing_yet_is_not_misled_by_what_is_signed_meanwhile() {
    let world = World::open().await;
    world.turn(DAILY).await;
    for _ in 0..10 {
        world.site.new_customer("Grace").await;
        let (a, b, c, d) = (world.ledger(), world.ledger(), world.ledger(), world.ledger());
        let (signed, read, heads, proof) = tokio::join!(
            a.checkpoint_now(&world.site.schema),
            b.latest(&world.site.schema),
            c.sign_heads(&world.copy, DAILY),
            d.head_proof(&world.site.schema),
        );
        assert_eq!(heads.unwrap().alarms, []);
        assert!(signed.unwrap().size >= read.unwrap().unwrap().size && proof.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_head_that_went_back_or_elsewhere_is_kept_as_it_was() {
    let world = World::open().await;
    let tenant = world.site.tenant;
    let keep =
        format!("CREATE TABLE {{s}}.kept AS SELECT * FROM {{s}}.ledger_signer WHERE log_id = '{tenant}'");
    world.platform(&[], &keep).await;
    world.grow().await;
    world.turn(DAILY).await;
    let (named, _) = world.named(&world.site.schema).await;
    // The signer's row of before, which is ours: only here it shows.
    let back = format!(
        "DELETE FROM {{s}}.ledger_signer WHERE log_id = '{tenant}'; INSERT INTO {{s}}.ledger_signer SELECT * FROM {{s}}.kept"
    );
    world.platform(&["ledger_signer"], &back).await;
    let stale = vec!["checkpoint_stale".to_owned()];
    assert_eq!(world.turn(DAILY).await, (true, stale.clone()));
    assert_eq!(world.named(&world.site.schema).await, (named.clone(), stale.clone()));
    // With the log rewritten after that, a signer that has seen nothing else would go on; the head that was named says
    // that it must not, whether or not it is sealed anew.
    let rewrite = "UPDATE {s}.events SET leaf = set_byte(leaf, 40, get_byte(leaf, 40) # 1) WHERE position = (SELECT max(position) FROM {s}.events);
        DELETE FROM {s}.ledger_tiles; UPDATE {s}.ledger_head SET size = 0; DELETE FROM {s}.ledger_checkpoints";
    let tables = ["events", "ledger_tiles", "ledger_head", "ledger_checkpoints"];
    hack(world.site.owner(), &world.site.schema, &tables, rewrite).await;
    world.site.new_customer("Grace").await;
    for _ in 0..2 {
        let signed = world.ledger().checkpoint_now(&world.site.schema).await;
        assert_eq!(cause(signed).0, Some(Cause::CheckpointStale));
        assert_eq!(cause(world.ledger().latest(&world.site.schema).await).0, Some(Cause::CheckpointStale));
    }
    assert_eq!(world.turn(ALWAYS).await, (true, stale));
    assert_eq!(world.named(&world.site.schema).await.0, named);
    // A row of somebody else's making.
    let sql = format!("UPDATE {{s}}.ledger_signer SET size = size + 1 WHERE log_id = '{tenant}'");
    world.platform(&["ledger_signer"], &sql).await;
    assert_eq!(world.turn(ALWAYS).await, (true, vec!["signer_state_invalid".to_owned()]));
    assert_copy_is_sound(&world.ledger(), world.folder.path()).await;
}

#[tokio::test]
async fn a_head_whose_tree_is_another_is_kept_as_it_was() {
    let world = World::open().await;
    world.turn(DAILY).await;
    let (named, _) = world.named(&world.site.schema).await;
    world.grow().await;
    // The last leaf's, which is in the proof from whatever was named before.
    let edit = "UPDATE {s}.ledger_tiles SET hashes = set_byte(hashes, length(hashes) - 1, get_byte(hashes, length(hashes) - 1) # 1)
        WHERE level = 0";
    hack(world.site.owner(), &world.site.schema, &["ledger_tiles"], edit).await;
    let inconsistent = vec!["checkpoint_inconsistent".to_owned()];
    assert_eq!(world.turn(DAILY).await, (true, inconsistent.clone()));
    assert_eq!(world.named(&world.site.schema).await, (named, inconsistent));
    let signed = world.ledger().checkpoint_now(&world.site.schema).await;
    assert_eq!(cause(signed).0, Some(Cause::CheckpointInconsistent));
}

#[tokio::test]
async fn what_the_copy_knows_is_asked_about_before_anything_is_signed() {
    let world = World::open().await;
    world.turn(DAILY).await;
    // All that the platform's schema remembers is taken away, and with it the log's own checkpoints.
    let empty =
        "DELETE FROM {s}.head_log_entries; DELETE FROM {s}.head_log_tiles; DELETE FROM {s}.ledger_signer;
        DELETE FROM {s}.ledger_verifier_keys";
    let tables = ["head_log_entries", "head_log_tiles", "ledger_signer", "ledger_verifier_keys"];
    world.platform(&tables, empty).await;
    let checkpoints = "DELETE FROM {s}.ledger_checkpoints";
    hack(world.site.owner(), &world.site.schema, &["ledger_checkpoints"], checkpoints).await;
    let ledger = world.ledger();
    ledger.keep_copy(world.copy.clone());
    let (found, text) = cause(ledger.checkpoint_now(&world.site.schema).await);
    assert_eq!(found, Some(Cause::HeadLogInconsistent), "{text}");
    // A new place has nothing against it; that is what one is set for.
    let new = tempfile::tempdir().unwrap();
    let ledger = world.ledger();
    ledger.keep_copy(HeadCopy::folder(new.path()).unwrap());
    ledger.checkpoint_now(&world.site.schema).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_is_not_the_beginning_of_the_log_stops_it() {
    let world = World::open().await;
    world.turn(DAILY).await;
    let early = world.read("checkpoint");
    let dump = "CREATE TABLE {s}.kept_entries AS SELECT * FROM {s}.head_log_entries;
        CREATE TABLE {s}.kept_tiles AS SELECT * FROM {s}.head_log_tiles;
        CREATE TABLE {s}.kept AS SELECT * FROM {s}.ledger_signer";
    world.platform(&[], dump).await;
    world.grow().await;
    world.turn(DAILY).await;
    let late = world.read("checkpoint");

    // A backup of the platform's schema, or of all, is restored: the copy knows more.
    let restore =
        "DELETE FROM {s}.head_log_entries; INSERT INTO {s}.head_log_entries SELECT * FROM {s}.kept_entries;
        DELETE FROM {s}.head_log_tiles; INSERT INTO {s}.head_log_tiles SELECT * FROM {s}.kept_tiles;
        DELETE FROM {s}.ledger_signer; INSERT INTO {s}.ledger_signer SELECT * FROM {s}.kept";
    let tables = ["head_log_entries", "head_log_tiles", "ledger_signer"];
    world.platform(&tables, restore).await;
    let (found, text) = cause(world.ledger().sign_heads(&world.copy, ALWAYS).await);
    assert_eq!(found, Some(Cause::HeadLogInconsistent));
    assert!(text.contains("the copy has 2 entries"), "{text}");
    assert_eq!(world.read("checkpoint"), late);
    // All of it is gone, and begun anew.
    let empty =
        "DELETE FROM {s}.head_log_entries; DELETE FROM {s}.head_log_tiles; DELETE FROM {s}.ledger_signer";
    world.platform(&tables, empty).await;
    assert_eq!(
        cause(world.ledger().sign_heads(&world.copy, ALWAYS).await).0,
        Some(Cause::HeadLogInconsistent)
    );
    // Another history of the same length; somebody else's checkpoint; and what is no checkpoint.
    world.platform(&tables, restore).await;
    std::fs::write(world.folder.path().join("checkpoint"), &early).unwrap();
    world.turn(ALWAYS).await;
    std::fs::write(world.folder.path().join("checkpoint"), &late).unwrap();
    assert_eq!(
        cause(world.ledger().sign_heads(&world.copy, ALWAYS).await).0,
        Some(Cause::HeadLogInconsistent)
    );
    let foreign = String::from_utf8(late.clone()).unwrap().replace("book.example", "look.example");
    for wrong in [foreign.as_bytes(), b"nothing", b""] {
        std::fs::write(world.folder.path().join("checkpoint"), wrong).unwrap();
        let (found, _) = cause(world.ledger().sign_heads(&world.copy, ALWAYS).await);
        assert_eq!(found, Some(Cause::HeadLogInconsistent));
    }
    // An early one is a beginning: what is missing is copied again.
    std::fs::write(world.folder.path().join("checkpoint"), &early).unwrap();
    world.turn(DAILY).await;
    assert_copy_is_sound(&world.ledger(), world.folder.path()).await;
}

#[tokio::test]
async fn entries_that_were_edited_stop_it() {
    let world = World::open().await;
    world.turn(DAILY).await;
    world.grow().await;
    world.turn(DAILY).await;
    let keep = "CREATE TABLE {s}.kept AS SELECT * FROM {s}.head_log_entries";
    world.platform(&[], keep).await;
    for edit in [
        "UPDATE {s}.head_log_entries SET entry = set_byte(entry, 30, get_byte(entry, 30) # 1) WHERE index = 1",
        "UPDATE {s}.head_log_entries e SET heads = k.heads FROM {s}.kept k WHERE e.index = 1 AND k.index = 0",
        "UPDATE {s}.head_log_entries SET heads = NULL",
        "DELETE FROM {s}.head_log_entries WHERE index = 1",
        "DELETE FROM {s}.head_log_entries",
    ] {
        world.platform(&["head_log_entries"], edit).await;
        let (found, text) = cause(world.ledger().sign_heads(&HeadCopy::none(), ALWAYS).await);
        assert_eq!(found, Some(Cause::HeadLogInconsistent), "{edit}: {text}");
        let again =
            "DELETE FROM {s}.head_log_entries; INSERT INTO {s}.head_log_entries SELECT * FROM {s}.kept";
        world.platform(&["head_log_entries"], again).await;
    }
    assert_eq!(world.turn(ALWAYS).await, (true, vec![]));
}

#[tokio::test]
async fn a_new_copy_gets_all_there_is_and_old_heads_go_but_for_one_a_day() {
    let world = World::open().await;
    for _ in 0..5 {
        world.turn(ALWAYS).await;
    }
    let sql = "UPDATE {s}.head_log_entries SET at = at - interval '9 days' WHERE index < 2;
        UPDATE {s}.head_log_entries SET at = at - interval '8 days' WHERE index IN (2, 3)";
    world.platform(&["head_log_entries"], sql).await;
    world.turn(ALWAYS).await;
    let kept: Vec<i64> = sqlx::query_scalar(
        "SELECT index FROM daybook_platform.head_log_entries WHERE heads IS NOT NULL ORDER BY index",
    )
    .fetch_all(world.site.owner())
    .await
    .unwrap();
    assert_eq!(kept, [0, 2, 4, 5]);
    let there = |folder: &Path| -> Vec<bool> {
        (0..6).map(|index| folder.join(format!("heads/{index}.json.gz")).exists()).collect()
    };
    assert_eq!(there(world.folder.path()), [true, false, true, false, true, true]);
    let folder = tempfile::tempdir().unwrap();
    let copy = HeadCopy::open(folder.path().join("new/copy").to_str().unwrap()).unwrap();
    assert!(!world.ledger().sign_heads(&copy, DAILY).await.unwrap().added);
    assert_eq!(there(&folder.path().join("new/copy")), [true, false, true, false, true, true]);
    let read = |name: &str| std::fs::read(folder.path().join("new/copy").join(name)).unwrap();
    assert_eq!(read("checkpoint"), world.read("checkpoint"));
    assert_eq!(read("tile/0/000.p/6"), world.read("tile/0/000.p/6"));
    assert_eq!(read("tile/entries/000.p/6"), world.read("tile/entries/000.p/6"));
}

#[test]
fn a_setting_that_names_no_place_is_refused() {
    assert!(!HeadCopy::open("none").unwrap().is_kept());
    for wrong in ["", "s3://", "s3:///prefix", "/proc/no/such/place"] {
        assert!(HeadCopy::open(wrong).is_err(), "{wrong}");
    }
}

#[cfg(feature = "s3")]
mod s3 {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use axum::{
        Router,
        body::Bytes,
        extract::{Request, State},
        response::{IntoResponse as _, Response},
        routing::any,
    };
    use http::{Method, StatusCode, header};
    use tokio::net::TcpListener;

    use super::*;

    type Bucket = Arc<Mutex<BTreeMap<String, Bytes>>>;

    /// As much of S3 as a copy asks for; whoever signs nothing is refused.
    async fn answer(State(bucket): State<Bucket>, request: Request) -> Response {
        let signed = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if !signed.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=ours/")) {
            return StatusCode::FORBIDDEN.into_response();
        }
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let mut bucket = bucket.lock().unwrap();
        match parts.method {
            Method::PUT => {
                bucket.insert(path, body);
                [(header::ETAG, "\"1\"")].into_response()
            }
            Method::GET => match bucket.get(&path) {
                Some(bytes) => {
                    let headers =
                        [(header::ETAG, "\"1\""), (header::LAST_MODIFIED, "Sat, 21 Nov 2026 10:00:00 GMT")];
                    (headers, bytes.clone()).into_response()
                }
                None => StatusCode::NOT_FOUND.into_response(),
            },
            Method::POST | Method::DELETE => StatusCode::NO_CONTENT.into_response(),
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }

    #[tokio::test]
    async fn the_copy_can_be_in_an_object_store() {
        let bucket = Bucket::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(any(answer)).with_state(bucket.clone());
        let server = tokio::spawn(async move { axum_serve(listener, router).await });
        let options = |key: &str| {
            [
                ("AWS_ENDPOINT", endpoint.as_str()),
                ("AWS_ALLOW_HTTP", "true"),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_ACCESS_KEY_ID", key),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let world = World::open().await;
        let copy = HeadCopy::s3("evidence", "daybook/heads", options("ours")).unwrap();
        world.ledger().sign_heads(&copy, ALWAYS).await.unwrap();
        world.ledger().sign_heads(&copy, ALWAYS).await.unwrap();
        let names: Vec<String> = bucket.lock().unwrap().keys().cloned().collect();
        let at = |name: &str| format!("/evidence/daybook/heads/{name}");
        assert_eq!(
            names,
            [
                at("checkpoint"),
                at("heads/0.json.gz"),
                at("heads/1.json.gz"),
                at("tile/0/000.p/1"),
                at("tile/0/000.p/2"),
                at("tile/entries/000.p/1"),
                at("tile/entries/000.p/2"),
            ]
        );
        let note = copy.checkpoint().await.unwrap().unwrap();
        assert_eq!(Checkpoint::parse(&note).unwrap().size, 2);
        // Without the right to read it nothing is signed: it may know more than is here.
        let stranger = HeadCopy::s3("evidence", "daybook/heads", options("theirs")).unwrap();
        let refused = world.ledger().sign_heads(&stranger, ALWAYS).await;
        assert!(matches!(refused, Err(LedgerError::Copy(_))), "{refused:?}");
        let ahead = note.replace("\n2\n", "\n3\n");
        bucket.lock().unwrap().insert(at("checkpoint"), ahead.into());
        assert_eq!(cause(world.ledger().sign_heads(&copy, ALWAYS).await).0, Some(Cause::HeadLogInconsistent));
        server.abort();
    }

    /// axum without its own server: connections are driven as the product drives them.
    async fn axum_serve(listener: TcpListener, router: Router) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let router = router.clone();
            tokio::spawn(async move {
                let service =
                    hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                        tower::Service::call(&mut router.clone(), request.map(axum::body::Body::new))
                    });
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    }
}
