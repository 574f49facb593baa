//! Identifiers. Each is a UUID of its own type, so that one cannot be passed for another.
//! New ids are UUIDv7 (RFC 9562 section 5.7) made at the edge and passed in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

id! {
    /// A tenant.
    TenantId,
    /// A resource: one unit or a pool of interchangeable units.
    ResourceId,
    /// An offering: what is bookable on which resources, and how.
    OfferingId,
    /// A schedule: when resources are open.
    ScheduleId,
    /// A customer.
    CustomerId,
    /// A booking.
    BookingId,
    /// A lead: somebody asks to be contacted.
    LeadId,
    /// A legal hold: what it covers is neither pruned nor erased.
    HoldId,
    /// A support request: one of the platform's people asks to look into a tenant.
    SupportRequestId,
    /// A support session: one of the platform's people looks into a tenant.
    SupportSessionId,
    /// A hijack: somebody acts as somebody else for a while.
    HijackId,
    /// The person (or tenant) whose key seals a personal value.
    SubjectId,
    /// A person with an account, of a tenant or of the platform.
    UserId,
    /// One sign-in of a user: a family of refresh tokens.
    SessionId,
    /// A request to set a new password.
    ResetId,
    /// A role that a tenant defined.
    RoleId,
    /// An API key.
    ApiKeyId,
    /// A permission that was granted to somebody for a time.
    GrantId,
    /// An export of the log.
    AuditExportId,
    /// A domain that a tenant claims.
    DomainId,
    /// A bootstrap access token, as logs from before accounts know them.
    TokenId,
}

impl From<CustomerId> for SubjectId {
    fn from(id: CustomerId) -> Self {
        Self(id.0)
    }
}

impl From<LeadId> for SubjectId {
    fn from(id: LeadId) -> Self {
        Self(id.0)
    }
}

impl From<UserId> for SubjectId {
    fn from(id: UserId) -> Self {
        Self(id.0)
    }
}
