//! The application: what every handler needs, and the router over all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, middleware::from_fn_with_state};
use chrono_tz::Tz;
use daybook_domain::{Slug, TenantId};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::{
    access_log::AccessLog,
    auth::{
        AuthDirectory, authorize,
        password::{PasswordError, PasswordHasher, PasswordParams},
    },
    config::Settings,
    dns::{TxtLookup, records::DnsRecords},
    eventstore::EventStore,
    http::{
        self,
        cors::{self, OriginAllowlist},
        envelope,
        problem::{Problem, Result},
    },
    ledger::Ledger,
    limits::{Limits, streams::OpenStreams},
    mail::{
        sealer::KeySealer,
        transport::{Transport, TransportError},
    },
    masquerade_log::MasqueradeLog,
    retention::Floors,
    security_log::SecurityLog,
    tenancy::{TenantDirectory, admin::TenantAdmin},
    workers::mailer::{MailWorker, Mailer, MailerSettings},
};

/// How long it is remembered which tenant a slug names; slugs do not move between tenants.
const SLUG_FRESH: Duration = Duration::from_millis(500);
const MAX_SLUGS: usize = 10_000;

/// What every handler needs. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    inner: Arc<Inner>,
}

struct Inner {
    store: EventStore,
    directory: TenantDirectory,
    ledger: Ledger,
    auth: AuthDirectory,
    hasher: PasswordHasher,
    mailer: Mailer,
    settings: Settings,
    metrics: PrometheusHandle,
    limits: Limits,
    origins: OriginAllowlist,
    txt_lookup: TxtLookup,
    dns_records: DnsRecords,
    security_log: SecurityLog,
    masquerade_log: MasqueradeLog,
    access_log: AccessLog,
    streams: OpenStreams,
    floors: Floors,
    closing: CancellationToken,
    openapi: OnceLock<Bytes>,
    slugs: Mutex<HashMap<String, (Instant, Option<TenantId>)>>,
    readiness: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

impl AppState {
    /// The application over a store.
    ///
    /// # Errors
    /// When passwords cannot be hashed with the parameters of the settings.
    pub fn new(
        store: EventStore,
        directory: TenantDirectory,
        settings: &Settings,
    ) -> std::result::Result<Self, PasswordError> {
        let hasher = PasswordHasher::new(PasswordParams {
            memory_kib: settings.argon2_memory_kib,
            iterations: settings.argon2_iterations,
            parallel: settings.argon2_parallel,
        })?;
        let limits = Limits::new(store.database().clone(), store.keys().clone(), settings);
        let origins = OriginAllowlist::new(store.database().clone(), &settings.cors_origins);
        Ok(Self {
            inner: Arc::new(Inner {
                limits,
                origins,
                txt_lookup: TxtLookup::new(settings.dns_server),
                dns_records: DnsRecords::from_settings(settings),
                auth: AuthDirectory::new(store.database().clone(), store.keys().clone()),
                access_log: AccessLog::new(store.database().clone()),
                ledger: Ledger::new(store.clone(), &settings.public_url()),
                store,
                directory,
                settings: settings.clone(),
                metrics: metrics(),
                security_log: SecurityLog::new(&settings.data_dir),
                masquerade_log: MasqueradeLog::new(&settings.data_dir),
                streams: OpenStreams::default(),
                floors: Floors::default(),
                closing: CancellationToken::new(),
                openapi: OnceLock::new(),
                slugs: Mutex::default(),
                readiness: tokio::sync::Mutex::default(),
                hasher,
                mailer: Mailer::default(),
            }),
        })
    }

    /// The event store.
    pub fn store(&self) -> &EventStore {
        &self.inner.store
    }

    /// The ledgers of all logs.
    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    /// Who calls.
    pub fn auth(&self) -> &AuthDirectory {
        &self.inner.auth
    }

    /// What passwords are hashed and compared with.
    pub fn hasher(&self) -> &PasswordHasher {
        &self.inner.hasher
    }

    /// Says where mail was queued.
    pub fn mailer(&self) -> &Mailer {
        &self.inner.mailer
    }

    /// What sends the mail that this application queues.
    ///
    /// # Errors
    /// When the mail server's address is none, or the mailbox cannot be made.
    pub fn mail_worker(&self) -> std::result::Result<MailWorker, TransportError> {
        Ok(MailWorker {
            database: self.inner.store.database().clone(),
            directory: self.inner.directory.clone(),
            transport: Arc::new(Transport::from_settings(&self.inner.settings)?),
            sealer: Arc::new(KeySealer(self.inner.store.keys().clone())),
            mailer: self.inner.mailer.clone(),
            settings: MailerSettings::default(),
        })
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// `internal` when the system gives no randomness.
    pub async fn hash_password(&self, password: SecretString) -> Result<SecretString> {
        self.hasher().hash(password).await.map_err(Problem::internal)
    }

    /// Whether pages of this origin may use the API with cookies.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn origin_allowed(&self, origin: &str) -> Result<bool> {
        Ok(self.origins().allows(origin).await)
    }

    /// Commands to tenants.
    pub fn admin(&self) -> TenantAdmin {
        TenantAdmin::new(self.inner.store.clone(), self.inner.directory.clone())
    }

    /// Tenants.
    pub fn directory(&self) -> &TenantDirectory {
        &self.inner.directory
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The rate limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The web pages that may call.
    pub fn origins(&self) -> &OriginAllowlist {
        &self.inner.origins
    }

    /// Looks up the records that prove domains.
    pub fn txt_lookup(&self) -> &TxtLookup {
        &self.inner.txt_lookup
    }

    /// Makes the records that prove domains, where they are ours to make.
    pub fn dns_records(&self) -> &DnsRecords {
        &self.inner.dns_records
    }

    /// The log of what concerns security.
    pub fn security_log(&self) -> &SecurityLog {
        &self.inner.security_log
    }

    /// The log of who acted as whom.
    pub fn masquerade_log(&self) -> &MasqueradeLog {
        &self.inner.masquerade_log
    }

    /// The log of calls made with API keys.
    pub fn access_log(&self) -> &AccessLog {
        &self.inner.access_log
    }

    /// The answers that have no end of their own, by whom they are for.
    pub fn streams(&self) -> &OpenStreams {
        &self.inner.streams
    }

    /// Where the readable part of each log begins.
    pub fn floors(&self) -> &Floors {
        &self.inner.floors
    }

    /// Cancelled when the server stops: what has no end of its own ends then.
    pub fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// Lets go of what is kept only for a while; called every few seconds by the accept loop.
    pub fn upkeep(&self) {
        // Histograms keep every sample until they are drained.
        self.inner.metrics.run_upkeep();
        self.inner.limits.prune_local();
        self.inner.security_log.prune();
    }

    /// The metrics of this process.
    pub fn metrics(&self) -> &PrometheusHandle {
        &self.inner.metrics
    }

    /// The OpenAPI document, as JSON.
    pub fn openapi(&self) -> Bytes {
        self.inner.openapi.get().cloned().unwrap_or_default()
    }

    /// The tenant of a slug.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn tenant_of_slug(&self, slug: &str) -> Result<Option<TenantId>> {
        // What cannot be a slug is nobody's, and neither looked up nor kept.
        if Slug::new(slug, "").is_err() {
            return Ok(None);
        }
        let asked = Instant::now();
        if let Some((at, tenant)) = self.inner.slugs.lock().unwrap_or_else(PoisonError::into_inner).get(slug)
            && asked.duration_since(*at) < SLUG_FRESH
        {
            return Ok(*tenant);
        }
        let tenant = self.directory().by_slug(slug).await?.map(|tenant| tenant.id);
        let mut slugs = self.inner.slugs.lock().unwrap_or_else(PoisonError::into_inner);
        if slugs.len() >= MAX_SLUGS {
            slugs.clear();
        }
        slugs.insert(slug.to_owned(), (asked, tenant));
        Ok(tenant)
    }

    /// A tenant's time zone: the default of its resources.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn tenant_zone(&self, tenant: TenantId) -> Result<Option<Tz>> {
        let found = self.directory().by_id(tenant).await?;
        Ok(found.and_then(|tenant| tenant.time_zone.parse().ok()))
    }

    /// The last answer about readiness and when it was found, for one asker at a time.
    pub(crate) async fn readiness(&self) -> tokio::sync::MutexGuard<'_, Option<(Instant, bool)>> {
        self.inner.readiness.lock().await
    }
}

/// Every route, under the layer that surrounds each request.
pub fn router(state: AppState) -> Router {
    let (routes, openapi) = http::routes().split_for_parts();
    // A document of strings and numbers always serialises; should it not, the route answers with nothing in it.
    let document = serde_json::to_vec(&openapi).unwrap_or_default();
    state.inner.openapi.get_or_init(|| document.into());
    routes
        .route_layer(from_fn_with_state(state.clone(), authorize::authorize))
        .fallback(envelope::not_found)
        .method_not_allowed_fallback(envelope::method_not_allowed)
        // From the inside: a refusal to admit is readable to the pages that may call, and all of it is in the envelope.
        .layer(from_fn_with_state(state.clone(), envelope::admission))
        .layer(cors::layer(&state))
        .layer(from_fn_with_state(state.clone(), envelope::envelope))
        .with_state(state)
}

/// Installs the process's metrics recorder, once; later calls answer with the same handle.
pub fn metrics() -> PrometheusHandle {
    const SECONDS: [f64; 14] =
        [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new();
            // The buckets are a constant that is not empty, which is all that is checked.
            let builder = builder
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
                .unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed; /metrics stays empty");
            }
            handle
        })
        .clone()
}
