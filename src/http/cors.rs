//! Which web pages may call the API from a browser: those of the platform, and those on domains that tenants have proved
//! to be theirs. An origin is compared as a whole; none is ever reflected that is not on the list.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use daybook_domain::TenantId;
use daybook_projections::Schema;
use http::{HeaderName, HeaderValue, Method, header};
use serde::Deserialize;
use tower_http::cors::{AllowOrigin, CorsLayer};
use uuid::Uuid;

use super::{
    client_address::ClientAddress,
    headers::{
        IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, LAST_EVENT_ID, RATE_LIMIT, RATE_LIMIT_POLICY, TRACEPARENT,
        X_EXPORT_ID, X_EXPORT_UNTIL, X_GUEST_TOKEN, X_LOG_POSITION, X_LOG_RECEIPT, X_MIN_POSITION,
        X_READABLE_FROM, X_REQUEST_ID, X_TENANT_SLUG,
    },
};
use crate::{
    app::AppState,
    auth::named::Named,
    tenancy::{Access, Database, TenancyError, TenantTx},
};

/// How old an answer may be: a domain that is taken away or verified counts within a second, on every node.
const FRESH: Duration = Duration::from_millis(500);
/// Answers kept; past it all are dropped, which costs one query each.
const MAX_ENTRIES: usize = 10_000;
/// How long a browser may remember the answer to a preflight.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The longest host name of DNS.
const MAX_HOSTNAME: usize = 253;
/// What looking up an unknown origin is limited under, as if it were a route.
const LOOKUP: &str = "origin lookup";

/// Origins as configuration writes them: separated by commas, each as a browser sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origins(pub Vec<String>);

impl FromStr for Origins {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let origins: Vec<String> = origins.map(str::to_owned).collect();
        if origins.iter().all(|origin| is_origin(origin)) {
            Ok(Self(origins))
        } else {
            Err(
                "expected origins such as `https://app.example.com`, separated by commas: lower case, no path; http only for localhost",
            )
        }
    }
}

impl TryFrom<String> for Origins {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Whether a browser would send it like this. Plain HTTP is for a developer's own machine: what is on such a page can be
/// changed by anyone on the way.
fn is_origin(text: &str) -> bool {
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return false,
    };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let port_is_fine = match port {
        None => true,
        // A browser leaves out the default port.
        Some(port) => port.parse::<u16>().is_ok_and(|number| {
            number.to_string() == port && number != 0 && number != if secure { 443 } else { 80 }
        }),
    };
    let local = matches!(host, "localhost" | "127.0.0.1");
    port_is_fine && is_hostname(host) && (secure || local)
}

/// Lower-case letters, digits, dots and hyphens: international names are written in their ASCII form.
fn is_hostname(host: &str) -> bool {
    (1..=MAX_HOSTNAME).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'.' || b == b'-')
        && host.split('.').all(|label| !label.is_empty())
}

/// The list of origins that may call; cheap to clone.
#[derive(Clone, Debug)]
pub struct OriginAllowlist {
    database: Database,
    platform: Arc<[String]>,
    domains: Arc<Mutex<HashMap<String, (Instant, Named)>>>,
}

impl OriginAllowlist {
    /// The list: the platform's origins, and the verified domains in the database.
    pub fn new(database: Database, platform: &Origins) -> Self {
        Self { database, platform: platform.0.clone().into(), domains: Arc::default() }
    }

    /// Whether it is an origin of the platform, whatever the tenant.
    pub fn is_platform(&self, origin: &str) -> bool {
        self.platform.iter().any(|allowed| allowed == origin)
    }

    /// Whether pages of this origin may call.
    pub async fn allows(&self, origin: &str) -> bool {
        self.is_platform(origin) || self.known(origin).await
    }

    /// Whether it is a tenant's. Nobody's while the database cannot be asked: a page waits rather than is let in.
    async fn known(&self, origin: &str) -> bool {
        match self.tenant_of(origin).await {
            Ok(tenant) => tenant.is_some(),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an origin cannot be looked up");
                false
            }
        }
    }

    /// The active tenant whose verified domain this origin is: `https`, the host name exactly, no port.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked.
    pub async fn tenant_of(&self, origin: &str) -> Result<Option<TenantId>, TenancyError> {
        Ok(match self.named(origin).await? {
            Named::Tenant(tenant) => Some(tenant),
            Named::Nobody | Named::Unknown => None,
        })
    }

    /// Whom an origin names. Pages of others than tenants name nobody.
    ///
    /// # Errors
    /// When PostgreSQL cannot be asked.
    pub async fn named(&self, origin: &str) -> Result<Named, TenancyError> {
        if self.is_platform(origin) {
            return Ok(Named::Nobody);
        }
        let Some(hostname) = origin.strip_prefix("https://").filter(|host| is_hostname(host)) else {
            return Ok(Named::Nobody);
        };
        let asked = Instant::now();
        if let Some((at, named)) = self.domains.lock().unwrap_or_else(PoisonError::into_inner).get(hostname)
            && asked.duration_since(*at) < FRESH
        {
            return Ok(*named);
        }
        let named = self.look_up(hostname).await?;
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if domains.len() >= MAX_ENTRIES {
            domains.clear();
        }
        // The time before the question: the answer is at least as new as that.
        domains.insert(hostname.to_owned(), (asked, named));
        Ok(named)
    }

    async fn look_up(&self, hostname: &str) -> Result<Named, TenancyError> {
        let mut tx = TenantTx::begin(self.database.app(), &Schema::platform(), Access::Read).await?;
        let found: Option<(Uuid, bool)> = sqlx::query_as(
            "SELECT d.tenant_id, t.active FROM daybook_platform.tenant_domains d
             JOIN daybook_platform.tenants t ON t.id = d.tenant_id
             WHERE d.hostname = $1",
        )
        .bind(hostname)
        .fetch_optional(&mut *tx)
        .await
        .map_err(TenancyError::db("look up the tenant of a domain"))?;
        tx.release();
        Ok(match found {
            None => Named::Nobody,
            Some((_, false)) => Named::Unknown,
            Some((tenant, true)) => Named::Tenant(TenantId(tenant)),
        })
    }
}

/// Answers preflights, and tells browsers which pages may read an answer. No credentials are asked for: a preflight
/// carries none.
pub fn layer(state: &AppState) -> CorsLayer {
    let state = state.clone();
    let origins = AllowOrigin::async_predicate(move |origin, request: &http::request::Parts| {
        let client = ClientAddress::of(&request.extensions);
        async move { may_call(&state, &origin, client).await }
    });
    CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            IDEMPOTENCY_KEY,
            X_TENANT_SLUG,
            X_GUEST_TOKEN,
            X_MIN_POSITION,
            LAST_EVENT_ID,
            TRACEPARENT,
        ])
        .expose_headers(exposed())
        .max_age(MAX_AGE)
}

fn exposed() -> [HeaderName; 13] {
    [
        header::ETAG,
        header::LOCATION,
        header::RETRY_AFTER,
        X_LOG_POSITION,
        X_LOG_RECEIPT,
        X_REQUEST_ID,
        IDEMPOTENT_REPLAYED,
        RATE_LIMIT,
        RATE_LIMIT_POLICY,
        X_READABLE_FROM,
        X_EXPORT_ID,
        X_EXPORT_UNTIL,
        header::CONTENT_DISPOSITION,
    ]
}

async fn may_call(state: &AppState, origin: &HeaderValue, client: ClientAddress) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let allowlist = state.origins();
    // Made-up origins are a query each, before any other limit.
    allowlist.is_platform(origin)
        || state.limits().check_route(LOOKUP, client).is_ok() && allowlist.known(origin).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_a_browser_sends_them() {
        let parsed: Origins =
            "https://app.example.com, http://localhost:5173,https://x.example:8443,".parse().unwrap();
        assert_eq!(parsed.0, ["https://app.example.com", "http://localhost:5173", "https://x.example:8443"]);
        assert_eq!("".parse(), Ok(Origins::default()));
        for wrong in [
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://App.example.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "https://app.example.com:",
            "https://app.example.com:0443",
            "https://*.example.com",
            "https://user@example.com",
            "https://a..example.com",
            "http://app.example.com",
            "http://localhost:80",
            "ftp://localhost",
        ] {
            assert!(wrong.parse::<Origins>().is_err(), "{wrong}");
        }
    }
}
