//! Every write of the API, as its own description tells of them, in a redacted session: none has any effect, by its own
//! method or another's, with a header that says it means another, or on a path that is spelt otherwise.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    canaries::World,
    support::app::{id, read},
};

/// What makes some servers take one method for another.
const OVERRIDES: [&str; 3] = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "post"];

/// How many events of each type there are in a log, but for what is written down of a session itself.
async fn written(world: &World, schema: &daybook::tenancy::Schema) -> BTreeMap<String, i64> {
    let sql = schema.sql("SELECT event_type, count(*) FROM {s}.events GROUP BY event_type");
    let owner = world.app.store.database().owner();
    let counts: Vec<(String, i64)> = sqlx::query_as(&sql).fetch_all(owner).await.unwrap();
    let of_session = ["support.viewed", "support.action_refused", "hijack.refused"];
    counts.into_iter().filter(|(kind, _)| !of_session.contains(&kind.as_str())).collect()
}

/// A body that a route would take, by its description: with what it requires, and some more.
fn body(document: &Value, operation: &Value) -> Value {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    value(document, schema, 0)
}

fn value(document: &Value, schema: &Value, depth: u32) -> Value {
    if depth > 6 {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        return value(document, document.pointer(pointer).unwrap_or(&Value::Null), depth + 1);
    }
    for name in ["oneOf", "anyOf", "allOf"] {
        if let Some(options) = schema[name].as_array() {
            let option = options.iter().find(|option| option["type"] != "null").unwrap_or(&Value::Null);
            return value(document, option, depth + 1);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str),
        kind => kind.as_str(),
    };
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match kind {
        Some("object") => {
            let members = schema["properties"].as_object().into_iter().flatten();
            members.map(|(name, member)| (name.clone(), value(document, member, depth + 1))).collect()
        }
        Some("array") => json!([value(document, &schema["items"], depth + 1)]),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some(_) => match schema["format"].as_str() {
            Some("uuid") => json!("01a1fdc1-c481-719a-9803-a3bb46f22c94"),
            Some("date") => json!("2031-06-01"),
            Some("date-time") => json!("2031-06-01T10:00:00Z"),
            _ => json!("a name"),
        },
        None => Value::Null,
    }
}

/// Something to write to in each collection, as its list tells.
async fn ids(world: &World, document: &Value) -> BTreeMap<String, String> {
    let mut ids = BTreeMap::new();
    for (route, operations) in document["paths"].as_object().unwrap() {
        if operations.get("get").is_none() || route.contains('{') || route.ends_with("/stream") {
            continue;
        }
        let list = world.app.client.get(format!("http://{}{route}", world.app.address));
        let list = read(list.bearer_auth(&world.owner.token)).await;
        if let Some(id) = list.body["items"][0]["id"].as_str() {
            ids.insert(route.clone(), id.to_owned());
        }
    }
    // Of the sessions the newest is the one in use, which may be left.
    ids.remove("/api/v1/support/sessions");
    assert!(ids.len() > 10, "{ids:?}");
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_has_any_effect_in_a_redacted_session() {
    let world = World::open().await;
    let start = json!({"tenant": world.tenant.slug, "mode": "redacted", "reason": "ticket 7"});
    let began = world.app.post_as(&world.support.token, "/support/sessions", &start).await.expect(201);
    let (session, token) = (id(&began), began.text("access_token"));
    let document = format!("http://{}/api/schema/", world.app.address);
    let document = read(world.app.client.get(document)).await.expect(200).body;
    let ids = ids(&world, &document).await;

    let (tenant, platform) = (world.tenant.schema(), daybook::tenancy::Schema::platform());
    let before = (written(&world, &tenant).await, written(&world, &platform).await);
    let mut asked = 0;
    for (route, operations) in document["paths"].as_object().unwrap() {
        let collection = route.split("/{").next().unwrap();
        let known = ids.get(collection).cloned().unwrap_or_else(|| uuid::Uuid::nil().to_string());
        let path = route.replace("{id}", &known).replace("{name}", "stripe_key").replace("{type}", "booking");
        if path.contains('{') {
            continue;
        }
        for (method, operation) in operations.as_object().unwrap() {
            // What is open to everybody is open to whoever has a token as well: it is no write of the session's.
            let public =
                operation["security"].as_array().is_some_and(|s| s.contains(&json!({})) || s.is_empty());
            if method == "get" || public {
                continue;
            }
            let body = body(&document, operation);
            let leaves = matches!(route.as_str(), "/api/v1/hijack/stop" | "/api/v1/hijack")
                || (route.starts_with("/api/v1/support/sessions/") && method == "delete");
            let upper = method.to_uppercase();
            let spellings =
                [path.clone(), format!("{path}/"), path.to_uppercase(), path.replace("/v1/", "/v1//")];
            for (spelt, spelling) in spellings.iter().enumerate() {
                for sent in METHODS {
                    let plain = sent == upper && spelt == 0;
                    let url = format!("http://{}{spelling}?_method={upper}", world.app.address);
                    let sent = Method::from_bytes(sent.as_bytes()).unwrap();
                    let mut request = world.app.client.request(sent, url).bearer_auth(&token);
                    request = request.header("If-Match", "*").header("Content-Type", "application/json");
                    if !plain {
                        request =
                            OVERRIDES.iter().fold(request, |request, name| request.header(*name, &upper));
                    }
                    let response = request.body(body.to_string()).send().await.unwrap();
                    let status = response.status().as_u16();
                    asked += 1;
                    assert!(status < 500, "{upper} {spelling}: {status}");
                    if plain && !leaves {
                        let answer: Value = response.json().await.unwrap();
                        let code = answer["code"].as_str().unwrap();
                        assert_eq!((status, code), (403, "support_read_only"), "{upper} {route}: {answer}");
                    }
                }
            }
        }
    }
    println!("{asked} questions");
    assert!(asked > 1_000);
    let after = (written(&world, &tenant).await, written(&world, &platform).await);
    assert_eq!(before, after);
    // The session is still there: it was nothing that had ended which changed nothing.
    world.app.get_as(&token, "/customers").await.expect(200);
    let still = world.app.get_as(&world.owner.token, &format!("/support/sessions/{session}")).await;
    assert_eq!(still.expect(200).body["state"], "open");
    world.app.shut_down().await;
}
