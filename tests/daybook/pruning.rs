//! A log that is pruned shows what it showed, as far as it is kept; and nothing else takes an event away.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use daybook::{
    eventstore::{Command, Unit, prune::Hindrance},
    ledger::Ledger,
    tenancy::{Access, Schema, TenantTx},
    workers::{
        log_pruning::{self, Cut, PruneReport},
        projector,
    },
};
use daybook_domain::{
    Name,
    audit_export::{AuditExportCommand, ExportFilter, ExportFormat},
    envelope::Metadata,
    legal_hold::LegalHoldCommand,
    permission::Tier,
};
use serde_json::{Value, json};
use sqlx::Executor as _;
use uuid::Uuid;

use crate::support::{
    app::{TestApp, TestTenant, id},
    process::Host,
    site::Dice,
};

/// Real bookings, and some that went through everything; answers with their ids.
async fn lived_in(app: &TestApp, tenant: &TestTenant) -> Vec<Uuid> {
    let host = Host::beside(app, app.db.app_url.clone());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/hotel_bookings_july_2016.csv.gz");
    let arguments =
        ["import", "bookings", file, "--tenant", &tenant.slug, "--pool-size", "18", "--limit", "40"];
    host.run(&arguments);
    app.person(tenant, "owner@camp.example", Tier::TenantOwner).await;
    let pool = app.resource(tenant, "Pitches", 3).await;
    let offering = app.nights_offering(tenant, &[pool]).await;
    let mut bookings = Vec::new();
    for n in 0..4 {
        let customer = app.customer(tenant, &format!("Guest {n}")).await;
        let mut body = TestApp::stay(offering, customer, "2031-05-01", "2031-05-04");
        body["hold"] = json!(n % 2 == 0);
        body["notes"] = json!("late");
        let answer = app.post(tenant, "/bookings", &body).await;
        if answer.status == 201 {
            bookings.push(id(&answer));
        }
    }
    for (n, booking) in bookings.iter().enumerate() {
        let steps = [
            ("confirm", json!({})),
            (
                "reschedule",
                json!({"check_in": "2031-06-01", "check_out": "2031-06-03", "reason": "they asked"}),
            ),
            ("cancel", json!({"reason": "rain"})),
        ];
        for (action, body) in steps.iter().take(n + 1) {
            app.post(tenant, &format!("/bookings/{booking}/{action}"), body).await;
        }
    }
    let rows: Vec<(Uuid,)> = sqlx::query_as(&tenant.schema().sql("SELECT id FROM {s}.bookings ORDER BY id"))
        .fetch_all(app.store.database().owner())
        .await
        .unwrap();
    rows.into_iter().map(|row| row.0).collect()
}

pub async fn caught_up(app: &TestApp, tenant: &TestTenant) {
    let head = app.head(tenant).await;
    for projection in daybook_projections::ALL {
        let wait = Duration::from_secs(20);
        let seen = projector::wait_for(&app.store, &tenant.schema(), projection.name(), head, wait).await;
        assert!(seen.unwrap(), "{} is behind", projection.name());
    }
}

/// What the API tells of now; not how often anything was changed, which carrying it over adds to.
async fn picture(app: &TestApp, tenant: &TestTenant) -> BTreeMap<String, Value> {
    let mut picture = BTreeMap::new();
    for path in [
        "/bookings?limit=200",
        "/customers?limit=200",
        "/resources?limit=200",
        "/offerings?limit=200",
        "/users?limit=200",
        "/settings",
        "/calendar?from=2016-07-01&to=2016-07-31",
        "/calendar?from=2031-05-01&to=2031-06-30",
        "/reports/pace?from=2016-07-01&to=2016-08-31",
        "/reports/pace?from=2031-05-01&to=2031-06-30",
    ] {
        let mut body = app.get(tenant, path).await.expect(200).body;
        without_versions(&mut body);
        picture.insert(path.to_owned(), body);
    }
    picture
}

fn without_versions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("version");
            members.values_mut().for_each(without_versions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_versions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The history of each booking after a position, and each booking as of some positions after it.
async fn looking_back(
    app: &TestApp,
    tenant: &TestTenant,
    bookings: &[Uuid],
    after: i64,
    until: i64,
) -> BTreeMap<String, Value> {
    let mut seen = BTreeMap::new();
    for booking in bookings {
        let path = format!("/bookings/{booking}/history?limit=200");
        let history = app.get(tenant, &path).await.expect(200).body;
        let kept: Vec<&Value> = history["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["position"].as_i64().unwrap() > after)
            .collect();
        seen.insert(path, json!(kept));
        for step in 1..=4 {
            let path = format!("/bookings/{booking}?as_of={}", after + ((until - after) * step / 4).max(1));
            let answer = app.get(tenant, &path).await;
            assert!([200, 404].contains(&answer.status.as_u16()), "{path}: {:?}", answer.body);
            seen.insert(path, if answer.status == 200 { answer.body } else { Value::Null });
        }
    }
    seen
}

pub async fn recorded_at(app: &TestApp, schema: &Schema, position: i64) -> DateTime<Utc> {
    sqlx::query_scalar(&schema.sql("SELECT recorded_at FROM {s}.events WHERE position = $1"))
        .bind(position)
        .fetch_one(app.store.database().owner())
        .await
        .unwrap()
}

pub async fn first_position(app: &TestApp, schema: &Schema) -> i64 {
    sqlx::query_scalar(&schema.sql("SELECT min(position) FROM {s}.events"))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap()
}

pub async fn prune_at(app: &TestApp, tenant: &TestTenant, at: DateTime<Utc>) -> PruneReport {
    log_pruning::prune(&ledger(app), &tenant.schema(), Cut { at, history_days: 90 }).await.unwrap()
}

pub async fn assert_replays(app: &TestApp, schema: &Schema) {
    let report = projector::verify(&app.store, schema, |_, _| {}).await.unwrap();
    assert!(
        report.is_equal(),
        "{:#?}",
        report.tables.iter().filter(|it| it.differing > 0).collect::<Vec<_>>()
    );
}

/// Everything that is another tenant's, in one hash.
pub async fn fingerprint(app: &TestApp, schema: &Schema) -> String {
    let mut all = String::new();
    for table in ["events", "sealed_values", "subject_keys", "streams", "bookings", "customers", "log_head"] {
        let sql = schema.sql(&format!(
            "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {{s}}.{table} t"
        ));
        let hash: String = sqlx::query_scalar(&sql).fetch_one(app.store.database().owner()).await.unwrap();
        all.push_str(&hash);
    }
    all
}

#[tokio::test]
async fn what_a_pruned_log_shows_is_what_it_showed() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("other").await);
    let schema = tenant.schema();
    app.customer(&other, "Somebody else").await;
    let bookings = lived_in(&app, &tenant).await;
    assert!(bookings.len() > 30);
    caught_up(&app, &tenant).await;
    let others = fingerprint(&app, &other.schema()).await;
    let was = picture(&app, &tenant).await;
    let head = app.head(&tenant).await;

    let mut dice = Dice::from_env("pruning");
    let mut through = 0;
    for _ in 0..4 {
        let at = recorded_at(
            &app,
            &schema,
            through + 1 + i64::try_from(dice.below(u64::try_from(head - through).unwrap())).unwrap(),
        )
        .await;
        let before = log_pruning::plan(&app.store, &schema, Cut { at, history_days: 90 }).await.unwrap();
        let expected = looking_back(&app, &tenant, &bookings, before.through_position, head).await;
        let report = prune_at(&app, &tenant, at).await;
        assert_eq!((report.refused, report.through_position), (None, before.through_position));
        through = report.through_position;
        assert_eq!(first_position(&app, &schema).await, through + 1);
        caught_up(&app, &tenant).await;
        assert_eq!(
            looking_back(&app, &tenant, &bookings, through, head).await,
            expected,
            "pruned to {through} of {head}"
        );
        assert_eq!(picture(&app, &tenant).await, was, "pruned to {through} of {head}");
        assert_replays(&app, &schema).await;
    }
    // All of it, with what carried it over.
    let report = prune_at(&app, &tenant, database_now(&app).await).await;
    assert_eq!(report.refused, None);
    caught_up(&app, &tenant).await;
    for projection in daybook_projections::ALL {
        projector::rebuild(&app.store, &schema, projection.name(), |_, _| {}).await.unwrap();
    }
    assert_replays(&app, &schema).await;
    assert_eq!(picture(&app, &tenant).await, was);

    // A node that knows nothing yet decides as before.
    let second = app.second_node().await;
    for booking in &bookings {
        let path = format!("/bookings/{booking}");
        let (here, there) = (app.get(&tenant, &path).await, second.get(&tenant, &path).await);
        assert_eq!(here.body, there.body);
        let cancelled = second.post(&tenant, &format!("{path}/cancel"), &json!({"reason": "over"})).await;
        let live = ["confirmed", "held", "pending"].contains(&here.text("status").as_str());
        assert_eq!(cancelled.status == 200, live, "{:?} {:?}", here.body, cancelled.body);
    }
    caught_up(&app, &tenant).await;
    assert_replays(&app, &schema).await;
    second.shut_down().await;
    assert_eq!(fingerprint(&app, &other.schema()).await, others);
    app.shut_down().await;
}

#[tokio::test]
async fn the_cut_is_exact_to_the_microsecond() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    for n in 0..6 {
        app.customer(&tenant, &format!("Guest {n}")).await;
    }
    caught_up(&app, &tenant).await;
    let head = app.head(&tenant).await;
    let at = recorded_at(&app, &schema, head - 2).await;
    let cut = |at| Cut { at, history_days: 90 };
    let last = async |at| log_pruning::plan(&app.store, &schema, cut(at)).await.unwrap().through_position;
    // What was recorded at the cut stays; a microsecond later it goes.
    assert_eq!(last(at).await, head - 3);
    assert_eq!(last(at + TimeDelta::microseconds(1)).await, head - 2);
    assert_eq!(last(DateTime::UNIX_EPOCH).await, 0);
    let report = prune_at(&app, &tenant, at).await;
    assert_eq!((report.through_position, report.events, report.refused), (head - 3, head - 3, None));
    assert_eq!(report.deleted, u64::try_from(head - 3).unwrap());
    assert_eq!(first_position(&app, &schema).await, head - 2);
    // Again: nothing is left to be done, and nothing is said.
    let said = app.head(&tenant).await;
    let again = prune_at(&app, &tenant, at).await;
    assert_eq!((again.events, again.carried, again.deleted, again.refused), (0, 0, 0, None));
    assert_eq!(app.head(&tenant).await, said);
    let events = app.get(&tenant, "/audit/events?type=audit.pruned").await.expect(200).body;
    let pruned = &events["items"][0]["payload"];
    assert_eq!(
        (&pruned["through_position"], &pruned["history_days"]),
        (&json!((head - 3).to_string()), &json!(90))
    );
    app.shut_down().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    for n in 0..3 {
        app.customer(&tenant, &format!("Guest {n}")).await;
    }
    caught_up(&app, &tenant).await;
    let head = app.head(&tenant).await;
    let at = recorded_at(&app, &schema, head).await;
    app.sql(&schema, "INSERT INTO {s}.parked_events (projection, key, position, error) VALUES ('pace', gen_random_uuid(), 2, 'x')").await;
    let refused = prune_at(&app, &tenant, at).await;
    assert_eq!((refused.refused, refused.carried), (Some(Hindrance::ParkedEvent.as_str()), 0));
    app.sql(&schema, "DELETE FROM {s}.parked_events").await;
    let (hold, later, export) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let run = async |command: Command| {
        let metadata =
            Metadata { actor: "test".into(), reason: Some("case 7".into()), ..Metadata::default() };
        app.store.execute(&schema, Unit::of(command, metadata)).await.unwrap();
    };
    let name = Name::new("Case 7", "").unwrap();
    let place = |from| LegalHoldCommand::Place { name: name.clone(), customer_id: None, from_position: from };
    run(Command::create(hold, place(Some(2)))).await;
    run(Command::create(later, place(Some(head + 1)))).await;
    assert_eq!(prune_at(&app, &tenant, at).await.refused, Some("legal_hold"));
    run(Command::to(hold, LegalHoldCommand::Release)).await;
    let filter = ExportFilter::default();
    let start = AuditExportCommand::Start { format: ExportFormat::Csv, after: 0, until: head, filter };
    run(Command::create(export, start)).await;
    assert_eq!(prune_at(&app, &tenant, at).await.refused, Some("unfinished_export"));
    run(Command::to(export, AuditExportCommand::End { rows: 1, last_position: 1, complete: false })).await;
    caught_up(&app, &tenant).await;
    assert_eq!(
        log_pruning::plan(&app.store, &schema, Cut { at, history_days: 90 }).await.unwrap().refused,
        None
    );
    run(Command::to(later, LegalHoldCommand::Release)).await;
    caught_up(&app, &tenant).await;
    let head = app.head(&tenant).await;
    app.sql(
        &schema,
        "UPDATE {s}.projection_checkpoints SET version = version + 1, position = 1 WHERE name = 'pace'",
    )
    .await;
    assert_eq!(prune_at(&app, &tenant, at).await.refused, Some(Hindrance::ProjectionBehind.as_str()));
    app.sql(&schema, "UPDATE daybook_platform.plans SET audit_history_days = 0 WHERE id = 'free'").await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let output = host.output(&["audit", "prune", "--tenant", "camp"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("projection_behind"), "{output:?}");
    assert_eq!((first_position(&app, &schema).await, app.head(&tenant).await), (1, head));
    app.sql(&schema, "UPDATE {s}.projection_checkpoints SET version = version - 1 WHERE name = 'pace'").await;
    projector::rebuild(&app.store, &schema, "pace", |_, _| {}).await.unwrap();
    let dry = host.run(&["audit", "prune", "--tenant", "camp", "--dry-run"]);
    assert!(dry.contains(&format!("{head} events up to position {head} would go")), "{dry}");
    assert_eq!(app.head(&tenant).await, head);
    host.run(&["audit", "prune", "--tenant", "camp"]);
    assert_eq!(first_position(&app, &schema).await, head + 1);
    // An export that is over is gone with what told of it; that something was held is not.
    for (table, left) in [("audit_exports", 0), ("legal_holds", 2)] {
        let sql = schema.sql(&format!("SELECT count(*) FROM {{s}}.{table}"));
        let rows: i64 = sqlx::query_scalar(&sql).fetch_one(app.store.database().owner()).await.unwrap();
        assert_eq!(rows, left, "{table}");
    }
    assert_replays(&app, &schema).await;
    app.shut_down().await;
}

#[tokio::test]
async fn a_pruning_that_is_broken_off_anywhere_is_finished_by_the_next() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    lived_in(&app, &tenant).await;
    caught_up(&app, &tenant).await;
    let was = picture(&app, &tenant).await;
    let head = app.head(&tenant).await;
    let at = recorded_at(&app, &schema, head).await;
    let through =
        log_pruning::plan(&app.store, &schema, Cut { at, history_days: 90 }).await.unwrap().through_position;
    // Carried over, and nothing said.
    let carried = log_pruning::carry_over(&app.store, &schema, through).await.unwrap();
    assert!(carried > 0);
    assert_eq!(log_pruning::carry_over(&app.store, &schema, through).await.unwrap(), 0, "it is done once");
    caught_up(&app, &tenant).await;
    assert_eq!(picture(&app, &tenant).await, was);
    assert_replays(&app, &schema).await;
    // Said, and nothing deleted: nobody reads it any more all the same.
    app.sql(&schema, "CREATE FUNCTION {s}.broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken off'; END $$").await;
    app.sql(
        &schema,
        "CREATE TRIGGER broken BEFORE DELETE ON {s}.sealed_values EXECUTE FUNCTION {s}.broken()",
    )
    .await;
    let failed = log_pruning::prune(&ledger(&app), &schema, Cut { at, history_days: 90 }).await;
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(first_position(&app, &schema).await, 1);
    caught_up(&app, &tenant).await;
    assert_eq!(picture(&app, &tenant).await, was);
    assert_replays(&app, &schema).await;
    for projection in daybook_projections::ALL {
        projector::rebuild(&app.store, &schema, projection.name(), |_, _| {}).await.unwrap();
    }
    assert_replays(&app, &schema).await;
    app.sql(&schema, "DROP TRIGGER broken ON {s}.sealed_values").await;
    let report = prune_at(&app, &tenant, at).await;
    assert_eq!((report.refused, report.events, report.deleted), (None, 0, u64::try_from(through).unwrap()));
    assert_eq!(first_position(&app, &schema).await, through + 1);
    assert_eq!(picture(&app, &tenant).await, was);
    assert_replays(&app, &schema).await;

    // Killed at any time, as often as it takes.
    app.sql(&schema, "UPDATE daybook_platform.plans SET audit_history_days = 0 WHERE id = 'free'").await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let mut dice = Dice::from_env("killed pruning");
    for _ in 0..6 {
        let mut child = host.command(&["audit", "prune", "--tenant", "camp"]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(100 + dice.below(400))).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    caught_up(&app, &tenant).await;
    host.run(&["audit", "prune", "--tenant", "camp"]);
    caught_up(&app, &tenant).await;
    assert!(first_position(&app, &schema).await > head);
    assert_eq!(picture(&app, &tenant).await, was);
    assert_replays(&app, &schema).await;
    app.shut_down().await;
}

#[tokio::test]
async fn writers_and_two_prunings_at_once_lose_nothing() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    let bookings = lived_in(&app, &tenant).await;
    caught_up(&app, &tenant).await;
    let head = app.head(&tenant).await;
    let at = recorded_at(&app, &schema, head).await;
    let second = app.second_node().await;
    let prune =
        async |node: &TestApp| log_pruning::prune(&ledger(node), &schema, Cut { at, history_days: 90 }).await;
    let write = async {
        for (n, booking) in bookings.iter().enumerate() {
            let node = if n % 2 == 0 { &app } else { &second };
            let answer =
                node.post(&tenant, &format!("/bookings/{booking}/cancel"), &json!({"reason": "over"})).await;
            assert!([200, 409].contains(&answer.status.as_u16()), "{:?}", answer.body);
            node.customer(&tenant, "Somebody new").await;
        }
    };
    let (one, two, ()) = tokio::join!(prune(&app), prune(&second), write);
    for report in [one.unwrap(), two.unwrap()] {
        // Whoever came second found it said.
        assert_eq!(report.refused, None);
    }
    let said: i64 =
        sqlx::query_scalar(&schema.sql("SELECT count(*) FROM {s}.events WHERE event_type = 'audit.pruned'"))
            .fetch_one(app.store.database().owner())
            .await
            .unwrap();
    assert_eq!(said, 1);
    caught_up(&app, &tenant).await;
    assert_replays(&app, &schema).await;
    let (count, first, last): (i64, i64, i64) =
        sqlx::query_as(&schema.sql("SELECT count(*), min(position), max(position) FROM {s}.events"))
            .fetch_one(app.store.database().owner())
            .await
            .unwrap();
    assert_eq!((first, last - first + 1), (head, count), "positions have a gap");
    for booking in &bookings {
        let (here, there) = (
            app.get(&tenant, &format!("/bookings/{booking}")).await,
            second.get(&tenant, &format!("/bookings/{booking}")).await,
        );
        assert_eq!(here.body, there.body);
    }
    second.shut_down().await;
    app.shut_down().await;
}

#[tokio::test]
async fn nobody_but_the_retention_role_deletes_and_it_only_what_is_said() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    app.customer(&tenant, "Ada").await;
    let owner = app.store.database().owner();
    let code = |error: sqlx::Error| error.as_database_error().unwrap().code().unwrap().into_owned();
    let refused = async |role: &str, sql: &str| {
        let sql = schema.sql(sql);
        // The one is what the application becomes, the other what the owner does.
        if role == schema.name() {
            let mut tx = TenantTx::begin(app.store.database().app(), &schema, Access::Write).await.unwrap();
            return code(tx.execute(sql.as_str()).await.unwrap_err());
        }
        let mut tx = owner.begin().await.unwrap();
        tx.execute(format!("SET LOCAL ROLE {role}").as_str()).await.unwrap();
        code(tx.execute(sql.as_str()).await.unwrap_err())
    };
    for sql in ["DELETE FROM {s}.events", "UPDATE {s}.events SET actor = 'x'", "TRUNCATE {s}.events"] {
        assert_eq!(refused(schema.name(), sql).await, "42501", "{sql}");
        assert_eq!(refused("daybook_retention", sql).await, "42501", "{sql}");
    }
    for sql in [
        "SELECT leaf FROM {s}.events",
        "SELECT * FROM {s}.customers",
        "DELETE FROM {s}.streams",
        "INSERT INTO {s}.audit_prunings VALUES (9, now(), 1, 1, now(), NULL)",
    ] {
        assert_eq!(refused("daybook_retention", sql).await, "42501", "{sql}");
    }
    // The application's login cannot become it.
    let mut connection = app.store.database().app().acquire(None).await.unwrap();
    assert!(connection.execute("SET ROLE daybook_retention").await.is_err());
    drop(connection);
    // As the owner, whose triggers are on, neither.
    assert!(owner.execute(schema.sql("DELETE FROM {s}.events").as_str()).await.is_err());
    app.shut_down().await;
}

pub async fn database_now(app: &TestApp) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(app.store.database().owner()).await.unwrap()
}

pub fn ledger(app: &TestApp) -> Ledger {
    Ledger::new(app.store.clone(), "http://localhost")
}

#[tokio::test]
async fn what_was_edited_is_not_pruned_away() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    for n in 0..5 {
        app.customer(&tenant, &format!("Guest {n}")).await;
    }
    caught_up(&app, &tenant).await;
    ledger(&app).checkpoint_now(&schema).await.unwrap();
    let head = app.head(&tenant).await;
    let at = recorded_at(&app, &schema, head).await;
    app.sql(&schema, "ALTER TABLE {s}.events DISABLE TRIGGER USER").await;
    let edit = "UPDATE {s}.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'customer.registered', 'customer.archived'), 'UTF8') WHERE position = 3";
    app.sql(&schema, edit).await;
    let refused = prune_at(&app, &tenant, at).await;
    assert_eq!((refused.refused, refused.carried, refused.deleted), (Some("leaf_edited"), 0, 0));
    app.sql(
        &schema,
        &edit.replace(
            "'customer.registered', 'customer.archived'",
            "'customer.archived', 'customer.registered'",
        ),
    )
    .await;
    for (edit, back, cause) in [
        (
            "UPDATE {s}.events SET aggregate_id = gen_random_uuid() WHERE position = 3",
            "UPDATE {s}.events SET aggregate_id = (convert_from(substring(leaf FROM 2), 'UTF8')::json ->> 'aggregate_id')::uuid",
            "column_mismatch",
        ),
        (
            "UPDATE {s}.sealed_values SET position = -position WHERE position = 3",
            "UPDATE {s}.sealed_values SET position = abs(position)",
            "sealed_value_invalid",
        ),
        (
            "UPDATE {s}.sealed_values SET ciphertext = ciphertext || '\\x00' WHERE position = 3",
            "UPDATE {s}.sealed_values SET ciphertext = substring(ciphertext FROM 1 FOR length(ciphertext) - 1) WHERE position = 3",
            "sealed_value_invalid",
        ),
    ] {
        app.sql(&schema, edit).await;
        assert_eq!(prune_at(&app, &tenant, at).await.refused, Some(cause), "{edit}");
        app.sql(&schema, back).await;
    }
    app.sql(&schema, "DELETE FROM {s}.events WHERE position = 2").await;
    assert_eq!(prune_at(&app, &tenant, at).await.refused, Some("missing_event"));
    assert_eq!(app.head(&tenant).await, head);
    app.shut_down().await;
}
