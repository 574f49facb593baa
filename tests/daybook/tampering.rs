//! What a superuser of PostgreSQL with its triggers off does to a log, and what verification calls it. Everything is
//! done to a log that has checkpoints, is named in the log of heads, and has a copy of that.

mod checkpoints;
mod gone;
mod heads;
mod leaves;
mod models;
mod tenants;
mod values;

use std::collections::BTreeSet;

use daybook::{
    eventstore::{Command, Committed, EventStore, Receipt, StoreSettings, Unit},
    ledger::{
        Checkpoint, HeadCopy, Ledger,
        verify::{Report, Said, Verification},
    },
    tenancy::Schema,
};
use daybook_domain::{CustomerId, Email, Name, customer::CustomerCommand};
use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::{
    cluster::cluster,
    site::{Site, by, new_tenant},
};

/// How long no entry of the log of heads is needed without a change: never.
const ALWAYS: std::time::Duration = std::time::Duration::ZERO;

/// A log to be tampered with: 300 customers and more, so that its tree has tiles on two levels.
struct Scene {
    site: Site,
    /// The last customer: one that was changed so often that there is a snapshot.
    customer: CustomerId,
    copy: HeadCopy,
    _folder: tempfile::TempDir,
    root: PgConnection,
}

impl Scene {
    async fn set() -> Self {
        let site = Site::open().await;
        let mut root = PgConnection::connect_with(&cluster().await.admin_options().database(&site.db.name))
            .await
            .unwrap();
        sqlx::raw_sql("SET session_replication_role = replica").execute(&mut root).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let copy = HeadCopy::folder(folder.path()).unwrap();
        let mut scene = Self { customer: site.customer, site, copy, _folder: folder, root };
        let pitch = scene.site.resource(1).await;
        scene.site.offering(&[pitch]).await;
        scene.sign().await;
        let many = (0..280)
            .map(async |n| scene.register(&format!("Guest {n}"), &format!("guest-{n}@canary.example")).await);
        join_all(many).await;
        scene.sign().await;
        scene.customer = scene.register("Ada Canary", "ada@canary.example").await;
        for n in 0..12 {
            let update = CustomerCommand::Update {
                name: Some(Name::new(&format!("Ada Canary {n}"), "").unwrap()),
                email: None,
                phone: None,
            };
            scene.run(Command::to(scene.customer, update)).await;
        }
        scene.sign().await;
        scene
    }

    /// The store of a process that has just begun, and makes a snapshot of each fifth state.
    fn store(&self) -> EventStore {
        let settings = StoreSettings { snapshot_every: 5, ..StoreSettings::default() };
        EventStore::new(self.site.store.database().clone(), self.site.keys.clone(), settings)
    }

    /// The ledger of a process that has just begun: it has seen nothing.
    fn ledger(&self) -> Ledger {
        Ledger::new(self.store(), "https://book.example")
    }

    async fn run(&self, command: Command) -> Committed {
        self.store().execute(&self.site.schema, Unit::of(command, by("test"))).await.unwrap()
    }

    async fn register(&self, name: &str, email: &str) -> CustomerId {
        let id = CustomerId(Uuid::now_v7());
        let register = CustomerCommand::Register {
            name: Name::new(name, "").unwrap(),
            email: Some(Email::new(email, "").unwrap()),
            phone: None,
        };
        self.site.run(Command::create(id, register)).await.unwrap();
        id
    }

    /// One more event, of which nothing is signed yet.
    async fn one_more(&self) -> Committed {
        let register =
            CustomerCommand::Register { name: Name::new("Grace", "").unwrap(), email: None, phone: None };
        self.site.run(Command::create(CustomerId(Uuid::now_v7()), register)).await.unwrap()
    }

    /// Signs a checkpoint of both logs, and their heads.
    async fn sign(&self) -> Checkpoint {
        let ledger = self.ledger();
        ledger.checkpoint_now(&Schema::platform()).await.unwrap();
        let checkpoint = ledger.checkpoint_now(&self.site.schema).await.unwrap();
        ledger.sign_heads(&self.copy, ALWAYS).await.unwrap();
        checkpoint
    }

    /// Does as a superuser does; `{s}` is the tenant's schema.
    async fn attack(&mut self, sql: &str) {
        let sql = self.site.schema.sql(sql);
        sqlx::raw_sql(&sql).execute(&mut self.root).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn one<T>(&mut self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let sql = self.site.schema.sql(sql);
        sqlx::query_scalar(&sql)
            .fetch_one(&mut self.root)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn verification(&self) -> Verification {
        Verification::new(self.ledger(), self.copy.clone())
    }

    async fn heads(&self) -> (Report, Said) {
        self.verification().heads().await
    }

    async fn verify(&self) -> Report {
        self.verify_with(&[], &[]).await
    }

    async fn verify_with(&self, receipts: &[Receipt], keys: &[String]) -> Report {
        let verification = self.verification();
        let (_, said) = verification.heads().await;
        let mut wanted = verification.find(&self.site.tenant.to_string()).await.unwrap().unwrap();
        wanted.receipts = receipts.to_vec();
        wanted.keys = keys.to_vec();
        verification.log(&wanted, &said, |_, _| {}).await
    }

    /// Verifies, and expects to find this and nothing else.
    async fn expect(&self, causes: &[&str]) -> Report {
        let report = self.verify().await;
        assert_causes(&report, causes);
        report
    }

    /// Recomputes all tiles of the tenant's tree from its leaves, as somebody does who knows how.
    async fn recompute(&mut self) {
        let leaves: Vec<Vec<u8>> = sqlx::query_scalar(&self.site.schema.sql(
            "SELECT leaf FROM {s}.events WHERE position <= (SELECT size FROM {s}.ledger_head) ORDER BY position",
        ))
        .fetch_all(&mut self.root)
        .await
        .unwrap();
        let hashes: Vec<_> = leaves.iter().map(|leaf| daybook::eventstore::leaf::leaf_hash(leaf)).collect();
        let tiles = daybook::ledger::tree::Tiles::over(&hashes).unwrap();
        for level in 0..2_u8 {
            for number in 0.. {
                let id = daybook::ledger::tree::TileId { level, number };
                let Some(bytes) = tiles.get(id) else { break };
                sqlx::query(
                    &self
                        .site
                        .schema
                        .sql("UPDATE {s}.ledger_tiles SET hashes = $3 WHERE level = $1 AND number = $2"),
                )
                .bind(i16::from(level))
                .bind(i64::try_from(number).unwrap())
                .bind(bytes)
                .execute(&mut self.root)
                .await
                .unwrap();
            }
        }
    }

    /// Keeps every row of every table of both schemas, in the schema `kept`.
    async fn back_up(&mut self) {
        self.attack(&format!("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept; {}", EACH_TABLE.replace(
            "{do}",
            "EXECUTE format('CREATE TABLE kept.%I AS TABLE %I.%I', 'x' || md5(it.oid::text), it.nspname, it.relname)",
        )))
        .await;
    }

    /// Puts the rows back of the schemas whose names are like this.
    async fn restore(&mut self, schemas: &str) {
        let restore = EACH_TABLE.replace(
            "{do}",
            &format!(
                "IF it.nspname LIKE '{schemas}' THEN
                     EXECUTE format('DELETE FROM %I.%I', it.nspname, it.relname);
                     EXECUTE format('INSERT INTO %1$I.%2$I (%4$s) SELECT %4$s FROM kept.%3$I', it.nspname, it.relname, 'x' || md5(it.oid::text), it.columns);
                 END IF"
            ),
        );
        self.attack(&restore).await;
    }
}

const EACH_TABLE: &str = "DO $$ DECLARE it record; BEGIN
    FOR it IN SELECT c.oid, n.nspname, c.relname,
                     (SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
                      WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind = 'r' AND (n.nspname = 'daybook_platform' OR n.nspname ~ '^t_[0-9a-f]{32}$')
    LOOP {do}; END LOOP;
END $$";

/// The expression of a leaf with one text in place of another.
fn leaf_with(old: &str, new: &str) -> String {
    format!(
        r"'\x01'::bytea || convert_to(replace(convert_from(substring(leaf FROM 2), 'UTF8'), '{old}', '{new}'), 'UTF8')"
    )
}

fn causes(report: &Report) -> BTreeSet<&str> {
    report.counts.keys().copied().collect()
}

#[track_caller]
fn assert_causes(report: &Report, expected: &[&str]) {
    assert_eq!(causes(report), expected.iter().copied().collect(), "{report}");
    assert!(report.unchecked.is_empty(), "{report}");
}

/// The positions at which something was found.
fn positions(report: &Report, cause: &str) -> Vec<u64> {
    let of_cause = report.findings.iter().filter(|finding| finding.cause.as_str() == cause);
    of_cause.filter_map(|finding| finding.position).collect()
}

#[tokio::test]
async fn a_log_that_nobody_touched_is_verified_with_all_that_is_in_it() {
    let scene = Scene::set().await;
    let other = Schema::tenant(scene.site.admin.create(new_tenant("other"), &by("test")).await.unwrap());
    // Checkpoints by the key before the rotation, by both, and by the one after it.
    scene.site.keys.rotate(chrono::DateTime::UNIX_EPOCH).unwrap();
    scene.one_more().await;
    scene.ledger().checkpoint_now(&other).await.unwrap();
    let last = scene.sign().await;
    scene.site.keys.rotate(chrono::DateTime::UNIX_EPOCH).unwrap();
    let committed = scene.one_more().await;

    let keys: Vec<String> = scene
        .ledger()
        .verifier_keys(&scene.site.schema)
        .await
        .unwrap()
        .into_iter()
        .map(|key| key.vkey)
        .collect();
    assert_eq!(keys.len(), 3);
    let report = scene.verify_with(&committed.receipts, &keys[..1]).await;
    assert_causes(&report, &[]);
    assert!(report.is_verified());
    assert_eq!((report.size, report.signed, report.checkpoints), (last.size, last.size, 4));
    assert_eq!((report.position, report.events), (last.size + 1, last.size + 1));
    assert_eq!(report.snapshots, 1);
    let by_the_newest = scene.verify_with(&[], &keys[2..]).await;
    assert_causes(&by_the_newest, &["checkpoint_foreign"]);

    let (heads, said) = scene.heads().await;
    assert_causes(&heads, &[]);
    assert_eq!(heads.position, 4);
    let verification = scene.verification();
    let mut names = Vec::new();
    for wanted in verification.logs(&said).await.unwrap() {
        let report = verification.log(&wanted, &said, |done, all| assert!(done <= all)).await;
        assert!(report.is_verified(), "{report}");
        names.push(report.log);
    }
    assert_eq!(names, ["platform", "other", "site"]);
}

/// The text of a checkpoint, signed by somebody else.
fn foreign_note(checkpoint: &Checkpoint, key: &ed25519_dalek::SigningKey) -> String {
    struct Foreign<'a>(&'a str, &'a ed25519_dalek::SigningKey, u32);
    impl signed_note::Signer for Foreign<'_> {
        fn name(&self) -> &str {
            self.0
        }
        fn key_id(&self) -> u32 {
            self.2
        }
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
            Ok(ed25519_dalek::Signer::try_sign(self.1, message)?.to_vec())
        }
    }
    let vkey = signed_note::new_ed25519_verifier_key(&checkpoint.origin, &key.verifying_key());
    let id = signed_note::Verifier::key_id(&signed_note::StandardVerifier::new(&vkey).unwrap());
    let text = signed_note::Note::from_bytes(checkpoint.note.as_bytes()).unwrap().text().to_vec();
    let mut note = signed_note::Note::new(&text, &[]).unwrap();
    note.add_sigs(&[&Foreign(&checkpoint.origin, key, id)]).unwrap();
    String::from_utf8(note.to_bytes()).unwrap()
}
