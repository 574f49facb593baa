//! Requests of many tenants on one connection to read on and one to write on, some cut off and some failing: no answer
//! holds another tenant's rows, and the connections are left as they were.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use daybook::{
    config::SettingsPatch,
    tenancy::{Schema, database::PoolSettings},
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::support::{
    app::{TestApp, TestTenant},
    site::Dice,
};

const TENANTS: usize = 10;
const CLIENTS: usize = 3;
const REQUESTS: u64 = 40;

/// A tenant whose names all say whose they are.
struct House {
    tenant: TestTenant,
    mark: String,
    resource: Uuid,
    offering: Uuid,
    customer: Uuid,
    /// One of its tables cannot be read.
    broken: bool,
}

async fn house(app: &TestApp, n: usize) -> House {
    let tenant = app.tenant(&format!("house-{n}")).await;
    let mark = format!("mark{n}x");
    let resource = app.resource(&tenant, &format!("{mark} cabin"), 1).await;
    let offering = app.nights_offering(&tenant, &[resource]).await;
    let customer = app.customer(&tenant, &format!("{mark} guest")).await;
    let broken = n.is_multiple_of(2);
    if broken {
        // A statement that PostgreSQL refuses, in the middle of a transaction.
        let revoke = tenant.schema().sql("REVOKE SELECT ON {s}.roles FROM {s}");
        sqlx::raw_sql(&revoke).execute(app.store.database().owner()).await.unwrap();
    }
    House { tenant, mark, resource, offering, customer, broken }
}

/// A request, and which statuses answer it.
fn request(house: &House, dice: &mut Dice) -> (Method, String, Option<Value>, &'static [u16]) {
    let House { mark, resource, offering, customer, .. } = house;
    let day = dice.below(20) + 1;
    let stay = json!({
        "offering_id": offering, "customer_id": customer, "check_in": format!("2031-05-{day:02}"),
        "check_out": format!("2031-05-{:02}", day + 1), "guests": 2, "notes": format!("{mark} note"),
    });
    let get = |path: String, statuses: &'static [u16]| (Method::GET, path, None, statuses);
    match dice.below(9) {
        0 => get("/customers?limit=200".into(), &[200]),
        1 => get("/bookings?limit=200".into(), &[200]),
        2 => get(format!("/resources/{resource}"), &[200]),
        3 => get(format!("/availability?offering_id={offering}&from=2031-05-01&to=2031-05-20"), &[200]),
        4 => (Method::POST, "/customers".into(), Some(json!({"name": format!("{mark} {day}")})), &[201]),
        // Refused as soon as the night is taken.
        5 | 6 => (Method::POST, "/bookings".into(), Some(stay), &[201, 409]),
        7 => (Method::POST, "/customers".into(), Some(json!({"name": "", "mark": mark})), &[422]),
        _ => get("/roles".into(), if house.broken { &[500] } else { &[200] }),
    }
}

/// Who the connection is, what it holds, and everything that is set on it.
type State = BTreeMap<String, Option<String>>;

async fn state_of(connection: &mut PgConnection) -> State {
    // A language brings its settings with its first use.
    let all = "SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'plpgsql.%'
               UNION ALL VALUES ('its user', current_user::text), ('its login', session_user::text), ('its role', current_setting('role'))
               UNION ALL SELECT 'its locks', count(*)::text FROM pg_locks
                         WHERE pid = pg_backend_pid() AND (locktype = 'advisory' OR relation >= 16384)";
    let all: Vec<(String, Option<String>)> = sqlx::query_as(all).fetch_all(connection).await.unwrap();
    all.into_iter().collect()
}

/// The connection that all tenants read on, and the one that they write on.
async fn state(app: &TestApp) -> [State; 2] {
    let database = app.store.database();
    let reader = state_of(&mut database.app().acquire(None).await.unwrap()).await;
    let mut writer = database.writer(&Schema::platform()).await.unwrap();
    [reader, state_of(writer.connection().unwrap()).await]
}

fn assert_same(found: &[State; 2], clean: &[State; 2], when: &str) {
    for (found, clean) in found.iter().zip(clean) {
        let differing: Vec<_> =
            found.iter().filter(|(name, value)| clean.get(*name) != Some(value)).collect();
        assert!(differing.is_empty() && found.len() == clean.len(), "{when}: {differing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_many_tenants_take_turns_on_one_connection() {
    let pools = PoolSettings {
        read_connections: 1,
        write_connections: 1,
        acquire_timeout: Duration::from_secs(60),
        ..PoolSettings::default()
    };
    let app = Arc::new(TestApp::start_on(SettingsPatch::default(), pools).await);
    assert_eq!(app.store.database().app().size(), 1);
    let houses: Vec<Arc<House>> = join_all((0..TENANTS).map(async |n| Arc::new(house(&app, n).await))).await;
    let clean = state(&app).await;
    assert!(clean.iter().all(|clean| clean["its role"].as_deref() == Some("none")));
    let (cut, failed, answered) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    let mut dice = Dice::from_env("requests_of_many_tenants_take_turns_on_one_connection");

    let clients = houses.iter().flat_map(|house| std::iter::repeat_n(house, CLIENTS)).map(|house| {
        let mut dice = Dice::new(dice.below(1 << 30));
        let (app, houses) = (&app, &houses);
        let (cut, failed, answered) = (&cut, &failed, &answered);
        async move {
            for _ in 0..REQUESTS {
                let (method, path, body, statuses) = request(house, &mut dice);
                let called = app.request(&house.tenant, method.clone(), &path, &[], body.as_ref());
                // About a third hang up, some before they are heard and some in the middle of the work.
                let patience = match dice.below(3) {
                    0 => Duration::from_millis(dice.below(60)),
                    _ => Duration::from_secs(60),
                };
                let Ok(answer) = timeout(patience, called).await else {
                    cut.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let status = answer.status.as_u16();
                assert!(statuses.contains(&status), "{method} {path}: {status} {}", answer.body);
                failed.fetch_add(usize::from(status >= 400), Ordering::Relaxed);
                answered.fetch_add(1, Ordering::Relaxed);
                let text = answer.body.to_string();
                for other in houses.iter().filter(|other| other.mark != house.mark) {
                    assert!(!text.contains(&other.mark), "{} in {path} of {}", other.mark, house.mark);
                    for id in [other.resource, other.offering, other.customer] {
                        assert!(!text.contains(&id.to_string()), "{path} of {}: {text}", house.mark);
                    }
                }
                if method == Method::GET
                    && status == 200
                    && (path.contains("customers") || path.contains("resources"))
                {
                    assert!(text.contains(&house.mark), "{path} of {}: {text}", house.mark);
                }
            }
        }
    });
    let looking = async {
        let mut looks = 0;
        while !over.load(Ordering::Relaxed) {
            assert_same(&state(&app).await, &clean, "between requests");
            looks += 1;
            sleep(Duration::from_millis(20)).await;
        }
        looks
    };
    let working = async {
        join_all(clients).await;
        over.store(true, Ordering::Relaxed);
    };
    let (looks, ()) = tokio::join!(looking, working);
    let counts = [cut, failed, answered].map(AtomicUsize::into_inner);
    assert!(looks > 10 && counts.iter().all(|count| *count > 100), "{looks} looks; {counts:?}");
    assert_same(&state(&app).await, &clean, "afterwards");

    // What was written is where it belongs, and each log is whole.
    for house in &houses {
        for list in ["/customers?limit=200", "/bookings?limit=200"] {
            let listed = app.get(&house.tenant, list).await.expect(200);
            let items = listed.body["items"].as_array().unwrap();
            assert!(!items.is_empty() || list.starts_with("/bookings"));
            for item in items {
                let own = if list.starts_with("/customers") { &item["name"] } else { &item["notes"] };
                assert!(own.as_str().unwrap().starts_with(&house.mark), "{} has {item}", house.mark);
            }
        }
        app.assert_gap_free(&house.tenant).await;
    }
    Arc::into_inner(app).unwrap().shut_down().await;
}
