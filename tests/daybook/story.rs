//! `daybook audit story`: a support case over HTTP, and what the tenant's log alone tells of it.

use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use daybook::{
    eventstore::{Command, EventStore, Unit},
    story::{Kind, replay::Replay},
    tenancy::Schema,
};
use daybook_domain::{
    CustomerId, Name, SessionId, SupportRequestId, SupportSessionId, UserId,
    customer::CustomerCommand,
    masquerade::{EndCause, Ended},
    permission::Tier,
    registry::AggregateType,
    support_request::SupportRequestEvent,
    support_session::{SupportMode, SupportSessionEvent},
    text::Reason,
};
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    support::{
        app::{TestApp, id, read},
        people::Person,
        process::Host,
        site::{Site, by},
    },
    support_sessions::{begin, platform, start, window},
};

/// What a line says beside when and where in the log: in which session, who, what.
type Line = (String, String, String);

fn line(label: &str, who: &str, text: impl Into<String>) -> Line {
    (label.to_owned(), who.to_owned(), text.into())
}

/// The lines of a story between its head and its foot, with the positions of those that are events.
fn lines(story: &str) -> (Vec<Line>, Vec<i64>) {
    let body = story.split("\n\n").nth(1).unwrap();
    let mut positions = Vec::new();
    let lines = body.lines().map(|text| {
        assert!(text.split("  ").next().unwrap().parse::<DateTime<Utc>>().is_ok(), "{text}");
        positions.extend(text[26..34].trim().parse::<i64>());
        line(text[36..40].trim(), text[40..82].trim(), &text[83..])
    });
    let lines = lines.collect();
    assert!(positions.is_sorted(), "{story}");
    (lines, positions)
}

fn user(person: &Person) -> String {
    format!("user:{}", person.id)
}

/// A command line on the server's database, with its keys.
fn host(app: &TestApp) -> Host {
    let host = Host::on(&app.db);
    fs::create_dir_all(&host.data).unwrap();
    fs::copy(app.data_dir().join("keys.toml"), host.data.join("keys.toml")).unwrap();
    host
}

/// Events that have nothing to do with anything, more than are read at a time.
async fn others(store: &EventStore, schema: &Schema, count: usize) {
    let commands = (0..count).map(|_| {
        let name = Name::new("Somebody", "").unwrap();
        let register = CustomerCommand::Register { name, email: None, phone: None };
        Command::create(CustomerId(Uuid::now_v7()), register)
    });
    let mut commands = commands.collect::<Vec<_>>();
    let mut unit = Unit::of(commands.pop().unwrap(), by("test"));
    unit.commands.extend(commands);
    store.execute(schema, unit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_alone_tells_the_whole_story_of_a_support_case() {
    let (app, tenant, owner, sue) = start().await;
    let pat = platform(&app, "pat@platform.example", Tier::PlatformSupport).await;
    let hotel = app.tenant("hotel").await;
    let hotelier = app.person(&hotel, "owner@hotel.example", Tier::TenantOwner).await;
    let (ada, bob) = (app.customer(&tenant, "Ada").await, app.customer(&tenant, "Bob").await);
    let offering = app.nights_offering(&tenant, &[app.resource(&tenant, "Pitch", 1).await]).await;
    let stay = TestApp::stay(offering, ada, "2031-05-01", "2031-05-04");
    let booking = id(&app.post(&tenant, "/bookings", &stay).await.expect(201));

    // Sue asks. What she tries before the answer is refused, and so is Pat, with her window later.
    let pats = window(&app, &pat, &owner, "camp").await;
    let asking = json!({"tenant": "camp", "reason": "ticket 7:\nthe bill", "minutes": 20});
    let asked = app.post_as(&sue.token, "/support/requests", &asking).await.expect(201);
    let (request, first) = (id(&asked), app.head(&tenant).await);
    let as_owner = json!({"user_id": owner.id, "tenant": "camp", "reason": "ticket 7"});
    app.post_as(&sue.token, "/hijack", &as_owner).await.expect_problem(403, "forbidden");
    app.customer(&tenant, "Carol").await;
    begin(&app, &sue, "camp", "real", Some(pats)).await.expect_problem(403, "forbidden");
    let approve = format!("/support/requests/{request}/approve");
    let approved = app.post_as(&owner.token, &approve, &json!({})).await.expect(200);
    let until: DateTime<Utc> = approved.text("open_until").parse().unwrap();
    begin(&app, &pat, "camp", "real", Some(request)).await.expect_problem(403, "forbidden");

    // What she does, among what others do, and what she does elsewhere.
    let real = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let in_camp = real.text("access_token");
    let pats_session = begin(&app, &pat, "camp", "real", Some(pats)).await.expect(201).text("access_token");
    let redacted = begin(&app, &sue, "camp", "redacted", None).await.expect(201).text("access_token");
    let elsewhere = window(&app, &sue, &hotelier, "hotel").await;
    let in_hotel = begin(&app, &sue, "hotel", "real", Some(elsewhere)).await.expect(201).text("access_token");
    let seen = app.get_as(&in_camp, &format!("/customers/{ada}")).await.expect(200);
    app.get_as(&pats_session, &format!("/customers/{ada}")).await.expect(200);
    app.get_as(&redacted, &format!("/customers/{bob}")).await.expect(200);
    app.post_as(&in_hotel, "/customers", &json!({"name": "Dan"})).await.expect(201);
    app.get_as(&in_camp, &format!("/customers/{bob}")).await.expect(200);
    app.get_as(&in_camp, &format!("/bookings/{booking}")).await.expect(200);
    let key = json!({"name": "mine", "permissions": ["bookings:read:tenant"]});
    app.post_as(&in_camp, "/api-keys", &key).await.expect_problem(403, "forbidden");
    app.post(&tenant, &format!("/bookings/{booking}/cancel"), &json!({"reason": "rain"})).await.expect(200);
    let change = app.client.request(Method::PATCH, app.url(&format!("/customers/{ada}")));
    let change = change.bearer_auth(&in_camp).header("If-Match", seen.header("etag").unwrap());
    read(change.json(&json!({"name": "Ada Byron"}))).await.expect(200);
    let hijack = app.post_as(&sue.token, "/hijack", &as_owner).await.expect(201);
    let as_owner = hijack.text("access_token");
    app.get_as(&as_owner, &format!("/customers/{bob}")).await.expect(200);
    let eve = id(&app.post_as(&as_owner, "/customers", &json!({"name": "Eve"})).await.expect(201));

    // The owner has seen enough. She tries once more when much else has happened.
    let revoke = format!("/support/requests/{request}/revoke");
    app.post_as(&owner.token, &revoke, &json!({"reason": "enough"})).await.expect(200);
    others(&app.store, &tenant.schema(), 1_200).await;
    begin(&app, &sue, "camp", "real", Some(request)).await.expect_problem(403, "forbidden");
    let last = app.head(&tenant).await;
    app.customer(&tenant, "Frank").await;

    let host = host(&app);
    let arguments = ["audit", "story", "--support-request", &request.to_string(), "--tenant", "camp"];
    let story = host.run(&arguments);
    let (told, positions) = lines(&story);
    let (sue, owner, pat) = (user(&sue), user(&owner), user(&pat));
    let until = until.format("%H:%M:%S%.3f");
    let expected = [
        line("", &sue, r#"asked for 20 minutes: "ticket 7:\nthe bill""#),
        line("", &sue, format!(r#"was refused to act as {owner} (window_required): "ticket 7""#)),
        line("", &owner, format!("approved: open until {until}")),
        line("", &pat, r#"was refused a real session (window_of_another): "ticket 7""#),
        line("S1", &sue, format!(r#"began a real session, until {until}: "ticket 7""#)),
        line("S1", &sue, format!("viewed GET /api/v1/customers/{{id}}: {ada}")),
        line("S1", &sue, format!("viewed GET /api/v1/customers/{{id}}: {bob}")),
        line("S1", &sue, format!("viewed GET /api/v1/bookings/{{id}}: {booking}")),
        line("S1", &sue, "was refused POST /api/v1/api-keys (forbidden)"),
        line("S1", &sue, format!("changed customer.updated customer:{ada}")),
        line("H1", &sue, format!(r#"began to act as {owner}, until {until}: "ticket 7""#)),
        line("H1", &sue, format!("as {owner}: viewed GET /api/v1/customers/{{id}}: {bob}")),
        line("H1", &sue, format!("as {owner}: changed customer.registered customer:{eve}")),
        line("", &owner, r#"closed the window: "enough""#),
        line("S1", &owner, "ended: the window was closed"),
        line("H1", &owner, "ended: the window was closed"),
        line("", &sue, r#"was refused a real session (window_not_open): "ticket 7""#),
    ];
    assert_eq!(told, expected, "{story}");
    let positions = (positions[0], *positions.last().unwrap(), positions.len());
    assert_eq!(positions, (first, last, expected.len()));
    let mut head = story.lines();
    assert_eq!(head.next().unwrap(), format!("Support request {request} of camp (tenant:{})", tenant.id));
    assert_eq!(
        head.next().unwrap(),
        format!(r#"asked by {sue}; approved by {owner}, closed by {owner} of the tenant: "enough""#)
    );
    // The log was not read to its end: what came later was found by its type.
    let counts = "viewed 3 things in 4 reads, changed 2, refused 4";
    let foot = format!(
        "{counts}; read from positions {first} to {} of the log, and one event after them",
        first + 999
    );
    assert_eq!(story.lines().last().unwrap(), foot);
    // The same for programs.
    let json = host.json(&[&arguments[..], &["--json"]].concat());
    let entries = json.as_array().unwrap();
    assert_eq!(entries.len(), expected.len());
    let changed = &entries[12];
    assert_eq!((&changed["kind"], &changed["ids"]), (&json!("changed"), &json!([eve])));
    assert_eq!((&changed["actor"], &changed["on_behalf_of"]), (&json!(sue), &json!(owner)));
    assert_eq!(changed["within"], json!(format!("hijack:{}", id(&hijack))));
    assert_eq!((&entries[5]["aggregate"], &entries[5]["ids"]), (&entries[4]["within"], &json!([ada])));
    assert_eq!(entries[4]["within"], json!(format!("support_session:{}", id(&real))));
    assert!(!json.to_string().contains("Byron"), "personal data is told: {json}");
    // Whose it is, the platform knows.
    assert_eq!(host.run(&arguments[..4]), story);
    unknown_requests_are_said_to_be(&host, &request.to_string());

    // Now there is nothing but the log.
    let (db, schema) = (app.db.clone(), tenant.schema());
    app.shut_down().await;
    let owner = PgPool::connect_with(db.owner_options.clone()).await.unwrap();
    empty(&owner, &schema, &["events", "sealed_values", "subject_keys"]).await;
    sqlx::raw_sql("TRUNCATE daybook_platform.support_overview").execute(&owner).await.unwrap();
    assert_eq!(host.run(&arguments), story);
    let lost = host.output(&arguments[..4]);
    assert_eq!(lost.status.code(), Some(1), "nobody knows any more whose it is");

    // A log that an event was taken out of tells no story.
    let cut = schema.sql(
        "ALTER TABLE {s}.events DISABLE TRIGGER USER; DELETE FROM {s}.events WHERE event_type = 'booking.cancelled'",
    );
    sqlx::raw_sql(&cut).execute(&owner).await.unwrap();
    let cut = host.output(&arguments);
    let errors = String::from_utf8_lossy(&cut.stderr);
    assert_eq!(cut.status.code(), Some(1));
    assert!(errors.contains("the log holds no event where the next one belongs"), "{errors}");
    owner.close().await;
}

/// Exit code 1 and a sentence for what is not there, 2 for what cannot be.
fn unknown_requests_are_said_to_be(host: &Host, request: &str) {
    let nobodys = Uuid::now_v7().to_string();
    for (arguments, code, says) in [
        (&["--support-request", &nobodys, "--tenant", "camp"][..], 1, "no support request"),
        (&["--support-request", &nobodys], 1, "no active tenant is known"),
        (&["--support-request", request, "--tenant", "hotel"], 1, "in the log of hotel"),
        (&["--support-request", request, "--tenant", "nowhere"], 1, "nowhere"),
        (&["--support-request", "seven", "--tenant", "camp"], 2, "seven"),
        (&["--tenant", "camp"], 2, "--support-request"),
    ] {
        let output = host.output(&[&["audit", "story"], arguments].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(says) && !errors.contains("panicked"), "{arguments:?}: {errors}");
    }
}

/// Empties every table of a schema but these, and the ledger's, which nobody empties.
async fn empty(owner: &PgPool, schema: &Schema, but: &[&str]) {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
         WHERE schemaname = $1 AND tablename <> ALL($2) AND tablename !~ '^(ledger|head_log)_'",
    )
    .bind(schema.to_string())
    .bind(but)
    .fetch_all(owner)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    sqlx::raw_sql(&format!("TRUNCATE {}", tables.join(", "))).execute(owner).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_goes_on_while_the_window_is_open() {
    let (app, _, owner, sue) = start().await;
    let request = window(&app, &sue, &owner, "camp").await;
    let began = begin(&app, &sue, "camp", "real", Some(request)).await.expect(201);
    let host = host(&app);
    let request = request.to_string();
    let story = || host.run(&["audit", "story", "--support-request", &request]);
    let before = story();
    assert!(before.lines().nth(1).unwrap().contains(", open until "), "{before}");
    app.get_as(&began.text("access_token"), "/customers").await.expect(200);
    let after = story();
    let (before, after) = (lines(&before).0, lines(&after).0);
    assert_eq!((before.len(), &after[..3]), (3, &before[..]));
    assert_eq!(after[3..], [line("S1", &user(&sue), "viewed GET /api/v1/customers")]);
    app.shut_down().await;
}

#[tokio::test]
async fn the_end_of_a_session_is_told_however_late_it_was_noted() {
    let site = Site::open().await;
    let (request, session) = (SupportRequestId(Uuid::now_v7()), SupportSessionId(Uuid::now_v7()));
    let (sue, reason) = (UserId(Uuid::now_v7()), Reason::new("ticket 7", "").unwrap());
    let at = daybook::clock::now();
    let until = at + TimeDelta::seconds(5);
    let requested = SupportRequestEvent::Requested {
        support_request_id: request,
        requested_by: sue,
        reason: reason.clone(),
        minutes: 1,
        at,
        lapses_at: at + TimeDelta::days(1),
    };
    let approved = SupportRequestEvent::Approved { by: UserId::default(), from: at, until };
    let events = vec![requested.into(), approved.into()];
    site.run(Command::decided(request.0, AggregateType::SupportRequest, 0, events)).await.unwrap();
    let started = SupportSessionEvent::Started {
        support_session_id: session,
        user_id: sue,
        signed_in: SessionId::default(),
        mode: SupportMode::Real,
        support_request_id: Some(request),
        reason,
        at,
        until,
    };
    let begin = Command::decided(session.0, AggregateType::SupportSession, 0, vec![started.into()]);
    let first = site.run(begin).await.unwrap().first_position - 2;
    let told = async || {
        let mut replay = Replay::open(&site.store, &site.schema, request).await.unwrap().unwrap();
        let mut kinds = Vec::new();
        while let Some(entries) = replay.next().await.unwrap() {
            kinds.extend(entries.iter().map(|entry| entry.kind));
        }
        (kinds, replay.positions(), replay.later())
    };
    let mut kinds = vec![Kind::Requested, Kind::Approved, Kind::SessionStarted];
    assert_eq!(told().await, (kinds.clone(), (first, first + 2), 0));

    // Past its end.
    let left = until + TimeDelta::milliseconds(100) - daybook::clock::now();
    tokio::time::sleep(left.to_std().unwrap_or_default()).await;
    others(&site.store, &site.schema, 1_200).await;
    kinds.extend([Kind::WindowClosed, Kind::Overdue]);
    assert_eq!(told().await, (kinds.clone(), (first, first + 999), 0));

    let ended = SupportSessionEvent::Ended(Ended { cause: EndCause::Expired, at: until });
    site.run(Command::decided(session.0, AggregateType::SupportSession, 1, vec![ended.into()]))
        .await
        .unwrap();
    kinds[4] = Kind::Ended;
    assert_eq!(told().await, (kinds, (first, first + 999), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_a_support_request_at_the_command_line() {
    let app = TestApp::start().await;
    let host = Host::on(&app.db);
    let mut groups: Vec<Vec<String>> = vec![Vec::new()];
    let mut commands = 0;
    while let Some(group) = groups.pop() {
        let mut arguments: Vec<&str> = group.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = host.run(&arguments);
        assert!(!help.to_lowercase().contains("approv"), "{group:?}: {help}");
        let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
        let listed = listed.lines().take_while(|line| !line.is_empty());
        for name in listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
            groups.push(group.iter().cloned().chain([name.to_owned()]).collect());
            commands += 1;
        }
    }
    assert!(commands > 20, "{commands} commands were found");
    app.shut_down().await;
}
