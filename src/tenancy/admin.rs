//! Tenant administration: commands to the tenant aggregate in the platform's log.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use daybook_domain::{
    ApiKeyId, Currency, Decider as _, DomainError, Name, Slug, TenantId,
    api_key::{ApiKey, ApiKeyCommand, ApiKeyContext, HourlyLimit},
    envelope::Metadata,
    permission::{Permissions, Tier},
    registry::Registered,
    tenant::{Tenant, TenantCommand},
};
use daybook_projections::Schema;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{Access, TenancyError, TenantDirectory, TenantInfo, TenantTx, provision};
use crate::{
    auth::api_key,
    clock,
    eventstore::{Attached, Command, Committed, EventStore, StoreError, Unit},
    random,
};

/// A tenant to be created.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its slug.
    pub slug: Slug,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// Whether it is a demo tenant.
    pub temporary: bool,
    /// Its time zone.
    pub time_zone: chrono_tz::Tz,
    /// Its currency.
    pub currency: Currency,
}

/// An API key, shown once.
#[derive(Debug)]
pub struct IssuedKey {
    /// Its id, by which it is revoked.
    pub id: ApiKeyId,
    /// The key itself.
    pub key: SecretString,
}

/// An API key to be issued.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// What it is for.
    pub name: Name,
    /// What it may do.
    pub permissions: Permissions,
    /// What whoever asks may do themselves.
    pub held: Permissions,
    /// The tier of whoever asks.
    pub tier: Tier,
    /// How many calls an hour.
    pub hourly: HourlyLimit,
    /// When it stops working by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether the operator of the platform asks.
    pub by_operator: bool,
}

impl NewApiKey {
    /// A key that may do whatever an owner may, as often as it likes: what the operator hands to a new tenant.
    ///
    /// # Errors
    /// When the name is none.
    pub fn of_operator(name: &str) -> Result<Self, DomainError> {
        Ok(Self {
            name: Name::new(name, "/name")?,
            permissions: Tier::TenantOwner.permissions(),
            held: Tier::TenantOwner.permissions(),
            tier: Tier::TenantOwner,
            hourly: HourlyLimit::Unlimited,
            expires_at: None,
            by_operator: true,
        })
    }
}

/// Commands to tenants.
#[derive(Clone)]
pub struct TenantAdmin {
    store: EventStore,
    directory: TenantDirectory,
}

impl TenantAdmin {
    /// Administration through a store.
    pub fn new(store: EventStore, directory: TenantDirectory) -> Self {
        Self { store, directory }
    }

    /// Creates a tenant with its schema and role.
    ///
    /// # Errors
    /// When the slug is taken, the plan unknown, or PostgreSQL refuses.
    pub async fn create(&self, new: NewTenant, metadata: &Metadata) -> Result<TenantId, TenancyError> {
        let id = TenantId(Uuid::now_v7());
        self.create_as(id, new, metadata).await.map(|_| id)
    }

    /// Creates a tenant under an id that was made before; answers with what the platform's log says of it.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_as(
        &self,
        id: TenantId,
        new: NewTenant,
        metadata: &Metadata,
    ) -> Result<Committed, TenancyError> {
        if self.directory.by_slug(new.slug.as_str()).await?.is_some() {
            return Err(refused(DomainError::AlreadyExists { what: "slug".into() }));
        }
        provision::create_schema(self.store.database(), id).await?;
        let command = TenantCommand::Create {
            slug: new.slug,
            name: new.name,
            plan: new.plan,
            temporary: new.temporary,
            time_zone: new.time_zone,
            currency: new.currency,
            region: "eu".to_owned(),
        };
        let unit = Unit::of(Command::create(id, command), metadata.clone());
        match self.store.execute(&Schema::platform(), unit).await {
            Ok(committed) => Ok(committed),
            Err(error) => {
                // Never a tenant's that exists: the same id may have been asked for twice.
                if self.directory.by_id(id).await?.is_none() {
                    provision::drop_unborn_schema(self.store.database(), id).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Issues an API key to a tenant, as the operator.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn issue_key(
        &self,
        tenant: TenantId,
        label: &str,
        metadata: &Metadata,
    ) -> Result<IssuedKey, TenancyError> {
        let new = NewApiKey::of_operator(label).map_err(refused)?;
        let (unit, issued) = self.key_unit(tenant, new, metadata.clone()).await?;
        self.store.execute(&Schema::tenant(tenant), unit).await?;
        Ok(issued)
    }

    /// The unit that issues an API key, and the key. Where the key's first characters lead is written at once: until
    /// the unit is committed they lead to nothing.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn key_unit(
        &self,
        tenant: TenantId,
        new: NewApiKey,
        metadata: Metadata,
    ) -> Result<(Unit, IssuedKey), TenancyError> {
        let id = ApiKeyId(Uuid::now_v7());
        let no_randomness = |_| TenancyError::Store(StoreError::Sealing("the system has no randomness"));
        let made = api_key::generate().map_err(no_randomness)?;
        let salt = random::bytes::<16>().map_err(no_randomness)?;
        let hash = api_key::hash(self.store.keys(), &salt, made.key.expose_secret());
        let command = ApiKeyCommand::Issue {
            name: new.name,
            prefix: made.lookup.clone(),
            permissions: new.permissions,
            held: new.held,
            tier: new.tier,
            hourly: new.hourly,
            expires_at: new.expires_at,
            by_operator: new.by_operator,
        };
        // Decided again where it counts: this only keeps the names of keys that are refused out of the platform's table.
        ApiKey::default().decide(&command, &ApiKeyContext { now: clock::now(), id }).map_err(refused)?;
        let mut tx = TenantTx::begin(self.store.database().app(), &Schema::platform(), Access::Write).await?;
        sqlx::query("INSERT INTO daybook_platform.api_key_prefixes (prefix, tenant_id) VALUES ($1, $2)")
            .bind(&made.lookup)
            .bind(tenant.0)
            .execute(&mut *tx)
            .await
            .map_err(TenancyError::db("write where an API key leads"))?;
        tx.commit().await?;
        let unit =
            Unit::of(Command::create(id, command), metadata).attach(Attached::ApiKey { id, salt, hash });
        Ok((unit, IssuedKey { id, key: made.key }))
    }

    /// Revokes an API key; within a second no node accepts it.
    ///
    /// # Errors
    /// When the tenant has no such key.
    pub async fn revoke_key(
        &self,
        tenant: TenantId,
        id: ApiKeyId,
        metadata: &Metadata,
    ) -> Result<(), TenancyError> {
        let unit = Unit::of(Command::to(id, ApiKeyCommand::Revoke), metadata.clone());
        self.store.execute(&Schema::tenant(tenant), unit).await?;
        Ok(())
    }

    /// Switches a tenant on or off, or to another plan.
    ///
    /// # Errors
    /// When the tenant's state or the plan does not allow it.
    pub async fn command(
        &self,
        tenant: TenantId,
        command: TenantCommand,
        metadata: &Metadata,
    ) -> Result<Arc<Tenant>, TenancyError> {
        let unit = Unit::of(Command::to(tenant, command), metadata.clone());
        let committed = self.store.execute(&Schema::platform(), unit).await?;
        committed
            .changed
            .first()
            .and_then(|changed| Tenant::of(&changed.state).cloned())
            .ok_or(TenancyError::Store(StoreError::BatchFailed("read the tenant back")))
    }

    /// A tenant by its slug.
    ///
    /// # Errors
    /// When there is none.
    pub async fn find(&self, slug: &str) -> Result<TenantInfo, TenancyError> {
        self.directory.by_slug(slug).await?.ok_or_else(|| TenancyError::UnknownTenant(slug.to_owned()))
    }
}

fn refused(error: DomainError) -> TenancyError {
    TenancyError::Store(error.into())
}
