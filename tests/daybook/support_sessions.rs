//! Support sessions: who gets into a tenant, what they see and do there, how it ends, and what the tenant's log says of it.

use std::time::Duration;

use daybook::workers::masquerade_sweep;
use daybook_domain::{permission::Tier, tenant::TenantCommand};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, eventually, id},
    people::{Person, generous},
    site::by,
};

/// A tenant with an owner, and Sue, who supports.
pub async fn start() -> (TestApp, TestTenant, Person, Person) {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let owner = app.person(&tenant, "owner@camp.example", Tier::TenantOwner).await;
    let sue = platform(&app, "sue@platform.example", Tier::PlatformSupport).await;
    (app, tenant, owner, sue)
}

/// One of the platform's people.
pub async fn platform(app: &TestApp, email: &str, tier: Tier) -> Person {
    app.account(None, email, tier, None).await;
    app.sign_in(None, email).await
}

/// A support request that was approved.
pub async fn window(app: &TestApp, by: &Person, owner: &Person, slug: &str) -> Uuid {
    let asking = json!({"tenant": slug, "reason": "ticket 7", "minutes": 30});
    let request = id(&app.post_as(&by.token, "/support/requests", &asking).await.expect(201));
    app.post_as(&owner.token, &format!("/support/requests/{request}/approve"), &json!({})).await.expect(200);
    request
}

/// Tries to begin a session.
pub async fn begin(app: &TestApp, by: &Person, slug: &str, mode: &str, request: Option<Uuid>) -> Answer {
    let body = json!({"tenant": slug, "mode": mode, "request_id": request, "reason": "ticket 7"});
    app.post_as(&by.token, "/support/sessions", &body).await
}

/// The events of an aggregate, as the owner reads them.
pub async fn events(app: &TestApp, owner: &Person, aggregate: &str) -> Vec<Value> {
    let path = format!("/audit/events?aggregate={aggregate}&limit=200");
    let page = app.get_as(&owner.token, &path).await.expect(200);
    page.body["items"].as_array().unwrap().clone()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn customer(name: &str) -> Value {
    json!({"name": name, "email": format!("{}@guest.example", name.to_lowercase())})
}

#[tokio::test]
async fn a_real_session_is_in_its_window_and_everything_in_it_is_in_the_log() {
    let (app, _, owner, sue) = start().await;
    let ada = id(&app.post_as(&owner.token, "/customers", &customer("Ada")).await.expect(201));
    let request = window(&app, &sue, &owner, "camp").await;
    let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let asked = app.get_as(&owner.token, &format!("/support/requests/{request}")).await.expect(200);
    assert_eq!(began.body["expires_at"], asked.body["open_until"], "it ends with the window");
    assert_eq!((&began.body["mode"], &began.body["state"]), (&json!("real"), &json!("open")));
    let (session, token) = (id(&began), began.text("access_token"));
    assert_eq!(began.header("location"), Some(format!("/api/v1/support/sessions/{session}").as_str()));

    let seen = app.get_as(&token, &format!("/customers/{ada}")).await.expect(200);
    assert_eq!(seen.body["name"], "Ada");
    app.get_as(&token, "/customers?limit=10").await.expect(200);
    let nobody = Uuid::now_v7();
    app.get_as(&token, &format!("/customers/{nobody}")).await.expect_problem(404, "not_found");
    let bob = id(&app.post_as(&token, "/customers", &customer("Bob")).await.expect(201));
    app.post_as(&token, "/api-keys", &json!({"name": "mine", "permissions": ["bookings:read:tenant"]}))
        .await
        .expect_problem(403, "forbidden");

    let stream = events(&app, &owner, &format!("support_session:{session}")).await;
    assert_eq!(
        types(&stream),
        [
            "support.session_started",
            "support.viewed",
            "support.viewed",
            "support.viewed",
            "support.action_refused"
        ]
    );
    let viewed = |n: usize, member: &str| stream[n]["payload"][member].clone();
    assert_eq!(viewed(1, "route"), "/api/v1/customers/{id}");
    assert_eq!((viewed(1, "resource_ids"), viewed(1, "status")), (json!([ada]), json!(200)));
    assert_eq!((viewed(2, "route"), viewed(2, "resource_ids")), (json!("/api/v1/customers"), json!([ada])));
    assert_eq!((viewed(3, "resource_ids"), viewed(3, "status")), (json!([nobody]), json!(404)));
    assert_eq!((viewed(4, "method"), viewed(4, "route")), (json!("POST"), json!("/api/v1/api-keys")));
    for event in &stream {
        assert_eq!(event["actor"], json!(format!("user:{}", sue.id)), "{event}");
        assert_eq!(
            (&event["role"], &event["ip"]),
            (&json!("platform_support"), &json!("127.0.0.1")),
            "{event}"
        );
    }
    assert_eq!(stream[0]["payload"]["support_request_id"], json!(request));
    let made = &events(&app, &owner, &format!("customer:{bob}")).await[0];
    assert_eq!(made["actor"], json!(format!("user:{}", sue.id)));
    assert_eq!((&made["support_mode"], &made["on_behalf_of"]), (&json!("real"), &Value::Null));
    assert_eq!(made["causation_id"], json!(format!("support_session:{session}")));

    // An auditor reads it in one place: what was seen, done and refused, in that order.
    let audit = app.get_as(&owner.token, "/audit/support").await.expect(200);
    let item = &audit.body["items"][0];
    assert_eq!(
        (&item["id"], &item["kind"], &item["state"]),
        (&json!(session), &json!("support_session"), &json!("open"))
    );
    assert_eq!(
        (&item["how"], &item["user_id"], &item["more"]),
        (&json!("real"), &json!(sue.id), &json!(false))
    );
    let whole = app.get_as(&owner.token, &format!("/audit/support/{session}?limit=3")).await.expect(200);
    let rest = whole.body["next_cursor"].as_str().unwrap();
    let rest = app
        .get_as(&owner.token, &format!("/audit/support/{session}?limit=3&cursor={rest}"))
        .await
        .expect(200);
    let activity = [whole, rest].map(|page| page.body["items"].as_array().unwrap().clone()).concat();
    assert_eq!(item["activity"], json!(activity));
    let told: Vec<(&str, &str, &Value)> = activity
        .iter()
        .map(|one| {
            (one["what"].as_str().unwrap(), one["route"].as_str().unwrap_or_default(), &one["resource_ids"])
        })
        .collect();
    assert_eq!(
        told,
        [
            ("viewed", "/api/v1/customers/{id}", &json!([ada])),
            ("viewed", "/api/v1/customers", &json!([ada])),
            ("viewed", "/api/v1/customers/{id}", &json!([nobody])),
            ("done", "", &json!([bob])),
            ("refused", "/api/v1/api-keys", &json!([])),
        ]
    );
    assert_eq!(
        (&activity[3]["type"], &activity[3]["aggregate_type"]),
        (&json!("customer.registered"), &json!("customer"))
    );
    for (query, found) in [
        ("?kind=hijack", 0),
        ("?kind=support_session&state=open", 1),
        (&format!("?user_id={}&request_id={request}", sue.id), 1),
        ("?state=refused", 0),
        ("?to=2020-01-01", 0),
    ] {
        let page = app.get_as(&owner.token, &format!("/audit/support{query}")).await.expect(200);
        assert_eq!(page.body["items"].as_array().unwrap().len(), found, "{query}");
    }

    let ended = app.with_token(&token, Method::DELETE, &format!("/support/sessions/{session}"), None).await;
    ended.expect(204);
    app.get_as(&token, "/customers").await.expect_problem(401, "unauthenticated");
    let stream = events(&app, &owner, &format!("support_session:{session}")).await;
    assert_eq!(stream.last().unwrap()["payload"]["cause"], "stopped");
    // Her own session goes on.
    app.get_as(&sue.token, "/me").await.expect(200);
    let listed = app.get_as(&owner.token, "/support/sessions?state=ended").await.expect(200);
    assert_eq!(
        (&listed.body["items"][0]["id"], &listed.body["items"][0]["viewed"]),
        (&json!(session), &json!(3))
    );
}

#[tokio::test]
async fn there_is_no_real_access_without_a_window_of_ones_own() {
    let (app, tenant, owner, sue) = start().await;
    let other = app.tenant("hotel").await;
    let other_owner = app.person(&other, "owner@hotel.example", Tier::TenantOwner).await;
    let pat = platform(&app, "pat@platform.example", Tier::PlatformSupport).await;
    let refused = |answer: Answer, why: &'static str| {
        let problem = answer.expect_problem(403, "forbidden");
        assert!(problem.text("detail").contains(why), "{}", problem.body);
        assert!(problem.body.get("access_token").is_none());
    };
    refused(begin(&app, &sue, "camp", "real", None).await, "needs a support request");
    refused(begin(&app, &sue, "camp", "real", Some(Uuid::now_v7())).await, "no such support request");
    let elsewhere = window(&app, &sue, &other_owner, "hotel").await;
    refused(begin(&app, &sue, "camp", "real", Some(elsewhere)).await, "no such support request");
    let pats = window(&app, &pat, &owner, "camp").await;
    refused(begin(&app, &sue, "camp", "real", Some(pats)).await, "somebody else's");
    let asking = json!({"tenant": "camp", "reason": "ticket 7", "minutes": 1});
    let waiting = id(&app.post_as(&sue.token, "/support/requests", &asking).await.expect(201));
    refused(begin(&app, &sue, "camp", "real", Some(waiting)).await, "not open");
    let approve = format!("/support/requests/{waiting}/approve");
    app.post_as(&owner.token, &approve, &json!({})).await.expect(200);
    app.sql(&tenant.schema(), "UPDATE {s}.support_requests SET open_until = now() WHERE minutes = 1").await;
    // The log says when the window closes, not the row: the decision still takes it for open, the gate does not.
    let began = begin(&app, &sue, "camp", "real", Some(waiting)).await.expect(201);
    app.get_as(&began.text("access_token"), "/customers").await.expect_problem(401, "unauthenticated");
    begin(&app, &sue, "camp", "redacted", Some(waiting)).await.expect_problem(422, "validation_failed");
    refused(begin(&app, &sue, "camp", "mock", None).await, "sample tenant");
    begin(&app, &sue, "nowhere", "redacted", None).await.expect_problem(404, "not_found");

    // Every refusal is in the log of the tenant it was about.
    let page = app.get_as(&owner.token, "/audit/events?type=support.session_refused").await.expect(200);
    let whys: Vec<&str> = page.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["payload"]["why"].as_str().unwrap())
        .collect();
    assert_eq!(
        whys,
        [
            "window_required",
            "window_unknown",
            "window_unknown",
            "window_of_another",
            "window_not_open",
            "not_the_sample_tenant"
        ]
    );
    let counts = app.get_as(&owner.token, "/support/counts").await.expect(200);
    assert!(
        counts.body["by_state"]
            .as_array()
            .unwrap()
            .contains(&json!({"kind": "sessions", "state": "refused", "count": 6})),
        "{}",
        counts.body
    );
}

#[tokio::test]
async fn others_begin_no_session() {
    let (app, _, owner, _) = start().await;
    let sales = platform(&app, "sally@platform.example", Tier::PlatformSales).await;
    begin(&app, &sales, "camp", "redacted", None).await.expect_problem(403, "forbidden");
    begin(&app, &owner, "camp", "redacted", None).await.expect_problem(403, "forbidden");
    let camp = app.tenant("camp2").await;
    app.post(&camp, "/support/sessions", &json!({"tenant": "camp2", "mode": "redacted", "reason": "x"}))
        .await
        .expect_problem(403, "forbidden");
}

#[tokio::test]
async fn a_redacted_session_changes_nothing_by_any_way() {
    let (app, tenant, owner, sue) = start().await;
    let ada = id(&app.post_as(&owner.token, "/customers", &customer("Ada")).await.expect(201));
    let began = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let token = began.text("access_token");
    let before = app.get_as(&owner.token, "/audit/events?limit=200").await.expect(200).body;
    let body = json!({"name": "Eve", "reason": "x"});
    for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
        for path in ["/customers".to_owned(), format!("/customers/{ada}"), "/settings".to_owned()] {
            let answer = app.with_token(&token, method.clone(), &path, Some(&body)).await;
            assert!([403, 405].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.body);
            assert!(answer.status == 405 || answer.body["code"] == "support_read_only", "{}", answer.body);
        }
    }
    for header in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let request = app.client.get(app.url(&format!("/customers/{ada}?_method=DELETE")));
        let answer = request.bearer_auth(&token).header(header, "DELETE").send().await.unwrap();
        assert!(!answer.status().is_server_error());
    }
    for (path, body) in [
        ("/support/requests", json!({"tenant": "camp", "reason": "x", "minutes": 5})),
        ("/support/sessions", json!({"tenant": "camp", "mode": "redacted", "reason": "x"})),
        ("/auth/password/change", json!({"current_password": "x", "new_password": "yyyyyyyyyyy"})),
        ("/platform/tenants", json!({"slug": "evil", "name": "Evil"})),
    ] {
        app.post_as(&token, path, &body).await.expect_problem(403, "support_read_only");
    }
    // Nothing but what was seen and refused is new in the log.
    let after = app.get_as(&owner.token, "/audit/events?limit=200").await.expect(200).body;
    let known = before["items"].as_array().unwrap().len();
    for event in &after["items"].as_array().unwrap()[known..] {
        let kind = event["type"].as_str().unwrap();
        assert!(["support.viewed", "support.action_refused"].contains(&kind), "{event}");
    }
    let customers = app.get_as(&owner.token, "/customers").await.expect(200);
    assert_eq!(customers.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(customers.body["items"][0]["version"], 1);

    // Were the gate to let one through, the log would not: the session is looked at again when the command is decided.
    use daybook::eventstore::{Command, StoreError, Unit, Within};
    use daybook_domain::{
        CustomerId, DomainError, SupportSessionId, customer::CustomerCommand, envelope::Metadata, text::Name,
    };
    let register =
        CustomerCommand::Register { name: Name::new("Eve", "").unwrap(), email: None, phone: None };
    let mut unit = Unit::of(Command::create(CustomerId(Uuid::now_v7()), register), Metadata::default());
    unit.within = Some(Within::Support(SupportSessionId(id(&began))));
    let refused = app.store.execute(&tenant.schema(), unit).await;
    assert!(matches!(refused, Err(StoreError::Refused { error: DomainError::ReadOnly, .. })), "{refused:?}");
}

#[tokio::test]
async fn it_ends_with_its_time_its_window_its_account_and_its_sign_in() {
    let (app, tenant, owner, sue) = start().await;
    let schema = tenant.schema();
    let request = window(&app, &sue, &owner, "camp").await;
    let fresh = async || {
        let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
        let token = began.text("access_token");
        app.get_as(&token, "/customers").await.expect(200);
        (id(&began), token)
    };
    let cause = async |session: Uuid| {
        let stream = events(&app, &owner, &format!("support_session:{session}")).await;
        stream.last().unwrap()["payload"]["cause"].as_str().unwrap_or_default().to_owned()
    };

    // Its time: the row is moved back, past a clock that stands where it did.
    let (session, token) = fresh().await;
    app.sql(&schema, "UPDATE {s}.support_sessions SET until = now() WHERE ended_at IS NULL").await;
    eventually("it is over", Duration::from_secs(2), async || {
        app.get_as(&token, "/customers").await.status == 401
    })
    .await;
    // The log knows better than the row, so nothing is noted before its time.
    let log = app.state.masquerade_log();
    masquerade_sweep::sweep(&app.store, app.state.auth(), log, &schema).await.unwrap();
    assert_eq!(cause(session).await, "");

    // The tenant's own people end it.
    let (session, token) = fresh().await;
    let path = format!("/support/sessions/{session}");
    let other = platform(&app, "pat@platform.example", Tier::PlatformSupport).await;
    app.with_token(&other.token, Method::DELETE, &path, None).await.expect_problem(403, "forbidden");
    app.with_token(&owner.token, Method::DELETE, &path, None).await.expect(204);
    app.with_token(&owner.token, Method::DELETE, &path, None).await.expect_problem(409, "wrong_state");
    eventually("it is over", Duration::from_secs(1), async || {
        app.get_as(&token, "/customers").await.status == 401
    })
    .await;
    assert_eq!(cause(session).await, "stopped");

    // Her sign-in, and the log says so at the next attempt.
    let (session, token) = fresh().await;
    let out = app
        .client
        .post(app.url("/auth/logout"))
        .header("Content-Type", "application/json")
        .header("Cookie", format!("__Host-daybook_refresh={}", sue.refresh))
        .send()
        .await
        .unwrap();
    assert!(out.status().is_success(), "{}", out.status());
    eventually("it is over", Duration::from_secs(2), async || {
        app.get_as(&token, "/customers").await.status == 401
    })
    .await;
    assert_eq!(cause(session).await, "no_longer_allowed");

    // The window, by whoever closes it: in the same transaction.
    let sue = app.sign_in(None, "sue@platform.example").await;
    let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let (session, token) = (id(&began), began.text("access_token"));
    let revoke = format!("/support/requests/{request}/revoke");
    let revoked = app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
    assert_eq!(cause(session).await, "window_closed");
    let stream = events(&app, &owner, &format!("support_session:{session}")).await;
    let position: i64 = revoked.header("x-log-position").unwrap().parse().unwrap();
    assert!(stream.last().unwrap()["position"].as_i64().unwrap() <= position);
    eventually("it is over", Duration::from_secs(1), async || {
        app.get_as(&token, "/customers").await.status == 401
    })
    .await;

    // A tenant that is switched off lets nobody in.
    let began = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    app.admin.command(tenant.id, TenantCommand::Deactivate, &by("test")).await.unwrap();
    eventually("it is over", Duration::from_secs(1), async || {
        app.get_as(&began.text("access_token"), "/customers").await.status == 401
    })
    .await;
}

#[tokio::test]
async fn what_only_time_ended_is_noted_by_the_sweep() {
    let (app, tenant, owner, sue) = start().await;
    let schema = tenant.schema();
    // A session of half an hour ago, as the log and the row have it.
    use daybook::eventstore::{Command, Unit};
    use daybook_domain::{
        SessionId, SupportSessionId, UserId,
        envelope::Metadata,
        registry::AggregateType,
        support_session::{SupportMode, SupportSessionEvent},
        text::Reason,
    };
    let session = SupportSessionId(Uuid::now_v7());
    let until = daybook::clock::now() - chrono::TimeDelta::seconds(1);
    let started = SupportSessionEvent::Started {
        support_session_id: session,
        user_id: UserId(sue.id),
        signed_in: SessionId::default(),
        mode: SupportMode::Redacted,
        support_request_id: None,
        reason: Reason::new("ticket 7", "").unwrap(),
        at: until - chrono::TimeDelta::minutes(30),
        until,
    };
    let decided = Command::decided(session.0, AggregateType::SupportSession, 0, vec![started.into()]);
    app.store.execute(&schema, Unit::of(decided, Metadata::default())).await.unwrap();
    let swept = masquerade_sweep::sweep(&app.store, app.state.auth(), app.state.masquerade_log(), &schema)
        .await
        .unwrap();
    // The app's own sweep may have been first.
    assert!(swept <= 1);
    let stream = events(&app, &owner, &format!("support_session:{}", session.0)).await;
    assert_eq!(types(&stream), ["support.session_started", "support.session_ended"]);
    assert_eq!(stream[1]["payload"]["cause"], "expired");
    let at: chrono::DateTime<chrono::Utc> = stream[1]["payload"]["at"].as_str().unwrap().parse().unwrap();
    assert_eq!(at.timestamp_micros(), until.timestamp_micros(), "it ended then, not when that was noted");
    assert_eq!(
        masquerade_sweep::sweep(&app.store, app.state.auth(), app.state.masquerade_log(), &schema)
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn the_platform_sees_the_sessions_of_all_tenants() {
    let (app, _, owner, sue) = start().await;
    app.tenant("hotel").await;
    let began = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let hotel = begin(&app, &sue, "hotel", "redacted", None).await.expect(201);
    let listed = async |query: &str| -> Vec<Uuid> {
        let page = app.get_as(&sue.token, &format!("/support/sessions{query}")).await.expect(200);
        page.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["id"].as_str().unwrap().parse().unwrap())
            .collect()
    };
    assert_eq!(listed("").await, [id(&hotel), id(&began)]);
    assert_eq!(listed("?tenant=camp").await, [id(&began)]);
    assert_eq!(listed(&format!("?user_id={}&mode=redacted&state=open", sue.id)).await.len(), 2);
    assert!(listed("?mode=real").await.is_empty());
    let one = app.get_as(&sue.token, &format!("/support/sessions/{}", id(&began))).await.expect(200);
    assert_eq!((&one.body["tenant"], &one.body["reason"]), (&json!("camp"), &json!("ticket 7")));
    let counts = app.get_as(&sue.token, "/support/counts").await.expect(200);
    assert!(
        counts.body["by_tenant"]
            .as_array()
            .unwrap()
            .contains(&json!({"kind": "sessions", "tenant": "hotel", "count": 1}))
    );
    assert!(
        counts.body["by_person"]
            .as_array()
            .unwrap()
            .contains(&json!({"kind": "sessions", "user_id": sue.id, "count": 2}))
    );
    // A tenant sees its own.
    let own = app.get_as(&owner.token, "/support/sessions").await.expect(200);
    assert_eq!(own.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(app.get_as(&owner.token, &format!("/support/sessions/{}", id(&hotel))).await.status, 404);
    app.get_as(&owner.token, "/support/sessions?tenant=camp").await.expect_problem(422, "validation_failed");
}

#[tokio::test]
async fn a_repeated_start_is_the_same_session() {
    let (app, _, _, sue) = start().await;
    let ask = async || {
        let body = json!({"tenant": "camp", "mode": "redacted", "reason": "ticket 7"});
        let request = app.client.post(app.url("/support/sessions")).bearer_auth(&sue.token);
        crate::support::app::read(request.header("Idempotency-Key", "once").json(&body)).await.expect(201)
    };
    let (first, again) = (ask().await, ask().await);
    assert_eq!(id(&first), id(&again));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    app.get_as(&again.text("access_token"), "/customers").await.expect(200);
}

#[tokio::test]
async fn an_answer_that_only_shows_what_is_there_is_written_down_whatever_its_method() {
    let (app, _, owner, sue) = start().await;
    let ada = id(&app.post_as(&owner.token, "/customers", &customer("Ada")).await.expect(201));
    let request = window(&app, &sue, &owner, "camp").await;
    let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let (session, token) = (id(&began), began.text("access_token"));
    let path = format!("/customers/{ada}");
    let change = app.client.patch(app.url(&path)).bearer_auth(&token).header("If-Match", "*");
    let unchanged = crate::support::app::read(change.json(&json!({}))).await.expect(200);
    assert_eq!(unchanged.body["name"], "Ada");
    let make = async || {
        let make =
            app.client.post(app.url("/customers")).bearer_auth(&token).header("Idempotency-Key", "once");
        id(&crate::support::app::read(make.json(&customer("Bob"))).await.expect(201))
    };
    let bob = make().await;
    assert_eq!(make().await, bob);
    // And a read that names nothing in its answer is about what it was asked for.
    app.get_as(&token, &format!("/audit/streams/customer/{ada}")).await.expect(200);
    let stale = app.client.patch(app.url(&path)).bearer_auth(&token).header("If-Match", "\"9\"");
    crate::support::app::read(stale.json(&json!({"name": "Eve"})))
        .await
        .expect_problem(412, "version_conflict");
    let activity = app.get_as(&owner.token, &format!("/audit/support/{session}")).await.expect(200);
    let told: Vec<(&str, &Value)> = activity.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["what"].as_str().unwrap(), &one["resource_ids"]))
        .collect();
    assert_eq!(
        told,
        [
            ("viewed", &json!([ada])),
            ("done", &json!([bob])),
            ("viewed", &json!([bob])),
            ("viewed", &json!([ada])),
            ("refused", &json!([ada])),
        ]
    );
}

#[tokio::test]
async fn what_began_under_a_key_and_is_over_is_not_begun_by_repeating_it() {
    let (app, tenant, owner, sue) = start().await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let request = window(&app, &sue, &owner, "camp").await;
    let ask = async |path: &str, body: &Value| {
        let request =
            app.client.post(app.url(path)).bearer_auth(&sue.token).header("Idempotency-Key", "once");
        crate::support::app::read(request.json(body)).await
    };
    let real = json!({"tenant": "camp", "mode": "real", "request_id": request, "reason": "x"});
    let acts = json!({"tenant": "camp", "user_id": staff.id, "reason": "x"});
    ask("/support/sessions", &real).await.expect(201);
    ask("/hijack", &acts).await.expect(201);
    ask("/hijack", &acts).await.expect(201);
    let revoke = format!("/support/requests/{request}/revoke");
    app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
    let head = app.head(&tenant).await;
    for (path, body) in [("/support/sessions", &real), ("/hijack", &acts)] {
        let refused = ask(path, body).await.expect_problem(409, "wrong_state");
        assert!(!refused.body.to_string().contains("staff@camp.example"));
    }
    assert_eq!(app.head(&tenant).await, head);
}

#[tokio::test]
async fn the_end_of_a_sign_in_is_noted_by_the_sweep_as_what_it_was() {
    let (app, tenant, owner, sue) = start().await;
    let began = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let out = app.client.post(app.url("/auth/logout")).header("Content-Type", "application/json");
    out.header("Cookie", format!("__Host-daybook_refresh={}", sue.refresh)).send().await.unwrap();
    // A node that has not asked about her in the last second.
    let auth = daybook::auth::AuthDirectory::new(app.store.database().clone(), app.store.keys().clone());
    masquerade_sweep::sweep(&app.store, &auth, app.state.masquerade_log(), &tenant.schema()).await.unwrap();
    let stream = events(&app, &owner, &format!("support_session:{}", id(&began))).await;
    assert_eq!(stream.last().unwrap()["payload"]["cause"], "no_longer_allowed");
}

#[tokio::test]
async fn a_start_that_is_refused_does_not_stand_in_the_way_of_a_revocation() {
    let (app, tenant, owner, sue) = start().await;
    let pat = platform(&app, "pat@platform.example", Tier::PlatformSupport).await;
    let request = window(&app, &sue, &owner, "camp").await;
    // Both are decided in one batch: they wait for the head together.
    let mut head = app.store.database().owner().begin().await.unwrap();
    let lock = tenant.schema().sql("SELECT 1 FROM {s}.log_head FOR UPDATE");
    sqlx::query(&lock).execute(&mut *head).await.unwrap();
    let ada = json!({"name": "Ada"});
    let first = app.post_as(&owner.token, "/customers", &ada);
    let refused = begin(&app, &pat, "camp", "real", Some(request));
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let path = format!("/support/requests/{request}/revoke");
        app.post_as(&owner.token, &path, &json!({"reason": "enough"})).await
    };
    let release = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        head.rollback().await.unwrap();
    };
    let (first, refused, revoked, ()) = tokio::join!(first, refused, revoke, release);
    first.expect(201);
    refused.expect_problem(403, "forbidden");
    revoked.expect(200);
}
