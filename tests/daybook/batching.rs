//! Group commit and idempotency keys: what one command does never shows in another's answer.

use std::{sync::Arc, time::Duration};

use daybook::eventstore::{Command, Committed, StoreError, Unit};
use daybook_domain::{BookingId, DomainError, booking::BookingCommand};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    site::{Site, assert_no_double_booking, by, keyed, new_tenant, took, wait_until_blocked},
};

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

/// What the database will never take fails alone, and is no reason to try again.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_database_refuses_fails_only_its_own_command() {
    let site = Site::open().await;
    let offering = site.offering(&[site.resource(1).await]).await;
    let refuse = "ALTER TABLE {s}.bookings ADD CHECK (check_in <> '2031-03-11') NOT VALID";
    sqlx::raw_sql(&site.schema.sql(refuse)).execute(site.owner()).await.unwrap();
    let before = site.head().await;
    let (held, first) = Held::hold(&site, of(site.book(offering, 1, 1))).await;
    let mut waiting = Vec::new();
    for n in 8..13 {
        waiting.push((n, site.store.submit(&site.schema, of(site.book(offering, n, 1))).await.unwrap()));
    }
    held.release().await;
    first.await.unwrap().unwrap();
    for (n, answer) in waiting {
        match answer.await.unwrap() {
            Ok(_) => assert_ne!(n, 10),
            Err(StoreError::Database { .. }) => assert_eq!(n, 10),
            Err(other) => panic!("night {n}: {other}"),
        }
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

/// The same over HTTP.
mod over_http {
    use super::*;

    struct Shop {
        app: TestApp,
        tenant: TestTenant,
        unit: Uuid,
        offering: Uuid,
        customer: Uuid,
    }

    impl Shop {
        async fn open() -> Self {
            let app = TestApp::start().await;
            let tenant = app.tenant("shop").await;
            let unit = app.resource(&tenant, "Cabin", 1).await;
            let offering = app.nights_offering(&tenant, &[unit]).await;
            let customer = app.customer(&tenant, "Ada").await;
            Self { app, tenant, unit, offering, customer }
        }

        fn stay(&self, check_in: &str, check_out: &str) -> Value {
            TestApp::stay(self.offering, self.customer, check_in, check_out)
        }

        async fn keyed(&self, path: &str, key: &str, body: &Value) -> Answer {
            self.app.post_keyed(&self.tenant, path, key, body).await
        }
    }

    fn is_replay(answer: &Answer) -> bool {
        answer.header("idempotent-replayed") == Some("true")
    }

    #[tokio::test]
    async fn a_repeated_request_gets_the_same_answer_though_the_world_moved_on() {
        let shop = Shop::open().await;
        let body = shop.stay("2031-05-01", "2031-05-03");
        let first = shop.keyed("/bookings", "one", &body).await.expect(201);
        let lost = shop.keyed("/bookings", "two", &body).await.expect_problem(409, "slot_taken");
        assert!(!is_replay(&first) && !is_replay(&lost));
        let cancel = format!("/bookings/{}/cancel", id(&first));
        let cancelled = shop.keyed(&cancel, "one", &json!({})).await.expect(200);
        let head = shop.app.head(&shop.tenant).await;

        let again = shop.keyed("/bookings", "one", &body).await.expect(201);
        assert!(is_replay(&again));
        assert_eq!(again.body, first.body, "confirmed, as it was then");
        for header in ["etag", "x-log-position", "location", "content-type"] {
            assert_eq!(again.header(header), first.header(header), "{header}");
        }
        let refused = shop.keyed("/bookings", "two", &body).await.expect_problem(409, "slot_taken");
        assert!(is_replay(&refused), "also now that the slot is free");
        let again = shop.keyed(&cancel, "one", &json!({})).await.expect(200);
        assert!(is_replay(&again));
        assert_eq!(again.body, cancelled.body);
        assert_eq!(shop.app.head(&shop.tenant).await, head);
        // Another node knows as well.
        let node = shop.app.second_node().await;
        let there = node.post_keyed(&shop.tenant, "/bookings", "one", &body).await.expect(201);
        assert!(is_replay(&there));
        assert_eq!(there.body, first.body);
        node.shut_down().await;
        shop.app.shut_down().await;
    }

    #[tokio::test]
    async fn a_key_is_of_one_body_one_route_and_one_caller() {
        let shop = Shop::open().await;
        let body = shop.stay("2031-05-01", "2031-05-03");
        shop.keyed("/bookings", "key", &body).await.expect(201);
        let head = shop.app.head(&shop.tenant).await;
        let other = shop.stay("2031-06-01", "2031-06-03");
        shop.keyed("/bookings", "key", &other).await.expect_problem(422, "idempotency_key_reused");
        assert_eq!(shop.app.head(&shop.tenant).await, head);
        assert!(!is_replay(&shop.keyed("/customers", "key", &json!({"name": "Grace"})).await.expect(201)));
        let tenant = shop.app.tenant("other").await;
        let theirs =
            shop.app.post_keyed(&tenant, "/customers", "key", &json!({"name": "Eve"})).await.expect(201);
        assert!(!is_replay(&theirs));
        shop.app.shut_down().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_in_flight_is_a_conflict() {
        let shop = Arc::new(Shop::open().await);
        let head = hold_head(&shop).await;
        let body = shop.stay("2031-05-01", "2031-05-03");
        let first = tokio::spawn({
            let (shop, body) = (shop.clone(), body.clone());
            async move { shop.keyed("/bookings", "key", &body).await }
        });
        wait_until_blocked(shop.app.store.database().owner(), 1).await;
        let second = shop.keyed("/bookings", "key", &body).await.expect_problem(409, "idempotency_in_flight");
        assert!(second.header("retry-after").is_some());
        release(head).await;
        let first = first.await.unwrap().expect(201);
        assert_eq!(shop.keyed("/bookings", "key", &body).await.expect(201).body, first.body);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_hangs_up_does_not_undo_its_command() {
        let shop = Shop::open().await;
        let before = shop.app.head(&shop.tenant).await;
        let head = hold_head(&shop).await;
        let body = shop.stay("2031-05-01", "2031-05-03");
        let asked = shop.keyed("/bookings", "key", &body);
        tokio::select! {
            _ = asked => panic!("it cannot be answered yet"),
            () = wait_until_blocked(shop.app.store.database().owner(), 1) => {}
        }
        release(head).await;
        // Its connection is closed by now. The same key waits for what the lane decides, and finds it.
        let found = loop {
            let again = shop.keyed("/bookings", "key", &body).await;
            if again.body["code"] != "idempotency_in_flight" {
                break again.expect(201);
            }
        };
        assert!(is_replay(&found));
        assert_eq!(shop.app.head(&shop.tenant).await, before + 1);
        shop.app.shut_down().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_stops_answers_what_it_has_accepted() {
        let Shop { app, tenant, unit, customer, .. } = Shop::open().await;
        let offering = app.nights_offering(&tenant, &[unit]).await;
        let app = Arc::new(app);
        let second = app.second_node().await;
        let mut head = PgConnection::connect_with(&app.db.owner_options).await.unwrap();
        let lock = tenant.schema().sql("BEGIN; SELECT 1 FROM {s}.log_head FOR UPDATE");
        head.execute(lock.as_str()).await.unwrap();
        let mut asked = tokio::task::JoinSet::new();
        for n in 1..20 {
            let request = second
                .client
                .post(format!("http://{}/api/v1/bookings", second.address))
                .bearer_auth(&tenant.token)
                .json(&TestApp::stay(
                    offering,
                    customer,
                    &format!("2031-05-{n:02}"),
                    &format!("2031-05-{:02}", n + 1),
                ));
            asked.spawn(read(request));
        }
        wait_until_blocked(app.store.database().owner(), 1).await;
        // Every request is with the server, as each holds a connection that it has read from.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (client, address) = (second.client.clone(), second.address);
        let stopped = tokio::spawn(second.shut_down());
        while client.get(format!("http://{address}/healthz")).send().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!stopped.is_finished());
        head.execute("COMMIT").await.unwrap();
        while let Some(answer) = asked.join_next().await {
            answer.unwrap().expect(201);
        }
        stopped.await.unwrap();
        app.assert_gap_free(&tenant).await;
    }

    async fn hold_head(shop: &Shop) -> PgConnection {
        let mut connection = PgConnection::connect_with(&shop.app.db.owner_options).await.unwrap();
        let lock = shop.tenant.schema().sql("BEGIN; SELECT 1 FROM {s}.log_head FOR UPDATE");
        connection.execute(lock.as_str()).await.unwrap();
        connection
    }

    async fn release(mut connection: PgConnection) {
        connection.execute("COMMIT").await.unwrap();
    }
}
