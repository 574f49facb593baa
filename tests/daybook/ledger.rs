//! The ledger over a real log: sealed by several nodes at once, signed only as long as nothing before was touched.

use std::{collections::BTreeSet, time::Duration};

use daybook::{
    eventstore::{Command, Unit, leaf::leaf_hash},
    ledger::{
        Cause, Checkpoint, HeadCopy, Ledger, LedgerError, Timing,
        path::{Resource, TilePath},
        tree::{self, Hash, TileId, Tiles},
    },
    tenancy::{Schema, TenantDirectory},
    workers::{self, WorkerSettings},
};
use daybook_domain::{customer::CustomerCommand, text::Name};
use futures_util::future::join_all;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    app::eventually,
    site::{Dice, Site, by, new_tenant},
};

const URL: &str = "https://Book.example:8443/app";
const AT_ONCE: Timing = Timing { at_most: Duration::ZERO, heartbeat: Duration::from_secs(3_600) };

/// The ledger as another process has it, which remembers nothing by itself.
pub fn process(site: &Site) -> Ledger {
    Ledger::new(site.store.clone(), URL)
}

/// What somebody does who owns the tables, past the triggers.
pub async fn hack(owner: &PgPool, schema: &Schema, tables: &[&str], sql: &str) {
    let switch = |how: &str| {
        tables
            .iter()
            .map(|table| format!("ALTER TABLE {{s}}.{table} {how} TRIGGER USER; "))
            .collect::<String>()
    };
    let sql = format!("{}{sql}; {}", switch("DISABLE"), switch("ENABLE"));
    sqlx::raw_sql(&schema.sql(&sql)).execute(owner).await.unwrap();
}

/// Every leaf of a log, in order.
pub async fn leaves(owner: &PgPool, schema: &Schema) -> Vec<Vec<u8>> {
    let sql = schema.sql("SELECT leaf FROM {s}.events ORDER BY position");
    sqlx::query_scalar(&sql).fetch_all(owner).await.unwrap()
}

async fn hashes(owner: &PgPool, schema: &Schema) -> Vec<Hash> {
    leaves(owner, schema).await.iter().map(|leaf| leaf_hash(leaf)).collect()
}

/// Every checkpoint in a log's schema, oldest first.
pub async fn checkpoints(owner: &PgPool, schema: &Schema) -> Vec<Checkpoint> {
    let sql = schema.sql("SELECT note FROM {s}.ledger_checkpoints ORDER BY signed_at");
    let notes: Vec<String> = sqlx::query_scalar(&sql).fetch_all(owner).await.unwrap();
    notes.iter().map(|note| Checkpoint::parse(note).unwrap()).collect()
}

/// What an auditor would find: the tiles are those of the leaves, and every checkpoint is one of their tree, by our keys.
pub async fn assert_sound(ledger: &Ledger, schema: &Schema) {
    let owner = ledger.store().database().owner();
    let all = hashes(owner, schema).await;
    let whole = Tiles::over(&all).unwrap();
    let rows: Vec<(i16, i64, Vec<u8>)> =
        sqlx::query_as(&schema.sql("SELECT level, number, hashes FROM {s}.ledger_tiles"))
            .fetch_all(owner)
            .await
            .unwrap();
    for (level, number, hashes) in &rows {
        let id = TileId { level: *level as u8, number: *number as u64 };
        assert_eq!(whole.get(id).map(hex::encode), Some(hex::encode(hashes)), "{id:?}");
    }
    let keys: Vec<String> =
        ledger.verifier_keys(schema).await.unwrap().into_iter().map(|key| key.vkey).collect();
    let origin = ledger.origin(schema).await.unwrap();
    let mut size = 0;
    for checkpoint in checkpoints(owner, schema).await {
        Checkpoint::verify(&checkpoint.note, &origin, &keys).unwrap();
        assert_eq!(whole.root(checkpoint.size), Ok(checkpoint.root), "{}", checkpoint.note);
        assert!(checkpoint.size >= size);
        size = checkpoint.size;
    }
    let latest = ledger.latest(schema).await.unwrap().unwrap();
    assert_eq!(latest.size, size, "the last one that was signed is among them");
}

fn cause<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> Cause {
    let error = result.unwrap_err();
    error.cause().unwrap_or_else(|| panic!("{error:?}"))
}

async fn grow(site: &Site, events: u64) {
    for n in 0..events {
        site.new_customer(&format!("Guest {n}")).await;
    }
}

#[tokio::test]
async fn what_is_in_the_log_is_proved_to_be_there() {
    let site = Site::open().await;
    let ledger = process(&site);
    assert_eq!(ledger.latest(&site.schema).await.unwrap(), None);
    assert!(matches!(ledger.inclusion(&site.schema, 1, None).await, Err(LedgerError::NotYet)));
    assert!(matches!(ledger.inclusion(&site.schema, 999, None).await, Err(LedgerError::NotThere)));
    let first = ledger.checkpoint_now(&site.schema).await.unwrap();
    assert_eq!(first.origin, format!("book.example:8443/t/{}", site.tenant));
    grow(&site, 280).await;
    let last = ledger.checkpoint_now(&site.schema).await.unwrap();
    assert_eq!(last.size, site.head().await as u64);
    assert_sound(&ledger, &site.schema).await;

    let leaves = leaves(site.owner(), &site.schema).await;
    for position in [1, 2, 255, 256, 257, last.size] {
        let leaf = leaf_hash(&leaves[position as usize - 1]);
        let found = ledger.inclusion(&site.schema, position, None).await.unwrap();
        assert_eq!((found.leaf_hash, found.root), (leaf, last.root));
        tree::check_inclusion(&found.proof, last.size, &last.root, position - 1, &leaf).unwrap();
        // In a tree that is no checkpoint's, but is one of the tree's past.
        let found = ledger.inclusion(&site.schema, position, Some(position)).await.unwrap();
        tree::check_inclusion(&found.proof, position, &found.root, position - 1, &leaf).unwrap();
    }
    let found = ledger.consistency(&site.schema, first.size, None).await.unwrap();
    assert_eq!((found.from_root, found.to_root, found.to), (first.root, last.root, last.size));
    tree::check_consistency(&found.proof, first.size, &first.root, last.size, &last.root).unwrap();

    let path = |resource, width| TilePath { resource, width };
    let full = ledger.resource(&site.schema, path(Resource::Entries(0), 256)).await.unwrap();
    let mut rest = full.as_slice();
    for leaf in &leaves[..256] {
        let (length, after) = rest.split_first_chunk::<2>().unwrap();
        let (found, after) = after.split_at(u16::from_be_bytes(*length).into());
        assert_eq!(found, leaf);
        rest = after;
    }
    assert!(rest.is_empty());
    let above = Resource::Tile(TileId { level: 1, number: 0 });
    let root = ledger.resource(&site.schema, path(above, 1)).await.unwrap();
    assert_eq!(
        root,
        Tiles::over(&hashes(site.owner(), &site.schema).await[..256]).unwrap().root(256).unwrap()
    );
    for (number, width) in [(1, last.size - 256 + 1), (1, 256), (7, 1)] {
        let beyond = ledger.resource(&site.schema, path(Resource::Entries(number), width)).await;
        assert!(matches!(beyond, Err(LedgerError::NotThere)), "{beyond:?}");
    }
    site.new_customer("Late").await;
    let late = ledger.resource(&site.schema, path(Resource::Entries(1), last.size - 256 + 1)).await;
    assert!(matches!(late, Err(LedgerError::NotYet)), "{late:?}");

    // The platform's own log is one as well.
    let platform = Schema::platform();
    let of_platform = ledger.checkpoint_now(&platform).await.unwrap();
    assert_eq!(of_platform.origin, "book.example:8443/platform");
    assert_sound(&ledger, &platform).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_seal_and_sign_at_once_make_one_tree() {
    let site = Site::open().await;
    let nodes = [process(&site), Ledger::new(site.second_store().await, URL), process(&site)];
    let writing = async {
        for _ in 0..15 {
            grow(&site, 6).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let tending = |ledger: Ledger, schema: Schema| async move {
        for _ in 0..60 {
            match ledger.tend(&schema, AT_ONCE).await {
                Ok(_) | Err(LedgerError::Contended) => {}
                Err(error) => panic!("{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let [a, b, c] = nodes.clone().map(|ledger| tokio::spawn(tending(ledger, site.schema.clone())));
    writing.await;
    for task in [a, b, c] {
        task.await.unwrap();
    }
    for ledger in &nodes {
        ledger.checkpoint_now(&site.schema).await.unwrap();
        assert_sound(ledger, &site.schema).await;
    }
    assert!(checkpoints(site.owner(), &site.schema).await.len() > 5);
}

#[tokio::test]
async fn a_quiet_log_is_signed_at_its_heartbeat_and_a_busy_one_not_all_the_time() {
    let site = Site::open().await;
    let ledger = process(&site);
    let slow = Timing { at_most: Duration::from_secs(3_600), heartbeat: Duration::from_secs(7_200) };
    assert_eq!(ledger.tend(&site.schema, slow).await.unwrap(), None);
    let first = ledger.latest(&site.schema).await.unwrap().unwrap();
    assert_eq!(ledger.tend(&site.schema, slow).await.unwrap(), None);
    site.new_customer("Grace").await;
    let wait = ledger.tend(&site.schema, slow).await.unwrap().unwrap();
    assert!(wait > Duration::from_secs(3_500) && wait <= slow.at_most, "{wait:?}");
    assert_eq!(ledger.latest(&site.schema).await.unwrap().unwrap(), first);
    let beating = Timing { at_most: Duration::ZERO, heartbeat: Duration::ZERO };
    ledger.tend(&site.schema, beating).await.unwrap();
    let second = ledger.latest(&site.schema).await.unwrap().unwrap();
    assert_eq!(second.size, first.size + 1);
    ledger.tend(&site.schema, beating).await.unwrap();
    let third = ledger.latest(&site.schema).await.unwrap().unwrap();
    assert_eq!((third.size, third.root), (second.size, second.root));
    assert!(third.at > second.at);
    assert_sound(&ledger, &site.schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_signed_lately_is_left_alone_until_it_may_be_signed_again() {
    let site = Site::open().await;
    let (ledger, stop) = (process(&site), CancellationToken::new());
    let settings = WorkerSettings {
        ledger_seal: Duration::from_millis(10),
        ledger_sign: Duration::from_secs(3_600),
        ..WorkerSettings::default()
    };
    let directory = TenantDirectory::new(site.store.database().clone());
    let worker = tokio::spawn(workers::ledger::run(ledger.clone(), directory, settings, stop.clone()));
    let number = async |of: &str| -> i64 {
        sqlx::query_scalar(&site.schema.sql(of)).fetch_one(site.owner()).await.unwrap()
    };
    let head = async || number("SELECT position FROM {s}.log_head").await;
    let sealed = async || number("SELECT size FROM {s}.ledger_head").await;
    let signed = async || number("SELECT coalesce(max(size), 0) FROM {s}.ledger_checkpoints").await;
    let signed_once = async || signed().await == head().await;
    eventually("it is signed", Duration::from_secs(30), signed_once).await;
    let first = signed().await;
    for _ in 0..20 {
        site.new_customer("Grace").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sealed().await < head().await, "sealed all the time");
    // So many are not put off.
    for _ in 0..20 {
        join_all((0..50).map(|_| site.new_customer("Ada"))).await;
    }
    let taken = async || sealed().await >= first + 1_000;
    eventually("a part is sealed", Duration::from_secs(30), taken).await;
    assert_eq!(signed().await, first);
    stop.cancel();
    worker.await.unwrap();
    // What this process has not seen signed, what may be signed at once: neither waits.
    let (hourly, head) = (Timing { at_most: Duration::from_secs(3_600), ..AT_ONCE }, head().await);
    assert_eq!(process(&site).rest(&site.schema, head, hourly), None);
    ledger.checkpoint_now(&site.schema).await.unwrap();
    assert_eq!(ledger.rest(&site.schema, head, AT_ONCE), None);
    assert!(ledger.rest(&site.schema, head + 999, hourly).is_some());
    assert_eq!(ledger.rest(&site.schema, head + 1_000, hourly), None);
    assert_sound(&ledger, &site.schema).await;
}

#[tokio::test]
async fn an_edited_leaf_is_never_signed_also_with_all_tiles_made_anew() {
    let site = Site::open().await;
    grow(&site, 3).await;
    process(&site).checkpoint_now(&site.schema).await.unwrap();
    let sql = "UPDATE {s}.events SET leaf = set_byte(leaf, 40, get_byte(leaf, 40) # 1) WHERE position = 2";
    hack(site.owner(), &site.schema, &["events"], sql).await;
    let all = hashes(site.owner(), &site.schema).await;
    let forged = Tiles::over(&all).unwrap();
    let tile = hex::encode(forged.get(TileId { level: 0, number: 0 }).unwrap());
    let sql = format!(
        "UPDATE {{s}}.ledger_tiles SET hashes = decode('{tile}', 'hex') WHERE level = 0 AND number = 0"
    );
    hack(site.owner(), &site.schema, &["ledger_tiles"], &sql).await;
    // Asked to sign it, now or later, by this process or another one.
    for _ in 0..2 {
        let ledger = process(&site);
        assert_eq!(cause(ledger.checkpoint_now(&site.schema).await), Cause::CheckpointInconsistent);
        site.new_customer("Later").await;
        assert_eq!(cause(ledger.tend(&site.schema, AT_ONCE).await), Cause::CheckpointInconsistent);
    }
    assert_eq!(checkpoints(site.owner(), &site.schema).await.len(), 1);
    // Nor is a proof given that would not hold.
    assert_eq!(cause(process(&site).inclusion(&site.schema, 1, None).await), Cause::TreeMismatch);
}

#[tokio::test]
async fn what_the_signer_remembers_is_as_it_was_written_or_refused() {
    let site = Site::open().await;
    let platform = Schema::platform();
    process(&site).checkpoint_now(&site.schema).await.unwrap();
    let log = format!("log_id = '{}'", site.tenant);
    let keep = "CREATE TABLE {s}.kept AS SELECT * FROM {s}.ledger_signer";
    hack(site.owner(), &platform, &[], keep).await;
    let again = "DELETE FROM {s}.ledger_signer; INSERT INTO {s}.ledger_signer SELECT * FROM {s}.kept";
    for edit in [
        "size = size - 1",
        "size = 0, root = decode(repeat('00', 32), 'hex')",
        "root = set_byte(root, 0, get_byte(root, 0) # 1)",
        "note = replace(note, 'book', 'look')",
        "signed_at = signed_at - interval '1 day'",
        "seal = set_byte(seal, 0, get_byte(seal, 0) # 1)",
        "origin = 'evil.example/t/1'",
        "log_id = gen_random_uuid()",
    ] {
        let sql = format!("UPDATE {{s}}.ledger_signer SET {edit} WHERE {log}");
        hack(site.owner(), &platform, &["ledger_signer"], &sql).await;
        let ledger = process(&site);
        assert_eq!(cause(ledger.checkpoint_now(&site.schema).await), Cause::SignerStateInvalid, "{edit}");
        assert_eq!(cause(ledger.tend(&site.schema, AT_ONCE).await), Cause::SignerStateInvalid, "{edit}");
        hack(site.owner(), &platform, &["ledger_signer"], again).await;
    }
    process(&site).checkpoint_now(&site.schema).await.unwrap();
    assert_sound(&process(&site), &site.schema).await;
}

#[tokio::test]
async fn a_log_whose_memory_was_taken_away_is_not_begun_anew() {
    let site = Site::open().await;
    let platform = Schema::platform();
    let (ledger, owner) = (process(&site), site.owner());
    ledger.checkpoint_now(&site.schema).await.unwrap();
    ledger.sign_heads(&HeadCopy::none(), Duration::ZERO).await.unwrap();
    let gone = format!("DELETE FROM {{s}}.ledger_signer WHERE log_id = '{}'", site.tenant);
    hack(owner, &platform, &["ledger_signer"], &gone).await;
    let refused = async |what: &str| {
        let result = process(&site).checkpoint_now(&site.schema).await;
        let error = result.unwrap_err();
        assert_eq!(error.cause(), Some(Cause::SignerStateInvalid), "{what}");
        error.to_string()
    };
    // To the process that signed it as well, which remembers that there was one.
    let same = ledger.checkpoint_now(&site.schema).await.unwrap_err();
    assert!(same.to_string().contains("what was remembered is gone"), "{same}");
    assert!(refused("the row").await.contains("the log has checkpoints"));
    // With each further trace taken away another one says it.
    hack(owner, &site.schema, &["ledger_checkpoints"], "DELETE FROM {s}.ledger_checkpoints").await;
    assert!(refused("and its checkpoints").await.contains("keys have signed"));
    let keys = format!("DELETE FROM {{s}}.ledger_verifier_keys WHERE origin LIKE '%{}'", site.tenant);
    hack(owner, &platform, &["ledger_verifier_keys"], &keys).await;
    assert!(refused("and its keys").await.contains("the log of heads names"));
    // The log of heads goes on naming it, and says that it is missing.
    let turn = process(&site).sign_heads(&HeadCopy::none(), Duration::ZERO).await.unwrap();
    let alarms: Vec<_> = turn.alarms.iter().map(|alarm| alarm.cause.as_str()).collect();
    assert_eq!(alarms, ["tenant_missing"]);
    let proof = process(&site).head_proof(&site.schema).await.unwrap().unwrap();
    assert!(proof.head.contains(&site.tenant.to_string()));
}

#[tokio::test]
async fn a_log_that_was_set_back_is_refused_before_and_after_it_grew_again() {
    let site = Site::open().await;
    let (ledger, owner) = (process(&site), site.owner());
    ledger.checkpoint_now(&site.schema).await.unwrap();
    let backup = "CREATE TABLE {s}.kept_events AS SELECT * FROM {s}.events;
        CREATE TABLE {s}.kept_tiles AS SELECT * FROM {s}.ledger_tiles; CREATE TABLE {s}.kept_head AS SELECT * FROM {s}.ledger_head;
        CREATE TABLE {s}.kept_position AS SELECT * FROM {s}.log_head; CREATE TABLE {s}.kept_streams AS SELECT * FROM {s}.streams";
    hack(owner, &site.schema, &[], backup).await;
    grow(&site, 3).await;
    let last = ledger.checkpoint_now(&site.schema).await.unwrap();
    let restore = "DELETE FROM {s}.events; INSERT INTO {s}.events SELECT * FROM {s}.kept_events;
        DELETE FROM {s}.ledger_tiles; INSERT INTO {s}.ledger_tiles SELECT * FROM {s}.kept_tiles;
        UPDATE {s}.ledger_head h SET size = k.size FROM {s}.kept_head k;
        UPDATE {s}.log_head h SET position = k.position FROM {s}.kept_position k;
        DELETE FROM {s}.sealed_values v WHERE v.position > (SELECT position FROM {s}.kept_position);
        DELETE FROM {s}.streams; INSERT INTO {s}.streams SELECT * FROM {s}.kept_streams";
    hack(owner, &site.schema, &["events", "ledger_tiles", "ledger_head"], restore).await;
    for ledger in [ledger.clone(), process(&site)] {
        assert_eq!(cause(ledger.tend(&site.schema, AT_ONCE).await), Cause::TailMissing);
        assert_eq!(cause(ledger.checkpoint_now(&site.schema).await), Cause::TailMissing);
    }
    // A server that remembers nothing of the lost events writes on.
    let store = site.second_store().await;
    for _ in 0..5 {
        let command = Command::create(
            Uuid::now_v7(),
            CustomerCommand::Register { name: Name::new("Eve", "").unwrap(), email: None, phone: None },
        );
        store.execute(&site.schema, Unit::of(command, by("test"))).await.unwrap();
    }
    let ledger = process(&site);
    assert_eq!(cause(ledger.checkpoint_now(&site.schema).await), Cause::CheckpointInconsistent);
    assert_eq!(ledger.latest(&site.schema).await.unwrap(), Some(last));
}

#[tokio::test]
async fn rows_of_two_tenants_that_were_exchanged_are_refused() {
    let site = Site::open().await;
    let other = Schema::tenant(site.admin.create(new_tenant("other"), &by("test")).await.unwrap());
    let (platform, owner) = (Schema::platform(), site.owner());
    for schema in [&site.schema, &other] {
        process(&site).checkpoint_now(schema).await.unwrap();
    }
    let (a, b) = (site.tenant, other.tenant_id().unwrap());
    let keep = "CREATE TABLE {s}.kept AS SELECT * FROM {s}.ledger_signer";
    hack(owner, &platform, &[], keep).await;
    let other_of = format!("CASE WHEN k.log_id = '{a}' THEN '{b}'::uuid ELSE '{a}'::uuid END");
    for swap in [
        // The rows under each other's ids; and only what they say.
        format!(
            "DELETE FROM {{s}}.ledger_signer; INSERT INTO {{s}}.ledger_signer
             SELECT origin, {other_of}, size, root, note, signed_at, seal FROM {{s}}.kept k"
        ),
        format!(
            "UPDATE {{s}}.ledger_signer r SET size = k.size, root = k.root, note = k.note, signed_at = k.signed_at, seal = k.seal
             FROM {{s}}.kept k WHERE r.log_id = {other_of}"
        ),
    ] {
        hack(owner, &platform, &["ledger_signer"], &swap).await;
        for schema in [&site.schema, &other] {
            assert_eq!(cause(process(&site).checkpoint_now(schema).await), Cause::SignerStateInvalid);
        }
    }
}

#[tokio::test]
async fn a_gap_is_not_sealed() {
    let site = Site::open().await;
    process(&site).checkpoint_now(&site.schema).await.unwrap();
    grow(&site, 3).await;
    let head = site.head().await;
    let sql = format!("DELETE FROM {{s}}.events WHERE position = {}", head - 1);
    hack(site.owner(), &site.schema, &["events"], &sql).await;
    assert_eq!(cause(process(&site).tend(&site.schema, AT_ONCE).await), Cause::MissingEvent);
    let sql = format!("DELETE FROM {{s}}.events WHERE position = {head}");
    hack(site.owner(), &site.schema, &["events"], &sql).await;
    assert_eq!(cause(process(&site).tend(&site.schema, AT_ONCE).await), Cause::MissingEvent);
    let sql = "UPDATE {s}.log_head SET position = 0";
    hack(site.owner(), &site.schema, &[], sql).await;
    assert_eq!(cause(process(&site).tend(&site.schema, AT_ONCE).await), Cause::TailMissing);
}

#[tokio::test]
async fn a_checkpoint_that_its_log_has_not_heard_of_is_noted_there_later() {
    let site = Site::open().await;
    process(&site).checkpoint_now(&site.schema).await.unwrap();
    site.new_customer("Grace").await;
    let last = process(&site).checkpoint_now(&site.schema).await.unwrap();
    // As if the process had ended between the two transactions.
    let sql = format!("DELETE FROM {{s}}.ledger_checkpoints WHERE size = {}", last.size);
    hack(site.owner(), &site.schema, &["ledger_checkpoints"], &sql).await;
    let slow = Timing { at_most: Duration::from_secs(3_600), heartbeat: Duration::from_secs(3_600) };
    process(&site).tend(&site.schema, slow).await.unwrap();
    assert_eq!(checkpoints(site.owner(), &site.schema).await.last(), Some(&last));
    assert_sound(&process(&site), &site.schema).await;
}

#[tokio::test]
async fn while_keys_are_rotated_those_of_before_and_after_vouch_for_what_is_signed() {
    let site = Site::open().await;
    let ledger = process(&site);
    let now = "2026-11-21T12:00:00Z".parse().unwrap();
    let mut vkeys: Vec<String> = Vec::new();
    let mut notes: Vec<Checkpoint> = Vec::new();
    for round in 0..4 {
        if round > 0 {
            site.keys.rotate(now).unwrap();
        }
        site.new_customer("Grace").await;
        notes.push(ledger.checkpoint_now(&site.schema).await.unwrap());
        vkeys = ledger.verifier_keys(&site.schema).await.unwrap().into_iter().map(|key| key.vkey).collect();
        assert_eq!(vkeys.len(), round + 1);
    }
    let origin = &notes[0].origin;
    for (round, note) in notes.iter().enumerate() {
        for (made, vkey) in vkeys.iter().enumerate() {
            // By the key of its time and the one before.
            let signed = made == round || made + 1 == round;
            assert_eq!(Checkpoint::verify(&note.note, origin, &[vkey]).is_ok(), signed, "{made} of {round}");
        }
    }
    let live: Vec<bool> =
        ledger.verifier_keys(&site.schema).await.unwrap().iter().map(|key| key.live).collect();
    assert_eq!(live, [false, false, true, true]);
    assert_sound(&ledger, &site.schema).await;
    // A key that somebody else lists is not handed on.
    let forged = format!(
        "INSERT INTO {{s}}.ledger_verifier_keys SELECT origin, 'ffffffffffffffff', vkey, first_used_at, seal
         FROM {{s}}.ledger_verifier_keys WHERE origin = '{origin}' LIMIT 1"
    );
    hack(site.owner(), &Schema::platform(), &[], &forged).await;
    assert_eq!(cause(ledger.verifier_keys(&site.schema).await), Cause::SignerStateInvalid);
}

#[tokio::test]
async fn whatever_happens_in_whatever_order_every_checkpoint_goes_on_from_those_before() {
    let site = Site::open().await;
    let mut dice = Dice::from_env("ledger");
    let mut ledger = process(&site);
    let now = "2026-11-21T12:00:00Z".parse().unwrap();
    let mut expected = BTreeSet::new();
    for _ in 0..40 {
        match dice.below(6) {
            0 | 1 => grow(&site, dice.below(40)).await,
            2 => drop(ledger.seal(&site.schema).await.unwrap()),
            3 => drop(ledger.tend(&site.schema, AT_ONCE).await.unwrap()),
            4 => drop(expected.insert(ledger.checkpoint_now(&site.schema).await.unwrap().note)),
            _ => {
                site.keys.rotate(now).unwrap();
                ledger = process(&site);
            }
        }
    }
    ledger.checkpoint_now(&site.schema).await.unwrap();
    assert_sound(&ledger, &site.schema).await;
    let kept: BTreeSet<String> =
        checkpoints(site.owner(), &site.schema).await.into_iter().map(|checkpoint| checkpoint.note).collect();
    assert!(kept.is_superset(&expected));
}

#[tokio::test]
async fn the_tables_take_nothing_back() {
    let site = Site::open().await;
    grow(&site, 3).await;
    process(&site).checkpoint_now(&site.schema).await.unwrap();
    for sql in [
        "UPDATE {s}.ledger_tiles SET hashes = substring(hashes FROM 1 FOR 32)",
        "UPDATE {s}.ledger_tiles SET hashes = decode(repeat('00', 8192), 'hex')",
        "DELETE FROM {s}.ledger_tiles",
        "TRUNCATE {s}.ledger_tiles",
        "UPDATE {s}.ledger_head SET size = size - 1",
        "UPDATE {s}.ledger_checkpoints SET note = ''",
        "DELETE FROM {s}.ledger_checkpoints",
    ] {
        let refused = sqlx::raw_sql(&site.schema.sql(sql)).execute(site.owner()).await;
        let sqlx::Error::Database(error) = refused.unwrap_err() else { panic!("{sql}") };
        assert_eq!(error.code().as_deref(), Some("42501"), "{sql}");
    }
}
