//! Erasing a person: nothing of them is left anywhere, and everything else is as it was.

use std::{collections::BTreeMap, time::Duration};

use daybook::{
    eventstore::{Command, Intent, StoreError, StreamRef, Unit, load::Reader, load::Until},
    tenancy::{Access, Schema, TenantTx},
    workers::projector,
};
use daybook_domain::{
    CustomerId, DomainError, Personal,
    customer::CustomerEvent,
    permission::Tier,
    registry::{AggregateType, AnyEvent},
    text::Name,
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::{TestApp, TestTenant, eventually, id, read},
    people::{PASSWORD, generous},
    site::by,
    walk::{Canary, Known, walk},
};

const MAIL: &str = "zq.mail@canary.example";
const ACCOUNT: &str = "zq.account@canary.example";
const CLOSED: &str = "zq.closed@canary.example";
/// Everything that is told of the person, once they are known.
const CANARIES: [&str; 14] = [
    "ZqFirst K7 é",
    "ZqName K7 é",
    "zq.first@canary.example",
    MAIL,
    "+32470918201",
    "+32470918202",
    "ZqNotes K7 é",
    "ZqOther notes K7",
    ACCOUNT,
    CLOSED,
    "ZqLead K7 é",
    "+32470918203",
    "ZqMessage K7 é",
    "ZQ-idempotency-key",
];

/// A person a tenant knows in every way there is.
pub struct Guest {
    pub customer: Uuid,
    pub bookings: [Uuid; 2],
    pub account: Uuid,
    pub refresh: String,
    pub lead: Uuid,
}

/// Lets a tenant get to know a person; nothing of theirs is left to come.
pub async fn known(app: &TestApp, tenant: &TestTenant) -> Guest {
    let person = json!({"name": CANARIES[0], "email": CANARIES[2], "phone": CANARIES[4]});
    let customer = id(&app.post_keyed(tenant, "/customers", CANARIES[13], &person).await.expect(201));
    let path = format!("/customers/{customer}");
    let change = async |body: Value| {
        app.request(tenant, Method::PATCH, &path, &[("If-Match", "*")], Some(&body)).await.expect(200);
    };
    change(json!({"name": CANARIES[1], "email": CANARIES[3]})).await;
    // As often as it takes for a snapshot.
    for n in 0..48 {
        change(json!({"phone": format!("+32470{n:06}")})).await;
    }
    change(json!({"phone": CANARIES[5]})).await;

    let resource = app.resource(tenant, "Cabins", 9).await;
    let offering = app.nights_offering(tenant, &[resource]).await;
    let mut bookings = [Uuid::nil(); 2];
    for (booking, notes) in bookings.iter_mut().zip([CANARIES[6], CANARIES[7]]) {
        let mut stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
        stay["notes"] = json!(notes);
        *booking = id(&app.post(tenant, "/bookings", &stay).await.expect(201));
        app.post(tenant, &format!("/bookings/{booking}/cancel"), &json!({})).await.expect(200);
    }

    let closed = app.account(Some(tenant), CLOSED, Tier::Customer, Some(CustomerId(customer))).await;
    let gone = format!("/users/{closed}");
    app.request(tenant, Method::DELETE, &gone, &[("If-Match", "*")], None).await.expect(204);
    app.account(Some(tenant), ACCOUNT, Tier::Customer, Some(CustomerId(customer))).await;
    let signed_in = app.sign_in(Some(tenant), ACCOUNT).await;
    app.anonymous_at(tenant, "/auth/password/reset", &json!({"email": ACCOUNT})).await.expect(202);
    let lead = json!({
        "name": CANARIES[10], "email": MAIL.to_uppercase(), "phone": CANARIES[11], "message": CANARIES[12],
    });
    let lead = id(&app.anonymous_at(tenant, "/public/leads", &lead).await.expect(201));

    let count = async |sql: &str| -> i64 {
        let owner = app.store.database().owner();
        sqlx::query_scalar(&tenant.schema().sql(sql)).fetch_one(owner).await.unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM {s}.snapshots").await, 1);
    eventually("the letter is sent", Duration::from_secs(10), async || {
        count("SELECT count(*) FROM {s}.messages WHERE status = 'sent'").await == 1
    })
    .await;
    eventually("the history follows", Duration::from_secs(10), async || {
        count("SELECT coalesce(min(position), -1) - (SELECT position FROM {s}.log_head) FROM {s}.projection_checkpoints")
            .await
            == 0
    })
    .await;
    Guest { customer, bookings, account: signed_in.id, refresh: signed_in.refresh, lead }
}

/// Every row of every table of a schema, as text; what follows clocks and other tenants left out.
pub async fn rows(app: &TestApp, schema: &Schema) -> BTreeMap<String, Vec<String>> {
    let owner = app.store.database().owner();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind = 'r'",
    )
    .bind(schema.name())
    .fetch_all(owner)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut all = BTreeMap::new();
    for table in tables {
        let sql = format!("SELECT t::text FROM {schema}.{table} t ORDER BY 1");
        let found = sqlx::query_scalar(&sql).fetch_all(owner).await.unwrap();
        all.insert(table, found);
    }
    all
}

/// The tables that hold a canary, as it is or as bytes.
async fn knowing(app: &TestApp, schema: &Schema) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for (table, rows) in rows(app, schema).await {
        let text = rows.join("\n").to_lowercase();
        for canary in CANARIES {
            let folded = canary.to_lowercase();
            if text.contains(&folded)
                || text.contains(&hex::encode(canary))
                || text.contains(&hex::encode(&folded))
            {
                found.push((table.clone(), canary));
            }
        }
    }
    found
}

pub async fn erase(app: &TestApp, tenant: &TestTenant, customer: Uuid) -> crate::support::app::Answer {
    let why = json!({"reason": "asked for by letter"});
    app.post(tenant, &format!("/customers/{customer}/erase"), &why).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_is_found_nowhere_and_nothing_else_is_missing() {
    let app = TestApp::start_with(daybook::config::SettingsPatch {
        read_limit_per_minute: Some(0),
        public_availability_limit_per_minute: Some(0),
        ..generous()
    })
    .await;
    let (tenant, other) = (app.business("camp").await, app.business("lake").await);
    let guest = known(&app, &tenant).await;
    known(&app, &other).await;
    let before = knowing(&app, &tenant.schema()).await;
    let tables: Vec<&str> = before.iter().map(|(table, _)| table.as_str()).collect();
    for table in ["customers", "bookings", "booking_history", "users", "leads", "snapshots", "idempotency"] {
        assert!(tables.contains(&table), "{table} knows nobody: {tables:?}");
    }
    let queued = "INSERT INTO {s}.messages (id, kind, recipient, subject, sealed_body, next_attempt_at)
                  VALUES (gen_random_uuid(), 'invitation', 'ZQ.First@canary.example', 'Hello', 'sealed', now() + interval '1 hour')";
    app.sql(&tenant.schema(), queued).await;
    let others = rows(&app, &other.schema()).await;
    let bystander = app.customer(&tenant, "Grace").await;

    let done = erase(&app, &tenant, guest.customer).await.expect(200);
    assert_eq!(
        (done.text("status").as_str(), done.text("customer_id")),
        ("done", guest.customer.to_string())
    );
    assert_eq!(done.header("x-log-position").unwrap().parse(), Ok(app.head(&tenant).await));
    assert_eq!(knowing(&app, &tenant.schema()).await, []);
    assert_eq!(knowing(&app, &Schema::platform()).await, []);
    let mut now = rows(&app, &other.schema()).await;
    for (table, rows) in &others {
        // Written by clocks, and by calls with keys; and the ledger follows a moment later.
        if !["projection_checkpoints", "api_call", "ledger_"].iter().any(|some| table.starts_with(some)) {
            assert_eq!(now.remove(table).as_ref(), Some(rows), "{table} of another tenant");
        }
    }

    let letters: Vec<(String, Option<String>, Option<String>, Option<String>)> = sqlx::query_as(
        &tenant
            .schema()
            .sql("SELECT status, COALESCE(recipient, sealed_recipient), last_error, sealed_body FROM {s}.messages ORDER BY status"),
    )
    .fetch_all(app.store.database().owner())
    .await
    .unwrap();
    let given_up = ("failed".to_owned(), None, Some("erased".to_owned()), None);
    assert_eq!(letters, [given_up, ("sent".to_owned(), None, None, None)]);

    // The house sees that there was somebody.
    let customer = app.get(&tenant, &format!("/customers/{}", guest.customer)).await.expect(200).body;
    assert_eq!(
        (&customer["name"], &customer["email"], &customer["phone"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&customer["erasure"], &customer["archived"]), (&json!("done"), &json!(true)));
    let head = app.head(&tenant).await;
    for booking in guest.bookings {
        let found = app.get(&tenant, &format!("/bookings/{booking}")).await.expect(200).body;
        assert_eq!((&found["notes"], &found["customer_id"]), (&Value::Null, &json!(guest.customer)));
        let then = app.get(&tenant, &format!("/bookings/{booking}?as_of={head}")).await.expect(200).body;
        assert_eq!(then["notes"], Value::Null);
        let history = app.get(&tenant, &format!("/bookings/{booking}/history")).await.expect(200).body;
        let notes: Vec<&Value> = history["items"][0]["changes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["path"] == "/notes")
            .collect();
        assert_eq!(notes.len(), 1);
        assert_eq!((&notes[0]["old"], &notes[0]["new"]), (&Value::Null, &json!("[erased]")));
    }
    let lead = app.get(&tenant, &format!("/leads/{}", guest.lead)).await.expect(200).body;
    assert_eq!((&lead["name"], &lead["message"]), (&Value::Null, &Value::Null));
    assert_eq!(app.get(&tenant, &format!("/customers/{bystander}")).await.expect(200).body["name"], "Grace");
    let user = app.get(&tenant, &format!("/users/{}", guest.account)).await.expect(200).body;
    assert_eq!((&user["status"], &user["email"]), (&json!("deleted"), &Value::Null));
    app.login(Some(&tenant), ACCOUNT, PASSWORD).await.expect_problem(401, "unauthenticated");
    app.refresh(&guest.refresh).await.expect_problem(401, "unauthenticated");
    let list = app.get(&tenant, "/audit/erasures?status=done").await.expect(200).body;
    assert_eq!(list["items"][0]["customer_id"], json!(guest.customer));
    let events =
        app.get(&tenant, &format!("/audit/streams/customer/{}?limit=200", guest.customer)).await.expect(200);
    let events = events.body["items"].as_array().unwrap().clone();
    let last: Vec<&Value> = events.iter().rev().take(2).map(|event| &event["type"]).collect();
    assert_eq!(last, ["customer.erased", "customer.erasure_requested"]);
    assert_eq!(events[0]["payload"]["name"], "[personal]");

    // It is what a replay says, also one that begins anew.
    for _ in 0..2 {
        let report = projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
        assert!(report.is_equal(), "{report:#?}");
        for name in ["calendar", "booking_history", "pace"] {
            projector::rebuild(&app.store, &tenant.schema(), name, |_, _| {}).await.unwrap();
        }
    }
    assert_eq!(knowing(&app, &tenant.schema()).await, []);

    // No question finds anything, and no log was told.
    let canaries = CANARIES.iter().map(|value| Canary { what: value, value: (*value).to_owned() }).collect();
    let known = Known { slug: tenant.slug.clone(), canaries, ..Known::default() };
    app.sign_now(&tenant).await;
    let walked = walk(&app, &tenant.token, &known).await;
    assert_eq!(walked.findings, []);
    assert!(walked.routes_walked.contains("/api/v1/customers/{id}"));
    let logs = app.data_dir().join("logs");
    for file in std::fs::read_dir(logs).unwrap() {
        let file = file.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).to_lowercase();
        for canary in CANARIES {
            assert!(!text.contains(&canary.to_lowercase()), "{canary} is in {}", file.display());
        }
    }

    // It cannot be had back, or done twice.
    let head = app.head(&tenant).await;
    let again = erase(&app, &tenant, guest.customer).await.expect(200);
    assert_eq!((again.text("status").as_str(), app.head(&tenant).await), ("done", head));
    let update = json!({"name": "Eve"});
    let path = format!("/customers/{}", guest.customer);
    let refused = app.request(&tenant, Method::PATCH, &path, &[("If-Match", "*")], Some(&update)).await;
    refused.expect_problem(409, "wrong_state");
    let hold = json!({"name": "Case 7", "customer_id": guest.customer, "reason": "a writ"});
    app.post(&tenant, "/audit/holds", &hold).await.expect_problem(409, "wrong_state");
    app.assert_gap_free(&tenant).await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_refused_where_somebody_is_expected_or_works_for_the_house() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let resource = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[resource]).await;
    let customer = app.customer(&tenant, "Ada").await;
    let stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
    let booking = id(&app.post(&tenant, "/bookings", &stay).await.expect(201));
    let path = format!("/customers/{customer}/erase");
    app.post(&tenant, &path, &json!({})).await.expect_problem(422, "validation_failed");
    app.post(&tenant, &path, &json!({"reason": " "})).await.expect_problem(422, "validation_failed");
    erase(&app, &tenant, customer).await.expect_problem(409, "wrong_state");
    erase(&app, &tenant, Uuid::now_v7()).await.expect_problem(404, "not_found");
    app.post(&tenant, &format!("/bookings/{booking}/cancel"), &json!({})).await.expect(200);

    let account =
        app.account(Some(&tenant), "ada@example.org", Tier::Customer, Some(CustomerId(customer))).await;
    app.post(&tenant, &format!("/users/{account}/role"), &json!({"role": "tenant_staff"})).await.expect(200);
    let told = erase(&app, &tenant, customer).await.expect_problem(409, "wrong_state");
    assert!(
        told.text("detail").contains("works") || told.text("detail").contains("account"),
        "{}",
        told.body
    );
    let user = app.get(&tenant, &format!("/users/{account}")).await.expect(200).body;
    assert_eq!(user["status"], "active");
    let gone = format!("/users/{account}");
    app.request(&tenant, Method::DELETE, &gone, &[("If-Match", "*")], None).await.expect(204);

    // Under one key it is one request, whose answer stays.
    let why = json!({"reason": "asked for by letter"});
    let first = app.post_keyed(&tenant, &path, "once", &why).await.expect(200);
    let head = app.head(&tenant).await;
    let again = app.post_keyed(&tenant, &path, "once", &why).await.expect(200);
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &first.body));
    assert_eq!(app.head(&tenant).await, head);
    app.post_keyed(&tenant, &path, "once", &json!({"reason": "other"}))
        .await
        .expect_problem(422, "idempotency_key_reused");
    app.post(&tenant, "/bookings", &stay).await.expect_problem(409, "wrong_state");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_remembers_and_nothing_late_is_taken() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let node = app.second_node().await;
    let customer = app.customer(&tenant, "Ada").await;
    let rename = |sequence| {
        let name = Name::new("ZqLate", "").unwrap();
        let event = AnyEvent::from(CustomerEvent::Updated {
            customer_id: CustomerId(customer),
            name: Some(Personal::new(name)),
            email: None,
            phone: None,
            removed: Vec::new(),
        });
        let command = Command::decided(customer, AggregateType::Customer, sequence, vec![event]);
        assert!(matches!(command.intent, Intent::Decided(_)));
        Unit::of(command, by("test"))
    };
    // Both nodes have the key in memory.
    for (store, sequence) in [(&app.store, 1), (&node.store, 2), (&app.store, 3), (&node.store, 4)] {
        store.execute(&tenant.schema(), rename(sequence)).await.unwrap();
    }
    erase(&app, &tenant, customer).await.expect(200);
    for store in [&app.store, &node.store] {
        match store.execute(&tenant.schema(), rename(7)).await {
            Err(StoreError::Refused { error: DomainError::WrongState { state, .. }, .. }) => {
                assert_eq!(state, "erased");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(knowing(&app, &tenant.schema()).await, []);
    app.assert_gap_free(&tenant).await;
    node.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_folded_late_forget_as_well() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let guest = known(&app, &tenant).await;
    let schema = tenant.schema();
    let (kept,): (Value,) = sqlx::query_as(&schema.sql("SELECT jsonb_agg(h) FROM {s}.booking_history h"))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    erase(&app, &tenant, guest.customer).await.expect(200);
    let caught_up = async || {
        let sql = schema.sql(
            "SELECT position = (SELECT position FROM {s}.log_head) FROM {s}.projection_checkpoints
             WHERE name = 'booking_history'",
        );
        sqlx::query_scalar::<_, bool>(&sql).fetch_one(app.store.database().owner()).await.unwrap()
    };
    eventually("the history follows", Duration::from_secs(10), caught_up).await;
    // A rebuild that had folded them before: its rows are put in place when it comes to the erasure.
    let owner = app.store.database().owner();
    let sql = schema.sql(
        "WITH kept AS (SELECT * FROM jsonb_populate_recordset(NULL::{s}.booking_history, $1)),
              back AS (UPDATE {s}.booking_history h SET changes = kept.changes FROM kept
                       WHERE kept.booking_id = h.booking_id AND kept.sequence = h.sequence)
         UPDATE {s}.projection_checkpoints SET position = (
             SELECT position - 1 FROM {s}.events WHERE event_type = 'customer.erased') WHERE name = 'booking_history'",
    );
    sqlx::query(&sql).bind(kept).execute(owner).await.unwrap();
    app.customer(&tenant, "Grace").await;
    eventually("the history forgets", Duration::from_secs(10), async || {
        caught_up().await && knowing(&app, &schema).await.is_empty()
    })
    .await;

    // What a killed rebuild left goes, and what one makes stays.
    let scratch = schema.scratch("rebuild");
    let there = async || -> bool {
        let sql = "SELECT to_regnamespace($1) IS NOT NULL";
        sqlx::query_scalar(sql).bind(scratch.name()).fetch_one(owner).await.unwrap()
    };
    sqlx::raw_sql(&format!("CREATE SCHEMA {scratch}; CREATE TABLE {scratch}.left_over (n int)"))
        .execute(owner)
        .await
        .unwrap();
    let mut making = owner.acquire().await.unwrap();
    let lock = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
    sqlx::query(lock).bind(scratch.name()).execute(&mut *making).await.unwrap();
    assert_eq!((projector::drop_leftovers(&app.store).await.unwrap(), there().await), (0, true));
    let unlock = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";
    sqlx::query(unlock).bind(scratch.name()).execute(&mut *making).await.unwrap();
    assert_eq!((projector::drop_leftovers(&app.store).await.unwrap(), there().await), (1, false));
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_and_was_not_erased_is_no_erasure() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    let (ada, eve) = (app.customer(&tenant, "Ada").await, app.customer(&tenant, "Eve").await);
    let owner = app.store.database().owner();
    let reads = async |customer: Uuid| {
        let mut reader = Reader::disclosing(&schema, &app.keys);
        let stream = StreamRef { aggregate_type: AggregateType::Customer, id: customer };
        let mut connection = owner.acquire().await.unwrap();
        reader
            .stream(&mut connection, stream, Until::End)
            .await
            .map(|events| events.len())
            .map_err(|error| error.to_string())
    };
    assert_eq!(reads(ada).await, Ok(1));
    // Swapped subjects.
    let swap = "UPDATE {s}.sealed_values SET subject_id = $1 WHERE subject_id = $2";
    sqlx::query(&schema.sql(swap)).bind(eve).bind(ada).execute(owner).await.unwrap();
    assert!(reads(ada).await.unwrap_err().contains("somebody else's"));
    let back = "UPDATE {s}.sealed_values v SET subject_id = $2 FROM {s}.events e
                WHERE v.position = e.position AND v.subject_id = $1 AND e.aggregate_id = $2";
    sqlx::query(&schema.sql(back)).bind(eve).bind(ada).execute(owner).await.unwrap();
    assert_eq!((reads(ada).await, reads(eve).await), (Ok(1), Ok(1)));
    // A value that was taken away, with its key alive, and then without any.
    app.sql(&schema, &format!("DELETE FROM {{s}}.sealed_values WHERE subject_id = '{ada}'")).await;
    assert!(reads(ada).await.unwrap_err().contains("not destroyed"));
    app.sql(&schema, &format!("DELETE FROM {{s}}.subject_keys WHERE subject_id = '{ada}'")).await;
    assert!(reads(ada).await.unwrap_err().contains("unknown"));
    app.sql(&schema, &format!("DELETE FROM {{s}}.subject_keys WHERE subject_id = '{eve}'")).await;
    assert!(reads(eve).await.unwrap_err().contains("no subject key"));
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schemas_own_role_can_destroy_nothing_by_itself() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let customer = app.customer(&tenant, "Ada").await;
    let hold = json!({"name": "Case 7", "reason": "a writ"});
    let hold = id(&app.post(&tenant, "/audit/holds", &hold).await.expect(201));
    let tries = async |sql: String| {
        let mut tx =
            TenantTx::begin(app.store.database().app(), &tenant.schema(), Access::Write).await.unwrap();
        let answer = sqlx::query(&sql).execute(&mut *tx).await;
        match answer.unwrap_err() {
            sqlx::Error::Database(error) => error.code().unwrap().into_owned(),
            other => panic!("{other}"),
        }
    };
    for sql in [
        "DELETE FROM sealed_values".to_owned(),
        "UPDATE sealed_values SET ciphertext = ''".to_owned(),
        "DELETE FROM subject_keys".to_owned(),
        "UPDATE subject_keys SET wrapped_key = NULL, destroyed_at = now()".to_owned(),
        "INSERT INTO subject_keys (subject_id, destroyed_at) VALUES (gen_random_uuid(), now())".to_owned(),
        "DELETE FROM legal_holds".to_owned(),
        "UPDATE legal_holds SET customer_id = gen_random_uuid()".to_owned(),
        "UPDATE legal_holds SET from_position = 1000".to_owned(),
    ] {
        assert_eq!(tries(sql.clone()).await, "42501", "{sql}");
    }
    for position in 0..=app.head(&tenant).await {
        assert_eq!(tries(format!("SELECT erase_subjects({position})")).await, "22023");
    }
    // Not even with an event that says so, while the hold stands.
    erase(&app, &tenant, customer).await.expect(202);
    let forged = format!(
        "WITH forged AS (SELECT convert_to('{{\"type\":\"customer.erased\",\"payload\":{{\"customer_id\":\"{customer}\",\"subjects\":[\"{customer}\"]}}}}', 'UTF8') AS leaf),
              written AS (INSERT INTO events (position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, recorded_at, actor, leaf)
                          SELECT 1000, gen_random_uuid(), 'customer', '{customer}', 3, 'customer.erased', 1, now(), 'x', '\\x01'::bytea || leaf FROM forged RETURNING position)
         SELECT count(*) FROM written"
    );
    let mut tx = TenantTx::begin(app.store.database().app(), &tenant.schema(), Access::Write).await.unwrap();
    sqlx::query(&forged).execute(&mut *tx).await.unwrap();
    let refused = sqlx::query("SELECT erase_subjects(1000)").execute(&mut *tx).await.unwrap_err();
    assert!(refused.to_string().contains("a legal hold stands against it"), "{refused}");
    tx.rollback().await.unwrap();
    let path = format!("/audit/holds/{hold}");
    read(
        app.client
            .delete(app.url(&path))
            .bearer_auth(&tenant.token)
            .header("If-Match", "*")
            .json(&json!({"reason": "closed"})),
    )
    .await
    .expect(204);
    app.shut_down().await;
}
