//! Who calls, once they have proved it, and what they may do.

use std::{sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use daybook_domain::{
    ApiKeyId, CustomerId, GrantId, HijackId, ResourceId, SessionId, SupportSessionId, TenantId, UserId,
    envelope::Metadata,
    permission::{Action, ManagedTiers, Permission, Permissions, Resource, Scope, Tier},
    support_request::{Party, SupportActor},
    support_session::SupportMode,
    user::By,
};
use daybook_projections::Schema;

use crate::eventstore::Within;

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
    /// One of the platform's people, by the access token of a support session in a tenant.
    Support {
        /// The platform's account.
        user: UserId,
        /// The support session.
        session: SupportSessionId,
        /// How much it shows.
        mode: SupportMode,
    },
    /// Somebody who acts as an account, by the access token of a hijack.
    Hijack {
        /// As whom.
        target: UserId,
        /// The hijack.
        hijack: HijackId,
        /// Who.
        by: Party,
        /// What they are themselves.
        tier: Tier,
    },
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
    /// When a support session or a hijack is over, by a clock that nobody sets; `None` for what ends otherwise.
    pub ends: Option<Instant>,
    /// Whether personal data is hidden from it, and refused as something to search by.
    pub masked: bool,
}

impl Principal {
    /// The schema of the log it belongs to.
    pub fn schema(&self) -> Schema {
        self.tenant.map_or_else(Schema::platform, Schema::tenant)
    }

    /// The principal as events name it: whoever acts, whichever account they act as.
    pub fn actor(&self) -> String {
        match self.credential {
            Credential::Session { user, .. } | Credential::Support { user, .. } => format!("user:{user}"),
            Credential::ApiKey(key) => format!("key:{key}"),
            Credential::Hijack { by, .. } => match by.user() {
                Some(user) => format!("user:{user}"),
                None => by.side().to_owned(),
            },
        }
    }

    /// The account they act as, as events name it; `None` for whoever acts as themselves.
    pub fn on_behalf_of(&self) -> Option<String> {
        match self.credential {
            Credential::Hijack { target, .. } => Some(format!("user:{target}")),
            Credential::Session { .. } | Credential::ApiKey(_) | Credential::Support { .. } => None,
        }
    }

    /// Whoever acts, for what is kept per caller: two who act as different accounts are two.
    pub fn caller(&self) -> String {
        match self.on_behalf_of() {
            Some(target) => format!("{} as {target}", self.actor()),
            None => self.actor(),
        }
    }

    /// What events keep of whoever acts, beside where the request came from.
    pub fn metadata(&self, client: Metadata) -> Metadata {
        let (role, support_mode) = match self.credential {
            Credential::Hijack { tier, .. } => (tier, None),
            Credential::Support { mode, .. } => (self.tier, Some(mode.as_str().to_owned())),
            Credential::Session { .. } | Credential::ApiKey(_) => (self.tier, None),
        };
        Metadata {
            actor: self.actor(),
            on_behalf_of: self.on_behalf_of(),
            role: Some(role.as_str().to_owned()),
            support_mode,
            // What is done in a support session or a hijack says so: the log tells its story by that.
            causation_id: self.within().map(|within| within.to_string()),
            ..client
        }
    }

    /// The support session or hijack it acts in.
    pub fn within(&self) -> Option<Within> {
        match self.credential {
            Credential::Support { session, .. } => Some(Within::Support(session)),
            Credential::Hijack { hijack, .. } => Some(Within::Hijack(hijack)),
            Credential::Session { .. } | Credential::ApiKey(_) => None,
        }
    }

    /// The principal as the rules about accounts know it. Whoever is in a support session or a hijack manages none.
    pub fn by(&self) -> By {
        match self.credential {
            Credential::Session { user, .. } => By::User(user),
            Credential::ApiKey(_) => By::Key(ManagedTiers::of_key(self.tier, &self.own)),
            Credential::Support { .. } | Credential::Hijack { .. } => By::Key(ManagedTiers::default()),
        }
    }

    /// The principal as the rules about support requests, sessions and hijacks know it. Whoever acts as somebody else
    /// decides nothing there.
    pub fn support_actor(&self) -> SupportActor {
        match (self.credential, self.tenant) {
            (Credential::Session { user, .. }, Some(_)) => SupportActor::Account(user),
            (Credential::Session { user, .. }, None) | (Credential::Support { user, .. }, _) => {
                SupportActor::Platform { user, tier: self.tier }
            }
            (Credential::ApiKey(_) | Credential::Hijack { .. }, _) => SupportActor::Key,
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

    /// The user and their session, where it is a user who acts as themselves.
    pub fn session(&self) -> Option<(UserId, SessionId)> {
        match self.credential {
            Credential::Session { user, session } => Some((user, session)),
            Credential::ApiKey(_) | Credential::Support { .. } | Credential::Hijack { .. } => None,
        }
    }

    /// The account whose own things it sees: its own, or the one it acts as.
    pub fn account(&self) -> Option<UserId> {
        match self.credential {
            Credential::Session { user, .. } => Some(user),
            Credential::Hijack { target, .. } => Some(target),
            Credential::ApiKey(_) | Credential::Support { .. } => None,
        }
    }

    /// Whether it may still be used, as far as that is a matter of time alone.
    pub fn lasts(&self) -> bool {
        self.ends.is_none_or(|ends| Instant::now() < ends)
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
