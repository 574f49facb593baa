//! Schemas made before there is a tenant for them: what is taken is like what is made at once, is taken once, and
//! whatever is wrong with a spare, a tenant can be made.

use std::{collections::BTreeSet, time::Duration};

use daybook::tenancy::{
    Schema,
    admin::NewTenant,
    provision,
    spare::{Refill, refill},
};
use daybook_domain::{TenantId, envelope::Metadata};
use futures_util::future::join_all;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{
    app::{TestApp, eventually},
    process::Host,
    site::{Dice, Site, new_tenant},
};

async fn spares(owner: &PgPool) -> BTreeSet<Uuid> {
    let sql = "SELECT id FROM daybook_platform.spare_schemas";
    sqlx::query_scalar(sql).fetch_all(owner).await.unwrap().into_iter().collect()
}

/// All schemas that a tenant could be in.
async fn schemas(owner: &PgPool) -> BTreeSet<String> {
    let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$'";
    sqlx::query_scalar(sql).fetch_all(owner).await.unwrap().into_iter().collect()
}

/// The schemas of all tenants and spares.
async fn expected(owner: &PgPool) -> BTreeSet<String> {
    let sql =
        "SELECT id FROM daybook_platform.tenants UNION ALL SELECT id FROM daybook_platform.spare_schemas";
    let ids: Vec<Uuid> = sqlx::query_scalar(sql).fetch_all(owner).await.unwrap();
    ids.into_iter().map(|id| Schema::tenant(TenantId(id)).to_string()).collect()
}

async fn role_exists(owner: &PgPool, schema: &Schema) -> bool {
    sqlx::query_scalar("SELECT to_regrole($1) IS NOT NULL")
        .bind(schema.name())
        .fetch_one(owner)
        .await
        .unwrap()
}

/// Everything that PostgreSQL's catalogs say of a schema and its role, a line for each, with its name left out.
async fn catalog(owner: &PgPool, schema: &Schema) -> Vec<String> {
    let sql = "
        WITH relations AS (SELECT * FROM pg_class WHERE relnamespace = $1::regnamespace)
        SELECT replace(line, $1, '<schema>') FROM (
            SELECT format('schema %s %s', nspowner::regrole, nspacl) FROM pg_namespace WHERE nspname = $1
            UNION ALL SELECT format('role %s %s %s %s %s %s', rolcanlogin, rolinherit, rolsuper, rolcreaterole, rolbypassrls, rolconfig)
                FROM pg_roles WHERE rolname = $1
            UNION ALL SELECT format('member %s %s %s', roleid::regrole, member::regrole, admin_option)
                FROM pg_auth_members WHERE to_regrole($1) IN (roleid, member)
            UNION ALL SELECT format('relation %s %s %s %s %s %s', relname, relkind, relowner::regrole, relacl, reloptions, relpersistence)
                FROM relations
            UNION ALL SELECT format('column %s %s %s %s %s %s %s', relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attacl,
                    (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
                FROM pg_attribute JOIN relations r ON r.oid = attrelid
            UNION ALL SELECT format('index %s', pg_get_indexdef(oid)) FROM relations WHERE relkind IN ('i', 'I')
            UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
                FROM pg_constraint WHERE connamespace = $1::regnamespace
            UNION ALL SELECT format('trigger %s %s', tgenabled, pg_get_triggerdef(t.oid))
                FROM pg_trigger t JOIN relations r ON r.oid = tgrelid WHERE NOT tgisinternal
            UNION ALL SELECT format('function %s %s %s %s', oid::regprocedure, proowner::regrole, proacl, pg_get_functiondef(oid))
                FROM pg_proc WHERE pronamespace = $1::regnamespace
            UNION ALL SELECT format('part %s of %s: %s', inhrelid::regclass, inhparent::regclass, pg_get_expr(relpartbound, r.oid))
                FROM pg_inherits JOIN relations r ON r.oid = inhrelid
            UNION ALL SELECT format('policy %s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid))
                FROM pg_policy JOIN relations r ON r.oid = polrelid
        ) AS lines (line) ORDER BY 1";
    sqlx::query_scalar(sql).bind(schema.name()).fetch_all(owner).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_in_a_spare_schema_is_like_any_other() {
    let app = TestApp::start().await;
    let database = app.store.database();
    let owner = database.owner();
    let early = app.tenant("early").await;
    assert_eq!(refill(database, 1).await.unwrap(), Refill { made: 1, dropped: 0 });
    let spare = Schema::tenant(TenantId(spares(owner).await.pop_first().unwrap()));
    let before = schemas(owner).await;
    let late = app.tenant("late").await;
    let after = schemas(owner).await;
    assert_eq!(after.len(), before.len(), "no schema was made");
    assert!(!after.contains(spare.name()) && after.contains(late.schema().name()));
    assert!(spares(owner).await.is_empty() && !role_exists(owner, &spare).await);

    // The months of the logs are made as they are written to; neither has been called yet.
    let (made, taken) = (catalog(owner, &early.schema()).await, catalog(owner, &late.schema()).await);
    assert!(made.len() > 500, "{} lines", made.len());
    assert_eq!(made, taken);
    assert!(taken.iter().any(|line| line.contains("SECURITY DEFINER") && line.contains("<schema>")));
    assert!(!taken.iter().any(|line| line.contains(spare.name())), "its old name is left somewhere");
    let applied = |schema: Schema| async move {
        let sql = schema.sql("SELECT version, checksum FROM {s}.schema_migrations ORDER BY version");
        sqlx::query_as::<_, (i64, Vec<u8>)>(&sql).fetch_all(owner).await.unwrap()
    };
    assert_eq!(applied(early.schema()).await, applied(late.schema()).await);
    let host = Host::on(&app.db);
    let status = host.json(&["migrate", "--status", "--json"]);
    assert!(status.as_array().unwrap().iter().all(|schema| schema["up_to_date"] == true), "{status}");

    // It is written to, by the functions that keep to a search path as well, and each tenant has its own.
    for tenant in [&early, &late] {
        let unit = app.resource(tenant, "Room", 1).await;
        let offering = app.nights_offering(tenant, &[unit]).await;
        let customer = app.customer(tenant, "Anna").await;
        let stay = TestApp::stay(offering, customer, "2027-07-01", "2027-07-03");
        app.post(tenant, "/bookings", &stay).await.expect(201);
        app.post(tenant, "/bookings", &stay).await.expect_problem(409, "slot_taken");
        let calls = tenant.schema().sql("SELECT count(*) > 0 FROM {s}.api_calls");
        eventually("the calls are written down", Duration::from_secs(10), async || {
            sqlx::query_scalar(&calls).fetch_one(owner).await.unwrap()
        })
        .await;
        app.assert_gap_free(tenant).await;
    }
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_spare_is_taken_once() {
    let app = TestApp::start().await;
    let second = app.second_node().await;
    let owner = app.store.database().owner();
    assert_eq!(refill(app.store.database(), 3).await.unwrap().made, 3);
    let slugs: Vec<String> = (0..8).map(|number| format!("racer-{number}")).collect();
    let nodes = [&app, &second];
    let racers = slugs.iter().enumerate().map(|(number, slug)| nodes[number % 2].tenant(slug));
    let tenants = join_all(racers).await;
    assert!(spares(owner).await.is_empty());
    assert_eq!(schemas(owner).await, tenants.iter().map(|tenant| tenant.schema().to_string()).collect());
    for tenant in &tenants {
        app.resource(tenant, "Room", 1).await;
        assert_eq!(app.head(tenant).await, 2, "its key and its room, nothing of another's");
    }
    second.shut_down().await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_do_not_make_more_than_are_wanted() {
    let site = Site::open().await;
    let other = site.second_store().await;
    let racers = (0..6).map(|number| {
        let store = if number % 2 == 0 { &site.store } else { &other };
        refill(store.database(), 2)
    });
    let made: usize = join_all(racers).await.into_iter().map(|refill| refill.unwrap().made).sum();
    assert_eq!((made, spares(site.owner()).await.len()), (2, 2));
    assert_eq!(refill(site.store.database(), 2).await.unwrap(), Refill::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn spares_of_other_migrations_are_not_taken() {
    let site = Site::open().await;
    let (database, owner) = (site.store.database(), site.owner());
    refill(database, 1).await.unwrap();
    let old = spares(owner).await;
    let set = async |sql: &str| sqlx::raw_sql(sql).execute(owner).await.unwrap();
    set("UPDATE daybook_platform.spare_schemas SET schema_version = 1, checksum = ''").await;
    site.second_tenant().await;
    assert_eq!(spares(owner).await, old, "an old one was taken");
    // What a binary made whose migrations differ goes, and another comes.
    assert_eq!(refill(database, 1).await.unwrap(), Refill { made: 1, dropped: 1 });
    assert!(spares(owner).await.is_disjoint(&old));
    assert_eq!(schemas(owner).await, expected(owner).await);
    let gone = Schema::tenant(TenantId(*old.first().unwrap()));
    assert!(!role_exists(owner, &gone).await);
    // Those of a newer binary are its own to keep; this one makes none beside them.
    set("UPDATE daybook_platform.spare_schemas SET schema_version = 99999999999999, checksum = ''").await;
    assert_eq!(refill(database, 3).await.unwrap(), Refill::default());
    site.admin.create(new_tenant("beside"), &Metadata::system("test")).await.unwrap();
    assert_eq!(spares(owner).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_spare_keeps_no_tenant_from_being_made() {
    let site = Site::open().await;
    let (database, owner) = (site.store.database(), site.owner());
    refill(database, 3).await.unwrap();
    let broken: Vec<Uuid> = spares(owner).await.into_iter().collect();
    let name = |at: usize| Schema::tenant(TenantId(broken[at]));
    // The first has lost its schema, the second has a function that keeps to a path nobody knows, the third is whole.
    let break_them = format!(
        "DROP SCHEMA {} CASCADE; ALTER FUNCTION {1}.ensure_month(text, date) SET search_path = {1}, public",
        name(0),
        name(1)
    );
    sqlx::raw_sql(&break_them).execute(owner).await.unwrap();
    for slug in ["first", "second"] {
        let id = site.admin.create(new_tenant(slug), &Metadata::system("test")).await.unwrap();
        let made = Schema::tenant(id).sql("SELECT position FROM {s}.log_head");
        assert_eq!(sqlx::query_scalar::<_, i64>(&made).fetch_one(owner).await.unwrap(), 0);
    }
    // One that could not be taken is in nobody's way again; the one that is whole still is.
    assert_eq!(spares(owner).await, [broken[2]].into());
    assert_eq!(refill(database, 3).await.unwrap(), Refill { made: 2, dropped: 0 });
    assert!(!role_exists(owner, &name(0)).await && !role_exists(owner, &name(1)).await);
    // What nobody tried to take is found out.
    let lost = Schema::tenant(TenantId(*spares(owner).await.last().unwrap()));
    sqlx::raw_sql(&format!("DROP SCHEMA {lost} CASCADE")).execute(owner).await.unwrap();
    assert_eq!(refill(database, 3).await.unwrap(), Refill { made: 1, dropped: 1 });
    assert!(!role_exists(owner, &lost).await);
    assert_eq!(schemas(owner).await, expected(owner).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_has_a_schema_takes_no_other() {
    let site = Site::open().await;
    let (database, owner) = (site.store.database(), site.owner());
    let id = TenantId(Uuid::now_v7());
    provision::create_schema(database, id).await.unwrap();
    refill(database, 1).await.unwrap();
    // Asked for twice, as by a sign-up that is confirmed again after a crash.
    provision::create_schema(database, id).await.unwrap();
    assert_eq!(spares(owner).await.len(), 1);
    site.admin.create_as(id, new_tenant("again"), &Metadata::system("test")).await.unwrap();
    assert_eq!(spares(owner).await.len(), 1);
    // Two who ask for the same at once: one schema, and at most one spare.
    let id = TenantId(Uuid::now_v7());
    let asked = join_all((0..4).map(|_| provision::create_schema(database, id))).await;
    assert!(asked.into_iter().all(|asked| asked.is_ok()));
    site.admin.create_as(id, new_tenant("twice"), &Metadata::system("test")).await.unwrap();
    assert_eq!(schemas(owner).await, expected(owner).await);
    // One that is refused in the end takes its schema with it.
    refill(database, 1).await.unwrap();
    let refused = TenantId(Uuid::now_v7());
    let unknown = NewTenant { plan: "none".into(), ..new_tenant("refused") };
    site.admin.create_as(refused, unknown, &Metadata::system("test")).await.unwrap_err();
    assert_eq!(schemas(owner).await, expected(owner).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_what_was_cut_off() {
    let site = Site::open().await;
    let (database, owner) = (site.store.database(), site.owner());
    let mut dice = Dice::from_env("nothing_is_left_of_what_was_cut_off");
    for _ in 0..12 {
        let cut = Duration::from_millis(dice.below(400));
        let _ = tokio::time::timeout(cut, refill(database, 2)).await;
        let cut = Duration::from_millis(dice.below(30));
        let _ = tokio::time::timeout(cut, provision::create_schema(database, TenantId(Uuid::now_v7()))).await;
    }
    // A creation that was cut off may have left its schema, which is what its repeat goes on with; never half a spare.
    // PostgreSQL may still be at what was cut off last, and a refill leaves the work to whoever holds the lock.
    let refilled = async || {
        refill(database, 2).await.unwrap();
        spares(owner).await.len() == 2
    };
    eventually("two spares", Duration::from_secs(20), refilled).await;
    let sql = "SELECT to_regnamespace(replace('t_' || id, '-', '')) IS NOT NULL FROM daybook_platform.spare_schemas";
    assert_eq!(sqlx::query_scalar::<_, bool>(sql).fetch_all(owner).await.unwrap(), [true, true]);
    let sql = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^t_' AND to_regclass(nspname || '.events') IS NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(owner).await.unwrap(), 0, "half a schema");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_as_many_as_it_was_told() {
    let app = TestApp::start().await;
    let owner = app.store.database().owner();
    let host = Host::on(&app.db);
    let server = host.serve_with(&[("DAYBOOK_SPARE_SCHEMAS", "2")]);
    let two = async || spares(owner).await.len() == 2;
    eventually("two spares", Duration::from_secs(60), two).await;
    let before = spares(owner).await;
    host.run(&["tenant", "create", "camp", "--name", "Camp"]);
    eventually("two spares again", Duration::from_secs(60), two).await;
    assert_eq!(spares(owner).await.intersection(&before).count(), 1, "one of them was taken");
    server.terminate();
    app.shut_down().await;
}
