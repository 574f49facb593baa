//! The life of a booking over HTTP, from what can be booked to what became of it.

use chrono::{DateTime, Days, NaiveDate, Utc};
use daybook::eventstore::{Command, Unit};
use daybook_domain::{
    BookingId, Nights,
    booking::{BookingCommand, RequestedTime},
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    site::by,
};

/// A tenant with a unit, a pool of two and an offering by nights over each.
struct Camp {
    app: TestApp,
    tenant: TestTenant,
    unit: Uuid,
    pool: Uuid,
    on_unit: Uuid,
    on_pool: Uuid,
    customer: Uuid,
}

impl Camp {
    async fn open() -> Self {
        let app = TestApp::start().await;
        let tenant = app.tenant("camp").await;
        let unit = app.resource(&tenant, "Cabin", 1).await;
        let pool = app.resource(&tenant, "Pitches", 2).await;
        let on_unit = app.nights_offering(&tenant, &[unit]).await;
        let on_pool = app.nights_offering(&tenant, &[pool]).await;
        let customer = app.customer(&tenant, "Ada").await;
        Self { app, tenant, unit, pool, on_unit, on_pool, customer }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.app.post(&self.tenant, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.app.get(&self.tenant, path).await
    }

    /// A read that has seen all of the log.
    async fn get_now(&self, path: &str) -> Answer {
        let head = self.app.head(&self.tenant).await.to_string();
        self.app
            .request(&self.tenant, Method::GET, path, &[("X-Min-Position", &head)], None)
            .await
            .expect(200)
    }

    async fn book(&self, offering: Uuid, check_in: &str, check_out: &str) -> Answer {
        self.post("/bookings", &TestApp::stay(offering, self.customer, check_in, check_out)).await
    }

    async fn act(&self, booking: &Answer, action: &str, body: Value) -> Answer {
        self.post(&format!("/bookings/{}/{action}", id(booking)), &body).await
    }

    async fn status(&self, booking: &Answer) -> String {
        self.get(&format!("/bookings/{}", id(booking))).await.expect(200).text("status")
    }

    /// How many units are free, night by night.
    async fn free(&self, offering: Uuid, from: &str, to: &str) -> Vec<i64> {
        let path = format!("/availability?offering_id={offering}&from={from}&to={to}");
        let answer = self.get(&path).await.expect(200);
        let nights = answer.body["resources"][0]["nights"].as_array().unwrap().clone();
        nights.iter().map(|night| night["free"].as_i64().unwrap()).collect()
    }

    /// Today where the resources are, by the clock that decides.
    async fn today(&self) -> NaiveDate {
        sqlx::query_scalar("SELECT (now() AT TIME ZONE 'Europe/Brussels')::date")
            .fetch_one(self.app.store.database().owner())
            .await
            .unwrap()
    }

    /// A command that happened before now, as an import brings it.
    async fn then(&self, command: Command, occurred_at: DateTime<Utc>) {
        let unit = Unit { occurred_at: Some(occurred_at), ..Unit::of(command, by("import")) };
        self.app.store.execute(&self.tenant.schema(), unit).await.unwrap();
    }

    /// A booking made a month before today, of nights counted from today.
    async fn booked_before(&self, offering: Uuid, from: i64, nights: u64, hold: bool) -> BookingId {
        let today = self.today().await;
        let check_in = today + chrono::TimeDelta::days(from);
        let id = BookingId(Uuid::now_v7());
        let book = BookingCommand::Book {
            offering_id: offering.into(),
            resource_id: None,
            unit: None,
            customer_id: self.customer.into(),
            when: RequestedTime::Nights(Nights::new(check_in, check_in + Days::new(nights)).unwrap()),
            guests: 2,
            hold,
            notes: None,
            price_override: None,
        };
        self.then(
            Command::create(id, book),
            today.and_time(chrono::NaiveTime::MIN).and_utc() - Days::new(30),
        )
        .await;
        id
    }

    async fn close(self) {
        self.app.assert_gap_free(&self.tenant).await;
        crate::support::site::assert_no_double_booking(
            self.app.store.database().owner(),
            &self.tenant.schema(),
        )
        .await;
        self.app.shut_down().await;
    }
}

#[tokio::test]
async fn what_can_be_booked_is_made_read_changed_and_archived() {
    let camp = Camp::open().await;
    let schedule = json!({"name": "Always", "resource_ids": [camp.pool], "weekly": []});
    let schedule = id(&camp.post("/schedules", &schedule).await.expect(201));
    for (path, change) in [
        (format!("/schedules/{schedule}"), json!({"name": "Summer"})),
        (format!("/offerings/{}", camp.on_pool), json!({"name": "Long stay"})),
        (format!("/resources/{}", camp.pool), json!({"name": "Meadow"})),
        (format!("/customers/{}", camp.customer), json!({"name": "Grace"})),
    ] {
        let (collection, _) = path[1..].split_once('/').unwrap();
        let before = camp.get(&path).await.expect(200);
        assert_eq!((before.header("etag"), &before.body["version"]), (Some("\"1\""), &json!(1)));
        let with = |version: &'static str| [("If-Match", version)];
        let changed = camp
            .app
            .request(&camp.tenant, Method::PATCH, &path, &with("\"1\""), Some(&change))
            .await
            .expect(200);
        assert_eq!(changed.body["name"], change["name"]);
        assert_eq!((changed.header("etag"), &changed.body["version"]), (Some("\"2\""), &json!(2)));
        let stale = camp.app.request(&camp.tenant, Method::PATCH, &path, &with("\"1\""), Some(&change)).await;
        stale.expect_problem(412, "version_conflict");
        let read = camp.get(&path).await.expect(200);
        assert_eq!((&read.body["name"], read.header("etag")), (&change["name"], Some("\"2\"")));
        let listed = camp.get(&format!("/{collection}")).await.expect(200);
        let items = listed.body["items"].as_array().unwrap();
        assert!(items.iter().any(|item| item["id"] == read.body["id"] && item["name"] == change["name"]));

        let gone =
            camp.app.request(&camp.tenant, Method::DELETE, &path, &with("\"2\""), None).await.expect(204);
        assert_eq!(gone.header("etag"), Some("\"3\""));
        assert_eq!(camp.get(&path).await.expect(200).body["archived"], true);
        let again = camp.app.request(&camp.tenant, Method::DELETE, &path, &with("\"3\""), None).await;
        again.expect_problem(409, "wrong_state");
    }
    camp.close().await;
}

#[tokio::test]
async fn what_is_archived_takes_no_bookings() {
    let camp = Camp::open().await;
    let any = [("If-Match", "*")];
    let other = camp.app.customer(&camp.tenant, "Grace").await;
    for path in [format!("/customers/{other}"), format!("/offerings/{}", camp.on_unit)] {
        camp.app.request(&camp.tenant, Method::DELETE, &path, &any, None).await.expect(204);
    }
    let body = TestApp::stay(camp.on_pool, other, "2031-05-01", "2031-05-03");
    camp.post("/bookings", &body).await.expect_problem(409, "wrong_state");
    camp.book(camp.on_unit, "2031-05-01", "2031-05-03").await.expect_problem(409, "wrong_state");
    // What somebody still counts on is not archived.
    camp.book(camp.on_pool, "2031-05-01", "2031-05-03").await.expect(201);
    for path in [format!("/customers/{}", camp.customer), format!("/resources/{}", camp.pool)] {
        let refused = camp.app.request(&camp.tenant, Method::DELETE, &path, &any, None).await;
        refused.expect_problem(409, "wrong_state");
    }
    camp.close().await;
}

#[tokio::test]
async fn a_hold_is_confirmed() {
    let camp = Camp::open().await;
    let mut body = TestApp::stay(camp.on_unit, camp.customer, "2031-05-01", "2031-05-03");
    body["hold"] = json!(true);
    let held = camp.post("/bookings", &body).await.expect(201);
    assert_eq!(held.body["status"], "held");
    let expiry: DateTime<Utc> = held.text("hold_expires_at").parse().unwrap();
    let (now,): (DateTime<Utc>,) =
        sqlx::query_as("SELECT now()").fetch_one(camp.app.store.database().owner()).await.unwrap();
    let minutes = (expiry - now).num_minutes();
    assert!((13..=15).contains(&minutes), "{minutes}");
    camp.post("/bookings", &body).await.expect_problem(409, "slot_taken");

    let confirmed = camp.act(&held, "confirm", json!({})).await.expect(200);
    assert_eq!(
        (&confirmed.body["status"], &confirmed.body["hold_expires_at"]),
        (&json!("confirmed"), &Value::Null)
    );
    assert_eq!((&confirmed.body["id"], &confirmed.body["version"]), (&held.body["id"], &json!(2)));
    camp.act(&held, "confirm", json!({})).await.expect_problem(409, "wrong_state");
    camp.close().await;
}

#[tokio::test]
async fn a_hold_that_ran_out_competes_again() {
    let camp = Camp::open().await;
    let held = camp.booked_before(camp.on_unit, 40, 2, true).await;
    let path = format!("/bookings/{held}/confirm");
    let confirmed = camp.post(&path, &json!({})).await.expect(200);
    assert_eq!(confirmed.body["status"], "confirmed");

    // Another one, whose place went to somebody else meanwhile.
    let lost = camp.booked_before(camp.on_unit, 50, 2, true).await;
    let day = |n: i64, today: NaiveDate| (today + chrono::TimeDelta::days(n)).to_string();
    let today = camp.today().await;
    camp.book(camp.on_unit, &day(51, today), &day(53, today)).await.expect(201);
    let gone =
        camp.post(&format!("/bookings/{lost}/confirm"), &json!({})).await.expect_problem(410, "hold_expired");
    assert!(!gone.body["alternatives"].as_array().unwrap().is_empty(), "{}", gone.body);
    camp.close().await;
}

#[tokio::test]
async fn a_hold_that_ran_out_is_swept() {
    let camp = Camp::open().await;
    let held = camp.booked_before(camp.on_unit, 40, 2, true).await;
    let path = format!("/bookings/{held}");
    let swept = async {
        while camp.get(&path).await.expect(200).text("status") != "expired" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), swept).await.expect("nobody sweeps");
    let events = camp.get(&format!("/audit/streams/booking/{held}")).await.expect(200);
    let last = events.body["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["type"], &last["actor"]), (&json!("booking.expired"), &json!("system:hold-expiry")));
    camp.close().await;
}

#[tokio::test]
async fn what_needs_approval_waits_for_it() {
    let camp = Camp::open().await;
    let body = json!({
        "name": "Wedding", "mode": "nights", "resource_ids": [camp.unit], "price_per": "booking",
        "price": {"amount": 90_000, "currency": "EUR"}, "requires_approval": true,
    });
    let offering = id(&camp.post("/offerings", &body).await.expect(201));
    let asked = camp.book(offering, "2031-05-01", "2031-05-03").await.expect(201);
    assert_eq!((&asked.body["status"], &asked.body["price"]["amount"]), (&json!("pending"), &json!(90_000)));
    camp.book(offering, "2031-05-02", "2031-05-04").await.expect_problem(409, "slot_taken");
    camp.act(&asked, "check-in", json!({})).await.expect_problem(409, "wrong_state");
    assert_eq!(
        camp.act(&asked, "reject", json!({"reason": "closed"})).await.expect(200).body["status"],
        "rejected"
    );

    let mut body = TestApp::stay(offering, camp.customer, "2031-05-01", "2031-05-03");
    body["hold"] = json!(true);
    let held = camp.post("/bookings", &body).await.expect(201);
    // The guest's confirmation submits it, staff's confirms it.
    for status in ["pending", "confirmed"] {
        assert_eq!(camp.act(&held, "confirm", json!({})).await.expect(200).body["status"], status);
    }
    camp.act(&held, "reject", json!({})).await.expect_problem(409, "wrong_state");
    camp.close().await;
}

#[tokio::test]
async fn a_booking_moves_in_one_step_or_not_at_all() {
    let camp = Camp::open().await;
    let first = camp.book(camp.on_unit, "2031-05-01", "2031-05-03").await.expect(201);
    let second = camp.book(camp.on_unit, "2031-05-03", "2031-05-05").await.expect(201);
    let head = camp.app.head(&camp.tenant).await;
    let to = |check_in: &str, check_out: &str| json!({"check_in": check_in, "check_out": check_out});

    let refused = camp.act(&first, "reschedule", to("2031-05-02", "2031-05-04")).await;
    let refused = refused.expect_problem(409, "slot_taken");
    assert!(!refused.body["alternatives"].as_array().unwrap().is_empty());
    assert_eq!(camp.app.head(&camp.tenant).await, head, "a refused move leaves no event");
    let kept = camp.get(&format!("/bookings/{}", id(&first))).await.expect(200);
    assert_eq!((&kept.body["check_in"], &kept.body["version"]), (&json!("2031-05-01"), &json!(1)));
    assert_eq!(camp.free(camp.on_unit, "2031-04-30", "2031-05-06").await, [1, 0, 0, 0, 0, 1]);

    // Onto its own nights and further: what it leaves is free at once, what it keeps is its own.
    let moved = camp.act(&first, "reschedule", to("2031-04-30", "2031-05-02")).await.expect(200);
    assert_eq!((&moved.body["id"], &moved.body["version"]), (&first.body["id"], &json!(2)));
    assert_eq!(moved.body["check_out"], "2031-05-02");
    assert_eq!(camp.app.head(&camp.tenant).await, head + 1);
    assert_eq!(camp.free(camp.on_unit, "2031-04-30", "2031-05-06").await, [0, 0, 1, 0, 0, 1]);
    camp.act(&second, "reschedule", to("2031-05-02", "2031-05-04")).await.expect(200);
    camp.close().await;
}

#[tokio::test]
async fn a_cancelled_booking_owes_what_was_agreed_when_it_was_made() {
    let camp = Camp::open().await;
    let today = camp.today().await;
    let day = |n: u64| (today + Days::new(n)).to_string();
    // Half the price within two days, and nothing before.
    let near = camp.book(camp.on_pool, &day(1), &day(3)).await.expect(201);
    let waived = camp.book(camp.on_pool, &day(1), &day(3)).await.expect(201);
    let far = camp.book(camp.on_pool, &day(30), &day(32)).await.expect(201);
    let policy = json!({"cancellation_policy": {"tiers": [{"hours_before": 1_000, "fee_percent": 100}]}});
    let path = format!("/offerings/{}", camp.on_pool);
    camp.app
        .request(&camp.tenant, Method::PATCH, &path, &[("If-Match", "*")], Some(&policy))
        .await
        .expect(200);
    let later = camp.book(camp.on_pool, &day(30), &day(32)).await.expect(201);

    let fee = async |booking: &Answer, body: Value| {
        let cancelled = camp.act(booking, "cancel", body).await.expect(200);
        assert_eq!(cancelled.body["status"], "cancelled");
        cancelled.body["fee"]["amount"].as_i64()
    };
    assert_eq!(fee(&near, json!({})).await, Some(5_000));
    assert_eq!(fee(&far, json!({})).await, None, "under the policy it was made under");
    assert_eq!(fee(&later, json!({})).await, Some(10_000));
    for body in [json!({"waive_fee": true}), json!({"waive_fee": true, "reason": "  "})] {
        let refused = camp.act(&waived, "cancel", body).await.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], "/reason");
    }
    assert_eq!(fee(&waived, json!({"waive_fee": true, "reason": "a storm"})).await, None);
    camp.act(&waived, "cancel", json!({})).await.expect_problem(409, "wrong_state");
    let event = camp.get(&format!("/audit/streams/booking/{}", id(&waived))).await.expect(200).body["items"]
        [1]
    .clone();
    assert_eq!((&event["reason"], &event["payload"]["waived"]), (&json!("a storm"), &json!(true)));
    assert_eq!(event["payload"]["fee"]["amount"], "5000", "what was waived is in the log, as a text");
    assert_eq!(camp.free(camp.on_pool, &day(1), &day(3)).await, [2, 2]);
    camp.close().await;
}

#[tokio::test]
async fn a_guest_who_is_here_has_a_unit_and_leaving_early_frees_the_rest() {
    let camp = Camp::open().await;
    let here = camp.booked_before(camp.on_pool, -2, 6, false).await;
    let other = camp.booked_before(camp.on_pool, -2, 6, false).await;
    let checked_in = camp.post(&format!("/bookings/{here}/check-in"), &json!({"unit": 2})).await.expect(200);
    assert_eq!((&checked_in.body["status"], &checked_in.body["unit"]), (&json!("checked_in"), &json!(2)));
    let path = format!("/bookings/{other}/check-in");
    camp.post(&path, &json!({"unit": 2})).await.expect_problem(409, "slot_taken");
    camp.post(&path, &json!({"unit": 3})).await.expect_problem(422, "validation_failed");
    assert_eq!(camp.post(&path, &json!({})).await.expect(200).body["unit"], 1, "the one that is left");
    camp.post(&format!("/bookings/{here}/cancel"), &json!({})).await.expect_problem(409, "wrong_state");

    let today = camp.today().await;
    let day = |n: u64| (today + Days::new(n)).to_string();
    assert_eq!(camp.free(camp.on_pool, &day(0), &day(5)).await, [0, 0, 0, 0, 2]);
    let left = camp.post(&format!("/bookings/{here}/check-out"), &json!({})).await.expect(200);
    assert_eq!(left.body["status"], "completed");
    assert_eq!(camp.free(camp.on_pool, &day(0), &day(5)).await, [1, 1, 1, 1, 2]);
    let next = camp.book(camp.on_pool, &day(0), &day(4)).await.expect(201);
    camp.act(&next, "check-in", json!({"unit": 2})).await.expect(200);
    camp.close().await;
}

#[tokio::test]
async fn a_guest_who_does_not_come_frees_the_place() {
    let camp = Camp::open().await;
    let booking = camp.booked_before(camp.on_unit, -1, 5, false).await;
    let today = camp.today().await;
    let day = |n: u64| (today + Days::new(n)).to_string();
    assert_eq!(camp.free(camp.on_unit, &day(0), &day(2)).await, [0, 0]);
    let absent = camp.post(&format!("/bookings/{booking}/no-show"), &json!({})).await.expect(200);
    assert_eq!(absent.body["status"], "no_show");
    assert_eq!(camp.free(camp.on_unit, &day(0), &day(2)).await, [1, 1]);
    let future = camp.book(camp.on_unit, &day(10), &day(12)).await.expect(201);
    camp.act(&future, "no-show", json!({})).await.expect_problem(409, "wrong_state");
    camp.act(&future, "check-in", json!({})).await.expect_problem(409, "wrong_state");
    camp.close().await;
}

#[tokio::test]
async fn a_pin_that_would_make_a_taken_booking_impossible_is_refused() {
    let camp = Camp::open().await;
    let pinned = |unit: u32, check_in: &str, check_out: &str| {
        let mut body = TestApp::stay(camp.on_pool, camp.customer, check_in, check_out);
        body["unit"] = json!(unit);
        body
    };
    camp.post("/bookings", &pinned(1, "2031-05-01", "2031-05-03")).await.expect(201);
    camp.post("/bookings", &pinned(2, "2031-05-03", "2031-05-05")).await.expect(201);
    // One unit is free each night, but not the same one: a stay over both would have to move.
    let across = camp.book(camp.on_pool, "2031-05-02", "2031-05-04").await;
    across.expect_problem(409, "slot_taken");
    let short = camp.book(camp.on_pool, "2031-05-01", "2031-05-03").await.expect(201);
    camp.act(&short, "reassign", json!({"unit": 1})).await.expect_problem(409, "slot_taken");
    assert_eq!(camp.act(&short, "reassign", json!({"unit": 2})).await.expect(200).body["unit"], 2);
    assert_eq!(
        camp.act(&short, "reassign", json!({"unpin": true})).await.expect(200).body["unit"],
        Value::Null
    );
    camp.close().await;
}

#[tokio::test]
async fn availability_its_explanation_and_the_calendar_agree_with_the_bookings() {
    let camp = Camp::open().await;
    let first = camp.book(camp.on_pool, "2031-05-01", "2031-05-04").await.expect(201);
    let second = camp.book(camp.on_pool, "2031-05-03", "2031-05-06").await.expect(201);
    let third = camp.book(camp.on_pool, "2031-05-06", "2031-05-07").await.expect(201);
    camp.act(&third, "cancel", json!({})).await.expect(200);
    assert_eq!(camp.free(camp.on_pool, "2031-05-01", "2031-05-08").await, [1, 1, 0, 1, 1, 2, 2]);

    let explain = format!("/availability/explain?resource_id={}&from=2031-05-01&to=2031-05-08", camp.pool);
    let blocked = camp.get(&explain).await.expect(200).body["blocked"].as_array().unwrap().clone();
    let ids: Vec<&Value> = blocked.iter().map(|block| &block["booking_id"]).collect();
    assert_eq!(ids, [&first.body["id"], &second.body["id"]]);
    assert!(blocked.iter().all(|block| block["because"] == "booking"));

    let calendar = format!("/calendar?from=2031-05-01&to=2031-05-08&resource_id={}", camp.pool);
    let calendar = camp.get_now(&calendar).await;
    let days = calendar.body["items"].as_array().or(calendar.body["days"].as_array()).unwrap().clone();
    let of = |date: &str, member: &str| {
        days.iter().find(|day| day["date"] == date).map_or(0, |day| day[member].as_i64().unwrap())
    };
    for (date, booked, arrivals, departures, cancellations) in [
        ("2031-05-01", 1, 1, 0, 0),
        ("2031-05-03", 2, 1, 0, 0),
        ("2031-05-04", 1, 0, 1, 0),
        ("2031-05-06", 0, 0, 1, 1),
    ] {
        let found =
            (of(date, "booked"), of(date, "arrivals"), of(date, "departures"), of(date, "cancellations"));
        assert_eq!(found, (booked, arrivals, departures, cancellations), "{date}");
    }
    // Each night that is said to be free can be taken, and no other.
    for (night, free) in (1..8).zip([1, 1, 0, 1, 1, 2, 2]) {
        for n in 0..=free {
            let (check_in, check_out) = (format!("2031-05-0{night}"), format!("2031-05-0{}", night + 1));
            let taken = camp.book(camp.on_pool, &check_in, &check_out).await;
            assert_eq!(taken.status.as_u16(), if n < free { 201 } else { 409 }, "{check_in}: {}", taken.body);
        }
    }
    camp.close().await;
}

#[tokio::test]
async fn a_booking_can_bring_its_customer() {
    let camp = Camp::open().await;
    let mut body = TestApp::stay(camp.on_unit, camp.customer, "2031-05-01", "2031-05-03");
    body.as_object_mut().unwrap().remove("customer_id");
    body["customer"] = json!({"name": "Grace Hopper", "email": "grace@example.org"});
    let booked = camp.post("/bookings", &body).await.expect(201);
    let customer = camp.get(&format!("/customers/{}", booked.text("customer_id"))).await.expect(200);
    assert_eq!(
        (&customer.body["name"], &customer.body["email"]),
        (&json!("Grace Hopper"), &json!("grace@example.org"))
    );
    // Refused together: no customer is left behind.
    let head = camp.app.head(&camp.tenant).await;
    camp.post("/bookings", &body).await.expect_problem(409, "slot_taken");
    assert_eq!(camp.app.head(&camp.tenant).await, head);
    camp.close().await;
}

#[tokio::test]
async fn a_read_sees_the_position_that_it_names() {
    let camp = Camp::open().await;
    let node = camp.app.second_node().await;
    for n in 1..20 {
        let booked =
            camp.book(camp.on_unit, &format!("2031-05-{n:02}"), &format!("2031-05-{:02}", n + 1)).await;
        let booked = booked.expect(201);
        let position = booked.header("x-log-position").unwrap().to_owned();
        assert_eq!(position.parse::<i64>().unwrap(), camp.app.head(&camp.tenant).await);
        let headers = [("X-Min-Position", position.as_str())];
        let history = format!("/bookings/{}/history", id(&booked));
        for path in [format!("/bookings/{}", id(&booked)), history] {
            let seen = node.request(&camp.tenant, Method::GET, &path, &headers, None).await.expect(200);
            assert_ne!(seen.body["items"], json!([]), "{path}");
        }
    }
    camp.app
        .request(&camp.tenant, Method::GET, "/bookings", &[("X-Min-Position", "1000000")], None)
        .await
        .expect_problem(503, "unavailable");
    node.shut_down().await;
    camp.close().await;
}

#[tokio::test]
async fn the_schema_lists_every_route() {
    let camp = Camp::open().await;
    let document =
        read(camp.app.client.get(format!("http://{}/api/schema/", camp.app.address))).await.expect(200);
    assert!(document.text("openapi").starts_with("3.1"));
    let paths = document.body["paths"].as_object().unwrap();
    let mut expected: Vec<(String, &str)> =
        ["confirm", "reject", "cancel", "reschedule", "reassign", "check-in", "check-out", "no-show"]
            .map(|action| (format!("/bookings/{{id}}/{action}"), "post"))
            .to_vec();
    for collection in ["resources", "offerings", "schedules", "customers"] {
        expected.extend(["get", "post"].map(|method| (format!("/{collection}"), method)));
        expected.extend(["get", "patch", "delete"].map(|method| (format!("/{collection}/{{id}}"), method)));
    }
    for (path, method) in [
        ("/bookings", "get"),
        ("/bookings", "post"),
        ("/bookings/{id}", "get"),
        ("/bookings/{id}/history", "get"),
        ("/availability", "get"),
        ("/availability/explain", "get"),
        ("/calendar", "get"),
        ("/audit/events", "get"),
        ("/audit/streams/{type}/{id}", "get"),
    ] {
        expected.push((path.to_owned(), method));
    }
    for (path, method) in &expected {
        assert!(
            paths.get(&format!("/api/v1{path}")).is_some_and(|it| it.get(method).is_some()),
            "{method} {path}"
        );
    }
    assert_eq!(camp.status(&camp.book(camp.on_unit, "2031-05-01", "2031-05-02").await).await, "confirmed");
    camp.close().await;
}
