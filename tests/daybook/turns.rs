//! Reads that take turns in one transaction: what the next one may rely on, and what never outlives them.

use std::{
    collections::HashSet,
    future::Future,
    panic::Location,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use chrono::{DateTime, Utc};
use daybook::tenancy::{Access, Schema, TenantTx, database::PoolSettings, pool::Pool};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{sleep, timeout};

use crate::support::{
    app::eventually,
    cluster::cluster,
    site::{Dice, Site},
};

async fn site_with(read_connections: u32) -> Site {
    let pools = PoolSettings { read_connections, write_connections: 1, ..PoolSettings::default() };
    Site::open_on(cluster().await.create_platform().await, &pools).await
}

#[track_caller]
fn here() -> &'static Location<'static> {
    Location::caller()
}

/// What a transaction is: as whom, where, whether it only reads, since when.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Within {
    role: String,
    path: String,
    read_only: String,
    isolation: String,
    since: DateTime<Utc>,
}

async fn within(connection: &mut PgConnection) -> Within {
    sqlx::query_as(
        "SELECT current_user::text AS role, current_setting('search_path') AS path, now() AS since,
                current_setting('transaction_read_only') AS read_only,
                current_setting('transaction_isolation') AS isolation",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

/// Asks for something that is not to be had yet, and is behind whoever asked before.
macro_rules! waiting {
    ($asked:expr) => {{
        let mut asked = Box::pin($asked);
        assert!(once(asked.as_mut()).is_pending(), "nobody was before it");
        asked
    }};
}

fn once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// How many of the pool's connections are in a transaction, once that is what is expected.
async fn expect_in_transaction(site: &Site, expected: i64) {
    eventually(&format!("{expected} are in a transaction"), Duration::from_secs(5), async || {
        // Only the login role itself sees what its backends do.
        let mut asking = PgConnection::connect_with(&site.db.app_options).await.unwrap();
        let found: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'daybook' AND state LIKE 'idle in transaction%'",
        )
        .fetch_one(&mut asking)
        .await
        .unwrap();
        found == expected
    })
    .await;
}

#[tokio::test]
async fn the_next_read_is_in_the_same_transaction_and_sees_what_was_committed_meanwhile() {
    let site = site_with(1).await;
    let pool = site.store.database().app();
    let place = here();
    let mut shared = 0;
    for _ in 0..20 {
        let mut tx = TenantTx::begin_in_turn(pool, &site.schema, place).await.unwrap();
        let first = within(&mut tx).await;
        let customers = "SELECT count(*) FROM customers";
        let before: i64 = sqlx::query_scalar(customers).fetch_one(&mut *tx).await.unwrap();
        site.new_customer("Grace Hopper").await;
        tx.release();
        let mut tx = TenantTx::begin_in_turn(pool, &site.schema, place).await.unwrap();
        let after: i64 = sqlx::query_scalar(customers).fetch_one(&mut *tx).await.unwrap();
        assert_eq!(after, before + 1);
        let second = within(&mut tx).await;
        assert_eq!((second.role.as_str(), second.read_only.as_str()), (site.schema.name(), "on"));
        tx.release();
        shared += i32::from(second == first);
        expect_in_transaction(&site, 0).await;
    }
    assert!(shared > 0, "each read had a transaction of its own");
}

#[tokio::test]
async fn anybody_else_begins_one_of_their_own() {
    let site = site_with(1).await;
    let pool = site.store.database().app();
    let other = site.second_tenant().await;
    let place = here();
    let read_committed = "read committed";
    for (schema, access, expected) in [
        // Other tenants and the platform, from the same place.
        (&other, None, ("on", read_committed)),
        (&Schema::platform(), None, ("on", read_committed)),
        // The same tenant for something else.
        (&site.schema, Some(Access::Read), ("on", read_committed)),
        (&site.schema, Some(Access::ReadConsistent), ("on", "repeatable read")),
        (&site.schema, Some(Access::Write), ("off", read_committed)),
        (&other, Some(Access::Write), ("off", read_committed)),
    ] {
        let mut tx = TenantTx::begin_in_turn(pool, &site.schema, place).await.unwrap();
        let first = within(&mut tx).await;
        let next = waiting!(async {
            match access {
                Some(access) => TenantTx::begin(pool, schema, access).await,
                None => TenantTx::begin_in_turn(pool, schema, place).await,
            }
        });
        tx.release();
        let mut tx = next.await.unwrap();
        let second = within(&mut tx).await;
        assert_eq!(
            (
                second.role.as_str(),
                second.path.as_str(),
                second.read_only.as_str(),
                second.isolation.as_str()
            ),
            (schema.name(), schema.name(), expected.0, expected.1),
            "{access:?}"
        );
        assert_ne!(second.since, first.since, "{access:?}");
        tx.rollback().await.unwrap();
    }
    // From another place in the code.
    let mut tx = TenantTx::begin_in_turn(pool, &site.schema, place).await.unwrap();
    let first = within(&mut tx).await;
    let next = waiting!(TenantTx::begin_in_turn(pool, &site.schema, here()));
    tx.release();
    let mut tx = next.await.unwrap();
    assert_ne!(within(&mut tx).await.since, first.since);
    // In no transaction at all.
    let next = waiting!(pool.acquire(None));
    tx.release();
    let mut connection = next.await.unwrap();
    let login: (String, String) = sqlx::query_as("SELECT current_user::text, session_user::text")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(login.0, login.1);
    assert_eq!(within(&mut connection).await.read_only, "off");
}

#[tokio::test]
async fn a_read_that_failed_or_was_cut_off_is_the_last_of_its_transaction() {
    let site = site_with(1).await;
    let pool = site.store.database().app();
    let place = here();
    for fails in [true, false] {
        let mut tx = TenantTx::begin_in_turn(pool, &site.schema, place).await.unwrap();
        let first = within(&mut tx).await;
        let next = waiting!(TenantTx::begin_in_turn(pool, &site.schema, place));
        if fails {
            assert!(tx.execute("SELECT 1 / 0").await.is_err());
        } else {
            assert!(timeout(Duration::from_millis(10), tx.execute("SELECT pg_sleep(0.1)")).await.is_err());
        }
        drop(tx);
        let mut tx = next.await.unwrap();
        let second = within(&mut tx).await;
        assert_ne!(second.since, first.since);
        assert_eq!((second.role.as_str(), second.read_only.as_str()), (site.schema.name(), "on"));
        tx.release();
        expect_in_transaction(&site, 0).await;
    }
}

#[tokio::test]
async fn no_transaction_lasts_as_long_as_there_are_reads() {
    let site = site_with(1).await;
    let pool = site.store.database().app();
    let place = here();
    let mut tx = TenantTx::begin_in_turn(pool, &site.schema, place).await.unwrap();
    let first = within(&mut tx).await;
    let next = waiting!(TenantTx::begin_in_turn(pool, &site.schema, place));
    sleep(Duration::from_millis(120)).await;
    tx.release();
    let mut tx = next.await.unwrap();
    assert_ne!(within(&mut tx).await.since, first.since);
    // Nor as long as nobody takes what was left for them.
    let first = within(&mut tx).await;
    let next = waiting!(TenantTx::begin_in_turn(pool, &site.schema, place));
    tx.release();
    sleep(Duration::from_millis(120)).await;
    let mut tx = next.await.unwrap();
    assert_ne!(within(&mut tx).await.since, first.since);
}

#[tokio::test]
async fn nothing_is_left_open_when_nobody_reads_any_more() {
    let site = site_with(3).await;
    let pool = site.store.database().app();
    let place = here();
    for given_up in [false, true] {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(TenantTx::begin_in_turn(pool, &site.schema, place).await.unwrap());
        }
        let next = given_up.then(|| waiting!(TenantTx::begin_in_turn(pool, &site.schema, place)));
        held.into_iter().for_each(TenantTx::release);
        drop(next);
        expect_in_transaction(&site, 0).await;
    }
    assert_eq!(pool.idle(), 3);
}

/// A pool that was made where nothing runs beside it has nobody who would end a transaction later.
#[test]
fn without_a_runtime_of_its_own_a_pool_leaves_no_transaction_open() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = runtime();
    let site = made.block_on(site_with(1));
    let pool = Pool::new(site.db.app_options.clone().application_name("daybook"), 1, Duration::from_secs(5));
    made.block_on(async {
        let place = here();
        let mut tx = TenantTx::begin_in_turn(&pool, &site.schema, place).await.unwrap();
        let first = within(&mut tx).await;
        tx.release();
        let mut tx = TenantTx::begin_in_turn(&pool, &site.schema, place).await.unwrap();
        assert_ne!(within(&mut tx).await.since, first.since);
        tx.release();
        expect_in_transaction(&site, 0).await;
    });
}

/// Many readers of two tenants from two places, cut off anywhere, on few connections: each is always its own tenant, and
/// who locks the tables of both places is never in a deadlock with them, nor kept waiting for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_themselves_and_never_block_who_alters_their_tables() {
    let site = Arc::new(site_with(3).await);
    let other = site.second_tenant().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut dice = Dice::from_env("readers_are_themselves_and_never_block_who_alters_their_tables");
    let mut readers = Vec::new();
    for n in 0..16 {
        let (site, over) = (site.clone(), over.clone());
        let (schema, customers) = if n % 2 == 0 { (site.schema.clone(), 1) } else { (other.clone(), 0) };
        let throws: Vec<u64> = (0..64).map(|_| dice.below(24_000)).collect();
        readers.push(tokio::spawn(async move {
            let pool = site.store.database().app();
            let mut seen = Vec::new();
            for throw in throws.into_iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let read = async {
                    if throw % 2 == 0 {
                        read(pool, &schema, here(), "customers", customers).await
                    } else {
                        read(pool, &schema, here(), "bookings", 0).await
                    }
                };
                // A quarter of them are cut off, most somewhere on their way.
                if throw < 6_000 {
                    seen.extend(timeout(Duration::from_micros(throw / 2), read).await.ok());
                } else {
                    seen.push(read.await);
                }
            }
            seen
        }));
    }
    for schema in [&site.schema, &other].repeat(60) {
        let mut tx = site.store.database().owner().begin().await.unwrap();
        for table in ["customers", "bookings"] {
            let lock = schema.sql(&format!("LOCK TABLE {{s}}.{table} IN ACCESS EXCLUSIVE MODE"));
            tx.execute(lock.as_str()).await.unwrap();
        }
        tx.rollback().await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for reader in readers {
        seen.extend(reader.await.unwrap());
    }
    let transactions = seen.iter().collect::<HashSet<_>>().len();
    assert!(transactions < seen.len(), "each of {transactions} reads had a transaction of its own");
    expect_in_transaction(&site, 0).await;
}

/// Reads from a table, and says in which transaction of which backend.
async fn read(
    pool: &Pool,
    schema: &Schema,
    place: &'static Location<'static>,
    table: &str,
    expected: i64,
) -> (i32, DateTime<Utc>) {
    let mut tx = TenantTx::begin_in_turn(pool, schema, place).await.unwrap();
    let sql = format!("SELECT current_user::text, count(*), pg_backend_pid(), now() FROM {table}");
    let (user, rows, backend, since): (String, i64, i32, DateTime<Utc>) =
        sqlx::query_as(&sql).fetch_one(&mut *tx).await.unwrap();
    tx.release();
    assert_eq!((user.as_str(), rows), (schema.name(), expected));
    (backend, since)
}
