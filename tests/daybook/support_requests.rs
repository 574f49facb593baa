//! Support requests: the platform asks, the tenant answers, and nobody answers for it.

use std::time::{Duration, Instant};

use daybook::{
    eventstore::{Command, Unit},
    tenancy::Schema,
    workers::{WorkerSettings, projector, support_overview},
};
use daybook_domain::{
    CustomerId, UserId,
    permission::Tier,
    support_request::{SupportActor, SupportRequestCommand},
    tenant::TenantCommand,
    text::Reason,
    user::{By, UserCommand},
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    people::{Person, generous},
    site::by,
};

const SUE: &str = "sue@platform.example";

/// A tenant with an owner, and Sue, who supports.
async fn start() -> (TestApp, TestTenant, Person, Person) {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let owner = app.person(&tenant, "owner@camp.example", Tier::TenantOwner).await;
    let sue = platform(&app, SUE, Tier::PlatformSupport).await;
    (app, tenant, owner, sue)
}

async fn platform(app: &TestApp, email: &str, tier: Tier) -> Person {
    app.account(None, email, tier, None).await;
    app.sign_in(None, email).await
}

fn asking(slug: &str) -> Value {
    json!({"tenant": slug, "reason": "ticket 7: the calendar is empty", "minutes": 30})
}

async fn ask(app: &TestApp, by: &Person, slug: &str) -> Uuid {
    id(&app.post_as(&by.token, "/support/requests", &asking(slug)).await.expect(201))
}

/// Answers a request: `approve`, `deny` or `revoke`.
async fn say(app: &TestApp, by: &Person, request: Uuid, what: &str) -> Answer {
    app.post_as(&by.token, &format!("/support/requests/{request}/{what}"), &json!({"reason": "because"}))
        .await
}

/// The ids that somebody sees in a list.
async fn listed(app: &TestApp, by: &Person, query: &str) -> Vec<Uuid> {
    let page = app.get_as(&by.token, &format!("/support/requests{query}")).await.expect(200);
    let items = page.body["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// What the security log says of support: event and actor.
async fn security(app: &TestApp) -> Vec<(String, String)> {
    app.state.security_log().flush().await;
    let log = std::fs::read_to_string(app.data_dir().join("logs/security.log")).unwrap();
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["event"].as_str().unwrap().starts_with("support_"))
        .map(|line| {
            let text = |member: &str| line[member].as_str().unwrap().to_owned();
            assert!(text("detail").starts_with("support_request:") && text("ip") == "127.0.0.1", "{line}");
            (text("event"), text("actor"))
        })
        .collect()
}

#[tokio::test]
async fn a_request_is_made_approved_and_revoked() {
    let (app, tenant, owner, sue) = start().await;
    let manager = app.person(&tenant, "manager@camp.example", Tier::TenantManager).await;
    app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let made = app.post_as(&sue.token, "/support/requests", &asking("camp")).await.expect(201);
    assert_eq!((&made.body["state"], &made.body["open"]), (&json!("requested"), &json!(false)));
    assert_eq!((&made.body["tenant"], &made.body["requested_by"]), (&json!("camp"), &json!(sue.id)));
    assert_eq!((&made.body["minutes"], made.header("etag")), (&json!(30), Some("\"1\"")));
    let path = format!("/support/requests/{}", id(&made));
    assert_eq!(made.header("location"), Some(format!("/api/v1{path}").as_str()));
    for who in ["owner@camp.example", "manager@camp.example"] {
        let letter = app.letter(who, 0).await;
        assert!(letter.contains("Subject: Daybook support asks for access"), "{letter}");
        assert!(letter.contains("ticket 7") && letter.contains("Tenant camp"), "{letter}");
    }

    let seen = app.get_as(&owner.token, &path).await.expect(200);
    assert_eq!(seen.body["reason"], asking("camp")["reason"]);
    assert_eq!(seen.body.get("tenant"), None);
    assert_eq!(listed(&app, &manager, "?state=requested").await, [id(&made)]);
    for who in [&manager, &sue] {
        assert_eq!(listed(&app, who, &format!("?requested_by={}", sue.id)).await, [id(&made)]);
        assert!(listed(&app, who, &format!("?requested_by={}", manager.id)).await.is_empty());
    }
    let headers = [("If-Match", "\"2\"")];
    let stale = app.client.post(app.url(&format!("{path}/approve"))).bearer_auth(&owner.token);
    read(stale.header(headers[0].0, headers[0].1)).await.expect_problem(412, "version_conflict");

    let approved = say(&app, &manager, id(&made), "approve").await.expect(200);
    assert_eq!((&approved.body["state"], &approved.body["open"]), (&json!("approved"), &json!(true)));
    assert_eq!(approved.body["approved_by"], json!(manager.id));
    let time = |member: &str| {
        approved.body[member].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    };
    assert_eq!((time("open_until") - time("approved_at")).num_microseconds(), Some(30 * 60 * 1_000_000));
    say(&app, &owner, id(&made), "approve").await.expect_problem(409, "wrong_state");
    say(&app, &owner, id(&made), "deny").await.expect_problem(409, "wrong_state");
    let letter = app.letter(SUE, 0).await;
    assert!(letter.contains("was approved") && letter.contains(&id(&made).to_string()), "{letter}");
    for who in [&owner, &sue] {
        assert_eq!(listed(&app, who, "?state=open").await, [id(&made)]);
        assert_eq!(listed(&app, who, "?state=approved").await, [id(&made)]);
        assert!(listed(&app, who, "?state=requested").await.is_empty());
        assert_eq!(app.get_as(&who.token, &path).await.expect(200).body["open"], true);
    }

    let revoke = format!("{path}/revoke");
    app.post_as(&sue.token, &revoke, &json!({})).await.expect_problem(422, "validation_failed");
    let revoked = app.post_as(&sue.token, &revoke, &json!({"reason": "found it"})).await.expect(200);
    assert_eq!((&revoked.body["state"], &revoked.body["open"]), (&json!("revoked"), &json!(false)));
    assert_eq!(
        (&revoked.body["ended_by"], &revoked.body["ended_side"]),
        (&json!(sue.id), &json!("platform"))
    );
    say(&app, &owner, id(&made), "revoke").await.expect_problem(409, "wrong_state");
    assert!(listed(&app, &sue, "?state=open").await.is_empty());
    assert_eq!(listed(&app, &sue, "?state=revoked").await, [id(&made)]);
    assert!(app.letter(SUE, 1).await.contains("window has been closed"));

    let (sue_is, manager_is) = (format!("user:{}", sue.id), format!("user:{}", manager.id));
    let stream = format!("/audit/events?aggregate=support_request:{}", id(&made));
    let events = app.get_as(&owner.token, &stream).await.expect(200).body["items"].take();
    let told: Vec<[&str; 4]> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| ["type", "actor", "role", "reason"].map(|member| event[member].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ["support.requested", &sue_is, "platform_support", "ticket 7: the calendar is empty"],
            ["support.approved", &manager_is, "tenant_manager", "because"],
            ["support.revoked", &sue_is, "platform_support", "found it"],
        ]
    );
    for event in events.as_array().unwrap() {
        assert_eq!(event["ip"], "127.0.0.1");
        assert!(!event.to_string().contains('@'), "{event}");
    }
    assert_eq!(
        security(&app).await,
        [
            ("support_requested".into(), sue_is.clone()),
            ("support_approved".into(), manager_is),
            ("support_revoked".into(), sue_is),
        ]
    );
    assert!(app.letters("staff@camp.example").is_empty());
    let report = projector::verify(&app.store, &tenant.schema(), |_, _| {}).await.unwrap();
    assert!(report.is_equal(), "{report:#?}");
    assert_eq!(report.tables.iter().find(|table| table.table == "support_requests").unwrap().rows, 1);
    app.shut_down().await;
}

#[tokio::test]
async fn a_denial_has_a_reason_and_is_told_to_whoever_asked() {
    let (app, _tenant, owner, sue) = start().await;
    let request = ask(&app, &sue, "camp").await;
    let path = format!("/support/requests/{request}/deny");
    for blank in [json!({}), json!({"reason": "  "})] {
        let refused = app.post_as(&owner.token, &path, &blank).await.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], "/reason");
    }
    let key = [("Idempotency-Key", "no")];
    let mut answers = Vec::new();
    for _ in 0..2 {
        let request = app.client.post(app.url(&path)).bearer_auth(&owner.token).header(key[0].0, key[0].1);
        answers.push(read(request.json(&json!({"reason": "not on a Saturday"}))).await.expect(200));
    }
    assert_eq!(answers[0].body, answers[1].body);
    assert_eq!(answers[1].header("idempotent-replayed"), Some("true"));
    assert_eq!(
        (&answers[0].body["ended_reason"], &answers[0].body["ended_side"]),
        (&json!("not on a Saturday"), &json!("tenant"))
    );
    for what in ["approve", "deny", "revoke"] {
        say(&app, &owner, request, what).await.expect_problem(409, "wrong_state");
    }
    assert!(app.letter(SUE, 0).await.contains("not on a Saturday"));
    let owner_is = format!("user:{}", owner.id);
    let lines = security(&app).await;
    assert_eq!(lines.iter().filter(|(_, actor)| *actor == owner_is).count(), 1, "{lines:?}");
    app.shut_down().await;
}

#[tokio::test]
async fn only_an_owner_or_a_manager_of_that_tenant_answers() {
    let (app, tenant, owner, sue) = start().await;
    let other = app.tenant("hotel").await;
    let stranger = app.person(&other, "owner@hotel.example", Tier::TenantOwner).await;
    let request = ask(&app, &sue, "camp").await;
    let path = format!("/support/requests/{request}");
    app.get_as(&stranger.token, &path).await.expect_problem(404, "not_found");
    assert!(listed(&app, &stranger, "").await.is_empty());
    let staff = app.person(&tenant, "staff@camp.example", Tier::TenantStaff).await;
    let customer = CustomerId(app.customer(&tenant, "Ada").await);
    app.account(Some(&tenant), "ada@example.org", Tier::Customer, Some(customer)).await;
    let ada = app.sign_in(Some(&tenant), "ada@example.org").await;
    let sales = platform(&app, "sam@platform.example", Tier::PlatformSales).await;
    for nobody in [&staff, &ada, &sales] {
        app.get_as(&nobody.token, "/support/requests").await.expect_problem(403, "forbidden");
        app.get_as(&nobody.token, &path).await.expect_problem(403, "forbidden");
        app.post_as(&nobody.token, "/support/requests", &asking("camp"))
            .await
            .expect_problem(403, "forbidden");
    }
    for what in ["approve", "deny", "revoke"] {
        say(&app, &stranger, request, what).await.expect_problem(404, "not_found");
        for nobody in [&staff, &ada, &sales] {
            say(&app, nobody, request, what).await.expect_problem(403, "forbidden");
        }
        // A key that may do all that an owner may is no person; it does not decide, but it may look.
        let by_key = app.post(&tenant, &format!("{path}/{what}"), &json!({"reason": "because"})).await;
        by_key.expect_problem(403, "forbidden");
    }
    app.get(&tenant, &path).await.expect(200);
    let root = platform(&app, "root@platform.example", Tier::Superuser).await;
    for platforms in [&sue, &root] {
        say(&app, platforms, request, "approve").await.expect_problem(403, "forbidden");
        say(&app, platforms, request, "deny").await.expect_problem(403, "forbidden");
    }
    app.post_as(&owner.token, "/support/requests", &asking("camp")).await.expect_problem(403, "forbidden");
    // Nor the operator, who may take it back.
    let reason = Some(Reason::new("found it", "").unwrap());
    let by_operator = SupportActor::Operator;
    for (command, done) in [
        (SupportRequestCommand::Approve { by: by_operator, requester: None }, false),
        (SupportRequestCommand::Deny { by: by_operator, reason: reason.clone() }, false),
        (SupportRequestCommand::Revoke { by: by_operator, reason }, true),
    ] {
        let unit = Unit::of(Command::to(request, command), by("cli"));
        assert_eq!(app.store.execute(&tenant.schema(), unit).await.is_ok(), done);
    }
    let seen = app.get_as(&owner.token, &path).await.expect(200);
    assert_eq!((&seen.body["ended_side"], &seen.body["ended_by"]), (&json!("operator"), &Value::Null));
    app.shut_down().await;
}

#[tokio::test]
async fn nobody_approves_their_own_request() {
    let (app, tenant, owner, sue) = start().await;
    let request = ask(&app, &sue, "camp").await;
    // Sue owns the camp as well, with another spelling of her address.
    let also_sue = app.person(&tenant, "Sue@Platform.Example", Tier::TenantOwner).await;
    let refused = say(&app, &also_sue, request, "approve").await.expect_problem(403, "forbidden");
    assert!(refused.text("detail").contains("own request"), "{}", refused.body);
    assert!(
        security(&app).await.contains(&("support_approval_refused".into(), format!("user:{}", also_sue.id)))
    );
    assert_eq!(app.get_as(&owner.token, &format!("/support/requests/{request}")).await.body["open"], false);
    say(&app, &owner, request, "approve").await.expect(200);

    // Of an account that is gone, no address can be compared, and nobody waits.
    let request = ask(&app, &sue, "camp").await;
    let off = Unit::of(Command::to(sue.id, UserCommand::Deactivate { by: By::Operator }), by("test"));
    app.store.execute(&Schema::platform(), off).await.unwrap();
    say(&app, &owner, request, "approve").await.expect_problem(409, "wrong_state");
    app.shut_down().await;
}

#[tokio::test]
async fn an_owner_who_was_let_go_meanwhile_approves_nothing() {
    let (app, tenant, owner, sue) = start().await;
    let request = ask(&app, &sue, "camp").await;
    app.person(&tenant, "second@camp.example", Tier::TenantOwner).await;
    // Known to this node as an owner; not any more to the decision.
    app.get_as(&owner.token, "/support/requests").await.expect(200);
    let role = UserCommand::ChangeRole { role: Tier::TenantStaff.into(), by: By::Operator };
    let demote = Unit::of(Command::to(owner.id, role), by("test"));
    app.store.execute(&tenant.schema(), demote).await.unwrap();
    say(&app, &owner, request, "approve").await.expect_problem(403, "forbidden");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_approve_at_the_same_time_one_does() {
    let (app, tenant, owner, sue) = start().await;
    let second = app.person(&tenant, "second@camp.example", Tier::TenantOwner).await;
    let node = app.second_node().await;
    for _ in 0..5 {
        let request = ask(&app, &sue, "camp").await;
        let answers =
            join_all([say(&app, &owner, request, "approve"), say(&node, &second, request, "approve")]).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
    }
    node.shut_down().await;
    app.shut_down().await;
}

#[tokio::test]
async fn the_platform_sees_all_tenants_and_a_tenant_its_own() {
    let (app, _camp, owner, sue) = start().await;
    let hotel = app.tenant("hotel").await;
    let stranger = app.person(&hotel, "owner@hotel.example", Tier::TenantOwner).await;
    let max = platform(&app, "max@platform.example", Tier::PlatformSupport).await;
    let boss = platform(&app, "boss@platform.example", Tier::PlatformManager).await;
    let camps = ask(&app, &sue, "camp").await;
    let hotels = ask(&app, &max, "hotel").await;
    assert_eq!(listed(&app, &sue, "").await, [camps, hotels]);
    assert_eq!(listed(&app, &sue, "?mine=true").await, [camps]);
    assert_eq!(listed(&app, &boss, "?tenant=hotel").await, [hotels]);
    assert!(listed(&app, &boss, "?tenant=nowhere").await.is_empty());
    assert_eq!(listed(&app, &owner, "").await, [camps]);
    assert_eq!(listed(&app, &stranger, "").await, [hotels]);
    for query in ["?tenant=hotel", "?mine=true", "?state=ready"] {
        let path = format!("/support/requests{query}");
        app.get_as(&owner.token, &path).await.expect_problem(422, "validation_failed");
    }
    let first = app.get_as(&sue.token, "/support/requests?limit=1").await.expect(200);
    assert_eq!(first.body["items"][0].get("reason"), None, "words stay in the tenant's schema");
    let cursor = first.text("next_cursor");
    assert_eq!(listed(&app, &sue, &format!("?limit=1&cursor={cursor}")).await, [hotels]);
    let path = format!("/support/requests?mine=true&cursor={cursor}");
    app.get_as(&sue.token, &path).await.expect_problem(400, "malformed");

    // A colleague's request is theirs to take back, or their manager's.
    say(&app, &sue, hotels, "revoke").await.expect_problem(403, "forbidden");
    say(&app, &boss, hotels, "revoke").await.expect(200);
    say(&app, &sue, Uuid::now_v7(), "revoke").await.expect_problem(404, "not_found");

    // What time ends, no event does.
    let sql = "UPDATE {s}.support_overview SET lapses_at = now()";
    assert_eq!(app.sql(&Schema::platform(), sql).await, 2);
    assert_eq!(listed(&app, &sue, "?state=lapsed").await, [camps]);
    assert!(listed(&app, &sue, "?state=requested").await.is_empty());
    app.shut_down().await;
}

#[tokio::test]
async fn what_time_ends_is_shown_as_ended() {
    let (app, tenant, owner, sue) = start().await;
    let (lapsed, over) = (ask(&app, &sue, "camp").await, ask(&app, &sue, "camp").await);
    say(&app, &owner, over, "approve").await.expect(200);
    app.sql(&tenant.schema(), "UPDATE {s}.support_requests SET lapses_at = now(), open_until = now()").await;
    assert_eq!(listed(&app, &owner, "?state=lapsed").await, [lapsed]);
    assert_eq!(listed(&app, &owner, "?state=approved").await, [over]);
    assert!(listed(&app, &owner, "?state=open").await.is_empty());
    let seen = app.get_as(&owner.token, &format!("/support/requests/{lapsed}")).await.expect(200);
    assert_eq!((&seen.body["state"], &seen.body["open"]), (&json!("lapsed"), &json!(false)));
    let seen = app.get_as(&sue.token, &format!("/support/requests/{over}")).await.expect(200);
    assert_eq!((&seen.body["state"], &seen.body["open"]), (&json!("approved"), &json!(false)));
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_copied_and_told_once() {
    let (app, tenant, owner, sue) = start().await;
    let reason = Reason::new("ticket 7", "").unwrap();
    let made =
        SupportRequestCommand::Request { requested_by: UserId(sue.id), reason: reason.clone(), minutes: 5 };
    let denied =
        SupportRequestCommand::Deny { by: SupportActor::Account(UserId(owner.id)), reason: Some(reason) };
    let mut requests = Vec::new();
    for _ in 0..3 {
        let request = Uuid::now_v7();
        let made = Unit::of(Command::create(request, made.clone()), by("test"));
        app.store.execute(&tenant.schema(), made).await.unwrap();
        let denied = Unit::of(Command::to(request, denied.clone()), by("test"));
        app.store.execute(&tenant.schema(), denied).await.unwrap();
        requests.push(request);
    }
    let nodes = join_all((0..4).map(|_| support_overview::follow(&app.store, tenant.id))).await;
    assert_eq!(nodes.into_iter().map(Result::unwrap).sum::<usize>(), 3);
    assert_eq!(support_overview::follow(&app.store, tenant.id).await.unwrap(), 0);
    assert_eq!(listed(&app, &sue, "?state=denied").await, requests);

    // Nobody has to ask for it: the rounds of the worker come by.
    let stop = CancellationToken::new();
    let often = WorkerSettings { support_overview: Duration::from_millis(200), ..WorkerSettings::default() };
    let rounds = support_overview::run(app.store.clone(), app.directory.clone(), often, stop.clone());
    let rounds = tokio::spawn(rounds);
    let request = Uuid::now_v7();
    let made = Unit::of(Command::create(request, made), by("test"));
    app.store.execute(&tenant.schema(), made).await.unwrap();
    let since = Instant::now();
    while listed(&app, &sue, "?state=requested").await != [request] {
        assert!(since.elapsed() < Duration::from_secs(2), "nobody followed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    rounds.await.unwrap();
    app.shut_down().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_a_repeat_asks_once() {
    let (app, tenant, _owner, sue) = start().await;
    let head = app.head(&tenant).await;
    let with = |member: &str, value: Value| {
        let mut body = asking("camp");
        body[member] = value;
        body
    };
    for (body, pointer) in [
        (with("reason", json!(" \n")), "/reason"),
        (with("reason", json!("r".repeat(501))), "/reason"),
        (with("minutes", json!(0)), "/minutes"),
        (with("minutes", json!(31)), "/minutes"),
        (with("minutes", json!(-1)), "/minutes"),
        (with("requested_by", json!(Uuid::nil())), "/requested_by"),
        (json!({"tenant": "camp", "minutes": 5}), "/reason"),
    ] {
        let refused = app.post_as(&sue.token, "/support/requests", &body).await;
        let refused = refused.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{body}");
    }
    for unknown in ["nowhere", "Camp", "../camp"] {
        let body = with("tenant", json!(unknown));
        app.post_as(&sue.token, "/support/requests", &body).await.expect_problem(404, "not_found");
    }
    assert_eq!(app.head(&tenant).await, head);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = app.client.post(app.url("/support/requests")).bearer_auth(&sue.token);
        let request = request.header("Idempotency-Key", "once").json(&asking("camp"));
        ids.push(id(&read(request).await.expect(201)));
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(listed(&app, &sue, "").await, [ids[0]]);
    app.letter("owner@camp.example", 0).await;
    assert_eq!(app.letters("owner@camp.example").len(), 1);
    app.shut_down().await;
}

#[tokio::test]
async fn a_tenant_that_is_off_is_asked_nothing_and_answers_nothing() {
    let (app, tenant, owner, sue) = start().await;
    let request = ask(&app, &sue, "camp").await;
    app.admin.command(tenant.id, TenantCommand::Deactivate, &by("test")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.post_as(&sue.token, "/support/requests", &asking("camp")).await.expect_problem(404, "not_found");
    say(&app, &owner, request, "approve").await.expect_problem(401, "unauthenticated");
    say(&app, &sue, request, "revoke").await.expect_problem(404, "not_found");
    let path = format!("/support/requests/{request}");
    app.get_as(&sue.token, &path).await.expect_problem(404, "not_found");
    assert!(listed(&app, &sue, "").await.is_empty());
    app.with_token(&owner.token, Method::GET, &path, None).await.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[tokio::test]
async fn an_account_asks_only_so_often() {
    let (app, _tenant, _owner, sue) = start().await;
    let other = platform(&app, "sam@platform.example", Tier::PlatformSupport).await;
    // Whatever becomes of it: what is refused counts as well.
    for _ in 0..20 {
        app.post_as(
            &sue.token,
            "/support/requests",
            &json!({"tenant": "camp", "reason": "x", "minutes": 31}),
        )
        .await
        .expect(422);
    }
    let refused = app.post_as(&sue.token, "/support/requests", &asking("camp")).await;
    let refused = refused.expect_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"support_request\";q=20;w=3600"));
    ask(&app, &other, "camp").await;
    app.shut_down().await;
}
