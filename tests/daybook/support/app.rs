//! A server of one test's own, on a database of its own, driven over HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use daybook::{
    app::AppState,
    config::{Settings, SettingsPatch},
    dns::TxtLookup,
    eventstore::{EventStore, StoreSettings},
    keys::Keys,
    ledger::{Checkpoint, HeadCopy},
    tenancy::{
        Database, Schema, TenantDirectory,
        admin::{NewTenant, TenantAdmin},
        database::PoolSettings,
        migrate,
    },
    workers::{WorkerSettings, Workers},
};
use daybook_domain::{Currency, Slug, TenantId, envelope::Metadata};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::cluster::{TestDb, cluster};

/// The pools of a server under test: more would only be more connections for PostgreSQL to fork.
const POOLS: PoolSettings = PoolSettings {
    read_connections: 6,
    write_connections: 3,
    statement_timeout: Duration::from_secs(15),
    acquire_timeout: Duration::from_secs(5),
};

/// A server under test.
pub struct TestApp {
    pub address: SocketAddr,
    pub store: EventStore,
    pub directory: TenantDirectory,
    pub admin: TenantAdmin,
    pub keys: Arc<Keys>,
    pub client: reqwest::Client,
    pub db: Arc<TestDb>,
    pub state: AppState,
    stop: CancellationToken,
    shutdown: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    _keys_dir: Arc<tempfile::TempDir>,
}

/// A tenant of the server, with a token.
#[derive(Clone)]
pub struct TestTenant {
    pub id: TenantId,
    pub slug: String,
    pub token: String,
    pub token_id: daybook_domain::ApiKeyId,
}

impl TestTenant {
    pub fn schema(&self) -> Schema {
        Schema::tenant(self.id)
    }
}

/// An answer, read whole.
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A member of the body as text.
    pub fn text(&self, member: &str) -> String {
        self.body[member].as_str().unwrap_or_else(|| panic!("no {member} in {}", self.body)).to_owned()
    }

    /// Panics with the body unless the status is this.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// Panics unless it is a problem with this status and code.
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        let it = self.expect(status);
        assert_eq!(it.body["code"], code, "{}", it.body);
        assert_eq!(it.header("content-type"), Some("application/problem+json"));
        it
    }
}

impl TestApp {
    /// A server with a migrated platform schema and no tenants.
    pub async fn start() -> Self {
        Self::start_with(SettingsPatch::default()).await
    }

    /// The same, with some settings of its own.
    pub async fn start_with(patch: SettingsPatch) -> Self {
        Self::start_on(patch, POOLS).await
    }

    /// The same, with pools of these sizes.
    pub async fn start_on(patch: SettingsPatch, pools: PoolSettings) -> Self {
        let cluster = cluster().await;
        let template = format!("platform_{}", &hex::encode(migrate::Kind::Platform.checksum())[..12]);
        cluster
            .ensure_template(&template, |owner| async move {
                let database =
                    Database::connect(owner.clone(), owner, &PoolSettings::default()).await.unwrap();
                migrate::platform(&database).await.unwrap();
                database.close().await;
            })
            .await;
        let db = Arc::new(cluster.create_database(Some(&template)).await);
        let keys_dir = Arc::new(tempfile::tempdir().unwrap());
        Self::on(db, keys_dir, patch, &pools).await
    }

    /// Another server process (in all but the process) on the same database.
    pub async fn second_node(&self) -> Self {
        Self::on(self.db.clone(), self._keys_dir.clone(), SettingsPatch::default(), &POOLS).await
    }

    async fn on(
        db: Arc<TestDb>,
        keys_dir: Arc<tempfile::TempDir>,
        patch: SettingsPatch,
        pools: &PoolSettings,
    ) -> Self {
        super::cryptography();
        let database =
            Database::connect(db.app_options.clone(), db.owner_options.clone(), pools).await.unwrap();
        migrate::platform(&database).await.unwrap();
        let path = keys_dir.path().join("keys.toml");
        let keys = Arc::new(Keys::load_or_create(&path, true, DateTime::<Utc>::UNIX_EPOCH).unwrap());
        let store = EventStore::new(database.clone(), keys.clone(), StoreSettings::default());
        let directory = TenantDirectory::new(database);
        let admin = TenantAdmin::new(store.clone(), directory.clone());
        let patch = SettingsPatch {
            data_dir: Some(keys_dir.path().to_owned()),
            failed_login_time: patch.failed_login_time.or_else(|| "1ms".parse().ok()),
            ledger_seal_interval: patch.ledger_seal_interval.or_else(|| "200ms".parse().ok()),
            ledger_sign_interval: patch.ledger_sign_interval.or_else(|| "400ms".parse().ok()),
            ..patch
        };
        let settings = Settings::load_with(None, &|_| None, patch).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let worker_settings = WorkerSettings {
            projection_poll: Duration::from_millis(50),
            hold_sweep: Duration::from_millis(200),
            domain_recheck: settings.domain_recheck_interval,
            txt_lookup: TxtLookup::new(settings.dns_server),
            ledger_seal: settings.ledger_seal_interval,
            ledger_sign: settings.ledger_sign_interval,
            head_log: settings.head_log_interval,
            ledger_copy: HeadCopy::open(&settings.ledger_copy()).unwrap(),
            ..WorkerSettings::default()
        };
        let mut workers = Workers::start(&store, &directory, worker_settings.clone(), &stop);
        let state = AppState::new(store.clone(), directory.clone(), &settings).unwrap();
        workers.start_mailer(state.mail_worker().unwrap(), &stop);
        let log = state.masquerade_log();
        workers.start_masquerade_sweep(&store, &directory, log, worker_settings.clone(), &stop);
        workers.start_ledger(state.ledger(), &directory, worker_settings, &stop);
        let (shutdown, signal) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let (stop, state) = (stop.clone(), state.clone());
            async move {
                daybook::serve::serve(listener, state, async { drop(signal.await) }).await.unwrap();
                stop.cancel();
                workers.join().await;
            }
        });
        Self {
            address,
            store,
            directory,
            admin,
            keys,
            client: reqwest::Client::builder().pool_max_idle_per_host(128).build().unwrap(),
            db,
            state,
            stop,
            shutdown: Some(shutdown),
            task: Some(task),
            _keys_dir: keys_dir,
        }
    }

    /// Where the server keeps its files.
    pub fn data_dir(&self) -> &std::path::Path {
        self._keys_dir.path()
    }

    /// Stops the server as SIGTERM does, and waits for it.
    pub async fn shut_down(mut self) {
        drop(self.shutdown.take());
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
        self.store.shutdown().await;
        self.store.database().close().await;
    }

    /// A tenant with a token.
    pub async fn tenant(&self, slug: &str) -> TestTenant {
        self.new_tenant(slug, false).await
    }

    /// A temporary tenant with its access token.
    pub async fn temporary(&self, slug: &str) -> TestTenant {
        self.new_tenant(slug, true).await
    }

    async fn new_tenant(&self, slug: &str, temporary: bool) -> TestTenant {
        let new = NewTenant {
            slug: Slug::new(slug, "/slug").unwrap(),
            name: format!("Tenant {slug}"),
            plan: "free".into(),
            temporary,
            time_zone: chrono_tz::Europe::Brussels,
            currency: Currency::EUR,
        };
        let metadata = Metadata { actor: "test".into(), ..Metadata::default() };
        let id = self.admin.create(new, &metadata).await.unwrap();
        let issued = self.admin.issue_key(id, "test", &metadata).await.unwrap();
        TestTenant {
            id,
            slug: slug.to_owned(),
            token: issued.key.expose_secret().to_owned(),
            token_id: issued.id,
        }
    }

    /// A request as a tenant, with extra headers and an optional body.
    pub async fn request(
        &self,
        tenant: &TestTenant,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self
            .client
            .request(method, format!("http://{}/api/v1{path}", self.address))
            .bearer_auth(&tenant.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request).await
    }

    /// GET as a tenant.
    pub async fn get(&self, tenant: &TestTenant, path: &str) -> Answer {
        self.request(tenant, Method::GET, path, &[], None).await
    }

    /// POST as a tenant.
    pub async fn post(&self, tenant: &TestTenant, path: &str, body: &Value) -> Answer {
        self.request(tenant, Method::POST, path, &[], Some(body)).await
    }

    /// POST under an idempotency key.
    pub async fn post_keyed(&self, tenant: &TestTenant, path: &str, key: &str, body: &Value) -> Answer {
        self.request(tenant, Method::POST, path, &[("Idempotency-Key", key)], Some(body)).await
    }

    /// A resource; a capacity above one makes it a pool.
    pub async fn resource(&self, tenant: &TestTenant, name: &str, capacity: u32) -> Uuid {
        let body = if capacity == 1 {
            json!({"name": name, "kind": "unit", "time_zone": "Europe/Brussels"})
        } else {
            json!({"name": name, "kind": "pool", "capacity": capacity, "time_zone": "Europe/Brussels"})
        };
        id(&self.post(tenant, "/resources", &body).await.expect(201))
    }

    /// An offering by nights over resources.
    pub async fn nights_offering(&self, tenant: &TestTenant, resources: &[Uuid]) -> Uuid {
        let body = json!({
            "name": "Stay", "mode": "nights", "resource_ids": resources, "price_per": "night",
            "price": {"amount": 5_000, "currency": "EUR"},
            "cancellation_policy": {"tiers": [{"hours_before": 48, "fee_percent": 50}]},
        });
        id(&self.post(tenant, "/offerings", &body).await.expect(201))
    }

    /// An offering by slots of an hour over resources.
    pub async fn slot_offering(&self, tenant: &TestTenant, resources: &[Uuid]) -> Uuid {
        let body = json!({
            "name": "Lesson", "mode": "slot", "resource_ids": resources, "duration_minutes": 60,
            "price_per": "booking", "price": {"amount": 4_000, "currency": "EUR"},
        });
        id(&self.post(tenant, "/offerings", &body).await.expect(201))
    }

    /// A customer.
    pub async fn customer(&self, tenant: &TestTenant, name: &str) -> Uuid {
        id(&self.post(tenant, "/customers", &json!({"name": name})).await.expect(201))
    }

    /// The body of a booking by nights.
    pub fn stay(offering: Uuid, customer: Uuid, check_in: &str, check_out: &str) -> Value {
        json!({"offering_id": offering, "customer_id": customer, "check_in": check_in, "check_out": check_out, "guests": 2})
    }

    /// Signs a tenant's log as it is now, and names it in the log of heads.
    pub async fn sign_now(&self, tenant: &TestTenant) -> Checkpoint {
        let ledger = self.state.ledger();
        let checkpoint = ledger.checkpoint_now(&tenant.schema()).await.unwrap();
        ledger.sign_heads(&HeadCopy::none(), Duration::ZERO).await.unwrap();
        checkpoint
    }

    /// The position of a tenant's log.
    pub async fn head(&self, tenant: &TestTenant) -> i64 {
        let sql = tenant.schema().sql("SELECT position FROM {s}.log_head");
        sqlx::query_scalar(&sql).fetch_one(self.store.database().owner()).await.unwrap()
    }

    /// Asserts that positions are 1..=n without a gap, sequences too, and that the head says so.
    pub async fn assert_gap_free(&self, tenant: &TestTenant) -> i64 {
        let sql = tenant.schema().sql(
            "SELECT count(*), coalesce(max(position), 0), (SELECT position FROM {s}.log_head),
                    (SELECT count(*) FROM (SELECT aggregate_id FROM {s}.events GROUP BY aggregate_id
                                           HAVING max(sequence) <> count(*)) AS broken)
             FROM {s}.events",
        );
        let (count, last, head, broken): (i64, i64, i64, i64) =
            sqlx::query_as(&sql).fetch_one(self.store.database().owner()).await.unwrap();
        assert_eq!((count, last), (head, head), "positions have a gap");
        assert_eq!(broken, 0, "a stream has a gap");
        head
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Sends a request and reads the answer whole.
pub async fn read(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into()));
    Answer { status, headers, body }
}

/// The id in an answer.
pub fn id(answer: &Answer) -> Uuid {
    answer.text("id").parse().unwrap()
}

/// Waits until something holds.
pub async fn eventually(what: &str, within: Duration, holds: impl AsyncFn() -> bool) {
    let until = tokio::time::Instant::now() + within;
    while !holds().await {
        assert!(tokio::time::Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
