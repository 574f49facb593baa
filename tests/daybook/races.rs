//! Never a double booking: however many clients, processes and writers race, and whatever the code does.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use daybook::{
    eventstore::{Command, EventStore, StoreSettings, Unit},
    tenancy::{Access, TenantTx},
};
use daybook_domain::{
    BookingId, ResourceId,
    booking::{Booking, BookingCommand},
    registry::Registered as _,
};
use futures_util::future::join_all;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::{
    app::{TestApp, TestTenant},
    site::{Dice, Site, assert_no_double_booking, by, day, nights_from, took, wait_until_blocked},
};

/// What is released and moved makes room for what is taken in the same batch, and the guard sees it so.
#[tokio::test]
async fn one_batch_releases_moves_and_takes_the_same_places() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let booked = |committed: daybook::eventstore::Committed| BookingId(committed.changed[0].id);
    let cancel = || BookingCommand::Cancel { waive_fee: false };
    let to = |from| BookingCommand::Reschedule { when: nights_from(from, 1), resource_id: None };
    let first = booked(site.run(site.book(offering, 100, 1)).await.unwrap());
    let second = booked(site.run(site.book(offering, 101, 1)).await.unwrap());
    // Released and taken; released, moved into and taken behind it; moved away and taken.
    let third = site.book(offering, 100, 1);
    let third_id = BookingId(third.id);
    let fourth = site.book(offering, 101, 1);
    for commands in [
        vec![Command::to(first, cancel()), third],
        vec![Command::to(third_id, cancel()), Command::to(second, to(100)), fourth],
        vec![Command::to(second, to(102)), site.book(offering, 100, 1)],
    ] {
        let unit = Unit { commands, ..Unit::of(site.book(offering, 1, 1), by("test")) };
        site.store.execute(&site.schema, unit).await.unwrap();
    }
    let sql = site.schema.sql("SELECT count(*) FROM {s}.slot_claims");
    let claims: i64 = sqlx::query_scalar(&sql).fetch_one(site.owner()).await.unwrap();
    assert_eq!(claims, 3);
    assert_no_double_booking(site.owner(), &site.schema).await;
    // One that needs a place which the same batch keeps taken is refused whole.
    let commands = vec![Command::to(second, to(103)), site.book(offering, 100, 1)];
    let unit = Unit { commands, ..Unit::of(site.book(offering, 1, 1), by("test")) };
    assert!(site.store.execute(&site.schema, unit).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_commands_race_for_one_unit_and_one_wins() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let before = site.head().await;

    let results = join_all((0..64).map(|_| site.run(site.book(offering, 3, 2)))).await;
    assert_eq!(results.iter().filter(|result| took(result)).count(), 1);
    assert_eq!(site.assert_gap_free().await, before + 1, "the losers leave no event");
    assert_no_double_booking(site.owner(), &site.schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_five_takes_five_of_sixty_four_from_two_processes() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let pool = site.resource(5).await;
    let offering = site.offering(&[pool]).await;

    let results = join_all((0..64).map(|n| {
        let store = if n % 2 == 0 { &site.store } else { &other };
        let unit = Unit::of(site.book(offering, 3, 2), by(&format!("client-{n}")));
        store.execute(&site.schema, unit)
    }))
    .await;
    assert_eq!(results.iter().filter(|result| took(result)).count(), 5);
    site.assert_gap_free().await;
    assert_no_double_booking(site.owner(), &site.schema).await;
}

/// Night n to n+2 for every n: each overlaps its neighbours by one night, so of two neighbours one can stay.
#[tokio::test(flavor = "multi_thread")]
async fn stays_that_each_overlap_the_next_by_a_night_never_share_one() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;

    let results = join_all((0..64).map(|n| {
        let store = if n % 2 == 0 { &site.store } else { &other };
        let unit = Unit::of(site.book(offering, n, 2), by("client"));
        store.execute(&site.schema, unit)
    }))
    .await;
    let taken: Vec<usize> = (0..64).filter(|n| took(&results[*n])).collect();
    assert!(taken.windows(2).all(|pair| pair[1] - pair[0] >= 2), "{taken:?} share a night");
    // Every one that was refused lost to a neighbour, so none could be taken now.
    let free = (0..64_usize).find(|n| taken.iter().all(|other| other.abs_diff(*n) >= 2));
    assert_eq!(free, None, "refused though nothing was in its way");
    assert_no_double_booking(site.owner(), &site.schema).await;
}

/// Sixty-four clients over HTTP, in turn on each node.
async fn sixty_four(nodes: &[&TestApp], tenant: &TestTenant, body: impl Fn(usize) -> Value) -> Taken {
    let answers = join_all((0..64).map(|n| {
        let body = body(n);
        async move { nodes[n % nodes.len()].post(tenant, "/bookings", &body).await }
    }))
    .await;
    let mut all = Taken { clients: Vec::new(), alternatives: Vec::new() };
    for (n, answer) in answers.into_iter().enumerate() {
        if answer.status == 201 {
            all.clients.push(n);
        } else {
            let lost = answer.expect_problem(409, "slot_taken");
            all.alternatives.push(lost.body["alternatives"].as_array().map_or(0, Vec::len));
        }
    }
    all
}

/// Which clients won, and how many alternatives each of the others was told.
struct Taken {
    clients: Vec<usize>,
    alternatives: Vec<usize>,
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_of_two_servers_race_and_as_many_win_as_there_are_units() {
    let app = TestApp::start().await;
    let second = app.second_node().await;
    let tenant = app.tenant("camp").await;
    let customer = app.customer(&tenant, "Ada").await;
    for capacity in [1, 5] {
        let resource = app.resource(&tenant, "Pitch", capacity).await;
        let offering = app.nights_offering(&tenant, &[resource]).await;
        let one = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
        let alone = sixty_four(&[&app], &tenant, |_| one.clone()).await;
        assert_eq!(alone.clients.len(), capacity as usize);
        assert!(alone.alternatives.iter().all(|n| (1..=3).contains(n)), "{:?}", alone.alternatives);
        let other = TestApp::stay(offering, customer, "2031-06-01", "2031-06-03");
        let both = sixty_four(&[&app, &second], &tenant, |_| other.clone()).await;
        assert_eq!(both.clients.len(), capacity as usize);
        assert!(both.alternatives.iter().all(|n| (1..=3).contains(n)), "{:?}", both.alternatives);
        // What was offered instead is really free.
        let lost = app.post(&tenant, "/bookings", &other).await.expect_problem(409, "slot_taken");
        let mut instead = other.clone();
        for member in ["check_in", "check_out", "resource_id"] {
            instead[member] = lost.body["alternatives"][0][member].clone();
        }
        second.post(&tenant, "/bookings", &instead).await.expect(201);
    }
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    // So many that nothing may be left near enough to be offered instead.
    let overlapping = sixty_four(&[&app, &second], &tenant, |n| {
        let (from, until) = (day(n as u64).to_string(), day(n as u64 + 2).to_string());
        TestApp::stay(offering, customer, &from, &until)
    })
    .await
    .clients;
    assert!(overlapping.windows(2).all(|pair| pair[1] - pair[0] >= 2), "{overlapping:?} share a night");
    assert!(overlapping.len() >= 21, "each booking keeps two others out at the most");
    app.assert_gap_free(&tenant).await;
    assert_no_double_booking(app.store.database().owner(), &tenant.schema()).await;
    second.shut_down().await;
    app.shut_down().await;
}

/// A process that has nothing more to do must not keep what another one waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_last_command_was_refused_does_not_hold_up_another() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    assert!(took(&site.run(site.book(offering, 0, 1)).await));
    assert!(!took(&site.run(site.book(offering, 0, 1)).await));

    let next = Unit::of(site.book(offering, 1, 1), by("other"));
    assert!(took(&other.execute(&site.schema, next).await), "the other process waits for the head's lock");
}

/// What one process remembers of a resource is not the truth: the log is, whoever wrote to it.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_released_can_be_taken_and_what_it_took_cannot() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let on = async |store: &EventStore, command: Command| {
        store.execute(&site.schema, Unit::of(command, by("test"))).await
    };
    let mut last = on(&site.store, site.book(offering, 0, 2)).await.unwrap().changed[0].id;
    for n in 1..10 {
        // In turn: one process frees the nights and takes later ones, the other takes the first again.
        let (here, there) = if n % 2 == 0 { (&site.store, &other) } else { (&other, &site.store) };
        on(here, Command::to(last, BookingCommand::Cancel { waive_fee: false })).await.unwrap();
        on(here, site.book(offering, n * 10, 2)).await.unwrap();
        last = on(there, site.book(offering, 0, 2)).await.unwrap().changed[0].id;
        assert!(!took(&on(there, site.book(offering, n * 10 + 1, 2)).await), "it was taken elsewhere");
    }
    assert_no_double_booking(site.owner(), &site.schema).await;
}

/// However few claims a process keeps in memory, it knows who is where: what it let go of it reads again.
#[tokio::test]
async fn a_process_that_keeps_hardly_any_claims_decides_as_one_that_keeps_all() {
    const NIGHTS: u64 = 6;
    let site = Site::open().await;
    let mut units = Vec::new();
    for _ in 0..5 {
        units.push(site.resource(1).await);
    }
    let offering = site.offering(&units).await;
    let little = site.store_with(&site.db, StoreSettings { claims: 4, ..StoreSettings::default() }).await;
    let mut dice = Dice::from_env("a_process_that_keeps_hardly_any_claims_decides_as_one_that_keeps_all");
    // Who has which night, and where.
    let mut taken: BTreeMap<(u64, ResourceId), BookingId> = BTreeMap::new();
    for _ in 0..300 {
        // Mostly the one that keeps little, now and then another process beside it.
        let store = if dice.below(5) == 0 { &site.store } else { &little };
        let night = dice.below(NIGHTS);
        let free = units.iter().any(|unit| !taken.contains_key(&(night, *unit)));
        if dice.below(3) == 0 {
            let Some((place, booking)) = taken.iter().min_by_key(|(place, _)| place.0.abs_diff(night)) else {
                continue;
            };
            let (place, booking) = (*place, *booking);
            let cancel = Command::to(booking, BookingCommand::Cancel { waive_fee: false });
            store.execute(&site.schema, Unit::of(cancel, by("test"))).await.unwrap();
            taken.remove(&place);
        } else {
            let result =
                store.execute(&site.schema, Unit::of(site.book(offering, night, 1), by("test"))).await;
            assert_eq!(took(&result), free, "night {night}");
            if let Ok(committed) = result {
                let booking = Booking::of(&committed.changed[0].state).unwrap();
                let place = (night, booking.resource_id);
                assert_eq!(taken.insert(place, BookingId(committed.changed[0].id)), None);
            }
        }
    }
    assert_no_double_booking(site.owner(), &site.schema).await;
    site.assert_gap_free().await;
}

/// What the database itself keeps: claims written past every rule of the code, as the tenant's own role.
mod guard {
    use super::*;

    const FROM: &str = "2031-03-01T00:00:00Z";

    fn hours(n: i64) -> DateTime<Utc> {
        FROM.parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(n)
    }

    async fn claim(
        connection: &mut PgConnection,
        resource: Uuid,
        (from, until): (i64, i64),
        unit: Option<i32>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO slot_claims (booking_id, resource_id, starts_at, ends_at, unit) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(Uuid::now_v7())
        .bind(resource)
        .bind(hours(from))
        .bind(hours(until))
        .bind(unit)
        .execute(connection)
        .await
        .map(drop)
    }

    fn refused_by(result: Result<(), sqlx::Error>) -> Option<String> {
        match result {
            Ok(()) => None,
            Err(sqlx::Error::Database(error)) => {
                Some(error.constraint().unwrap_or("no constraint").to_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn insert(site: &Site, resource: Uuid, hours: (i64, i64), unit: Option<i32>) -> Option<String> {
        let mut tx = TenantTx::begin(site.store.database().app(), &site.schema, Access::Write).await.unwrap();
        let result = claim(&mut tx, resource, hours, unit).await;
        if result.is_ok() {
            tx.commit().await.unwrap();
        }
        refused_by(result)
    }

    const NO_OVERLAP: Option<&str> = Some("slot_claims_no_overlap");

    #[tokio::test]
    async fn the_database_refuses_a_second_claim_on_a_unit() {
        let site = Site::open().await;
        let unit = site.resource(1).await.0;
        assert_eq!(insert(&site, unit, (0, 24), None).await, None);
        for overlap in [(0, 24), (23, 48), (-24, 1), (5, 6), (-100, 100)] {
            assert_eq!(insert(&site, unit, overlap, None).await.as_deref(), NO_OVERLAP, "{overlap:?}");
        }
        assert_eq!(insert(&site, unit, (24, 48), None).await, None, "the end is not in the interval");
        assert_eq!(insert(&site, unit, (-24, 0), None).await, None);
    }

    #[tokio::test]
    async fn the_database_refuses_to_move_a_claim_onto_another() {
        let site = Site::open().await;
        let unit = site.resource(1).await.0;
        assert_eq!(insert(&site, unit, (0, 24), None).await, None);
        assert_eq!(insert(&site, unit, (24, 48), None).await, None);
        let mut tx = TenantTx::begin(site.store.database().app(), &site.schema, Access::Write).await.unwrap();
        let moved = sqlx::query("UPDATE slot_claims SET starts_at = $1 WHERE starts_at = $2")
            .bind(hours(23))
            .bind(hours(24))
            .execute(&mut *tx)
            .await;
        assert_eq!(refused_by(moved.map(drop)).as_deref(), NO_OVERLAP);
    }

    #[tokio::test]
    async fn the_database_refuses_claims_of_one_statement_that_overlap_each_other() {
        let site = Site::open().await;
        let unit = site.resource(1).await.0;
        let mut tx = TenantTx::begin(site.store.database().app(), &site.schema, Access::Write).await.unwrap();
        let both = sqlx::query(
            "INSERT INTO slot_claims (booking_id, resource_id, starts_at, ends_at)
             VALUES (gen_random_uuid(), $1, $2, $3), (gen_random_uuid(), $1, $2, $3)",
        )
        .bind(unit)
        .bind(hours(0))
        .bind(hours(24))
        .execute(&mut *tx)
        .await;
        assert_eq!(refused_by(both.map(drop)).as_deref(), NO_OVERLAP);
    }

    #[tokio::test]
    async fn the_database_refuses_one_unit_of_a_pool_twice_and_units_that_do_not_exist() {
        let site = Site::open().await;
        let pool = site.resource(3).await.0;
        assert_eq!(insert(&site, pool, (0, 24), Some(2)).await, None);
        assert_eq!(insert(&site, pool, (12, 36), Some(2)).await.as_deref(), NO_OVERLAP);
        assert_eq!(insert(&site, pool, (12, 36), Some(3)).await, None);
        assert_eq!(insert(&site, pool, (12, 36), Some(4)).await.as_deref(), Some("slot_claims_resource"));
        assert_eq!(
            insert(&site, Uuid::now_v7(), (0, 1), None).await.as_deref(),
            Some("slot_claims_resource"),
            "a claim on a resource that nobody made"
        );
    }

    #[tokio::test]
    async fn the_database_refuses_to_shrink_a_pool_below_what_is_taken() {
        let site = Site::open().await;
        let pool = site.resource(3).await.0;
        for _ in 0..2 {
            assert_eq!(insert(&site, pool, (0, 24), None).await, None);
        }
        for (capacity, expected) in [(1, NO_OVERLAP), (2, None)] {
            let mut tx =
                TenantTx::begin(site.store.database().app(), &site.schema, Access::Write).await.unwrap();
            let shrunk = sqlx::query("UPDATE slot_resources SET capacity = $2 WHERE resource_id = $1")
                .bind(pool)
                .bind(capacity)
                .execute(&mut *tx)
                .await;
            assert_eq!(refused_by(shrunk.map(drop)).as_deref(), expected);
        }
    }

    /// Random intervals against a count of every hour: the database takes a claim exactly when each of its hours
    /// has a unit left.
    #[tokio::test]
    async fn the_database_agrees_with_counting_every_hour() {
        const HOURS: usize = 60;
        let site = Site::open().await;
        let mut dice = Dice::from_env("the_database_agrees_with_counting_every_hour");
        for capacity in [1_u32, 2, 3, 7] {
            let pool = site.resource(capacity).await.0;
            let mut taken = [0_u32; HOURS];
            let mut tx =
                TenantTx::begin(site.store.database().app(), &site.schema, Access::Write).await.unwrap();
            for _ in 0..150 {
                let from = dice.below(HOURS as u64 - 1) as usize;
                // Mostly short, now and then long: the index looks by orders of magnitude of the length.
                let longest = if dice.below(5) == 0 { HOURS } else { 6 };
                let until = (from + 1 + dice.below(longest as u64) as usize).min(HOURS);
                let fits = taken[from..until].iter().all(|n| *n < capacity);
                sqlx::query("SAVEPOINT try").execute(&mut *tx).await.unwrap();
                let result = claim(&mut tx, pool, (from as i64, until as i64), None).await;
                assert_eq!(result.is_ok(), fits, "[{from}, {until}) on {taken:?} of {capacity}");
                if fits {
                    taken[from..until].iter_mut().for_each(|n| *n += 1);
                } else {
                    assert_eq!(refused_by(result).as_deref(), NO_OVERLAP);
                    sqlx::query("ROLLBACK TO try").execute(&mut *tx).await.unwrap();
                }
            }
        }
    }

    /// Two writers that go around the lane: the second waits for the first, sees its claim, and is refused.
    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_open_transactions_that_bypass_the_lane_one_is_refused() {
        let site = Arc::new(Site::open().await);
        let pool = site.resource(2).await.0;
        assert_eq!(insert(&site, pool, (0, 24), None).await, None);
        let mut first =
            TenantTx::begin(site.store.database().app(), &site.schema, Access::Write).await.unwrap();
        claim(&mut first, pool, (0, 24), None).await.unwrap();
        let second = tokio::spawn({
            let site = site.clone();
            async move { insert(&site, pool, (12, 36), None).await }
        });
        wait_until_blocked(site.owner(), 1).await;
        assert!(!second.is_finished());
        first.commit().await.unwrap();
        assert_eq!(second.await.unwrap().as_deref(), NO_OVERLAP);
    }
}
