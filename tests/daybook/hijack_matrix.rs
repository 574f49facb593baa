//! The whole matrix of who may act as whom, over HTTP: people of every tier, in their own tenant, in another, in a
//! temporary one and on the platform; with a window, without one, and with the tenant's waiver.

use std::collections::BTreeMap;

use daybook::config::SettingsPatch;
use daybook_domain::{CustomerId, permission::Tier};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{TestApp, TestTenant, id},
    people::{Person, generous},
};

const OF_PLATFORM: [Tier; 4] =
    [Tier::Superuser, Tier::PlatformManager, Tier::PlatformSales, Tier::PlatformSupport];
const OF_TENANT: [Tier; 4] = [Tier::TenantOwner, Tier::TenantManager, Tier::TenantStaff, Tier::Customer];

/// The people of a house, by tier.
type People = BTreeMap<Tier, Person>;

async fn people(app: &TestApp, tenant: Option<&TestTenant>, tiers: [Tier; 4]) -> People {
    let mut people = People::new();
    for tier in tiers {
        let house = tenant.map_or("platform", |tenant| tenant.slug.as_str());
        let email = format!("{tier}@{house}.example").replace('_', "-");
        // A colleague of each, to act as: nobody acts as themselves.
        for email in [format!("other-{email}"), email.clone()] {
            let customer = match tenant {
                Some(tenant) if tier == Tier::Customer => {
                    let made = app.post(tenant, "/customers", &json!({"name": "Guest"})).await.expect(201);
                    Some(CustomerId(id(&made)))
                }
                _ => None,
            };
            app.account(tenant, &email, tier, customer).await;
        }
        people.insert(tier, app.sign_in(tenant, &email).await);
    }
    people
}

/// What the product page says, of somebody of the platform.
fn platform_may(who: Tier, whom: Tier, place: &str, leave: &str) -> bool {
    let approved = place == "temporary" || leave != "nothing";
    match (who, place) {
        (Tier::Superuser, "platform") => true,
        (_, "platform") => false,
        (Tier::Superuser | Tier::PlatformSupport, _) => approved && !whom.is_platform(),
        (Tier::PlatformSales, _) => place == "temporary",
        _ => false,
    }
}

#[tokio::test]
async fn the_whole_matrix_over_http() {
    let settings = SettingsPatch { login_limit_per_minute: Some(1_000), ..generous() };
    let app = TestApp::start_with(settings).await;
    let camp = app.business("camp").await;
    let hotel = app.business("hotel").await;
    let tried = app.temporary("tried").await;
    let platform = people(&app, None, OF_PLATFORM).await;
    let mut houses = BTreeMap::new();
    for tenant in [&camp, &hotel, &tried] {
        houses.insert(tenant.slug.clone(), people(&app, Some(tenant), OF_TENANT).await);
    }
    let targets = async |tenant: Option<&TestTenant>| -> Vec<(Tier, Value)> {
        let mut found = Vec::new();
        let (path, token) = match tenant {
            Some(tenant) => ("/users", &houses[&tenant.slug][&Tier::TenantOwner].token),
            None => ("/platform/users", &platform[&Tier::Superuser].token),
        };
        let page = app.get_as(token, path).await.expect(200);
        for user in page.body["items"].as_array().unwrap() {
            if user["email"].as_str().unwrap().starts_with("other-") {
                found.push((Tier::parse(user["role"].as_str().unwrap()).unwrap(), user["id"].clone()));
            }
        }
        assert_eq!(found.len(), 4);
        found
    };
    let mut tried_cases = 0;

    // Somebody of a tenant, as each of their own tenant, of another, of a temporary one, and of the platform.
    let everybody = [
        targets(Some(&camp)).await,
        targets(Some(&hotel)).await,
        targets(Some(&tried)).await,
        targets(None).await,
    ]
    .concat();
    let own: Vec<Value> = targets(Some(&camp)).await.into_iter().map(|(_, id)| id).collect();
    for (who, person) in &houses["camp"] {
        for (whom, target) in &everybody {
            let may = *who == Tier::TenantOwner && *whom == Tier::TenantStaff && own.contains(target);
            let answer = attempt(&app, person, target, None).await;
            // Whoever is not of the house is not found, whatever they are elsewhere.
            let expected = match (may, own.contains(target)) {
                (true, _) => 201,
                (false, true) => 403,
                (false, false) => 404,
            };
            assert_eq!(answer.0, expected, "{who} as {whom}: {}", answer.1);
            tried_cases += 1;
        }
    }

    // Somebody of the platform, as each of a tenant, of a temporary one, and of the platform.
    for leave in ["nothing", "waiver", "window"] {
        if leave == "waiver" {
            waive(&app, &houses["hotel"][&Tier::TenantOwner], true).await;
        }
        if leave == "window" {
            waive(&app, &houses["hotel"][&Tier::TenantOwner], false).await;
            for person in platform.values() {
                let asking = json!({"tenant": "hotel", "reason": "ticket 7", "minutes": 30});
                let asked = app.post_as(&person.token, "/support/requests", &asking).await;
                // Sales ask for none.
                if asked.status == 201 {
                    let path = format!("/support/requests/{}/approve", asked.text("id"));
                    let owner = &houses["hotel"][&Tier::TenantOwner];
                    app.post_as(&owner.token, &path, &json!({})).await.expect(200);
                }
            }
        }
        for (place, tenant) in [("real", Some(&hotel)), ("temporary", Some(&tried)), ("platform", None)] {
            for (whom, target) in targets(tenant).await {
                for (who, person) in &platform {
                    let slug = tenant.map(|tenant| tenant.slug.as_str());
                    let (status, body) = attempt(&app, person, &target, slug).await;
                    let may = platform_may(*who, whom, place, leave);
                    let case = format!("{who} as {whom}, {place}, {leave}: {body}");
                    assert_eq!(status, if may { 201 } else { 403 }, "{case}");
                    if may {
                        let via = match (place, leave) {
                            ("platform", _) => "tier",
                            ("temporary", _) => "temporary_tenant",
                            (_, leave) => leave,
                        };
                        assert_eq!(body["via"], via, "{case}");
                        assert_eq!(body["user"]["role"], whom.as_str(), "{case}");
                    }
                    tried_cases += 1;
                }
            }
        }
        // And never as themselves.
        for person in platform.values() {
            assert_eq!(attempt(&app, person, &json!(person.id), None).await.0, 403);
        }
    }
    assert_eq!(tried_cases, 4 * 16 + 3 * 3 * 4 * 4);
}

/// Tries, and stops at once where it began.
async fn attempt(app: &TestApp, who: &Person, target: &Value, tenant: Option<&str>) -> (u16, Value) {
    let mut body = json!({"user_id": target, "reason": "ticket 7"});
    if let Some(tenant) = tenant {
        body["tenant"] = json!(tenant);
    }
    let answer = app.post_as(&who.token, "/hijack", &body).await;
    assert_eq!(answer.status == 201, answer.body.get("access_token").is_some(), "{}", answer.body);
    if answer.status == 201 {
        app.post_as(&answer.text("access_token"), "/hijack/stop", &json!({})).await.expect(200);
    }
    (answer.status.as_u16(), answer.body)
}

async fn waive(app: &TestApp, owner: &Person, waives: bool) {
    let now = app.get_as(&owner.token, "/settings").await.expect(200);
    let request = app.client.request(Method::PATCH, app.url("/settings")).bearer_auth(&owner.token);
    let request = request
        .header("If-Match", now.header("etag").unwrap())
        .json(&json!({"hijack_without_approval": waives}));
    crate::support::app::read(request).await.expect(200);
}
