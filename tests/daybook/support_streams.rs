//! What support sessions are shown by streams: written down, masked, and cut when the session is over. And the sample
//! tenant's sessions.

use std::time::Duration;

use daybook::sample;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    support::{
        app::{TestApp, eventually, id},
        people::Person,
    },
    support_sessions::{begin, events, start, window},
};

/// A stream of the log from its beginning.
async fn stream(app: &TestApp, token: &str) -> reqwest::Response {
    let request = app.client.get(app.url("/audit/stream?after=0")).bearer_auth(token);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// What a stream says until it falls silent.
async fn said(stream: &mut reqwest::Response) -> String {
    let mut said = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout(Duration::from_millis(700), stream.chunk()).await {
        said.extend_from_slice(&chunk);
    }
    String::from_utf8(said).unwrap()
}

/// Whether a stream ends in time.
async fn ends(mut stream: reqwest::Response, within: Duration) -> bool {
    let end = async { while let Ok(Some(_)) = stream.chunk().await {} };
    timeout(within, end).await.is_ok()
}

async fn viewed(app: &TestApp, owner: &Person, session: uuid::Uuid) -> Vec<Value> {
    let stream = events(app, owner, &format!("support_session:{session}")).await;
    stream.into_iter().filter(|event| event["type"] == "support.viewed").collect()
}

#[tokio::test]
async fn what_a_stream_shows_is_written_down_once_and_masked() {
    let (app, _, owner, sue) = start().await;
    let ada = json!({"name": "Ada", "reason": "Ada Canary called"});
    let made = id(&app.post_as(&owner.token, "/customers", &ada).await.expect(201));
    let began = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let mut watched = stream(&app, &began.text("access_token")).await;
    let text = said(&mut watched).await;
    assert!(text.contains("customer.registered") && text.contains("[personal]"), "{text}");
    assert!(!text.contains("Canary") && !text.contains("127.0.0.1"), "{text}");
    let mut own = stream(&app, &owner.token).await;
    let text = said(&mut own).await;
    assert!(text.contains("Ada Canary called") && text.contains("127.0.0.1"), "{text}");

    // A second session watches as well: neither goes on about the other for ever.
    let second = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let mut other = stream(&app, &second.text("access_token")).await;
    said(&mut other).await;
    said(&mut watched).await;
    let before = app.get_as(&owner.token, "/audit/events?limit=200").await.expect(200).body;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let after = app.get_as(&owner.token, "/audit/events?limit=200").await.expect(200).body;
    assert_eq!(before["items"].as_array().unwrap().len(), after["items"].as_array().unwrap().len());

    let views = viewed(&app, &owner, id(&began)).await;
    assert!(views.iter().all(|view| view["payload"]["route"] == "/api/v1/audit/stream"));
    let about: Vec<&Value> =
        views.iter().flat_map(|view| view["payload"]["resource_ids"].as_array().unwrap()).collect();
    assert!(about.contains(&&json!(made)), "{about:?}");
    app.shut_down().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_session_and_with_the_window() {
    let (app, tenant, owner, sue) = start().await;
    let request = window(&app, &sue, &owner, "camp").await;
    let fresh = async |mode: &str, named| {
        let began = begin(&app, &sue, "camp", mode, named).await.expect(201);
        let mut watched = stream(&app, &began.text("access_token")).await;
        assert!(said(&mut watched).await.contains("support.session_started"));
        (id(&began), watched)
    };
    let second = Duration::from_secs(1);
    // Ended by the house.
    let (session, watched) = fresh("redacted", None).await;
    let path = format!("/support/sessions/{session}");
    app.with_token(&owner.token, Method::DELETE, &path, None).await.expect(204);
    assert!(ends(watched, second).await);
    // Opened at 29:59: its time runs out a moment later, by the clock of the database.
    let (_, watched) = fresh("real", Some(request)).await;
    let soon =
        "UPDATE {s}.support_sessions SET until = now() + interval '500 milliseconds' WHERE ended_at IS NULL";
    app.sql(&tenant.schema(), soon).await;
    assert!(ends(watched, Duration::from_millis(1_500)).await);
    // The window is closed.
    let (_, watched) = fresh("real", Some(request)).await;
    let revoke = format!("/support/requests/{request}/revoke");
    app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
    assert!(ends(watched, second).await);
    // A hijack is cut as well.
    let staff =
        app.person(&tenant, "staff@camp.example", daybook_domain::permission::Tier::TenantStaff).await;
    let grant =
        json!({"grantee_id": staff.id, "permission": "audit:read:tenant", "reason": "x", "minutes": 5});
    app.post_as(&owner.token, "/permission-grants", &grant).await.expect(201);
    let acts = json!({"user_id": staff.id, "reason": "x"});
    let began = app.post_as(&owner.token, "/hijack", &acts).await.expect(201);
    let watched = stream(&app, &began.text("access_token")).await;
    app.post_as(&owner.token, "/hijack/stop", &json!({})).await.expect(200);
    assert!(ends(watched, second).await);
    app.shut_down().await;
}

#[tokio::test]
async fn a_mock_session_is_in_the_sample_tenant() {
    let (app, _, _, sue) = start().await;
    let mock = async |tenant: Option<&str>| {
        let mut body = json!({"mode": "mock", "reason": "trying things"});
        if let Some(tenant) = tenant {
            body["tenant"] = json!(tenant);
        }
        app.post_as(&sue.token, "/support/sessions", &body).await
    };
    let began = mock(None).await.expect(201);
    let token = began.text("access_token");
    let sample = sample::current(app.store.database()).await.unwrap().unwrap();
    assert_eq!(began.body["tenant_id"], json!(sample.0));
    mock(Some("sample")).await.expect(201);
    mock(Some("camp")).await.expect_problem(403, "forbidden");
    // It has something on every screen, in the clear, and things are done in it.
    let customers = app.get_as(&token, "/customers?limit=200").await.expect(200);
    assert!(customers.body["items"].as_array().unwrap().len() > 20);
    assert!(customers.body["items"][0]["email"].as_str().unwrap().ends_with("@example.org"));
    let made = app.post_as(&token, "/customers", &json!({"name": "Tried"})).await.expect(201);
    let path = format!("/audit/events?aggregate=customer:{}", id(&made));
    let events = app.get_as(&token, &path).await.expect(200);
    assert_eq!(events.body["items"][0]["support_mode"], "mock");
    app.post_as(&token, "/users", &json!({"email": "e@e.example", "name": "E", "role": "tenant_owner"}))
        .await
        .expect_problem(403, "forbidden");
    // The night takes it along.
    sample::reset_if_due(&app.store, app.state.directory(), Duration::ZERO).await.unwrap();
    let platform = daybook::tenancy::Schema::platform();
    app.sql(&platform, "UPDATE {s}.sample_tenant SET made_at = now() - interval '2 days'").await;
    let next = sample::reset_if_due(&app.store, app.state.directory(), Duration::ZERO).await.unwrap();
    assert_ne!(next, Some(sample));
    eventually("the session of the day before is over", Duration::from_secs(1), async || {
        app.get_as(&token, "/customers").await.status == 401
    })
    .await;
    let again = mock(Some("sample")).await.expect(201);
    assert_eq!(again.body["tenant_id"], json!(next.unwrap().0));
}
