//! `daybook keys …` on a database with data in it, beside a running server.

use std::{collections::HashMap, fs};

use base64::Engine as _;
use chrono::DateTime;
use daybook::{
    auth::sealed,
    keys::{Keys, Purpose},
    tenancy::Schema,
};
use daybook_domain::TenantId;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    app::{TestApp, read},
    people::refresh_cookie,
    process::Host,
};

/// With which master key the keys of a tenant's subjects are wrapped.
async fn wrapped_with(owner: &PgPool, schema: &Schema) -> Vec<String> {
    let wrapped: Vec<(Vec<u8>,)> =
        sqlx::query_as(&schema.sql("SELECT wrapped_key FROM {s}.subject_keys WHERE wrapped_key IS NOT NULL"))
            .fetch_all(owner)
            .await
            .unwrap();
    wrapped.iter().map(|(wrapped,)| Keys::wrapped_with(wrapped).unwrap()).collect()
}

fn live(status: &Value, list: &str) -> Vec<String> {
    let keys = status["lists"][list].as_array().unwrap();
    keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_seals_everything_anew_beside_a_running_server() {
    let app = TestApp::start().await;
    let owner = app.store.database().owner();
    let host = Host::on(&app.db);
    let path = host.directory().join("data/keys.toml");
    host.run(&["keys", "generate"]);
    let made = host.json(&["tenant", "create", "camp", "--name", "Camp", "--json"]);
    let tenant = TenantId(made["tenant_id"].as_str().unwrap().parse().unwrap());
    let schema = Schema::tenant(tenant);
    let server = host.serve();
    let client = reqwest::Client::new();
    let customers = format!("{}/api/v1/customers", server.address);
    let token = made["token"].as_str().unwrap();
    let create = async |name: &str| {
        let answer =
            client.post(&customers).bearer_auth(token).json(&json!({ "name": name })).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    };
    let list = async || client.get(&customers).bearer_auth(token).send().await.unwrap().text().await.unwrap();
    create("Ada").await;
    create("Grace").await;

    // One key was destroyed.
    let before = Keys::load(&path).unwrap();
    sqlx::raw_sql(
        &schema
            .sql("INSERT INTO {s}.subject_keys (subject_id, destroyed_at) VALUES (gen_random_uuid(), now())"),
    )
    .execute(owner)
    .await
    .unwrap();
    let (names, tokens): (Vec<_>, Vec<_>) = (0..450)
        .map(|n| {
            let name = format!("secret {n}");
            let token = sealed::seal(&before, Some(tenant), &name, name.as_bytes()).unwrap();
            (name, token)
        })
        .unzip();
    sqlx::query(
        &schema
            .sql("INSERT INTO {s}.secrets (name, ciphertext) SELECT * FROM UNNEST($1::text[], $2::text[])"),
    )
    .bind(names)
    .bind(tokens)
    .execute(owner)
    .await
    .unwrap();
    // A letter that is not due yet.
    sqlx::query(&schema.sql(
        "INSERT INTO {s}.messages (id, kind, recipient, subject, sealed_body, next_attempt_at)
         VALUES (gen_random_uuid(), 'invitation', 'ada@example.org', 'Hello', $1, now() + interval '1 day')",
    ))
    .bind(sealed::seal(&before, Some(tenant), "body", b"hello").unwrap())
    .execute(owner)
    .await
    .unwrap();
    let status = host.json(&["keys", "status", "--json"]);

    let rotated = host.json(&["keys", "rotate", "--json"]);
    assert_eq!(rotated["resumed"], false);
    assert_eq!(rotated["resealed"]["values"], 451);
    assert_eq!(rotated["resealed"]["subject_keys"], 2);
    let after = Keys::load(&path).unwrap();
    let now = host.json(&["keys", "status", "--json"]);
    assert_eq!(now["rotation_unfinished"], false);
    for (list, count) in
        [("master_keys", 1), ("fernet_keys", 1), ("jwt_keys", 2), ("link_keys", 2), ("ledger_keys", 2)]
    {
        assert_eq!(live(&now, list).len(), count, "{list}");
        assert_ne!(live(&now, list)[0], live(&status, list)[0], "{list}");
    }
    assert_eq!(live(&now, "jwt_keys")[1], live(&status, "jwt_keys")[0]);
    assert!(wrapped_with(owner, &schema).await.iter().all(|id| *id == live(&now, "master_keys")[0]));
    let secrets: Vec<(String, Option<String>)> =
        sqlx::query_as(&schema.sql("SELECT name, ciphertext FROM {s}.secrets"))
            .fetch_all(owner)
            .await
            .unwrap();
    assert_eq!(secrets.len(), 450);
    for (name, token) in secrets.iter().filter_map(|(name, token)| Some((name, token.as_ref()?))) {
        assert_eq!(sealed::open(&after, Some(tenant), name, token).unwrap().as_slice(), name.as_bytes());
        assert!(sealed::open(&before, Some(tenant), name, token).is_err(), "the old file opens nothing");
    }
    // The server has neither been restarted nor seen anything fail.
    create("Edsger").await;
    let listed = list().await;
    assert!(["Ada", "Grace", "Edsger"].iter().all(|name| listed.contains(name)), "{listed}");
    assert!(wrapped_with(owner, &schema).await.iter().all(|id| *id == live(&now, "master_keys")[0]));

    // A rotation that was interrupted after its file was written is finished, not begun again.
    after.rotate(DateTime::UNIX_EPOCH).unwrap();
    after.save().unwrap();
    let unfinished = host.json(&["keys", "status", "--json"]);
    assert_eq!(unfinished["rotation_unfinished"], true);
    let finished = host.json(&["keys", "rotate", "--json"]);
    assert_eq!(finished["resumed"], true);
    assert_eq!(finished["resealed"]["subject_keys"], 3);
    let now = host.json(&["keys", "status", "--json"]);
    assert_eq!(live(&now, "master_keys"), live(&unfinished, "master_keys")[..1]);

    // No secret is shown, and what is there is not overwritten.
    let text = fs::read_to_string(&path).unwrap();
    let shown = host.run(&["keys", "status"]) + &now.to_string();
    let secrets: HashMap<_, _> = text.lines().filter_map(|line| line.split_once(" = ")).collect();
    assert!(!shown.contains(secrets["key"].trim_matches('"')), "{shown}");
    assert_eq!(shown.matches(&after.current().ring(Purpose::Jwt).newest().id()).count(), 2);
    assert_eq!(host.output(&["keys", "generate"]).status.code(), Some(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    for command in ["generate", "rotate", "status"] {
        assert!(host.run(&["keys", command, "--help"]).contains("Example"), "{command}");
    }

    // What no key opens keeps the retired keys, and says so.
    sqlx::query(&schema.sql("UPDATE {s}.messages SET sealed_body = 'not sealed'"))
        .execute(owner)
        .await
        .unwrap();
    let refused = host.output(&["keys", "rotate"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1 sealed values"), "{refused:?}");
    assert_eq!(live(&host.json(&["keys", "status", "--json"]), "master_keys").len(), 2);
    sqlx::query(&schema.sql("DELETE FROM {s}.messages")).execute(owner).await.unwrap();
    assert_eq!(host.json(&["keys", "rotate", "--json"])["resumed"], true);

    server.terminate();
    app.shut_down().await;
}

/// Whoever was signed in before a rotation is signed in after it, with the tokens of before.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_a_rotation_beside_a_running_server() {
    let app = TestApp::start().await;
    let host = Host::on(&app.db);
    host.run(&["tenant", "create", "camp", "--name", "Camp"]);
    let account =
        ["user", "create", "ada@example.org", "--tenant", "camp", "--role", "tenant_owner", "--json"];
    let password = host.json(&account)["password"].as_str().unwrap().to_owned();
    let server = host.serve();
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}/api/v1{path}", server.address);
    let me = async |token: &str| read(client.get(url("/me")).bearer_auth(token)).await;
    let login = async || {
        let body = json!({"email": "ada@example.org", "password": password});
        read(client.post(url("/auth/login")).header("X-Tenant-Slug", "camp").json(&body)).await.expect(200)
    };
    let refresh = async |cookie: &str| {
        let request = client
            .post(url("/auth/refresh"))
            .header("Content-Type", "application/json")
            .header("Cookie", format!("__Host-daybook_refresh={cookie}"));
        read(request).await
    };
    // The key a token was signed with, as its head says.
    let kid = |token: &str| -> Value {
        let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap());
        serde_json::from_slice::<Value>(&head.unwrap()).unwrap()["kid"].take()
    };
    let before = login().await;
    let (access, cookie) = (before.text("access_token"), refresh_cookie(&before).unwrap());
    me(&access).await.expect(200);

    host.run(&["keys", "rotate"]);
    let status = host.json(&["keys", "status", "--json"]);
    assert_eq!(
        kid(&access),
        live(&status, "jwt_keys")[1].as_str(),
        "the key of before is the older one by now"
    );
    me(&access).await.expect(200);
    let next = refresh(&cookie).await.expect(200);
    assert_eq!(kid(&next.text("access_token")), live(&status, "jwt_keys")[0].as_str());
    me(&next.text("access_token")).await.expect(200);
    me(&access).await.expect(200);
    let next = refresh(&refresh_cookie(&next).unwrap()).await.expect(200);
    me(&next.text("access_token")).await.expect(200);
    // The password still opens the account: its hash does not depend on the keys.
    me(&login().await.text("access_token")).await.expect(200);
    server.terminate();
    app.shut_down().await;
}
