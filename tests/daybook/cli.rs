//! The command line: what it answers, how it ends, and an import that is killed half-way.

use std::{fmt::Write as _, fs, path::PathBuf, process::Stdio, time::Duration};

use chrono::{Days, NaiveDate};
use daybook::tenancy::Schema;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::{
    app::TestApp,
    process::Host,
    site::{assert_gap_free, assert_no_double_booking, head},
};

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_made_listed_shown_and_switched() {
    let app = TestApp::start().await;
    let host = Host::on(&app.db);
    let made = host.json(&[
        "tenant",
        "create",
        "camp-river",
        "--name",
        "Camping River",
        "--plan",
        "starter",
        "--json",
    ]);
    assert!(made["token"].as_str().unwrap().starts_with("ck_"));
    assert_eq!(made["slug"], "camp-river");
    host.run(&["tenant", "create", "camp-lake", "--name", "Camping Lake", "--time-zone", "Europe/Lisbon"]);

    let listed = host.json(&["tenant", "list", "--json"]);
    let slugs: Vec<&str> = listed.as_array().unwrap().iter().map(|t| t["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["camp-lake", "camp-river"]);
    assert_eq!(host.run(&["tenant", "list"]).lines().count(), 2);
    let shown = || host.json(&["tenant", "show", "camp-river", "--json"]);
    assert_eq!((&shown()["tenant_id"], &shown()["plan"]), (&made["tenant_id"], &"starter".into()));
    assert!(!shown().to_string().contains("ck_"), "a token is shown once");

    host.run(&["tenant", "deactivate", "camp-river", "--reason", "Contract ended"]);
    assert_eq!(shown()["active"], false);
    host.run(&["tenant", "activate", "camp-river"]);
    host.run(&["tenant", "plan", "camp-river", "business"]);
    assert_eq!((&shown()["active"], &shown()["plan"]), (&true.into(), &"business".into()));

    // What was done on the command line is in the platform's log, with who and why.
    let events: Vec<(String, String)> = sqlx::query_as(
        "SELECT event_type, convert_from(substring(leaf FROM 2), 'UTF8')::jsonb->>'reason'
         FROM daybook_platform.events WHERE aggregate_id = $1 AND event_type = 'tenant.deactivated' AND actor LIKE 'cli:%'",
    )
    .bind(made["tenant_id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap())
    .fetch_all(app.store.database().owner())
    .await
    .unwrap();
    assert_eq!(events, [("tenant.deactivated".to_owned(), "Contract ended".to_owned())]);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_0_when_done_1_when_it_failed_2_when_it_is_none() {
    let app = TestApp::start().await;
    let host = Host::on(&app.db);
    host.run(&["tenant", "create", "camp", "--name", "Camp"]);
    let before = head(app.store.database().owner(), &Schema::platform()).await;
    for (arguments, expected) in [
        (&["--help"][..], 0),
        (&["tenant", "create", "--help"], 0),
        (&["--version"], 0),
        (&["migrate", "--status"], 0),
        (&["tenant", "create", "camp", "--name", "Camp again"], 1),
        (&["tenant", "create", "Not A Slug", "--name", "Camp"], 1),
        (&["tenant", "create", "other", "--name", "Camp", "--plan", "diamond"], 1),
        (&["tenant", "create", "other", "--name", "Camp", "--time-zone", "Mars/Olympus"], 1),
        (&["tenant", "show", "nobody"], 1),
        // It is active already: done, without an event.
        (&["tenant", "activate", "camp"], 0),
        (&["tenant", "plan", "camp", "diamond"], 1),
        (&["projections", "status", "--tenant", "nobody"], 1),
        (&["import", "bookings", "/nowhere.csv", "--tenant", "camp"], 1),
        (&[], 2),
        (&["tenant"], 2),
        (&["tenant", "create", "other"], 2),
        (&["tenant", "paint", "camp"], 2),
        (&["import", "bookings", "x.csv", "--tenant", "camp", "--pool-size", "many"], 2),
    ] {
        let output = host.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {errors}");
        assert!(expected == 0 || !errors.is_empty(), "{arguments:?} fails without a word");
        assert!(!errors.contains("panicked"), "{errors}");
    }
    assert_eq!(
        head(app.store.database().owner(), &Schema::platform()).await,
        before,
        "a failed command left an event"
    );
    // A tenant that was refused leaves neither schema nor role.
    let (schemas,): (i64,) = sqlx::query_as("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 't\\_%'")
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    assert_eq!(schemas, 1);
    for topic in [
        "serve",
        "migrate",
        "demo",
        "tenant create",
        "tenant list",
        "import bookings",
        "projections verify",
        "audit story",
    ] {
        let arguments: Vec<&str> = topic.split(' ').chain(["--help"]).collect();
        assert!(host.run(&arguments).contains("Example"), "{topic} shows no example");
    }
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_each_schema_is_shown() {
    let app = TestApp::start().await;
    let host = Host::on(&app.db);
    host.run(&["tenant", "create", "camp", "--name", "Camp"]);
    let status = || -> Vec<(String, bool)> {
        let status = host.json(&["migrate", "--status", "--json"]);
        let schemas = status.as_array().unwrap();
        schemas.iter().map(|s| (s["slug"].as_str().unwrap().to_owned(), s["up_to_date"] == true)).collect()
    };
    assert_eq!(status(), [("platform".to_owned(), true), ("camp".to_owned(), true)]);
    assert_eq!(host.run(&["migrate", "--status"]).matches("up to date").count(), 2);
    // A schema that was left behind is seen, migrated, and then there is nothing to do.
    let behind = "UPDATE daybook_platform.tenant_schemas SET schema_version = 1, checksum = ''";
    sqlx::raw_sql(behind).execute(app.store.database().owner()).await.unwrap();
    assert_eq!(status()[1], ("camp".to_owned(), false));
    host.json(&["migrate", "--json"]);
    assert_eq!(status()[1], ("camp".to_owned(), true));
    assert_eq!(host.json(&["migrate", "--json"])["migrated"], 0);
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_file_of_another_database_is_refused() {
    let app = TestApp::start().await;
    Host::on(&app.db).run(&["tenant", "create", "camp", "--name", "Camp"]);
    // Another data directory: its keys file would be made anew, and could open nothing.
    let other = Host::on(&app.db).output(&["tenant", "list"]);
    assert_eq!(other.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&other.stderr);
    assert!(errors.contains("keys"), "{errors}");
    app.shut_down().await;
}

const COLUMNS: &str = "hotel,is_canceled,lead_time,arrival_date_year,arrival_date_month,arrival_date_day_of_month,\
stays_in_weekend_nights,stays_in_week_nights,adults,children,babies,country,assigned_room_type,deposit_type,\
customer_type,adr,reservation_status,reservation_status_date";

/// A history of a small hotel: stays that come, are cancelled, do not come, and some that are none.
fn history(host: &Host, rows: u32) -> PathBuf {
    let mut text = format!("{COLUMNS}\n");
    for n in 0..rows {
        let (day, lead, nights) = (1 + n % 28, n % 40, 1 + n % 4);
        let month = n / 28 % 12;
        let name = chrono::Month::try_from(month as u8 + 1).unwrap().name();
        let arrival = NaiveDate::from_ymd_opt(2016, month + 1, day).unwrap();
        let adults = if n % 50 == 7 { 0 } else { 2 };
        let room = ["A", "B"][(n % 2) as usize];
        let (cancelled, status, date) = match n % 5 {
            0 => (1, "Canceled", arrival),
            1 => (1, "No-Show", arrival),
            _ => (0, "Check-Out", arrival + Days::new(nights.into())),
        };
        writeln!(
            text,
            "City Hotel,{cancelled},{lead},2016,{name},{day},0,{nights},{adults},0,0,PRT,{room},No Deposit,Transient,80.5,{status},{date}"
        )
        .unwrap();
    }
    let file = host.directory().join("history.csv");
    fs::write(&file, text).unwrap();
    file
}

/// Everything that an import leaves, but for ids and times.
async fn outcome(owner: &PgPool, schema: &Schema) -> Vec<(String, i64)> {
    let sql = schema.sql(
        "SELECT event_type, count(*) FROM {s}.events GROUP BY 1
         UNION ALL SELECT 'booking ' || status, count(*) FROM {s}.bookings GROUP BY 1
         UNION ALL SELECT 'claims', count(*) FROM {s}.slot_claims ORDER BY 1",
    );
    sqlx::query_as(&sql).fetch_all(owner).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_goes_on_and_does_nothing_twice() {
    const ROWS: u32 = 5_000;
    let app = TestApp::start().await;
    let host = Host::on(&app.db);
    let owner = app.store.database().owner();
    let file = history(&host, ROWS);
    let file = file.to_str().unwrap();
    let tenant = |slug: &str| {
        let made = host.json(&["tenant", "create", slug, "--name", slug, "--json"]);
        Schema::tenant(made["tenant_id"].as_str().unwrap().parse().unwrap())
    };
    let import = |slug: &'static str| {
        ["import", "bookings", file, "--tenant", slug, "--pool-size", "18", "--json"].map(str::to_owned)
    };
    let run = |slug: &'static str| -> Value {
        let arguments = import(slug);
        host.json(&arguments.each_ref().map(String::as_str))
    };
    let number = |summary: &Value, member: &str| {
        summary[member].as_u64().unwrap_or_else(|| panic!("{member}: {summary}"))
    };

    // In one go.
    let straight = tenant("straight");
    let whole = run("straight");
    assert_eq!(number(&whole, "rows"), u64::from(ROWS));
    let parts = ["accepted", "invalid", "slot_taken", "refused_other"].map(|member| number(&whole, member));
    assert_eq!(parts.iter().sum::<u64>(), u64::from(ROWS), "{whole}");
    assert_eq!(parts[1], u64::from(ROWS) / 50, "a stay of nobody is none");
    assert!(parts[0] > 500 && parts[2] > 0, "{whole}");
    let report = fs::read_to_string(host.directory().join(whole["report"].as_str().unwrap())).unwrap();
    let refused = parts[1] + parts[2] + parts[3] + number(&whole, "steps_refused");
    assert_eq!(report.lines().count() as u64, 1 + refused, "a line each, below its header");
    // The first event is the key that came with the tenant.
    assert_eq!(1 + number(&whole, "events"), assert_gap_free(owner, &straight).await as u64);
    assert_no_double_booking(owner, &straight).await;

    // Killed twice, wherever it is, and started again.
    let killed = tenant("killed");
    for part in [4, 2] {
        let arguments = import("killed");
        let mut child = host
            .command(&arguments.each_ref().map(String::as_str))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let target = number(&whole, "events") as i64 / part;
        while head(owner, &killed).await < target && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_gap_free(owner, &killed).await;
    }
    let had = head(owner, &killed).await as u64;
    assert!(had < number(&whole, "events"), "it was done before it was killed");
    let rest = run("killed");
    assert!(number(&rest, "resumed") > 0, "{rest}");
    assert_eq!(number(&rest, "events"), assert_gap_free(owner, &killed).await as u64 - had);
    for member in ["rows", "accepted", "invalid", "slot_taken", "refused_other", "steps_refused"] {
        assert_eq!(rest[member], whole[member], "{member}");
    }
    assert_eq!(outcome(owner, &killed).await, outcome(owner, &straight).await);

    // Once more: everything is there already.
    let again = run("killed");
    assert_eq!((number(&again, "events"), &again["accepted"]), (0, &whole["accepted"]));
    assert_eq!(outcome(owner, &killed).await, outcome(owner, &straight).await);

    // The read models follow and equal a replay; a row that somebody changed is noticed.
    for slug in ["straight", "killed"] {
        host.run(&["projections", "verify", "--tenant", slug]);
        assert!(host.run(&["projections", "status", "--tenant", slug]).contains("calendar"));
    }
    let tamper = killed.sql("UPDATE {s}.bookings SET price_amount = price_amount + 1 WHERE id IN (SELECT id FROM {s}.bookings LIMIT 1)");
    sqlx::raw_sql(&tamper).execute(owner).await.unwrap();
    let verified = host.output(&["projections", "verify", "--tenant", "killed"]);
    assert_eq!(verified.status.code(), Some(1), "{}", String::from_utf8_lossy(&verified.stdout));
    app.shut_down().await;
}
