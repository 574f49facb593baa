//! Positions are gap-free and in the order of commits, for every reader and across a dump and restore.

use std::{collections::HashMap, process::Command, sync::Arc};

use daybook::{
    embedded_pg::Binaries,
    eventstore::{
        Command as Ask, EventStore, StreamRef, Unit,
        leaf::Leaf,
        load::{Reader, Until},
    },
    tenancy::{Access, Schema, TenantTx},
};
use daybook_domain::{Name, customer::CustomerCommand, registry::AggregateType};
use futures_util::future::join_all;
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::support::{
    cluster::{TestDb, cluster},
    site::{Dice, Site, assert_gap_free, assert_no_double_booking, by, head, wait_until_blocked},
};

/// Reads what is past a position, as every follower of the log does.
async fn poll(store: &EventStore, schema: &Schema, after: i64) -> Vec<i64> {
    let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await.unwrap();
    let events = Reader::sealed(schema, store.keys()).after(&mut tx, after, 1_000).await.unwrap();
    events.iter().map(|event| event.position).collect()
}

/// A writer of its own connection, as another process is one: the head's lock, an event, the head.
struct OpenWriter {
    connection: PgConnection,
    schema: Schema,
}

impl OpenWriter {
    async fn connect(site: &Site) -> Self {
        let connection = PgConnection::connect_with(&site.db.app_options).await.unwrap();
        Self { connection, schema: site.schema.clone() }
    }

    async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.connection.execute(self.schema.sql(sql).as_str()).await.map(drop)
    }

    /// Begins, takes the head's lock and appends an event, without committing.
    async fn append(&mut self) {
        self.run("BEGIN; SET LOCAL ROLE {s}").await.unwrap();
        let sql = self.schema.sql("SELECT position FROM {s}.log_head FOR UPDATE");
        let (head,): (i64,) = sqlx::query_as(&sql).fetch_one(&mut self.connection).await.unwrap();
        let sql = self.schema.sql("SELECT position, leaf FROM {s}.events WHERE event_type = $1 LIMIT 1");
        let (position, bytes): (i64, Vec<u8>) =
            sqlx::query_as(&sql).bind("resource.created").fetch_one(&mut self.connection).await.unwrap();
        let mut leaf = Leaf::decode(&bytes, position).unwrap();
        leaf.position = (head + 1).to_string();
        leaf.aggregate_id = Uuid::now_v7();
        let insert = self.schema.sql(
            "INSERT INTO {s}.events (position, event_id, aggregate_type, aggregate_id, sequence, event_type,
                                     event_version, recorded_at, actor, leaf)
             VALUES ($1, gen_random_uuid(), 'resource', $2, 1, 'resource.created', 1, clock_timestamp(), 'open', $3)",
        );
        sqlx::query(&insert)
            .bind(head + 1)
            .bind(leaf.aggregate_id)
            .bind(leaf.encode().unwrap())
            .execute(&mut self.connection)
            .await
            .unwrap();
        self.run("UPDATE {s}.log_head SET position = position + 1, recorded_at = clock_timestamp()")
            .await
            .unwrap();
    }
}

/// The schedule that makes a sequence-numbered log skip: A takes n, B takes n + 1 and commits first, a reader
/// polls, then A commits. Here B cannot even begin to take a number before A is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_between_two_open_writers_skips_nothing() {
    let site = Arc::new(Site::open().await);
    site.resource(1).await;
    let start = site.head().await;
    let (mut a, b) = (OpenWriter::connect(&site).await, OpenWriter::connect(&site).await);

    a.append().await;
    let b = tokio::spawn(async move {
        let mut b = b;
        b.append().await;
        b.run("COMMIT").await.unwrap();
    });
    wait_until_blocked(site.owner(), 1).await;
    assert_eq!(poll(&site.store, &site.schema, start).await, [] as [i64; 0], "nothing is committed yet");
    assert!(!b.is_finished(), "a second writer takes a position while the first is open");
    a.run("COMMIT").await.unwrap();
    b.await.unwrap();
    assert_eq!(poll(&site.store, &site.schema, start).await, [start + 1, start + 2]);
    site.assert_gap_free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_gives_up_leaves_no_gap() {
    let site = Site::open().await;
    site.resource(1).await;
    let start = site.head().await;
    let (mut a, mut b) = (OpenWriter::connect(&site).await, OpenWriter::connect(&site).await);
    a.append().await;
    a.run("ROLLBACK").await.unwrap();
    b.append().await;
    // Its connection breaks before it commits.
    b.connection.close_hard().await.unwrap();
    site.resource(1).await;
    assert_eq!(poll(&site.store, &site.schema, start).await, [start + 1]);
    site.assert_gap_free().await;
}

/// Random schedules of open writers that commit, roll back or break, with the lane of a real process between
/// them and a reader that polls after every step.
#[tokio::test(flavor = "multi_thread")]
async fn a_polling_reader_never_skips_a_position_under_any_schedule() {
    let site = Arc::new(Site::open().await);
    let other = site.second_store().await;
    site.resource(1).await;
    let mut dice = Dice::from_env("a_polling_reader_never_skips_a_position_under_any_schedule");
    let start = site.head().await;
    let mut seen = start;
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let mut writer = OpenWriter::connect(&site).await;
        writer.append().await;
        if dice.below(2) == 0 {
            // A lane begins while this writer is open, and has to wait for it.
            let (schema, store) =
                (site.schema.clone(), if dice.below(2) == 0 { other.clone() } else { site.store.clone() });
            lanes.spawn(async move {
                let name = Name::new("Grace", "").unwrap();
                let create = CustomerCommand::Register { name, email: None, phone: None };
                let command = Ask::create(Uuid::now_v7(), create);
                store.execute(&schema, Unit::of(command, by("lane"))).await.unwrap();
            });
            wait_until_blocked(site.owner(), 1).await;
        }
        seen = expect_next(seen, &poll(&site.store, &site.schema, seen).await);
        match dice.below(3) {
            0 => writer.run("ROLLBACK").await.unwrap(),
            1 => writer.connection.close_hard().await.unwrap(),
            _ => writer.run("COMMIT").await.unwrap(),
        }
        seen = expect_next(seen, &poll(&other, &site.schema, seen).await);
    }
    while let Some(done) = lanes.join_next().await {
        done.unwrap();
    }
    seen = expect_next(seen, &poll(&other, &site.schema, seen).await);
    assert_eq!(seen, site.assert_gap_free().await);
    // A third of the dice commit and half of them let a lane write: 33 events, give or take 4.
    assert!(seen > start + 10, "{} events are no schedule", seen - start);
}

fn expect_next(mut seen: i64, positions: &[i64]) -> i64 {
    for position in positions {
        assert_eq!(*position, seen + 1, "a reader that saw {seen} met {position}");
        seen = *position;
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_goes_on_without_a_gap() {
    let site = Site::open().await;
    let pool = site.resource(3).await;
    let offering = site.offering(&[pool]).await;
    for n in 0..5 {
        site.run(site.book(offering, n, 3)).await.unwrap();
    }
    let before = site.assert_gap_free().await;

    let restored = restore(&site.db).await;
    let store = site.store_on(&restored).await;
    let owner = store.database().owner();
    assert_eq!(assert_gap_free(owner, &site.schema).await, before);
    // The guards came along: the pool has one place left on the night that four of five cover.
    for n in 0..5 {
        let result = store.execute(&site.schema, Unit::of(site.book(offering, n, 1), by("restored"))).await;
        assert_eq!(result.is_ok(), n < 2, "night {n}: {result:?}");
    }
    store.execute(&site.schema, Unit::of(site.book(offering, 100, 1), by("restored"))).await.unwrap();
    assert_eq!(assert_gap_free(owner, &site.schema).await, before + 3);
    assert_no_double_booking(owner, &site.schema).await;
    assert_eq!(head(site.owner(), &site.schema).await, before, "the first database is another one");
    let refused = TenantTx::begin(store.database().app(), &site.schema, Access::Write).await;
    let update = sqlx::query("UPDATE events SET actor = 'x'").execute(&mut *refused.unwrap()).await;
    assert!(update.is_err(), "the restored log is append-only as well");
    store.database().close().await;
}

/// A process keeps caches; restoring an older dump under it must not make it append after what is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_shorter_than_remembered_is_read_anew() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let start = site.head().await;
    site.run(site.book(offering, 0, 2)).await.unwrap();
    // The booking was never made, as far as the database knows.
    let forget = site.schema.sql(
        "ALTER TABLE {s}.events DISABLE TRIGGER USER;
         DELETE FROM {s}.events WHERE position > (SELECT position - 1 FROM {s}.log_head);
         ALTER TABLE {s}.events ENABLE TRIGGER USER;
         DELETE FROM {s}.slot_claims; DELETE FROM {s}.bookings;
         DELETE FROM {s}.streams WHERE aggregate_type = 'booking';
         UPDATE {s}.log_head SET position = position - 1",
    );
    sqlx::raw_sql(&forget).execute(site.owner()).await.unwrap();
    site.run(site.book(offering, 0, 2)).await.unwrap();
    assert_eq!(site.assert_gap_free().await, start + 1);
}

/// A second database, filled from a dump of the first. Roles belong to the cluster and are there.
async fn restore(db: &TestDb) -> TestDb {
    let binaries = Binaries::find().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dump");
    let restored = cluster().await.create_database(None).await;
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(binaries.program(program)).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let path = file.to_str().unwrap();
    run("pg_dump", &["--format=custom", "--file", path, &db.owner_url]);
    run("pg_restore", &["--exit-on-error", "--single-transaction", "--dbname", &restored.owner_url, path]);
    restored
}

/// Rows of the log and of its indexes that this connection has read and not yet reported.
async fn rows_read(tx: &mut TenantTx<'_>) -> i64 {
    let sql = "SELECT seq_tup_read + idx_tup_fetch + (
                   SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid))::bigint FROM pg_index WHERE indrelid = relid)
               FROM pg_stat_xact_user_tables WHERE schemaname = current_schema AND relname = 'events'";
    sqlx::query_scalar(sql).fetch_one(&mut **tx).await.unwrap()
}

/// Whoever folds the events of a moment, or decides on a state, needs those streams, and of the rest of the log nothing.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_read_without_the_rest_of_the_log() {
    let site = Site::open().await;
    let offering = site.offering(&[site.resource(1).await]).await;
    let booked = join_all((0..300).map(|night| site.run(site.book(offering, night, 1)))).await;
    let wanted: HashMap<Uuid, i64> =
        booked.iter().step_by(10).map(|booked| (booked.as_ref().unwrap().changed[0].id, 2)).collect();
    for pruned in [false, true] {
        if pruned {
            site.owner_sql(
                "INSERT INTO {s}.audit_prunings (through_position, cut_at, history_days, events, pruned_at)
                 VALUES (1, now(), 90, 1, now())",
            )
            .await;
        }
        // Plans as a worker's: made for the very ids, and for a table that nobody has looked at yet. And the rows of indexes,
        // which are read without their rows of the table to sift those by.
        let mut tx =
            TenantTx::begin(site.store.database().app(), &site.schema, Access::ReadConsistent).await.unwrap();
        let mut reader = Reader::sealed(&site.schema, &site.keys);
        let mut read = vec![rows_read(&mut tx).await];
        let earlier = reader.before(&mut tx, &wanted).await.unwrap();
        assert_eq!(earlier.len(), wanted.len());
        assert!(earlier.is_sorted_by_key(|event| event.position));
        read.push(rows_read(&mut tx).await);
        let ids: Vec<Uuid> = wanted.keys().copied().collect();
        assert_eq!(reader.aggregates(&mut tx, &ids).await.unwrap().len(), wanted.len());
        read.push(rows_read(&mut tx).await);
        let stream = StreamRef { aggregate_type: AggregateType::Booking, id: ids[0] };
        assert_eq!(reader.stream(&mut tx, stream, Until::End).await.unwrap().len(), 1);
        read.push(rows_read(&mut tx).await);
        let read: Vec<i64> = read.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // One of the index and one of the table for each event; a stream is looked up twice, for its first event as well.
        let most = [2 * wanted.len() as i64, 2 * wanted.len() as i64, 4];
        assert!(
            read.iter().zip(most).all(|(read, most)| *read <= most),
            "{read:?} rows, {most:?} wanted (pruned: {pruned})"
        );
    }
}
