//! Codes of six digits: five comparisons a quarter of an hour, and no word about who has an account.

use std::fs;

use daybook_domain::permission::Tier;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, TestTenant},
    letters::code,
    people::{PASSWORD, generous},
};

const ADA: &str = "ada@example.org";
const NEW: &str = "mountain-lake-nine";

/// A server with a tenant and Ada's account.
async fn start() -> (TestApp, TestTenant) {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    app.account(Some(&tenant), ADA, Tier::TenantOwner, None).await;
    (app, tenant)
}

/// Asks for a code and takes it from letter `n`.
async fn ask(app: &TestApp, tenant: &TestTenant, n: usize) -> String {
    app.anonymous_at(tenant, "/auth/otp", &json!({"email": ADA})).await.expect(202);
    code(&app.letter(ADA, n).await)
}

async fn confirm(app: &TestApp, tenant: &TestTenant, email: &str, code: &str) -> Answer {
    let body = json!({"email": email, "code": code, "new_password": NEW});
    app.anonymous_at(tenant, "/auth/otp/confirm", &body).await
}

/// Codes that are not this one.
fn wrong(right: &str, n: usize) -> Vec<String> {
    (0..).map(|code| format!("{code:06}")).filter(|code| code != right).take(n).collect()
}

/// What the security log says of codes: how many were compared and found wrong, and how many were not compared.
async fn noted(app: &TestApp) -> (usize, usize) {
    app.state.security_log().flush().await;
    let log = fs::read_to_string(app.data_dir().join("logs/security.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |detail: &str| {
        let lines = lines.iter().filter(|line| line["event"] == "otp_failed" && line["detail"] == detail);
        lines.count()
    };
    (of("a wrong code"), of("no attempts left, or no code"))
}

async fn attempts(app: &TestApp, tenant: &TestTenant) -> i32 {
    sqlx::query_scalar(&tenant.schema().sql("SELECT attempts FROM {s}.reset_codes"))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap()
}

#[tokio::test]
async fn of_a_hundred_parallel_codes_five_are_compared() {
    let (app, tenant) = start().await;
    let right = ask(&app, &tenant, 0).await;
    let mut codes = wrong(&right, 99);
    codes.insert(50, right.clone());
    let answers = join_all(codes.iter().map(|code| confirm(&app, &tenant, ADA, code))).await;
    // The right one may have been among the five: then it was compared as well, and no code is left to compare with.
    let won = answers.iter().filter(|answer| answer.status == 204).count();
    assert!(answers.iter().all(|answer| [204, 422].contains(&answer.status.as_u16())));
    let (compared, refused) = noted(&app).await;
    assert_eq!(compared + refused + won, 100, "each is written down");
    assert!((4..=5).contains(&(compared + won)), "{compared} were compared and found wrong, {won} right");
    assert!(won <= 1 && answers[50].status.as_u16() == if won == 1 { 204 } else { 422 });
    app.login(Some(&tenant), ADA, if won == 1 { NEW } else { PASSWORD }).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn after_five_wrong_codes_the_right_one_is_worth_nothing() {
    let (app, tenant) = start().await;
    let first = ask(&app, &tenant, 0).await;
    let answers = join_all(wrong(&first, 5).iter().map(|code| confirm(&app, &tenant, ADA, code))).await;
    assert!(answers.iter().all(|answer| answer.status == 422));
    assert_eq!((attempts(&app, &tenant).await, noted(&app).await), (5, (5, 0)));
    // Another code is no fresh budget, also not among many.
    let second = ask(&app, &tenant, 1).await;
    for right in [&first, &second] {
        let mut codes = wrong(right, 20);
        codes.extend(std::iter::repeat_n(right.clone(), 20));
        let answers = join_all(codes.iter().map(|code| confirm(&app, &tenant, ADA, code))).await;
        assert!(answers.iter().all(|answer| answer.status == 422), "too late");
    }
    assert_eq!((attempts(&app, &tenant).await, noted(&app).await), (5, (5, 80)));

    // Nor is one that is asked for in the last minute of the quarter of an hour.
    let schema = tenant.schema();
    let back = async |minutes: u32| {
        let sql =
            format!("UPDATE {{s}}.reset_codes SET attempts_since = now() - interval '{minutes} minutes'");
        assert_eq!(app.sql(&schema, &sql).await, 1);
    };
    back(14).await;
    let third = ask(&app, &tenant, 2).await;
    confirm(&app, &tenant, ADA, &third).await.expect_problem(422, "validation_failed");
    // Waiting alone gives nothing back: the codes so far are spent.
    back(16).await;
    confirm(&app, &tenant, ADA, &third).await.expect_problem(422, "validation_failed");
    let fourth = ask(&app, &tenant, 3).await;
    assert_eq!(attempts(&app, &tenant).await, 0);
    let answers = join_all(wrong(&fourth, 4).iter().map(|code| confirm(&app, &tenant, ADA, code))).await;
    assert!(answers.iter().all(|answer| answer.status == 422));
    confirm(&app, &tenant, ADA, &fourth).await.expect(204);
    app.login(Some(&tenant), ADA, NEW).await.expect(200);
    app.shut_down().await;
}

#[tokio::test]
async fn a_code_works_once_also_in_a_race_and_ends_every_session() {
    let (app, tenant) = start().await;
    let (here, there) = (app.sign_in(Some(&tenant), ADA).await, app.sign_in(Some(&tenant), ADA).await);
    let other = app.person(&tenant, "bob@example.org", Tier::TenantStaff).await;
    let first = ask(&app, &tenant, 0).await;
    let second = ask(&app, &tenant, 1).await;
    if first != second {
        confirm(&app, &tenant, ADA, &first).await.expect_problem(422, "validation_failed");
    }
    let hotel = app.tenant("hotel").await;
    confirm(&app, &hotel, ADA, &second).await.expect_problem(422, "validation_failed");
    confirm(&app, &tenant, "bob@example.org", &second).await.expect_problem(422, "validation_failed");
    for person in [&here, &there, &other] {
        app.get_as(&person.token, "/me").await.expect(200);
    }
    let answers = join_all((0..4).map(|_| confirm(&app, &tenant, "ADA@example.org", &second))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 204).count(), 1);
    confirm(&app, &tenant, ADA, &second).await.expect_problem(422, "validation_failed");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    for person in [&here, &there] {
        app.get_as(&person.token, "/me").await.expect_problem(401, "unauthenticated");
        app.refresh(&person.refresh).await.expect_problem(401, "unauthenticated");
    }
    app.get_as(&other.token, "/me").await.expect(200);
    app.login(Some(&tenant), ADA, PASSWORD).await.expect(401);
    app.login(Some(&tenant), ADA, NEW).await.expect(200);
    assert!(app.letter(ADA, 2).await.contains("was changed"), "they are told");
    app.shut_down().await;
}

#[tokio::test]
async fn a_code_is_good_for_a_quarter_of_an_hour() {
    let (app, tenant) = start().await;
    let schema = tenant.schema();
    let right = ask(&app, &tenant, 0).await;
    assert!(app.letter(ADA, 0).await.contains("valid for 15 minutes"));
    let left: f64 = sqlx::query_scalar(
        &schema.sql("SELECT extract(epoch FROM expires_at - now())::double precision FROM {s}.reset_codes"),
    )
    .fetch_one(app.store.database().owner())
    .await
    .unwrap();
    assert!((880.0..=900.0).contains(&left), "{left}");
    let back = "UPDATE {s}.reset_codes SET expires_at = expires_at - interval '15 minutes'";
    assert_eq!(app.sql(&schema, back).await, 1);
    confirm(&app, &tenant, ADA, &right).await.expect_problem(422, "validation_failed");
    assert_eq!(noted(&app).await, (0, 1), "a code that is over is not compared");
    let forth = "UPDATE {s}.reset_codes SET expires_at = expires_at + interval '1 minute'";
    assert_eq!(app.sql(&schema, forth).await, 1);
    confirm(&app, &tenant, ADA, &right).await.expect(204);
    app.shut_down().await;
}

/// All that a client can see of an answer but what is another one's every time: its time, its id, and what is left of
/// a limit.
fn seen(mut answer: Answer) -> (u16, Value, Vec<(String, String)>) {
    if let Some(id) = answer.body.get_mut("request_id") {
        *id = Value::Null;
    }
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| {
            let value = value.to_str().unwrap();
            let counts = ["ratelimit", "retry-after"].contains(&name.as_str());
            (name.to_string(), if counts { String::new() } else { value.to_owned() })
        })
        .collect();
    headers.sort_unstable();
    (answer.status.as_u16(), answer.body, headers)
}

/// Bob's account has no open code, Carl's is switched off, Dora's is an invitation, and Eve has none.
async fn people(app: &TestApp, tenant: &TestTenant) -> [&'static str; 4] {
    app.account(Some(tenant), "bob@example.org", Tier::TenantStaff, None).await;
    let carl = app.account(Some(tenant), "carl@example.org", Tier::TenantStaff, None).await;
    let path = format!("/users/{carl}/deactivate");
    app.request(tenant, Method::POST, &path, &[], None).await.expect(200);
    let dora = json!({"email": "dora@example.org", "name": "Dora", "role": "tenant_staff"});
    app.post(tenant, "/invitations", &dora).await.expect(201);
    ["bob@example.org", "carl@example.org", "dora@example.org", "eve@example.org"]
}

#[tokio::test]
async fn a_wrong_code_tells_nothing_about_accounts() {
    let (app, tenant) = start().await;
    let others = people(&app, &tenant).await;
    let right = ask(&app, &tenant, 0).await;
    let wrong = wrong(&right, 1).remove(0);
    // The sixth time there are no attempts left.
    for _ in 0..6 {
        let known = seen(confirm(&app, &tenant, ADA, &wrong).await);
        assert_eq!(known.0, 422);
        assert_eq!(known.1["errors"][0]["code"], "invalid_code");
        for email in others {
            assert_eq!(seen(confirm(&app, &tenant, email, &wrong).await), known, "{email}");
        }
        let nowhere = TestTenant { slug: "nowhere".into(), ..tenant.clone() };
        assert_eq!(seen(confirm(&app, &nowhere, ADA, &wrong).await), known);
    }
    assert_eq!(
        seen(confirm(&app, &tenant, ADA, &right).await),
        seen(confirm(&app, &tenant, others[3], &right).await)
    );
    app.shut_down().await;
}

#[tokio::test]
async fn asking_for_a_reset_tells_nothing_about_accounts_and_fills_no_mailbox() {
    let (app, tenant) = start().await;
    let others = people(&app, &tenant).await;
    let nowhere = TestTenant { slug: "nowhere".into(), ..tenant.clone() };
    for path in ["/auth/password/reset", "/auth/otp"] {
        let ask = async |tenant: &TestTenant, email: &str| {
            seen(app.anonymous_at(tenant, path, &json!({"email": email})).await)
        };
        // More often than one account is written to.
        for _ in 0..7 {
            let known = ask(&tenant, ADA).await;
            assert_eq!((known.0, known.1.as_str()), (202, Some("")));
            assert!(known.2.iter().any(|(name, _)| name == "ratelimit-policy"), "{:?}", known.2);
            for email in others {
                assert_eq!(ask(&tenant, email).await, known, "{email}");
            }
            assert_eq!(ask(&nowhere, ADA).await, known);
        }
    }
    app.letter(ADA, 9).await;
    app.letter("bob@example.org", 9).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(others.map(|email| app.letters(email).len()), [10, 0, 1, 0], "ten an hour, and an invitation");
    assert_eq!(app.letters(ADA).len(), 10);
    app.shut_down().await;
}

#[tokio::test]
async fn a_sign_in_that_fails_tells_nothing_about_accounts() {
    let (app, tenant) = start().await;
    let others = people(&app, &tenant).await;
    // The sixth time the account is locked for the address, and so is one that does not exist.
    for n in 0..6 {
        let known = seen(app.login(Some(&tenant), ADA, "wrong-password").await);
        assert_eq!(known.0, if n < 5 { 401 } else { 429 });
        for email in others {
            assert_eq!(
                seen(app.login(Some(&tenant), email, PASSWORD.trim_end_matches('n')).await),
                known,
                "{email}"
            );
        }
        let nowhere = TestTenant { slug: "nowhere".into(), ..tenant.clone() };
        assert_eq!(seen(app.login(Some(&nowhere), others[3], PASSWORD).await), known, "no such tenant");
    }
    app.shut_down().await;
}
