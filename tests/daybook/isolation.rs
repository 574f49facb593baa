//! What one tenant can reach of another: nothing, whatever runs, fails or is cut off half-way.

use std::{sync::Arc, time::Duration};

use daybook::{
    auth::AuthDirectory,
    eventstore::{Command, Unit},
    tenancy::{Access, Schema, TenantTx, database::PoolSettings, pool::Pool},
};
use daybook_domain::{
    SessionId, UserId,
    hijack::{self, HijackCommand},
    permission::Tier,
    support_request::SupportRequestCommand,
    support_session::{SupportMode, SupportSessionCommand},
    tenant::TenantCommand,
    text::Reason,
};
use futures_util::future::join_all;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use sqlx::{Connection as _, PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::support::{
    app::{TestApp, id, read},
    cluster::cluster,
    site::{Dice, Site, by},
};

async fn tables(owner: &PgPool, schema: &Schema) -> Vec<String> {
    let sql = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = $1::regnamespace
               AND c.relkind IN ('r', 'v', 'm', 'p') ORDER BY 1";
    sqlx::query_scalar(sql).bind(schema.name()).fetch_all(owner).await.unwrap()
}

fn code(result: Result<impl Sized, sqlx::Error>) -> String {
    match result {
        Ok(_) => "allowed".to_owned(),
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        Err(error) => panic!("{error}"),
    }
}

const REFUSED: &str = "42501";
const READ_ONLY: &str = "25006";

/// Runs one statement in a transaction of its own and answers with its SQLSTATE.
async fn attempt(site: &Site, schema: &Schema, access: Access, sql: &str) -> String {
    let mut tx = TenantTx::begin(site.store.database().app(), schema, access).await.unwrap();
    code(sqlx::raw_sql(sql).execute(&mut *tx).await)
}

#[tokio::test]
async fn a_tenants_role_reaches_no_table_of_another_nor_of_the_platform() {
    let site = Site::open().await;
    let other = site.second_tenant().await;
    for foreign in [&other, &Schema::platform()] {
        let tables = tables(site.owner(), foreign).await;
        assert!(tables.len() > 10, "{tables:?}");
        for table in tables {
            for sql in [
                format!("SELECT * FROM {foreign}.{table}"),
                format!("DELETE FROM {foreign}.{table}"),
                format!("SET LOCAL search_path = {foreign}; SELECT count(*) FROM {foreign}.{table}"),
            ] {
                assert_eq!(attempt(&site, &site.schema, Access::Write, &sql).await, REFUSED, "{sql}");
            }
        }
        let functions = format!("SELECT * FROM {foreign}.slot_overlaps(gen_random_uuid(), now(), now())");
        if *foreign == other {
            assert_eq!(attempt(&site, &site.schema, Access::Write, &functions).await, REFUSED);
        }
        // A query cannot become another role half-way through, which `SET ROLE`, a statement, could.
        for sql in [
            format!(
                "SELECT set_config('role', '{foreign}', true), query_to_xml('SELECT * FROM {foreign}.events', true, true, '')"
            ),
            format!("SELECT set_config('search_path', '{foreign}', false)"),
        ] {
            assert_eq!(attempt(&site, &site.schema, Access::Read, &sql).await, REFUSED, "{sql}");
        }
        let create = format!("CREATE TABLE {foreign}.mine (n int)");
        assert_eq!(attempt(&site, &site.schema, Access::Write, &create).await, REFUSED);
    }
    // Without a schema's name the search path answers, and it leads to one's own tables only.
    let mut tx = TenantTx::begin(site.store.database().app(), &other, Access::Read).await.unwrap();
    let (customers,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM customers").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(customers, 0, "the first tenant has one");
}

#[tokio::test]
async fn the_login_role_alone_reaches_nothing() {
    let site = Site::open().await;
    let mut app = PgConnection::connect_with(&site.db.app_options).await.unwrap();
    for schema in [&site.schema, &Schema::platform()] {
        for table in tables(site.owner(), schema).await {
            let sql = format!("SELECT * FROM {schema}.{table}");
            assert_eq!(code(sqlx::raw_sql(&sql).execute(&mut app).await), REFUSED, "{sql}");
        }
    }
}

#[tokio::test]
async fn nobody_changes_the_log() {
    let site = Site::open().await;
    for sql in [
        "UPDATE events SET actor = 'someone else'",
        "UPDATE events SET leaf = leaf WHERE false",
        "DELETE FROM events",
        "TRUNCATE events",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TRIGGER events_no_change ON events",
        "DROP TABLE events",
        "DELETE FROM log_head",
        "INSERT INTO log_head VALUES (false, 0)",
        "UPDATE schema_migrations SET version = 0",
    ] {
        assert_eq!(attempt(&site, &site.schema, Access::Write, sql).await, REFUSED, "{sql}");
    }
    // Also with every right, and as the owner of the table: the trigger stands behind the grants.
    let grant = site.schema.sql("GRANT ALL ON {s}.events TO {s}");
    sqlx::raw_sql(&grant).execute(site.owner()).await.unwrap();
    for sql in ["UPDATE {s}.events SET actor = 'x'", "DELETE FROM {s}.events", "TRUNCATE {s}.events"] {
        let sql = site.schema.sql(sql);
        assert_eq!(attempt(&site, &site.schema, Access::Write, &sql).await, REFUSED, "{sql}");
        assert_eq!(code(sqlx::raw_sql(&sql).execute(site.owner()).await), REFUSED, "{sql}");
    }
    assert!(site.head().await > 0);
    site.assert_gap_free().await;
}

#[tokio::test]
async fn a_reading_transaction_writes_nothing() {
    let site = Site::open().await;
    for access in [Access::Read, Access::ReadConsistent] {
        for table in tables(site.owner(), &site.schema).await {
            if table == "cqrs_events" || table == "schema_migrations" {
                continue;
            }
            let sql = format!("INSERT INTO {table} DEFAULT VALUES");
            let found = attempt(&site, &site.schema, access, &sql).await;
            assert!([READ_ONLY, REFUSED].contains(&found.as_str()), "{sql}: {found}");
        }
        for sql in
            ["UPDATE bookings SET guests = 1", "DELETE FROM slot_claims", "SELECT 1 FROM log_head FOR UPDATE"]
        {
            assert_eq!(attempt(&site, &site.schema, access, sql).await, READ_ONLY, "{sql}");
        }
    }
}

/// One connection, two tenants, requests that are cut off at any point: between them the connection is clean.
#[tokio::test]
async fn a_cancelled_request_leaves_no_role_or_search_path_behind() {
    let pools = PoolSettings { read_connections: 1, write_connections: 1, ..PoolSettings::default() };
    let db = cluster().await.create_platform().await;
    let site = Site::open_on(db, &pools).await;
    let other = site.second_tenant().await;
    let pool = site.store.database().app().clone();
    let mut dice = Dice::from_env("a_cancelled_request_leaves_no_role_or_search_path_behind");
    let clean: (String, String, String) = state(&pool).await;
    let mut cut = 0;
    for n in 0..300 {
        let schema = if n % 2 == 0 { &site.schema } else { &other };
        let access = if dice.below(2) == 0 { Access::Read } else { Access::Write };
        let dice_of_end = dice.below(3);
        let request = async {
            let mut tx = TenantTx::begin(&pool, schema, access).await.unwrap();
            for _ in 0..3 {
                sqlx::query("SELECT count(*) FROM customers, pg_sleep(0.0003)")
                    .execute(&mut *tx)
                    .await
                    .unwrap();
            }
            if n % 3 == 0 {
                // A statement that fails leaves the transaction aborted.
                let _ = sqlx::raw_sql("SELECT 1 / 0").execute(&mut *tx).await;
            }
            match dice_of_end {
                0 => tx.commit().await,
                1 => tx.rollback().await,
                _ => {
                    tx.release();
                    Ok(())
                }
            }
        };
        if n % 2 == 0 {
            cut += u32::from(
                tokio::time::timeout(Duration::from_micros(dice.below(3_000)), request).await.is_err(),
            );
        } else {
            // Cut off after a number of polls, which finds the points that no clock hits.
            cut += u32::from(poll_times(request, dice.below(14)).await.is_none());
        }
        assert_eq!(state(&pool).await, clean, "after request {n}");
        // The next request of the other tenant sees its own tables only.
        let next = if n % 2 == 0 { &other } else { &site.schema };
        let mut tx = TenantTx::begin(&pool, next, Access::Read).await.unwrap();
        let (user, customers): (String, i64) =
            sqlx::query_as("SELECT current_user::text, (SELECT count(*) FROM customers)")
                .fetch_one(&mut *tx)
                .await
                .unwrap();
        assert_eq!((user.as_str(), customers), (next.name(), i64::from(*next == site.schema)));
    }
    assert!(cut > 50, "only {cut} requests were cut off");
}

/// Polls a future at most this often, and drops it if that was not enough.
async fn poll_times<T>(future: impl Future<Output = T>, times: u64) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Who the pooled connection is, where it looks, and whether it is in a transaction of somebody else's.
async fn state(pool: &Pool) -> (String, String, String) {
    let mut connection = pool.acquire(None).await.unwrap();
    let ask =
        "SELECT current_user::text, current_setting('search_path'), current_setting('transaction_read_only')";
    let answer = sqlx::query_as(ask).fetch_one(&mut *connection).await.unwrap();
    // A simple query: the timestamps of the extended protocol's steps differ on their own.
    let row =
        sqlx::raw_sql("SELECT now() <> statement_timestamp()").fetch_one(&mut *connection).await.unwrap();
    let in_transaction: bool = row.get(0);
    assert!(!in_transaction, "a transaction was left open");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_tenant_is_nobody_within_a_second_on_every_node() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let other = AuthDirectory::new(other.database().clone(), site.keys.clone());
    let auth = site.auth();
    let issued = site.admin.issue_key(site.tenant, "test", &by("test")).await.unwrap();
    let token = issued.key.expose_secret();
    for (command, known) in [(TenantCommand::Deactivate, false), (TenantCommand::Activate, true)] {
        // Both nodes have just looked, so both hold an answer.
        for node in [&auth, &other] {
            assert_eq!(node.resolve(token).await.unwrap().is_some(), !known);
        }
        site.admin.command(site.tenant, command, &by("test")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        for node in [&auth, &other] {
            assert_eq!(node.resolve(token).await.unwrap().is_some(), known);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_nobodys_within_a_second_on_every_node() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let other = AuthDirectory::new(other.database().clone(), site.keys.clone());
    let issued = site.admin.issue_key(site.tenant, "test", &by("test")).await.unwrap();
    let auth = site.auth();
    let kept = site.admin.issue_key(site.tenant, "kept", &by("test")).await.unwrap();
    for node in [&auth, &other] {
        assert!(node.resolve(issued.key.expose_secret()).await.unwrap().is_some());
    }
    site.admin.revoke_key(site.tenant, issued.id, &by("test")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for node in [&auth, &other] {
        assert_eq!(node.resolve(issued.key.expose_secret()).await.unwrap(), None);
        assert!(node.resolve(kept.key.expose_secret()).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_nobody_is_known() {
    let site = Site::open().await;
    let issued = site.admin.issue_key(site.tenant, "test", &by("test")).await.unwrap();
    let token = issued.key.expose_secret();
    let auth = site.auth();
    assert!(auth.resolve(token).await.unwrap().is_some());
    site.store.database().close().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(auth.resolve(token).await.is_err(), "an answer that cannot be checked is none");
}

/// Every route that takes an id, with the ids of another tenant: 404, and nothing happens.
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_ids_are_not_found_on_any_route() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.tenant("owner").await, app.tenant("stranger").await);
    let resource = app.resource(&owner, "Cabin", 1).await;
    let offering = app.nights_offering(&owner, &[resource]).await;
    let customer = app.customer(&owner, "Ada").await;
    let body = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
    let booking = id(&app.post(&owner, "/bookings", &body).await.expect(201));
    let schedule = json!({"name": "Hours", "resource_ids": [resource], "weekly": []});
    let schedule = id(&app.post(&owner, "/schedules", &schedule).await.expect(201));
    let user = app.account(Some(&owner), "ada@example.org", Tier::TenantStaff, None).await.0;
    let role = json!({"name": "Porter", "permissions": ["bookings:read:assigned"]});
    let role = id(&app.post(&owner, "/roles", &role).await.expect(201));
    let domain = json!({"hostname": "book.owner.example"});
    let domain = id(&app.post(&owner, "/domains", &domain).await.expect(201));
    let lead = json!({"name": "Grace", "email": "grace@example.org"});
    let lead = id(&app.post(&owner, "/public/leads", &lead).await.expect(201));
    let manager = app.person(&owner, "manager@example.org", Tier::TenantManager).await;
    let grant =
        json!({"grantee_id": user, "permission": "bookings:read:tenant", "reason": "the desk is ill"});
    let grant = id(&app.post_as(&manager.token, "/permission-grants", &grant).await.expect(201));
    let asker = app.account(None, "sue@platform.example", Tier::PlatformSupport, None).await;
    let ask = SupportRequestCommand::Request {
        requested_by: asker,
        reason: Reason::new("ticket 7", "").unwrap(),
        minutes: 30,
    };
    let support = Uuid::now_v7();
    let ask = Unit::of(Command::create(support, ask), by("test"));
    app.store.execute(&owner.schema(), ask).await.unwrap();
    let start = SupportSessionCommand::Start {
        user_id: asker,
        tier: Tier::PlatformSupport,
        signed_in: SessionId::default(),
        mode: SupportMode::Redacted,
        support_request_id: None,
        sample: false,
        reason: Reason::new("ticket 7", "").unwrap(),
    };
    let session = Uuid::now_v7();
    let start = Unit::of(Command::create(session, start), by("test"));
    app.store.execute(&owner.schema(), start).await.unwrap();
    let start = HijackCommand::Start {
        by: hijack::By::Platform { user: asker, tier: Tier::PlatformSupport },
        signed_in: SessionId::default(),
        chained: false,
        target: UserId(manager.id),
        temporary: true,
        reason: Reason::new("ticket 7", "").unwrap(),
    };
    let hijacked = Uuid::now_v7();
    let start = Unit::of(Command::create(hijacked, start), by("test"));
    app.store.execute(&owner.schema(), start).await.unwrap();
    let hold = json!({"name": "Case 7", "reason": "a writ"});
    let hold = id(&app.post(&owner, "/audit/holds", &hold).await.expect(201));
    let heads = (app.head(&owner).await, app.head(&stranger).await);

    let document = read(app.client.get(format!("http://{}/api/schema/", app.address))).await.expect(200);
    let mut routes = 0;
    for (path, methods) in document.body["paths"].as_object().unwrap() {
        let Some(route) = path.strip_prefix("/api/v1").filter(|path| path.contains("{id}")) else { continue };
        let theirs = match route.split('/').nth(1).unwrap() {
            "audit" | "support"
                if route.contains("/support/sessions") || route.contains("/audit/support") =>
            {
                session
            }
            "audit" if route.contains("/audit/holds") => hold,
            "hijacks" => hijacked,
            "resources" => resource,
            "offerings" => offering,
            "customers" => customer,
            "schedules" => schedule,
            "bookings" | "audit" => booking,
            "users" | "invitations" => user,
            "roles" => role,
            "leads" => lead,
            "permission-grants" => grant,
            "support" => support,
            "api-keys" => owner.token_id.0,
            // Of callers who are signed in, of the platform's, or of a guest's link: `permissions` has those.
            "domains" => domain,
            "auth" | "platform" | "public" => continue,
            other => panic!("say which ids /{other} takes"),
        };
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method: Method = method.to_uppercase().parse().unwrap();
            let body = match (method.as_str(), route.rsplit('/').next().unwrap()) {
                ("GET" | "DELETE", _) => None,
                (_, "reschedule") => Some(json!({"check_in": "2031-07-01", "check_out": "2031-07-02"})),
                (_, "reassign") => Some(json!({"unit": 1})),
                ("PATCH", _) => Some(json!({"name": "Mine"})),
                (_, "role") => Some(json!({"role": "tenant_staff"})),
                (_, "modules") => Some(json!({"modules": []})),
                (_, "revoke" | "erase") => Some(json!({"reason": "not mine"})),
                (_, _) => Some(json!({})),
            };
            for tag in ["*", "\"1\""] {
                let path = route.replace("{id}", &theirs.to_string()).replace("{type}", "booking");
                let headers = [("If-Match", tag)];
                let found = app.request(&stranger, method.clone(), &path, &headers, body.as_ref()).await;
                let found = found.expect_problem(404, "not_found");
                let absent = route.replace("{id}", &Uuid::now_v7().to_string()).replace("{type}", "booking");
                let mut absent =
                    app.request(&stranger, method.clone(), &absent, &headers, body.as_ref()).await;
                absent.body["request_id"] = found.body["request_id"].clone();
                assert_eq!(found.body, absent.body, "{method} {route} tells a foreign id from none");
                routes += 1;
            }
        }
    }
    assert!(routes >= 2 * 22, "{routes}");
    for query in [
        format!("/availability?resource_id={resource}&from=2031-05-01&to=2031-05-03"),
        format!("/availability?offering_id={offering}&from=2031-05-01&to=2031-05-03"),
        format!("/availability/explain?resource_id={resource}&from=2031-05-01&to=2031-05-03"),
    ] {
        app.get(&stranger, &query).await.expect_problem(404, "not_found");
        app.get(&owner, &query).await.expect(200);
    }
    for list in [format!("/bookings?customer_id={customer}"), format!("/audit/events?aggregate={booking}")] {
        assert_eq!(app.get(&stranger, &list).await.expect(200).body["items"], json!([]));
    }
    assert_eq!((app.head(&owner).await, app.head(&stranger).await), heads);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivated_tenant_is_refused_over_http_and_others_are_not() {
    let app = TestApp::start().await;
    let (off, on) = (app.tenant("off").await, app.tenant("on").await);
    app.get(&off, "/bookings").await.expect(200);
    app.admin.command(off.id, TenantCommand::Deactivate, &by("test")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get(&off, "/bookings").await.expect_problem(401, "unauthenticated");
    app.post(&off, "/customers", &json!({"name": "Ada"})).await.expect_problem(401, "unauthenticated");
    app.get(&on, "/bookings").await.expect(200);
    for (tenant, active) in [(&off, false), (&on, true)] {
        assert_eq!(app.directory.by_slug(&tenant.slug).await.unwrap().unwrap().active, active);
    }
    app.shut_down().await;
}

/// A pool of one: what a transaction that cannot begin leaves behind, the next one finds.
#[tokio::test]
async fn a_transaction_that_cannot_begin_leaves_the_connection_usable() {
    let pools = PoolSettings { read_connections: 1, write_connections: 1, ..PoolSettings::default() };
    let site = Site::open_on(cluster().await.create_platform().await, &pools).await;
    let pool = site.store.database().app();
    let nobody = Schema::tenant(Uuid::now_v7().into());
    for access in [Access::Read, Access::ReadConsistent, Access::Write] {
        assert!(TenantTx::begin(pool, &nobody, access).await.is_err(), "there is no such tenant");
        let mut tx = TenantTx::begin(pool, &site.schema, access).await.unwrap();
        sqlx::query("SELECT count(*) FROM customers").execute(&mut *tx).await.unwrap();
    }
}

/// PostgreSQL keeps, per connection, a list of the roles that may be taken on it. A role that is granted while that
/// list is being made stays out of it until the next role is granted, and cannot be taken on that connection.
#[tokio::test(flavor = "multi_thread")]
async fn roles_granted_at_the_same_time_can_be_taken_on_every_connection() {
    const CONNECTIONS: u32 = 6;
    let pools =
        PoolSettings { read_connections: CONNECTIONS, write_connections: 2, ..PoolSettings::default() };
    let site = Arc::new(Site::open_on(cluster().await.create_platform().await, &pools).await);
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let site = site.clone();
        busy.spawn(async move {
            loop {
                for schema in [&site.schema, &Schema::platform()] {
                    let tx =
                        TenantTx::begin(site.store.database().app(), schema, Access::Read).await.unwrap();
                    tx.commit().await.unwrap();
                }
            }
        });
    }
    for round in 0..60 {
        // What `daybook tenant create` does of it, by four nodes at once.
        let schemas: Vec<Schema> = (0..4).map(|_| Schema::tenant(Uuid::now_v7().into())).collect();
        join_all(schemas.iter().map(async |schema| {
            let user = site.store.database().app_user();
            let sql = format!("CREATE ROLE {schema} NOLOGIN NOINHERIT; GRANT {schema} TO {user}");
            sqlx::raw_sql(&sql).execute(site.owner()).await.unwrap();
        }))
        .await;
        for schema in &schemas {
            // Held together, so that each is on another connection.
            let all = join_all(
                (0..CONNECTIONS).map(|_| TenantTx::begin(site.store.database().app(), schema, Access::Read)),
            );
            for tx in all.await {
                tx.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            }
        }
    }
    assert!(busy.try_join_next().is_none(), "a busy reader failed");
    busy.shutdown().await;
}
