//! Who may call what: every route of the router, for nobody, for each tier and module, and for credentials that are
//! over, beside a file which says what it should be. The file is not made of the server's own tables.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use chrono::TimeDelta;
use daybook::{
    auth::access_token::{self, AccessClaims},
    config::SettingsPatch,
    tenancy::Schema,
};
use daybook_domain::{
    CustomerId,
    permission::{Module, Tier},
};
use futures_util::future::join_all;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, read},
    people::Person,
};

const RENEW: &str = "DAYBOOK_RENEW_GOLDEN";
/// Routes that refuse everybody here, because they ask for something else than an access token: a cookie, a guest's link.
const BY_OTHER_MEANS: [&str; 4] = [
    "POST /api/v1/auth/refresh",
    "GET /api/v1/public/bookings/{id}",
    "POST /api/v1/public/bookings/{id}/cancel",
    "POST /api/v1/public/bookings/{id}/reschedule",
];
const LOGOUT: &str = "POST /api/v1/auth/logout";

async fn start() -> TestApp {
    let patch = SettingsPatch { login_limit_per_minute: Some(1_000), ..SettingsPatch::default() };
    TestApp::start_with(patch).await
}

/// The routes below `/api/v1` as the server describes them, `METHOD path`; signing out, which ends what is asked with,
/// comes last.
async fn routes(app: &TestApp) -> Vec<String> {
    let document = read(app.client.get(format!("http://{}/api/schema/", app.address))).await.expect(200);
    let paths = document.body["paths"].as_object().unwrap();
    let mut routes: Vec<String> = paths
        .iter()
        .filter(|(path, _)| path.starts_with("/api/v1"))
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    routes.sort_by_key(|route| (route == LOGOUT, route.clone()));
    routes
}

/// Calls a route with ids of nothing and a body that none accepts: whoever may call gets as far as being told so.
async fn ask(app: &TestApp, route: &str, token: Option<&str>, slug: Option<&str>) -> Answer {
    let (method, path) = route.split_once(' ').unwrap();
    let path = path
        .replace("{id}", &Uuid::nil().to_string())
        .replace("{type}", "booking")
        .replace("{name}", "some_name");
    let method: Method = method.parse().unwrap();
    let mut request = app
        .client
        .request(method, format!("http://{}{path}", app.address))
        // Nor a place in a stream that anybody was told: it would have no end.
        .header("Last-Event-ID", "none")
        .json(&json!({"no such field": 1}));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(slug) = slug {
        request = request.header("X-Tenant-Slug", slug);
    }
    let answer = read(request).await;
    assert!(answer.status.as_u16() < 500, "{route}: {}", answer.body);
    answer
}

/// Somebody of each tier, and of the staff somebody with each module; signed in.
async fn people(app: &TestApp, tenant: &TestTenant) -> Vec<(String, Person)> {
    let customer = CustomerId(app.customer(tenant, "Grace").await);
    let mut people = Vec::new();
    for tier in Tier::ALL {
        let home = (!tier.is_platform()).then_some(tenant);
        let email = format!("{tier}@example.org");
        app.account(home, &email, *tier, (*tier == Tier::Customer).then_some(customer)).await;
        people.push((tier.to_string(), app.sign_in(home, &email).await));
    }
    for module in Module::ALL {
        let email = format!("{module}@example.org");
        let user = app.account(Some(tenant), &email, Tier::TenantStaff, None).await;
        let assign = json!({"modules": [module.as_str()]});
        app.post(tenant, &format!("/users/{user}/modules"), &assign).await.expect(200);
        people.push((module.to_string(), app.sign_in(Some(tenant), &email).await));
    }
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_call_what_is_as_the_golden_file_says() {
    let app = start().await;
    // Of a plan that has everything: this is about who, not about what was paid for.
    let tenant = app.business("camp").await;
    let people = people(&app, &tenant).await;
    let mut may = BTreeMap::new();
    for (name, person) in &people {
        let own = app.get_as(&person.token, "/permissions").await.expect(200).body["own"].take();
        may.insert(name.as_str(), own);
    }
    // Or some were told to ask again later.
    app.sign_now(&tenant).await;
    let mut callers = BTreeMap::new();
    for route in routes(&app).await {
        let everybody = std::iter::once(("nobody", None))
            .chain(people.iter().map(|(name, person)| (name.as_str(), Some(person.token.as_str()))));
        let answers = join_all(everybody.map(async |(name, token)| {
            let status = ask(&app, &route, token, None).await.status.as_u16();
            (![401, 403].contains(&status)).then_some(name)
        }))
        .await;
        let names: Vec<&str> = answers.into_iter().flatten().collect();
        callers.insert(route, names.join(" "));
    }
    let found = json!({"routes": callers, "permissions": may});
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/permissions.json");
    let text = serde_json::to_string_pretty(&found).unwrap() + "\n";
    if env::var_os(RENEW).is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    if golden != text {
        let only = |mark: &str, of: &str, other: &str| -> String {
            let other: Vec<&str> = other.lines().collect();
            of.lines().filter(|line| !other.contains(line)).map(|line| format!("\n{mark}{line}")).collect()
        };
        panic!(
            "who may do what is not what tests/golden/permissions.json says:{}{}\nIf that is meant, renew the file with \
             `{RENEW}=1 cargo test --test daybook who_may_call_what` and read its difference.",
            only("-", &golden, &text),
            only("+", &text, &golden)
        );
    }
    app.shut_down().await;
}

/// Credentials of those who may do the most, each of which worked and does not any more.
async fn over(app: &TestApp, tenant: &TestTenant) -> Vec<(String, String)> {
    let owner = app.store.database().owner();
    let mut over = Vec::new();
    for (tier, home) in [(Tier::TenantOwner, Some(tenant)), (Tier::Superuser, None)] {
        let schema = home.map_or_else(Schema::platform, TestTenant::schema);
        let person = async |why: &str| {
            let email = format!("{why}-{tier}@example.org");
            app.account(home, &email, tier, None).await;
            let person = app.sign_in(home, &email).await;
            app.get_as(&person.token, "/me").await.expect(200);
            person
        };
        let ended = person("ended").await;
        app.post_as(&ended.token, "/auth/logout", &json!({})).await.expect(204);
        over.push((format!("the ended session of a {tier}"), ended.token));

        let lapsed = person("lapsed").await;
        let sql =
            schema.sql("UPDATE {s}.user_sessions SET expires_at = now() - interval '1 s' WHERE user_id = $1");
        sqlx::query(&sql).bind(lapsed.id).execute(owner).await.unwrap();
        over.push((format!("the lapsed session of a {tier}"), lapsed.token));

        let expired = person("expired").await;
        let sessions = app.get_as(&expired.token, "/auth/sessions").await.expect(200);
        let sid = sessions.body["items"][0]["id"].as_str().unwrap().parse().unwrap();
        let tenant_id = home.map(|tenant| tenant.id.0);
        let claims = AccessClaims {
            sub: expired.id,
            sid,
            usage: access_token::Use::Session,
            act: None,
            tenant_id,
            role: tier.to_string(),
        };
        let token = access_token::issue(&app.keys, claims, daybook::clock::now(), TimeDelta::zero()).unwrap();
        over.push((format!("the expired token of a {tier}"), token.expose_secret().to_owned()));
    }
    let key = async |name: &str| {
        let issued = app.admin.issue_key(tenant.id, name, &crate::support::site::by("test")).await.unwrap();
        let token = issued.key.expose_secret().to_owned();
        app.get_as(&token, "/resources").await.expect(200);
        (issued.id, token)
    };
    let (revoked, token) = key("revoked").await;
    app.with_token(&tenant.token, Method::DELETE, &format!("/api-keys/{revoked}"), None).await.expect(204);
    over.push(("a revoked key".to_owned(), token));
    let (expired, token) = key("expired").await;
    let sql =
        tenant.schema().sql("UPDATE {s}.api_keys SET expires_at = now() - interval '1 s' WHERE id = $1");
    sqlx::query(&sql).bind(expired.0).execute(owner).await.unwrap();
    over.push(("an expired key".to_owned(), token));
    over.push(("an unknown key".to_owned(), "ck_00000000".to_owned()));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    over
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_over_or_of_another_tenant_open_no_route() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let other = app.tenant("hotel").await;
    let over = over(&app, &tenant).await;
    let people = people(&app, &tenant).await;
    let mut asked = 0;
    for route in routes(&app).await {
        let gated =
            ask(&app, &route, None, None).await.status == 401 && !BY_OTHER_MEANS.contains(&route.as_str());
        let public = route.contains(" /api/v1/public/");
        if gated || public || route == LOGOUT {
            join_all(over.iter().map(async |(what, token)| {
                let answer = ask(&app, &route, Some(token), None).await;
                assert_eq!(answer.status, 401, "{route} with {what}: {}", answer.body);
                assert_eq!(answer.body["code"], "unauthenticated", "{route} with {what}");
            }))
            .await;
        }
        if gated {
            // Whoever may call or not: the contradiction comes first.
            join_all(people.iter().map(async |(name, person)| {
                let answer = ask(&app, &route, Some(&person.token), Some(&other.slug)).await;
                assert_eq!(answer.status, 403, "{route} in another tenant for {name}: {}", answer.body);
                assert_eq!(answer.body["code"], "tenant_mismatch", "{route} for {name}");
            }))
            .await;
            asked += 1;
        }
    }
    assert!(asked >= 80, "only {asked} routes ask for credentials");
    app.shut_down().await;
}
