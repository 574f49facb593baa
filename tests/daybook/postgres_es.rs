//! The log as cqrs-es tools see it: stock `postgres-es` reads it, `CqrsFramework` writes it through the lane.

use std::{collections::HashMap, sync::Arc};

use cqrs_es::{
    AggregateContext, AggregateError, CqrsFramework, EventStore as _, persist::PersistedEventStore,
};
use daybook::{
    eventstore::{
        Command, StreamRef,
        cqrs::CqrsStore,
        load::{Reader, Until},
    },
    tenancy::{Access, Schema, TenantTx},
};
use daybook_domain::{
    Decider, DomainError, Name, ResourceId,
    booking::{Booking, BookingCommand},
    customer::Customer,
    registry::{AnyState, Registered},
    resource::{Resource, ResourceCommand, ResourceContext, ResourceKind},
};
use postgres_es::PostgresEventRepository;
use sqlx::{Executor as _, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::support::site::{Site, nights_from};

/// A pool in which every connection is the tenant's role, as an auditor's tool would have it.
async fn auditor(site: &Site) -> PgPool {
    let role = site.schema.name().to_owned();
    PgPoolOptions::new()
        .max_connections(2)
        .after_connect(move |connection, _| {
            let sql = format!("SET ROLE {role}");
            Box::pin(async move { connection.execute(sql.as_str()).await.map(drop) })
        })
        .connect_with(site.db.app_options.clone())
        .await
        .unwrap()
}

fn repository(pool: PgPool, schema: &Schema) -> PostgresEventRepository {
    PostgresEventRepository::new(pool)
        .with_tables(&format!("\"{schema}\".cqrs_events"), &format!("\"{schema}\".cqrs_snapshots"))
}

/// The state that our own reader folds, personal values sealed.
async fn folded<A: Registered>(site: &Site, id: Uuid) -> Arc<A> {
    let mut tx = TenantTx::begin(site.store.database().app(), &site.schema, Access::Read).await.unwrap();
    let stream = StreamRef { aggregate_type: A::AGGREGATE_TYPE, id };
    let found =
        Reader::sealed(&site.schema, &site.keys).aggregate(&mut tx, stream, Until::End).await.unwrap();
    A::of(&found.unwrap().0.state).unwrap().clone()
}

async fn loaded<A>(site: &Site, pool: &PgPool, id: Uuid) -> A
where
    A: cqrs_es::Aggregate + Clone + Send + Sync,
    A::Error: std::fmt::Debug,
{
    let store = PersistedEventStore::<_, A>::new_event_store(repository(pool.clone(), &site.schema));
    let mut context = store.load_aggregate(&id.to_string()).await.unwrap();
    context.aggregate().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_postgres_es_folds_a_tenants_streams_to_the_same_state() {
    let site = Site::open().await;
    let unit = site.resource(1).await;
    let offering = site.offering(&[unit]).await;
    let book = site.book(offering, 0, 2);
    let booking = book.id;
    site.run(book).await.unwrap();
    let reschedule = BookingCommand::Reschedule { when: nights_from(7, 3), resource_id: None };
    site.run(Command::to(booking, reschedule)).await.unwrap();
    site.run(Command::to(booking, BookingCommand::Cancel { waive_fee: false })).await.unwrap();

    let pool = auditor(&site).await;
    assert_eq!(loaded::<Booking>(&site, &pool, booking).await, *folded::<Booking>(&site, booking).await);
    assert_eq!(loaded::<Resource>(&site, &pool, unit.0).await, *folded::<Resource>(&site, unit.0).await);
    let customer = loaded::<Customer>(&site, &pool, site.customer.0).await;
    assert_eq!(customer, *folded::<Customer>(&site, site.customer.0).await);
    assert_eq!(customer.name.expose(), None, "a name is not in the log");

    let store = PersistedEventStore::<_, Booking>::new_event_store(repository(pool, &site.schema));
    let events = store.load_events(&booking.to_string()).await.unwrap();
    let sequences: Vec<usize> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert!(events.iter().all(|event| event.metadata["actor"] == "test"), "metadata is a map of texts");
}

fn create() -> ResourceCommand {
    ResourceCommand::Create {
        name: Name::new("Room", "").unwrap(),
        kind: ResourceKind::Unit,
        capacity: None,
        time_zone: chrono_tz::UTC,
    }
}

fn context(id: Uuid) -> ResourceContext {
    let now = chrono::DateTime::UNIX_EPOCH;
    ResourceContext { now, id: ResourceId(id), peak_claims: 0, live_claims: 0, min_capacity_for_pins: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cqrs_framework_appends_through_the_lane() {
    let site = Site::open().await;
    let before = site.head().await;
    let id = Uuid::now_v7();
    let store = CqrsStore::new(site.store.clone(), site.schema.clone());
    let framework = CqrsFramework::<Resource, _>::new(store.clone(), vec![], context(id));
    let metadata = HashMap::from([("actor".to_owned(), "tool".to_owned())]);
    framework.execute_with_metadata(&id.to_string(), create(), metadata).await.unwrap();
    framework.execute(&id.to_string(), ResourceCommand::Archive).await.unwrap();

    assert_eq!(site.assert_gap_free().await, before + 2);
    let (actor,): (String,) = sqlx::query_as(
        &site.schema.sql("SELECT actor FROM {s}.events WHERE aggregate_id = $1 AND sequence = 1"),
    )
    .bind(id)
    .fetch_one(site.owner())
    .await
    .unwrap();
    assert_eq!(actor, "tool");
    let resource = folded::<Resource>(&site, id).await;
    assert!(resource.archived);
    let (archived,): (bool,) =
        sqlx::query_as(&site.schema.sql("SELECT archived FROM {s}.resources WHERE id = $1"))
            .bind(id)
            .fetch_one(site.owner())
            .await
            .unwrap();
    assert!(archived, "the read models follow, whoever writes");
    // What the framework wrote and what the lane remembers are one.
    let refused = site.run(Command::to(id, ResourceCommand::Archive)).await;
    assert!(refused.is_err(), "the lane does not know what the framework wrote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_framework_that_lost_a_race_hears_of_a_conflict() {
    let site = Site::open().await;
    let id = Uuid::now_v7();
    site.run(Command::create(id, create())).await.unwrap();
    let store = CqrsStore::new(site.store.clone(), site.schema.clone());
    let stale = cqrs_es::EventStore::<Resource>::load_aggregate(&store, &id.to_string()).await.unwrap();
    site.run(Command::to(
        id,
        ResourceCommand::Update {
            name: Some(Name::new("Suite", "").unwrap()),
            capacity: None,
            time_zone: None,
        },
    ))
    .await
    .unwrap();
    let before = site.head().await;
    let decided = Resource::of(&AnyState::Resource(folded::<Resource>(&site, id).await))
        .unwrap()
        .decide(&ResourceCommand::Archive, &context(id))
        .unwrap();
    let lost = store.commit(decided, stale, HashMap::new()).await;
    assert!(matches!(lost, Err(AggregateError::AggregateConflict)), "{lost:?}");
    assert_eq!(site.head().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_framework_hears_a_refusal_as_a_user_error() {
    let site = Site::open().await;
    let id = Uuid::now_v7();
    let store = CqrsStore::new(site.store.clone(), site.schema.clone());
    let framework = CqrsFramework::<Resource, _>::new(store, vec![], context(id));
    let refused = framework.execute(&id.to_string(), ResourceCommand::Archive).await;
    assert!(matches!(refused, Err(AggregateError::UserError(DomainError::NotFound { .. }))), "{refused:?}");
}
