//! Access tokens that the server did not issue, and for how long those it did issue are good.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use chrono::{DateTime, TimeDelta, Utc};
use daybook::{
    config::SettingsPatch,
    keys::{Keys, Purpose, PurposeKey},
};
use daybook_domain::permission::Tier;
use hmac::{Hmac, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, read},
    people::{PASSWORD, Person, generous, refresh_cookie},
};

const PAGE: &str = "https://app.example.com";

async fn start() -> TestApp {
    let cors_origins = Some(PAGE.parse().unwrap());
    TestApp::start_with(SettingsPatch { cors_origins, ..generous() }).await
}

/// The key that signs access tokens.
fn signing_key(keys: &Keys) -> PurposeKey {
    keys.purpose_keys(Purpose::Jwt, "access-token").remove(0)
}

/// A token of this header and these claims with the HMAC that an algorithm of that name asks for.
fn jwt(key: &PurposeKey, header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
    let tag = if header["alg"] == "HS512" {
        let mut mac = Hmac::<Sha512>::new_from_slice(key.key.as_slice()).unwrap();
        mac.update(signed.as_bytes());
        mac.finalize().into_bytes().to_vec()
    } else {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.key.as_slice()).unwrap();
        mac.update(signed.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    format!("{signed}.{}", B64.encode(tag))
}

/// A copy with a member set, or without it.
fn with(object: &Value, member: &str, value: Option<Value>) -> Value {
    let mut changed = object.clone();
    match value {
        Some(value) => changed[member] = value,
        None => drop(changed.as_object_mut().unwrap().remove(member)),
    }
    changed
}

/// The session of a token.
async fn session(app: &TestApp, person: &Person) -> Value {
    app.get_as(&person.token, "/auth/sessions").await.expect(200).body["items"][0].clone()
}

#[tokio::test]
async fn a_forged_access_token_is_nobodys() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let key = signing_key(&app.keys);
    let now = daybook::clock::now().timestamp();
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": key.id});
    let claims = json!({
        "iss": "daybook", "aud": "daybook-api", "iat": now - 60, "nbf": now - 60, "exp": now + 600,
        "jti": Uuid::now_v7(), "sub": ada.id, "sid": session(&app, &ada).await["id"], "tenant_id": tenant.id.0,
        "role": "tenant_owner",
    });
    let mut forged: Vec<(String, String)> = Vec::new();

    for (member, value) in [
        ("alg", Some(json!("none"))),
        ("alg", Some(json!("None"))),
        ("alg", Some(json!("RS256"))),
        ("alg", Some(json!("ES256"))),
        ("alg", Some(json!("HS512"))),
        ("alg", None),
        ("kid", Some(json!("0000000000000000"))),
        ("kid", Some(json!(""))),
        ("kid", None),
        ("typ", Some(json!("JWT"))),
        ("typ", Some(json!("rt+jwt"))),
        ("typ", None),
    ] {
        let header = with(&header, member, value);
        forged.push((header.to_string(), jwt(&key, &header, &claims)));
    }
    let unsigned = with(&header, "alg", Some(json!("none")));
    for header in [&unsigned, &header] {
        let unsigned = format!("{}.{}.", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        forged.push((format!("{header} and no signature"), unsigned.clone()));
        forged.push((format!("{header} and two parts"), unsigned.trim_end_matches('.').to_owned()));
    }

    // Of another server under the id of this one's key; of this one's keys, one that is for something else.
    let elsewhere = Keys::generate("keys.toml".as_ref(), DateTime::<Utc>::UNIX_EPOCH).unwrap();
    for (what, other) in [
        ("another server's key", signing_key(&elsewhere)),
        ("a key of links", app.keys.purpose_keys(Purpose::Link, "link/password-reset").remove(0)),
        ("another use of the key", app.keys.purpose_keys(Purpose::Jwt, "refresh-token").remove(0)),
    ] {
        forged.push((what.into(), jwt(&other, &header, &claims)));
        let named = with(&header, "kid", Some(json!(other.id)));
        forged.push((format!("{what}, by its id"), jwt(&other, &named, &claims)));
    }

    for (member, value) in [
        ("iss", None),
        ("iss", Some(json!("another"))),
        ("aud", None),
        ("aud", Some(json!("another"))),
        ("aud", Some(json!(["daybook-api", "another"]))),
        ("exp", None),
        ("exp", Some(json!(now - 1))),
        ("exp", Some(json!("never"))),
        ("nbf", None),
        ("nbf", Some(json!(now + 30))),
        ("sub", None),
        ("sid", None),
        ("tenant_id", None),
    ] {
        let claims = with(&claims, member, value.clone());
        forged.push((format!("{member}: {value:?}"), jwt(&key, &header, &claims)));
    }

    let right = jwt(&key, &header, &claims);
    app.get_as(&right, "/me").await.expect(200);
    for (what, token) in forged {
        let answer = app.get_as(&token, "/me").await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["code"]),
            (401, &json!("unauthenticated")),
            "{what}"
        );
        assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"), "{what}");
    }
    app.get_as(&right, "/me").await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_sign_in_is_good_for_as_long_as_it_says() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let answer = app.login(Some(&tenant), "ada@example.org", PASSWORD).await.expect(200);
    assert_eq!((&answer.body["expires_in"], &answer.body["token_type"]), (&json!(1_800), &json!("Bearer")));
    let token = answer.text("access_token");
    let claims: Value =
        serde_json::from_slice(&B64.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let time = |name: &str| claims[name].as_i64().unwrap();
    assert_eq!(time("exp") - time("iat"), 1_800);
    assert_eq!(time("nbf"), time("iat"));
    assert!((daybook::clock::now().timestamp() - time("iat")).abs() < 10);

    // The cookie of a sign-in and of what follows it.
    let refreshed = app.refresh(&refresh_cookie(&answer).unwrap()).await.expect(200);
    assert_eq!(refreshed.body["expires_in"], 1_800);
    for answer in [&answer, &refreshed] {
        assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 1);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let mut parts: Vec<&str> = answer.header("set-cookie").unwrap().split("; ").collect();
        assert!(parts.remove(0).starts_with("__Host-daybook_refresh="));
        let age = parts.iter().position(|part| part.starts_with("Max-Age=")).unwrap();
        let age: i64 = parts.remove(age)["Max-Age=".len()..].parse().unwrap();
        // Whole seconds of a time that has begun to run.
        assert!((604_795..=604_800).contains(&age), "{age}");
        parts.sort_unstable();
        assert_eq!(parts, ["HttpOnly", "Path=/", "SameSite=None", "Secure"]);
    }
    app.shut_down().await;
}

#[tokio::test]
async fn a_session_ends_after_thirty_days_however_much_it_is_used() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let time =
        |session: &Value, name: &str| session[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let shown = session(&app, &ada).await;
    let lasts = time(&shown, "expires_at") - time(&shown, "started_at");
    assert!((lasts - TimeDelta::days(30)).abs() < TimeDelta::seconds(5), "{lasts}");

    // In its last hour a refresh gives a token for that hour, and no more.
    let schema = tenant.schema();
    let in_an_hour =
        "UPDATE {s}.user_sessions SET started_at = started_at - (expires_at - now()) + interval '1 hour',
                                      expires_at = now() + interval '1 hour'";
    assert_eq!(app.sql(&schema, in_an_hour).await, 1);
    let refreshed = app.refresh(&ada.refresh).await.expect(200);
    assert!(refreshed.header("set-cookie").unwrap().contains("Max-Age=35"), "an hour is left");
    let next = refresh_cookie(&refreshed).unwrap();

    // Its refresh token has days left.
    let left = "UPDATE {s}.refresh_tokens SET expires_at = now() + interval '2 days'";
    assert_eq!(app.sql(&schema, left).await, 2);
    assert_eq!(app.sql(&schema, "UPDATE {s}.user_sessions SET expires_at = now()").await, 1);
    let over = app.refresh(&next).await.expect_problem(401, "unauthenticated");
    assert!(over.header("set-cookie").unwrap().contains("Max-Age=0"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    app.get_as(&refreshed.text("access_token"), "/me").await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[tokio::test]
async fn a_refresh_token_is_good_for_seven_days() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let schema = tenant.schema();
    let back = async |days: u32, hours: u32| {
        let sql = format!(
            "UPDATE {{s}}.refresh_tokens SET expires_at = expires_at - interval '{days} days {hours} hours'"
        );
        app.sql(&schema, &sql).await
    };
    assert_eq!(back(6, 23).await, 1);
    let next = refresh_cookie(&app.refresh(&ada.refresh).await.expect(200)).unwrap();
    assert_eq!(back(7, 0).await, 2);
    app.refresh(&next).await.expect_problem(401, "unauthenticated");
    // That it ran out tells of no theft: the session, which has days left, was not ended.
    app.get_as(&ada.token, "/me").await.expect(200);
    app.shut_down().await;
}

/// A call to a route that the cookie alone opens.
async fn with_cookie(app: &TestApp, path: &str, cookie: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = app
        .client
        .request(Method::POST, app.url(path))
        .header("Cookie", format!("__Host-daybook_refresh={cookie}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request).await
}

/// What no page but an allowed one can send, and what it is answered.
async fn refused_from_elsewhere(app: &TestApp, path: &str, cookie: &str, other: &TestTenant) {
    const JSON: (&str, &str) = ("Content-Type", "application/json");
    for headers in [
        vec![],
        vec![("Content-Type", "text/plain")],
        vec![("Content-Type", "application/x-www-form-urlencoded"), ("Origin", PAGE)],
        vec![("Content-Type", "text/plain; application/json")],
    ] {
        let answer = with_cookie(app, path, cookie, &headers).await;
        assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (415, None), "{headers:?}");
    }
    for origin in
        ["https://evil.example", "null", "http://app.example.com", "https://app.example.com.evil.example"]
    {
        let answer = with_cookie(app, path, cookie, &[JSON, ("Origin", origin)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (403, None), "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
    }
    for site in ["cross-site", "same-site"] {
        let answer = with_cookie(app, path, cookie, &[JSON, ("Sec-Fetch-Site", site)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (403, None), "{site}");
    }
    with_cookie(app, path, cookie, &[JSON, ("X-Tenant-Slug", &other.slug)])
        .await
        .expect_problem(403, "tenant_mismatch");
}

#[tokio::test]
async fn only_allowed_pages_use_the_cookie_to_refresh_and_to_sign_out() {
    let app = start().await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("hotel").await);
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let from_page =
        [("Content-Type", "application/json"), ("Origin", PAGE), ("Sec-Fetch-Site", "cross-site")];

    refused_from_elsewhere(&app, "/auth/refresh", &ada.refresh, &other).await;
    let sql = "UPDATE {s}.refresh_tokens SET ip = ip WHERE used_at IS NULL";
    assert_eq!(app.sql(&tenant.schema(), sql).await, 1);
    let sql = "UPDATE {s}.refresh_tokens SET ip = ip WHERE used_at IS NOT NULL";
    assert_eq!(app.sql(&tenant.schema(), sql).await, 0, "what is refused uses nothing up");
    let answer = with_cookie(&app, "/auth/refresh", &ada.refresh, &from_page).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    let next = refresh_cookie(&answer).unwrap();

    refused_from_elsewhere(&app, "/auth/logout", &next, &other).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect(200);
    let answer = with_cookie(&app, "/auth/logout", &next, &from_page).await.expect(204);
    assert!(answer.header("set-cookie").unwrap().starts_with("__Host-daybook_refresh=; "));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/me").await.expect_problem(401, "unauthenticated");
    app.refresh(&next).await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}
