//! Erasures that race with holds and with each other, and such as are killed half-way.

use std::time::Duration;

use daybook::{
    eventstore::{Command, Committed, EventStore, StoreError, Unit},
    workers::{erasure, projector},
};
use daybook_domain::{
    CustomerId, DomainError, HoldId, customer::CustomerCommand, legal_hold::LegalHoldCommand, text::Name,
};
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::{
    erasure::erase,
    support::{
        app::{TestApp, eventually, read},
        process::Host,
        proxy::{Hold, Proxy},
        site::{Site, by, wait_until_blocked},
    },
};

fn why() -> daybook_domain::envelope::Metadata {
    daybook_domain::envelope::Metadata { reason: Some("a letter".into()), ..by("test") }
}

async fn place(
    site: &Site,
    store: &EventStore,
    customer: Option<CustomerId>,
) -> Result<Committed, StoreError> {
    let place = LegalHoldCommand::Place {
        name: Name::new("Case 7", "").unwrap(),
        customer_id: customer,
        from_position: None,
    };
    store.execute(&site.schema, Unit::of(Command::create(HoldId(Uuid::now_v7()), place), why())).await
}

async fn request(site: &Site, store: &EventStore, customer: CustomerId) {
    let request = Command::to(customer, CustomerCommand::RequestErasure);
    store.execute(&site.schema, Unit::of(request, why())).await.unwrap();
}

/// The types of the events of a customer.
async fn told(site: &Site, customer: CustomerId) -> Vec<String> {
    let sql = site.schema.sql("SELECT event_type FROM {s}.events WHERE aggregate_id = $1 ORDER BY sequence");
    sqlx::query_scalar(&sql).bind(customer.0).fetch_all(site.owner()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hold_and_an_erasure_the_first_counts() {
    let site = Site::open().await;
    let node = site.second_store().await;
    let lock = site.schema.sql("SELECT position FROM {s}.log_head FOR UPDATE");
    for named in [true, false] {
        for hold_first in [true, false] {
            let customer = site.new_customer("Ada").await;
            request(&site, &site.store, customer).await;
            let whose = named.then_some(customer);
            let mut head = site.owner().begin().await.unwrap();
            sqlx::query(&lock).execute(&mut *head).await.unwrap();
            let hold = place(&site, &node, whose);
            let erasure = erasure::complete(&site.store, &site.schema, customer, why());
            // The first to wait for the head has it first.
            let first = async {
                wait_until_blocked(site.owner(), 1).await;
            };
            let both = async {
                wait_until_blocked(site.owner(), 2).await;
                head.commit().await.unwrap();
            };
            let (held, erased) = if hold_first {
                let later = async { tokio::join!(first, async {}).0 };
                let erasure = async {
                    later.await;
                    erasure.await
                };
                let (held, erased, ()) = tokio::join!(hold, erasure, both);
                (held, erased)
            } else {
                let hold = async {
                    first.await;
                    hold.await
                };
                let (held, erased, ()) = tokio::join!(hold, erasure, both);
                (held, erased)
            };
            let done = erasure::is_done(&erased.unwrap());
            assert_eq!(done, !hold_first, "named: {named}");
            let keys = site
                .schema
                .sql("SELECT destroyed_at IS NOT NULL FROM {s}.subject_keys WHERE subject_id = $1");
            let destroyed: bool =
                sqlx::query_scalar(&keys).bind(customer.0).fetch_one(site.owner()).await.unwrap();
            assert_eq!(destroyed, done);
            match (held, named && !hold_first) {
                (Ok(placed), false) => {
                    let hold = HoldId(placed.changed[0].id);
                    let release = Command::to(hold, LegalHoldCommand::Release);
                    node.execute(&site.schema, Unit::of(release, why())).await.unwrap();
                }
                // Whoever comes too late is told.
                (Err(StoreError::Refused { error: DomainError::WrongState { state, .. }, .. }), true) => {
                    assert_eq!(state, "erased");
                }
                (other, _) => panic!("{other:?}"),
            }
            assert_eq!(erasure::finish(&site.store, &site.schema).await.unwrap(), usize::from(!done));
            let all = told(&site, customer).await;
            assert_eq!(all, ["customer.registered", "customer.erasure_requested", "customer.erased"]);
        }
    }
    site.assert_gap_free().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_erase_at_once_one_does_it_and_all_are_told() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let node = app.second_node().await;
    for round in 0..4 {
        let customer = app.customer(&tenant, "Ada").await;
        let grace = app.customer(&tenant, "Grace").await;
        let answers = join_all((0..12).map(async |n: usize| {
            let app = if n.is_multiple_of(2) { &app } else { &node };
            if n % 4 == 3 {
                // Work goes on beside it.
                let body = json!({"name": format!("Guest {round} {n}")});
                return app.post(&tenant, "/customers", &body).await.expect(201).text("name");
            }
            erase(app, &tenant, customer).await.expect(200).text("status")
        }))
        .await;
        assert_eq!(answers.iter().filter(|answer| *answer == "done").count(), 9);
        let sql = tenant
            .schema()
            .sql("SELECT event_type FROM {s}.events WHERE aggregate_id = $1 ORDER BY sequence");
        let all: Vec<String> =
            sqlx::query_scalar(&sql).bind(customer).fetch_all(app.store.database().owner()).await.unwrap();
        assert_eq!(all, ["customer.registered", "customer.erasure_requested", "customer.erased"]);
        assert_eq!(app.get(&tenant, &format!("/customers/{grace}")).await.expect(200).body["name"], "Grace");
    }
    app.assert_gap_free(&tenant).await;
    let report = projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    node.shut_down().await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_is_killed_at_any_step_is_finished_by_another() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let proxy = Proxy::start(&app.db.app_url).await;
    let host = Host::beside(&app, proxy.url(&app.db.app_url));
    let mut server = host.serve();
    let owner = app.store.database().owner();
    let schema = tenant.schema();
    // What only the request says, and what only the deed says.
    for marker in [r#""requested_at":""#, r#""subjects":[""#] {
        for hold in [Hold::Answer, Hold::Command, Hold::Late] {
            let customer = app.customer(&tenant, "ZqKilled").await;
            let told = async || -> Vec<String> {
                let sql =
                    schema.sql("SELECT event_type FROM {s}.events WHERE aggregate_id = $1 ORDER BY sequence");
                sqlx::query_scalar(&sql).bind(customer).fetch_all(owner).await.unwrap()
            };
            proxy.hold(hold, marker);
            let url = format!("{}/api/v1/customers/{customer}/erase", server.address);
            let ask =
                || app.client.post(&url).bearer_auth(&tenant.token).json(&json!({"reason": "a letter"}));
            let asked = tokio::spawn(ask().send());
            proxy.held().await;
            server.kill();
            proxy.let_go();
            assert!(asked.await.unwrap().is_err(), "nobody was answered");
            let deed = marker.contains("subjects");
            let expected = 1 + usize::from(deed) + usize::from(hold != Hold::Command);
            eventually("it is committed, or never will be", Duration::from_secs(5), async || {
                told().await.len() == expected
            })
            .await;
            // All of it, or nothing: the key lives as long as the event is not there.
            let sql = schema.sql(
                "SELECT (SELECT destroyed_at IS NOT NULL FROM {s}.subject_keys WHERE subject_id = $1),
                        NOT EXISTS (SELECT FROM {s}.sealed_values WHERE subject_id = $1),
                        (SELECT name IS NULL FROM {s}.customers WHERE id = $1)",
            );
            let state: (bool, bool, bool) =
                sqlx::query_as(&sql).bind(customer).fetch_one(owner).await.unwrap();
            let gone = expected == 3;
            assert_eq!(state, (gone, gone, gone), "{hold:?} {marker}");

            server = host.serve();
            let url = format!("{}/api/v1/customers/{customer}/erase", server.address);
            if expected == 2 {
                // A worker of any node does what is left.
                assert_eq!(erasure::finish(&app.store, &schema).await.unwrap(), 1);
            }
            let again = app.client.post(&url).bearer_auth(&tenant.token).json(&json!({"reason": "a letter"}));
            assert_eq!(read(again).await.expect(200).text("status"), "done");
            assert_eq!(
                told().await,
                ["customer.registered", "customer.erasure_requested", "customer.erased"]
            );
            let state: (bool, bool, bool) =
                sqlx::query_as(&sql).bind(customer).fetch_one(owner).await.unwrap();
            assert_eq!(state, (true, true, true));
        }
    }
    app.assert_gap_free(&tenant).await;
    let report = projector::verify(&app.store, &schema, |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    server.kill();
    app.shut_down().await;
}
