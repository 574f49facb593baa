//! Domains of tenants: claimed, proved by a record in DNS, used by the pages there, and lost.

use std::time::{Duration, Instant};

use daybook::{config::SettingsPatch, tenancy::Schema, workers::projector};
use daybook_domain::{TenantId, envelope::Metadata, permission::Tier, tenant::TenantCommand};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    dns::DnsServer,
    people::PASSWORD,
};

const HOST: &str = "book.camp.example";
const ORIGIN: &str = "https://book.camp.example";

async fn start(dns: &DnsServer, recheck: Option<&str>) -> TestApp {
    TestApp::start_with(SettingsPatch {
        dns_server: Some(dns.address),
        domain_recheck_interval: recheck.map(|text| text.parse().unwrap()),
        ..SettingsPatch::default()
    })
    .await
}

async fn claim(app: &TestApp, tenant: &TestTenant, host: &str) -> Answer {
    app.post(tenant, "/domains", &json!({"hostname": host})).await.expect(201)
}

async fn verify(app: &TestApp, tenant: &TestTenant, domain: Uuid) -> Answer {
    app.post(tenant, &format!("/domains/{domain}/verify"), &json!({})).await
}

/// Publishes the records that these claims of one host ask for.
async fn publish(dns: &DnsServer, claims: &[&Answer]) {
    let values: Vec<String> =
        claims.iter().map(|claim| claim.body["record"]["value"].as_str().unwrap().to_owned()).collect();
    let values: Vec<[&str; 1]> = values.iter().map(|value| [value.as_str()]).collect();
    let records: Vec<&[&str]> = values.iter().map(|value| value.as_slice()).collect();
    dns.set_txt(claims[0].body["record"]["name"].as_str().unwrap(), &records).await;
}

/// A claim with its record, proved.
async fn proved(app: &TestApp, dns: &DnsServer, tenant: &TestTenant, host: &str) -> Uuid {
    let claimed = claim(app, tenant, host).await;
    publish(dns, &[&claimed]).await;
    verify(app, tenant, id(&claimed)).await.expect(200);
    id(&claimed)
}

/// Waits until every node takes the origin for this tenant's, for the second in which it has to.
async fn within_a_second(nodes: &[&TestApp], origin: &str, tenant: Option<TenantId>) {
    let until = Instant::now() + Duration::from_secs(1);
    for node in nodes {
        while node.state.origins().tenant_of(origin).await.unwrap() != tenant {
            assert!(Instant::now() < until, "{origin} is not {tenant:?}'s within a second");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn domain(app: &TestApp, tenant: &TestTenant, domain: Uuid) -> Value {
    let listed = app.get(tenant, "/domains").await.expect(200).body;
    let items = listed["items"].as_array().unwrap();
    items.iter().find(|item| item["id"] == json!(domain)).cloned().unwrap_or_default()
}

async fn login_from(app: &TestApp, origin: &str, headers: &[(&str, &str)]) -> Answer {
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let mut request = app.client.post(app.url("/auth/login")).header("Origin", origin).json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request).await
}

async fn assert_replays(app: &TestApp) {
    let report = projector::verify(&app.store, &Schema::platform(), |_, _| {}).await.unwrap();
    let tables: Vec<&str> = report.tables.iter().map(|table| table.table.as_str()).collect();
    assert!(tables.contains(&"tenant_domains") && tables.contains(&"domain_claims"), "{tables:?}");
    for table in &report.tables {
        assert_eq!(table.differing, 0, "{table:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_claimed_proved_used_and_given_up() {
    let dns = DnsServer::start().await;
    let app = start(&dns, None).await;
    let node = app.second_node().await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("hotel").await);
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;

    let claimed = claim(&app, &tenant, "Book.Camp.Example.").await;
    let own = id(&claimed);
    assert_eq!(claimed.body["hostname"], HOST);
    assert_eq!(claimed.body["verified"], false);
    assert_eq!(claimed.body["record_created"], false);
    let record = &claimed.body["record"];
    assert_eq!(
        (&record["name"], &record["type"]),
        (&json!("_daybook-challenge.book.camp.example"), &json!("TXT"))
    );
    assert!(record["value"].as_str().unwrap().starts_with("daybook-verification="));

    // Nothing comes of a claim alone.
    let page = async |tenant: &TestTenant| {
        app.request(tenant, Method::GET, "/resources", &[("Origin", ORIGIN)], None).await
    };
    assert_eq!(page(&tenant).await.expect(200).header("access-control-allow-origin"), None);
    page(&other).await.expect(200);
    login_from(&app, ORIGIN, &[]).await.expect_problem(401, "unauthenticated");
    let missing = verify(&app, &tenant, own).await.expect_problem(409, "wrong_state");
    assert!(missing.text("detail").contains("_daybook-challenge.book.camp.example"), "{}", missing.body);
    dns.set_txt("_daybook-challenge.book.camp.example", &[&["daybook-verification=another"]]).await;
    verify(&app, &tenant, own).await.expect_problem(409, "wrong_state");
    app.post(&tenant, &format!("/domains/{own}/primary"), &json!({}))
        .await
        .expect_problem(409, "wrong_state");

    publish(&dns, &[&claimed]).await;
    let verified = verify(&app, &tenant, own).await.expect(200);
    assert_eq!(verified.body["verified"], true);
    within_a_second(&[&app, &node], ORIGIN, Some(tenant.id)).await;
    let answer = login_from(&app, ORIGIN, &[]).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    assert_eq!(page(&tenant).await.expect(200).header("access-control-allow-origin"), Some(ORIGIN));
    verify(&app, &tenant, own).await.expect(200);

    // Who leaves a lead there has no credential and names nobody.
    let lead = json!({"name": "Grace", "email": "grace@example.org"});
    let lead = read(app.client.post(app.url("/public/leads")).header("Origin", ORIGIN).json(&lead))
        .await
        .expect(201);
    app.get(&tenant, &format!("/leads/{}", id(&lead))).await.expect(200);

    // The page's tenant and the credential's are one, or it is a contradiction.
    page(&other).await.expect_problem(403, "tenant_mismatch");
    login_from(&app, ORIGIN, &[("X-Tenant-Slug", "hotel")]).await.expect_problem(403, "tenant_mismatch");
    login_from(&app, ORIGIN, &[("X-Tenant-Slug", "camp")]).await.expect(200);

    let primary = app.post(&tenant, &format!("/domains/{own}/primary"), &json!({})).await.expect(200);
    assert_eq!(primary.body["primary"], true);
    let mut listed = domain(&app, &tenant, own).await;
    assert_eq!(listed.as_object().unwrap().len(), primary.body.as_object().unwrap().len());
    assert_eq!(listed["record"].take(), *record);
    assert_eq!((&listed["verified"], &listed["primary"]), (&json!(true), &json!(true)));
    let unproved = app.get(&tenant, "/domains?verified=false").await.expect(200);
    assert_eq!(unproved.body["items"], json!([]));
    assert_replays(&app).await;

    // With the tenant, its pages are off.
    let operator = Metadata { actor: "test".into(), ..Metadata::default() };
    app.admin.command(tenant.id, TenantCommand::Deactivate, &operator).await.unwrap();
    within_a_second(&[&app, &node], ORIGIN, None).await;
    app.admin.command(tenant.id, TenantCommand::Activate, &operator).await.unwrap();
    within_a_second(&[&app, &node], ORIGIN, Some(tenant.id)).await;
    sleep(Duration::from_secs(1)).await;

    let path = format!("/domains/{own}");
    app.request(&tenant, Method::DELETE, &path, &[], None).await.expect(204);
    within_a_second(&[&app, &node], ORIGIN, None).await;
    assert_eq!(page(&tenant).await.expect(200).header("access-control-allow-origin"), None);
    app.request(&tenant, Method::DELETE, &path, &[], None).await.expect_problem(404, "not_found");
    assert_eq!(app.get(&tenant, "/domains").await.expect(200).body["items"], json!([]));
    assert_replays(&app).await;
    node.shut_down().await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_claim_a_host_and_one_can_prove_it() {
    let dns = DnsServer::start().await;
    let app = start(&dns, None).await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("hotel").await);
    let body = json!({"hostname": HOST});
    let first = app.post_keyed(&other, "/domains", "k", &body).await.expect(201);
    let again = app.post_keyed(&other, "/domains", "k", &body).await.expect(201);
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&first.body, Some("true")));
    app.post(&other, "/domains", &body).await.expect_problem(409, "already_exists");
    let second = claim(&app, &tenant, HOST).await;
    assert_ne!(first.body["record"]["value"], second.body["record"]["value"]);

    publish(&dns, &[&first, &second]).await;
    verify(&app, &tenant, id(&second)).await.expect(200);
    verify(&app, &other, id(&first)).await.expect_problem(409, "already_exists");
    assert_eq!(domain(&app, &other, id(&first)).await["verified"], false);
    within_a_second(&[&app], ORIGIN, Some(tenant.id)).await;

    // Another's claim is not found, on any route, and is as it was.
    for (method, path) in [(Method::POST, "/verify"), (Method::POST, "/primary"), (Method::DELETE, "")] {
        let path = format!("/domains/{}{path}", id(&second));
        app.request(&other, method, &path, &[], None).await.expect_problem(404, "not_found");
    }
    assert_eq!(domain(&app, &tenant, id(&second)).await["verified"], true);

    // Once it is given up, whoever has a record may prove it.
    app.request(&tenant, Method::DELETE, &format!("/domains/{}", id(&second)), &[], None).await.expect(204);
    verify(&app, &other, id(&first)).await.expect(200);
    within_a_second(&[&app], ORIGIN, Some(other.id)).await;
    assert_replays(&app).await;
    app.shut_down().await;
}

#[tokio::test]
async fn a_host_is_a_public_name_in_any_script() {
    let dns = DnsServer::start().await;
    let app = start(&dns, None).await;
    let tenant = app.tenant("camp").await;
    for wrong in [
        "",
        "example",
        "localhost",
        "printer.local",
        "10.0.0.1",
        "[::1]",
        "a..example",
        "a_b.example",
        "https://a.example",
        "a.example:443",
        "*.example",
        "xn--a.example",
        &"a".repeat(300),
    ] {
        let refused = app.post(&tenant, "/domains", &json!({"hostname": wrong})).await;
        let refused = refused.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], "/hostname", "{wrong}");
    }
    let claimed = claim(&app, &tenant, "Bücher.example").await;
    assert_eq!(claimed.body["hostname"], "xn--bcher-kva.example");
    assert_eq!(claimed.body["record"]["name"], "_daybook-challenge.xn--bcher-kva.example");
    let again = json!({"hostname": "xn--bcher-kva.example"});
    app.post(&tenant, "/domains", &again).await.expect_problem(409, "already_exists");

    // The server refuses names that are not in its zone: nothing is known of the record.
    let claimed = claim(&app, &tenant, "book.elsewhere.org").await;
    let unknown = verify(&app, &tenant, id(&claimed)).await.expect_problem(503, "unavailable");
    assert!(unknown.header("retry-after").is_some());
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_whose_record_is_gone_lapses() {
    let dns = DnsServer::start().await;
    let app = start(&dns, Some("200ms")).await;
    let node = app.second_node().await;
    let tenant = app.tenant("camp").await;
    let lost = proved(&app, &dns, &tenant, HOST).await;
    let kept = proved(&app, &dns, &tenant, "kept.camp.example").await;
    within_a_second(&[&app, &node], ORIGIN, Some(tenant.id)).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(domain(&app, &tenant, lost).await["verified"], true, "its record is there");

    dns.set_txt("_daybook-challenge.book.camp.example", &[]).await;
    let until = Instant::now() + Duration::from_secs(10);
    while domain(&app, &tenant, lost).await["verified"] == true {
        assert!(Instant::now() < until, "it does not lapse");
        sleep(Duration::from_millis(50)).await;
    }
    within_a_second(&[&app, &node], ORIGIN, None).await;
    assert_eq!(domain(&app, &tenant, kept).await["verified"], true);
    let by: Vec<String> = sqlx::query_scalar(
        "SELECT actor FROM daybook_platform.events WHERE event_type = 'tenant.domain_lapsed'",
    )
    .fetch_all(app.store.database().owner())
    .await
    .unwrap();
    assert_eq!(by, ["system:domain-recheck"]);

    // The claim stays, and the same record proves it again.
    let listed = domain(&app, &tenant, lost).await;
    let value = listed["record"]["value"].as_str().unwrap();
    dns.set_txt("_daybook-challenge.book.camp.example", &[&[value]]).await;
    verify(&app, &tenant, lost).await.expect(200);

    // A tenant that is switched off keeps no host that is not theirs any more.
    let hotel = app.tenant("hotel").await;
    proved(&app, &dns, &hotel, "sold.example").await;
    let operator = Metadata { actor: "test".into(), ..Metadata::default() };
    app.admin.command(hotel.id, TenantCommand::Deactivate, &operator).await.unwrap();
    dns.set_txt("_daybook-challenge.sold.example", &[]).await;
    let verified = async || -> i64 {
        sqlx::query_scalar(
            "SELECT count(*) FROM daybook_platform.tenant_domains WHERE hostname = 'sold.example'",
        )
        .fetch_one(app.store.database().owner())
        .await
        .unwrap()
    };
    let until = Instant::now() + Duration::from_secs(10);
    while verified().await > 0 {
        assert!(Instant::now() < until, "it does not lapse");
        sleep(Duration::from_millis(50)).await;
    }

    // A server that is down says nothing of the records.
    dns.stop().await;
    sleep(Duration::from_secs(2)).await;
    for id in [lost, kept] {
        assert_eq!(domain(&app, &tenant, id).await["verified"], true);
    }
    assert_replays(&app).await;
    node.shut_down().await;
    app.shut_down().await;
}
