//! Signed links: each for one purpose, for its time, to the site that is configured, of a tenant that is on.

use chrono::TimeDelta;
use daybook::{
    auth::link::{self, Purpose},
    config::SettingsPatch,
    eventstore::{Command, Unit},
};
use daybook_domain::{
    ResetId, UserId,
    envelope::Metadata,
    permission::Tier,
    tenant::TenantCommand,
    text::{Email, Name},
    user::{By, ResetBy, UserCommand},
};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    letters::{self, payload, token},
    people::{PASSWORD, generous},
};

const NEW: &str = "mountain-lake-nine";
const PURPOSES: [Purpose; 4] =
    [Purpose::PasswordReset, Purpose::Invitation, Purpose::Signup, Purpose::GuestBooking];

/// A payload as the server signs it, until some seconds from now.
fn forged(app: &TestApp, purpose: Purpose, payload: &Value, seconds: i64) -> String {
    let until = daybook::clock::now() + TimeDelta::seconds(seconds);
    link::sign(&app.keys, purpose, payload, until).unwrap().expose_secret().to_owned()
}

/// Shows a link where links of a purpose are used.
async fn show(app: &TestApp, purpose: Purpose, token: &str) -> Answer {
    let (path, body) = match purpose {
        Purpose::PasswordReset => {
            ("/auth/password/reset/confirm", json!({"token": token, "new_password": NEW}))
        }
        Purpose::Invitation => ("/invitations/accept", json!({"token": token, "password": NEW})),
        Purpose::Signup => ("/signup/confirm", json!({"token": token})),
        Purpose::GuestBooking => unreachable!("a guest has three routes"),
    };
    app.anonymous(path, &[], &body).await
}

/// Shows a link on each of a guest's routes to a booking; the last one cancels it.
async fn show_as_guest(app: &TestApp, booking: Uuid, token: &str) -> Vec<u16> {
    let path = format!("/public/bookings/{booking}");
    let dates = json!({"check_in": "2031-06-01", "check_out": "2031-06-02"});
    let with = |method, at: String| app.client.request(method, app.url(&at));
    let mut statuses = Vec::new();
    for request in [
        with(Method::GET, path.clone()).header("X-Guest-Token", token),
        with(Method::GET, format!("{path}?token={token}")),
        with(Method::POST, format!("{path}/reschedule")).header("X-Guest-Token", token).json(&dates),
        with(Method::POST, format!("{path}/cancel")).header("X-Guest-Token", token),
    ] {
        statuses.push(read(request).await.status.as_u16());
    }
    statuses
}

/// Asks for a link by which Ada's password can be reset, and takes it from the letter.
async fn reset_link(app: &TestApp, tenant: &TestTenant, n: usize) -> String {
    let body = json!({"email": "ada@example.org"});
    app.anonymous_at(tenant, "/auth/password/reset", &body).await.expect(202);
    token(&app.letter("ada@example.org", n).await)
}

/// Invites somebody, and takes the link from the letter.
async fn invitation(app: &TestApp, tenant: &TestTenant, email: &str) -> (Answer, String) {
    let body = json!({"email": email, "name": "Bob", "role": "tenant_staff"});
    let invited = app.post(tenant, "/invitations", &body).await.expect(201);
    (invited, token(&app.letter(email, 0).await))
}

/// Signs a tenant up, and takes the link from the letter.
async fn sign_up(app: &TestApp, slug: &str, email: &str) -> String {
    let body = json!({"tenant_name": "Camping River", "slug": slug, "email": email, "password": PASSWORD});
    app.anonymous("/signup", &[], &body).await.expect(202);
    token(&app.letter(email, 0).await)
}

/// A guest's booking, and the link to it.
async fn guest_booking(app: &TestApp, tenant: &TestTenant) -> (Uuid, String) {
    let unit = app.resource(tenant, "Cabin", 1).await;
    let offering = app.nights_offering(tenant, &[unit]).await;
    let body = json!({
        "offering_id": offering, "check_in": "2031-05-01", "check_out": "2031-05-03", "guests": 2,
        "customer": {"name": "Grace Hopper", "email": "grace@example.org"},
    });
    let booked = app.anonymous_at(tenant, "/public/bookings", &body).await.expect(201);
    (id(&booked), booked.text("guest_token"))
}

#[tokio::test]
async fn a_link_of_one_purpose_is_useless_for_every_other() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let (booking, guest) = guest_booking(&app, &tenant).await;
    let links = [
        (Purpose::PasswordReset, reset_link(&app, &tenant, 0).await, 204),
        (Purpose::Invitation, invitation(&app, &tenant, "bob@example.org").await.1, 204),
        (Purpose::Signup, sign_up(&app, "river", "eve@example.org").await, 201),
    ];
    // What each says is right for the route it is shown to; what it was signed for is not.
    for (route, link, accepted) in &links {
        let (says, _) = payload(link);
        for wrong in PURPOSES.into_iter().filter(|purpose| purpose != route) {
            let answer = show(&app, *route, &forged(&app, wrong, &says, 60)).await;
            assert_eq!(answer.status, 422, "{wrong:?} for {route:?}: {}", answer.body);
            assert_eq!(answer.body["errors"][0]["code"], "invalid_token", "{wrong:?} for {route:?}");
        }
        for wrong in [&ada.token, &ada.refresh, &guest, &tenant.token] {
            show(&app, *route, wrong).await.expect_problem(422, "validation_failed");
        }
        show(&app, *route, &forged(&app, *route, &says, 0)).await.expect_problem(422, "validation_failed");
        show(&app, *route, &forged(&app, *route, &says, 60)).await.expect(*accepted);
        show(&app, *route, link).await.expect_problem(422, "validation_failed");
    }
    let (says, _) = payload(&guest);
    for wrong in PURPOSES.into_iter().filter(|purpose| *purpose != Purpose::GuestBooking) {
        let statuses = show_as_guest(&app, booking, &forged(&app, wrong, &says, 60)).await;
        assert_eq!(statuses, [401; 4], "{wrong:?}");
    }
    assert_eq!(show_as_guest(&app, booking, &ada.token).await, [401; 4]);
    let right = forged(&app, Purpose::GuestBooking, &says, 60);
    for link in links.iter().map(|(_, link, _)| link).chain([&right]) {
        app.get_as(link, "/me").await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(show_as_guest(&app, booking, &right).await, [200; 4]);
    app.shut_down().await;
}

#[tokio::test]
async fn links_lead_to_the_configured_site_whatever_a_request_says() {
    let public_url = Some("https://book.daybook.example/app/".to_owned());
    let app = TestApp::start_with(SettingsPatch { public_url, ..generous() }).await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let elsewhere = [
        ("Host", "evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Prefix", "/evil.example"),
        ("Forwarded", "host=evil.example;proto=http"),
        ("X-Original-Host", "evil.example"),
        ("Referer", "https://evil.example/"),
    ];
    let ask = async |path: &str, body: Value, status: u16| {
        let headers = [elsewhere.as_slice(), &[("X-Tenant-Slug", "camp")]].concat();
        app.anonymous(path, &headers, &body).await.expect(status);
    };
    ask("/auth/password/reset", json!({"email": "ada@example.org"}), 202).await;
    let sign_up =
        json!({"tenant_name": "River", "slug": "river", "email": "eve@example.org", "password": PASSWORD});
    ask("/signup", sign_up, 202).await;
    let invite = json!({"email": "bob@example.org", "name": "Bob", "role": "tenant_staff"});
    app.request(&tenant, Method::POST, "/invitations", &elsewhere, Some(&invite)).await.expect(201);
    for (to, page) in [
        ("ada@example.org", "reset-password"),
        ("eve@example.org", "signup"),
        ("bob@example.org", "invitation"),
    ] {
        let letter = app.letter(to, 0).await;
        let prefix = format!("https://book.daybook.example/app/{page}?token=");
        assert!(letters::link(&letter).starts_with(&prefix), "{letter}");
        assert!(!letter.contains("evil.example"), "{letter}");
    }
    app.shut_down().await;
}

/// Whether a time is this long from now, give or take what a test takes.
fn ends_in(until: i64, span: TimeDelta) -> bool {
    let left = until - daybook::clock::now().timestamp();
    (span.num_seconds() - 20..=span.num_seconds()).contains(&left)
}

#[tokio::test]
async fn each_link_ends_when_its_letter_says() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let time =
        |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp();

    let days = TimeDelta::days(3);
    assert!(ends_in(payload(&reset_link(&app, &tenant, 0).await).1, days));
    assert!(app.letter("ada@example.org", 0).await.contains("within 3 days:"));
    let asked = app.get(&tenant, "/audit/events?type=user.password_reset_requested").await.expect(200);
    assert!(ends_in(time(&asked.body["items"][0]["payload"]["expires_at"]), days));

    let days = TimeDelta::days(7);
    let (invited, link) = invitation(&app, &tenant, "bob@example.org").await;
    assert!(ends_in(payload(&link).1, days) && ends_in(time(&invited.body["invited_until"]), days));
    assert!(app.letter("bob@example.org", 0).await.contains("within 7 days:"));

    let day = TimeDelta::days(1);
    let link = sign_up(&app, "river", "eve@example.org").await;
    assert!(ends_in(payload(&link).1, day));
    assert!(app.letter("eve@example.org", 0).await.contains("within 1 day:"));
    let kept: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM expires_at)::double precision FROM daybook_platform.signups",
    )
    .fetch_one(app.store.database().owner())
    .await
    .unwrap();
    assert!(ends_in(kept as i64, day));
    let platform = daybook::tenancy::Schema::platform();
    assert_eq!(
        app.sql(&platform, "UPDATE {s}.signups SET expires_at = expires_at - interval '1 day'").await,
        1
    );
    show(&app, Purpose::Signup, &link).await.expect_problem(422, "validation_failed");
    app.get(&tenant, "/resources").await.expect(200);
    app.login(Some(&TestTenant { slug: "river".into(), ..tenant }), "eve@example.org", PASSWORD)
        .await
        .expect(401);
    app.shut_down().await;
}

/// What the log says of its time counts also where a link says another.
#[tokio::test]
async fn a_request_that_is_over_is_over_for_every_link_to_it() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    let ada = app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let run = async |command: Command| {
        let unit = Unit::of(command, Metadata { actor: "test".into(), ..Metadata::default() });
        app.store.execute(&tenant.schema(), unit).await.unwrap();
    };
    let now = daybook::clock::now();
    for (seconds, reset_status, invitation_status) in [(2, 422, 422), (600, 204, 204)] {
        let until = now + TimeDelta::seconds(seconds);
        let (reset, bob) = (ResetId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        run(Command::to(
            ada,
            UserCommand::RequestReset { reset_id: reset, by: ResetBy::Link, expires_at: until },
        ))
        .await;
        run(Command::create(
            bob,
            UserCommand::Invite {
                email: Email::new(&format!("bob-{seconds}@example.org"), "").unwrap(),
                name: Name::new("Bob", "").unwrap(),
                role: Tier::TenantStaff.into(),
                modules: Default::default(),
                customer_id: None,
                until,
                by: By::Operator,
            },
        ))
        .await;
        if seconds == 2 {
            tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
        }
        let says = json!({"t": tenant.id, "u": ada, "r": reset});
        let link = forged(&app, Purpose::PasswordReset, &says, 600);
        show(&app, Purpose::PasswordReset, &link).await.expect(reset_status);
        let link = forged(&app, Purpose::Invitation, &json!({"t": tenant.id, "u": bob}), 600);
        show(&app, Purpose::Invitation, &link).await.expect(invitation_status);
    }
    app.shut_down().await;
}

#[tokio::test]
async fn links_and_codes_of_a_tenant_that_is_off_do_nothing() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    let reset = reset_link(&app, &tenant, 0).await;
    let (_, invited) = invitation(&app, &tenant, "bob@example.org").await;
    app.account(Some(&tenant), "carl@example.org", Tier::TenantStaff, None).await;
    app.anonymous_at(&tenant, "/auth/otp", &json!({"email": "carl@example.org"})).await.expect(202);
    let code = letters::code(&app.letter("carl@example.org", 0).await);
    let code = json!({"email": "carl@example.org", "code": code, "new_password": "forest-cabin-four"});
    let switch = async |command| {
        app.admin.command(tenant.id, command, &Metadata::default()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    };

    switch(TenantCommand::Deactivate).await;
    show(&app, Purpose::PasswordReset, &reset).await.expect_problem(422, "validation_failed");
    show(&app, Purpose::Invitation, &invited).await.expect_problem(422, "validation_failed");
    app.anonymous_at(&tenant, "/auth/otp/confirm", &code).await.expect_problem(422, "validation_failed");
    // Nobody is told that there was a tenant, and nothing is sent.
    app.anonymous_at(&tenant, "/auth/password/reset", &json!({"email": "ada@example.org"})).await.expect(202);

    switch(TenantCommand::Activate).await;
    app.anonymous_at(&tenant, "/auth/otp/confirm", &code).await.expect(204);
    show(&app, Purpose::PasswordReset, &reset).await.expect(204);
    show(&app, Purpose::Invitation, &invited).await.expect(204);
    // The link, and that the password was changed.
    app.letter("ada@example.org", 1).await;
    assert_eq!(app.letters("ada@example.org").len(), 2);
    app.shut_down().await;
}
