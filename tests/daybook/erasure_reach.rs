//! What an erasure reaches that is known by an address alone, and what of that is another's.

use daybook::{
    eventstore::{Command, Unit},
    workers::projector,
};
use daybook_domain::{
    CustomerId,
    lead::LeadCommand,
    permission::Tier,
    text::{Email, Name},
};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{
    erasure::{erase, rows},
    pruning::{assert_replays, caught_up, database_now, prune_at},
    support::{
        app::{TestApp, TestTenant, id},
        people::generous,
        process::Host,
        site::by,
    },
};

/// Leads with an address, left by anybody.
async fn leads(app: &TestApp, tenant: &TestTenant, email: &str, count: usize) -> Vec<Uuid> {
    let submit = LeadCommand::Submit {
        name: Name::new("ZqLead", "").unwrap(),
        email: Some(Email::new(email, "").unwrap()),
        phone: None,
        message: None,
        offering_id: None,
    };
    let left = (0..count).map(async |_| {
        let id = Uuid::now_v7();
        let unit = Unit::of(Command::create(id, submit.clone()), by("guest"));
        app.store.execute(&tenant.schema(), unit).await.unwrap();
        id
    });
    futures_util::future::join_all(left).await
}

/// Of which of them it is still known who asked.
pub async fn known_leads(app: &TestApp, tenant: &TestTenant) -> i64 {
    let sql = tenant.schema().sql(
        "SELECT count(*) FROM {s}.leads l JOIN {s}.subject_keys k ON k.subject_id = l.id
         WHERE l.email IS NOT NULL AND k.wrapped_key IS NOT NULL",
    );
    sqlx::query_scalar(&sql).fetch_one(app.store.database().owner()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_of_leads_keeps_anybody_from_being_erased() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let customer = id(&app
        .post(&tenant, "/customers", &json!({"name": "Ada", "email": "Ada@example.org"}))
        .await
        .expect(201));
    leads(&app, &tenant, "ada@Example.org", 2_000).await;
    let others = leads(&app, &tenant, "eve@example.org", 3).await.len();
    assert_eq!(erase(&app, &tenant, customer).await.expect(200).text("status"), "done");
    assert_eq!(known_leads(&app, &tenant).await, i64::try_from(others).unwrap());
    let events = app.get(&tenant, "/audit/events?type=customer.erased").await.expect(200).body;
    let named: Vec<usize> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["payload"]["subjects"].as_array().unwrap().len())
        .collect();
    assert_eq!(named, [1_000, 1_000, 1]);
    let report = projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    let host = Host::beside(&app, app.db.app_url.clone());
    app.sign_now(&tenant).await;
    host.run(&["audit", "verify", "--tenant", "camp"]);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_the_address_of_goes_with_the_last_who_has_it() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let register = async |name: &str, email: &str| {
        let body = json!({"name": name, "email": email});
        id(&app.post(&tenant, "/customers", &body).await.expect(201))
    };
    // Two bookings from a public page are two records of one person.
    let (ada, again) =
        (register("Ada", "ada@example.org").await, register("Ada L.", "ADA@example.org").await);
    let eve = register("Eve", "eve@example.org").await;
    leads(&app, &tenant, "ada@example.org", 2).await;
    leads(&app, &tenant, "eve@example.org", 1).await;
    let letter = "INSERT INTO {s}.messages (id, kind, recipient, subject, status, sent_at, next_attempt_at)
                  VALUES (gen_random_uuid(), 'invitation', 'ada@example.org', 'Hello', 'sent', now(), now())";
    app.sql(&tenant.schema(), letter).await;
    let letters = async || -> i64 {
        let sql =
            "SELECT count(*) FROM {s}.messages WHERE recipient IS NOT NULL OR sealed_recipient IS NOT NULL";
        sqlx::query_scalar(&tenant.schema().sql(sql)).fetch_one(app.store.database().owner()).await.unwrap()
    };
    // Whoever may edit customers gives one another's address.
    let path = format!("/customers/{eve}");
    let change = json!({"email": "ada@example.org"});
    app.request(&tenant, Method::PATCH, &path, &[("If-Match", "*")], Some(&change)).await.expect(200);
    assert_eq!(erase(&app, &tenant, eve).await.expect(200).text("status"), "done");
    // What was Eve's is gone, what is Ada's is not.
    assert_eq!((known_leads(&app, &tenant).await, letters().await), (2, 1));
    assert_eq!(erase(&app, &tenant, ada).await.expect(200).text("status"), "done");
    assert_eq!((known_leads(&app, &tenant).await, letters().await), (2, 1));
    assert_eq!(erase(&app, &tenant, again).await.expect(200).text("status"), "done");
    assert_eq!((known_leads(&app, &tenant).await, letters().await), (0, 0));
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_under_an_address_of_before_a_cut_is_found() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let body = json!({"name": "Ada", "email": "zq.first@canary.example"});
    let customer = id(&app.post(&tenant, "/customers", &body).await.expect(201));
    let account =
        app.account(Some(&tenant), "zq.old@canary.example", Tier::Customer, Some(CustomerId(customer))).await;
    for (path, email) in [
        (format!("/customers/{customer}"), "zq.second@canary.example"),
        (format!("/customers/{customer}"), "zq.third@canary.example"),
        (format!("/users/{account}"), "zq.new@canary.example"),
    ] {
        let change = json!({"email": email});
        app.request(&tenant, Method::PATCH, &path, &[("If-Match", "*")], Some(&change)).await.expect(200);
    }
    for name in ["first", "second", "third", "old", "new", "nobodys"] {
        leads(&app, &tenant, &format!("zq.{name}@canary.example"), 1).await;
    }
    // Twice: what is carried over is carried over again.
    for _ in 0..2 {
        caught_up(&app, &tenant).await;
        assert_eq!(prune_at(&app, &tenant, database_now(&app).await).await.refused, None);
    }
    caught_up(&app, &tenant).await;
    assert_replays(&app, &tenant.schema()).await;
    assert_eq!(known_leads(&app, &tenant).await, 6);
    assert_eq!(erase(&app, &tenant, customer).await.expect(200).text("status"), "done");
    assert_eq!(known_leads(&app, &tenant).await, 1);
    for (table, rows) in rows(&app, &tenant.schema()).await {
        let text = rows.join("\n");
        for name in ["first", "second", "third", "old", "new"] {
            let address = format!("zq.{name}@canary.example");
            assert!(!text.contains(&address) && !text.contains(&hex::encode(&address)), "{table}: {name}");
        }
    }
    assert_replays(&app, &tenant.schema()).await;
    app.shut_down().await;
}
