//! Every filter of the views for auditors is answered from an index: nothing is read to be passed over, however much of it
//! there is. As the server asks, with one plan for all parameters.

use chrono::{DateTime, Utc};
use daybook::tenancy::{Access, TenantTx};
use daybook_projections::{
    api_calls::{self, ApiCallFilter},
    booking_changes::{self, BookingChangeFilter},
    logins::{self, LoginFilter},
    messages::{self, MessageFilter},
    request_errors::{self, RequestErrorFilter},
    support_audit::{self, SupportAuditFilter},
};
use sqlx::{Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::support::app::{TestApp, TestTenant};

/// Some thousand lines of each view, months of them.
const FILLED: &[&str] = &[
    "CREATE TABLE {s}.api_calls_all PARTITION OF {s}.api_calls FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')",
    "CREATE TABLE {s}.refused_logins_all PARTITION OF {s}.refused_logins FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')",
    "CREATE TABLE {s}.request_errors_all PARTITION OF {s}.request_errors FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')",
    "INSERT INTO {s}.api_calls (at, request_id, api_key_id, method, route, status, latency_us)
     SELECT now() - n * interval '1 hour', gen_random_uuid(), md5((n % 50)::text)::uuid, 'GET', '/x', 200, 1
     FROM generate_series(1, 5000) n",
    "INSERT INTO {s}.refused_logins (at, request_id, kind, outcome, user_id, ip, times)
     SELECT now() - n * interval '1 hour', gen_random_uuid(), CASE n % 10 WHEN 0 THEN 'password_reset' ELSE 'sign_in' END,
            CASE n % 7 WHEN 0 THEN 'locked_out' ELSE 'failed' END, md5((n % 50)::text)::uuid, '203.0.113.' || n % 200, 1
     FROM generate_series(1, 5000) n",
    "INSERT INTO {s}.login_events (position, event_id, recorded_at, user_id, kind, actor, ip)
     SELECT 1000000 - n, gen_random_uuid(), now() - n * interval '1 hour', md5((n % 50)::text)::uuid, 'kind ' || n % 6,
            'user', '203.0.113.' || n % 200
     FROM generate_series(1, 5000) n",
    "INSERT INTO {s}.request_errors (at, request_id, method, route, status, code, actor, times)
     SELECT now() - n * interval '1 hour', gen_random_uuid(), 'GET', '/x', 400 + n % 20, 'code ' || n % 30,
            'user:' || n % 50, 1
     FROM generate_series(1, 5000) n",
    "INSERT INTO {s}.messages (id, kind, user_id, subject, status, sealed_body, created_at, sent_at)
     SELECT gen_random_uuid(), 'kind ' || n % 7, md5((n % 50)::text)::uuid, 'x', how, CASE how WHEN 'queued' THEN 'x' END,
            now() - n * interval '1 hour', CASE how WHEN 'sent' THEN now() END
     FROM generate_series(1, 5000) n,
          LATERAL (SELECT CASE n % 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'queued' ELSE 'sent' END AS how) AS status",
    "INSERT INTO {s}.support_sessions (id, user_id, signed_in, mode, support_request_id, reason, started_at, until, refused,
                                       ended_at, viewed, denied, version, position, created_at, updated_at)
     SELECT gen_random_uuid(), md5((n % 50)::text)::uuid, gen_random_uuid(), 'redacted', md5((n / 3)::text)::uuid, 'x', at,
            at + interval '90 minutes', CASE n % 10 WHEN 0 THEN 'x' END, CASE WHEN n > 3 THEN at END, 0, 0, 1, n, at, at
     FROM generate_series(1, 5000) n, LATERAL (SELECT now() - n * interval '1 hour' AS at) AS times",
    "INSERT INTO {s}.hijacks (id, hijacker, hijacker_side, signed_in, target, via, support_request_id, reason, started_at,
                              until, refused, ended_at, viewed, denied, version, position, created_at, updated_at)
     SELECT gen_random_uuid(), md5((n % 50)::text)::uuid, 'platform', gen_random_uuid(), gen_random_uuid(), 'window',
            md5((n / 3)::text)::uuid, 'x', at, at + interval '90 minutes', CASE n % 10 WHEN 0 THEN 'x' END,
            CASE WHEN n > 3 THEN at END, 0, 0, 1, n, at, at
     FROM generate_series(1, 5000) n, LATERAL (SELECT now() - n * interval '1 hour' AS at) AS times",
    "INSERT INTO {s}.booking_history (booking_id, sequence, position, event_type, recorded_at, occurred_at, actor, changes,
                                      resource_id, left_resource_id)
     SELECT md5((n / 5)::text)::uuid, n, 1000000 - n, 'type ' || n % 10, at, at, 'user:' || n % 50, '[]',
            md5((n % 30)::text)::uuid, CASE n % 5 WHEN 0 THEN md5((n % 7)::text)::uuid END
     FROM generate_series(1, 5000) n, LATERAL (SELECT now() - n * interval '1 hour' AS at) AS times",
    "ANALYZE {s}.api_calls, {s}.refused_logins, {s}.login_events, {s}.request_errors, {s}.messages, {s}.support_sessions,
             {s}.hijacks, {s}.booking_history",
];

/// The plan that a statement is given before its parameters are known, as a connection for reads has it.
async fn plan(app: &TestApp, tenant: &TestTenant, statement: QueryBuilder<'_, Postgres>) -> String {
    let database = app.store.database();
    let mut tx = TenantTx::begin(database.app(), &tenant.schema(), Access::Read).await.unwrap();
    // Whatever this connection knew of the tables before there was anything in them.
    sqlx::raw_sql("DISCARD PLANS").execute(&mut *tx).await.unwrap();
    sqlx::raw_sql(&format!("PREPARE asked AS {}", statement.sql())).execute(&mut *tx).await.unwrap();
    let types: Vec<String> = sqlx::query_scalar(
        "SELECT kind::text FROM pg_prepared_statements, unnest(parameter_types) WITH ORDINALITY AS each (kind, place)
         WHERE name = 'asked' ORDER BY place",
    )
    .fetch_all(&mut *tx)
    .await
    .unwrap();
    let values = types.iter().map(|kind| match kind.as_str() {
        "uuid" => "'01a1fdc1-c481-719a-9803-a3bb46f22c94'",
        "text" => "'x'",
        "integer" | "bigint" => "50",
        "timestamp with time zone" => "now()",
        other => panic!("{other}"),
    });
    let execute = format!("EXPLAIN (COSTS OFF) EXECUTE asked({})", values.collect::<Vec<_>>().join(", "));
    let rows = sqlx::raw_sql(&execute).fetch_all(&mut *tx).await.unwrap();
    sqlx::raw_sql("DEALLOCATE asked").execute(&mut *tx).await.unwrap();
    tx.release();
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

/// That nothing is looked at only to find that it is not what was asked for.
fn assert_is_index(what: &str, column: &str, plan: &str) {
    assert!(plan.contains("$1"), "{what}: a plan for all parameters\n{plan}");
    let mut lines = plan.lines().map(str::trim_start);
    let passed_over = lines.any(|line| {
        // The head is one row.
        let whole_table = line.contains("Seq Scan") && !line.contains("log_head");
        whole_table || line.starts_with("Filter:") && line.contains(column)
    });
    assert!(!passed_over, "{what}: {column} is a filter\n{plan}");
}

#[tokio::test]
async fn no_filter_of_a_view_reads_what_is_not_asked_for() {
    let app = TestApp::start().await;
    let tenant = app.tenant("camp").await;
    for sql in FILLED {
        app.sql(&tenant.schema(), sql).await;
    }
    let (id, text) = (Some(Uuid::nil()), || Some("x".to_owned()));
    // The cut is always asked for.
    let now: Option<DateTime<Utc>> = Some(daybook::clock::now());
    let past = now.map(|now| (now, Uuid::nil()));

    let of = ApiCallFilter { from: now, ..ApiCallFilter::default() };
    for (filter, column) in [
        (of.clone(), "at"),
        (ApiCallFilter { to: now, ..of.clone() }, "at"),
        (ApiCallFilter { api_key_id: id, ..of.clone() }, "api_key_id"),
        (ApiCallFilter { api_key_id: id, to: now, ..of.clone() }, "api_key_id"),
    ] {
        for past in [None, past] {
            let plan = plan(&app, &tenant, api_calls::statement(&filter, past, 50)).await;
            assert_is_index("calls", column, &plan);
        }
    }

    let of = RequestErrorFilter { from: now, ..RequestErrorFilter::default() };
    for (filter, column) in [
        (of.clone(), "at"),
        (RequestErrorFilter { to: now, ..of.clone() }, "at"),
        (RequestErrorFilter { actor: text(), ..of.clone() }, "actor"),
        (RequestErrorFilter { status: Some(500), ..of.clone() }, "status"),
        (RequestErrorFilter { status: Some(500), to: now, ..of.clone() }, "status"),
        (RequestErrorFilter { code: text(), ..of.clone() }, "code"),
        (RequestErrorFilter { code: text(), to: now, ..of.clone() }, "code"),
    ] {
        for past in [None, past] {
            let plan = plan(&app, &tenant, request_errors::statement(&filter, past, 50)).await;
            assert_is_index("errors", column, &plan);
        }
    }

    let of = MessageFilter { from: now, ..MessageFilter::default() };
    for (filter, column) in [
        (of.clone(), "created_at"),
        (MessageFilter { to: now, ..of.clone() }, "created_at"),
        (MessageFilter { user_id: id, ..of.clone() }, "user_id"),
        (MessageFilter { kind: text(), ..of.clone() }, "kind"),
        (MessageFilter { kind: text(), to: now, ..of.clone() }, "kind"),
        (MessageFilter { status: text(), ..of.clone() }, "status"),
        (MessageFilter { status: text(), to: now, ..of.clone() }, "status"),
    ] {
        for past in [None, past] {
            let plan = plan(&app, &tenant, messages::statement(&filter, past, 50)).await;
            assert_is_index("messages", column, &plan);
        }
    }

    let of = LoginFilter { from: now, ..LoginFilter::default() };
    for (filter, column) in [
        (of.clone(), "at"),
        (LoginFilter { to: now, ..of.clone() }, "at"),
        (LoginFilter { user_id: id, ..of.clone() }, "user_id"),
        (LoginFilter { kind: text(), ..of.clone() }, "kind"),
        (LoginFilter { kind: text(), to: now, ..of.clone() }, "kind"),
        (LoginFilter { outcome: text(), ..of.clone() }, "outcome"),
        (LoginFilter { outcome: text(), to: now, ..of.clone() }, "outcome"),
        (LoginFilter { outcome: Some("succeeded".into()), ..of.clone() }, "outcome"),
        (LoginFilter { ip: text(), ..of.clone() }, "ip"),
    ] {
        for past in [None, past] {
            let plan = plan(&app, &tenant, logins::statement(&filter, past, 50)).await;
            assert_is_index("logins", column, &plan);
        }
    }

    let of = SupportAuditFilter { from: now, ..SupportAuditFilter::default() };
    let state = |state: &str| SupportAuditFilter { state: Some(state.into()), ..of.clone() };
    let kind = |kind: &str| SupportAuditFilter { kind: Some(kind.into()), ..of.clone() };
    for (filter, column) in [
        (of.clone(), "started_at"),
        (SupportAuditFilter { to: now, ..of.clone() }, "started_at"),
        (kind("support_session"), "started_at"),
        (kind("hijack"), "started_at"),
        (state("open"), "refused"),
        (state("open"), "ended_at"),
        (state("open"), "until"),
        (state("refused"), "refused"),
        // Of what began it passes over what is open, which is never much.
        (state("ended"), "refused"),
        (SupportAuditFilter { user_id: id, ..of.clone() }, "user_id"),
        (SupportAuditFilter { user_id: id, ..of.clone() }, "hijacker"),
        (SupportAuditFilter { support_request_id: id, ..of.clone() }, "support_request_id"),
    ] {
        for past in [None, past] {
            let plan = plan(&app, &tenant, support_audit::statement(&filter, past, 50)).await;
            assert_is_index("support", column, &plan);
        }
    }
    let one = SupportAuditFilter { id, ..SupportAuditFilter::default() };
    assert_is_index("one", "id", &plan(&app, &tenant, support_audit::statement(&one, None, 1)).await);

    let of = BookingChangeFilter { from: now, ..BookingChangeFilter::default() };
    for (filter, column) in [
        // Times rise with positions, and which position that is was looked up.
        (of.clone(), "position"),
        (BookingChangeFilter { to: now, ..of.clone() }, "position"),
        (BookingChangeFilter { booking_id: id, ..of.clone() }, "booking_id"),
        (BookingChangeFilter { actor: text(), ..of.clone() }, "actor"),
        (BookingChangeFilter { actor: text(), to: now, ..of.clone() }, "actor"),
        (BookingChangeFilter { resource_id: id, ..of.clone() }, "resource_id"),
        (BookingChangeFilter { event_type: text(), ..of.clone() }, "event_type"),
        (BookingChangeFilter { event_type: text(), to: now, ..of.clone() }, "event_type"),
    ] {
        for before in [None, Some(50)] {
            let plan = plan(&app, &tenant, booking_changes::statement(&filter, before, 50)).await;
            assert_is_index("booking changes", column, &plan);
        }
    }
    app.shut_down().await;
}
