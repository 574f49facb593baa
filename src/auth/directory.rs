//! Credentials to principals, cached for less than a second: a deactivated tenant, an ended session, a revoked key or
//! another role takes effect on every node within that time. Fails closed: without the database, nobody.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use daybook_domain::{
    ApiKeyId, CustomerId, ResourceId, SessionId, TenantId, UserId,
    permission::{Module, Permissions, Tier},
    permission_grant::is_grantee,
};
use daybook_projections::Schema;
use sha2::{Digest as _, Sha256};
use sqlx::{Row as _, postgres::PgRow};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{
    access_token::{self, Use},
    api_key, grants,
    principal::{Credential, Principal},
};
use crate::{
    keys::Keys,
    retention::{self, Retention},
    tenancy::{Access, Database, TenancyError, TenantTx},
};

/// How old an answer may be. Two of them stand behind each other (the tenant's and the credential's).
const FRESH: Duration = Duration::from_millis(400);
/// Answers of a kind that are kept; past it all are dropped, which costs one query each.
const MAX_ENTRIES: usize = 50_000;
/// How often it is noted that a key is in use.
const NOTE_USE: Duration = Duration::from_secs(60);

/// A tenant that may be used, with what its plan allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveTenant {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// Sessions a user may have at once.
    pub sessions_per_user: u32,
    /// Calls an hour for each API key.
    pub api_calls_per_hour: u32,
    /// What is kept of its history.
    pub retention: Retention,
    /// Whether it is a temporary one, which holds nobody's data.
    pub temporary: bool,
}

/// Resolves credentials. Cheap to clone.
#[derive(Clone)]
pub struct AuthDirectory {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) database: Database,
    pub(super) keys: Arc<Keys>,
    tenants: Cache<TenantId, Option<Arc<ActiveTenant>>>,
    /// By all that is asked: an answer about a session in one tenant is none about it in another.
    sessions: Cache<(Option<TenantId>, UserId, SessionId), Option<Arc<Principal>>>,
    /// Of support sessions and hijacks, likewise.
    pub(super) masquerades: Cache<(Use, Option<Uuid>, Uuid), Option<Arc<Principal>>>,
    api_keys: Cache<[u8; 32], Option<Arc<Principal>>>,
    /// Whose keys begin with what. That never changes: a prefix is one key's, for good.
    prefixes: Mutex<HashMap<String, TenantId>>,
    noted: Mutex<HashMap<ApiKeyId, Instant>>,
}

impl AuthDirectory {
    /// A directory over a database.
    pub fn new(database: Database, keys: Arc<Keys>) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                keys,
                tenants: Cache::default(),
                sessions: Cache::default(),
                masquerades: Cache::default(),
                api_keys: Cache::default(),
                prefixes: Mutex::default(),
                noted: Mutex::default(),
            }),
        }
    }

    /// The principal behind a bearer token; `None` when it is unknown, expired or revoked, or its tenant not active.
    ///
    /// # Errors
    /// When the answer is too old and PostgreSQL cannot be asked.
    pub async fn resolve(&self, token: &str) -> Result<Option<Arc<Principal>>, TenancyError> {
        if token.starts_with(api_key::PREFIX) { self.api_key(token).await } else { self.session(token).await }
    }

    /// A tenant, if it may be used.
    ///
    /// # Errors
    /// When the answer is too old and PostgreSQL cannot be asked.
    pub async fn active_tenant(&self, id: TenantId) -> Result<Option<Arc<ActiveTenant>>, TenancyError> {
        let asked = Instant::now();
        if let Some(known) = self.inner.tenants.get(&id, asked) {
            return Ok(known);
        }
        let attempted = "look up a tenant and its plan";
        let mut tx = TenantTx::begin(self.inner.database.app(), &Schema::platform(), Access::Read).await?;
        let row = sqlx::query(&format!(
            "SELECT {}, t.slug, t.name, p.sessions_per_user, p.api_calls_per_hour, t.temporary
             FROM daybook_platform.tenants t JOIN daybook_platform.plans p ON p.id = t.plan
             WHERE t.id = $1 AND t.active",
            retention::COLUMNS
        ))
        .bind(id.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(TenancyError::db(attempted))?;
        tx.release();
        let read = |row: PgRow| -> Result<ActiveTenant, sqlx::Error> {
            let count = |number: i32| u32::try_from(number).unwrap_or(0);
            let kept = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            let retention = Retention::new(kept);
            Ok(ActiveTenant {
                id,
                slug: row.try_get(5)?,
                name: row.try_get(6)?,
                plan: retention.plan.clone(),
                sessions_per_user: count(row.try_get(7)?),
                api_calls_per_hour: count(row.try_get(8)?),
                retention,
                temporary: row.try_get(9)?,
            })
        };
        let found = row.map(read).transpose().map_err(TenancyError::db(attempted))?.map(Arc::new);
        self.inner.tenants.put(id, asked, found.clone());
        Ok(found)
    }

    async fn session(&self, token: &str) -> Result<Option<Arc<Principal>>, TenancyError> {
        let Ok(claims) = access_token::verify(&self.inner.keys, token, now()) else { return Ok(None) };
        let (tenant, user, session) =
            (claims.tenant_id.map(TenantId), UserId(claims.sub), SessionId(claims.sid));
        if let Some(tenant) = tenant
            && self.active_tenant(tenant).await?.is_none()
        {
            return Ok(None);
        }
        match claims.usage {
            Use::Session => self.signed_in(tenant, user, session).await,
            Use::Support | Use::Hijack => self.masquerade(&claims).await,
        }
    }

    /// An active user in a session that lives; a second old at most.
    pub(super) async fn signed_in(
        &self,
        tenant: Option<TenantId>,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<Arc<Principal>>, TenancyError> {
        let asked = Instant::now();
        let found = match self.inner.sessions.get(&(tenant, user, session), asked) {
            Some(known) => known,
            None => {
                let found = self.live_session(tenant, user, session).await?.map(Arc::new);
                self.inner.sessions.put((tenant, user, session), asked, found.clone());
                found
            }
        };
        // A session is of one user and tenant; a token that says otherwise is not one of ours.
        Ok(found.filter(|principal| {
            principal.tenant == tenant && principal.credential == Credential::Session { user, session }
        }))
    }

    async fn live_session(
        &self,
        tenant: Option<TenantId>,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<Principal>, TenancyError> {
        self.user(tenant, user, session, true).await
    }

    /// An active user as they are now, in a session that lives, or that was just granted: a later sign-in may have ended
    /// it already, which its tokens then find.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn user(
        &self,
        tenant: Option<TenantId>,
        user: UserId,
        session: SessionId,
        lives: bool,
    ) -> Result<Option<Principal>, TenancyError> {
        let attempted = "look up a session";
        let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
        let mut tx = TenantTx::begin(self.inner.database.app(), &schema, Access::Read).await?;
        let row = sqlx::query(
            "SELECT u.tier, u.modules, u.assigned, u.customer_id, r.permissions
             FROM users u LEFT JOIN roles r ON r.id = u.role_id
             WHERE u.id = $2 AND u.status = 'active'
               AND (NOT $3 OR EXISTS (SELECT FROM user_sessions s
                                      WHERE s.session_id = $1 AND s.user_id = $2 AND s.expires_at > now()))",
        )
        .bind(session.0)
        .bind(user.0)
        .bind(lives)
        .fetch_optional(&mut *tx)
        .await
        .map_err(TenancyError::db(attempted))?;
        let Some(row) = row else {
            tx.release();
            return Ok(None);
        };
        let read = || -> Result<Principal, sqlx::Error> {
            let tier: String = row.try_get(0)?;
            let modules: Vec<String> = row.try_get(1)?;
            let assigned: Vec<Uuid> = row.try_get(2)?;
            let customer: Option<Uuid> = row.try_get(3)?;
            let role: Option<Vec<String>> = row.try_get(4)?;
            // An unknown tier is the lowest: it was written by a newer version than this one.
            let tier = Tier::parse(&tier).unwrap_or(Tier::Customer);
            let own = effective(tier, &modules, role.as_deref());
            Ok(Principal {
                credential: Credential::Session { user, session },
                tenant,
                tier,
                permissions: own.clone(),
                own,
                granted: Vec::new(),
                customer: customer.map(CustomerId),
                assigned: assigned.into_iter().map(ResourceId).collect(),
                calls_per_hour: None,
                expires_at: None,
                ends: None,
                masked: false,
            })
        };
        let mut principal = read().map_err(TenancyError::db(attempted))?;
        if tenant.is_some() && is_grantee(principal.tier) {
            principal.granted = grants::live(&mut tx, user, principal.tier).await?;
            for granted in &principal.granted {
                principal.permissions.allow(granted.permission);
            }
        }
        tx.release();
        Ok(Some(principal))
    }

    async fn api_key(&self, key: &str) -> Result<Option<Arc<Principal>>, TenancyError> {
        let Some(lookup) = api_key::lookup(key) else { return Ok(None) };
        let digest: [u8; 32] = Sha256::digest(key).into();
        let asked = Instant::now();
        let found = match self.inner.api_keys.get(&digest, asked) {
            Some(known) => known,
            None => {
                let found = self.live_key(lookup, key).await?.map(Arc::new);
                self.inner.api_keys.put(digest, asked, found.clone());
                found
            }
        };
        let Some(principal) = found else { return Ok(None) };
        let Some(tenant) = principal.tenant else { return Ok(None) };
        if self.active_tenant(tenant).await?.is_none() {
            return Ok(None);
        }
        if let Credential::ApiKey(id) = principal.credential {
            self.note_use(tenant, id);
        }
        Ok(Some(principal))
    }

    async fn live_key(&self, lookup: &str, key: &str) -> Result<Option<Principal>, TenancyError> {
        let attempted = "look up an API key";
        let Some(tenant) = self.tenant_of(lookup).await? else { return Ok(None) };
        let Some(active) = self.active_tenant(tenant).await? else { return Ok(None) };
        let mut tx =
            TenantTx::begin(self.inner.database.app(), &Schema::tenant(tenant), Access::Read).await?;
        let row: Option<(Uuid, Vec<u8>, Vec<u8>, Vec<String>, String, Option<i32>, Option<DateTime<Utc>>)> =
            sqlx::query_as(
                "SELECT k.id, s.salt, s.hash, k.permissions, k.tier, k.calls_per_hour, k.expires_at
                 FROM api_keys k JOIN api_key_secrets s ON s.api_key_id = k.id
                 WHERE k.prefix = $1 AND NOT k.revoked AND (k.expires_at IS NULL OR k.expires_at > now())",
            )
            .bind(lookup)
            .fetch_optional(&mut *tx)
            .await
            .map_err(TenancyError::db(attempted))?;
        tx.release();
        let Some((id, salt, hash, permissions, tier, calls, expires_at)) = row else { return Ok(None) };
        let Ok(salt) = <[u8; 16]>::try_from(salt) else { return Ok(None) };
        let computed = api_key::hash(&self.inner.keys, &salt, key);
        if !bool::from(computed.as_slice().ct_eq(&hash)) {
            return Ok(None);
        }
        let own = parsed(&permissions);
        Ok(Some(Principal {
            credential: Credential::ApiKey(ApiKeyId(id)),
            tenant: Some(tenant),
            tier: Tier::parse(&tier).unwrap_or(Tier::Customer),
            permissions: own.clone(),
            own,
            granted: Vec::new(),
            customer: None,
            assigned: Vec::new(),
            // The plan is the most, also where it was a larger one when the key was made; a key of the operator's has none.
            calls_per_hour: match calls {
                None => Some(active.api_calls_per_hour),
                Some(calls) => u32::try_from(calls).ok().map(|own| own.min(active.api_calls_per_hour)),
            },
            expires_at,
            ends: None,
            masked: false,
        }))
    }

    /// The tenant whose key may begin so. Whether there is such a key is for the tenant's own tables to say.
    async fn tenant_of(&self, prefix: &str) -> Result<Option<TenantId>, TenancyError> {
        let prefixes = || self.inner.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = prefixes().get(prefix) {
            return Ok(Some(*known));
        }
        let mut tx = TenantTx::begin(self.inner.database.app(), &Schema::platform(), Access::Read).await?;
        let tenant: Option<Uuid> =
            sqlx::query_scalar("SELECT tenant_id FROM daybook_platform.api_key_prefixes WHERE prefix = $1")
                .bind(prefix)
                .fetch_optional(&mut *tx)
                .await
                .map_err(TenancyError::db("look up the tenant of an API key"))?;
        tx.release();
        let tenant = tenant.map(TenantId);
        // Not what leads nowhere: of that there is no end.
        if let Some(tenant) = tenant {
            let mut prefixes = prefixes();
            if prefixes.len() >= MAX_ENTRIES {
                prefixes.clear();
            }
            prefixes.insert(prefix.to_owned(), tenant);
        }
        Ok(tenant)
    }

    /// Notes, once a minute and beside the request, that a key is in use.
    fn note_use(&self, tenant: TenantId, id: ApiKeyId) {
        let now = Instant::now();
        {
            let mut noted = self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.get(&id).is_some_and(|at| now.duration_since(*at) < NOTE_USE) {
                return;
            }
            if noted.len() >= MAX_ENTRIES {
                noted.clear();
            }
            noted.insert(id, now);
        }
        let database = self.inner.database.clone();
        tokio::spawn(async move {
            let noted = async {
                let mut tx = TenantTx::begin(database.app(), &Schema::tenant(tenant), Access::Write).await?;
                sqlx::query("UPDATE api_key_secrets SET last_used_at = now() WHERE api_key_id = $1")
                    .bind(id.0)
                    .execute(&mut *tx)
                    .await
                    .map_err(TenancyError::db("note the use of an API key"))?;
                tx.commit().await
            };
            if let Err(error) = noted.await {
                tracing::warn!(%id, error = &error as &dyn std::error::Error, "the use of an API key is not noted");
            }
        });
    }
}

/// What a user may do: as their tier, and for staff as their role of the tenant's own, or else their modules, say.
pub fn effective(tier: Tier, modules: &[String], role: Option<&[String]>) -> Permissions {
    tier.with(modules.iter().filter_map(|module| Module::parse(module)), role.map(parsed).as_ref())
}

/// Permissions as read models keep them; one that this version does not know is not given.
fn parsed(permissions: &[String]) -> Permissions {
    permissions.iter().filter_map(|text| text.parse().ok()).collect()
}

fn now() -> DateTime<Utc> {
    crate::clock::now()
}

pub(super) struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(at, _)| now.duration_since(*at) < FRESH).map(|(_, value)| value.clone())
    }

    /// Keeps an answer under the time before its question: it is at least as new as that.
    pub(super) fn put(&self, key: K, asked: Instant, value: V) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key, (asked, value));
    }
}
