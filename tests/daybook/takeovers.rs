//! Ways to somebody else's account, or to more than one's own, that lead nowhere.

use daybook::config::SettingsPatch;
use daybook_domain::{permission::Tier, tenant::TenantCommand};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, read},
    letters::{code, token},
    people::PASSWORD,
};

async fn start() -> TestApp {
    TestApp::start_with(SettingsPatch {
        login_limit_per_minute: Some(1_000),
        reset_limit_per_hour: Some(1_000),
        ..SettingsPatch::default()
    })
    .await
}

/// A domain that counts as proved.
async fn verified(app: &TestApp, tenant: &TestTenant, hostname: &str) {
    sqlx::query(
        "INSERT INTO daybook_platform.tenant_domains (hostname, tenant_id, domain_id, verified_at) VALUES ($1, $2, $3, now())",
    )
    .bind(hostname)
    .bind(tenant.id.0)
    .bind(Uuid::now_v7())
    .execute(app.store.database().owner())
    .await
    .unwrap();
}

/// A request with a refresh cookie, as a page makes a browser send it.
async fn with_cookie(app: &TestApp, path: &str, refresh: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = app
        .client
        .post(app.url(path))
        .header("Content-Type", "application/json")
        .header("Cookie", format!("__Host-daybook_refresh={refresh}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request).await
}

#[tokio::test]
async fn a_page_of_one_tenant_uses_no_cookie_of_another() {
    let app = start().await;
    let (camp, evil) = (app.tenant("camp").await, app.tenant("evil").await);
    verified(&app, &evil, "evil.example").await;
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    let ada = app.person(&camp, "ada@example.org", Tier::TenantOwner).await;
    let root = app.sign_in(None, "root@example.org").await;
    let origin = ("Origin", "https://evil.example");
    for refresh in [&ada.refresh, &root.refresh] {
        for path in ["/auth/refresh", "/auth/logout"] {
            for slug in [None, Some("nosuch"), Some("No Slug"), Some("evil"), Some("camp")] {
                let mut headers = vec![origin];
                headers.extend(slug.map(|slug| ("X-Tenant-Slug", slug)));
                let refused = with_cookie(&app, path, refresh, &headers).await;
                refused.expect_problem(403, "tenant_mismatch");
            }
        }
    }
    // A slug that names nobody is no way round either, without any page.
    with_cookie(&app, "/auth/refresh", &ada.refresh, &[("X-Tenant-Slug", "nosuch")])
        .await
        .expect_problem(403, "tenant_mismatch");
    app.refresh(&ada.refresh).await.expect(200);
    app.refresh(&root.refresh).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_slug_or_page_of_nobody_is_not_the_platforms() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    let body = json!({"email": "root@example.org", "password": PASSWORD});
    let post = async |path: &str, header: (&str, &str), body: &serde_json::Value| {
        read(app.client.post(app.url(path)).header(header.0, header.1).json(body)).await
    };
    app.admin.command(camp.id, TenantCommand::Deactivate, &Default::default()).await.unwrap();
    verified(&app, &camp, "book.camp.example").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for header in
        [("X-Tenant-Slug", "nosuch"), ("X-Tenant-Slug", "camp"), ("Origin", "https://book.camp.example")]
    {
        post("/auth/login", header, &body).await.expect_problem(401, "unauthenticated");
        // A code of the platform's account is not guessed at through a tenant that there is not.
        post("/auth/otp", header, &json!({"email": "root@example.org"})).await.expect(202);
        let guess =
            json!({"email": "root@example.org", "code": "123456", "new_password": "another-river-nine"});
        post("/auth/otp/confirm", header, &guess).await.expect(422);
    }
    let codes: i64 = sqlx::query_scalar("SELECT count(*) FROM daybook_platform.reset_codes")
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    assert_eq!(codes, 0);
    app.login(None, "root@example.org", PASSWORD).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_key_makes_nobody_who_may_more_than_it() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    let ada = app.person(&camp, "ada@example.org", Tier::TenantOwner).await;
    let permissions =
        ["users:create:tenant", "users:update:tenant", "users:delete:tenant", "users:read:tenant"];
    let made = app
        .post_as(&ada.token, "/api-keys", &json!({"name": "People", "permissions": permissions}))
        .await
        .expect(201);
    let key = made.text("key");
    for role in ["tenant_owner", "tenant_manager", "tenant_staff"] {
        let body = json!({"email": "eve@example.org", "name": "Eve", "role": role, "password": PASSWORD});
        app.post_as(&key, "/users", &body).await.expect_problem(403, "forbidden");
        let invite = json!({"email": "eve@example.org", "name": "Eve", "role": role});
        app.post_as(&key, "/invitations", &invite).await.expect_problem(403, "forbidden");
    }
    let path = format!("/users/{}", ada.id);
    let headers = [("Authorization", format!("Bearer {key}")), ("If-Match", "*".to_owned())];
    let mut change = app.client.patch(app.url(&path)).json(&json!({"email": "eve@example.org"}));
    for (name, value) in headers {
        change = change.header(name, value);
    }
    read(change).await.expect_problem(403, "forbidden");
    // The key that may all that an owner may, may make owners.
    let body =
        json!({"email": "bob@example.org", "name": "Bob", "role": "tenant_owner", "password": PASSWORD});
    app.post(&camp, "/users", &body).await.expect(201);
    app.shut_down().await;
}

#[tokio::test]
async fn ones_own_account_changes_only_with_the_password() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    app.account(Some(&camp), "owner@example.org", Tier::TenantOwner, None).await;
    let mia = app.person(&camp, "mia@example.org", Tier::TenantManager).await;
    let path = format!("/users/{}", mia.id);
    let request = |method: Method| {
        app.client.request(method, app.url(&path)).bearer_auth(&mia.token).header("If-Match", "*")
    };
    let moved = request(Method::PATCH).json(&json!({"email": "eve@example.org"}));
    read(moved).await.expect_problem(403, "forbidden");
    read(request(Method::DELETE)).await.expect_problem(403, "forbidden");
    app.shut_down().await;
}

#[tokio::test]
async fn an_invitation_stays_with_the_address_it_went_to() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    let invite = json!({"email": "mistyped@example.org", "name": "Bob", "role": "tenant_manager"});
    let invited = app.post(&camp, "/invitations", &invite).await.expect(201);
    let path = format!("/users/{}", invited.text("id"));
    let corrected = json!({"email": "bob@example.org"});
    app.request(&camp, Method::PATCH, &path, &[("If-Match", "*")], Some(&corrected))
        .await
        .expect_problem(409, "wrong_state");
    app.shut_down().await;
}

#[tokio::test]
async fn a_password_in_a_request_is_not_guessed_at_through_its_idempotency_key() {
    use sha2::{Digest as _, Sha256};
    let app = start().await;
    let camp = app.tenant("camp").await;
    let body =
        json!({"email": "bob@example.org", "name": "Bob", "role": "tenant_manager", "password": PASSWORD});
    app.post_keyed(&camp, "/users", "once", &body).await.expect(201);
    let stored: Vec<u8> = sqlx::query_scalar(&camp.schema().sql("SELECT request_hash FROM {s}.idempotency"))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    assert_ne!(stored, Sha256::digest(serde_json::to_vec(&body).unwrap()).to_vec());
    app.shut_down().await;
}

#[tokio::test]
async fn invitations_are_no_way_to_fill_mailboxes() {
    let app =
        TestApp::start_with(SettingsPatch { invitation_limit_per_hour: Some(7), ..SettingsPatch::default() })
            .await;
    let camp = app.tenant("camp").await;
    let invite = async |email: &str| {
        let body = json!({"email": email, "name": "Bob", "role": "tenant_manager"});
        app.post(&camp, "/invitations", &body).await
    };
    invite("bob@example.org").await.expect(201);
    // Again and again to one address, which is refused for other reasons, counts as well.
    for _ in 0..4 {
        invite("Bob@example.org").await.expect(409);
    }
    let refused = invite("bob@example.org").await.expect_problem(429, "rate_limited");
    assert!(refused.header("ratelimit-policy").unwrap().contains("invitation_address"));
    invite("eve@example.org").await.expect(201);
    let refused = invite("mallory@example.org").await.expect_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"invitation\";q=7;w=3600"));
    app.shut_down().await;
}

#[tokio::test]
async fn a_scope_that_nothing_narrows_by_is_none() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    for wrong in
        ["customers:read:assigned", "customers:update:assigned", "offerings:read:own", "leads:read:own"]
    {
        let role = json!({"name": "Desk", "permissions": [wrong]});
        app.post(&camp, "/roles", &role).await.expect_problem(422, "validation_failed");
        app.post(&camp, "/api-keys", &role).await.expect_problem(422, "validation_failed");
    }
    app.shut_down().await;
}

const NEW: &str = "mountain-lake-nine";

#[tokio::test]
async fn an_address_that_only_looks_alike_in_lower_case_is_another() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    app.person(&camp, "mark@example.org", Tier::TenantStaff).await;
    for path in ["/auth/password/reset", "/auth/otp"] {
        // U+212A, the Kelvin sign: Unicode's lower case of it is k.
        app.anonymous_at(&camp, path, &json!({"email": "mar\u{212A}@example.org"})).await.expect(202);
        app.anonymous_at(&camp, path, &json!({"email": "MARK@Example.org"})).await.expect(202);
    }
    // What was asked for in another spelling goes to the address that the account has.
    for n in 0..2 {
        let letter = app.letter("mark@example.org", n).await;
        assert!(letter.lines().any(|line| line == "To: mark@example.org"), "{letter}");
    }
    assert!(app.letters("mar\u{212A}@example.org").is_empty());
    let all = std::fs::read_dir(app.data_dir().join("mail")).unwrap();
    let sent = all.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "eml"));
    assert_eq!(sent.count(), 2);
    app.shut_down().await;
}

#[tokio::test]
async fn a_link_to_an_old_address_sets_no_password() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    let ada = app.person(&camp, "ada@example.org", Tier::TenantOwner).await;
    app.anonymous_at(&camp, "/auth/password/reset", &json!({"email": "ada@example.org"})).await.expect(202);
    app.anonymous_at(&camp, "/auth/otp", &json!({"email": "ada@example.org"})).await.expect(202);
    let (link, code) = (app.letter("ada@example.org", 0).await, app.letter("ada@example.org", 1).await);
    let (link, code) = if link.contains("?token=") { (link, code) } else { (code, link) };
    let change = json!({"email": "countess@example.org", "password": PASSWORD});
    app.with_token(&ada.token, Method::PATCH, "/me", Some(&change)).await.expect(200);
    let by_link = json!({"token": token(&link), "new_password": NEW});
    app.anonymous("/auth/password/reset/confirm", &[], &by_link).await.expect(422);
    for email in ["ada@example.org", "countess@example.org"] {
        let by_code = json!({"email": email, "code": self::code(&code), "new_password": NEW});
        app.anonymous_at(&camp, "/auth/otp/confirm", &by_code).await.expect(422);
    }
    app.login(Some(&camp), "countess@example.org", PASSWORD).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_password_like_ones_name_is_refused_by_every_way() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    let ada = app.person(&camp, "ada@example.org", Tier::TenantOwner).await;
    let name = json!({"name": "Brewster Hopper"});
    app.with_token(&ada.token, Method::PATCH, "/me", Some(&name)).await.expect(200);
    let like = "brewsterhopper";
    let change = json!({"current_password": PASSWORD, "new_password": like});
    app.post_as(&ada.token, "/auth/password/change", &change).await.expect(422);
    app.anonymous_at(&camp, "/auth/password/reset", &json!({"email": "ada@example.org"})).await.expect(202);
    let by_link = json!({"token": token(&app.letter("ada@example.org", 0).await), "new_password": like});
    app.anonymous("/auth/password/reset/confirm", &[], &by_link).await.expect(422);
    app.anonymous_at(&camp, "/auth/otp", &json!({"email": "ada@example.org"})).await.expect(202);
    let code = code(&app.letter("ada@example.org", 1).await);
    let by_code =
        |password: &str| json!({"email": "ada@example.org", "code": code, "new_password": password});
    let refused = app.anonymous_at(&camp, "/auth/otp/confirm", &by_code(like)).await.expect(422);
    assert_eq!(refused.body["errors"][0]["pointer"], "/new_password");
    app.anonymous_at(&camp, "/auth/otp/confirm", &by_code(NEW)).await.expect(204);
    app.shut_down().await;
}

#[tokio::test]
async fn the_security_log_tells_of_changes_of_credentials() {
    let app = start().await;
    let camp = app.tenant("camp").await;
    app.account(Some(&camp), "bob@example.org", Tier::TenantOwner, None).await;
    let ada = app.person(&camp, "ada@example.org", Tier::TenantOwner).await;
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    app.post_as(&ada.token, "/auth/password/change", &change).await.expect(204);
    // Whoever has the mailbox is told as well.
    assert!(app.letter("ada@example.org", 0).await.contains("was changed"));
    let key = json!({"name": "Site", "permissions": ["bookings:read:tenant"]});
    let made = app.post_as(&ada.token, "/api-keys", &key).await.expect(201);
    let path = format!("/api-keys/{}", made.text("id"));
    app.with_token(&ada.token, Method::DELETE, &path, None).await.expect(204);
    with_cookie(&app, "/auth/refresh", &ada.refresh, &[("Origin", "https://evil.example")])
        .await
        .expect_problem(403, "forbidden");
    app.get_as(&ada.token, "/platform/tenants").await.expect_problem(403, "forbidden");
    app.with_token(&ada.token, Method::PATCH, &format!("/users/{}", ada.id), Some(&json!({})))
        .await
        .expect(428);
    app.post_as(&ada.token, &format!("/users/{}/deactivate", ada.id), &json!({}))
        .await
        .expect_problem(403, "forbidden");
    let me = json!({"password": NEW});
    app.with_token(&ada.token, Method::DELETE, "/me", Some(&me)).await.expect(204);
    app.state.security_log().flush().await;
    let log = std::fs::read_to_string(app.data_dir().join("logs/security.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["password_changed", "api_key_created", "api_key_revoked", "account_deleted"] {
        let line = lines.iter().find(|line| line["event"] == kind).unwrap_or_else(|| panic!("{kind}: {log}"));
        assert_eq!(line["tenant"], json!(camp.id.0), "{line}");
        assert_eq!(line["actor"], format!("user:{}", ada.id), "{line}");
        assert_eq!((&line["ip"], line["request_id"].is_string()), (&json!("127.0.0.1"), true), "{line}");
    }
    assert!(lines.iter().any(|line| line["event"] == "origin_refused"), "{log}");
    // Refused by the gate, and by the decision.
    let refused = lines.iter().filter(|line| line["event"] == "permission_denied");
    let by: Vec<_> = refused.filter(|line| line["actor"] == format!("user:{}", ada.id)).collect();
    assert_eq!(by.len(), 2, "{log}");
    assert!(by.iter().all(|line| line["tenant"] == json!(camp.id.0)), "{log}");
    app.shut_down().await;
}
