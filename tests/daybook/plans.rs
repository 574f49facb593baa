//! What a plan allows: sessions, calls, and what becomes of them when a tenant moves to a smaller one.

use std::time::Duration;

use daybook::config::SettingsPatch;
use daybook_domain::{permission::Tier, tenant::TenantCommand};
use serde_json::json;

use crate::support::{
    app::{TestApp, TestTenant},
    people::PASSWORD,
};

async fn start() -> TestApp {
    let patch = SettingsPatch { login_limit_per_minute: Some(1_000), ..SettingsPatch::default() };
    TestApp::start_with(patch).await
}

async fn move_to(app: &TestApp, tenant: &TestTenant, plan: &str) {
    let command = TenantCommand::ChangePlan { plan: plan.into() };
    app.admin.command(tenant.id, command, &Default::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_plans_are_those_that_are_sold() {
    let app = start().await;
    app.account(None, "root@example.org", Tier::Superuser, None).await;
    let root = app.sign_in(None, "root@example.org").await;
    let plans = app.get_as(&root.token, "/platform/plans").await.expect(200);
    let plan = |id: &str, sessions: u32, days: u32, export: bool, calls: u32| {
        json!({
            "id": id, "sessions_per_user": sessions, "audit_history_days": days, "audit_export": export,
            "api_calls_per_hour": calls,
        })
    };
    let sold = json!([
        plan("free", 1, 90, false, 1_000),
        plan("starter", 2, 90, false, 1_000),
        plan("professional", 5, 365, false, 5_000),
        // Three years, one of which may be a leap year.
        plan("business", 20, 1_096, true, 20_000),
    ]);
    assert_eq!(plans.body, json!({"items": sold, "next_cursor": null}));
    app.shut_down().await;
}

#[tokio::test]
async fn past_the_cap_the_oldest_session_ends_and_no_sign_in_is_refused() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    app.account(Some(&tenant), "ada@example.org", Tier::TenantOwner, None).await;
    for (plan, cap) in [("starter", 2), ("professional", 5)] {
        move_to(&app, &tenant, plan).await;
        let mut tokens = Vec::new();
        for _ in 0..cap + 2 {
            let answer = app.login(Some(&tenant), "ada@example.org", PASSWORD).await.expect(200);
            tokens.push(answer.text("access_token"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut alive = Vec::new();
        for token in &tokens {
            alive.push(app.get_as(token, "/me").await.status == 200);
        }
        let expected: Vec<bool> = (0..cap + 2).map(|n| n >= 2).collect();
        assert_eq!(alive, expected, "{plan}: the two oldest are gone");
        let sessions = app.get_as(tokens.last().unwrap(), "/auth/sessions").await.expect(200);
        assert_eq!(sessions.body["items"].as_array().unwrap().len(), cap, "{plan}");
    }
    app.shut_down().await;
}

#[tokio::test]
async fn a_keys_calls_are_those_of_the_plan_also_after_a_smaller_one() {
    let app = start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let make = async |calls: Option<u32>| {
        let body = json!({"name": "Site", "permissions": ["bookings:read:tenant"], "calls_per_hour": calls});
        app.post_as(&ada.token, "/api-keys", &body).await
    };
    let quota = async |key: &str| {
        let answer = app.get_as(key, "/bookings").await.expect(200);
        let policy = answer.header("ratelimit-policy").unwrap().to_owned();
        let quota = policy.strip_prefix("\"api_calls\";q=").and_then(|rest| rest.strip_suffix(";w=3600"));
        quota.unwrap_or_else(|| panic!("{policy}")).parse::<u32>().unwrap()
    };
    let by_plan = make(None).await.expect(201).text("key");
    for (plan, calls) in [("free", 1_000), ("starter", 1_000), ("professional", 5_000), ("business", 20_000)]
    {
        move_to(&app, &tenant, plan).await;
        assert_eq!(quota(&by_plan).await, calls, "{plan}");
        make(Some(calls + 1)).await.expect_problem(403, "plan_limit");
    }
    let large = make(Some(20_000)).await.expect(201).text("key");
    let small = make(Some(50)).await.expect(201).text("key");
    assert_eq!((quota(&large).await, quota(&small).await), (20_000, 50));
    move_to(&app, &tenant, "free").await;
    assert_eq!(quota(&large).await, 1_000, "what was agreed under a larger plan");
    assert_eq!((quota(&by_plan).await, quota(&small).await), (1_000, 50));
    app.shut_down().await;
}
