//! Group commit and idempotency keys: what one command does never shows in another's answer.

use std::time::Duration;

use daybook::eventstore::{Command, Committed, StoreError, Unit};
use daybook_domain::{BookingId, DomainError, booking::BookingCommand};
use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::site::{Site, assert_no_double_booking, by, keyed, new_tenant, took, wait_until_blocked};

type Waiting = oneshot::Receiver<Result<Committed, StoreError>>;

/// Holds the log's head, so that everything submitted meanwhile is one batch.
struct Held {
    connection: PgConnection,
}

impl Held {
    /// Takes the head, and lets the lane run into it with a first unit.
    async fn hold(site: &Site, first: Unit) -> (Self, Waiting) {
        let mut connection = PgConnection::connect_with(&site.db.owner_options).await.unwrap();
        let lock = site.schema.sql("BEGIN; SELECT 1 FROM {s}.log_head FOR UPDATE");
        sqlx::raw_sql(&lock).execute(&mut connection).await.unwrap();
        let first = site.store.submit(&site.schema, first).await.unwrap();
        wait_until_blocked(site.owner(), 1).await;
        (Self { connection }, first)
    }

    async fn release(mut self) {
        sqlx::raw_sql("COMMIT").execute(&mut self.connection).await.unwrap();
    }
}

fn of(command: Command) -> Unit {
    Unit::of(command, by("test"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_refused_by_its_rules_never_fails_its_batch() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let before = site.head().await;
    let (held, first) = Held::hold(&site, of(site.book(offering, 0, 1))).await;
    let mut waiting = Vec::new();
    for n in 1..60_u64 {
        let command = match n % 3 {
            // Every third asks for a night of its own, one for the first night, one for what does not exist.
            0 => site.book(offering, n, 1),
            1 => site.book(offering, 0, 1),
            _ => Command::to(BookingId(Uuid::now_v7()), BookingCommand::Confirm),
        };
        waiting.push((n, site.store.submit(&site.schema, of(command)).await.unwrap()));
    }
    held.release().await;
    first.await.unwrap().unwrap();
    let mut recorded = Vec::new();
    for (n, answer) in waiting {
        let answer = answer.await.unwrap();
        match n % 3 {
            0 => recorded.push(answer.unwrap().recorded_at),
            1 => assert!(!took(&answer)),
            _ => assert!(matches!(
                answer,
                Err(StoreError::Refused { error: DomainError::NotFound { .. }, .. })
            )),
        }
    }
    assert!(recorded.windows(2).all(|pair| pair[0] == pair[1]), "they were not one batch");
    assert_eq!(site.assert_gap_free().await, before + 1 + recorded.len() as i64);
    assert_no_double_booking(site.owner(), &site.schema).await;
}

/// A claim that appears behind the lane's back, without an event: only the database's guard knows of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_safety_net_fails_only_the_command_that_fell_into_it() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    site.run(site.book(offering, 0, 1)).await.unwrap();
    let before = site.head().await;
    let sneak = site.schema.sql(
        "INSERT INTO {s}.slot_claims (booking_id, resource_id, starts_at, ends_at)
         VALUES (gen_random_uuid(), $1, '2031-03-11T12:00:00Z', '2031-03-11T13:00:00Z')",
    );
    sqlx::query(&sneak).bind(unit.0).execute(site.owner()).await.unwrap();

    let (held, first) = Held::hold(&site, of(site.book(offering, 1, 1))).await;
    let mut waiting = Vec::new();
    for n in 8..13 {
        waiting.push((n, site.store.submit(&site.schema, of(site.book(offering, n, 1))).await.unwrap()));
    }
    held.release().await;
    first.await.unwrap().unwrap();
    for (n, answer) in waiting {
        assert_eq!(took(&answer.await.unwrap()), n != 10, "night {n}");
    }
    assert_eq!(site.assert_gap_free().await, before + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_is_answered_as_before_and_done_once() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let run = async |unit: Unit| site.store.execute(&site.schema, unit).await;

    let first = run(keyed(site.book(offering, 0, 2), "caller POST /bookings", "k", 1)).await.unwrap();
    let lost = run(keyed(site.book(offering, 0, 2), "caller POST /bookings", "l", 1)).await;
    assert!(!took(&lost));
    // The booking moves on, and the slot becomes free: the answers stay what they were.
    let id = first.changed[0].id;
    site.run(Command::to(id, BookingCommand::Cancel { waive_fee: false })).await.unwrap();
    let before = site.head().await;

    let again = run(keyed(site.book(offering, 0, 2), "caller POST /bookings", "k", 1)).await.unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!(
        (again.first_position, again.last_position, again.recorded_at),
        (first.first_position, first.last_position, first.recorded_at)
    );
    assert_eq!((again.changed[0].id, again.changed[0].sequence), (id, 1));
    assert_eq!(again.changed[0].state, first.changed[0].state, "the booking as it was then");
    let refused = run(keyed(site.book(offering, 0, 2), "caller POST /bookings", "l", 1)).await;
    assert!(
        matches!(refused, Err(StoreError::Refused { error: DomainError::SlotTaken, replayed: true })),
        "{refused:?}"
    );
    assert_eq!(site.head().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused_and_does_nothing() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let run = async |unit: Unit| site.store.execute(&site.schema, unit).await;
    run(keyed(site.book(offering, 0, 1), "scope", "k", 1)).await.unwrap();
    let before = site.head().await;
    let other = run(keyed(site.book(offering, 5, 1), "scope", "k", 2)).await;
    assert!(matches!(other, Err(StoreError::KeyReused)), "{other:?}");
    assert_eq!(site.head().await, before);
    // Another caller's or route's key of the same text is another key.
    assert!(!run(keyed(site.book(offering, 5, 1), "other scope", "k", 2)).await.unwrap().replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_flight_is_refused_until_it_is_answered() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let (held, first) = Held::hold(&site, keyed(site.book(offering, 0, 1), "scope", "k", 1)).await;
    for hash in [1, 2] {
        let second =
            site.store.submit(&site.schema, keyed(site.book(offering, 0, 1), "scope", "k", hash)).await;
        assert!(matches!(second, Err(StoreError::KeyInFlight)), "{second:?}");
    }
    let other_key = keyed(site.book(offering, 1, 1), "scope", "other", 1);
    let other_key = site.store.submit(&site.schema, other_key).await.unwrap();
    held.release().await;
    let first = first.await.unwrap().unwrap();
    other_key.await.unwrap().unwrap();
    let repeat = keyed(site.book(offering, 0, 1), "scope", "k", 1);
    let repeat = site.store.execute(&site.schema, repeat).await.unwrap();
    assert!(repeat.replayed);
    assert_eq!(repeat.last_position, first.last_position);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_key_is_another_key() {
    let site = Site::open().await;
    let other = site.admin.create(new_tenant("other"), &by("test")).await.unwrap();
    let other = daybook::tenancy::Schema::tenant(other);
    let register = || {
        let name = daybook_domain::Name::new("Grace", "").unwrap();
        Command::create(
            Uuid::now_v7(),
            daybook_domain::customer::CustomerCommand::Register { name, email: None, phone: None },
        )
    };
    let run = async |schema, hash| site.store.execute(schema, keyed(register(), "scope", "k", hash)).await;
    let mine = run(&site.schema, 1).await.unwrap();
    let theirs = run(&other, 2).await.unwrap();
    assert!(!theirs.replayed);
    assert_ne!(mine.changed[0].id, theirs.changed[0].id);
    assert_eq!(run(&site.schema, 1).await.unwrap().changed[0].id, mine.changed[0].id);
    assert!(matches!(run(&other, 1).await, Err(StoreError::KeyReused)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_under_one_key_do_it_once() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let pool = site.resource(100).await;
    let offering = site.offering(&[pool]).await;
    let before = site.head().await;
    for n in 0..20 {
        let key = format!("key-{n}");
        let (a, b) = (
            keyed(site.book(offering, n, 1), "scope", &key, 1),
            keyed(site.book(offering, n, 1), "scope", &key, 1),
        );
        let (a, b) = tokio::join!(site.store.execute(&site.schema, a), other.execute(&site.schema, b));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(a.replayed != b.replayed, "done twice or never");
        assert_eq!(a.changed[0].id, b.changed[0].id);
    }
    assert_eq!(site.assert_gap_free().await, before + 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_does_not_undo_its_command() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let before = site.head().await;
    let (held, first) = Held::hold(&site, of(site.book(offering, 0, 1))).await;
    let gone = keyed(site.book(offering, 1, 1), "scope", "k", 1);
    let gone = tokio::time::timeout(Duration::from_millis(20), site.store.execute(&site.schema, gone)).await;
    assert!(gone.is_err(), "it is still waiting");
    drop(first);
    held.release().await;
    // The next unit is behind both.
    site.run(site.book(offering, 2, 1)).await.unwrap();
    assert_eq!(site.assert_gap_free().await, before + 3);
    let again = keyed(site.book(offering, 1, 1), "scope", "k", 1);
    assert!(site.store.execute(&site.schema, again).await.unwrap().replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_what_is_queued_and_takes_no_more() {
    let site = Site::open().await;
    let pool = site.resource(50).await;
    let offering = site.offering(&[pool]).await;
    let before = site.head().await;
    let (held, first) = Held::hold(&site, of(site.book(offering, 0, 1))).await;
    let waiting =
        join_all((1..30).map(|n| site.store.submit(&site.schema, of(site.book(offering, n, 1))))).await;
    let shutdown = tokio::spawn({
        let store = site.store.clone();
        async move { store.shutdown().await }
    });
    while !matches!(
        site.store.submit(&site.schema, of(site.book(offering, 99, 1))).await,
        Err(StoreError::ShuttingDown)
    ) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!shutdown.is_finished(), "it waits for what is queued");
    held.release().await;
    shutdown.await.unwrap();
    first.await.unwrap().unwrap();
    for answer in waiting {
        answer.unwrap().await.unwrap().unwrap();
    }
    assert!(site.assert_gap_free().await >= before + 30);
}
