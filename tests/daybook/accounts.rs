//! Accounts: how people get one, lose their password, and get it back.

use std::{fs, time::Duration};

use daybook::config::SettingsPatch;
use daybook_domain::permission::Tier;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, TestTenant, read},
    letters::{self, code, token},
    people::PASSWORD,
};

const NEW: &str = "mountain-lake-nine";

async fn start() -> TestApp {
    let patch = SettingsPatch {
        login_limit_per_minute: Some(1_000),
        reset_limit_per_hour: Some(1_000),
        ..SettingsPatch::default()
    };
    TestApp::start_with(patch).await
}

/// Waits for the letter number `n` of the mailbox, oldest first.
async fn letter(app: &TestApp, n: usize) -> String {
    letters::letter(&app.data_dir().join("mail"), n).await
}

/// A POST without a token, in a tenant.
async fn public(app: &TestApp, tenant: Option<&TestTenant>, path: &str, body: &Value) -> Answer {
    let mut request = app.client.post(app.url(path)).json(body);
    if let Some(tenant) = tenant {
        request = request.header("X-Tenant-Slug", &tenant.slug);
    }
    read(request).await
}

#[tokio::test]
async fn a_password_is_reset_by_a_link_that_works_once() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    public(&app, Some(&tenant), "/auth/password/reset", &json!({"email": "ADA@example.org"}))
        .await
        .expect(202);
    let mail = letter(&app, 0).await;
    assert!(
        mail.contains("To: ada@example.org") || mail.to_lowercase().contains("ada@example.org"),
        "{mail}"
    );
    assert!(mail.contains(&format!("http://{}", "127.0.0.1")), "the link begins with the configured address");
    let link = token(&mail);
    let confirm = |password: &str| {
        let body = json!({"token": link, "new_password": password});
        let app = &app;
        async move { public(app, None, "/auth/password/reset/confirm", &body).await }
    };
    confirm("short").await.expect_problem(422, "validation_failed");
    let answers = join_all((0..8).map(|_| confirm(NEW))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 204).count(), 1, "single use, also in a race");
    assert!(answers.iter().all(|answer| [204, 422].contains(&answer.status.as_u16())));
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect_problem(401, "unauthenticated");
    app.refresh(&ada.refresh).await.expect_problem(401, "unauthenticated");
    app.login(Some(&tenant), "ada@example.org", PASSWORD).await.expect(401);
    app.login(Some(&tenant), "ada@example.org", NEW).await.expect(200);
    assert!(letter(&app, 1).await.contains("password"), "they are told that it was changed");
    app.shut_down().await;
}

#[tokio::test]
async fn of_a_hundred_parallel_codes_five_are_compared() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    public(&app, Some(&tenant), "/auth/otp", &json!({"email": "ada@example.org"})).await.expect(202);
    let right = code(&letter(&app, 0).await);
    let wrong = if right == "000000" { "000001" } else { "000000" };
    let confirm = |code: &str| {
        let body = json!({"email": "ada@example.org", "code": code, "new_password": NEW});
        let (app, tenant) = (&app, &tenant);
        async move { public(app, Some(tenant), "/auth/otp/confirm", &body).await }
    };
    let answers = join_all((0..100).map(|_| confirm(wrong))).await;
    assert!(answers.iter().all(|answer| answer.status == 422));
    let attempts: i32 = sqlx::query_scalar(&tenant.schema().sql("SELECT attempts FROM {s}.reset_codes"))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    assert_eq!(attempts, 5);
    confirm(&right).await.expect_problem(422, "validation_failed");
    // Another code is no fresh budget.
    public(&app, Some(&tenant), "/auth/otp", &json!({"email": "ada@example.org"})).await.expect(202);
    let second = code(&letter(&app, 1).await);
    confirm(&second).await.expect_problem(422, "validation_failed");
    sqlx::query(&tenant.schema().sql("UPDATE {s}.reset_codes SET attempts = 4"))
        .execute(app.store.database().owner())
        .await
        .unwrap();
    let answers = join_all((0..4).map(|_| confirm(&second))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 204).count(), 1, "and it works once");
    app.login(Some(&tenant), "ada@example.org", NEW).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn asking_for_a_reset_tells_nothing_about_accounts() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    for path in ["/auth/password/reset", "/auth/otp"] {
        let mut bodies = Vec::new();
        for email in ["ada@example.org", "nobody@example.org"] {
            let answer = public(&app, Some(&tenant), path, &json!({"email": email})).await.expect(202);
            bodies.push(answer.body);
        }
        assert_eq!(bodies[0], bodies[1]);
    }
    let confirm = |email: &str| {
        let body = json!({"email": email, "code": "123456", "new_password": NEW});
        let (app, tenant) = (&app, &tenant);
        async move {
            let mut answer = public(app, Some(tenant), "/auth/otp/confirm", &body).await;
            answer.body["request_id"] = Value::Null;
            (answer.status, answer.body)
        }
    };
    assert_eq!(confirm("nobody@example.org").await, confirm("linus@example.org").await);
    app.shut_down().await;
}

#[tokio::test]
async fn an_invited_person_accepts_once() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let invite =
        json!({"email": "bob@example.org", "name": "Bob", "role": "tenant_staff", "modules": ["reception"]});
    let invited = app.post_as(&ada.token, "/invitations", &invite).await.expect(201);
    assert_eq!(invited.body["status"], "invited");
    app.post_as(&ada.token, "/invitations", &invite).await.expect_problem(409, "already_exists");
    app.login(Some(&tenant), "bob@example.org", PASSWORD).await.expect(401);
    let link = token(&letter(&app, 0).await);
    let accept = |token: &str, password: &str| {
        let body = json!({"token": token, "password": password});
        let app = &app;
        async move { public(app, None, "/invitations/accept", &body).await }
    };
    accept(&link, "bob@example.org").await.expect_problem(422, "validation_failed");
    accept(&ada.token, PASSWORD).await.expect_problem(422, "validation_failed");
    accept(&link, PASSWORD).await.expect(204);
    accept(&link, NEW).await.expect_problem(422, "validation_failed");
    let bob = app.sign_in(Some(&tenant), "bob@example.org").await;
    app.get_as(&bob.token, "/bookings").await.expect(200);
    // A link of one purpose is useless for another.
    let body = json!({"token": link, "new_password": NEW});
    public(&app, None, "/auth/password/reset/confirm", &body).await.expect_problem(422, "validation_failed");

    let second = json!({"email": "eve@example.org", "name": "Eve", "role": "tenant_staff"});
    let invited = app.post_as(&ada.token, "/invitations", &second).await.expect(201);
    let link = token(&letter(&app, 1).await);
    let path = format!("/invitations/{}", invited.text("id"));
    app.with_token(&ada.token, Method::DELETE, &path, None).await.expect(204);
    accept(&link, PASSWORD).await.expect_problem(422, "validation_failed");
    app.shut_down().await;
}

#[tokio::test]
async fn a_tenant_signs_up_and_its_owner_signs_in() {
    let app = start().await;
    let body = json!({"tenant_name": "Camping River", "slug": "river", "email": "ada@example.org", "password": PASSWORD});
    public(&app, None, "/signup", &body).await.expect(202);
    let taken = app.tenant("camp").await;
    let same =
        json!({"tenant_name": "X", "slug": taken.slug, "email": "eve@example.org", "password": PASSWORD});
    public(&app, None, "/signup", &same).await.expect_problem(409, "already_exists");
    let link = token(&letter(&app, 0).await);
    let confirm = || public(&app, None, "/signup/confirm", &Value::Null);
    confirm().await.expect(422);
    let token = json!({"token": link});
    let answers = join_all((0..4).map(|_| public(&app, None, "/signup/confirm", &token))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "once, also in a race");
    let tenant = TestTenant { slug: "river".into(), ..taken };
    let ada = app.sign_in(Some(&tenant), "ada@example.org").await;
    let me = app.get_as(&ada.token, "/me").await.expect(200);
    assert_eq!(me.body["role"], "tenant_owner");
    app.get_as(&ada.token, "/resources").await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn sign_ups_of_one_domain_are_limited() {
    let app = TestApp::start_with(SettingsPatch {
        signup_limit_per_hour: Some(100),
        signup_domain_limit_per_day: Some(2),
        ..SettingsPatch::default()
    })
    .await;
    let ask = |n: usize, domain: &str| {
        let body = json!({"tenant_name": "Camp", "slug": format!("camp-{n}"), "email": format!("ada{n}@{domain}"), "password": PASSWORD});
        let app = &app;
        async move { public(app, None, "/signup", &body).await }
    };
    ask(1, "example.org").await.expect(202);
    ask(2, "Example.org").await.expect(202);
    ask(3, "example.org").await.expect_problem(429, "rate_limited");
    ask(4, "example.net").await.expect(202);
    app.shut_down().await;
}

#[tokio::test]
async fn one_deletes_ones_account_with_its_password() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let delete = |token: String, password: &str| {
        let body = json!({"password": password});
        let app = &app;
        async move { app.with_token(&token, Method::DELETE, "/me", Some(&body)).await }
    };
    delete(ada.token.clone(), PASSWORD).await.expect_problem(409, "last_admin");
    let bob = app.person(&tenant, "bob@example.org", Tier::TenantStaff).await;
    delete(bob.token.clone(), "wrong-password").await.expect_problem(422, "validation_failed");
    delete(bob.token.clone(), PASSWORD).await.expect(204);
    app.login(Some(&tenant), "bob@example.org", PASSWORD).await.expect(401);
    let row = app.get_as(&ada.token, &format!("/users/{}", bob.id)).await.expect(200);
    assert_eq!(
        (&row.body["status"], &row.body["email"], &row.body["name"]),
        (&json!("deleted"), &Value::Null, &Value::Null)
    );
    // The address is free again.
    let again =
        json!({"email": "bob@example.org", "name": "Bob", "role": "tenant_staff", "password": PASSWORD});
    app.post_as(&ada.token, "/users", &again).await.expect(201);
    app.sign_in(Some(&tenant), "bob@example.org").await;
    // Three tries an hour for each account.
    delete(ada.token.clone(), "wrong-password").await.expect(422);
    delete(ada.token.clone(), "wrong-password").await.expect(422);
    delete(ada.token.clone(), PASSWORD).await.expect_problem(429, "rate_limited");
    app.shut_down().await;
}

/// What nobody who has a dump of the database may read in it.
#[tokio::test]
async fn a_dump_of_the_database_holds_no_secret() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let secret = json!({"value": "sk_live_canary_5b1f"});
    app.with_token(&ada.token, Method::PUT, "/secrets/stripe_key", Some(&secret)).await.expect(204);
    let settings = app.get_as(&ada.token, "/settings").await.expect(200);
    assert_eq!(settings.body["secrets"], json!(["stripe_key"]));
    let key = app
        .post_as(&ada.token, "/api-keys", &json!({"name": "Site", "permissions": ["bookings:read:tenant"]}))
        .await
        .expect(201)
        .text("key");
    let sign_up = json!({"tenant_name": "Canary", "slug": "canary", "email": "canary-signup@example.org", "password": "canary-password-77"});
    public(&app, None, "/signup", &sign_up).await.expect(202);
    public(&app, Some(&tenant), "/auth/password/reset", &json!({"email": "ada@example.org"}))
        .await
        .expect(202);
    public(&app, Some(&tenant), "/auth/otp", &json!({"email": "ada@example.org"})).await.expect(202);
    let mails: Vec<String> = join_all((0..3).map(|n| letter(&app, n))).await;
    // Also while a letter waits: nobody takes these.
    let mut canaries = vec![
        PASSWORD.to_owned(),
        "canary-password-77".to_owned(),
        "sk_live_canary_5b1f".to_owned(),
        key[11..].to_owned(),
        tenant.token[11..].to_owned(),
        ada.token.clone(),
        ada.token.rsplit('.').next().unwrap().to_owned(),
        ada.refresh.split_once('.').unwrap().1.to_owned(),
    ];
    for mail in &mails {
        if mail.contains("?token=") {
            canaries.push(token(mail).rsplit('.').next().unwrap().to_owned());
        }
    }
    let dump = app.db.dump().await;
    assert!(dump.contains("camp"), "the dump holds the data");
    for canary in &canaries {
        assert!(!dump.contains(canary.as_str()), "the dump holds {canary}");
    }
    let file = fs::read_to_string(app.data_dir().join("keys.toml")).unwrap();
    for line in file.lines().filter(|line| line.contains("key = ")) {
        let secret = line.split('"').nth(1).unwrap();
        assert!(!dump.contains(secret), "the dump holds a key");
    }
    app.shut_down().await;
}
