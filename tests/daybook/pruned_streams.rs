//! What becomes of a stream when its events are pruned: carried over where it goes on, forgotten where it is over.

use std::time::Duration;

use chrono::{Days, NaiveDate};
use daybook::{
    eventstore::{Command, EventStore, StoreSettings, Unit, load::Reader},
    ledger::{HeadCopy, verify::Verification},
    tenancy::{Access, Schema, TenantTx},
};
use daybook_domain::{
    CustomerId, Name, ResourceId, SessionId,
    customer::CustomerCommand,
    permission::Tier,
    registry::{AggregateType, AnyEvent},
    schedule::{DatedException, Rules, ScheduleCommand, Window},
    user::UserEvent,
};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{
    pruning::{assert_replays, caught_up, database_now, ledger, prune_at},
    support::{
        app::{TestApp, id},
        site::by,
    },
    support_sessions::{begin, start, window},
};

#[tokio::test]
async fn what_ended_leaves_no_snapshot_behind() {
    let (app, tenant, owner, sue) = start().await;
    let schema = tenant.schema();
    app.customer(&tenant, "Ada").await;
    let request = window(&app, &sue, &owner, "camp").await;
    let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    // As many as it takes for a snapshot.
    for _ in 0..50 {
        app.get_as(&began.text("access_token"), "/customers?limit=1").await.expect(200);
    }
    let path = format!("/support/sessions/{}", id(&began));
    app.with_token(&sue.token, Method::DELETE, &path, None).await.expect(204);
    let kept = async |table: &str| -> i64 {
        let sql = schema.sql(&format!("SELECT count(*) FROM {{s}}.{table} WHERE aggregate_id = $1"));
        sqlx::query_scalar(&sql).bind(id(&began)).fetch_one(app.store.database().owner()).await.unwrap()
    };
    assert_eq!((kept("snapshots").await, kept("streams").await), (1, 1));
    caught_up(&app, &tenant).await;
    assert_eq!(prune_at(&app, &tenant, database_now(&app).await).await.refused, None);
    assert_eq!((kept("snapshots").await, kept("streams").await), (0, 0));

    ledger(&app).checkpoint_now(&Schema::platform()).await.unwrap();
    ledger(&app).checkpoint_now(&schema).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = HeadCopy::folder(folder.path()).unwrap();
    ledger(&app).sign_heads(&copy, Duration::ZERO).await.unwrap();
    let verification = Verification::new(ledger(&app), copy);
    let (_, said) = verification.heads().await;
    let wanted = verification.find("camp").await.unwrap().unwrap();
    let report = verification.log(&wanted, &said, |_, _| {}).await;
    assert!(report.is_verified(), "{report}");
    app.shut_down().await;
}

#[tokio::test]
async fn a_snapshot_from_below_the_cut_is_not_in_the_way_of_what_is_above() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    let rename = async |store: &EventStore, id: Uuid, name: &str| {
        let name = Some(Name::new(name, "").unwrap());
        let update = CustomerCommand::Update { name, email: None, phone: None };
        store.execute(&schema, Unit::of(Command::to(CustomerId(id), update), by("test"))).await.unwrap()
    };
    let (rests, goes_on) = (app.customer(&tenant, "Ada").await, app.customer(&tenant, "Grace").await);
    for id in [rests, goes_on] {
        // As many as it takes for a snapshot, and past it.
        for n in 0..51 {
            rename(&app.store, id, &format!("Ada {n}")).await;
        }
    }
    let cut = database_now(&app).await;
    rename(&app.store, goes_on, "Grace Hopper").await;
    let snapshots =
        schema.sql("SELECT array_agg(sequence) FROM {s}.snapshots WHERE aggregate_type = 'customer'");
    let kept = async || -> Vec<i64> {
        sqlx::query_scalar(&snapshots).fetch_one(app.store.database().owner()).await.unwrap()
    };
    assert_eq!(kept().await, [50, 50]);
    let aggregates = async || {
        let mut tx =
            TenantTx::begin(app.store.database().app(), &schema, Access::ReadConsistent).await.unwrap();
        let mut reader = Reader::disclosing(&schema, app.store.keys());
        let mut found = reader.aggregates(&mut tx, &[rests, goes_on]).await.unwrap();
        [rests, goes_on].map(|id| found.remove(&id).unwrap())
    };
    let before = aggregates().await;
    caught_up(&app, &tenant).await;
    assert_eq!(prune_at(&app, &tenant, cut).await.refused, None);
    assert_eq!(kept().await, [50, 50]);
    let after = aggregates().await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.state, after.state);
    }
    // The one by the state it has, the other by that of the cut as well.
    assert_eq!(before.map(|one| one.sequence), [52, 53]);
    assert_eq!(after.map(|one| one.sequence), [53, 55]);
    // A process that has just begun decides on it.
    let store =
        EventStore::new(app.store.database().clone(), app.store.keys().clone(), StoreSettings::default());
    assert_eq!(rename(&store, goes_on, "Grace").await.changed[0].sequence, 56);
    app.shut_down().await;
}

#[tokio::test]
async fn what_fills_an_event_is_carried_over_and_what_is_longer_is_named() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let schema = tenant.schema();
    let schedule = Uuid::now_v7();
    let name = Name::new("Hours", "").unwrap();
    let rules = Box::<Rules>::default();
    let resource_ids = vec![ResourceId(app.resource(&tenant, "Cabin", 1).await)];
    let run = async |command: Command| app.store.execute(&schema, Unit::of(command, by("test"))).await;
    run(Command::create(schedule, ScheduleCommand::Create { name, resource_ids, rules })).await.unwrap();
    // Hours of so many seasons' dates, up to as many as are taken.
    let window: Window = serde_json::from_value(json!({"opens": "10:00", "closes": "20:00"})).unwrap();
    let first = NaiveDate::from_ymd_opt(2031, 1, 1).unwrap();
    let open = |windows: usize| ScheduleCommand::Update {
        name: None,
        resource_ids: None,
        weekly: None,
        seasons: None,
        exceptions: Some(
            (0..windows.div_ceil(100))
                .map(|n| DatedException {
                    date: first + Days::new(n as u64),
                    windows: vec![window; 100.min(windows - n * 100)],
                })
                .collect(),
        ),
        blocks: None,
    };
    let (mut taken, mut refused) = (100_usize, 4_000);
    while taken + 1 < refused {
        let windows = taken.midpoint(refused);
        match run(Command::to(schedule, open(windows))).await {
            Ok(_) => taken = windows,
            Err(_) => refused = windows,
        }
    }
    run(Command::to(schedule, open(100))).await.unwrap();
    run(Command::to(schedule, open(taken))).await.unwrap();
    let longest: i32 = sqlx::query_scalar(&schema.sql("SELECT max(length(leaf)) FROM {s}.events"))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    assert!(longest > 64_000, "{longest}");
    caught_up(&app, &tenant).await;
    let report = prune_at(&app, &tenant, database_now(&app).await).await;
    assert_eq!(report.refused, None);
    caught_up(&app, &tenant).await;
    assert_replays(&app, &schema).await;

    // A state that no one event made.
    let sue = app.person(&tenant, "sue@camp.example", Tier::TenantStaff).await;
    let at = async || -> i64 {
        let sql = schema.sql("SELECT sequence FROM {s}.streams WHERE aggregate_id = $1");
        sqlx::query_scalar(&sql).bind(sue.id).fetch_one(app.store.database().owner()).await.unwrap()
    };
    let assigned = UserEvent::Assigned {
        modules: Default::default(),
        resources: (0..1_640).map(|_| ResourceId(Uuid::now_v7())).collect(),
    };
    let sessions = (0..20).map(|_| UserEvent::SessionStarted {
        session_id: SessionId(Uuid::now_v7()),
        started_at: daybook::clock::now(),
        expires_at: daybook::clock::now(),
    });
    let events = std::iter::once(assigned).chain(sessions).map(AnyEvent::from).collect();
    run(Command::decided(sue.id, AggregateType::User, at().await, events)).await.unwrap();
    caught_up(&app, &tenant).await;
    let report = prune_at(&app, &tenant, database_now(&app).await).await;
    assert_eq!((report.refused, report.deleted), (Some("state_too_long"), 0));
    app.shut_down().await;
}
