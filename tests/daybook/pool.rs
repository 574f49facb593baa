//! The connections that transactions of all tenants take turns on.

use std::time::{Duration, Instant};

use daybook::tenancy::{Access, Schema, TenancyError, TenantTx, database::PoolSettings, pool::Pool};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{sleep, timeout};

use crate::support::{app::eventually, cluster::cluster, site::Site};

async fn site_with(read_connections: u32) -> Site {
    let pools = PoolSettings {
        read_connections,
        write_connections: 1,
        acquire_timeout: Duration::from_secs(2),
        ..PoolSettings::default()
    };
    Site::open_on(cluster().await.create_platform().await, &pools).await
}

async fn begin(pool: &Pool, schema: &Schema) -> TenantTx<'static> {
    TenantTx::begin(pool, schema, Access::Read).await.unwrap()
}

async fn backend(tx: &mut TenantTx<'static>) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **tx).await.unwrap()
}

/// Only the login role itself sees its backends and may end them.
async fn same_login(site: &Site) -> PgConnection {
    PgConnection::connect_with(&site.db.app_options).await.unwrap()
}

/// What PostgreSQL says of a backend, once it says what is expected.
async fn expect_state(site: &Site, backend: i32, expected: Option<&str>) {
    eventually(&format!("backend {backend} is {expected:?}"), Duration::from_secs(5), async || {
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM pg_stat_activity WHERE pid = $1")
            .bind(backend)
            .fetch_optional(&mut same_login(site).await)
            .await
            .unwrap();
        state.as_deref() == expected
    })
    .await;
}

#[tokio::test]
async fn a_tenant_gets_the_connection_it_had() {
    let site = site_with(3).await;
    let pool = site.store.database().app();
    let other = site.second_tenant().await;
    let (mut one, mut two) = (begin(pool, &site.schema).await, begin(pool, &other).await);
    let (first, second) = (backend(&mut one).await, backend(&mut two).await);
    assert_ne!(first, second);
    one.release();
    two.release();
    for _ in 0..3 {
        for (schema, expected) in [(&other, second), (&site.schema, first)] {
            let mut tx = begin(pool, schema).await;
            assert_eq!(backend(&mut tx).await, expected);
            tx.release();
        }
    }
}

#[tokio::test]
async fn a_released_read_has_ended_before_anyone_uses_its_connection() {
    let site = site_with(2).await;
    let pool = site.store.database().app();
    for cut in [false, true] {
        let mut tx = begin(pool, &site.schema).await;
        let backend = backend(&mut tx).await;
        sqlx::query("SELECT count(*) FROM bookings").execute(&mut *tx).await.unwrap();
        if cut {
            drop(tx);
        } else {
            tx.release();
        }
        // Nobody asks for the connection, and no lock is left on the table.
        expect_state(&site, backend, Some("idle")).await;
    }
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed_and_nobody_waits_for_ever() {
    let site = site_with(2).await;
    let pool = site.store.database().app();
    let held = [begin(pool, &site.schema).await, begin(pool, &site.schema).await];
    let asked = Instant::now();
    match TenantTx::begin(pool, &site.schema, Access::Read).await {
        Err(TenancyError::Database { source: sqlx::Error::PoolTimedOut, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(asked.elapsed() >= Duration::from_secs(2));
    let waiting = tokio::spawn({
        let (pool, schema) = (pool.clone(), site.schema.clone());
        async move { TenantTx::begin(&pool, &schema, Access::Read).await.map(TenantTx::release) }
    });
    sleep(Duration::from_millis(50)).await;
    held.into_iter().for_each(TenantTx::release);
    waiting.await.unwrap().unwrap();
}

/// The one connection is busy with what nobody waits for any more; the next request gets it clean, when it is free.
#[tokio::test]
async fn a_statement_that_was_cut_off_does_not_meet_the_next_request() {
    let site = site_with(1).await;
    let pool = site.store.database().app();
    let mut tx = begin(pool, &site.schema).await;
    let slow = sqlx::query("SELECT pg_sleep(0.4)").execute(&mut *tx);
    assert!(timeout(Duration::from_millis(50), slow).await.is_err());
    drop(tx);
    assert_eq!(pool.idle(), 0, "it is still busy");
    let mut next = begin(pool, &Schema::platform()).await;
    let (user, fresh): (String, bool) =
        sqlx::query_as("SELECT current_user::text, now() > statement_timestamp() - interval '300 ms'")
            .fetch_one(&mut *next)
            .await
            .unwrap();
    assert_eq!((user.as_str(), fresh), (Schema::platform().name(), true));
}

#[tokio::test]
async fn a_connection_that_broke_while_it_was_idle_is_replaced() {
    let site = site_with(3).await;
    let pool = site.store.database().app();
    let mut all =
        [begin(pool, &site.schema).await, begin(pool, &site.schema).await, begin(pool, &site.schema).await];
    let mut backends = Vec::new();
    for tx in &mut all {
        backends.push(backend(tx).await);
    }
    all.into_iter().for_each(TenantTx::release);
    for pid in &backends {
        sqlx::query("SELECT pg_terminate_backend($1)")
            .bind(pid)
            .execute(&mut same_login(&site).await)
            .await
            .unwrap();
        expect_state(&site, *pid, None).await;
    }
    let mut tx = begin(pool, &site.schema).await;
    assert!(!backends.contains(&backend(&mut tx).await));
}

#[tokio::test]
async fn a_closed_pool_has_no_connections() {
    let site = site_with(3).await;
    let pool = site.store.database().app();
    let (mut used, mut idle) = (begin(pool, &site.schema).await, begin(pool, &site.schema).await);
    let backends = [backend(&mut used).await, backend(&mut idle).await];
    idle.release();
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    sleep(Duration::from_millis(50)).await;
    match TenantTx::begin(pool, &site.schema, Access::Read).await {
        Err(TenancyError::Database { source: sqlx::Error::PoolClosed, .. }) => {}
        other => panic!("{other:?}"),
    }
    used.release();
    closing.await.unwrap();
    assert_eq!(pool.idle(), 0);
    for pid in backends {
        expect_state(&site, pid, None).await;
    }
}
