//! The tenants there are, read from the platform's read models.

use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_projections::Schema;
use sqlx::Row;

use super::{Access, Database, TenancyError, TenantTx};

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

/// Reads tenants.
#[derive(Clone)]
pub struct TenantDirectory {
    database: Database,
}

impl TenantDirectory {
    /// A directory over the platform schema.
    pub fn new(database: Database) -> Self {
        Self { database }
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

    /// The tenants that are switched on; asked for often, so nothing else about them.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn active(&self) -> Result<Vec<TenantId>, TenancyError> {
        let mut tx = TenantTx::begin(self.database.app(), &Schema::platform(), Access::Read).await?;
        let ids: Vec<uuid::Uuid> =
            sqlx::query_scalar("SELECT id FROM daybook_platform.tenants WHERE active ORDER BY slug")
                .fetch_all(&mut *tx)
                .await
                .map_err(TenancyError::db("read the active tenants"))?;
        tx.release();
        Ok(ids.into_iter().map(TenantId).collect())
    }

    /// Every tenant there is, also those that are switched off.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn all_ids(&self) -> Result<Vec<TenantId>, TenancyError> {
        let mut tx = TenantTx::begin(self.database.app(), &Schema::platform(), Access::Read).await?;
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT id FROM daybook_platform.tenants ORDER BY id")
            .fetch_all(&mut *tx)
            .await
            .map_err(TenancyError::db("read the ids of the tenants"))?;
        tx.release();
        Ok(ids.into_iter().map(TenantId).collect())
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
