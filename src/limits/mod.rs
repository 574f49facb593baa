//! Rate limits: counters that all nodes share, for what is worth guessing at or is dear ([`shared`]); and buckets of this
//! process, for reads ([`local`]). Calls
//! with an API key are counted in both: a node takes some of an hour's calls at a time ([`hourly`]).
//!
//! A handler asks `state.limits().check(&policy, key)` before it does the work, with an address's
//! [`limit_key`](crate::http::client_address::ClientAddress::limit_key), an account's id or a domain as the key. There
//! is no way to reset a counter: success is no reason to give anyone more attempts.

pub mod hourly;
pub mod local;
pub mod shared;
pub mod streams;

use std::{sync::Arc, time::Duration};

use axum::response::{IntoResponseParts, ResponseParts};
use daybook_domain::ApiKeyId;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use self::{hourly::Hourly, local::Buckets, shared::Counters};
use crate::{
    config::Settings,
    http::{
        client_address::{ClientAddress, LimitKey},
        headers::{RATE_LIMIT, RATE_LIMIT_POLICY},
        problem::{Code, Problem, Result},
    },
    keys::Keys,
    tenancy::Database,
};

/// The policy of calls made with an API key.
pub const API_CALLS: &str = "api_calls";

/// The longest window: counters are pruned once they are older.
pub const MAX_WINDOW: Duration = Duration::from_secs(24 * 3_600);

/// Invitations a day to one e-mail address, whoever sends them.
const INVITATIONS_TO_ONE: u32 = 5;

/// Support requests an hour by one account.
const SUPPORT_REQUESTS: u32 = 20;

/// Support sessions and hijacks an hour that one account begins, or would: each attempt is an event in a tenant's log.
const MASQUERADES: u32 = 120;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// How often something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, which is also that of its counters: lower-case letters, digits and `_`.
    pub name: &'static str,
    /// How often in a window.
    pub quota: u32,
    /// The window, at most [`MAX_WINDOW`].
    pub window: Duration,
}

/// The policies of this process, as configured.
#[derive(Clone, Copy, Debug)]
pub struct Policies {
    /// Sign-ins, per address.
    pub login: Policy,
    /// Requests for a new password, per address.
    pub reset: Policy,
    /// Requests to delete an account, per account.
    pub account_deletion: Policy,
    /// Leads, per address.
    pub leads: Policy,
    /// Sign-ups, per address.
    pub signup: Policy,
    /// Sign-ups, per domain of the e-mail address.
    pub signup_domain: Policy,
    /// Invitations, per tenant, and to one address over all tenants: they are letters to whomever somebody names.
    pub invitation: Policy,
    /// See [`Self::invitation`].
    pub invitation_address: Policy,
    /// Support requests, per account of the platform: each writes to the people of a tenant.
    pub support_request: Policy,
    /// Attempts to begin a support session or a hijack, per account.
    pub masquerade: Policy,
    /// Bookings by the public, per address; and changes of one booking by its guest, per booking.
    pub public_bookings: Policy,
    /// Reads of what is free by the public, per address; of this process.
    pub public_availability: Policy,
    /// Requests, per address and route; of this process. A quota of 0 is no limit.
    pub read: Policy,
}

impl Policies {
    /// As configured.
    pub fn new(settings: &Settings) -> Self {
        let policy = |name, quota, window| Policy { name, quota, window };
        Self {
            login: policy("login", settings.login_limit_per_minute, MINUTE),
            reset: policy("reset", settings.reset_limit_per_hour, HOUR),
            account_deletion: policy("account_deletion", settings.account_deletion_limit_per_hour, HOUR),
            leads: policy("leads", settings.leads_limit_per_hour, HOUR),
            signup: policy("signup", settings.signup_limit_per_hour, HOUR),
            signup_domain: policy("signup_domain", settings.signup_domain_limit_per_day, MAX_WINDOW),
            invitation: policy("invitation", settings.invitation_limit_per_hour, HOUR),
            invitation_address: policy("invitation_address", INVITATIONS_TO_ONE, MAX_WINDOW),
            support_request: policy("support_request", SUPPORT_REQUESTS, HOUR),
            masquerade: policy("masquerade", MASQUERADES, HOUR),
            public_bookings: policy("public_bookings", settings.public_bookings_limit_per_hour, HOUR),
            public_availability: policy(
                "public_availability",
                settings.public_availability_limit_per_minute,
                MINUTE,
            ),
            read: policy("read", settings.read_limit_per_minute, MINUTE),
        }
    }
}

/// What is left of a policy after a request: the answer's `RateLimit` headers. Part of an answer:
/// `(allowance, response).into_response()`; on a refusal, [`Allowance::mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The policy.
    pub policy: Policy,
    /// How often it may still be done in this window.
    pub remaining: u32,
    /// When the window ends.
    pub reset_after: Duration,
}

impl Allowance {
    /// The headers that tell a client.
    pub fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        let Policy { name, quota, window } = self.policy;
        let value = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        let (remaining, after) = (self.remaining, seconds(self.reset_after));
        [
            (RATE_LIMIT_POLICY, value(format!("\"{name}\";q={quota};w={}", window.as_secs()))),
            (RATE_LIMIT, value(format!("\"{name}\";r={remaining};t={after}"))),
        ]
    }

    /// Puts the headers on an answer, unless it tells of a narrower limit.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(RATE_LIMIT) {
            headers.extend(self.headers());
        }
    }

    /// A refusal of another kind, with the headers.
    #[must_use]
    pub fn mark(&self, problem: Problem) -> Problem {
        self.headers().into_iter().fold(problem, |problem, (name, value)| problem.with_header(name, value))
    }

    /// The refusal: come back when the window has ended.
    fn refusal(&self) -> Problem {
        let retry = HeaderValue::from(seconds(self.reset_after).max(1));
        let problem = Problem::new(Code::RateLimited, "Too many requests of this kind; see Retry-After.")
            .with_header(header::RETRY_AFTER, retry)
            .with_note(self.policy.name);
        self.mark(problem)
    }
}

impl IntoResponseParts for Allowance {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        parts.headers_mut().extend(self.headers());
        Ok(parts)
    }
}

/// Whole seconds, rounded up: who waits that long has waited long enough.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The limits of a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Limits {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    policies: Policies,
    counters: Counters,
    hourly: Hourly,
    public_availability: Option<Buckets<LimitKey>>,
    read: Option<Buckets<(u64, LimitKey)>>,
    /// Behind proxies of ours a loopback address is a proxy's or made up, and else one of our own programs.
    loopback_is_ours: bool,
}

impl Limits {
    /// The limits as configured.
    pub fn new(database: Database, keys: Arc<Keys>, settings: &Settings) -> Self {
        let policies = Policies::new(settings);
        Self {
            inner: Arc::new(Inner {
                policies,
                hourly: Hourly::new(database.clone(), keys.clone()),
                counters: Counters::new(database, keys),
                public_availability: Buckets::new(policies.public_availability),
                read: Buckets::new(policies.read),
                loopback_is_ours: settings.trusted_proxy_hops == 0,
            }),
        }
    }

    /// The policies as configured.
    pub fn policies(&self) -> &Policies {
        &self.inner.policies
    }

    /// Counts one more and says what is left, over all nodes.
    ///
    /// # Errors
    /// `rate_limited` when it is one too many; `unavailable` when the database is away, which lets nobody pass.
    pub async fn check(&self, policy: &Policy, key: &str) -> Result<Allowance> {
        let hit = self.inner.counters.hit(policy.name, key, policy.window, policy.quota).await?;
        let allowance = Allowance { policy: *policy, remaining: hit.remaining, reset_after: hit.reset_after };
        if hit.allowed { Ok(allowance) } else { Err(self.refuse(&allowance)) }
    }

    /// What is left, without counting; nothing may be.
    ///
    /// # Errors
    /// `unavailable` when the database is away.
    pub async fn peek(&self, policy: &Policy, key: &str) -> Result<Allowance> {
        let hit = self.inner.counters.look(policy.name, key, policy.window, policy.quota).await?;
        Ok(Allowance { policy: *policy, remaining: hit.remaining, reset_after: hit.reset_after })
    }

    /// One more call with an API key that may make so many an hour, over all nodes.
    ///
    /// # Errors
    /// `rate_limited` when it is one too many; `unavailable` when the database is away, which lets nobody pass.
    pub async fn check_api_call(&self, key: ApiKeyId, calls_per_hour: u32) -> Result<Allowance> {
        let policy = Policy { name: API_CALLS, quota: calls_per_hour, window: HOUR };
        let hit = self.inner.hourly.take(key, calls_per_hour).await?;
        let allowance = Allowance { policy, remaining: hit.remaining, reset_after: hit.reset_after };
        if hit.allowed { Ok(allowance) } else { Err(self.refuse(&allowance)) }
    }

    /// One more read of what is free by the public, on this node.
    ///
    /// # Errors
    /// `rate_limited` when it is one too many.
    pub fn check_public_availability(&self, client: LimitKey) -> Result<Allowance> {
        let policy = self.inner.policies.public_availability;
        match &self.inner.public_availability {
            Some(buckets) => buckets.take(&client).map_err(|allowance| self.refuse(&allowance)),
            None => Ok(Allowance { policy, remaining: u32::MAX, reset_after: Duration::ZERO }),
        }
    }

    /// One more request to a route, on this node. `route` is the template, so that a path's case, slashes and query and
    /// the method make no other bucket.
    ///
    /// # Errors
    /// `rate_limited` when it is one too many.
    pub fn check_route(&self, route: &str, client: ClientAddress) -> Result<()> {
        let Some(buckets) = &self.inner.read else { return Ok(()) };
        if self.inner.loopback_is_ours && client.0.is_some_and(|ip| ip.is_loopback()) {
            return Ok(());
        }
        match buckets.take(&(local::fingerprint(route), client.limit_key())) {
            Ok(_) => Ok(()),
            Err(allowance) => Err(self.refuse(&allowance)),
        }
    }

    /// Forgets buckets that are full again; called every now and then, so that memory stays bounded.
    pub fn prune_local(&self) {
        self.inner.hourly.prune();
        if let Some(buckets) = &self.inner.public_availability {
            buckets.prune();
        }
        if let Some(buckets) = &self.inner.read {
            buckets.prune();
        }
    }

    fn refuse(&self, allowance: &Allowance) -> Problem {
        metrics::counter!("daybook_rate_limited_total", "policy" => allowance.policy.name).increment(1);
        allowance.refusal()
    }
}
