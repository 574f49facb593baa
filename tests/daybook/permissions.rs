//! Who may do what, and to how much of it. Every route for everybody: see `route_matrix`.

use std::collections::BTreeSet;

use daybook::config::SettingsPatch;
use daybook_domain::{CustomerId, permission::Tier};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{TestApp, id, read},
    people::Person,
};

async fn start() -> TestApp {
    let patch = SettingsPatch { login_limit_per_minute: Some(1_000), ..SettingsPatch::default() };
    TestApp::start_with(patch).await
}

#[tokio::test]
async fn the_matrix_is_served_as_it_is_enforced() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantManager).await;
    let matrix = app.get_as(&ada.token, "/permissions").await.expect(200).body;
    assert_eq!(matrix["tiers"].as_array().unwrap().len(), 8);
    // The router has the routes that are listed, each once; what is not documented is a page of documentation.
    let document = read(app.client.get(format!("http://{}/api/schema/", app.address))).await.expect(200);
    let documented: BTreeSet<(String, String)> = document.body["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let listed: Vec<(String, String)> = matrix["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| (text(&route["method"]), text(&route["path"])))
        .filter(|(_, path)| !path.starts_with("/api/docs"))
        .collect();
    assert_eq!(listed.len(), documented.len());
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), documented);
    let own: BTreeSet<&str> =
        matrix["own"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(own.contains("users:create:tenant") && !own.contains("secrets:update:tenant"));
    // Managers are told what is missing and who has it; staff are not.
    let forget = |token: String| {
        let app = &app;
        async move { app.with_token(&token, Method::DELETE, "/secrets/stripe_key", None).await }
    };
    let told = forget(ada.token.clone()).await.expect_problem(403, "forbidden");
    assert!(
        told.text("detail").contains("secrets:delete:tenant") && told.text("detail").contains("tenant_owner")
    );
    let staff = app.person(&tenant, "staff@example.org", Tier::TenantStaff).await;
    let told = forget(staff.token.clone()).await.expect_problem(403, "forbidden");
    assert!(!told.text("detail").contains("secrets"), "{}", told.body);
    app.shut_down().await;
}

#[tokio::test]
async fn customers_see_and_change_their_own_bookings_only() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let unit = app.resource(&tenant, "Cabin", 1).await;
    let offering = app.nights_offering(&tenant, &[unit]).await;
    let (grace, linus) = (app.customer(&tenant, "Grace").await, app.customer(&tenant, "Linus").await);
    app.account(Some(&tenant), "grace@example.org", Tier::Customer, Some(CustomerId(grace))).await;
    let person = app.sign_in(Some(&tenant), "grace@example.org").await;
    let token = person.token.as_str();

    let stay = |customer, from: &str, to: &str| TestApp::stay(offering, customer, from, to);
    let theirs = app.post(&tenant, "/bookings", &stay(linus, "2031-05-01", "2031-05-03")).await.expect(201);
    let own = app.post_as(token, "/bookings", &stay(grace, "2031-06-01", "2031-06-03")).await.expect(201);
    app.post_as(token, "/bookings", &stay(linus, "2031-07-01", "2031-07-03"))
        .await
        .expect_problem(403, "forbidden");
    let mut unnamed = stay(grace, "2031-08-01", "2031-08-03");
    unnamed.as_object_mut().unwrap().remove("customer_id");
    let unnamed = app.post_as(token, "/bookings", &unnamed).await.expect(201);
    assert_eq!(unnamed.body["customer_id"], json!(grace));

    let listed = app.get_as(token, "/bookings").await.expect(200);
    let ids: Vec<&Value> = listed.body["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!(ids, [&own.body["id"], &unnamed.body["id"]]);
    let asked = app.get_as(token, &format!("/bookings?customer_id={linus}")).await.expect(200);
    assert_eq!(asked.body["items"], json!([]));
    let (theirs, own) = (id(&theirs), id(&own));
    app.get_as(token, &format!("/bookings/{theirs}")).await.expect_problem(404, "not_found");
    app.get_as(token, &format!("/bookings/{theirs}?as_of=1")).await.expect_problem(404, "not_found");
    app.post_as(token, &format!("/bookings/{theirs}/cancel"), &json!({}))
        .await
        .expect_problem(404, "not_found");
    app.post_as(token, &format!("/bookings/{own}/check-in"), &json!({}))
        .await
        .expect_problem(403, "forbidden");
    app.post_as(token, &format!("/bookings/{own}/cancel"), &json!({"waive_fee": true, "reason": "please"}))
        .await
        .expect_problem(403, "forbidden");
    app.post_as(token, &format!("/bookings/{own}/cancel"), &json!({})).await.expect(200);
    let customers = app.get_as(token, "/customers").await.expect(200);
    assert_eq!(customers.body["items"].as_array().unwrap().len(), 1);
    app.get_as(token, &format!("/customers/{linus}")).await.expect_problem(404, "not_found");
    app.get_as(token, &format!("/customers/{grace}")).await.expect(200);
    app.get_as(token, "/audit/events").await.expect_problem(403, "forbidden");
    app.shut_down().await;
}

#[tokio::test]
async fn staff_see_their_modules_and_the_resources_assigned_to_them() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let (mine, other) = (app.resource(&tenant, "Mine", 1).await, app.resource(&tenant, "Other", 1).await);
    let offering = app.nights_offering(&tenant, &[mine, other]).await;
    let customer = app.customer(&tenant, "Grace").await;
    let mut bookings = Vec::new();
    for resource in [mine, other] {
        let mut stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
        stay["resource_id"] = json!(resource);
        bookings.push(id(&app.post(&tenant, "/bookings", &stay).await.expect(201)));
    }
    let staff = app.person(&tenant, "staff@example.org", Tier::TenantStaff).await;
    app.get_as(&staff.token, "/bookings").await.expect_problem(403, "forbidden");
    let assign = json!({"modules": ["housekeeping"], "resource_ids": [mine]});
    app.post(&tenant, &format!("/users/{}/modules", staff.id), &assign).await.expect(200);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let listed = app.get_as(&staff.token, "/bookings").await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    app.get_as(&staff.token, &format!("/bookings/{}", bookings[0])).await.expect(200);
    app.get_as(&staff.token, &format!("/bookings/{}", bookings[1])).await.expect_problem(404, "not_found");
    app.post_as(&staff.token, &format!("/bookings/{}/check-in", bookings[0]), &json!({}))
        .await
        .expect_problem(403, "forbidden");
    let days = app.get_as(&staff.token, "/calendar?from=2031-05-01&to=2031-05-02").await.expect(200);
    assert!(days.body["items"].as_array().unwrap().iter().all(|day| day["resource_id"] == json!(mine)));

    // A role of the tenant's own in place of modules: at work within a second, gone with the role.
    let role = json!({"name": "Desk", "permissions": ["bookings:read:tenant", "bookings:update:assigned"]});
    let role = app.post(&tenant, "/roles", &role).await.expect(201);
    app.post(&tenant, &format!("/users/{}/role", staff.id), &json!({"role_id": id(&role)})).await.expect(200);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let listed = app.get_as(&staff.token, "/bookings").await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 2);
    app.post_as(&staff.token, &format!("/bookings/{}/no-show", bookings[1]), &json!({}))
        .await
        .expect_problem(404, "not_found");
    let delete = format!("/roles/{}", id(&role));
    app.request(&tenant, Method::DELETE, &delete, &[("If-Match", "*")], None)
        .await
        .expect_problem(409, "wrong_state");
    app.shut_down().await;
}

#[tokio::test]
async fn of_two_owners_who_demote_each_other_one_stays() {
    let app = start().await;
    let demoted = json!({"role": "tenant_staff"});
    let mut tenant = app.tenant("camp").await;
    for (round, how) in ["role", "deactivate", "delete", "role"].into_iter().enumerate() {
        tenant = app.tenant(&format!("camp-{round}")).await;
        let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
        let bob = app.person(&tenant, "bob@example.org", Tier::TenantOwner).await;
        // Both are known to be owners when they ask.
        for person in [&ada, &bob] {
            app.get_as(&person.token, "/me").await.expect(200);
        }
        let against = |by: &Person, whom: &Person| {
            let (token, whom) = (by.token.clone(), whom.id);
            let (app, demoted) = (&app, &demoted);
            async move {
                match how {
                    "delete" => {
                        let request = app.client.delete(app.url(&format!("/users/{whom}")));
                        read(request.bearer_auth(&token).header("If-Match", "*")).await
                    }
                    "deactivate" => app.post_as(&token, &format!("/users/{whom}/{how}"), &json!({})).await,
                    _ => app.post_as(&token, &format!("/users/{whom}/{how}"), demoted).await,
                }
            }
        };
        let answers = join_all([against(&ada, &bob), against(&bob, &ada)]).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [if how == "delete" { 204 } else { 200 }, 409], "{how}");
        let refused = answers.iter().find(|answer| answer.status == 409).unwrap();
        assert_eq!(refused.body["code"], "last_admin");
    }
    let owners = app.get(&tenant, "/users?role=tenant_owner").await.expect(200);
    assert_eq!(owners.body["items"].as_array().unwrap().len(), 1);

    let last = owners.body["items"][0]["id"].as_str().unwrap().to_owned();
    app.post(&tenant, &format!("/users/{last}/deactivate"), &json!({}))
        .await
        .expect_problem(409, "last_admin");
    app.request(&tenant, Method::DELETE, &format!("/users/{last}"), &[("If-Match", "*")], None)
        .await
        .expect_problem(409, "last_admin");
    app.shut_down().await;
}

#[tokio::test]
async fn nobody_rises_above_their_tier() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "owner@example.org", Tier::TenantOwner, None).await;
    let manager = app.person(&tenant, "manager@example.org", Tier::TenantManager).await;
    let staff = app.account(Some(&tenant), "staff@example.org", Tier::TenantStaff, None).await;
    let owner = json!({"role": "tenant_owner"});
    for whom in [manager.id, staff.0] {
        app.post_as(&manager.token, &format!("/users/{whom}/role"), &owner)
            .await
            .expect_problem(403, "forbidden");
    }
    for platform in ["superuser", "platform_support"] {
        let role = json!({"role": platform});
        let answer = app.post(&tenant, &format!("/users/{staff}/role"), &role).await;
        assert!([403, 422].contains(&answer.status.as_u16()), "{}", answer.body);
    }
    // What a request may set is what its type has: no more.
    let headers = [("If-Match", "*")];
    for field in ["role", "tier", "status", "permissions", "tenant_id", "modules", "version"] {
        let path = format!("/users/{staff}");
        app.request(&tenant, Method::PATCH, &path, &headers, Some(&json!({field: "tenant_owner"})))
            .await
            .expect_problem(422, "validation_failed");
    }
    let keys = json!({"name": "Site", "permissions": ["bookings:read:tenant"]});
    app.post_as(&manager.token, "/api-keys", &keys).await.expect_problem(403, "forbidden");
    app.shut_down().await;
}

#[tokio::test]
async fn an_api_key_is_shown_once_scoped_and_revoked() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let body = json!({"name": "Site", "permissions": ["bookings:read:tenant"]});
    let made = app.post_as(&ada.token, "/api-keys", &body).await.expect(201);
    let key = made.text("key");
    assert!(key.starts_with("ck_") && key.len() == 49);
    app.get_as(&key, "/bookings").await.expect(200);
    app.get_as(&key, "/customers").await.expect_problem(403, "forbidden");
    app.get_as(&key, "/me").await.expect_problem(403, "forbidden");
    let listed = app.get_as(&ada.token, "/api-keys?revoked=false").await.expect(200);
    assert!(!listed.body.to_string().contains(&key));
    for wrong in ["secrets:update:platform", "tenants:read:platform", "bookings:read"] {
        let body = json!({"name": "Site", "permissions": [wrong]});
        app.post_as(&ada.token, "/api-keys", &body).await.expect_problem(422, "validation_failed");
    }
    let prefixes: i64 =
        sqlx::query_scalar("SELECT count(*) FROM daybook_platform.api_key_prefixes WHERE tenant_id = $1")
            .bind(tenant.id.0)
            .fetch_one(app.store.database().owner())
            .await
            .unwrap();
    // The test's own, and the one that was made: what is refused leaves nothing.
    assert_eq!(prefixes, 2);
    let many = json!({"name": "Site", "permissions": ["bookings:read:tenant"], "calls_per_hour": 1_001});
    app.post_as(&ada.token, "/api-keys", &many).await.expect_problem(403, "plan_limit");
    app.with_token(&ada.token, Method::DELETE, &format!("/api-keys/{}", id(&made)), None).await.expect(204);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    app.get_as(&key, "/bookings").await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[tokio::test]
async fn settings_change_with_their_version() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let settings = app.get(&tenant, "/settings").await.expect(200);
    assert_eq!((&settings.body["version"], &settings.body["public_bookings"]), (&json!(0), &json!(true)));
    let change = json!({"public_bookings": false, "display_name": "Camping River"});
    app.request(&tenant, Method::PATCH, "/settings", &[], Some(&change))
        .await
        .expect_problem(428, "precondition_required");
    let headers = [("If-Match", "\"0\"")];
    let changed = app.request(&tenant, Method::PATCH, "/settings", &headers, Some(&change)).await.expect(200);
    assert_eq!(changed.body["display_name"], "Camping River");
    app.request(&tenant, Method::PATCH, "/settings", &headers, Some(&change))
        .await
        .expect_problem(412, "version_conflict");
    app.shut_down().await;
}
