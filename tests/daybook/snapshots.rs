//! An aggregate is what its events say, whatever was kept of it meanwhile.

use daybook::{
    eventstore::{
        Command, EventStore, StoreSettings, StreamRef, Unit,
        load::{Reader, Until},
    },
    tenancy::{Access, TenantTx},
};
use daybook_domain::{
    CustomerId, Email, Name,
    customer::CustomerCommand,
    registry::{AggregateType, AnyState},
};
use uuid::Uuid;

use crate::support::site::{Site, by};

/// Customers that were changed so many times, by a store that keeps a snapshot of each fifth state.
async fn customers<const N: usize>(site: &Site, changes: [usize; N]) -> [CustomerId; N] {
    let settings = StoreSettings { snapshot_every: 5, ..StoreSettings::default() };
    let store = EventStore::new(site.store.database().clone(), site.keys.clone(), settings);
    let mut ids = [CustomerId(Uuid::nil()); N];
    for (id, changes) in ids.iter_mut().zip(changes) {
        *id = CustomerId(Uuid::now_v7());
        let email = Some(Email::new("ada@example.org", "").unwrap());
        let register = CustomerCommand::Register { name: Name::new("Ada", "").unwrap(), email, phone: None };
        store.execute(&site.schema, Unit::of(Command::create(*id, register), by("test"))).await.unwrap();
        for n in 1..changes {
            let name = Some(Name::new(&format!("Ada {n}"), "").unwrap());
            let update = CustomerCommand::Update { name, email: None, phone: None };
            store.execute(&site.schema, Unit::of(Command::to(*id, update), by("test"))).await.unwrap();
        }
    }
    ids
}

/// The aggregates as a command would be decided on: their states and sequences.
async fn aggregates(site: &Site, ids: &[Uuid]) -> Vec<Option<(AnyState, i64)>> {
    let mut tx =
        TenantTx::begin(site.store.database().app(), &site.schema, Access::ReadConsistent).await.unwrap();
    let mut found = Reader::disclosing(&site.schema, &site.keys).aggregates(&mut tx, ids).await.unwrap();
    ids.iter().map(|id| found.remove(id).map(|entry| (entry.state, entry.sequence))).collect()
}

#[tokio::test]
async fn an_aggregate_is_the_same_with_a_snapshot_and_without_one_that_can_be_used() {
    let site = Site::open().await;
    // Before the first snapshot, at one, and past one and two.
    let [few, at, past, twice] = customers(&site, [3, 5, 7, 12]).await;
    let ids = [few.0, at.0, past.0, twice.0, Uuid::now_v7()];
    let snapshots = "SELECT array_agg(sequence ORDER BY sequence) FROM {s}.snapshots";
    let kept: Vec<i64> =
        sqlx::query_scalar(&site.schema.sql(snapshots)).fetch_one(site.owner()).await.unwrap();
    assert_eq!(kept, [5, 5, 10]);

    let mut wanted = Vec::new();
    for id in &ids {
        let mut tx =
            TenantTx::begin(site.store.database().app(), &site.schema, Access::ReadConsistent).await.unwrap();
        let stream = StreamRef { aggregate_type: AggregateType::Customer, id: *id };
        let folded = Reader::disclosing(&site.schema, &site.keys)
            .aggregate(&mut tx, stream, Until::End)
            .await
            .unwrap();
        wanted.push(folded.map(|(entry, _)| (entry.state, entry.sequence)));
    }
    assert_eq!(
        wanted.iter().map(|one| one.as_ref().map_or(0, |one| one.1)).collect::<Vec<_>>(),
        [3, 5, 7, 12, 0]
    );
    assert_eq!(aggregates(&site, &ids).await, wanted);

    let spoil = async |sql: &str| site.owner_sql(&format!("UPDATE {{s}}.snapshots SET {sql}")).await;
    // They are used: what is wrong in one is believed, and the events after it are applied to that.
    spoil("state = jsonb_set(state, '{archived}', 'true')").await;
    let believed = aggregates(&site, &ids).await;
    assert_eq!(believed[0], wanted[0]);
    for (believed, wanted) in believed.iter().zip(&wanted).skip(1).take(3) {
        assert_ne!(believed, wanted);
    }
    // Not of another fold, nor of an aggregate that this build does not know, nor of a shape that was given up.
    spoil("fold_version = fold_version - 1").await;
    assert_eq!(aggregates(&site, &ids).await, wanted);
    spoil("fold_version = fold_version + 1, aggregate_type = 'guest'").await;
    assert_eq!(aggregates(&site, &ids).await, wanted);
    spoil("aggregate_type = 'customer'").await;
    assert_eq!(aggregates(&site, &ids).await, believed);
    spoil("state = '{\"shape\": \"older\"}'").await;
    assert_eq!(aggregates(&site, &ids).await, wanted);
}
