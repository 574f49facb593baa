//! Read models follow the log, equal a fresh replay of it, and survive what cannot be folded.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use daybook::{
    eventstore::{Command, Unit},
    tenancy::{Access, TenantTx},
    workers::{hold_expiry, projector},
};
use daybook_domain::{
    Currency, Money, Name, Nights,
    booking::{BookingCommand, RequestedTime},
    customer::CustomerCommand,
    envelope::Metadata,
    offering::{OfferingCommand, OfferingTerms, PricePer},
    personal::Personal,
    registry::AnyCommand,
    resource::{ResourceCommand, ResourceKind},
};
use daybook_projections::{
    booking_history::{self, Shown},
    bookings, calendar, pace,
};
use sqlx::Executor;
use uuid::Uuid;

use crate::support::app::{TestApp, TestTenant};

#[derive(Clone, Copy)]
struct House<'a> {
    app: &'a TestApp,
    tenant: &'a TestTenant,
    pool: Uuid,
    offering: Uuid,
    customer: Uuid,
}

impl<'a> House<'a> {
    async fn open(app: &'a TestApp, tenant: &'a TestTenant) -> Self {
        let [pool, offering, customer] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
        let house = Self { app, tenant, pool, offering, customer };
        let name = |text: &str| Name::new(text, "").unwrap();
        let create = ResourceCommand::Create {
            name: name("Rooms"),
            kind: ResourceKind::Pool,
            capacity: Some(3),
            time_zone: chrono_tz::Europe::Brussels,
        };
        house.create(pool, create).await;
        let terms = OfferingTerms {
            name: name("Stay"),
            resource_ids: vec![pool.into()],
            price: Money { amount: 5_000, currency: Currency::EUR },
            price_per: PricePer::Night,
            hold_minutes: 15,
            ..OfferingTerms::default()
        };
        house.create(offering, OfferingCommand::Create { terms: Box::new(terms) }).await;
        house
            .create(
                customer,
                CustomerCommand::Register { name: name("Ada Canary"), email: None, phone: None },
            )
            .await;
        house
    }

    async fn create(&self, id: Uuid, command: impl Into<AnyCommand>) {
        self.execute(Unit::of(Command::create(id, command), self.metadata())).await;
    }

    async fn ask(&self, id: Uuid, command: BookingCommand) {
        self.execute(Unit::of(Command::to(id, command), self.metadata())).await;
    }

    async fn execute(&self, unit: Unit) {
        self.app.store.execute(&self.tenant.schema(), unit).await.unwrap();
    }

    fn metadata(&self) -> Metadata {
        Metadata { actor: "test".into(), reason: Some("as told".into()), ..Metadata::default() }
    }

    async fn book(&self, from: NaiveDate, nights: i64, hold: bool) -> Uuid {
        let id = Uuid::now_v7();
        let command = BookingCommand::Book {
            offering_id: self.offering.into(),
            resource_id: None,
            unit: None,
            customer_id: self.customer.into(),
            when: RequestedTime::Nights(Nights::new(from, from + TimeDelta::days(nights)).unwrap()),
            guests: 2,
            hold,
            notes: Some(Personal::new(daybook_domain::Notes::new("late", "").unwrap())),
            price_override: None,
        };
        self.create(id, command).await;
        id
    }

    async fn caught_up(&self) -> i64 {
        let head = head(self.app, self.tenant).await;
        for projection in daybook_projections::ALL {
            let (schema, wait) = (self.tenant.schema(), Duration::from_secs(20));
            let seen =
                projector::wait_for(&self.app.store, &schema, projection.name(), head, wait).await.unwrap();
            assert!(seen, "{} is behind", projection.name());
        }
        head
    }

    async fn verify(&self) -> projector::VerifyReport {
        projector::verify(&self.app.store, &self.tenant.schema(), |_, _| {}).await.unwrap()
    }

    async fn read(&self) -> TenantTx<'static> {
        TenantTx::begin(self.app.store.database().app(), &self.tenant.schema(), Access::Read).await.unwrap()
    }

    async fn as_owner(&self, sql: &str) {
        let sql = self.tenant.schema().sql(sql);
        self.app.store.database().owner().execute(sql.as_str()).await.unwrap();
    }
}

async fn head(app: &TestApp, tenant: &TestTenant) -> i64 {
    let sql = tenant.schema().sql("SELECT position FROM {s}.log_head");
    sqlx::query_scalar(&sql).fetch_one(app.store.database().owner()).await.unwrap()
}

fn arrival(now: DateTime<Utc>) -> NaiveDate {
    now.date_naive() + TimeDelta::days(20)
}

#[tokio::test]
async fn read_models_follow_the_log_and_equal_a_fresh_replay() {
    let app = TestApp::start().await;
    let tenant = app.tenant("follow").await;
    let house = House::open(&app, &tenant).await;
    let day = arrival(now(&app).await);
    let kept = house.book(day, 3, false).await;
    let cancelled = house.book(day, 2, false).await;
    house.ask(cancelled, BookingCommand::Cancel { waive_fee: false }).await;
    let moved = house.book(day, 1, true).await;
    house.ask(moved, BookingCommand::Confirm).await;
    let when =
        RequestedTime::Nights(Nights::new(day + TimeDelta::days(1), day + TimeDelta::days(3)).unwrap());
    house.ask(moved, BookingCommand::Reschedule { when, resource_id: None }).await;
    house.caught_up().await;

    let mut tx = house.read().await;
    let days = calendar::list(&mut tx, Some(&[house.pool]), day, day + TimeDelta::days(4)).await.unwrap();
    let booked: Vec<(i32, i32, i32, i32)> =
        days.iter().map(|day| (day.booked, day.arrivals, day.departures, day.cancellations)).collect();
    assert_eq!(booked, [(1, 1, 0, 1), (2, 1, 0, 0), (2, 0, 0, 0), (0, 0, 2, 0)]);
    assert!(days.iter().all(|day| day.capacity == 3));

    let report = pace::list(&mut tx, day, day + TimeDelta::days(2), pace::PaceBy::Date).await.unwrap();
    let rows: Vec<_> =
        report.iter().map(|row| (row.lead_from, row.bookings, row.nights, row.revenue)).collect();
    assert_eq!(rows, [(15, 1, 3, 15_000), (15, 1, 2, 10_000)]);
    assert_eq!((report[0].cancelled_bookings, report[0].cancelled_nights), (1, 2));

    let history = booking_history::list(&mut tx, moved, None, DateTime::UNIX_EPOCH, 10).await.unwrap();
    let types: Vec<&str> = history.iter().map(|row| row.event_type.as_str()).collect();
    assert_eq!(types, ["booking.held", "booking.confirmed", "booking.rescheduled"]);
    assert!(
        history[1]
            .changes
            .0
            .iter()
            .any(|change| change.path == "/status" && change.new == Shown::Open("confirmed".into()))
    );
    assert_eq!(history[2].reason.expose().map(String::as_str), Some("as told"));
    assert_eq!(
        booking_history::list(&mut tx, moved, Some(2), DateTime::UNIX_EPOCH, 10).await.unwrap().len(),
        1
    );

    let filter = bookings::BookingFilter { resource_id: Some(house.pool), ..Default::default() };
    let page = bookings::list(&mut tx, &filter, Some(kept), 10).await.unwrap();
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [cancelled, moved]);
    assert_eq!(bookings::list(&mut tx, &Default::default(), None, 1).await.unwrap()[0].id, kept);
    tx.commit().await.unwrap();

    let report = house.verify().await;
    assert!(report.is_equal(), "{report:#?}");
    let live = |table: &str| report.tables.iter().find(|it| it.table == table).unwrap().rows;
    assert_eq!((live("bookings"), live("slot_claims"), live("resources")), (3, 2, 1));
    let platform =
        projector::verify(&app.store, &daybook::tenancy::Schema::platform(), |_, _| {}).await.unwrap();
    assert!(platform.is_equal(), "{platform:#?}");
    app.shut_down().await;
}

#[tokio::test]
async fn a_rebuild_replaces_rows_that_were_tampered_with() {
    let app = TestApp::start().await;
    let tenant = app.tenant("rebuild").await;
    let house = House::open(&app, &tenant).await;
    let day = arrival(now(&app).await);
    for _ in 0..3 {
        house.book(day, 2, false).await;
    }
    house.caught_up().await;
    house.as_owner("UPDATE {s}.calendar_days SET booked = 9; DELETE FROM {s}.pace").await;
    let report = house.verify().await;
    let differing: Vec<&str> =
        report.tables.iter().filter(|table| table.differing > 0).map(|table| table.table.as_str()).collect();
    assert_eq!(differing, ["calendar_days", "pace"]);

    // What a killed rebuild leaves is dropped by the next.
    house.as_owner("CREATE SCHEMA {s}_rebuild CREATE TABLE calendar_days (left_over int)").await;
    for name in ["calendar", "pace"] {
        let mut last = (0, 0);
        projector::rebuild(&app.store, &tenant.schema(), name, |done, head| last = (done, head))
            .await
            .unwrap();
        assert_eq!(last.0, last.1);
    }
    assert!(house.verify().await.is_equal());
    // The tables in place now are the workers' as well.
    house.book(day + TimeDelta::days(2), 1, true).await;
    house.caught_up().await;
    assert!(house.verify().await.is_equal());
    app.shut_down().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_folded_parks_its_booking_and_no_other() {
    let app = TestApp::start().await;
    let tenant = app.tenant("parked").await;
    let house = House::open(&app, &tenant).await;
    let day = arrival(now(&app).await);
    let (poisoned, healthy) = (house.book(day, 1, true).await, house.book(day, 1, true).await);
    house.caught_up().await;
    // A row in the way of the booking's next one.
    house
        .as_owner(
            "INSERT INTO {s}.booking_history (booking_id, sequence, position, event_type, recorded_at, occurred_at,
                                              actor, changes)
             SELECT booking_id, 2, 0, 'in.the.way', recorded_at, occurred_at, actor, changes FROM {s}.booking_history
             WHERE booking_id = (SELECT min(booking_id::text)::uuid FROM {s}.booking_history)",
        )
        .await;
    for booking in [poisoned, healthy] {
        house.ask(booking, BookingCommand::Confirm).await;
        house.ask(booking, BookingCommand::Cancel { waive_fee: false }).await;
    }
    house.caught_up().await;
    let parked = |all: Vec<projector::ProjectionStatus>| all.iter().map(|it| it.parked).collect::<Vec<_>>();
    let status = projector::status(&app.store, &tenant.schema()).await.unwrap();
    assert!(status.iter().all(|it| it.lag_events == 0 && it.status == "live"), "{status:?}");
    assert_eq!(parked(status), [0, 2, 0, 0]);
    let mut tx = house.read().await;
    assert_eq!(
        booking_history::list(&mut tx, healthy, None, DateTime::UNIX_EPOCH, 10).await.unwrap().len(),
        3
    );
    // The first, and the one in the way.
    assert_eq!(
        booking_history::list(&mut tx, poisoned, None, DateTime::UNIX_EPOCH, 10).await.unwrap().len(),
        2
    );
    tx.commit().await.unwrap();

    let again = projector::retry(&app.store, &tenant.schema(), "booking_history", None).await.unwrap();
    assert_eq!(again, projector::RetryReport { applied: 0, parked: 2 });
    house.as_owner("DELETE FROM {s}.booking_history WHERE event_type = 'in.the.way'").await;
    let again =
        projector::retry(&app.store, &tenant.schema(), "booking_history", Some(poisoned)).await.unwrap();
    assert_eq!(again, projector::RetryReport { applied: 2, parked: 0 });
    assert!(house.verify().await.is_equal());
    app.shut_down().await;
}

#[tokio::test]
async fn two_nodes_share_the_projections_and_one_takes_over_from_the_other() {
    let app = TestApp::start().await;
    let other = app.second_node().await;
    let tenant = app.tenant("nodes").await;
    let (here, day) = (House::open(&app, &tenant).await, arrival(now(&app).await));
    let there = House { app: &other, ..here };
    for week in 0..8 {
        let day = day + TimeDelta::days(7 * week);
        let (mine, theirs) = tokio::join!(here.book(day, 2, true), there.book(day, 3, false));
        tokio::join!(
            there.ask(mine, BookingCommand::Confirm),
            here.ask(theirs, BookingCommand::Cancel { waive_fee: false })
        );
    }
    here.caught_up().await;
    // Every event was folded once: what is added up would differ otherwise.
    let report = here.verify().await;
    assert!(report.is_equal(), "{report:#?}");

    // A node that fell silent keeps its leases until they run out, and no longer.
    other.shut_down().await;
    let silent = Uuid::now_v7();
    here.as_owner(&format!(
        "UPDATE {{s}}.projection_checkpoints
         SET lease_owner = '{silent}', lease_epoch = lease_epoch + 1, lease_until = clock_timestamp() + interval '5 s'"
    ))
    .await;
    here.book(day + TimeDelta::days(100), 1, false).await;
    let head = head(&app, &tenant).await;
    let moment = Duration::from_millis(300);
    assert!(!projector::wait_for(&app.store, &tenant.schema(), "calendar", head, moment).await.unwrap());
    here.caught_up().await;
    assert!(here.verify().await.is_equal());
    app.shut_down().await;
}

#[tokio::test]
async fn a_hold_that_ran_out_is_expired_by_the_worker() {
    let app = TestApp::start().await;
    let tenant = app.tenant("holds").await;
    let house = House::open(&app, &tenant).await;
    let day = arrival(now(&app).await);
    let unit = |id, at| {
        let command = BookingCommand::Book {
            offering_id: house.offering.into(),
            resource_id: None,
            unit: None,
            customer_id: house.customer.into(),
            when: RequestedTime::Nights(Nights::new(day, day + TimeDelta::days(1)).unwrap()),
            guests: 1,
            hold: true,
            notes: None,
            price_override: None,
        };
        Unit { occurred_at: Some(at), ..Unit::of(Command::create(id, command), house.metadata()) }
    };
    let (lapsed, live) = (Uuid::now_v7(), Uuid::now_v7());
    let now = now(&app).await;
    house.execute(unit(lapsed, now - TimeDelta::hours(2))).await;
    house.execute(unit(live, now)).await;
    let status = async |id| {
        let mut tx = house.read().await;
        bookings::get(&mut tx, id).await.unwrap().unwrap().status
    };
    for _ in 0..100 {
        // The app's own worker may be faster.
        hold_expiry::expire(&app.store, &tenant.schema()).await.unwrap();
        if status(lapsed).await == "expired" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((status(lapsed).await.as_str(), status(live).await.as_str()), ("expired", "held"));
    app.shut_down().await;
}

async fn now(app: &TestApp) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT now()").fetch_one(app.store.database().owner()).await.unwrap()
}
