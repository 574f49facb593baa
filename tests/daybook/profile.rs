//! What people change about accounts, their own and others', and which passwords they may choose.

use daybook_domain::permission::Tier;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, TestTenant, read},
    letters::{code, token},
    people::{PASSWORD, Person, generous},
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";

async fn start() -> (TestApp, TestTenant, Person) {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let ada = app.person(&tenant, ADA, Tier::TenantOwner).await;
    (app, tenant, ada)
}

/// The one field that a request was refused for, and why.
fn refused(answer: &Answer) -> (u16, &str, &str) {
    let errors = answer.body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let [error] = errors else { panic!("{}", answer.body) };
    (answer.status.as_u16(), error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap())
}

#[tokio::test]
async fn one_changes_ones_name_freely_and_ones_address_with_the_password() {
    let (app, tenant, ada) = start().await;
    app.account(Some(&tenant), BOB, Tier::TenantStaff, None).await;
    let update = async |body: Value| app.with_token(&ada.token, Method::PATCH, "/me", Some(&body)).await;
    let named = update(json!({"name": "Ada King"})).await.expect(200);
    assert_eq!((&named.body["name"], &named.body["email"]), (&json!("Ada King"), &json!(ADA)));

    let new = "countess@example.org";
    assert_eq!(refused(&update(json!({"email": new})).await), (422, "/password", "required"));
    let wrong = json!({"email": new, "name": "Eve", "password": "wrong-password"});
    assert_eq!(refused(&update(wrong).await), (422, "/password", "wrong_password"));
    assert_eq!(refused(&update(json!({"email": "ada", "password": PASSWORD})).await).1, "/email");
    let taken = json!({"email": "BOB@example.org", "password": PASSWORD});
    update(taken).await.expect_problem(409, "already_exists");
    for field in ["role", "status", "modules", "customer_id", "tenant_id", "version"] {
        update(json!({field: "superuser"})).await.expect_problem(422, "validation_failed");
    }
    let me = app.get_as(&ada.token, "/me").await.expect(200);
    assert_eq!((&me.body["name"], &me.body["email"]), (&json!("Ada King"), &json!(ADA)), "nothing of it");
    app.login(Some(&tenant), new, PASSWORD).await.expect(401);

    let changed = update(json!({"email": new, "password": PASSWORD})).await.expect(200);
    assert_eq!((&changed.body["name"], &changed.body["email"]), (&json!("Ada King"), &json!(new)));
    app.login(Some(&tenant), ADA, PASSWORD).await.expect(401);
    app.login(Some(&tenant), new, PASSWORD).await.expect(200);
    // The address is another's to have now.
    let other = json!({"email": ADA, "name": "Ada", "role": "tenant_staff", "password": PASSWORD});
    app.post_as(&ada.token, "/users", &other).await.expect(201);
    // A key has no account, and nobody has one.
    let body = json!({"name": "Eve"});
    app.request(&tenant, Method::PATCH, "/me", &[], Some(&body)).await.expect_problem(403, "forbidden");
    app.with_token("", Method::PATCH, "/me", Some(&body)).await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[tokio::test]
async fn who_manages_accounts_changes_those_below_them() {
    let (app, tenant, ada) = start().await;
    let manager = app.person(&tenant, "manager@example.org", Tier::TenantManager).await;
    let bob = app.person(&tenant, BOB, Tier::TenantStaff).await;
    let update = async |by: &Person, whom: &Person, version: Option<&str>, body: Value| {
        let path = app.url(&format!("/users/{}", whom.id));
        let mut request = app.client.patch(path).bearer_auth(&by.token).json(&body);
        if let Some(version) = version {
            request = request.header("If-Match", version);
        }
        read(request).await
    };
    let path = format!("/users/{}", bob.id);
    let before = app.get_as(&ada.token, &path).await.expect(200);
    let version = before.header("etag").unwrap().to_owned();
    let name = json!({"name": "Robert", "reason": "asked to"});
    update(&ada, &bob, None, name.clone()).await.expect_problem(428, "precondition_required");
    update(&ada, &bob, Some("\"99\""), name.clone()).await.expect_problem(412, "version_conflict");
    let changed = update(&ada, &bob, Some(&version), name.clone()).await.expect(200);
    assert_eq!((&changed.body["name"], &changed.body["email"]), (&json!("Robert"), &json!(BOB)));
    assert_ne!(changed.header("etag"), Some(version.as_str()));
    update(&ada, &bob, Some(&version), name).await.expect_problem(412, "version_conflict");
    let event = &app.get(&tenant, "/audit/events?type=user.updated").await.expect(200).body["items"][0];
    assert_eq!((&event["actor"], &event["reason"]), (&json!(format!("user:{}", ada.id)), &json!("asked to")));

    let taken = json!({"email": ADA});
    update(&ada, &bob, Some("*"), taken).await.expect_problem(409, "already_exists");
    assert_eq!(refused(&update(&ada, &bob, Some("*"), json!({"email": "bob"})).await).1, "/email");
    assert_eq!(refused(&update(&ada, &bob, Some("*"), json!({"name": " "})).await).1, "/name");
    let address = json!({"email": "robert@example.org"});
    update(&manager, &bob, Some("*"), address.clone()).await.expect(200);
    app.login(Some(&tenant), BOB, PASSWORD).await.expect(401);
    app.login(Some(&tenant), "robert@example.org", PASSWORD).await.expect(200);

    // Who could change an owner's address could reset their password.
    let eve = json!({"email": "eve@example.org"});
    for (by, whom) in [(&manager, &ada), (&bob, &ada), (&bob, &manager)] {
        update(by, whom, Some("*"), eve.clone()).await.expect_problem(403, "forbidden");
    }
    let (hotel, other) = (app.tenant("hotel").await, app.tenant("lodge").await);
    let stranger = app.person(&hotel, ADA, Tier::TenantOwner).await;
    update(&stranger, &bob, Some("*"), eve.clone()).await.expect_problem(404, "not_found");
    let headers = [("If-Match", "*")];
    app.request(&other, Method::PATCH, &path, &headers, Some(&eve)).await.expect_problem(404, "not_found");
    app.login(Some(&tenant), "robert@example.org", PASSWORD).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn an_account_is_switched_off_and_on_again() {
    let (app, tenant, ada) = start().await;
    let bob = app.account(Some(&tenant), BOB, Tier::TenantStaff, None).await;
    let switch = async |by: &str, whom: &str, to: &str| {
        app.post_as(by, &format!("/users/{whom}/{to}"), &json!({"reason": "leave"})).await
    };
    let bob = bob.to_string();
    for (to, status, signs_in) in
        [("deactivate", "deactivated", 401), ("deactivate", "deactivated", 401), ("activate", "active", 200)]
    {
        assert_eq!(switch(&ada.token, &bob, to).await.expect(200).body["status"], status);
        let found = app.get_as(&ada.token, &format!("/users?status={status}")).await.expect(200);
        assert!(
            found.body["items"].as_array().unwrap().iter().any(|user| user["id"] == bob),
            "{}",
            found.body
        );
        app.login(Some(&tenant), BOB, PASSWORD).await.expect(signs_in);
    }
    let staff = app.sign_in(Some(&tenant), BOB).await;
    switch(&staff.token, &ada.id.to_string(), "deactivate").await.expect_problem(403, "forbidden");
    switch(&ada.token, &ada.id.to_string(), "deactivate").await.expect_problem(409, "last_admin");
    app.account(Some(&tenant), "carol@example.org", Tier::TenantOwner, None).await;
    switch(&ada.token, &ada.id.to_string(), "deactivate").await.expect_problem(403, "forbidden");
    // An invitation is accepted, not switched on.
    let eve = json!({"email": "eve@example.org", "name": "Eve", "role": "tenant_staff"});
    let eve = app.post_as(&ada.token, "/invitations", &eve).await.expect(201).text("id");
    switch(&ada.token, &eve, "activate").await.expect_problem(409, "wrong_state");
    app.shut_down().await;
}

#[tokio::test]
async fn an_imported_argon2_hash_signs_in_and_is_made_anew() {
    let (app, tenant, _) = start().await;
    // Made by Django 5.2, for `lètmein`.
    let django = "argon2$argon2id$v=19$m=256,t=2,p=8$c29tZXNhbHRzb21lc2FsdA$uXx0aF2YoP765sWk2Vfl3/mlQMRlnsw9S0rG/InzsLo";
    let bob = app.account(Some(&tenant), BOB, Tier::TenantStaff, None).await;
    let stored = async || -> String {
        let sql = tenant.schema().sql("SELECT hash FROM {s}.user_passwords WHERE user_id = $1");
        sqlx::query_scalar(&sql).bind(bob.0).fetch_one(app.store.database().owner()).await.unwrap()
    };
    let sql = format!("UPDATE {{s}}.user_passwords SET hash = '{django}' WHERE user_id = '{bob}'");
    assert_eq!(app.sql(&tenant.schema(), &sql).await, 1);
    for wrong in [PASSWORD, "letmein", "", django] {
        app.login(Some(&tenant), BOB, wrong).await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(stored().await, django);
    app.login(Some(&tenant), BOB, "lètmein").await.expect(200);
    let anew = stored().await;
    assert!(anew.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{anew}");
    app.login(Some(&tenant), BOB, "lètmein").await.expect(200);
    assert_eq!(stored().await, anew, "once is enough");
    app.shut_down().await;
}

/// Passwords of an account at `ada.lovelace@example.org` that are not accepted, and why.
fn weak() -> Vec<(String, &'static str)> {
    vec![
        ("m0on-7xq!".into(), "password_too_short"),
        ("x9-".repeat(43), "password_too_long"),
        ("8273645192847".into(), "password_entirely_numeric"),
        ("QwertyUiop".into(), "password_too_common"),
        ("ada.lovelace1".into(), "password_too_similar"),
        ("Lovelace.Ada@Example.org".into(), "password_too_similar"),
        ("mountain\u{7}lake-nine".into(), "control_character"),
    ]
}

#[tokio::test]
async fn no_way_to_a_password_leads_past_the_rules() {
    let (app, tenant, _) = start().await;
    let email = "ada.lovelace@example.org";
    app.account(Some(&tenant), email, Tier::TenantStaff, None).await;
    let own = app.sign_in(Some(&tenant), email).await;
    for path in ["/auth/password/reset", "/auth/otp"] {
        app.anonymous_at(&tenant, path, &json!({"email": email})).await.expect(202);
    }
    // Whichever of the two is sent first.
    let letters = [app.letter(email, 0).await, app.letter(email, 1).await];
    let (links, codes): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| letter.contains("?token="));
    let (reset, code) = (token(links[0]), code(codes[0]));
    let (hotel, lodge) = (app.tenant("hotel").await, app.tenant("lodge").await);
    let invite = json!({"email": email, "name": "Grace", "role": "tenant_staff"});
    app.post(&hotel, "/invitations", &invite).await.expect(201);
    let invited = token(&app.letter(email, 2).await);

    let set = async |way: &str, password: &str| match way {
        "user" => {
            let body = json!({"email": email, "name": "Grace", "role": "tenant_staff", "password": password});
            app.post(&lodge, "/users", &body).await
        }
        "sign-up" => {
            let body = json!({"tenant_name": "River", "slug": "river", "email": email, "password": password});
            app.anonymous("/signup", &[], &body).await
        }
        "invitation" => {
            let body = json!({"token": invited, "password": password});
            app.anonymous("/invitations/accept", &[], &body).await
        }
        "link" => {
            let body = json!({"token": reset, "new_password": password});
            app.anonymous("/auth/password/reset/confirm", &[], &body).await
        }
        "code" => {
            let body = json!({"email": email, "code": code, "new_password": password});
            app.anonymous_at(&tenant, "/auth/otp/confirm", &body).await
        }
        _ => {
            let body = json!({"current_password": PASSWORD, "new_password": password});
            app.post_as(&own.token, "/auth/password/change", &body).await
        }
    };
    let ways = [
        ("user", "/password"),
        ("sign-up", "/password"),
        ("invitation", "/password"),
        ("link", "/new_password"),
        ("code", "/new_password"),
        ("change", "/new_password"),
    ];
    for (password, why) in weak() {
        for (way, pointer) in ways {
            assert_eq!(refused(&set(way, &password).await), (422, pointer, why), "{password} by {way}");
        }
    }
    app.login(Some(&tenant), email, PASSWORD).await.expect(200);

    // The longest is accepted, of any characters; what was refused has used no link and no code up.
    let untouched =
        app.sql(&tenant.schema(), "UPDATE {s}.reset_codes SET attempts = 0 WHERE attempts = 0").await;
    assert_eq!(untouched, 1);
    let longest = "é9-x".repeat(32);
    set("link", &longest).await.expect(204);
    app.login(Some(&tenant), email, &longest).await.expect(200);
    app.login(Some(&tenant), email, &format!("{longest}x")).await.expect(401);
    app.login(Some(&tenant), email, &longest[..longest.len() - 1]).await.expect(401);
    set("invitation", &longest).await.expect(204);
    app.login(Some(&hotel), email, &longest).await.expect(200);
    set("user", &longest).await.expect(201);
    set("sign-up", &longest).await.expect(202);
    app.shut_down().await;
}
