//! Attacks on support sessions and hijacks: tokens turned to another purpose, carried elsewhere, used against the end of
//! what they are of. The forged ones are signed with the real keys: more than anybody outside could do.

use chrono::TimeDelta;
use daybook::{
    auth::access_token::{self, AccessClaims, Act, Use},
    clock,
};
use daybook_domain::permission::Tier;
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    permission_grants::a_second,
    support::{
        app::{Answer, TestApp, id, read},
        people::Person,
    },
    support_sessions::{begin, platform, start, window},
};

/// Acts as somebody of one's own tenant.
pub async fn hijack(app: &TestApp, by: &Person, target: &Person) -> Answer {
    let body = json!({"user_id": target.id, "reason": "ticket 7"});
    app.post_as(&by.token, "/hijack", &body).await.expect(201)
}

fn claims(app: &TestApp, token: &str) -> AccessClaims {
    access_token::verify(&app.keys, token, clock::now()).unwrap()
}

/// All of a log.
pub async fn log(app: &TestApp, owner: &Person) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = app.get_as(&owner.token, &format!("/audit/events?limit=200&after={after}")).await;
        let page = page.expect(200).body["items"].as_array().unwrap().clone();
        let Some(last) = page.last() else { return all };
        after = position(last);
        all.extend(page);
    }
}

/// Where an event is in its log.
pub fn position(event: &Value) -> i64 {
    event["position"].as_i64().unwrap()
}

#[tokio::test]
async fn a_token_of_one_purpose_is_useless_for_another() {
    let (app, tenant, owner, sue) = start().await;
    let hotel = app.tenant("hotel").await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let other = app.person(&tenant, "other@camp.example", Tier::TenantStaff).await;
    let pat = platform(&app, "pat@platform.example", Tier::PlatformSupport).await;
    let request = window(&app, &sue, &owner, "camp").await;
    let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let acting = hijack(&app, &owner, &staff).await;

    let support = claims(&app, &began.text("access_token"));
    let hijacked = claims(&app, &acting.text("access_token"));
    let (of_sue, of_owner) = (claims(&app, &sue.token), claims(&app, &owner.token));
    let (of_pat, of_staff) = (claims(&app, &pat.token), claims(&app, &staff.token));
    assert_eq!((support.usage, support.sub, support.act), (Use::Support, sue.id, None));
    assert_eq!((hijacked.usage, hijacked.sub), (Use::Hijack, staff.id));
    assert_eq!(hijacked.act, Some(Act { sub: owner.id }));

    let minted = |claims: AccessClaims| {
        let now = clock::now() - TimeDelta::seconds(1);
        let token = access_token::issue(&app.keys, claims, now, TimeDelta::minutes(30)).unwrap();
        token.expose_secret().to_owned()
    };
    // Signed like this they are taken, as long as they say what is so.
    let good = async || {
        for (claims, path) in
            [(&support, "/customers"), (&hijacked, "/me"), (&of_owner, "/me"), (&of_sue, "/me")]
        {
            app.get_as(&minted(claims.clone()), path).await.expect(200);
        }
    };
    good().await;

    let (camp, hotel) = (Some(tenant.id.0), Some(hotel.id.0));
    let act = |person: &Person| Some(Act { sub: person.id });
    let base = |of: &AccessClaims| of.clone();
    let mut forged: Vec<(&str, AccessClaims)> = vec![
        // A support session as something else, and something else as one.
        ("a sign-in of a support session", AccessClaims { usage: Use::Session, ..base(&support) }),
        (
            "its sign-in to the platform",
            AccessClaims { usage: Use::Session, tenant_id: None, ..base(&support) },
        ),
        ("its sign-in as the owner", AccessClaims { usage: Use::Session, sub: owner.id, ..base(&support) }),
        ("a hijack of a support session", AccessClaims { usage: Use::Hijack, ..base(&support) }),
        ("and who acts", AccessClaims { usage: Use::Hijack, act: act(&sue), ..base(&support) }),
        ("and as whom", AccessClaims { usage: Use::Hijack, act: act(&sue), sub: owner.id, ..base(&support) }),
        ("support by a sign-in", AccessClaims { usage: Use::Support, ..base(&of_sue) }),
        (
            "support by a sign-in, in a tenant",
            AccessClaims { usage: Use::Support, tenant_id: camp, ..base(&of_sue) },
        ),
        ("support by the owner", AccessClaims { usage: Use::Support, ..base(&of_owner) }),
        ("a sign-in in a tenant", AccessClaims { tenant_id: camp, ..base(&of_sue) }),
        ("the sign-in's id", AccessClaims { sid: of_sue.sid, ..base(&support) }),
        ("the session's id", AccessClaims { sid: support.sid, ..base(&of_sue) }),
        ("no such id", AccessClaims { sid: Uuid::now_v7(), ..base(&support) }),
        ("the hijack's id", AccessClaims { sid: hijacked.sid, ..base(&support) }),
        ("the window's id", AccessClaims { sid: request, ..base(&support) }),
        ("somebody acts in it", AccessClaims { act: act(&sue), ..base(&support) }),
        ("another acts in it", AccessClaims { act: act(&pat), ..base(&support) }),
        ("another tenant", AccessClaims { tenant_id: hotel, ..base(&support) }),
        ("no tenant", AccessClaims { tenant_id: None, ..base(&support) }),
        ("no such tenant", AccessClaims { tenant_id: Some(Uuid::now_v7()), ..base(&support) }),
        ("another supporter", AccessClaims { sub: pat.id, ..base(&support) }),
        (
            "another's sign-in",
            AccessClaims { sid: support.sid, usage: Use::Support, tenant_id: camp, ..base(&of_pat) },
        ),
        ("the owner's support", AccessClaims { sub: owner.id, ..base(&support) }),
    ];
    // Likewise with a hijack.
    forged.extend([
        ("a sign-in of a hijack", AccessClaims { usage: Use::Session, ..base(&hijacked) }),
        ("without who acts", AccessClaims { usage: Use::Session, act: None, ..base(&hijacked) }),
        ("support by a hijack", AccessClaims { usage: Use::Support, ..base(&hijacked) }),
        ("support by its target", AccessClaims { usage: Use::Support, act: None, ..base(&hijacked) }),
        ("nobody acts", AccessClaims { act: None, ..base(&hijacked) }),
        ("another acts", AccessClaims { act: act(&sue), ..base(&hijacked) }),
        ("the target acts", AccessClaims { act: act(&staff), ..base(&hijacked) }),
        ("as the hijacker", AccessClaims { sub: owner.id, ..base(&hijacked) }),
        ("as a colleague", AccessClaims { sub: other.id, ..base(&hijacked) }),
        ("the other way round", AccessClaims { sub: owner.id, act: act(&staff), ..base(&hijacked) }),
        ("in another tenant", AccessClaims { tenant_id: hotel, ..base(&hijacked) }),
        ("on the platform", AccessClaims { tenant_id: None, ..base(&hijacked) }),
        ("by the session", AccessClaims { sid: support.sid, ..base(&hijacked) }),
        ("by the target's sign-in", AccessClaims { sid: of_staff.sid, ..base(&hijacked) }),
        ("by the hijacker's sign-in", AccessClaims { sid: of_owner.sid, ..base(&hijacked) }),
        ("a sign-in that acts", AccessClaims { sub: staff.id, act: act(&owner), ..base(&of_owner) }),
        ("a hijack by sign-in", AccessClaims { usage: Use::Hijack, ..base(&of_owner) }),
        ("and who", AccessClaims { usage: Use::Hijack, act: act(&owner), sub: staff.id, ..base(&of_owner) }),
    ]);
    let known = log(&app, &owner).await.len();
    for (what, claims) in forged {
        let token = minted(claims);
        for path in ["/customers", "/me", "/hijack", "/support/requests"] {
            let answer = app.get_as(&token, path).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body["code"]),
                (401, &json!("unauthenticated")),
                "{what}: {path}"
            );
        }
        let answer = app.post_as(&token, "/customers", &json!({"name": "Eve"})).await;
        assert_eq!(answer.status, 401, "{what}");
        let answer = app.post_as(&token, "/hijack/stop", &json!({})).await;
        assert_eq!(answer.status, 401, "{what}");
    }
    // What a role in a token says is for its holder alone.
    let boast = AccessClaims { role: "tenant_owner".into(), ..hijacked.clone() };
    a_second().await;
    app.get_as(&minted(boast), "/audit/events").await.expect_problem(403, "forbidden");
    // Nothing was done, and nothing was ended by it.
    good().await;
    let log = log(&app, &owner).await;
    let since: Vec<&Value> = log[known..].iter().map(|event| &event["type"]).collect();
    assert_eq!(since, ["hijack.action_refused", "support.viewed", "hijack.viewed"]);
    app.shut_down().await;
}

#[tokio::test]
async fn a_token_is_good_for_nothing_but_a_bearers_requests_in_its_tenant() {
    let (app, tenant, owner, sue) = start().await;
    let hotel = app.tenant("hotel").await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let sql = "INSERT INTO daybook_platform.tenant_domains (hostname, tenant_id, domain_id, verified_at)
               VALUES ($1, $2, $3, now())";
    for (hostname, tenant) in [("camp.example", tenant.id), ("hotel.example", hotel.id)] {
        let bound = sqlx::query(sql).bind(hostname).bind(tenant.0).bind(Uuid::now_v7());
        bound.execute(app.store.database().owner()).await.unwrap();
    }
    let request = window(&app, &sue, &owner, "camp").await;
    let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let acting = hijack(&app, &owner, &staff).await;
    let with = async |request: RequestBuilder, headers: &[(&str, &str)]| {
        let json = request.header("Content-Type", "application/json");
        read(headers.iter().fold(json, |request, (name, value)| request.header(*name, *value))).await
    };
    for (token, path) in [(began.text("access_token"), "/customers"), (acting.text("access_token"), "/me")] {
        let token = token.as_str();
        let get = |path: &str| app.client.get(app.url(path));
        let post = |path: &str| app.client.post(app.url(path));
        // It is no cookie, of whatever name, and nothing in an address.
        for cookie in ["__Host-daybook_refresh", "__Host-daybook_access", "access_token", "Authorization"] {
            let cookie = format!("{cookie}={token}");
            with(get(path), &[("Cookie", &cookie)]).await.expect_problem(401, "unauthenticated");
        }
        for query in ["access_token", "token", "bearer"] {
            let answer = with(get(&format!("{path}?{query}={token}")), &[]).await;
            answer.expect_problem(401, "unauthenticated");
        }
        with(get(path), &[("Authorization", &format!("Basic {token}"))]).await.expect(401);
        // It is not refreshed, and signs nobody out.
        let cookie = format!("__Host-daybook_refresh={token}");
        for headers in [&[("Cookie", cookie.as_str())][..], &[]] {
            let refreshed = with(post("/auth/refresh").bearer_auth(token), headers).await.expect(401);
            assert!(refreshed.body.get("access_token").is_none(), "{}", refreshed.body);
            assert!(!refreshed.header("set-cookie").is_some_and(|cookie| cookie.contains("refresh=ey")));
            with(post("/auth/logout").bearer_auth(token), headers).await;
        }
        app.get_as(token, path).await.expect(200);
        // Guests have no sessions.
        let availability = "/public/availability?from=2031-05-01&to=2031-05-02";
        let answer = with(get(availability).bearer_auth(token), &[("X-Tenant-Slug", "camp")]).await;
        answer.expect_problem(401, "unauthenticated");
        for at in ["/public/bookings", "/public/leads"] {
            let request = post(at).bearer_auth(token).body("{}");
            with(request, &[("X-Tenant-Slug", "camp")]).await.expect_problem(401, "unauthenticated");
        }
        // It names its tenant, and goes with no other.
        let own = [("X-Tenant-Slug", "camp"), ("Origin", "https://camp.example")];
        with(get(path).bearer_auth(token), &own).await.expect(200);
        for header in
            [("X-Tenant-Slug", "hotel"), ("X-Tenant-Slug", "nowhere"), ("Origin", "https://hotel.example")]
        {
            let answer = with(get(path).bearer_auth(token), &[header]).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text("code").as_str()),
                (403, "tenant_mismatch"),
                "{header:?}"
            );
        }
    }
    // Nobody was signed out.
    app.get_as(&sue.token, "/me").await.expect(200);
    app.get_as(&owner.token, "/me").await.expect(200);
    app.refresh(&sue.refresh).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_session_reads_nothing_of_another_tenant() {
    let (app, tenant, owner, sue) = start().await;
    let hotel = app.tenant("hotel").await;
    let other_owner = app.person(&hotel, "owner@hotel.example", Tier::TenantOwner).await;
    let other_staff = app.person(&hotel, "staff@hotel.example", Tier::TenantStaff).await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let pool = app.resource(&hotel, "Rooms", 9).await;
    let offering = app.nights_offering(&hotel, &[pool]).await;
    let guest = app.customer(&hotel, "Canary").await;
    let stay = TestApp::stay(offering, guest, "2031-05-01", "2031-05-04");
    let booking = id(&app.post(&hotel, "/bookings", &stay).await.expect(201));
    let elsewhere = window(&app, &sue, &other_owner, "hotel").await;
    let session_there = id(&begin(&app, &sue, "hotel", "real", Some(elsewhere)).await.expect(201));
    let hijack_there = id(&hijack(&app, &other_owner, &other_staff).await);

    let request = window(&app, &sue, &owner, "camp").await;
    let real = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let redacted = begin(&app, &sue, "camp", "redacted", None).await.expect(201);
    let as_staff = hijack(&app, &owner, &staff).await;
    let body = json!({"user_id": owner.id, "tenant": "camp", "reason": "ticket 7"});
    let as_owner = app.post_as(&sue.token, "/hijack", &body).await.expect(201);
    let before = app.head(&hotel).await;
    for token in [&real, &redacted, &as_staff, &as_owner] {
        let token = token.text("access_token");
        for path in [
            format!("/customers/{guest}"),
            format!("/bookings/{booking}"),
            format!("/bookings/{booking}/history"),
            format!("/bookings/{booking}?as_of=1"),
            format!("/resources/{pool}"),
            format!("/offerings/{offering}"),
            format!("/users/{}", other_owner.id),
            format!("/support/requests/{elsewhere}"),
            format!("/support/sessions/{session_there}"),
            format!("/hijacks/{hijack_there}"),
        ] {
            let answer = app.get_as(&token, &path).await;
            // Of what they may not read at all, they are told no more.
            assert!([403, 404].contains(&answer.status.as_u16()), "{path}: {}", answer.body);
            assert!(!answer.body.to_string().contains("Canary"));
        }
        // The log of their own tenant has what they asked about; the lists have nothing of it.
        for path in ["/customers", "/bookings", "/users", "/support/sessions", "/hijacks"] {
            let answer = app.get_as(&token, path).await.body.to_string();
            for foreign in [guest, booking, other_owner.id, session_there, hijack_there, elsewhere] {
                assert!(!answer.contains(&foreign.to_string()), "{path}");
            }
        }
        for (method, path) in [
            (Method::POST, format!("/bookings/{booking}/cancel")),
            (Method::DELETE, format!("/support/sessions/{session_there}")),
            (Method::POST, format!("/hijacks/{hijack_there}/stop")),
            (Method::POST, format!("/support/requests/{elsewhere}/approve")),
        ] {
            let answer = app.with_token(&token, method.clone(), &path, Some(&json!({"reason": "x"}))).await;
            assert!([403, 404].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.body);
        }
    }
    assert_eq!(app.head(&hotel).await, before, "the other tenant's log knows of nothing");
    app.shut_down().await;
}

#[tokio::test]
async fn another_node_refuses_within_a_second_of_the_end() {
    let (app, tenant, owner, sue) = start().await;
    let node = app.second_node().await;
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let request = window(&app, &sue, &owner, "camp").await;
    let session = async || begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let taken = async |token: &Answer, path: &str| {
        let token = token.text("access_token");
        [app.get_as(&token, path).await.status.as_u16(), node.get_as(&token, path).await.status.as_u16()]
    };
    // Each is ended on one node, with both knowing it well; the other answers for less than a second.
    let over = async |token: &Answer, path: &str, end: (Method, String), by: &str| {
        assert_eq!(taken(token, path).await, [200; 2]);
        let reason = json!({"reason": "enough"});
        let body = end.1.starts_with("/support/requests").then_some(&reason);
        let ended = app.with_token(by, end.0, &end.1, body).await;
        assert!(ended.status.is_success(), "{}: {}", end.1, ended.body);
        a_second().await;
        assert_eq!(taken(token, path).await, [401; 2], "{}", end.1);
    };
    let first = session().await;
    let path = format!("/support/sessions/{}", id(&first));
    over(&first, "/customers", (Method::DELETE, path), &owner.token).await;
    let acting = hijack(&app, &owner, &staff).await;
    over(&acting, "/me", (Method::POST, "/hijack/stop".into()), &acting.text("access_token")).await;
    let acting = hijack(&app, &owner, &staff).await;
    over(&acting, "/me", (Method::POST, format!("/hijacks/{}/stop", id(&acting))), &owner.token).await;
    let body = json!({"user_id": staff.id, "tenant": "camp", "reason": "ticket 7"});
    let acting = app.post_as(&sue.token, "/hijack", &body).await.expect(201);
    let second = session().await;
    assert_eq!(taken(&acting, "/me").await, [200; 2]);
    let revoke = (Method::POST, format!("/support/requests/{request}/revoke"));
    over(&second, "/customers", revoke, &owner.token).await;
    assert_eq!(taken(&acting, "/me").await, [401; 2], "the window's hijack goes with it");
    node.shut_down().await;
    app.shut_down().await;
}
