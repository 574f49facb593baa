//! What ends live tokens, or what they may do: within a second, on every node.

use std::time::Duration;

use daybook_domain::permission::Tier;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant},
    people::{PASSWORD, Person, generous},
};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";

/// Two nodes, and a tenant whose owners are Ada and Bob.
struct Two {
    app: TestApp,
    node: TestApp,
    tenant: TestTenant,
    ada: Person,
    bob: Person,
}

impl Two {
    async fn start() -> Self {
        let app = TestApp::start_with(generous()).await;
        let node = app.second_node().await;
        let tenant = app.business("camp").await;
        let ada = app.person(&tenant, ADA, Tier::TenantOwner).await;
        let bob = app.person(&tenant, BOB, Tier::TenantOwner).await;
        Self { app, node, tenant, ada, bob }
    }

    /// What both nodes answer to a token.
    async fn ask(&self, token: &str, path: &str) -> [u16; 2] {
        let asked = [self.app.get_as(token, path).await, self.node.get_as(token, path).await];
        asked.map(|answer| answer.status.as_u16())
    }

    /// A change by Ada, while both nodes have just answered to a token and remember it; then a second passes.
    async fn change(
        &self,
        token: &str,
        path: &str,
        method: Method,
        at: &str,
        body: Option<&Value>,
    ) -> Answer {
        assert_eq!(self.ask(token, path).await, [200; 2]);
        let request = self.app.client.request(method, self.app.url(at)).bearer_auth(&self.ada.token);
        let request = request.header("If-Match", "*");
        let request = if let Some(body) = body { request.json(body) } else { request };
        let answer = crate::support::app::read(request).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        answer
    }

    /// Neither token of somebody does anything, on either node.
    async fn is_nobody(&self, person: &Person) {
        for path in ["/me", "/auth/sessions", "/bookings"] {
            assert_eq!(self.ask(&person.token, path).await, [401; 2], "{path}");
        }
        for node in [&self.node, &self.app] {
            node.refresh(&person.refresh).await.expect_problem(401, "unauthenticated");
        }
    }

    async fn shut_down(self) {
        self.node.shut_down().await;
        self.app.shut_down().await;
    }
}

#[tokio::test]
async fn a_deactivated_account_is_nobody_until_it_signs_in_anew() {
    let two = Two::start().await;
    let path = format!("/users/{}", two.bob.id);
    let off = two.change(&two.bob.token, "/me", Method::POST, &format!("{path}/deactivate"), None).await;
    assert_eq!(off.expect(200).body["status"], "deactivated");
    two.is_nobody(&two.bob).await;
    two.app.login(Some(&two.tenant), BOB, PASSWORD).await.expect_problem(401, "unauthenticated");
    assert_eq!(two.ask(&two.ada.token, "/me").await, [200; 2]);

    // Activated again, it signs in with the password it had; what was ended stays ended.
    let on = two.app.post_as(&two.ada.token, &format!("{path}/activate"), &json!({})).await.expect(200);
    assert_eq!(on.body["status"], "active");
    let bob = two.app.sign_in(Some(&two.tenant), BOB).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    two.is_nobody(&two.bob).await;
    assert_eq!(two.ask(&bob.token, "/audit/events").await, [200; 2]);
    two.node.refresh(&bob.refresh).await.expect(200);
    two.shut_down().await;
}

#[tokio::test]
async fn a_deleted_account_is_nobody() {
    let two = Two::start().await;
    let path = format!("/users/{}", two.bob.id);
    two.change(&two.bob.token, "/me", Method::DELETE, &path, None).await.expect(204);
    two.is_nobody(&two.bob).await;
    two.app.login(Some(&two.tenant), BOB, PASSWORD).await.expect_problem(401, "unauthenticated");
    let activate = two.app.post_as(&two.ada.token, &format!("{path}/activate"), &json!({})).await;
    activate.expect_problem(404, "not_found");
    // And by oneself.
    let eve = two.app.person(&two.tenant, "eve@example.org", Tier::TenantStaff).await;
    assert_eq!(two.ask(&eve.token, "/me").await, [200; 2]);
    let body = json!({"password": PASSWORD});
    let gone = two.app.with_token(&eve.token, Method::DELETE, "/me", Some(&body)).await.expect(204);
    assert!(gone.header("set-cookie").unwrap().contains("Max-Age=0"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    two.is_nobody(&eve).await;
    two.shut_down().await;
}

#[tokio::test]
async fn a_demoted_owner_may_do_what_staff_may() {
    let two = Two::start().await;
    let path = format!("/users/{}/role", two.bob.id);
    let staff = json!({"role": "tenant_staff"});
    two.change(&two.bob.token, "/audit/events", Method::POST, &path, Some(&staff)).await.expect(200);
    assert_eq!(two.ask(&two.bob.token, "/audit/events").await, [403; 2]);
    assert_eq!(two.ask(&two.bob.token, "/users").await, [403; 2]);
    // The token says `tenant_owner` still; it is Bob's, who is staff.
    assert_eq!(two.ask(&two.bob.token, "/me").await, [200; 2]);
    let new = json!({"email": "eve@example.org", "name": "Eve", "role": "tenant_owner", "password": "mountain-lake-nine"});
    for node in [&two.app, &two.node] {
        assert_eq!(node.get_as(&two.bob.token, "/me").await.body["role"], "tenant_staff");
        node.post_as(&two.bob.token, "/users", &new).await.expect_problem(403, "forbidden");
        node.post_as(&two.bob.token, &path, &json!({"role": "tenant_owner"}))
            .await
            .expect_problem(403, "forbidden");
    }
    let next = two.node.refresh(&two.bob.refresh).await.expect(200);
    assert_eq!(next.body["user"]["role"], "tenant_staff");
    assert_eq!(two.ask(&next.text("access_token"), "/audit/events").await, [403; 2]);
    two.shut_down().await;
}

/// The sessions of somebody, newest first: their ids, and which asks.
async fn sessions(app: &TestApp, token: &str) -> Vec<(Uuid, bool)> {
    let answer = app.get_as(token, "/auth/sessions").await.expect(200);
    let items = answer.body["items"].as_array().unwrap().iter();
    items.map(|item| (item["id"].as_str().unwrap().parse().unwrap(), item["current"] == true)).collect()
}

#[tokio::test]
async fn one_ends_ones_own_sessions_and_nobody_elses() {
    let two = Two::start().await;
    let other = two.app.sign_in(Some(&two.tenant), ADA).await;
    let end = async |by: &Person, session: Uuid| {
        let path = format!("/auth/sessions/{session}");
        two.app.with_token(&by.token, Method::DELETE, &path, None).await
    };
    let mine = sessions(&two.app, &two.ada.token).await;
    assert_eq!(mine.iter().map(|(_, current)| *current).collect::<Vec<_>>(), [false, true]);
    let bobs = sessions(&two.app, &two.bob.token).await[0].0;

    // Somebody else's is not there, for an owner neither, and for nobody.
    end(&two.ada, bobs).await.expect_problem(404, "not_found");
    end(&two.bob, mine[0].0).await.expect_problem(404, "not_found");
    end(&two.ada, Uuid::now_v7()).await.expect_problem(404, "not_found");
    two.app
        .with_token("", Method::DELETE, &format!("/auth/sessions/{bobs}"), None)
        .await
        .expect_problem(401, "unauthenticated");
    // In another tenant one has none of these ids.
    let hotel = two.app.tenant("hotel").await;
    let twin = two.app.person(&hotel, ADA, Tier::TenantOwner).await;
    end(&twin, mine[0].0).await.expect_problem(404, "not_found");
    tokio::time::sleep(Duration::from_secs(1)).await;
    for person in [&two.ada, &other, &two.bob] {
        assert_eq!(two.ask(&person.token, "/me").await, [200; 2]);
    }

    // Another of one's own.
    let path = format!("/auth/sessions/{}", mine[0].0);
    two.change(&other.token, "/me", Method::DELETE, &path, None).await.expect(204);
    two.is_nobody(&other).await;
    assert_eq!(sessions(&two.node, &two.ada.token).await, [mine[1]]);
    end(&two.ada, mine[0].0).await.expect_problem(404, "not_found");

    // The one that asks.
    let path = format!("/auth/sessions/{}", mine[1].0);
    two.change(&two.ada.token, "/me", Method::DELETE, &path, None).await.expect(204);
    two.is_nobody(&two.ada).await;
    assert_eq!(two.ask(&two.bob.token, "/me").await, [200; 2]);
    let ended = two.app.get(&two.tenant, "/audit/events?type=user.session_ended").await.expect(200);
    let whys = ended.body["items"].as_array().unwrap().iter().map(|event| event["payload"]["why"].clone());
    assert_eq!(whys.collect::<Vec<_>>(), ["revoked", "revoked"]);
    two.shut_down().await;
}

#[tokio::test]
async fn what_ends_sessions_ends_them_on_every_node() {
    let two = Two::start().await;
    // A new password ends the other ones.
    let other = two.app.sign_in(Some(&two.tenant), ADA).await;
    let change = json!({"current_password": PASSWORD, "new_password": "mountain-lake-nine"});
    two.change(&other.token, "/me", Method::POST, "/auth/password/change", Some(&change)).await.expect(204);
    two.is_nobody(&other).await;
    assert_eq!(two.ask(&two.ada.token, "/me").await, [200; 2]);
    // Signing out with the access token alone ends its session.
    two.change(&two.ada.token, "/me", Method::POST, "/auth/logout", None).await.expect(204);
    two.is_nobody(&two.ada).await;
    assert_eq!(two.ask(&two.bob.token, "/me").await, [200; 2]);
    two.shut_down().await;
}
