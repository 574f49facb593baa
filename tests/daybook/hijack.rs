//! Hijacks: somebody acts as somebody else, with both names on everything, and stops when they may not any more.

use std::time::Duration;

use daybook::workers::masquerade_sweep;
use daybook_domain::permission::Tier;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    support::{
        app::{Answer, TestApp, TestTenant, eventually, id, read},
        people::{PASSWORD, Person},
    },
    support_sessions::{begin, events, platform, start, window},
};

async fn hijack(app: &TestApp, by: &Person, tenant: Option<&str>, target: Uuid) -> Answer {
    let mut body = json!({"user_id": target, "reason": "ticket 7"});
    if let Some(tenant) = tenant {
        body["tenant"] = json!(tenant);
    }
    app.post_as(&by.token, "/hijack", &body).await
}

/// A tenant with an owner, somebody of its staff, and Sue, who supports and whose window is open.
async fn open() -> (TestApp, TestTenant, Person, Person, Person, Uuid) {
    let (app, tenant, owner, sue) = start().await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let request = window(&app, &sue, &owner, "camp").await;
    (app, tenant, owner, staff, sue, request)
}

/// The lines of the log of hijacks.
async fn lines(app: &TestApp) -> Vec<Value> {
    app.state.masquerade_log().flush().await;
    let log = std::fs::read_to_string(app.data_dir().join("logs/masquerade.log")).unwrap_or_default();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn both_names_are_on_everything() {
    let (app, _, owner, _, sue, request) = open().await;
    let began = hijack(&app, &sue, Some("camp"), owner.id).await.expect(201);
    assert_eq!((&began.body["via"], &began.body["request_id"]), (&json!("window"), &json!(request)));
    assert_eq!(
        (&began.body["user"]["id"], &began.body["user"]["role"]),
        (&json!(owner.id), &json!("tenant_owner"))
    );
    let (hijack_id, token) = (id(&began), began.text("access_token"));

    let status = app.get_as(&token, "/hijack").await.expect(200);
    assert_eq!(
        (&status.body["hijacking"], &status.body["hijack"]["target"]),
        (&json!(true), &json!(owner.id))
    );
    let own = app.get_as(&sue.token, "/hijack").await.expect(200);
    assert_eq!((&own.body["hijacking"], &own.body["open"][0]["id"]), (&json!(false), &json!(hijack_id)));
    assert_eq!(app.get_as(&token, "/me").await.expect(200).body["email"], "owner@camp.example");
    let made = app.post_as(&token, "/customers", &json!({"name": "Bob"})).await.expect(201);
    let event = &events(&app, &owner, &format!("customer:{}", id(&made))).await[0];
    assert_eq!(event["actor"], json!(format!("user:{}", sue.id)));
    assert_eq!(event["on_behalf_of"], json!(format!("user:{}", owner.id)));
    assert_eq!((&event["role"], &event["support_mode"]), (&json!("platform_support"), &Value::Null));
    assert_eq!(event["causation_id"], json!(format!("hijack:{hijack_id}")));

    let stopped = app.post_as(&token, "/hijack/stop", &json!({})).await.expect(200);
    assert_eq!(stopped.body["stopped"], json!([hijack_id]));
    app.get_as(&token, "/me").await.expect_problem(401, "unauthenticated");
    // Her own session goes on.
    assert_eq!(app.get_as(&sue.token, "/me").await.expect(200).body["email"], "sue@platform.example");
    app.refresh(&sue.refresh).await.expect(200);
    app.post_as(&sue.token, "/hijack/stop", &json!({})).await.expect_problem(409, "wrong_state");

    let stream = events(&app, &owner, &format!("hijack:{hijack_id}")).await;
    let types: Vec<&str> = stream.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["hijack.started", "hijack.viewed", "hijack.viewed", "hijack.ended"]);
    assert_eq!(stream[1]["on_behalf_of"], json!(format!("user:{}", owner.id)));
    assert_eq!(stream[3]["payload"]["by"], json!({"side": "platform", "user_id": sue.id}));

    let audit = app.get_as(&owner.token, "/audit/support?kind=hijack").await.expect(200);
    let item = &audit.body["items"][0];
    assert_eq!((&item["target"], &item["how"]), (&json!(owner.id), &json!("window")));
    let told: Vec<&str> =
        item["activity"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(told, ["viewed", "viewed", "done"]);

    let log = lines(&app).await;
    let line = |n: usize, member: &str| log[n][member].clone();
    assert_eq!(log.len(), 2, "{log:?}");
    for (n, line_of) in log.iter().enumerate() {
        let members: Vec<&str> = line_of.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            members,
            [
                "action",
                "hijacked_email",
                "hijacker_email",
                "ip_address",
                "reason",
                "session_key",
                "tenant",
                "timestamp"
            ]
        );
        assert_eq!(line(n, "hijacker_email"), "sue@platform.example");
        assert_eq!(line(n, "hijacked_email"), "owner@camp.example");
        assert_eq!((line(n, "tenant"), line(n, "ip_address")), (json!("camp"), json!("127.0.0.1")));
        assert_eq!(line(n, "session_key"), json!(hijack_id));
    }
    assert_eq!((line(0, "action"), line(0, "reason")), (json!("HIJACK_START"), json!("ticket 7")));
    assert_eq!((line(1, "action"), line(1, "reason")), (json!("HIJACK_END"), json!("stopped")));
}

#[tokio::test]
async fn what_would_let_somebody_in_is_not_changed_as_somebody_else() {
    let (app, _, owner, staff, sue, _) = open().await;
    let began = hijack(&app, &sue, Some("camp"), owner.id).await.expect(201);
    let token = began.text("access_token");
    let settings = app.get_as(&owner.token, "/settings").await.expect(200);
    let version = settings.header("etag").unwrap().to_owned();
    let position = app.get_as(&owner.token, "/audit/events?limit=200").await.expect(200);
    let known = position.body["items"].as_array().unwrap().len();
    let none = json!({});
    let someone = Uuid::now_v7();
    let account = json!({"email": "eve@camp.example", "name": "Eve", "role": "tenant_owner"});
    let mut tried = 0;
    for (method, path, body) in [
        ("POST", "/users".to_owned(), &account),
        ("POST", "/invitations".to_owned(), &account),
        ("PATCH", format!("/users/{}", staff.id), &json!({"email": "eve@camp.example"})),
        ("POST", format!("/users/{}/role", staff.id), &json!({"role": "tenant_owner"})),
        ("POST", format!("/users/{}/deactivate", staff.id), &none),
        ("DELETE", format!("/users/{}", staff.id), &none),
        ("POST", "/roles".to_owned(), &json!({"name": "r", "permissions": []})),
        ("POST", "/api-keys".to_owned(), &json!({"name": "k", "permissions": ["bookings:read:tenant"]})),
        ("DELETE", format!("/api-keys/{someone}"), &none),
        (
            "POST",
            "/permission-grants".to_owned(),
            &json!({"user_id": staff.id, "permission": "bookings:read:tenant", "reason": "x"}),
        ),
        ("POST", "/permission-grants/revoke".to_owned(), &none),
        ("POST", format!("/support/requests/{someone}/approve"), &none),
        ("POST", format!("/support/requests/{someone}/revoke"), &json!({"reason": "x"})),
        (
            "POST",
            "/support/sessions".to_owned(),
            &json!({"tenant": "camp", "mode": "redacted", "reason": "x"}),
        ),
        ("DELETE", format!("/support/sessions/{someone}"), &none),
        ("POST", format!("/hijacks/{someone}/stop"), &none),
        ("POST", "/domains".to_owned(), &json!({"hostname": "evil.example"})),
        ("PUT", "/secrets/stripe_key".to_owned(), &json!({"value": "x"})),
        ("PATCH", "/settings".to_owned(), &json!({"hijack_without_approval": true})),
        ("PATCH", "/me".to_owned(), &json!({"email": "eve@camp.example", "password": PASSWORD})),
        ("DELETE", "/me".to_owned(), &json!({"password": PASSWORD})),
        (
            "POST",
            "/auth/password/change".to_owned(),
            &json!({"current_password": PASSWORD, "new_password": "x"}),
        ),
        ("DELETE", format!("/auth/sessions/{someone}"), &none),
    ] {
        let request = app.client.request(method.parse::<Method>().unwrap(), app.url(&path));
        let answer = read(request.bearer_auth(&token).header("If-Match", &version).json(body)).await;
        let expected = if path.starts_with("/support/sessions/") { 404 } else { 403 };
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.body);
        tried += 1;
    }
    let page = app.get_as(&owner.token, "/audit/events?limit=200").await.expect(200);
    let after = &page.body["items"].as_array().unwrap()[known..];
    let refused = after.iter().filter(|event| event["type"] == "hijack.action_refused").count();
    assert_eq!((refused, after.len()), (tried, tried), "each is in the log, and nothing else is");
    // Nor by a key, or by a manager, is anybody let in for good.
    let waive = json!({"hijack_without_approval": true});
    let key = json!({"name": "k", "permissions": ["settings:read:tenant", "settings:update:tenant"]});
    let key = app.post_as(&owner.token, "/api-keys", &key).await.expect(201).text("key");
    let request = app.client.request(Method::PATCH, app.url("/settings")).bearer_auth(&key);
    read(request.header("If-Match", &version).json(&waive)).await.expect_problem(403, "forbidden");
    // What an owner does every day is done.
    let request = app.client.request(Method::PATCH, app.url("/settings")).bearer_auth(&token);
    let change = json!({"display_name": "The camp"});
    read(request.header("If-Match", &version).json(&change)).await.expect(200);
}

#[tokio::test]
async fn nobody_goes_on_from_one_to_another() {
    let (app, _, owner, staff, sue, request) = open().await;
    let first = hijack(&app, &sue, Some("camp"), owner.id).await.expect(201);
    let as_owner = Person { id: owner.id, token: first.text("access_token"), refresh: String::new() };
    hijack(&app, &as_owner, None, staff.id).await.expect_problem(403, "forbidden");
    let session = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let in_session = Person { id: sue.id, token: session.text("access_token"), refresh: String::new() };
    hijack(&app, &in_session, None, staff.id).await.expect_problem(403, "forbidden");
    let redacted = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let in_session = Person { id: sue.id, token: redacted.text("access_token"), refresh: String::new() };
    hijack(&app, &in_session, None, staff.id).await.expect_problem(403, "forbidden");

    let page = app.get_as(&owner.token, "/audit/events?type=hijack.refused").await.expect(200);
    let refused = page.body["items"].as_array().unwrap();
    assert_eq!(refused.len(), 3);
    for event in refused {
        assert_eq!(event["payload"]["why"], "chain");
        assert_eq!(event["payload"]["by"], json!({"side": "platform", "user_id": sue.id}));
    }
    assert_eq!(refused[0]["on_behalf_of"], json!(format!("user:{}", owner.id)));
    let log = lines(&app).await;
    let actions: Vec<&str> = log.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["HIJACK_START", "HIJACK_REFUSED", "HIJACK_REFUSED", "HIJACK_REFUSED"]);
    assert_eq!(log[1]["reason"], "chain: ticket 7");
}

#[tokio::test]
async fn a_target_that_is_promoted_meanwhile_ends_it() {
    let (app, tenant, owner, staff, ..) = open().await;
    let second = app.person(&tenant, "second@camp.example", Tier::TenantStaff).await;
    let tokens = [
        hijack(&app, &owner, None, staff.id).await.expect(201),
        hijack(&app, &owner, None, second.id).await.expect(201),
    ];
    let [promoted, deactivated] = tokens.each_ref().map(|began| began.text("access_token"));
    app.get_as(&promoted, "/me").await.expect(200);
    app.get_as(&deactivated, "/me").await.expect(200);
    let version = |answer: &Answer| answer.header("etag").unwrap().to_owned();
    let before = app.get_as(&owner.token, &format!("/users/{}", staff.id)).await.expect(200);
    let request = app.client.post(app.url(&format!("/users/{}/role", staff.id))).bearer_auth(&owner.token);
    let body = json!({"role": "tenant_manager"});
    read(request.header("If-Match", version(&before)).json(&body)).await.expect(200);
    app.post_as(&owner.token, &format!("/users/{}/deactivate", second.id), &json!({})).await.expect(200);
    for token in [&promoted, &deactivated] {
        eventually("it is over", Duration::from_secs(1), async || {
            app.get_as(token, "/me").await.status == 401
        })
        .await;
    }
    for began in &tokens {
        let stream = events(&app, &owner, &format!("hijack:{}", id(began))).await;
        assert_eq!(stream.last().unwrap()["payload"]["cause"], "no_longer_allowed");
    }
    let ends = lines(&app).await.into_iter().filter(|line| line["action"] == "HIJACK_END").count();
    assert_eq!(ends, 2);

    // Were the gate still to let one through, the log would not.
    use daybook::eventstore::{Command, StoreError, Unit, Within};
    use daybook_domain::{
        CustomerId, DomainError, HijackId, customer::CustomerCommand, envelope::Metadata, text::Name,
    };
    let register =
        CustomerCommand::Register { name: Name::new("Eve", "").unwrap(), email: None, phone: None };
    let mut unit = Unit::of(Command::create(CustomerId(Uuid::now_v7()), register), Metadata::default());
    unit.within = Some(Within::Hijack(HijackId(id(&tokens[0]))));
    let refused = app.store.execute(&tenant.schema(), unit).await;
    assert!(
        matches!(refused, Err(StoreError::Refused { error: DomainError::SessionOver, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn it_ends_with_the_window_the_waiver_the_hijacker_and_by_the_house() {
    let (app, tenant, owner, staff, sue, request) = open().await;
    let over = async |token: &str| {
        eventually("it is over", Duration::from_secs(2), async || {
            app.get_as(token, "/me").await.status == 401
        })
        .await;
    };
    let cause = async |began: &Answer| {
        let stream = events(&app, &owner, &format!("hijack:{}", id(began))).await;
        stream.last().unwrap()["payload"]["cause"].as_str().unwrap_or_default().to_owned()
    };
    let fresh = async |by: &Person| {
        let began = hijack(&app, by, Some("camp"), staff.id).await.expect(201);
        app.get_as(&began.text("access_token"), "/me").await.expect(200);
        began
    };
    // The house.
    let began = fresh(&sue).await;
    let manager = app.person(&tenant, "manager@camp.example", Tier::TenantManager).await;
    let path = format!("/hijacks/{}/stop", id(&began));
    app.post_as(&staff.token, &path, &json!({})).await.expect_problem(403, "forbidden");
    let stopped = app.post_as(&manager.token, &path, &json!({})).await.expect(200);
    assert_eq!((&stopped.body["state"], &stopped.body["ended_side"]), (&json!("ended"), &json!("tenant")));
    over(&began.text("access_token")).await;
    // The window.
    let began = fresh(&sue).await;
    let revoke = format!("/support/requests/{request}/revoke");
    app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
    assert_eq!(cause(&began).await, "window_closed");
    over(&began.text("access_token")).await;
    hijack(&app, &sue, Some("camp"), staff.id).await.expect_problem(403, "forbidden");
    // The waiver.
    let waive = async |waives: bool| {
        let now = app.get_as(&owner.token, "/settings").await.expect(200);
        let request = app.client.request(Method::PATCH, app.url("/settings")).bearer_auth(&owner.token);
        let body = json!({"hijack_without_approval": waives});
        read(request.header("If-Match", now.header("etag").unwrap()).json(&body)).await.expect(200);
    };
    waive(true).await;
    let began = fresh(&sue).await;
    assert_eq!(began.body["via"], "waiver");
    waive(false).await;
    assert_eq!(cause(&began).await, "window_closed");
    over(&began.text("access_token")).await;
    // The hijacker.
    waive(true).await;
    let began = fresh(&sue).await;
    let root = platform(&app, "root@platform.example", Tier::Superuser).await;
    app.post_as(&root.token, &format!("/platform/users/{}/deactivate", sue.id), &json!({})).await.expect(200);
    over(&began.text("access_token")).await;
    assert_eq!(cause(&began).await, "no_longer_allowed");
    // Its time.
    let began = fresh(&root).await;
    app.sql(&tenant.schema(), "UPDATE {s}.hijacks SET until = now() WHERE ended_at IS NULL").await;
    over(&began.text("access_token")).await;
    masquerade_sweep::sweep(&app.store, app.state.auth(), app.state.masquerade_log(), &tenant.schema())
        .await
        .unwrap();
    assert_eq!(cause(&began).await, "", "by the log it goes on: nothing is noted before its time");
}

#[tokio::test]
async fn the_platforms_people_are_hijacked_in_the_platforms_log() {
    let (app, _, owner, _, sue, _) = open().await;
    let root = platform(&app, "root@platform.example", Tier::Superuser).await;
    hijack(&app, &sue, None, root.id).await.expect_problem(403, "forbidden");
    let began = hijack(&app, &root, None, sue.id).await.expect(201);
    assert_eq!((&began.body["via"], &began.body["user"]["tenant_id"]), (&json!("tier"), &Value::Null));
    let token = began.text("access_token");
    app.get_as(&token, "/support/requests").await.expect(200);
    let asking = json!({"tenant": "camp", "reason": "x", "minutes": 5});
    app.post_as(&token, "/support/requests", &asking).await.expect_problem(403, "forbidden");
    app.post_as(&token, "/platform/tenants", &json!({"slug": "evil", "name": "Evil"}))
        .await
        .expect_problem(403, "forbidden");
    let listed = app.get_as(&root.token, "/hijacks?state=open").await.expect(200);
    assert_eq!(listed.body["items"][0]["id"], json!(id(&began)));
    let refused = app.get_as(&root.token, &format!("/hijacks?state=refused&hijacker={}", sue.id)).await;
    assert_eq!(refused.expect(200).body["items"].as_array().unwrap().len(), 1);
    // No tenant has to do with it.
    let own = app.get_as(&owner.token, "/hijacks").await.expect(200);
    assert_eq!(own.body["items"], json!([]));
    app.post_as(&root.token, "/hijack/stop", &json!({})).await.expect(200);
    eventually("it is over", Duration::from_secs(1), async || {
        app.get_as(&token, "/support/requests").await.status == 401
    })
    .await;
    let log = lines(&app).await;
    assert!(log.iter().all(|line| line["tenant"].is_null()));
}

#[tokio::test]
async fn an_attempt_is_limited_and_a_key_makes_none() {
    let (app, tenant, owner, staff, ..) = open().await;
    let body = json!({"user_id": staff.id, "reason": "x"});
    app.post(&tenant, "/hijack", &body).await.expect_problem(403, "forbidden");
    let body = json!({"user_id": staff.id, "tenant": "camp", "reason": "x"});
    app.post_as(&owner.token, "/hijack", &body).await.expect_problem(422, "validation_failed");
    let body = json!({"user_id": staff.id, "reason": " "});
    app.post_as(&owner.token, "/hijack", &body).await.expect_problem(422, "validation_failed");
    let mut last = 0;
    for _ in 0..130 {
        last = hijack(&app, &staff, None, owner.id).await.status.as_u16();
        if last == 429 {
            break;
        }
        assert_eq!(last, 403);
    }
    assert_eq!(last, 429);
}
