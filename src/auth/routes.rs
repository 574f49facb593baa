//! What each route requires. A route that is not here answers nobody: the router refuses it, and a test finds it.

use std::{collections::HashMap, fmt, sync::LazyLock};

use daybook_domain::permission::{Action, Resource, Scope};
use http::Method;

/// What a route requires of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing: the handler itself decides what an unknown caller gets. Below [`PUBLIC`] an API key may name the tenant.
    Public,
    /// A user, of a tenant or of the platform, who is signed in: their own account.
    SignedIn,
    /// A caller of a tenant with this permission, in at least this scope.
    Tenant(Resource, Action, Scope),
    /// One of the platform's own people with this permission.
    Platform(Resource, Action),
    /// Either: a route that serves both sides, and asks of each its own. Neither's permission opens the other's door.
    Either {
        /// What a caller of a tenant needs, in at least this scope.
        tenant: (Resource, Action, Scope),
        /// What one of the platform's own people needs.
        platform: (Resource, Action),
    },
}

impl Requirement {
    /// What is required of a caller of a tenant, or else of one of the platform's own people.
    #[must_use]
    pub const fn of_side(self, of_tenant: bool) -> Self {
        match self {
            Self::Either { tenant: (resource, action, least), .. } if of_tenant => {
                Self::Tenant(resource, action, least)
            }
            Self::Either { platform: (resource, action), .. } => Self::Platform(resource, action),
            Self::Public | Self::SignedIn | Self::Tenant(..) | Self::Platform(..) => self,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::SignedIn => f.write_str("signed_in"),
            Self::Tenant(resource, action, least) => write!(f, "{resource}:{action}:{least}"),
            Self::Platform(resource, action) => write!(f, "{resource}:{action}:{}", Scope::Platform),
            Self::Either { .. } => write!(f, "{} or {}", self.of_side(true), self.of_side(false)),
        }
    }
}

/// Where guests and booking sites call.
pub const PUBLIC: &str = "/api/v1/public/";

const fn own(resource: Resource, action: Action) -> Requirement {
    Requirement::Tenant(resource, action, Scope::Own)
}

const fn assigned(resource: Resource, action: Action) -> Requirement {
    Requirement::Tenant(resource, action, Scope::Assigned)
}

const fn platform(resource: Resource, action: Action) -> Requirement {
    Requirement::Platform(resource, action)
}

const fn tenant(resource: Resource, action: Action) -> Requirement {
    Requirement::Tenant(resource, action, Scope::Tenant)
}

const fn either(resource: Resource, of_tenant: Action, of_platform: Action) -> Requirement {
    Requirement::Either { tenant: (resource, of_tenant, Scope::Tenant), platform: (resource, of_platform) }
}

use Action::{Create, Delete, Read, Update};
use Requirement::{Public, SignedIn};
use Resource::{
    ApiKeys, Audit, AuditExports, Availability, Bookings, Calendar, Customers, Domains, Erasures, Leads,
    LegalHolds, Offerings, PermissionGrants, Plans, PlatformUsers, Reports, Resources, Roles, Schedules,
    Secrets, Settings, Support, Tenants, Users,
};

/// Every route: method, path template, requirement.
pub const ROUTES: &[(&str, &str, Requirement)] = &[
    ("GET", "/healthz", Public),
    ("GET", "/readyz", Public),
    ("GET", "/metrics", Public),
    ("GET", "/api/schema/", Public),
    ("GET", "/api/docs/", Public),
    ("GET", "/api/docs/{*path}", Public),
    ("POST", "/api/v1/auth/login", Public),
    ("POST", "/api/v1/auth/refresh", Public),
    ("POST", "/api/v1/auth/logout", Public),
    ("POST", "/api/v1/auth/password/reset", Public),
    ("POST", "/api/v1/auth/password/reset/confirm", Public),
    ("POST", "/api/v1/auth/otp", Public),
    ("POST", "/api/v1/auth/otp/confirm", Public),
    ("POST", "/api/v1/signup", Public),
    ("POST", "/api/v1/signup/confirm", Public),
    ("POST", "/api/v1/invitations/accept", Public),
    ("POST", "/api/v1/users", tenant(Users, Create)),
    ("GET", "/api/v1/invitations", tenant(Users, Read)),
    ("POST", "/api/v1/invitations", tenant(Users, Create)),
    ("DELETE", "/api/v1/invitations/{id}", tenant(Users, Delete)),
    ("PUT", "/api/v1/secrets/{name}", tenant(Secrets, Update)),
    ("GET", "/api/v1/auth/check", SignedIn),
    ("GET", "/api/v1/auth/sessions", SignedIn),
    ("DELETE", "/api/v1/auth/sessions/{id}", SignedIn),
    ("POST", "/api/v1/auth/password/change", SignedIn),
    ("GET", "/api/v1/me", SignedIn),
    ("PATCH", "/api/v1/me", SignedIn),
    ("DELETE", "/api/v1/me", SignedIn),
    ("GET", "/api/v1/permissions", SignedIn),
    ("GET", "/api/v1/users", tenant(Users, Read)),
    ("GET", "/api/v1/users/{id}", tenant(Users, Read)),
    ("PATCH", "/api/v1/users/{id}", tenant(Users, Update)),
    ("DELETE", "/api/v1/users/{id}", tenant(Users, Delete)),
    ("POST", "/api/v1/users/{id}/deactivate", tenant(Users, Update)),
    ("POST", "/api/v1/users/{id}/activate", tenant(Users, Update)),
    ("POST", "/api/v1/users/{id}/role", tenant(Users, Update)),
    ("POST", "/api/v1/users/{id}/modules", tenant(Users, Update)),
    ("GET", "/api/v1/roles", tenant(Roles, Read)),
    ("POST", "/api/v1/roles", tenant(Roles, Create)),
    ("GET", "/api/v1/roles/{id}", tenant(Roles, Read)),
    ("PATCH", "/api/v1/roles/{id}", tenant(Roles, Update)),
    ("DELETE", "/api/v1/roles/{id}", tenant(Roles, Delete)),
    ("GET", "/api/v1/api-keys", tenant(ApiKeys, Read)),
    ("POST", "/api/v1/api-keys", tenant(ApiKeys, Create)),
    ("DELETE", "/api/v1/api-keys/{id}", tenant(ApiKeys, Delete)),
    ("GET", "/api/v1/permission-grants", own(PermissionGrants, Read)),
    ("POST", "/api/v1/permission-grants", tenant(PermissionGrants, Create)),
    ("POST", "/api/v1/permission-grants/revoke", tenant(PermissionGrants, Update)),
    ("GET", "/api/v1/permission-grants/{id}", own(PermissionGrants, Read)),
    ("POST", "/api/v1/permission-grants/{id}/revoke", tenant(PermissionGrants, Update)),
    ("GET", "/api/v1/domains", tenant(Domains, Read)),
    ("POST", "/api/v1/domains", tenant(Domains, Create)),
    ("POST", "/api/v1/domains/{id}/verify", tenant(Domains, Update)),
    ("POST", "/api/v1/domains/{id}/primary", tenant(Domains, Update)),
    ("DELETE", "/api/v1/domains/{id}", tenant(Domains, Delete)),
    ("GET", "/api/v1/settings", tenant(Settings, Read)),
    ("PATCH", "/api/v1/settings", tenant(Settings, Update)),
    ("DELETE", "/api/v1/secrets/{name}", tenant(Secrets, Delete)),
    ("GET", "/api/v1/resources", assigned(Resources, Read)),
    ("POST", "/api/v1/resources", tenant(Resources, Create)),
    ("GET", "/api/v1/resources/{id}", assigned(Resources, Read)),
    ("PATCH", "/api/v1/resources/{id}", tenant(Resources, Update)),
    ("DELETE", "/api/v1/resources/{id}", tenant(Resources, Delete)),
    ("GET", "/api/v1/offerings", tenant(Offerings, Read)),
    ("POST", "/api/v1/offerings", tenant(Offerings, Create)),
    ("GET", "/api/v1/offerings/{id}", tenant(Offerings, Read)),
    ("PATCH", "/api/v1/offerings/{id}", tenant(Offerings, Update)),
    ("DELETE", "/api/v1/offerings/{id}", tenant(Offerings, Delete)),
    ("GET", "/api/v1/schedules", tenant(Schedules, Read)),
    ("POST", "/api/v1/schedules", tenant(Schedules, Create)),
    ("GET", "/api/v1/schedules/{id}", tenant(Schedules, Read)),
    ("PATCH", "/api/v1/schedules/{id}", tenant(Schedules, Update)),
    ("DELETE", "/api/v1/schedules/{id}", tenant(Schedules, Delete)),
    ("GET", "/api/v1/customers", own(Customers, Read)),
    ("POST", "/api/v1/customers", tenant(Customers, Create)),
    ("GET", "/api/v1/customers/{id}", own(Customers, Read)),
    ("PATCH", "/api/v1/customers/{id}", own(Customers, Update)),
    ("DELETE", "/api/v1/customers/{id}", tenant(Customers, Delete)),
    ("POST", "/api/v1/customers/{id}/erase", tenant(Erasures, Create)),
    ("GET", "/api/v1/availability", tenant(Availability, Read)),
    // Why a time is blocked is for those who may see the schedules.
    ("GET", "/api/v1/availability/explain", tenant(Schedules, Read)),
    ("GET", "/api/v1/bookings", own(Bookings, Read)),
    ("POST", "/api/v1/bookings", own(Bookings, Create)),
    ("GET", "/api/v1/bookings/{id}", own(Bookings, Read)),
    // What the house noted of a booking is the house's.
    ("GET", "/api/v1/bookings/{id}/history", assigned(Bookings, Read)),
    ("POST", "/api/v1/bookings/{id}/confirm", own(Bookings, Update)),
    ("POST", "/api/v1/bookings/{id}/cancel", own(Bookings, Update)),
    ("POST", "/api/v1/bookings/{id}/reschedule", own(Bookings, Update)),
    ("POST", "/api/v1/bookings/{id}/reject", assigned(Bookings, Update)),
    ("POST", "/api/v1/bookings/{id}/reassign", assigned(Bookings, Update)),
    ("POST", "/api/v1/bookings/{id}/check-in", assigned(Bookings, Update)),
    ("POST", "/api/v1/bookings/{id}/check-out", assigned(Bookings, Update)),
    ("POST", "/api/v1/bookings/{id}/no-show", assigned(Bookings, Update)),
    ("GET", "/api/v1/leads", tenant(Leads, Read)),
    ("GET", "/api/v1/leads/{id}", tenant(Leads, Read)),
    ("POST", "/api/v1/leads/{id}/handle", tenant(Leads, Update)),
    // The platform asks, the tenant answers, both see it and may take it back.
    ("GET", "/api/v1/support/requests", either(Support, Read, Read)),
    ("POST", "/api/v1/support/requests", platform(Support, Create)),
    ("GET", "/api/v1/support/requests/{id}", either(Support, Read, Read)),
    ("POST", "/api/v1/support/requests/{id}/approve", tenant(Support, Update)),
    ("POST", "/api/v1/support/requests/{id}/deny", tenant(Support, Update)),
    ("POST", "/api/v1/support/requests/{id}/revoke", either(Support, Update, Create)),
    ("GET", "/api/v1/support/sessions", either(Support, Read, Read)),
    // Who begins which session is for the decision to say, which writes a refusal down; here it is enough to be one of the
    // platform's people, which the handler asks.
    ("POST", "/api/v1/support/sessions", SignedIn),
    ("GET", "/api/v1/support/sessions/{id}", either(Support, Read, Read)),
    ("DELETE", "/api/v1/support/sessions/{id}", either(Support, Update, Create)),
    ("GET", "/api/v1/support/counts", either(Support, Read, Read)),
    // Who may act as whom is for the decision to say, which writes it down; here it is enough to be a person.
    ("GET", "/api/v1/hijack", SignedIn),
    ("POST", "/api/v1/hijack", SignedIn),
    ("POST", "/api/v1/hijack/stop", SignedIn),
    ("GET", "/api/v1/hijacks", either(Support, Read, Read)),
    ("GET", "/api/v1/hijacks/{id}", either(Support, Read, Read)),
    ("POST", "/api/v1/hijacks/{id}/stop", either(Support, Update, Create)),
    ("GET", "/api/v1/calendar", assigned(Calendar, Read)),
    ("GET", "/api/v1/reports/pace", tenant(Reports, Read)),
    ("GET", "/api/v1/audit/events", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/api-calls", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/logins", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/booking-changes", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/messages", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/errors", tenant(Audit, Read)),
    // It leaves something behind in the log, and takes much out of it.
    ("GET", "/api/v1/audit/export", tenant(AuditExports, Create)),
    ("GET", "/api/v1/audit/bundle", tenant(AuditExports, Create)),
    ("GET", "/api/v1/audit/retention", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/stream", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/streams/{type}/{id}", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/erasures", tenant(Erasures, Read)),
    ("GET", "/api/v1/audit/holds", tenant(LegalHolds, Read)),
    ("POST", "/api/v1/audit/holds", tenant(LegalHolds, Create)),
    ("GET", "/api/v1/audit/holds/{id}", tenant(LegalHolds, Read)),
    ("DELETE", "/api/v1/audit/holds/{id}", tenant(LegalHolds, Delete)),
    ("GET", "/api/v1/audit/support", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/support/{id}", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/checkpoint", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/proof/inclusion", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/proof/consistency", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/tile/{*path}", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/keys", tenant(Audit, Read)),
    ("GET", "/api/v1/audit/head", tenant(Audit, Read)),
    ("GET", "/api/v1/platform/tenants", platform(Tenants, Read)),
    ("POST", "/api/v1/platform/tenants", platform(Tenants, Create)),
    ("GET", "/api/v1/platform/tenants/{id}", platform(Tenants, Read)),
    ("PATCH", "/api/v1/platform/tenants/{id}", platform(Tenants, Update)),
    ("POST", "/api/v1/platform/tenants/{id}/activate", platform(Tenants, Update)),
    ("POST", "/api/v1/platform/tenants/{id}/deactivate", platform(Tenants, Update)),
    ("POST", "/api/v1/platform/tenants/{id}/plan", platform(Tenants, Update)),
    ("GET", "/api/v1/platform/users", platform(PlatformUsers, Read)),
    ("POST", "/api/v1/platform/users", platform(PlatformUsers, Create)),
    ("DELETE", "/api/v1/platform/users/{id}", platform(PlatformUsers, Delete)),
    ("POST", "/api/v1/platform/users/{id}/activate", platform(PlatformUsers, Update)),
    ("POST", "/api/v1/platform/users/{id}/deactivate", platform(PlatformUsers, Update)),
    ("POST", "/api/v1/platform/users/{id}/role", platform(PlatformUsers, Update)),
    ("GET", "/api/v1/platform/plans", platform(Plans, Read)),
    ("GET", "/api/v1/public/availability", Public),
    ("POST", "/api/v1/public/bookings", Public),
    ("GET", "/api/v1/public/bookings/{id}", Public),
    ("POST", "/api/v1/public/bookings/{id}/cancel", Public),
    ("POST", "/api/v1/public/bookings/{id}/reschedule", Public),
    ("POST", "/api/v1/public/leads", Public),
];

/// What whoever is in a support session or a hijack may call although it changes something: to leave it. An attempt to
/// act as somebody else from there is let through to where it is refused and written down.
pub const LEAVES: &[(&str, &str)] = &[
    ("DELETE", "/api/v1/support/sessions/{id}"),
    ("POST", "/api/v1/hijack/stop"),
    ("POST", "/api/v1/hijack"),
];

/// What a route requires: by its path template and method; HEAD is answered as GET is.
pub fn requirement(method: &Method, path: &str) -> Option<Requirement> {
    static TABLE: LazyLock<HashMap<(&str, &str), Requirement>> =
        LazyLock::new(|| ROUTES.iter().map(|(method, path, needs)| ((*method, *path), *needs)).collect());
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    TABLE.get(&(method, path)).copied()
}

/// Whether any method of this path is known.
pub fn knows(path: &str) -> bool {
    ROUTES.iter().any(|(_, known, _)| *known == path)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_route_is_listed_twice() {
        let all: HashSet<_> = ROUTES.iter().map(|(method, path, _)| (method, path)).collect();
        assert_eq!(all.len(), ROUTES.len());
    }
}
