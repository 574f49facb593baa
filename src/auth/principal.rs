//! Who calls, once they have proved it, and what they may do.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use daybook_domain::{
    ApiKeyId, CustomerId, GrantId, ResourceId, SessionId, TenantId, UserId,
    permission::{Action, ManagedTiers, Permission, Permissions, Resource, Scope, Tier},
    user::By,
};
use daybook_projections::Schema;

/// How a caller proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A user, by an access token of a live session.
    Session {
        /// The user.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// A program, by an API key.
    ApiKey(ApiKeyId),
}

/// A permission that somebody has for a while, because somebody else granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The grant.
    pub id: GrantId,
    /// What they may do by it.
    pub permission: Permission,
    /// Until when, by the database's clock.
    pub expires_at: DateTime<Utc>,
}

/// A caller that proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// How it did.
    pub credential: Credential,
    /// The tenant it is of; `None` for the platform's own people.
    pub tenant: Option<TenantId>,
    /// Its tier.
    pub tier: Tier,
    /// What it may do, by itself or because it was granted.
    pub permissions: Permissions,
    /// What it may do by itself: the most that it can give on, to a role, a key or somebody else.
    pub own: Permissions,
    /// What it was granted for a while.
    pub granted: Vec<Granted>,
    /// The customer whose things are its own.
    pub customer: Option<CustomerId>,
    /// The resources assigned to it.
    pub assigned: Vec<ResourceId>,
    /// How many calls an hour a key may make; `None` for users, and for keys without a limit.
    pub calls_per_hour: Option<u32>,
    /// When a key stops working by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether personal data is hidden from it, and refused as something to search by.
    pub masked: bool,
}

impl Principal {
    /// The schema of the log it belongs to.
    pub fn schema(&self) -> Schema {
        self.tenant.map_or_else(Schema::platform, Schema::tenant)
    }

    /// The principal as events name it.
    pub fn actor(&self) -> String {
        match self.credential {
            Credential::Session { user, .. } => format!("user:{user}"),
            Credential::ApiKey(key) => format!("key:{key}"),
        }
    }

    /// The principal as the rules about accounts know it.
    pub fn by(&self) -> By {
        match self.credential {
            Credential::Session { user, .. } => By::User(user),
            Credential::ApiKey(_) => By::Key(ManagedTiers::of_key(self.tier, &self.own)),
        }
    }

    /// The grant by which it may do something to that much; `None` where it may by itself.
    pub fn grant_behind(&self, resource: Resource, action: Action, scope: Scope) -> Option<GrantId> {
        if self.own.scope(resource, action) >= Some(scope) {
            return None;
        }
        let permission = Permission { resource, action, scope };
        self.granted.iter().find(|granted| granted.permission == permission).map(|granted| granted.id)
    }

    /// The user and their session, where it is a user.
    pub fn session(&self) -> Option<(UserId, SessionId)> {
        match self.credential {
            Credential::Session { user, session } => Some((user, session)),
            Credential::ApiKey(_) => None,
        }
    }
}

/// A caller in their tenant, who may do what the route they called requires, to as much as the scope says.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant.
    pub tenant: TenantId,
    /// Who.
    pub principal: Arc<Principal>,
    /// To how much.
    pub scope: Scope,
}

impl Caller {
    /// The schema of the tenant.
    pub fn schema(&self) -> Schema {
        Schema::tenant(self.tenant)
    }

    /// The principal as events name it.
    pub fn actor(&self) -> String {
        self.principal.actor()
    }

    /// The customer whose things the caller is confined to. A caller with a scope of their own and no customer is
    /// confined to nobody's.
    pub fn own_customer(&self) -> Option<CustomerId> {
        (self.scope == Scope::Own).then(|| self.principal.customer.unwrap_or_default())
    }

    /// The resources whose things the caller is confined to.
    pub fn assigned_resources(&self) -> Option<&[ResourceId]> {
        (self.scope == Scope::Assigned).then_some(self.principal.assigned.as_slice())
    }

    /// The scope of another permission than the route's own.
    pub fn scope_of(&self, resource: Resource, action: Action) -> Option<Scope> {
        self.principal.permissions.scope(resource, action)
    }
}
