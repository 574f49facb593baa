//! Calls with API keys: how many there may be in an hour, and what is written down of them.

use chrono::{Datelike as _, NaiveDate, TimeDelta};
use daybook::workers::log_retention;
use daybook_domain::{ApiKeyId, permission::Tier};
use daybook_projections::months::{self as monthly, MonthlyLog};
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::support::app::{TestApp, TestTenant, id};

async fn months(app: &TestApp, tenant: &TestTenant) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = $1::text::regclass ORDER BY 1",
    )
    .bind(tenant.schema().sql("{s}.api_calls"))
    .fetch_all(app.store.database().owner())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_call_is_logged_with_its_template_and_status_and_nothing_of_what_was_asked() {
    let app = TestApp::start().await;
    let (tenant, other) = (app.tenant("camp").await, app.tenant("hotel").await);
    app.get(&tenant, "/bookings?status=confirmed").await.expect(200);
    app.get(&tenant, &format!("/bookings/{}", Uuid::nil())).await.expect(404);
    app.post(&tenant, "/customers", &json!({"name": "Grace Hopper"})).await.expect(201);
    app.get(&tenant, "/me").await.expect(403);
    app.get(&other, "/bookings").await.expect(200);
    app.state.access_log().flush().await;

    let listed = app.get(&tenant, "/audit/api-calls?limit=3").await.expect(200);
    let items = listed.body["items"].as_array().unwrap().clone();
    let seen: Vec<_> = items
        .iter()
        .map(|item| (item["method"].as_str().unwrap(), item["route"].as_str().unwrap(), &item["status"]))
        .collect();
    assert_eq!(
        seen,
        [
            ("GET", "/api/v1/me", &json!(403)),
            ("POST", "/api/v1/customers", &json!(201)),
            ("GET", "/api/v1/bookings/{id}", &json!(404)),
        ]
    );
    assert!(items.iter().all(|item| item["api_key_id"] == json!(tenant.token_id.0)));
    assert!(items.iter().all(|item| item["latency_us"].as_i64().unwrap() > 0));
    let cursor = listed.text("next_cursor");
    let next = app.get(&tenant, &format!("/audit/api-calls?limit=3&cursor={cursor}")).await.expect(200);
    assert_eq!(next.body["items"][0]["route"], "/api/v1/bookings");
    let text = format!("{}{}", listed.body, next.body);
    assert!(!text.contains("confirmed") && !text.contains("Grace"), "{text}");
    let none =
        app.get(&tenant, &format!("/audit/api-calls?api_key_id={}", other.token_id.0)).await.expect(200);
    assert_eq!(none.body["items"], json!([]));

    let today = daybook::clock::now();
    let month = format!("api_calls_{:04}{:02}", today.year(), today.month());
    assert_eq!(months(&app, &tenant).await, [month]);
    // People's calls are not in it, and whoever may not read the audit trail does not see it.
    let staff = app.person(&tenant, "staff@example.org", Tier::TenantStaff).await;
    app.get_as(&staff.token, "/audit/api-calls").await.expect_problem(403, "forbidden");
    app.shut_down().await;
}

#[tokio::test]
async fn months_past_retention_are_dropped_by_the_owner_only() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    app.get(&tenant, "/bookings").await.expect(200);
    app.state.access_log().flush().await;
    let database = app.store.database();
    let now = daybook::clock::now();
    assert_eq!(log_retention::drop_expired(database, now).await.unwrap(), 0);
    assert_eq!(months(&app, &tenant).await.len(), 1);

    let schema = tenant.schema();
    let as_tenant = || {
        let schema = schema.clone();
        async move {
            daybook::tenancy::TenantTx::begin(database.app(), &schema, daybook::tenancy::Access::Write)
                .await
                .unwrap()
        }
    };
    let month = months(&app, &tenant).await.remove(0);
    for sql in [
        "DELETE FROM api_calls".to_owned(),
        "UPDATE api_calls SET status = 200".to_owned(),
        format!("DROP TABLE {month}"),
        format!("DELETE FROM {month}"),
    ] {
        let mut tx = as_tenant().await;
        assert!(sqlx::query(&sql).execute(&mut *tx).await.is_err(), "{sql}");
    }
    // Months that are not now cannot be made.
    let mut tx = as_tenant().await;
    let long_ago = NaiveDate::from_ymd_opt(2001, 1, 1).unwrap();
    assert!(monthly::ensure_partition(&mut tx, MonthlyLog::ApiCalls, long_ago).await.is_err());
    drop(tx);

    // The free plan keeps 90 days; the month itself ends first.
    assert_eq!(log_retention::drop_expired(database, now + TimeDelta::days(89)).await.unwrap(), 0);
    assert_eq!(log_retention::drop_expired(database, now + TimeDelta::days(122)).await.unwrap(), 1);
    assert_eq!(months(&app, &tenant).await, [""; 0]);
    app.shut_down().await;
}

#[tokio::test]
async fn an_hours_calls_are_counted_over_all_nodes() {
    let app = TestApp::start().await;
    let other = app.second_node().await;
    for (limit, calls) in [(7, 40), (120, 300), (0, 3)] {
        let key = ApiKeyId(Uuid::now_v7());
        let hits = (0..calls).map(|n| {
            let node = if n % 2 == 0 { &app } else { &other };
            node.state.limits().check_api_call(key, limit)
        });
        let passed = join_all(hits).await.iter().filter(|hit| hit.is_ok()).count();
        assert_eq!(passed, limit as usize);
    }
    other.shut_down().await;
    app.shut_down().await;
}

#[tokio::test]
async fn a_key_is_refused_after_its_calls_of_the_hour() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let permissions = ["bookings:read:tenant", "availability:read:tenant"];
    let body = json!({"name": "Site", "permissions": permissions, "calls_per_hour": 3});
    let made = app.post_as(&ada.token, "/api-keys", &body).await.expect(201);
    let key = made.text("key");
    let first = app.get_as(&key, "/bookings").await.expect(200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"api_calls\";q=3;w=3600"));
    assert!(first.header("ratelimit").unwrap().starts_with("\"api_calls\";r=2;t="));
    let forbidden = app.get_as(&key, "/customers").await.expect(403);
    assert!(forbidden.header("ratelimit").unwrap().starts_with("\"api_calls\";r=1;t="));
    // Public calls with the key count as well.
    let path = format!("/public/availability?offering_id={}&from=2031-05-01&to=2031-05-02", Uuid::nil());
    app.get_as(&key, &path).await.expect(404);
    for path in ["/bookings", path.as_str()] {
        let refused = app.get_as(&key, path).await.expect_problem(429, "rate_limited");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"api_calls\";q=3;w=3600"));
        assert!(refused.header("retry-after").is_some());
    }
    app.get_as(&ada.token, "/bookings").await.expect(200);
    // What was refused is in the log as well.
    app.state.access_log().flush().await;
    let listed = app.get(&tenant, &format!("/audit/api-calls?api_key_id={}", id(&made))).await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 5);
    app.shut_down().await;
}
