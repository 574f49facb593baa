//! Exports: the same events in every format, once and without a gap whatever breaks, and only for whom they are.

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use daybook::{
    eventstore::{
        Command, Unit,
        leaf::{format_time, leaf_hash},
    },
    export::{Ask, Encoder, Export, FileFormat, Range, original},
    tenancy::{Access, TenantTx},
};
use daybook_domain::{
    Name, audit_export::ExportFilter, customer::CustomerCommand, envelope::Metadata, permission::Tier,
    tenant::TenantCommand,
};
use daybook_projections::audit_exports;
use futures_util::future::join_all;
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    ledger::hack,
    support::{
        app::{TestApp, TestTenant, eventually, id, read},
        people::generous,
        process::Host,
        site::{Dice, by},
    },
};

/// Customers, written many at a time.
pub async fn grow(app: &TestApp, tenant: &TestTenant, events: usize) {
    grow_by(app, tenant, events, "a reason").await;
}

/// The same, for a reason of some length.
pub async fn grow_by(app: &TestApp, tenant: &TestTenant, events: usize, reason: &str) {
    let schema = tenant.schema();
    let metadata = Metadata { reason: Some(reason.to_owned()), ..by("system:test") };
    for chunk in (0..events).collect::<Vec<_>>().chunks(250) {
        let writes = chunk.iter().map(|n| {
            let register = CustomerCommand::Register {
                name: Name::new(&format!("Customer {n}"), "/name").unwrap(),
                email: None,
                phone: None,
            };
            app.store.execute(&schema, Unit::of(Command::create(Uuid::now_v7(), register), metadata.clone()))
        });
        for written in join_all(writes).await {
            written.unwrap();
        }
    }
}

/// What `GET /audit/events` has up to a position, page by page.
pub async fn items(app: &TestApp, token: &str, query: &str, until: i64) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            app.get_as(token, &format!("/audit/events?limit=200{query}{cursor}")).await.expect(200).body;
        let page_items = page["items"].as_array().unwrap();
        all.extend(page_items.iter().filter(|item| item["position"].as_i64().unwrap() <= until).cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

struct File {
    headers: reqwest::header::HeaderMap,
    bytes: Bytes,
}

impl File {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn until(&self) -> i64 {
        self.header("x-export-until").parse().unwrap()
    }
}

async fn export(app: &TestApp, token: &str, query: &str) -> File {
    let request = app.client.get(app.url(&format!("/audit/export?{query}"))).bearer_auth(token);
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    File { headers, bytes }
}

pub fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn cells(bytes: &[u8]) -> Vec<Value> {
    let mut reader = csv::Reader::from_reader(bytes);
    let names = reader.headers().unwrap().clone();
    reader
        .records()
        .map(|row| {
            let row = row.unwrap();
            let members = names.iter().zip(row.iter()).map(|(name, cell)| {
                let value = match name {
                    "position" | "sequence" | "version" => json!(cell.parse::<i64>().unwrap()),
                    "payload" => serde_json::from_str(cell).unwrap(),
                    _ if cell.is_empty() => Value::Null,
                    _ => json!(original(cell)),
                };
                (name.to_owned(), value)
            });
            Value::Object(members.collect())
        })
        .collect()
}

pub fn rows(bytes: &Bytes) -> Vec<Value> {
    let reader = SerializedFileReader::new(bytes.clone()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let mut members = Map::new();
        for (name, field) in row.get_column_iter() {
            let value = match field {
                Field::Null => Value::Null,
                Field::Long(value) => json!(value),
                Field::Int(value) => json!(value),
                Field::Str(text) if name == "payload" => serde_json::from_str(text).unwrap(),
                Field::Str(text) => json!(text),
                Field::TimestampMicros(micros) => {
                    json!(format_time(DateTime::from_timestamp_micros(*micros).unwrap()))
                }
                Field::Bytes(bytes) if bytes.len() == 16 => json!(Uuid::from_slice(bytes.data()).unwrap()),
                Field::Bytes(bytes) if name == "payload" => serde_json::from_slice(bytes.data()).unwrap(),
                Field::Bytes(bytes) => json!(hex::encode(bytes.data())),
                other => panic!("{name}: {other:?}"),
            };
            members.insert(name.clone(), value);
        }
        Value::Object(members)
    });
    rows.collect()
}

/// Reasons and names that a spreadsheet would compute, or split.
const NASTY: [&str; 10] = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-1-1",
    "@SUM(1)",
    "  =1",
    "\u{ff1d}1+1",
    "a,\"b\";=1+1;\u{e9}",
    "line\n=HYPERLINK(\"http://x\")",
    "'=1",
    "x;\t-2",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_the_same_events_as_the_list() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    for text in NASTY {
        let named =
            app.post_as(&ada.token, "/customers", &json!({"name": "Ada", "reason": text})).await.expect(201);
        let name = text.replace(['\n', '\t'], " ");
        let body = json!({"name": name, "kind": "unit", "reason": text});
        app.post_as(&ada.token, "/resources", &body).await.expect(201);
        app.with_token(&ada.token, Method::DELETE, &format!("/customers/{}", id(&named)), None).await;
    }
    grow(&app, &tenant, 2_300).await;
    let before = app.head(&tenant).await;

    for (query, narrowed) in [
        ("", ""),
        ("&type=customer.registered", "&type=customer.registered"),
        ("&after=2100", "&after=2100"),
        (
            "&from=2001-01-01&to=2100-01-01&actor=system:test",
            "&from=2001-01-01&to=2100-01-01&actor=system:test",
        ),
        ("&type=lead.submitted", "&type=lead.submitted"),
    ] {
        let until = app.head(&tenant).await;
        let expected = items(&app, &ada.token, narrowed, until).await;
        for format in ["ndjson", "csv", "parquet"] {
            let file = export(&app, &ada.token, &format!("format={format}&until={until}{query}")).await;
            let found = match format {
                "ndjson" => lines(&file.bytes),
                "csv" => cells(&file.bytes),
                _ => rows(&file.bytes),
            };
            assert_eq!(found.len(), expected.len(), "{format} {query}");
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected, "{format} {query}");
            }
            assert_eq!(file.until(), until);
            let name = "attachment; filename=\"camp-audit-";
            assert!(file.header("content-disposition").starts_with(name));
            assert!(file.header("content-disposition").ends_with(&format!("-{until}.{format}\"")));
            assert_eq!(file.header("cache-control"), "no-store");
        }
    }

    // Unless it says so, it ends where the log ended when it began; that it began is past that.
    let file = export(&app, &ada.token, "format=ndjson").await;
    let found = lines(&file.bytes);
    let started: i64 = file.header("x-log-position").parse().unwrap();
    assert_eq!(found.last().unwrap()["position"], file.until());
    assert!(file.until() >= before && started == file.until() + 1, "{started}");
    let positions: Vec<i64> = found.iter().map(|item| item["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (1..=file.until()).collect::<Vec<_>>());
    // Each line proves what the leaf's hash is over, as the list has it.
    let sql = tenant.schema().sql("SELECT leaf FROM {s}.events WHERE position = 7");
    let leaf: Vec<u8> = sqlx::query_scalar(&sql).fetch_one(app.store.database().owner()).await.unwrap();
    assert_eq!(found[6]["leaf_hash"], hex::encode(leaf_hash(&leaf)));

    // Both of its events say who, what and how much.
    let own =
        items(&app, &ada.token, &format!("&aggregate=audit_export:{}", file.header("x-export-id")), i64::MAX)
            .await;
    let [began, ended] = &own[..] else { panic!("{own:#?}") };
    assert_eq!((&began["type"], &began["position"]), (&json!("audit_export.started"), &json!(started)));
    assert_eq!(began["payload"]["until"], file.until().to_string());
    assert_eq!(ended["type"], "audit_export.ended");
    assert_eq!(ended["payload"]["rows"], file.until().to_string());
    assert_eq!(ended["payload"]["last_position"], file.until().to_string());
    assert_eq!(ended["payload"]["complete"], true);
    assert_eq!(ended["actor"], format!("user:{}", ada.id));
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cell_of_a_spreadsheet_is_computed() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    for text in NASTY {
        app.post(&tenant, "/customers", &json!({"name": "Ada", "reason": text})).await.expect(201);
        let name = text.replace(['\n', '\t'], " ");
        app.post(&tenant, "/resources", &json!({"name": name, "kind": "unit"})).await.expect(201);
    }
    let file = export(&app, &tenant.token, "format=csv").await;
    let text = std::str::from_utf8(&file.bytes).unwrap();
    let formula = |cell: &str| {
        let cell = cell.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
        cell.starts_with(['=', '+', '-', '@', '\u{ff1d}'])
    };
    // As it is meant to be read, and as spreadsheets read it whose cells end with other characters.
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut seen = 0;
    for record in reader.records() {
        for cell in &record.unwrap() {
            assert!(!formula(cell), "{cell}");
            seen += usize::from(cell.starts_with('\''));
        }
    }
    assert!(seen >= 7, "{seen}");
    for cell in text.split([';', '\t', '\n', '\r']) {
        assert!(!formula(cell), "{cell}");
    }
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_or_not_in_the_plan_begins_no_export() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    let head = app.head(&tenant).await;
    for (query, pointer) in [
        ("", "?format"),
        ("format=bundle", "?format"),
        ("format=csv&after=-1", "?after"),
        ("format=csv&until=-1", "?until"),
        ("format=csv&after=100000", "?after"),
        ("format=csv&until=100000", "?until"),
        ("format=csv&after=3&until=2", "?until"),
        ("format=csv&type=nothing.happened", "?type"),
        ("format=csv&actor=ada@example.org", "?actor"),
        ("format=csv&aggregate=x:y", "?aggregate"),
        ("format=csv&x=1", "?x"),
    ] {
        let refused = app.get_as(&ada.token, &format!("/audit/export?{query}")).await;
        let refused = refused.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{query}");
    }
    let url = app.url("/audit/export?format=csv");
    let head_of = read(app.client.head(&url).bearer_auth(&ada.token)).await;
    assert_eq!((head_of.status.as_u16(), head_of.header("allow")), (405, Some("GET")));
    // Neither staff, whatever their role, nor a key without it.
    let role = json!({"name": "Auditor", "permissions": ["audit_exports:create:tenant"]});
    assert!(app.post_as(&ada.token, "/roles", &role).await.status.is_client_error());
    let key = async |permission: &str| {
        let body = json!({"name": "SIEM", "permissions": [permission]});
        app.post_as(&ada.token, "/api-keys", &body).await.expect(201).text("key")
    };
    let (reads, exports) = (key("audit:read:tenant").await, key("audit_exports:create:tenant").await);
    app.get_as(&reads, "/audit/export?format=csv").await.expect_problem(403, "forbidden");
    let manager = app.person(&tenant, "mia@example.org", Tier::TenantManager).await;
    let staff = app.person(&tenant, "bob@example.org", Tier::TenantStaff).await;
    app.get_as(&staff.token, "/audit/export?format=csv").await.expect_problem(403, "forbidden");
    let begun = async || {
        let sql = tenant.schema().sql("SELECT count(*) FROM {s}.audit_exports");
        sqlx::query_scalar::<_, i64>(&sql).fetch_one(app.store.database().owner()).await.unwrap()
    };
    assert_eq!(begun().await, 0);
    for token in [&exports, &manager.token] {
        export(&app, token, &format!("format=csv&until={head}")).await;
    }
    assert_eq!(begun().await, 2);

    // A smaller plan: what was had is offered for two weeks, and then no more.
    let move_to = async |plan: &str| {
        let command = TenantCommand::ChangePlan { plan: plan.into() };
        app.admin.command(tenant.id, command, &Default::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    move_to("free").await;
    export(&app, &ada.token, "format=ndjson").await;
    let retention = app.get_as(&ada.token, "/audit/retention").await.expect(200).body;
    assert_eq!((&retention["export_allowed"], &retention["history_days"]), (&json!(true), &json!(90)));
    assert_eq!(retention["grace"]["previous_days"], 1_096);
    assert_eq!(retention["export_offered_until"], retention["grace"]["until"]);
    app.sql(
        &daybook_projections::Schema::platform(),
        "UPDATE {s}.tenants SET ended_plans =
             (SELECT jsonb_agg(jsonb_set(one, '{at}', to_jsonb(now() - interval '14 days')))
              FROM jsonb_array_elements(ended_plans) AS one)",
    )
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get_as(&ada.token, "/audit/export?format=csv").await.expect_problem(403, "plan_limit");
    let retention = app.get_as(&ada.token, "/audit/retention").await.expect(200).body;
    assert_eq!((&retention["export_allowed"], &retention["grace"]), (&json!(false), &Value::Null));
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_is_not_of_the_house_takes_the_log_out() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    app.account(None, "sue@platform.example", Tier::PlatformSupport, None).await;
    let sue = app.sign_in(None, "sue@platform.example").await;
    let ask = json!({"tenant": "camp", "reason": "ticket 7", "minutes": 30});
    let request = id(&app.post_as(&sue.token, "/support/requests", &ask).await.expect(201));
    let why = json!({"reason": "please"});
    app.post_as(&ada.token, &format!("/support/requests/{request}/approve"), &why).await.expect(200);
    let mut tokens = Vec::new();
    for (mode, request) in [("redacted", None), ("real", Some(request))] {
        let mut start = json!({"tenant": "camp", "mode": mode, "reason": "ticket 7"});
        if let Some(request) = request {
            start["request_id"] = json!(request);
        }
        let began = app.post_as(&sue.token, "/support/sessions", &start).await.expect(201);
        let token = began.text("access_token");
        app.get_as(&token, "/audit/events?limit=1").await.expect(200);
        app.get_as(&token, "/audit/retention").await.expect(200);
        tokens.push(token);
    }
    // Nor by acting as somebody who may.
    let mia = app.account(Some(&tenant), "mia@example.org", Tier::TenantManager, None).await;
    let acts = json!({"tenant": "camp", "user_id": mia, "reason": "ticket 7"});
    let hijack = app.post_as(&sue.token, "/hijack", &acts).await.expect(201);
    tokens.push(hijack.text("access_token"));
    for token in &tokens {
        for path in ["/audit/export?format=csv", "/audit/bundle"] {
            app.get_as(token, path).await.expect_problem(403, "forbidden");
        }
    }
    let sql = tenant.schema().sql("SELECT count(*) FROM {s}.audit_exports");
    let begun: i64 = sqlx::query_scalar(&sql).fetch_one(app.store.database().owner()).await.unwrap();
    assert_eq!(begun, 0);
    app.shut_down().await;
}

/// Of what a client got before it was cut off, the whole rows, and the position of the last.
fn whole(bytes: &[u8]) -> (Vec<Value>, Option<i64>) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let found = lines(&bytes[..end]);
    let last = found.last().map(|item| item["position"].as_i64().unwrap());
    (found, last)
}

/// Takes so many bytes of an export, or all of it, or what there is until it breaks: whether it ended well.
async fn take(client: &reqwest::Client, url: &str, token: &str, most: usize) -> Option<(Vec<u8>, i64, bool)> {
    let mut response = client.get(url).bearer_auth(token).send().await.ok()?;
    if response.status() != 200 {
        return None;
    }
    let until = response.headers()["x-export-until"].to_str().unwrap().parse().unwrap();
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Some((bytes, until, true)),
            Err(_) => return Some((bytes, until, false)),
        }
        if bytes.len() >= most {
            bytes.truncate(most);
            return Some((bytes, until, false));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_anywhere_an_export_is_resumed_without_a_gap_or_a_repetition() {
    let mut dice = Dice::from_env("audit_export");
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    grow(&app, &tenant, 4_000).await;
    let node = Host::beside(&app, app.db.app_url.clone());
    let mut server = node.serve();
    let (mut joined, mut after, mut until, mut cuts, mut kills) = (Vec::new(), 0, None, 0, 0);
    let appending = async {
        loop {
            grow(&app, &tenant, 20).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let exporting = async {
        loop {
            let range = until.map_or(String::new(), |until: i64| format!("&until={until}"));
            let url = format!("{}/api/v1/audit/export?format=ndjson&after={after}{range}", server.address);
            let most = usize::try_from(dice.below(900_000)).unwrap();
            let kill = dice.below(3) == 0;
            let taken = if kill {
                // The server dies at whatever it is doing then.
                let delay = Duration::from_millis(dice.below(250));
                let client = app.client.clone();
                let (asked, token) = (url.clone(), tenant.token.clone());
                let taking = tokio::spawn(async move { take(&client, &asked, &token, usize::MAX).await });
                tokio::time::sleep(delay).await;
                server.kill();
                kills += 1;
                let taken = taking.await.unwrap();
                server = node.serve();
                taken
            } else {
                take(&app.client, &url, &tenant.token, most).await
            };
            let Some((bytes, end, ended)) = taken else { continue };
            until.get_or_insert(end);
            let (rows, last) = whole(&bytes);
            joined.extend(rows);
            after = last.unwrap_or(after);
            if ended {
                assert_eq!(bytes.last().copied().unwrap_or(b'\n'), b'\n');
                return;
            }
            cuts += 1;
        }
    };
    tokio::select! {
        () = appending => unreachable!(),
        () = exporting => {}
    }
    let until = until.unwrap();
    println!("{cuts} times cut off, {kills} kills, {} events up to {until}", joined.len());
    let positions: Vec<i64> = joined.iter().map(|item| item["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (1..=until).collect::<Vec<_>>());
    assert!(until >= 4_000 && app.head(&tenant).await > until);
    assert_eq!(joined, items(&app, &tenant.token, "", until).await);

    // What was cut off is unfinished, and what was not is over; a client that went away is no end.
    let mut tx = TenantTx::begin(app.store.database().app(), &tenant.schema(), Access::Read).await.unwrap();
    let unfinished = audit_exports::unfinished(&mut tx).await.unwrap();
    drop(tx);
    assert!(unfinished.iter().all(|export| export.until_position == until || export.after_position == 0));
    assert!(unfinished.len() <= cuts, "{} unfinished, {cuts} cut off", unfinished.len());
    let sql =
        tenant.schema().sql("SELECT count(*) FROM {s}.audit_exports WHERE complete AND last_position = $1");
    let complete: i64 =
        sqlx::query_scalar(&sql).bind(until).fetch_one(app.store.database().owner()).await.unwrap();
    assert!(complete >= 1);
    server.terminate();
    app.assert_gap_free(&tenant).await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_breaks_off_with_its_credential_and_has_only_so_many_beside_it() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    let ada = app.person(&tenant, "ada@example.org", Tier::TenantOwner).await;
    grow_by(&app, &tenant, 1_200, &"x".repeat(20_000)).await;
    let body = json!({"name": "SIEM", "permissions": ["audit_exports:create:tenant"]});
    let made = app.post_as(&ada.token, "/api-keys", &body).await.expect(201);
    // Nobody reads: what is on its way fills up, and the rest waits.
    let url = app.url("/audit/export?format=ndjson");
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(app.client.get(&url).bearer_auth(made.text("key")).send().await.unwrap());
    }
    let refused =
        app.get_as(&ada.token, "/audit/export?format=ndjson").await.expect_problem(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
    let path = format!("/api-keys/{}", id(&made));
    app.with_token(&ada.token, Method::DELETE, &path, None).await.expect(204);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for mut response in open {
        let broke = loop {
            match response.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(broke, "an answer that lacks its end must not look whole");
    }
    let sql = tenant.schema().sql("SELECT count(*) FROM {s}.audit_exports WHERE NOT complete");
    eventually("the ends are noted", Duration::from_secs(5), async || {
        sqlx::query_scalar::<_, i64>(&sql).fetch_one(app.store.database().owner()).await.unwrap() == 3
    })
    .await;
    eventually("their places are free", Duration::from_secs(5), async || {
        app.get_as(&ada.token, "/audit/export?format=ndjson&after=1150").await.status == 200
    })
    .await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_bounded_however_large_the_events_suddenly_are() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    grow(&app, &tenant, 1_000).await;
    grow_by(&app, &tenant, 300, &"x".repeat(60_000)).await;
    grow(&app, &tenant, 1_000).await;
    let filter = ExportFilter::default();
    let mut tx = TenantTx::begin(app.store.database().app(), &tenant.schema(), Access::Read).await.unwrap();
    let range = Range::of(&mut tx, &Ask::default(), DateTime::UNIX_EPOCH).await.unwrap();
    drop(tx);
    let encoder = Encoder::new(FileFormat::Ndjson).unwrap();
    let schema = tenant.schema();
    let mut export = Export::new(&app.store, &schema, range, &filter, DateTime::UNIX_EPOCH, encoder);
    let (mut largest, mut positions) = (0, Vec::new());
    while let Some(part) = export.next().await.unwrap() {
        largest = largest.max(part.bytes.len());
        positions.extend(lines(&part.bytes).iter().map(|item| item["position"].as_i64().unwrap()));
    }
    assert_eq!(positions, (1..=range.until).collect::<Vec<_>>());
    assert!(range.until > 2_300 && largest < 5 << 20, "{largest}");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lacks_an_event_is_not_exported_as_if_it_had_none_there() {
    let app = TestApp::start_with(generous()).await;
    let tenant = app.business("camp").await;
    grow(&app, &tenant, 50).await;
    let gone = "DELETE FROM {s}.events WHERE position = 30";
    hack(app.store.database().owner(), &tenant.schema(), &["events"], gone).await;
    let url = app.url("/audit/export?format=ndjson");
    let (_, _, ended) = take(&app.client, &url, &tenant.token, usize::MAX).await.unwrap();
    assert!(!ended);
    let sql = tenant.schema().sql("SELECT complete FROM {s}.audit_exports");
    let complete: Option<bool> =
        sqlx::query_scalar(&sql).fetch_one(app.store.database().owner()).await.unwrap();
    assert_eq!(complete, Some(false));
    app.shut_down().await;
}
