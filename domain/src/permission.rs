//! Permissions: what a role bundles and a route requires. Resource x action x scope, denied unless named.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::DomainError;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$member_doc:meta])* $member:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$member_doc])* #[serde(rename = $name)] $member,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$member,)*];

            /// The name in events, requests and answers.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$member => $name,)* }
            }

            /// The one of that name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names! {
    /// The tiers of principals, highest first.
    Tier {
        /// Everything on the platform.
        Superuser = "superuser",
        /// Tenants and the platform's own staff.
        PlatformManager = "platform_manager",
        /// Prospects: temporary tenants.
        PlatformSales = "platform_sales",
        /// Helps tenants, under their eyes.
        PlatformSupport = "platform_support",
        /// Everything in one tenant.
        TenantOwner = "tenant_owner",
        /// Everything but what owns the tenant.
        TenantManager = "tenant_manager",
        /// What its modules, or a role of the tenant's own, allow.
        TenantStaff = "tenant_staff",
        /// Its own bookings.
        Customer = "customer",
    }
}

names! {
    /// What a permission is about.
    Resource {
        /// Resources.
        Resources = "resources",
        /// Offerings.
        Offerings = "offerings",
        /// Schedules.
        Schedules = "schedules",
        /// Customers.
        Customers = "customers",
        /// Bookings.
        Bookings = "bookings",
        /// Leads: people who ask to be contacted.
        Leads = "leads",
        /// What is free.
        Availability = "availability",
        /// The calendar.
        Calendar = "calendar",
        /// Reports.
        Reports = "reports",
        /// The audit trail.
        Audit = "audit",
        /// Exports of the audit trail: files of it that leave the house.
        AuditExports = "audit_exports",
        /// Accounts of the tenant.
        Users = "users",
        /// Roles of the tenant's own.
        Roles = "roles",
        /// API keys.
        ApiKeys = "api_keys",
        /// Permissions granted for a time.
        PermissionGrants = "permission_grants",
        /// Domains.
        Domains = "domains",
        /// Settings.
        Settings = "settings",
        /// Secrets of the tenant: only ever written.
        Secrets = "secrets",
        /// Support requests: the platform asks to look into a tenant, and the tenant answers.
        Support = "support",
        /// Legal holds: what keeps events from being pruned, and people from being erased.
        LegalHolds = "legal_holds",
        /// Erasures: people who are forgotten.
        Erasures = "erasures",
        /// Tenants, for the platform.
        Tenants = "tenants",
        /// Accounts of the platform.
        PlatformUsers = "platform_users",
        /// Plans.
        Plans = "plans",
    }
}

names! {
    /// What is done to it.
    Action {
        /// Look.
        Read = "read",
        /// Make a new one.
        Create = "create",
        /// Change one.
        Update = "update",
        /// Remove one from use.
        Delete = "delete",
    }
}

names! {
    /// To how many of them, narrowest first.
    Scope {
        /// The caller's own.
        Own = "own",
        /// Those of the resources assigned to the caller.
        Assigned = "assigned",
        /// All of the tenant's.
        Tenant = "tenant",
        /// All of the platform's.
        Platform = "platform",
    }
}

impl Resource {
    /// Whether some of it can be somebody's by the resources that are assigned to them.
    pub fn can_be_assigned(self) -> bool {
        matches!(self, Self::Resources | Self::Bookings | Self::Calendar)
    }

    /// Whether to change it would let somebody in, or let them do more: accounts, roles, keys, grants, approvals, and what
    /// sessions and letters are bound to; or would do away with evidence for good. It is not changed in a support session or
    /// a hijack.
    pub fn lets_in(self) -> bool {
        match self {
            Self::Users
            | Self::Roles
            | Self::ApiKeys
            | Self::PermissionGrants
            | Self::Domains
            | Self::Secrets
            | Self::Support
            | Self::LegalHolds
            | Self::Erasures
            | Self::Tenants
            | Self::PlatformUsers => true,
            Self::Resources
            | Self::Offerings
            | Self::Schedules
            | Self::Customers
            | Self::Bookings
            | Self::Leads
            | Self::Availability
            | Self::Calendar
            | Self::Reports
            | Self::Audit
            | Self::AuditExports
            | Self::Settings
            | Self::Plans => false,
        }
    }

    /// Whether to use it takes data out of the house at large, whatever method asks for it. It is not used in a support
    /// session or a hijack.
    pub fn takes_out(self) -> bool {
        self == Self::AuditExports
    }

    /// Whether some of it can be somebody's own.
    pub fn can_be_own(self) -> bool {
        matches!(self, Self::Customers | Self::Bookings | Self::PermissionGrants)
    }
}

names! {
    /// A part of the staff's work; staff see only the modules assigned to them.
    Module {
        /// Guests and their bookings.
        Reception = "reception",
        /// Prices at the counter: what is offered, and bookings made there.
        Pos = "pos",
        /// What is occupied and what is to be made ready.
        Housekeeping = "housekeeping",
        /// Work items.
        Tasks = "tasks",
        /// Reports.
        Reports = "reports",
    }
}

/// One permission, written `bookings:update:own`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// What it is about.
    pub resource: Resource,
    /// What is done.
    pub action: Action,
    /// To how many.
    pub scope: Scope,
}

impl Permission {
    /// Whether there is such a part of the resource as its scope says.
    pub fn is_meaningful(self) -> bool {
        match self.scope {
            Scope::Own => self.resource.can_be_own(),
            Scope::Assigned => self.resource.can_be_assigned(),
            Scope::Tenant | Scope::Platform => true,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.resource, self.action, self.scope)
    }
}

impl FromStr for Permission {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let mut parts = text.split(':');
        let parsed = (|| {
            let resource = Resource::parse(parts.next()?)?;
            let action = Action::parse(parts.next()?)?;
            let scope = Scope::parse(parts.next()?)?;
            parts.next().is_none().then_some(Self { resource, action, scope })
        })();
        parsed.ok_or_else(|| {
            DomainError::field("/permissions", "unknown_permission", "a permission is resource:action:scope")
        })
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A bundle of permissions: for each resource and action the widest scope, none where it is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions(BTreeMap<(Resource, Action), Scope>);

impl Permissions {
    /// The scope in which something may be done; `None` where it may not.
    pub fn scope(&self, resource: Resource, action: Action) -> Option<Scope> {
        self.0.get(&(resource, action)).copied()
    }

    /// Adds a permission; of two scopes the wider stays.
    pub fn allow(&mut self, permission: Permission) {
        let scope = self.0.entry((permission.resource, permission.action)).or_insert(permission.scope);
        *scope = permission.scope.max(*scope);
    }

    /// Whether everything in `self` is in `other`, in the same or a wider scope.
    pub fn within(&self, other: &Self) -> bool {
        self.iter().all(|p| other.scope(p.resource, p.action).is_some_and(|scope| scope >= p.scope))
    }

    /// Each permission, in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = Permission> + '_ {
        self.0.iter().map(|((resource, action), scope)| Permission {
            resource: *resource,
            action: *action,
            scope: *scope,
        })
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn all(mut self, resources: &[Resource], actions: &[Action], scope: Scope) -> Self {
        for resource in resources {
            for action in actions {
                self.allow(Permission { resource: *resource, action: *action, scope });
            }
        }
        self
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut all = Self::default();
        permissions.into_iter().for_each(|permission| all.allow(permission));
        all
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Permission>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl Tier {
    /// Whether it is a tier of the platform, without a tenant.
    pub fn is_platform(self) -> bool {
        self <= Self::PlatformSupport
    }

    /// Whether a principal of this tier may give, change or take away an account of another tier. Owners manage
    /// owners, or a tenant could never have two; nobody else manages their own tier or one above it.
    pub fn may_manage(self, other: Self) -> bool {
        match self {
            Self::Superuser => true,
            Self::PlatformManager => matches!(other, Self::PlatformSales | Self::PlatformSupport),
            Self::TenantOwner => !other.is_platform(),
            Self::TenantManager => matches!(other, Self::TenantStaff | Self::Customer),
            Self::PlatformSales | Self::PlatformSupport | Self::TenantStaff | Self::Customer => false,
        }
    }

    /// What the tier may do; staff get theirs from modules or a role of the tenant's own.
    pub fn permissions(self) -> Permissions {
        use {Action as A, Resource as R};
        const CATALOGUE: &[R] =
            &[R::Resources, R::Offerings, R::Schedules, R::Customers, R::Bookings, R::Leads];
        let none = Permissions::default();
        match self {
            Self::Superuser => none
                .all(&[R::Tenants, R::PlatformUsers, R::Plans], A::ALL, Scope::Platform)
                .all(&[R::Support], &[A::Read, A::Create], Scope::Platform),
            Self::PlatformManager => none
                .all(&[R::Tenants], &[A::Read, A::Create, A::Update], Scope::Platform)
                .all(&[R::PlatformUsers], A::ALL, Scope::Platform)
                .all(&[R::Support], &[A::Read, A::Create], Scope::Platform)
                .all(&[R::Plans], &[A::Read], Scope::Platform),
            Self::PlatformSales => none.all(&[R::Tenants], &[A::Read, A::Create], Scope::Platform).all(
                &[R::Plans],
                &[A::Read],
                Scope::Platform,
            ),
            Self::PlatformSupport => none.all(&[R::Tenants, R::Plans], &[A::Read], Scope::Platform).all(
                &[R::Support],
                &[A::Read, A::Create],
                Scope::Platform,
            ),
            Self::TenantOwner => none
                .all(CATALOGUE, A::ALL, Scope::Tenant)
                .all(&[R::Availability, R::Calendar, R::Reports, R::Audit], &[A::Read], Scope::Tenant)
                .all(&[R::Users, R::Roles, R::ApiKeys, R::Domains], A::ALL, Scope::Tenant)
                .all(&[R::PermissionGrants], A::ALL, Scope::Tenant)
                .all(&[R::Settings, R::Secrets], A::ALL, Scope::Tenant)
                .all(&[R::AuditExports], &[A::Create], Scope::Tenant)
                .all(&[R::Support], &[A::Read, A::Update], Scope::Tenant)
                .all(&[R::LegalHolds], &[A::Read, A::Create, A::Delete], Scope::Tenant)
                .all(&[R::Erasures], &[A::Read, A::Create], Scope::Tenant),
            Self::TenantManager => none
                .all(CATALOGUE, A::ALL, Scope::Tenant)
                .all(&[R::Availability, R::Calendar, R::Reports, R::Audit], &[A::Read], Scope::Tenant)
                .all(&[R::Users, R::Roles, R::PermissionGrants], A::ALL, Scope::Tenant)
                .all(&[R::AuditExports], &[A::Create], Scope::Tenant)
                .all(&[R::Support], &[A::Read, A::Update], Scope::Tenant)
                .all(&[R::ApiKeys, R::Domains, R::Settings, R::LegalHolds], &[A::Read], Scope::Tenant)
                .all(&[R::Erasures], &[A::Read, A::Create], Scope::Tenant),
            Self::TenantStaff => none
                .all(&[R::Availability, R::Offerings, R::Resources], &[A::Read], Scope::Tenant)
                .all(&[R::PermissionGrants], &[A::Read], Scope::Own),
            Self::Customer => none
                .all(&[R::Availability, R::Offerings, R::Resources], &[A::Read], Scope::Tenant)
                .all(&[R::Customers], &[A::Read, A::Update], Scope::Own)
                .all(&[R::Bookings], &[A::Read, A::Create, A::Update], Scope::Own),
        }
    }

    /// What somebody of this tier may do by themselves: for staff, their role of the tenant's own or else their modules
    /// come on top.
    pub fn with(self, modules: impl IntoIterator<Item = Module>, role: Option<&Permissions>) -> Permissions {
        let mut held = self.permissions();
        if self != Self::TenantStaff {
            return held;
        }
        match role {
            Some(role) => role.iter().for_each(|permission| held.allow(permission)),
            None => modules
                .into_iter()
                .flat_map(|module| module.permissions().iter().collect::<Vec<_>>())
                .for_each(|permission| held.allow(permission)),
        }
        held
    }

    /// The most that a role of a tenant's own may bundle: what a manager may, without accounts, roles, exports of the log,
    /// the answers to support requests, holds and erasures.
    pub fn custom_role_ceiling() -> Permissions {
        let managed = |p: &Permission| {
            !matches!(
                p.resource,
                Resource::Users
                    | Resource::Roles
                    | Resource::ApiKeys
                    | Resource::PermissionGrants
                    | Resource::Domains
                    | Resource::Settings
                    | Resource::AuditExports
                    | Resource::Support
                    | Resource::LegalHolds
                    | Resource::Erasures
            )
        };
        Self::TenantManager.permissions().iter().filter(managed).collect()
    }
}

/// The tiers whose accounts an API key may give, change or take away: those its tier manages, as far as the key itself
/// may do all that such an account may. Through accounts nobody gets more than they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ManagedTiers([bool; Tier::ALL.len()]);

impl ManagedTiers {
    /// Those of a key of this tier with these permissions.
    pub fn of_key(own: Tier, held: &Permissions) -> Self {
        let may = |tier: Tier| {
            let most = match tier {
                // Whatever modules or role of the tenant's own they are given.
                Tier::TenantStaff => Tier::custom_role_ceiling(),
                tier => tier.permissions(),
            };
            own.may_manage(tier) && most.within(held)
        };
        let mut tiers = Self::default();
        for (managed, tier) in tiers.0.iter_mut().zip(Tier::ALL) {
            *managed = may(*tier);
        }
        tiers
    }

    /// Whether a tier is one of them.
    pub fn contains(self, tier: Tier) -> bool {
        Tier::ALL.iter().zip(self.0).any(|(one, managed)| *one == tier && managed)
    }
}

impl Module {
    /// What staff who have the module assigned may do.
    pub fn permissions(self) -> Permissions {
        use {Action as A, Resource as R};
        let none = Permissions::default();
        match self {
            Self::Reception => none
                .all(&[R::Bookings, R::Customers], &[A::Read, A::Create, A::Update], Scope::Tenant)
                .all(&[R::Leads], &[A::Read, A::Update], Scope::Tenant)
                .all(&[R::Calendar, R::Schedules], &[A::Read], Scope::Tenant),
            Self::Pos => none.all(&[R::Bookings], &[A::Read, A::Create], Scope::Tenant).all(
                &[R::Customers],
                &[A::Read, A::Create],
                Scope::Tenant,
            ),
            Self::Housekeeping => none.all(&[R::Bookings], &[A::Read], Scope::Assigned).all(
                &[R::Calendar],
                &[A::Read],
                Scope::Assigned,
            ),
            Self::Tasks => none.all(&[R::Calendar], &[A::Read], Scope::Assigned),
            Self::Reports => none.all(&[R::Reports, R::Calendar], &[A::Read], Scope::Tenant),
        }
    }
}

#[cfg(test)]
mod tests;
