//! What a plan keeps of history is applied to every read at once, to the microsecond.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use daybook::{
    retention::{Retention, first_at},
    tenancy::{Access, TenantTx},
};
use daybook_domain::{permission::Tier, tenant::TenantCommand};
use daybook_projections::{
    Schema,
    log::{self, LogFilter, Readable},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    people::generous,
};

/// As the owner of the database could: the events up to a position were recorded then, one step after the other.
pub async fn date(app: &TestApp, tenant: &TestTenant, last: i64, end: DateTime<Utc>, step: TimeDelta) {
    let schema = tenant.schema();
    let mut connection = app.store.database().owner().acquire().await.unwrap();
    for sql in [
        schema.sql("ALTER TABLE {s}.events DISABLE TRIGGER USER"),
        schema.sql(&format!(
            "UPDATE {{s}}.events SET recorded_at = '{}'::timestamptz - ({last} - position) * interval '{} microseconds'
             WHERE position <= {last}",
            end.to_rfc3339(),
            step.num_microseconds().unwrap()
        )),
        schema.sql("ALTER TABLE {s}.events ENABLE TRIGGER USER"),
    ] {
        sqlx::query(&sql).execute(&mut *connection).await.unwrap();
    }
}

async fn recorded(app: &TestApp, tenant: &TestTenant) -> Vec<(i64, DateTime<Utc>)> {
    let sql = tenant.schema().sql("SELECT position, recorded_at FROM {s}.events ORDER BY position");
    sqlx::query_as(&sql).fetch_all(app.store.database().owner()).await.unwrap()
}

pub async fn clock(app: &TestApp) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(app.store.database().owner()).await.unwrap()
}

async fn customers(app: &TestApp, tenant: &TestTenant, count: usize) -> Vec<Uuid> {
    let mut made = Vec::new();
    for n in 0..count {
        made.push(app.customer(tenant, &format!("Customer {n}")).await);
    }
    made
}

fn positions(answer: &Answer) -> Vec<i64> {
    let items = answer.body["items"].as_array().unwrap();
    items.iter().map(|item| item["position"].as_i64().unwrap()).collect()
}

fn since(answer: &Answer) -> DateTime<Utc> {
    answer.header("x-readable-from").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_at_the_cut_is_read_and_a_microsecond_before_is_not() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    customers(&app, &tenant, 20).await;
    let at = clock(&app).await - TimeDelta::days(90);
    date(&app, &tenant, 10, at, TimeDelta::microseconds(1)).await;
    let database = app.store.database();
    let retention = Retention::of(database, tenant.id).await.unwrap().unwrap();
    assert_eq!(retention.cut(at + TimeDelta::days(90)), at);
    assert_eq!(Retention::of(database, daybook_domain::TenantId(Uuid::now_v7())).await.unwrap(), None);
    let mut tx = TenantTx::begin(database.app(), &tenant.schema(), Access::Read).await.unwrap();
    for (later, first) in [(-9, 1), (-1, 9), (0, 10), (1, 11)] {
        let cut = at + TimeDelta::microseconds(later);
        assert_eq!(first_at(&mut tx, cut).await.unwrap(), first, "{later}");
        for floor in [1, first] {
            let readable = Some(Readable { cut, floor });
            let filter = LogFilter { readable, ..LogFilter::default() };
            assert_eq!(log::page(&mut tx, &filter, 1).await.unwrap()[0].position, first, "{later}");
        }
    }
    assert_eq!(first_at(&mut tx, clock(&app).await).await.unwrap(), app.head(&tenant).await + 1);
    drop(tx);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_begins_exactly_at_the_cut_it_names_while_the_cut_passes() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    customers(&app, &tenant, 60).await;
    // The cut passes an event every 50 ms for the next three seconds.
    let last = app.head(&tenant).await;
    date(
        &app,
        &tenant,
        last,
        clock(&app).await - TimeDelta::days(90) + TimeDelta::seconds(3),
        TimeDelta::milliseconds(50),
    )
    .await;
    let times = recorded(&app, &tenant).await;
    let expected = |cut: DateTime<Utc>| {
        let kept = times.iter().filter(|(_, time)| *time >= cut);
        kept.map(|(position, _)| *position).collect::<Vec<_>>()
    };
    let (mut seen, until) =
        (std::collections::BTreeSet::new(), Instant::now() + Duration::from_millis(3_300));
    while Instant::now() < until {
        let page = app.get(&tenant, "/audit/events?limit=200").await.expect(200);
        assert_eq!(positions(&page), expected(since(&page)), "{}", since(&page));
        seen.insert(positions(&page).len());
        let retention = app.get(&tenant, "/audit/retention").await.expect(200).body;
        let cut: DateTime<Utc> = retention["readable_from"].as_str().unwrap().parse().unwrap();
        let first = expected(cut).first().copied().unwrap_or(last + 1);
        assert_eq!(retention["first_position"], first);
        // The database's clock and no other: what a moment ago was not past the cut may be now, but not the other way.
        assert!(clock(&app).await - TimeDelta::days(90) >= cut);
    }
    assert!(seen.contains(&0) && seen.len() > 10, "{seen:?}");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_begin_at_the_cut_and_what_is_named_before_it_is_gone() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let pool = app.resource(&tenant, "Pool", 5).await;
    let offering = app.nights_offering(&tenant, &[pool]).await;
    let old = customers(&app, &tenant, 1).await[0];
    let book = async || {
        let body = TestApp::stay(offering, old, "2031-05-01", "2031-05-03");
        id(&app.post(&tenant, "/bookings", &body).await.expect(201))
    };
    let gone = book().await;
    app.post(&tenant, &format!("/bookings/{gone}/cancel"), &json!({})).await.expect(200);
    let (moved, turned) = (book().await, book().await);
    for reason in ["rain", "sun"] {
        let path = format!("/bookings/{turned}/reschedule");
        let to = json!({"check_in": "2031-07-01", "check_out": "2031-07-03", "reason": reason});
        let back = json!({"check_in": "2031-05-01", "check_out": "2031-05-03", "reason": reason});
        app.post(&tenant, &path, if reason == "rain" { &to } else { &back }).await.expect(200);
    }
    let past = app.head(&tenant).await;
    let to = json!({"check_in": "2031-06-01", "check_out": "2031-06-03"});
    for booking in [moved, turned] {
        app.post(&tenant, &format!("/bookings/{booking}/reschedule"), &to).await.expect(200);
    }
    let young = customers(&app, &tenant, 3).await[0];
    let head = app.head(&tenant).await;
    let history = format!("/bookings/{moved}/history");
    crate::support::app::eventually("the history follows", Duration::from_secs(10), async || {
        // The last that was written of.
        let page = app.get(&tenant, &format!("/bookings/{turned}/history")).await;
        page.status == 200 && page.body["items"].as_array().unwrap().len() == 4
    })
    .await;

    // Nothing is past the cut yet, so nothing is gone, however far back it is asked for.
    for path in [
        "/audit/events?to=2001-01-01",
        "/audit/events?after=1",
        "/audit/events?from=2001-01-01",
        "/audit/support?to=2001-01-01",
    ] {
        app.get(&tenant, path).await.expect(200);
    }
    let then = format!("/bookings/{gone}?as_of=2001-01-01T00:00:00Z");
    app.get(&tenant, &then).await.expect_problem(404, "not_found");

    // Whoever is half-way through what will be past it.
    let walk = async |path: String| {
        let page = app.get(&tenant, &path).await.expect(200);
        format!("{path}&cursor={}", page.text("next_cursor"))
    };
    let walks = [
        walk("/audit/events?limit=2".to_owned()).await,
        walk(format!("/audit/streams/booking/{gone}?limit=1")).await,
        walk(format!("/bookings/{turned}/history?limit=1")).await,
    ];
    for path in &walks {
        app.get(&tenant, path).await.expect(200);
    }
    app.sign_now(&tenant).await;

    date(&app, &tenant, past, clock(&app).await - TimeDelta::days(91), TimeDelta::seconds(1)).await;
    for (table, column) in [("booking_history", "recorded_at"), ("bookings", "updated_at")] {
        let as_logged = format!(
            "UPDATE {{s}}.{table} r SET {column} = e.recorded_at FROM {{s}}.events e WHERE e.position = r.position"
        );
        app.sql(&tenant.schema(), &as_logged).await;
    }

    let kept: Vec<i64> = (past + 1..=head).collect();
    for query in ["", "?after=0", "?from=2001-01-01", &format!("?after={past}"), "?limit=1"] {
        let page = app.get(&tenant, &format!("/audit/events{query}")).await.expect(200);
        let found = positions(&page);
        assert_eq!(found[..], kept[..found.len()], "{query}");
        assert!(since(&page) > clock(&app).await - TimeDelta::days(91));
    }
    // A cursor goes on by itself.
    let first = app.get(&tenant, "/audit/events?limit=2").await.expect(200);
    let next = format!("/audit/events?limit=2&cursor={}", first.text("next_cursor"));
    assert_eq!(positions(&app.get(&tenant, &next).await.expect(200)), kept[2..4]);

    let [events, stream, changes] = walks;
    let expired = [
        events,
        stream,
        changes,
        // Leaves, but not the hashes over them.
        "/audit/tile/entries/000.p/1".to_owned(),
        format!("/audit/tile/entries/000.p/{head}"),
        "/audit/events?after=1".to_owned(),
        format!("/audit/events?after={}", past - 1),
        "/audit/events?to=2001-01-01".to_owned(),
        format!("/audit/streams/booking/{gone}"),
        format!("/bookings/{gone}/history"),
        format!("/bookings/{moved}?as_of={past}"),
        format!("/bookings/{moved}?as_of=0"),
        format!("/bookings/{moved}?as_of=2001-01-01T00:00:00Z"),
        "/audit/support?to=2001-01-01".to_owned(),
        "/audit/api-calls?to=2001-01-01".to_owned(),
        "/audit/stream?after=1".to_owned(),
    ];
    for path in &expired {
        let answer = app.get(&tenant, path).await.expect_problem(410, "retention_expired");
        assert!(since(&answer) < clock(&app).await, "{path}");
    }
    app.get(&tenant, &format!("/audit/tile/0/000.p/{head}")).await.expect(200);
    let told =
        app.client.get(app.url("/audit/stream")).bearer_auth(&tenant.token).header("Last-Event-ID", past - 1);
    read(told).await.expect_problem(410, "retention_expired");

    // What has a younger part is told from there on; what a thing was then is no part of its history.
    let stream = app.get(&tenant, &format!("/audit/streams/booking/{moved}")).await.expect(200);
    assert_eq!(positions(&stream), [past + 1]);
    let changes = app.get(&tenant, &history).await.expect(200);
    assert_eq!(positions(&changes), [past + 1]);
    app.get(&tenant, &format!("/audit/streams/customer/{young}")).await.expect(200);
    app.get(&tenant, &format!("/audit/streams/customer/{}", Uuid::now_v7()))
        .await
        .expect_problem(404, "not_found");
    app.get(&tenant, &format!("/bookings/{moved}?as_of={}", past + 1)).await.expect(200);
    app.get(&tenant, &format!("/bookings/{gone}")).await.expect(200);
    let mut live =
        app.client.get(app.url("/audit/stream?after=0")).bearer_auth(&ada.token).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("data: ") {
        text.push_str(std::str::from_utf8(&live.chunk().await.unwrap().unwrap()).unwrap());
    }
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(data).unwrap()["position"], past + 1);
    drop(live);

    // A larger plan uncovers what was not pruned, and a smaller one keeps it for two weeks.
    let move_to = async |plan: &str| {
        let command = TenantCommand::ChangePlan { plan: plan.into() };
        app.admin.command(tenant.id, command, &Default::default()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    };
    for plan in ["business", "free"] {
        move_to(plan).await;
        assert_eq!(positions(&app.get(&tenant, "/audit/events").await.expect(200))[0], 1, "{plan}");
        for path in &expired[..expired.len() - 1] {
            assert_ne!(app.get(&tenant, path).await.status, 410, "{plan} {path}");
        }
    }
    let retention = app.get(&tenant, "/audit/retention").await.expect(200).body;
    assert_eq!((&retention["plan"], &retention["first_position"]), (&json!("free"), &json!(1)));
    let until: DateTime<Utc> = retention["grace"]["until"].as_str().unwrap().parse().unwrap();
    let left = until - clock(&app).await;
    assert!(left > TimeDelta::days(13) && left < TimeDelta::days(14), "{left}");
    // It is in the platform's log when that was, and what a replay of it says.
    let sql =
        "SELECT convert_from(substring(leaf FROM 2), 'UTF8')::jsonb -> 'payload' ->> 'at' FROM {s}.events
               WHERE event_type = 'tenant.plan_changed' ORDER BY position DESC LIMIT 1";
    let at: String = sqlx::query_scalar(&Schema::platform().sql(sql))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    assert_eq!(at.parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(14), until);
    app.sql(
        &Schema::platform(),
        "UPDATE {s}.tenants SET ended_plans =
             (SELECT jsonb_agg(jsonb_set(one, '{at}', to_jsonb(now() - interval '14 days')))
              FROM jsonb_array_elements(ended_plans) AS one)",
    )
    .await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(positions(&app.get(&tenant, "/audit/events").await.expect(200))[0], past + 1);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_the_cut_has_passed_ends() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    customers(&app, &tenant, 3).await;
    let head = app.head(&tenant).await;
    date(&app, &tenant, head, clock(&app).await - TimeDelta::days(95), TimeDelta::seconds(1)).await;
    let open = || app.client.get(app.url("/audit/stream")).bearer_auth(&tenant.token);
    let mut live = open().send().await.unwrap();
    assert_eq!(live.status(), 200);
    // What follows is past the cut before the stream comes to read it.
    app.sql(
        &tenant.schema(),
        "WITH next AS (UPDATE {s}.log_head SET position = position + 1 RETURNING position)
         INSERT INTO {s}.events (position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                                 recorded_at, actor, leaf)
         SELECT next.position, gen_random_uuid(), e.aggregate_type, gen_random_uuid(), 1, e.event_type, e.event_version,
                e.recorded_at + interval '1 day', e.actor, e.leaf
         FROM next JOIN {s}.events e ON e.position = next.position - 1",
    )
    .await;
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        let mut text = String::new();
        while let Some(chunk) = live.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        text
    });
    let text = ended.await.expect("it ends");
    assert!(!text.contains("data: ") && !text.contains(&format!("id: {}", head + 1)), "{text}");
    read(open().header("Last-Event-ID", head)).await.expect_problem(410, "retention_expired");
}
