//! The log as history: states as they were, diffs, the audit trail; and who is not in it by name.

use chrono::{DateTime, TimeDelta, Utc};
use daybook::eventstore::{
    leaf::{Leaf, commitment},
    seal,
};
use daybook_domain::{
    booking::{BookedTime, Booking},
    registry::{AggregateType, AnyState, Registered as _},
};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::{
    app::{TestApp, TestTenant, id, read},
    process::Host,
};

/// The leaves of a log, as the database holds them.
async fn leaves(app: &TestApp, tenant: &TestTenant) -> Vec<(i64, Vec<u8>)> {
    let sql = tenant.schema().sql("SELECT position, leaf FROM {s}.events ORDER BY position");
    sqlx::query_as(&sql).fetch_all(app.store.database().owner()).await.unwrap()
}

/// Folds a booking from the leaves alone, as far as a position; no reader of ours in between.
fn folded(leaves: &[(i64, Vec<u8>)], booking: Uuid, until: i64) -> Option<(i64, Booking)> {
    let mut state = AnyState::new(AggregateType::Booking);
    let mut sequence = 0;
    for (position, leaf) in leaves.iter().filter(|(position, _)| *position <= until) {
        let event = Leaf::decode(leaf, *position).unwrap().into_recorded(*position).unwrap();
        if event.aggregate_id == booking {
            state.apply(&event.event);
            sequence = event.sequence;
        }
    }
    (sequence > 0).then(|| (sequence, Booking::of(&state).unwrap().as_ref().clone()))
}

/// What an answer says of a booking, and what a fold does, in the same words.
fn told(body: &Value) -> Value {
    let mut told = serde_json::Map::new();
    for member in
        ["status", "resource_id", "unit", "check_in", "check_out", "price", "fee", "guests", "version"]
    {
        told.insert(member.to_owned(), body[member].clone());
    }
    Value::Object(told)
}

fn fold_told((sequence, booking): &(i64, Booking)) -> Value {
    let BookedTime::Nights { nights, .. } = &booking.when else { panic!("not by nights") };
    let money =
        |money: &daybook_domain::Money| json!({"amount": money.amount, "currency": money.currency.as_str()});
    json!({
        "status": booking.status.as_str(), "resource_id": booking.resource_id, "unit": booking.unit,
        "check_in": nights.check_in(), "check_out": nights.check_out(), "price": money(&booking.price),
        "fee": booking.fee.as_ref().map(money), "guests": booking.guests, "version": sequence,
    })
}

/// A booking that was held, confirmed, moved twice and cancelled, between events of others.
async fn moved_about(app: &TestApp, tenant: &TestTenant) -> Uuid {
    let unit = app.resource(tenant, "Cabin", 1).await;
    let pool = app.resource(tenant, "Pitches", 3).await;
    let offering = app.nights_offering(tenant, &[unit, pool]).await;
    let customer = app.customer(tenant, "Ada").await;
    let mut body = TestApp::stay(offering, customer, "2031-05-01", "2031-05-04");
    body["hold"] = json!(true);
    let booking = id(&app.post(tenant, "/bookings", &body).await.expect(201));
    for (action, body) in [
        ("confirm", json!({})),
        ("reschedule", json!({"check_in": "2031-06-01", "check_out": "2031-06-02", "reason": "they asked"})),
        ("reassign", json!({"resource_id": pool, "unit": 2})),
        ("cancel", json!({"reason": "rain"})),
    ] {
        app.customer(tenant, "Somebody else").await;
        app.post(tenant, &format!("/bookings/{booking}/{action}"), &body).await.expect(200);
    }
    booking
}

#[tokio::test]
async fn a_booking_as_of_any_position_or_time_is_the_replay_up_to_there() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let booking = moved_about(&app, &tenant).await;
    let leaves = leaves(&app, &tenant).await;
    let mut statuses = Vec::new();
    for (position, leaf) in &leaves {
        let recorded_at = Leaf::decode(leaf, *position).unwrap().recorded_at;
        let expected = folded(&leaves, booking, *position);
        for as_of in [position.to_string(), recorded_at.clone()] {
            let answer = app.get(&tenant, &format!("/bookings/{booking}?as_of={as_of}")).await;
            match &expected {
                None => drop(answer.expect_problem(404, "not_found")),
                Some(expected) => {
                    let answer = answer.expect(200);
                    assert_eq!(told(&answer.body), fold_told(expected), "as of {as_of}");
                    assert_eq!(answer.header("etag").unwrap(), format!("\"{}\"", expected.0));
                    statuses.push(answer.text("status"));
                }
            }
        }
        // A microsecond earlier it was what the position before says.
        let before: DateTime<Utc> = recorded_at.parse().unwrap();
        let before =
            (before - TimeDelta::microseconds(1)).to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let answer = app.get(&tenant, &format!("/bookings/{booking}?as_of={before}")).await;
        match folded(&leaves, booking, position - 1) {
            None => drop(answer.expect_problem(404, "not_found")),
            Some(expected) => assert_eq!(told(&answer.expect(200).body), fold_told(&expected)),
        }
    }
    statuses.dedup();
    assert_eq!(statuses, ["held", "confirmed", "cancelled"]);
    let now = app.get(&tenant, &format!("/bookings/{booking}")).await.expect(200);
    assert_eq!(told(&now.body), fold_told(&folded(&leaves, booking, i64::MAX).unwrap()));
    app.get(&tenant, &format!("/bookings/{booking}?as_of=yesterday"))
        .await
        .expect_problem(422, "validation_failed");
    app.shut_down().await;
}

#[tokio::test]
async fn the_history_is_a_chain_of_diffs_from_nothing_to_now() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let booking = moved_about(&app, &tenant).await;
    let head = app.head(&tenant).await.to_string();
    let path = format!("/bookings/{booking}/history");
    let headers = [("X-Min-Position", head.as_str())];
    let history = app.request(&tenant, Method::GET, &path, &headers, None).await.expect(200);
    let items = history.body["items"].as_array().unwrap();
    let types: Vec<&str> = items.iter().map(|item| item["type"].as_str().unwrap()).collect();
    let expected = [
        "booking.held",
        "booking.confirmed",
        "booking.rescheduled",
        "booking.reassigned",
        "booking.cancelled",
    ];
    assert_eq!(types, expected);

    let mut state = Value::Null;
    for (item, sequence) in items.iter().zip(1..) {
        assert_eq!(item["sequence"], sequence);
        assert_eq!(item["actor"], format!("key:{}", tenant.token_id));
        for change in item["changes"].as_array().unwrap() {
            let path = change["path"].as_str().unwrap();
            assert_ne!(change["old"], change["new"], "{path} did not change");
            let before = state.pointer(path).cloned().unwrap_or_default();
            assert_eq!(change["old"], before, "{path} of event {sequence}");
            set(&mut state, path, change["new"].clone());
        }
    }
    assert_eq!(state["status"], "cancelled");
    assert_eq!(state["when"]["nights"], json!({"check_in": "2031-06-01", "check_out": "2031-06-02"}));
    assert_eq!((&items[2]["reason"], &items[4]["reason"]), (&json!("they asked"), &json!("rain")));
    assert_eq!(items[0]["source"], "api");
    app.shut_down().await;
}

/// Puts a value at a pointer, whose parent is there.
fn set(state: &mut Value, path: &str, value: Value) {
    match path.rsplit_once('/') {
        None => *state = value,
        Some((parent, member)) => state.pointer_mut(parent).unwrap()[member] = value,
    }
}

#[tokio::test]
async fn the_audit_trail_gives_the_leaves_and_their_hashes() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let booking = moved_about(&app, &tenant).await;
    let leaves = leaves(&app, &tenant).await;
    let all = app.get(&tenant, "/audit/events?limit=200").await.expect(200);
    let items = all.body["items"].as_array().unwrap();
    assert_eq!(items.len(), leaves.len());
    for (item, (position, leaf)) in items.iter().zip(&leaves) {
        assert_eq!(item["position"], *position);
        let mut hasher = Sha256::new();
        hasher.update([0_u8]);
        hasher.update(leaf);
        assert_eq!(item["leaf_hash"], hex::encode(hasher.finalize()));
        assert_eq!(leaf[0], 1, "the version of the leaf");
        let canonical: Value = serde_json::from_slice(&leaf[1..]).unwrap();
        assert_eq!(serde_json_canonicalizer::to_vec(&canonical).unwrap(), leaf[1..], "not canonical");
        for (member, name) in
            [("payload", "payload"), ("event_id", "id"), ("type", "type"), ("actor", "actor")]
        {
            assert_eq!(item[member], canonical[name], "{member}");
        }
        assert_eq!(canonical["tenant"], tenant.id.to_string());
        assert_eq!(canonical["position"], position.to_string(), "64-bit numbers are texts");
    }
    // The columns are an index over the leaf, and say the same.
    let sql = tenant.schema().sql(
        "SELECT count(*) FROM {s}.events e, LATERAL (SELECT convert_from(substring(leaf FROM 2), 'UTF8')::jsonb AS j) l
         WHERE (j->>'position', j->>'id', j->>'type', j->>'aggregate_type', j->>'aggregate_id', j->>'sequence', j->>'actor')
             = (e.position::text, e.event_id::text, e.event_type, e.aggregate_type, e.aggregate_id::text, e.sequence::text, e.actor)
           AND (j->>'recorded_at')::timestamptz = e.recorded_at AND (j->>'version')::int = e.event_version",
    );
    let (same,): (i64,) = sqlx::query_as(&sql).fetch_one(app.store.database().owner()).await.unwrap();
    assert_eq!(same, leaves.len() as i64);

    let stream = app.get(&tenant, &format!("/audit/streams/booking/{booking}")).await.expect(200);
    let of_booking: Vec<&Value> =
        items.iter().filter(|item| item["aggregate_id"] == booking.to_string()).collect();
    assert_eq!(stream.body["items"].as_array().unwrap().iter().collect::<Vec<_>>(), of_booking);
    app.shut_down().await;
}

#[tokio::test]
async fn pages_of_the_audit_trail_hold_each_event_once_under_any_filter() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let booking = moved_about(&app, &tenant).await;
    let all = app.get(&tenant, "/audit/events?limit=200").await.expect(200).body["items"]
        .as_array()
        .unwrap()
        .clone();
    let times: Vec<&str> = all.iter().map(|item| item["recorded_at"].as_str().unwrap()).collect();
    let filters: Vec<(String, Box<dyn Fn(&Value) -> bool + '_>)> = vec![
        (String::new(), Box::new(|_| true)),
        ("after=5".to_owned(), Box::new(|item| item["position"].as_i64() > Some(5))),
        ("type=customer.registered".to_owned(), Box::new(|item| item["type"] == "customer.registered")),
        (
            format!("aggregate=booking:{booking}"),
            Box::new(move |item| item["aggregate_id"] == booking.to_string()),
        ),
        ("actor=nobody".to_owned(), Box::new(|_| false)),
        (
            format!("from={}&to={}", times[3], times[8]),
            Box::new(|item| (times[3]..times[8]).contains(&item["recorded_at"].as_str().unwrap())),
        ),
    ];
    for (filter, matches) in &filters {
        let expected: Vec<Value> = all.iter().filter(|item| matches(item)).cloned().collect();
        for limit in [1, 2, 3, 200] {
            let mut found = Vec::new();
            let mut cursor = String::new();
            loop {
                let path = format!("/audit/events?limit={limit}&{filter}{cursor}");
                let page = app.get(&tenant, &path.replace("&&", "&")).await.expect(200);
                let items = page.body["items"].as_array().unwrap();
                assert!(items.len() <= limit);
                found.extend(items.iter().cloned());
                match page.body["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(found, expected, "{filter} by {limit}");
        }
    }
    app.shut_down().await;
}

const CANARIES: [&str; 6] = [
    "Canaria Quux",
    "Canaria Married",
    "canary@quux.example",
    "+32 499 77 66 55",
    "allergic to canaries",
    "canary-not-an-address",
];

/// A server process, so that its log is all there is of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_persons_data_is_where_it_belongs_and_nowhere_else() {
    let app = TestApp::start().await;
    let host = Host::on(&app.db).logging("trace");
    let server = host.serve();
    let tenant = host.json(&["tenant", "create", "canary", "--name", "Canary", "--json"]);
    let (token, tenant_id) = (tenant["token"].as_str().unwrap(), tenant["tenant_id"].as_str().unwrap());
    let ask = async |method: Method, path: &str, body: Value| {
        let request =
            app.client.request(method, format!("{}/api/v1{path}", server.address)).bearer_auth(token);
        read(
            request.header("If-Match", "*").header("Idempotency-Key", Uuid::now_v7().to_string()).json(&body),
        )
        .await
    };
    let [name, married, email, phone, notes, no_address] = CANARIES;
    let person = json!({"name": name, "email": email, "phone": phone});
    let customer = ask(Method::POST, "/customers", person.clone()).await.expect(201);
    let path = format!("/customers/{}", id(&customer));
    ask(Method::PATCH, &path, json!({"name": married})).await.expect(200);
    let unit =
        id(&ask(Method::POST, "/resources", json!({"name": "Cabin", "kind": "unit"})).await.expect(201));
    let offering = json!({"name": "Stay", "mode": "nights", "resource_ids": [unit], "price_per": "night",
                          "price": {"amount": 1, "currency": "EUR"}});
    let offering = id(&ask(Method::POST, "/offerings", offering).await.expect(201));
    let mut stay = TestApp::stay(offering, id(&customer), "2031-05-01", "2031-05-02");
    stay["notes"] = json!(notes);
    let booked = ask(Method::POST, "/bookings", stay.clone()).await.expect(201);

    // Where it belongs.
    let read_back = ask(Method::GET, &path, json!({})).await.expect(200);
    assert_eq!((&read_back.body["name"], &read_back.body["email"]), (&json!(married), &json!(email)));
    assert_eq!((&read_back.body["phone"], &booked.body["notes"]), (&json!(phone), &json!(notes)));

    // Problems of every kind that such a request can run into.
    let mut problems = Vec::new();
    let mut bad = stay.clone();
    bad["customer"] = person;
    let mut wrong = json!({"name": name, "email": no_address, "phone": phone});
    for (method, path, body) in [
        (Method::POST, "/bookings", stay),
        (Method::POST, "/bookings", bad),
        (Method::POST, "/customers", wrong.clone()),
        (Method::POST, "/customers", json!({"name": [name]})),
        (Method::POST, "/customers", json!({name: email})),
        (Method::POST, "/customers", json!({"name": name, "email": {"address": email}})),
        (Method::PATCH, path.as_str(), json!({"email": no_address})),
    ] {
        let answer = ask(method, path, body).await;
        assert!(answer.status.is_client_error(), "{}", answer.body);
        problems.push(answer.body.to_string());
    }
    wrong["name"] = json!(format!("{name}\u{0}"));
    problems
        .push(ask(Method::POST, "/customers", wrong).await.expect_problem(400, "malformed").body.to_string());
    let search = format!("/customers?name={}", no_address);
    problems.push(ask(Method::GET, &search, json!({})).await.body.to_string());
    let audit = ask(Method::GET, "/audit/events", json!({})).await.expect(200);
    problems.push(audit.body.to_string());
    server.terminate();

    let schema = daybook::tenancy::Schema::tenant(tenant_id.parse().unwrap());
    let owner = app.store.database().owner();
    let stored = async |sql: &str| -> String {
        sqlx::query_scalar::<_, Option<String>>(&schema.sql(sql)).fetch_one(owner).await.unwrap().unwrap()
    };
    let log = host.log();
    assert!(log.len() > 1_000, "it logs at this level: {log}");
    let places = [
        (
            "the leaves",
            stored("SELECT string_agg(convert_from(substring(leaf FROM 2), 'UTF8'), ' ') FROM {s}.events")
                .await,
        ),
        ("the answers kept", stored("SELECT string_agg(i::text, ' ') FROM {s}.idempotency i").await),
        (
            "the unique values",
            stored("SELECT coalesce(string_agg(u::text, ' '), '') FROM {s}.unique_claims u").await,
        ),
        (
            "the sealed values",
            stored("SELECT string_agg(encode(ciphertext, 'escape'), ' ') FROM {s}.sealed_values").await,
        ),
        ("the problems", problems.join("\n")),
        ("the server's log", log),
    ];
    for (place, text) in places {
        for canary in CANARIES {
            // A field that a client made up is named in the refusal, which only that client sees.
            let text = if place == "the problems" {
                text.replace(&format!("\"pointer\":\"/{name}\""), "")
            } else {
                text.clone()
            };
            assert!(!text.contains(canary), "{canary} is in {place}");
        }
    }
    app.shut_down().await;
}

#[tokio::test]
async fn each_personal_value_is_sealed_and_committed_to() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let person = json!({"name": "Ada", "email": "ada@example.org", "phone": "+32 1"});
    let customer = id(&app.post(&tenant, "/customers", &person).await.expect(201));
    let schema = tenant.schema();
    let owner = app.store.database().owner();
    let (position, leaf) = leaves(&app, &tenant).await.pop().unwrap();
    let leaf = Leaf::decode(&leaf, position).unwrap();
    assert_eq!(leaf.commitments.keys().collect::<Vec<_>>(), ["email", "name", "phone"]);
    assert_eq!(leaf.payload["name"], "[personal]");

    let (wrapped,): (Vec<u8>,) =
        sqlx::query_as(&schema.sql("SELECT wrapped_key FROM {s}.subject_keys WHERE subject_id = $1"))
            .bind(customer)
            .fetch_one(owner)
            .await
            .unwrap();
    let key = app.keys.unwrap_subject_key(customer, tenant.id.0, &wrapped).unwrap();
    let rows: Vec<(String, Uuid, Vec<u8>)> = sqlx::query_as(
        &schema.sql("SELECT field, subject_id, ciphertext FROM {s}.sealed_values WHERE position = $1"),
    )
    .bind(position)
    .fetch_all(owner)
    .await
    .unwrap();
    assert_eq!(rows.len(), 3);
    for (field, subject, ciphertext) in rows {
        assert_eq!(subject, customer);
        let committed = &leaf.commitments[&field];
        let value = seal::unseal(&key, tenant.id, leaf.id, &field, &ciphertext, committed).unwrap();
        assert_eq!(value, person[&field]);
        // Bound to its place: the same ciphertext opens nowhere else, and another commitment is noticed.
        assert!(seal::unseal(&key, tenant.id, Uuid::now_v7(), &field, &ciphertext, committed).is_err());
        let other = hex::encode(commitment(leaf.id, &field, &[0; 32], b"\"Eve\""));
        assert!(seal::unseal(&key, tenant.id, leaf.id, &field, &ciphertext, &other).is_err());
    }
    app.shut_down().await;
}
