//! Who calls and in which tenant: bootstrap tokens and tenants, cached for less than a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use daybook_domain::{TenantId, TokenId};
use daybook_projections::Schema;
use sqlx::Row;
use uuid::Uuid;

use super::{Access, Database, TenancyError, TenantTx};
use crate::keys::Keys;

/// How old an answer may be: deactivating a tenant or revoking a token works within a second, on every node.
const FRESH: Duration = Duration::from_millis(500);
/// Answers kept; past it all are dropped, which costs one query each.
const MAX_ENTRIES: usize = 50_000;

/// What is known of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantInfo {
    /// Its id.
    pub id: TenantId,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// Whether anything of it may be used.
    pub active: bool,
    /// Whether it is a demo tenant.
    pub temporary: bool,
    /// Its time zone.
    pub time_zone: String,
    /// Its currency.
    pub currency: String,
    /// Its data region label.
    pub region: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// A caller that proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The token it showed.
    pub token: TokenId,
}

impl Caller {
    /// The schema of its tenant.
    pub fn schema(&self) -> Schema {
        Schema::tenant(self.tenant)
    }

    /// The principal as events name it.
    pub fn actor(&self) -> String {
        format!("token:{}", self.token)
    }
}

type Tokens = HashMap<[u8; 32], (Instant, Option<Caller>)>;

/// Resolves tokens and tenants from the platform's read models. Fails closed: without the database, nobody.
#[derive(Clone)]
pub struct TenantDirectory {
    database: Database,
    keys: Arc<Keys>,
    tokens: Arc<Mutex<Tokens>>,
}

impl TenantDirectory {
    /// A directory over the platform schema.
    pub fn new(database: Database, keys: Arc<Keys>) -> Self {
        Self { database, keys, tokens: Arc::default() }
    }

    /// The caller behind a bearer token; `None` when it is unknown, revoked, or its tenant is not active.
    ///
    /// # Errors
    /// When the answer is older than half a second and PostgreSQL cannot be asked.
    pub async fn resolve_token(&self, token: &str) -> Result<Option<Caller>, TenancyError> {
        let hash = self.keys.hash_token(token);
        let asked = Instant::now();
        if let Some((at, caller)) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&hash)
            && asked.duration_since(*at) < FRESH
        {
            return Ok(caller.clone());
        }
        let mut tx = TenantTx::begin(self.database.app(), &Schema::platform(), Access::Read).await?;
        let row: Option<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT b.tenant_id, b.token_id FROM daybook_platform.bootstrap_tokens b
             JOIN daybook_platform.tenants t ON t.id = b.tenant_id
             WHERE b.token_hash = $1 AND b.revoked_at IS NULL AND t.active",
        )
        .bind(hash.as_slice())
        .fetch_optional(&mut *tx)
        .await
        .map_err(TenancyError::db("look up a token"))?;
        tx.release();
        let caller = row.map(|(tenant, token)| Caller { tenant: TenantId(tenant), token: TokenId(token) });
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_ENTRIES {
            tokens.clear();
        }
        // The time before the question: the answer is at least as new as that.
        tokens.insert(hash, (asked, caller.clone()));
        Ok(caller)
    }

    /// Stores the hash of a token whose `tenant.token_issued` event is committed.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn store_token(
        &self,
        tenant: TenantId,
        token_id: TokenId,
        token: &str,
        label: &str,
    ) -> Result<(), TenancyError> {
        let mut tx = TenantTx::begin(self.database.app(), &Schema::platform(), Access::Write).await?;
        sqlx::query(
            "INSERT INTO daybook_platform.bootstrap_tokens (token_id, tenant_id, token_hash, label) VALUES ($1, $2, $3, $4)",
        )
        .bind(token_id.0)
        .bind(tenant.0)
        .bind(self.keys.hash_token(token).as_slice())
        .bind(label)
        .execute(&mut *tx)
        .await
        .map_err(TenancyError::db("store a token's hash"))?;
        tx.commit().await
    }

    /// A tenant by its slug.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn by_slug(&self, slug: &str) -> Result<Option<TenantInfo>, TenancyError> {
        Ok(self.query("WHERE slug = $1", Some(slug)).await?.pop())
    }

    /// A tenant by its id.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn by_id(&self, id: TenantId) -> Result<Option<TenantInfo>, TenancyError> {
        Ok(self.query("WHERE id = ($1::text)::uuid", Some(&id.to_string())).await?.pop())
    }

    /// Every tenant, by slug.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn list(&self) -> Result<Vec<TenantInfo>, TenancyError> {
        self.query("WHERE $1::text IS NULL", None).await
    }

    async fn query(
        &self,
        filter: &'static str,
        value: Option<&str>,
    ) -> Result<Vec<TenantInfo>, TenancyError> {
        let attempted = "read the tenants";
        let mut tx = TenantTx::begin(self.database.app(), &Schema::platform(), Access::Read).await?;
        let sql = format!(
            "SELECT id, slug, name, plan, active, temporary, time_zone, currency, region, created_at
             FROM daybook_platform.tenants {filter} ORDER BY slug"
        );
        let rows =
            sqlx::query(&sql).bind(value).fetch_all(&mut *tx).await.map_err(TenancyError::db(attempted))?;
        tx.release();
        rows.into_iter()
            .map(|row| {
                Ok(TenantInfo {
                    id: TenantId(row.try_get(0)?),
                    slug: row.try_get(1)?,
                    name: row.try_get(2)?,
                    plan: row.try_get(3)?,
                    active: row.try_get(4)?,
                    temporary: row.try_get(5)?,
                    time_zone: row.try_get(6)?,
                    currency: row.try_get(7)?,
                    region: row.try_get(8)?,
                    created_at: row.try_get(9)?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(TenancyError::db(attempted))
    }
}
