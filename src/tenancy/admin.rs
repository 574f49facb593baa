//! Tenant administration: commands to the tenant aggregate in the platform's log.

use std::sync::Arc;

use daybook_domain::{
    Currency, DomainError, Slug, TenantId, TokenId,
    envelope::Metadata,
    registry::Registered,
    tenant::{Tenant, TenantCommand},
};
use daybook_projections::Schema;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{TenancyError, TenantDirectory, TenantInfo, provision};
use crate::{
    eventstore::{Command, EventStore, StoreError, Unit},
    random,
};

/// What a bootstrap token begins with.
pub const TOKEN_PREFIX: &str = "dbt_";

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

/// A token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its id, by which it is revoked.
    pub id: TokenId,
    /// The secret itself.
    pub token: SecretString,
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
        if self.directory.by_slug(new.slug.as_str()).await?.is_some() {
            return Err(refused(DomainError::AlreadyExists { what: "slug".into() }));
        }
        let id = TenantId(Uuid::now_v7());
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
        if let Err(error) = self.store.execute(&Schema::platform(), unit).await {
            provision::drop_unborn_schema(self.store.database(), id).await?;
            return Err(error.into());
        }
        Ok(id)
    }

    /// Issues a bootstrap token. The event comes first: a crash leaves evidence without a token, never the reverse.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn issue_token(
        &self,
        tenant: TenantId,
        label: &str,
        metadata: &Metadata,
    ) -> Result<IssuedToken, TenancyError> {
        let id = TokenId(Uuid::now_v7());
        let token = random::token(TOKEN_PREFIX)
            .map_err(|_| TenancyError::Store(StoreError::Sealing("the system has no randomness")))?;
        let command = TenantCommand::IssueToken { token_id: id, label: label.to_owned() };
        self.command(tenant, command, metadata).await?;
        self.directory.store_token(tenant, id, token.expose_secret(), label).await?;
        Ok(IssuedToken { id, token })
    }

    /// Revokes a bootstrap token; within a second no node accepts it.
    ///
    /// # Errors
    /// When the tenant has no such token.
    pub async fn revoke_token(
        &self,
        tenant: TenantId,
        id: TokenId,
        metadata: &Metadata,
    ) -> Result<(), TenancyError> {
        self.command(tenant, TenantCommand::RevokeToken { token_id: id }, metadata).await.map(drop)
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
