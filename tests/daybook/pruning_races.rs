//! What is decided, placed, read or changed while a log is pruned.

use daybook::{
    eventstore::{Command, EventStore, StoreSettings, Unit, prune::Hindrance},
    ledger::Ledger,
    tenancy::{Database, Schema, database::PoolSettings},
    workers::{
        log_pruning::{self, Cut, PruneReport},
        log_retention,
        projector::{self, Step, Stepper},
    },
};
use daybook_domain::{
    DomainError, Name,
    audit_export::{AuditExportCommand, ExportFilter, ExportFormat},
    audit_trail::{AuditTrail, AuditTrailCommand},
    envelope::Metadata,
    legal_hold::LegalHoldCommand,
};
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::support::{
    proxy::{Hold, Proxy},
    site::{Site, by, wait_until_blocked},
};

/// A site with bookings that its projections have seen.
async fn booked() -> Site {
    let site = Site::open().await;
    let pitch = site.resource(9).await;
    let offering = site.offering(&[pitch]).await;
    for n in 0..12 {
        site.run(site.book(offering, n, 2)).await.unwrap();
    }
    caught_up(&site.store, &site.schema, 1_000).await;
    site
}

async fn caught_up(store: &EventStore, schema: &Schema, batch: i64) {
    let stepper = Stepper { node: Uuid::now_v7(), lease: std::time::Duration::ZERO, batch };
    while projector::step(store, schema, stepper).await.unwrap() != Step::Quiet {}
}

/// Prunes everything there is.
async fn prune(site: &Site) -> PruneReport {
    let at = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(site.owner()).await.unwrap();
    let ledger = Ledger::new(site.store.clone(), "http://localhost");
    log_pruning::prune(&ledger, &site.schema, Cut { at, history_days: 90 }).await.unwrap()
}

/// A store whose connections go through a proxy.
async fn behind(site: &Site, proxy: &Proxy) -> EventStore {
    let through = |url: &str| -> PgConnectOptions { proxy.url(url).parse().unwrap() };
    let (app, owner) = (through(&site.db.app_url), through(&site.db.owner_url));
    let database = Database::connect(app, owner, &PoolSettings::default()).await.unwrap();
    EventStore::new(database, site.keys.clone(), StoreSettings::default())
}

async fn assert_replays(site: &Site) {
    let report = projector::verify(&site.store, &site.schema, |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
}

/// What kept a log that is to be pruned up to a position in the very batch in which `first` was decided before it.
async fn pruned_right_after(site: &Site, first: Command) -> Option<String> {
    let run = async |command: Command| {
        let because = Metadata { reason: Some("case 7".into()), ..by("test") };
        site.store.execute(&site.schema, Unit::of(command, because)).await
    };
    let pruning = AuditTrailCommand::Prune {
        through_position: 2,
        cut_at: chrono::DateTime::UNIX_EPOCH,
        history_days: 90,
        leaf_hash_root: None,
    };
    let pruning = Command::to(AuditTrail::stream_id(site.tenant), pruning);
    let lock = site.schema.sql("SELECT position FROM {s}.log_head FOR UPDATE");
    let mut head = site.owner().begin().await.unwrap();
    sqlx::query(&lock).execute(&mut *head).await.unwrap();
    let pitch = async || site.resource(1).await;
    // The first batch waits for the head; what comes meanwhile is the second.
    let rest = async {
        wait_until_blocked(site.owner(), 1).await;
        let let_go = async {
            tokio::task::yield_now().await;
            head.commit().await.unwrap();
        };
        tokio::join!(run(first), run(pruning), run(site_resource()), let_go)
    };
    let (_, (before, pruned, after, ())) = tokio::join!(pitch(), rest);
    let (before, after) = (before.unwrap(), after.unwrap());
    assert_eq!(before.recorded_at, after.recorded_at, "they were not one batch");
    match pruned {
        Ok(_) => None,
        Err(daybook::eventstore::StoreError::Refused {
            error: DomainError::WrongState { state, .. },
            ..
        }) => Some(state),
        Err(error) => panic!("{error:?}"),
    }
}

fn site_resource() -> Command {
    let create = daybook_domain::resource::ResourceCommand::Create {
        name: Name::new("Pitch", "").unwrap(),
        kind: daybook_domain::resource::ResourceKind::Unit,
        capacity: Some(1),
        time_zone: chrono_tz::Europe::Brussels,
    };
    Command::create(daybook_domain::ResourceId(Uuid::now_v7()), create)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_placed_right_before_a_pruning_keeps_the_log() {
    let site = booked().await;
    let place = |from_position| LegalHoldCommand::Place {
        name: Name::new("Case 7", "").unwrap(),
        customer_id: None,
        from_position,
    };
    let hold = |from| Command::create(Uuid::now_v7(), place(from));
    let export = AuditExportCommand::Start {
        format: ExportFormat::Csv,
        after: 1,
        until: 2,
        filter: ExportFilter::default(),
    };
    let export = Command::create(Uuid::now_v7(), export);
    assert_eq!(pruned_right_after(&site, export).await.as_deref(), Some("unfinished_export"));
    site.owner_sql("UPDATE {s}.audit_exports SET ended_at = now()").await;
    assert_eq!(pruned_right_after(&site, hold(None)).await.as_deref(), Some("legal_hold"));
    site.owner_sql("UPDATE {s}.legal_holds SET released_at = now()").await;
    // One that keeps what comes later does not stand in the way.
    assert_eq!(pruned_right_after(&site, hold(Some(3))).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_begins_again_where_the_log_is_pruned_under_it() {
    let site = booked().await;
    let proxy = Proxy::start(&site.db.app_url).await;
    let store = behind(&site, &proxy).await;
    for name in ["calendar", "booking_history"] {
        // It has read what the log begins with, and nothing more.
        proxy.hold(Hold::Delay, "c.aggregate_id, c.aggregate_type, c.position");
        let rebuild = projector::rebuild(&store, &site.schema, name, |_, _| {});
        let meanwhile = async {
            proxy.held().await;
            let report = prune(&site).await;
            assert_eq!(report.refused, None, "{name}");
            assert!(report.deleted > 0);
            proxy.let_go();
        };
        let (rebuilt, ()) = tokio::join!(rebuild, meanwhile);
        assert_eq!(rebuilt.unwrap().parked, 0);
        caught_up(&site.store, &site.schema, 1_000).await;
        assert_replays(&site).await;
        // Something for the next to prune.
        let pitch = site.resource(1).await;
        let offering = site.offering(&[pitch]).await;
        site.run(site.book(offering, 0, 2)).await.unwrap();
        caught_up(&site.store, &site.schema, 1_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_projection_has_seen_the_log_before_it_is_pruned() {
    let site = booked().await;
    let proxy = Proxy::start(&site.db.app_url).await;
    let store = behind(&site, &proxy).await;
    site.owner_sql(
        "TRUNCATE {s}.calendar_days, {s}.calendar_resources;
         DELETE FROM {s}.projection_checkpoints WHERE name = 'calendar'",
    )
    .await;
    // Its first step, of many, is taken and not committed yet.
    proxy.hold(Hold::Delay, "SET lease_owner = $1");
    let meanwhile = async {
        proxy.held().await;
        assert_eq!(prune(&site).await.refused, Some(Hindrance::ProjectionBehind.as_str()));
        proxy.let_go();
    };
    tokio::join!(caught_up(&store, &site.schema, 3), meanwhile);
    assert_replays(&site).await;
    assert_eq!(prune(&site).await.refused, None);
    caught_up(&site.store, &site.schema, 1_000).await;
    assert_replays(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_messages_and_months_that_were_about_to_go() {
    let site = Site::open().await;
    site.owner_sql(
        "INSERT INTO {s}.messages (id, kind, recipient_hash, subject, status, created_at, sent_at, next_attempt_at)
         SELECT gen_random_uuid(), 'invitation', 'x', 'Hello', 'sent', '2001-01-01', now(), now() FROM generate_series(1, 3);
         CREATE TABLE {s}.api_calls_200101 PARTITION OF {s}.api_calls FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')",
    )
    .await;
    let left = async || -> (i64, bool) {
        let sql = site.schema.sql(
            "SELECT (SELECT count(*) FROM {s}.messages WHERE subject = 'Hello'), to_regclass('{s}.api_calls_200101') IS NOT NULL",
        );
        sqlx::query_as(&sql).fetch_one(site.owner()).await.unwrap()
    };
    // Whoever places a hold has the head.
    let place = "INSERT INTO {s}.legal_holds (id, name, from_position, reason, placed_at, version, position, created_at, updated_at)
                 VALUES (gen_random_uuid(), 'Case 7', 1, 'a writ', now(), 1, 1, now(), now())";
    let now = daybook::clock::now();
    for messages in [true, false] {
        let mut head = site.owner().begin().await.unwrap();
        let lock = site.schema.sql("SELECT position FROM {s}.log_head FOR UPDATE");
        sqlx::query(&lock).execute(&mut *head).await.unwrap();
        let clear = async {
            if messages {
                log_retention::messages(&site.store, now).await.unwrap()
            } else {
                log_retention::drop_expired(site.store.database(), now).await.unwrap()
            }
        };
        let hold = async {
            wait_until_blocked(site.owner(), 1).await;
            sqlx::query(&site.schema.sql(place)).execute(&mut *head).await.unwrap();
            head.commit().await.unwrap();
        };
        let both = async { tokio::join!(clear, hold) };
        let within = std::time::Duration::from_secs(60);
        let (gone, ()) = tokio::time::timeout(within, both).await.expect("it did not ask under the head");
        assert_eq!((gone, left().await), (0, (3, true)), "messages: {messages}");
        site.owner_sql("TRUNCATE {s}.legal_holds").await;
    }
    assert_eq!(log_retention::messages(&site.store, now).await.unwrap(), 3);
    assert_eq!(log_retention::drop_expired(site.store.database(), now).await.unwrap(), 1);
    assert_eq!(left().await, (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_keeps_more_stops_a_pruning_on_its_way() {
    let site = booked().await;
    let days = async |days: i32| {
        let sql = format!("UPDATE daybook_platform.plans SET audit_history_days = {days} WHERE id = 'free'");
        sqlx::query(&sql).execute(site.owner()).await.unwrap();
    };
    days(0).await;
    let ledger = Ledger::new(site.store.clone(), "http://localhost");
    let mut head = site.owner().begin().await.unwrap();
    let lock = site.schema.sql("SELECT position FROM {s}.log_head FOR UPDATE");
    sqlx::query(&lock).execute(&mut *head).await.unwrap();
    let change = async {
        // It is about to carry over what goes on.
        wait_until_blocked(site.owner(), 1).await;
        days(90).await;
        head.commit().await.unwrap();
    };
    let (report, ()) = tokio::join!(log_pruning::prune_tenant(&ledger, site.tenant), change);
    let report = report.unwrap().unwrap();
    assert!(report.carried > 0);
    assert_eq!((report.refused, report.deleted), (Some(Hindrance::PlanChanged.as_str()), 0));
    site.assert_gap_free().await;
    days(0).await;
    caught_up(&site.store, &site.schema, 1_000).await;
    assert_eq!(log_pruning::prune_tenant(&ledger, site.tenant).await.unwrap().unwrap().refused, None);
    assert_replays(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_a_read_model_has_anything_deleted() {
    let site = booked().await;
    let place = LegalHoldCommand::Place {
        name: Name::new("Case 7", "").unwrap(),
        customer_id: None,
        from_position: None,
    };
    let because = Metadata { reason: Some("a writ".into()), ..by("test") };
    site.store
        .execute(&site.schema, Unit::of(Command::create(Uuid::now_v7(), place), because))
        .await
        .unwrap();
    let head = site.assert_gap_free().await;
    let mut tx = daybook::tenancy::TenantTx::begin(
        site.store.database().app(),
        &site.schema,
        daybook::tenancy::Access::Write,
    )
    .await
    .unwrap();
    let forged = "INSERT INTO audit_prunings VALUES ($1, now(), 90, $1, now(), NULL)";
    sqlx::query(forged).bind(head).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();

    let ledger = Ledger::new(site.store.clone(), "http://localhost");
    let deleted = log_pruning::delete(&ledger, &site.schema).await.unwrap();
    assert_eq!(deleted, Err("read_model_mismatch"));
    // Nor does the role that deletes get anywhere by itself.
    let as_retention = async |sql: &str| {
        let mut tx = site.owner().begin().await.unwrap();
        sqlx::query("SET LOCAL ROLE daybook_retention").execute(&mut *tx).await.unwrap();
        let refused =
            sqlx::query(&site.schema.sql(sql)).execute(&mut *tx).await.map(|done| done.rows_affected());
        refused.map_err(|error| error.to_string())
    };
    for table in ["events", "sealed_values"] {
        let told = as_retention(&format!("DELETE FROM {{s}}.{table} WHERE position <= {head}")).await;
        assert!(told.unwrap_err().contains("no event says that these are pruned"), "{table}");
    }
    // An event that says so, while a hold stands that was placed before it: somebody wrote it who may add to the log.
    let forged = format!(
        r#"INSERT INTO {{s}}.events (position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, recorded_at, actor, leaf)
           SELECT {0} + 1, gen_random_uuid(), 'audit_trail', gen_random_uuid(), 1, 'audit.pruned', 1, now(), 'x',
                  '\x01'::bytea || convert_to('{{"type":"audit.pruned","payload":{{"through_position":"{0}"}}}}', 'UTF8')"#,
        head
    );
    site.owner_sql(&forged).await;
    for table in ["events", "sealed_values"] {
        let told = as_retention(&format!("DELETE FROM {{s}}.{table} WHERE position <= {head}")).await;
        assert!(told.unwrap_err().contains("a legal hold stands against it"), "{table}");
    }
    site.owner_sql("UPDATE {s}.legal_holds SET released_at = now()").await;
    for table in ["events", "sealed_values"] {
        let sql = format!("DELETE FROM {{s}}.{table} WHERE position <= {head}");
        assert!(as_retention(&sql).await.unwrap() > 0, "{table}");
    }
}
