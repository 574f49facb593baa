//! Legal holds: what they cover waits; who may place and release them.

use std::time::Duration;

use daybook::{
    eventstore::{Command, Unit},
    workers::{WorkerSettings, erasure as finisher},
};
use daybook_domain::{
    CustomerId, HoldId, envelope::Metadata, legal_hold::LegalHoldCommand, permission::Tier,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    erasure::erase,
    erasure_reach::known_leads,
    masquerade_attacks::hijack,
    support::{
        app::{Answer, TestApp, TestTenant, eventually, id},
        people::{Person, generous},
        process::Host,
        site::by,
    },
    support_sessions::{begin, start, window},
};

pub async fn place(app: &TestApp, tenant: &TestTenant, customer: Option<Uuid>) -> Uuid {
    let hold = json!({"name": "Case 7", "customer_id": customer, "reason": "a writ was served"});
    id(&app.post(tenant, "/audit/holds", &hold).await.expect(201))
}

pub async fn release(app: &TestApp, tenant: &TestTenant, hold: Uuid, body: Option<&Value>) -> Answer {
    app.request(tenant, Method::DELETE, &format!("/audit/holds/{hold}"), &[("If-Match", "*")], body).await
}

async fn status(app: &TestApp, tenant: &TestTenant, customer: Uuid) -> Value {
    app.get(tenant, &format!("/customers/{customer}")).await.expect(200).body["erasure"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_placed_seen_and_released_with_reasons() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let customer = app.customer(&tenant, "Ada").await;
    let refused = [
        (json!({"name": "Case 7"}), "/reason"),
        (json!({"name": "Case 7", "reason": " "}), "/reason"),
        (json!({"name": "", "reason": "a writ"}), "/name"),
        (json!({"name": "Case 7", "reason": "a writ", "from_position": 0}), "/from_position"),
        (json!({"name": "Case 7", "reason": "a writ", "customer_id": Uuid::now_v7()}), "/customer_id"),
    ];
    for (body, pointer) in refused {
        let told = app.post(&tenant, "/audit/holds", &body).await.expect_problem(422, "validation_failed");
        assert_eq!(told.body["errors"][0]["pointer"], pointer, "{body}");
    }
    let body = json!({"name": "Case 7", "customer_id": customer, "from_position": 3, "reason": "a writ"});
    let made = app.post_keyed(&tenant, "/audit/holds", "once", &body).await.expect(201);
    let again = app.post_keyed(&tenant, "/audit/holds", "once", &body).await.expect(201);
    assert_eq!((id(&made), again.header("idempotent-replayed")), (id(&again), Some("true")));
    let hold = id(&made);
    assert_eq!(made.header("location"), Some(format!("/api/v1/audit/holds/{hold}").as_str()));
    let path = format!("/audit/holds/{hold}");
    let seen = app.get(&tenant, &path).await.expect(200);
    assert_eq!((seen.header("etag"), &seen.body["reason"]), (Some("\"1\""), &json!("a writ")));
    assert_eq!((&seen.body["from_position"], &seen.body["released_at"]), (&json!(3), &Value::Null));
    let listed = async |query: &str| {
        let page = app.get(&tenant, &format!("/audit/holds{query}")).await.expect(200).body;
        page["items"].as_array().unwrap().len()
    };
    let all = place(&app, &tenant, None).await;
    assert_eq!((listed("").await, listed("?standing=true").await, listed("?limit=1").await), (2, 2, 1));

    release(&app, &tenant, hold, None).await.expect_problem(422, "validation_failed");
    let why = json!({"reason": "the case is closed"});
    app.request(&tenant, Method::DELETE, &path, &[], Some(&why))
        .await
        .expect_problem(428, "precondition_required");
    release(&app, &tenant, hold, Some(&why)).await.expect(204);
    release(&app, &tenant, hold, Some(&why)).await.expect_problem(409, "wrong_state");
    release(&app, &tenant, Uuid::now_v7(), Some(&why)).await.expect_problem(404, "not_found");
    let seen = app.get(&tenant, &path).await.expect(200).body;
    assert_eq!(seen["release_reason"], "the case is closed");
    assert_eq!((listed("?standing=true").await, listed("?standing=false").await), (1, 1));
    let report = daybook::workers::projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    release(&app, &tenant, all, Some(&why)).await.expect(204);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_every_hold_against_it() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let resource = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[resource]).await;
    let (ada, eve) = (app.customer(&tenant, "Ada").await, app.customer(&tenant, "Eve").await);
    app.account(Some(&tenant), "ada@example.org", Tier::Customer, Some(CustomerId(ada))).await;
    let (of_ada, of_all) = (place(&app, &tenant, Some(ada)).await, place(&app, &tenant, None).await);
    for customer in [ada, eve] {
        assert_eq!(erase(&app, &tenant, customer).await.expect(202).text("status"), "queued");
        assert_eq!(status(&app, &tenant, customer).await, "queued");
    }
    // Whom a hold may be about does not hear of it, nor do those who may not see holds.
    let own = app.sign_in(Some(&tenant), "ada@example.org").await;
    for path in [format!("/customers/{ada}"), "/customers".to_owned()] {
        let seen = app.get_as(&own.token, &path).await.expect(200).body;
        let seen = seen["items"].get(0).unwrap_or(&seen);
        assert_eq!((&seen["id"], &seen["erasure"]), (&json!(ada), &json!("requested")));
    }
    // Asked again it is told again; the person is known, and books no more.
    let head = app.head(&tenant).await;
    erase(&app, &tenant, ada).await.expect(202);
    assert_eq!(app.head(&tenant).await, head);
    assert_eq!(app.get(&tenant, &format!("/customers/{ada}")).await.expect(200).body["name"], "Ada");
    let stay = TestApp::stay(offering, ada, "2031-05-01", "2031-05-03");
    app.post(&tenant, "/bookings", &stay).await.expect_problem(409, "wrong_state");
    assert_eq!(finisher::finish(&app.store, &tenant.schema()).await.unwrap(), 0);
    let queued = app.get(&tenant, "/audit/erasures?status=queued").await.expect(200).body;
    assert_eq!(queued["items"].as_array().unwrap().len(), 2);

    let why = json!({"reason": "the case is closed"});
    release(&app, &tenant, of_all, Some(&why)).await.expect(204);
    eventually("Eve is erased", Duration::from_secs(10), async || status(&app, &tenant, eve).await == "done")
        .await;
    assert_eq!(status(&app, &tenant, ada).await, "queued");
    let stop = CancellationToken::new();
    let often = WorkerSettings { erasure_sweep: Duration::from_millis(100), ..WorkerSettings::default() };
    let rounds = finisher::run(app.store.clone(), app.directory.clone(), often, stop.clone());
    let rounds = tokio::spawn(rounds);
    // Released where nobody goes on with it: a worker comes by.
    let release = Command::to(HoldId(of_ada), LegalHoldCommand::Release);
    let metadata = Metadata { reason: Some("the case is closed".into()), ..by("test") };
    app.store.execute(&tenant.schema(), Unit::of(release, metadata)).await.unwrap();
    eventually("Ada is erased", Duration::from_secs(10), async || status(&app, &tenant, ada).await == "done")
        .await;
    stop.cancel();
    rounds.await.unwrap();
    let events = app.get(&tenant, "/audit/events?type=customer.erased").await.expect(200).body;
    let actors: Vec<&Value> =
        events["items"].as_array().unwrap().iter().map(|event| &event["actor"]).collect();
    assert_eq!(actors, ["system:erasure", "system:erasure"]);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_what_another_record_with_the_address_would_take_along() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let register = async |name: &str, email: &str| {
        let body = json!({"name": name, "email": email});
        id(&app.post(&tenant, "/customers", &body).await.expect(201))
    };
    let (ada, eve) = (register("Ada", "ada@example.org").await, register("Eve", "eve@example.org").await);
    let lead = json!({"name": "Ada", "email": "ada@example.org", "message": "Is there room?"});
    app.anonymous_at(&tenant, "/public/leads", &lead).await.expect(201);
    let hold = place(&app, &tenant, Some(ada)).await;
    let path = format!("/customers/{eve}");
    let change = json!({"email": "Ada@Example.org"});
    app.request(&tenant, Method::PATCH, &path, &[("If-Match", "*")], Some(&change)).await.expect(200);
    assert_eq!(erase(&app, &tenant, eve).await.expect(202).text("status"), "queued");
    assert_eq!(finisher::finish(&app.store, &tenant.schema()).await.unwrap(), 0);
    assert_eq!(known_leads(&app, &tenant).await, 1);
    let why = json!({"reason": "the case is closed"});
    release(&app, &tenant, hold, Some(&why)).await.expect(204);
    eventually("Eve is erased", Duration::from_secs(10), async || status(&app, &tenant, eve).await == "done")
        .await;
    // Ada has the address as well.
    assert_eq!(known_leads(&app, &tenant).await, 1);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_hold_managers_erase_and_nobody_does_it_as_somebody_else() {
    let (app, tenant, owner, sue) = start().await;
    let manager = app.person(&tenant, "manager@camp.example", Tier::TenantManager).await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let customers = [app.customer(&tenant, "Ada").await, app.customer(&tenant, "Eve").await];
    let hold = json!({"name": "Case 7", "customer_id": customers[1], "reason": "a writ"});
    let why = json!({"reason": "asked for by letter"});
    let erase = async |by: &Person, customer: Uuid| {
        app.post_as(&by.token, &format!("/customers/{customer}/erase"), &why).await
    };
    let placed = id(&app.post_as(&owner.token, "/audit/holds", &hold).await.expect(201));
    let path = format!("/audit/holds/{placed}");
    for person in [&manager, &staff] {
        app.post_as(&person.token, "/audit/holds", &hold).await.expect_problem(403, "forbidden");
        app.with_token(&person.token, Method::DELETE, &path, Some(&why))
            .await
            .expect_problem(403, "forbidden");
    }
    app.get_as(&manager.token, &path).await.expect(200);
    for route in ["/audit/holds", "/audit/erasures", &path] {
        app.get_as(&staff.token, route).await.expect_problem(403, "forbidden");
    }
    erase(&staff, customers[0]).await.expect_problem(403, "forbidden");

    // The platform's support, let in or acting as the owner, neither erases nor holds.
    let request = window(&app, &sue, &owner, "camp").await;
    let inside = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201).text("access_token");
    let acting = json!({"tenant": "camp", "user_id": owner.id, "reason": "ticket 7"});
    let acting = app.post_as(&sue.token, "/hijack", &acting).await.expect(201).text("access_token");
    let redacted = begin(&app, &sue, "camp", "redacted", None).await.expect(201).text("access_token");
    for (token, code) in [(&inside, "forbidden"), (&acting, "forbidden"), (&redacted, "support_read_only")] {
        let path = format!("/customers/{}/erase", customers[0]);
        app.post_as(token, &path, &why).await.expect_problem(403, code);
        app.post_as(token, "/audit/holds", &hold).await.expect_problem(403, code);
        let one = format!("/audit/holds/{placed}");
        app.with_token(token, Method::DELETE, &one, Some(&why)).await.expect_problem(403, code);
    }
    // Nor does an owner as one of the staff, who may not anyway.
    let as_staff = hijack(&app, &owner, &staff).await.text("access_token");
    let path = format!("/customers/{}/erase", customers[0]);
    app.post_as(&as_staff, &path, &why).await.expect_problem(403, "forbidden");
    // A role of the tenant's own has neither.
    for permission in ["erasures:create:tenant", "legal_holds:read:tenant"] {
        let role = json!({"name": "Desk", "permissions": [permission]});
        app.post_as(&owner.token, "/roles", &role).await.expect(422);
    }

    assert_eq!(erase(&manager, customers[0]).await.expect(200).text("status"), "done");
    assert_eq!(erase(&manager, customers[1]).await.expect(202).text("status"), "queued");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_and_erasures_are_at_hand_on_the_command_line() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let host = Host::beside(&app, app.db.app_url.clone());
    let (ada, eve) = (app.customer(&tenant, "Ada").await, app.customer(&tenant, "Eve").await);
    let hold = |customer: &str| {
        host.json(&[
            "audit",
            "hold",
            "place",
            "--tenant",
            "camp",
            "--name",
            "Case 7",
            "--customer",
            customer,
            "--from-position",
            "2",
            "--reason",
            "a writ",
            "--json",
        ])
    };
    let erase = |customer: Uuid| {
        let customer = customer.to_string();
        let command =
            ["audit", "erase", "--tenant", "camp", "--customer", &customer, "--reason", "a letter", "--json"];
        host.json(&command)["status"].as_str().unwrap().to_owned()
    };
    let placed = hold(&ada.to_string())["id"].as_str().unwrap().to_owned();
    assert_eq!((erase(ada).as_str(), erase(eve).as_str()), ("queued", "done"));
    assert_eq!(erase(eve), "done");
    let listed = host.json(&["audit", "hold", "list", "--tenant", "camp", "--json"]);
    assert_eq!((&listed[0]["id"], &listed[0]["from_position"]), (&json!(placed), &json!(2)));
    assert_eq!(listed[0]["reason"], "a writ");
    assert_eq!(host.run(&["audit", "hold", "list", "--tenant", "camp"]).lines().count(), 1);
    let released = host.run(&["audit", "hold", "release", &placed, "--tenant", "camp", "--reason", "closed"]);
    assert!(released.contains("erasures that had waited: 1 done"), "{released}");
    assert_eq!(status(&app, &tenant, ada).await, "done");
    assert_eq!(host.json(&["audit", "hold", "list", "--tenant", "camp", "--json"]), json!([]));
    assert_eq!(host.run(&["audit", "hold", "list", "--tenant", "camp", "--all"]).lines().count(), 1);

    let ends = |arguments: &[&str]| host.output(arguments).status.code();
    assert_eq!(
        ends(&["audit", "hold", "release", &placed, "--tenant", "camp", "--reason", "again"]),
        Some(1)
    );
    assert_eq!(ends(&["audit", "hold", "place", "--tenant", "camp", "--name", "Case 8"]), Some(2));
    let nobody = Uuid::now_v7().to_string();
    assert_eq!(
        ends(&["audit", "erase", "--tenant", "camp", "--customer", &nobody, "--reason", "a letter"]),
        Some(1)
    );
    app.shut_down().await;
}
