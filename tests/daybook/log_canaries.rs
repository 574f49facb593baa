//! What people and programs send in confidence is in no log, whatever is done with it and however it fails.

use std::fs;

use daybook::tenancy::Schema;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, read},
    letters::{code, letter, token},
    people::refresh_cookie,
    process::{Host, Server},
};

const WRONG: &str = "canary-wrong-password-1";
const FIRST: &str = "canary-first-password-2";
const SECOND: &str = "canary-second-password-3";
const BOBS: &str = "canary-bobs-password-4";
const OWNERS: &str = "canary-owners-password-5";
const ADA: &str = "canary-ada@example.org";
const BOB: &str = "canary-bob@example.org";

/// A server in a process of its own, and what was told to it in confidence.
struct Confidant {
    host: Host,
    server: Server,
    client: Client,
    canaries: Vec<String>,
    codes: Vec<String>,
    letters: usize,
}

impl Confidant {
    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1{path}", self.server.address);
        self.client.request(method, url).header("X-Tenant-Slug", "camp")
    }

    async fn post(&self, path: &str, bearer: Option<&str>, body: Value) -> Answer {
        let request = self.call(Method::POST, path).json(&body);
        read(match bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// The next letter.
    async fn letter(&mut self) -> String {
        let letter = letter(&self.host.data.join("mail"), self.letters).await;
        self.letters += 1;
        letter
    }

    /// The token of the next letter; it is another canary, and so is its signature.
    async fn link(&mut self) -> String {
        let token = token(&self.letter().await);
        self.keep(&token);
        token
    }

    /// A token of several parts: none of its secret ones may be seen.
    fn keep(&mut self, token: &str) {
        let secret = token.rsplit('.').next().unwrap().to_owned();
        self.canaries.extend([token.to_owned(), secret]);
    }

    async fn sign_in(&mut self, email: &str, password: &str) -> String {
        let body = json!({"email": email, "password": password});
        let answer = self.post("/auth/login", None, body).await.expect(200);
        self.keep(&answer.text("access_token"));
        self.keep(&refresh_cookie(&answer).unwrap());
        answer.text("access_token")
    }

    async fn accounts(&mut self) -> String {
        self.post("/auth/login", None, json!({"email": ADA, "password": WRONG})).await.expect(401);
        self.post("/auth/password/reset", None, json!({"email": ADA})).await.expect(202);
        let link = self.link().await;
        let confirm = |token: &str| json!({"token": token, "new_password": FIRST});
        self.post("/auth/password/reset/confirm", None, confirm(&format!("{link}canary-tail")))
            .await
            .expect(422);
        self.post("/auth/password/reset/confirm", None, confirm(&link)).await.expect(204);
        self.letter().await;
        let ada = self.sign_in(ADA, FIRST).await;

        self.post("/auth/otp", None, json!({"email": ADA})).await.expect(202);
        let right = code(&self.letter().await);
        let wrong = if right == "918273" { "918274" } else { "918273" };
        self.codes.extend([right.clone(), wrong.to_owned()]);
        let confirm = |code: &str| json!({"email": ADA, "code": code, "new_password": SECOND});
        self.post("/auth/otp/confirm", None, confirm(wrong)).await.expect(422);
        self.post("/auth/otp/confirm", None, confirm(&right)).await.expect(204);
        self.letter().await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        self.post("/roles", Some(&ada), json!({"name": "x", "permissions": []})).await.expect(401);
        let ada = self.sign_in(ADA, SECOND).await;

        let bob = json!({"email": BOB, "name": "Canary Invited", "role": "tenant_staff", "reason": "canary-reason"});
        self.post("/invitations", Some(&ada), bob).await.expect(201);
        let link = self.link().await;
        let accept = json!({"token": link, "password": BOBS, "name": "Canary Accepted"});
        self.post("/invitations/accept", None, accept).await.expect(204);
        self.sign_in(BOB, BOBS).await;

        let sign_up = json!({"tenant_name": "Canary House", "slug": "river", "email": "canary-owner@example.net", "password": OWNERS});
        self.post("/signup", None, sign_up).await.expect(202);
        let link = self.link().await;
        self.post("/signup/confirm", None, json!({"token": link})).await.expect(201);
        ada
    }

    async fn programs(&mut self, ada: &str) {
        let key =
            json!({"name": "Canary Site", "permissions": ["bookings:read:tenant", "customers:read:tenant"]});
        let key = self.post("/api-keys", Some(ada), key).await.expect(201).text("key");
        self.canaries.push(key[11..].to_owned());
        read(self.call(Method::GET, "/bookings").bearer_auth(&key)).await.expect(200);
        read(self.call(Method::GET, "/bookings").bearer_auth(format!("{key}canary-tail"))).await.expect(401);
        let secret = json!({"value": "canary-secret-value"});
        read(self.call(Method::PUT, "/secrets/stripe_key").bearer_auth(ada).json(&secret)).await.expect(204);
        for path in [
            "/bookings?status=canary-query",
            "/customers?name=canary-query",
            "/customers?cursor=canary-query",
        ] {
            let answer = read(self.call(Method::GET, path).bearer_auth(&key)).await;
            assert!([400, 422].contains(&answer.status.as_u16()), "{path}: {}", answer.body);
        }
        read(self.call(Method::GET, "/canary-path?q=canary-query")).await.expect(404);
        read(self.call(Method::GET, "/bookings/canary-path").bearer_auth(&key)).await;
        read(self.call(Method::GET, "/bookings").header("Authorization", "Basic canary-basic"))
            .await
            .expect(401);
        let malformed = "{\"name\": \"canary-malformed\", ";
        let request = self.call(Method::POST, "/customers").bearer_auth(ada).body(malformed);
        read(request.header("Content-Type", "application/json")).await.expect(400);
    }

    async fn guests(&mut self, ada: &str) {
        let resource =
            self.post("/resources", Some(ada), json!({"name": "Cabin", "kind": "unit"})).await.expect(201);
        let offering = json!({
            "name": "Stay", "mode": "nights", "resource_ids": [resource.text("id")], "price_per": "night",
            "price": {"amount": 5_000, "currency": "EUR"},
        });
        let offering = self.post("/offerings", Some(ada), offering).await.expect(201).text("id");
        let stay = |day: u32, notes: &str| {
            json!({
                "offering_id": offering, "check_in": format!("2031-05-{day}"), "check_out": format!("2031-05-{}", day + 1),
                "notes": notes,
                "customer": {"name": "Canary Guest", "email": "canary-guest@example.com", "phone": "+32 470 12 34 56"},
            })
        };
        self.post("/bookings", Some(ada), stay(10, "canary-notes")).await.expect(201);
        self.post("/bookings", Some(ada), stay(10, "canary-notes")).await.expect(409);
        self.post("/bookings", Some(ada), stay(20, &"canary-notes ".repeat(1_000))).await.expect(422);
        let booked = self.post("/public/bookings", None, stay(15, "canary-notes")).await.expect(201);
        self.post("/public/bookings", None, stay(15, "canary-notes")).await.expect(409);
        let link = booked.text("guest_token");
        self.keep(&link);
        let path = format!("/public/bookings/{}", booked.text("id"));
        read(self.call(Method::GET, &format!("{path}?token={link}"))).await.expect(200);
        read(self.call(Method::GET, &format!("{path}?token={link}canary-tail"))).await.expect(401);
        let cancel = self.call(Method::POST, &format!("{path}/cancel")).header("X-Guest-Token", link);
        read(cancel.json(&json!({"reason": "canary-reason"}))).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_tells_what_was_sent_in_confidence() {
    let app = TestApp::start().await;
    let host = Host::on(&app.db).logging("debug");
    let made = host.json(&["tenant", "create", "camp", "--name", "Camp", "--json"]);
    let operators = made["token"].as_str().unwrap()[11..].to_owned();
    let ada = host.json(&["user", "create", ADA, "--tenant", "camp", "--role", "tenant_owner", "--json"]);
    let server = host.serve();
    let canaries = vec![operators, ada["password"].as_str().unwrap().to_owned(), "470 12 34".to_owned()];
    let mut it = Confidant { host, server, client: Client::new(), canaries, codes: Vec::new(), letters: 0 };
    let ada = it.accounts().await;
    it.programs(&ada).await;
    it.guests(&ada).await;
    // PostgreSQL says which row it refuses, with all that is in it.
    let schema = Schema::tenant(made["tenant_id"].as_str().unwrap().parse().unwrap());
    for table in ["customers", "users"] {
        let refuse = schema.sql(&format!("ALTER TABLE {{s}}.{table} ADD CHECK (false) NOT VALID"));
        sqlx::raw_sql(&refuse).execute(app.store.database().owner()).await.unwrap();
    }
    let customer = json!({"name": "Canary Refused", "email": "canary-refused@example.org"});
    let refused = it.post("/customers", Some(&ada), customer).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body["code"]),
        (500, &json!("internal")),
        "{}",
        refused.body
    );
    let user = json!({"email": "canary-refused@example.org", "name": "Canary Refused", "role": "tenant_staff", "password": OWNERS});
    let refused = it.post("/users", Some(&ada), user).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.body["code"]),
        (500, &json!("internal")),
        "{}",
        refused.body
    );

    let Confidant { host, server, canaries, codes, .. } = it;
    server.terminate();
    let security = fs::read_to_string(host.data.join("logs/security.log")).unwrap();
    let logs = format!("{}{}{security}", host.log(), host.printed());
    for expected in
        ["answered", "/api/v1/auth/login", "violates check constraint", "login_failed", "password_changed"]
    {
        assert!(
            logs.contains(expected),
            "{expected} is not in the logs, so that they prove nothing:\n{logs}"
        );
    }
    let told = |what: &str| logs.lines().find(|line| line.to_lowercase().contains(&what.to_lowercase()));
    // Names, addresses, passwords, reasons and queries: all begin alike.
    for canary in canaries.iter().map(String::as_str).chain(["canary", "%40example"]) {
        assert!(told(canary).is_none(), "{canary} is told: {}", told(canary).unwrap());
    }
    for code in codes {
        // Six digits may be a part of a number, such as a fraction of a second.
        let words = logs.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        assert!(words.into_iter().all(|word| word != code), "the code {code} is told");
    }
    app.shut_down().await;
}
