//! Who may act as whom.
//!
//! | who | as whom |
//! |---|---|
//! | `superuser` | anyone |
//! | `platform_support` | a tenant's people |
//! | `platform_sales` | the people of temporary tenants |
//! | `tenant_owner` | staff of the same tenant |
//! | everybody else | no one |
//!
//! Never as oneself; never as a superuser, except a superuser; never from within another hijack or a support session. One
//! of the platform's people who acts in a tenant that is not temporary also needs a window that the tenant approved, or
//! its waiver.

use serde::{Deserialize, Serialize};

use crate::{UserId, permission::Tier, support_request::Party};

/// Who would act as somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An account of the tenant, whose tier is looked up when the command is decided.
    Account(UserId),
    /// One of the platform's people; their tier is a second old at most, since their account is in another log.
    Platform {
        /// Who.
        user: UserId,
        /// What they are.
        tier: Tier,
    },
}

impl By {
    /// The account.
    pub fn user(self) -> UserId {
        match self {
            Self::Account(user) | Self::Platform { user, .. } => user,
        }
    }

    /// As events name them.
    pub fn party(self) -> Party {
        match self {
            Self::Account(user_id) => Party::Tenant { user_id },
            Self::Platform { user, .. } => Party::Platform { user_id: user },
        }
    }
}

/// Where the account is that somebody would act as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the tenant of whoever asks.
    Own,
    /// In a tenant, asked by one of the platform's people.
    Tenant {
        /// Whether it is a temporary one.
        temporary: bool,
    },
    /// Among the platform's own people.
    Platform,
}

/// What is known of an attempt beside the two tiers.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Whether whoever asks acts as somebody else already, or is in a support session.
    pub chained: bool,
    /// As whom.
    pub target: UserId,
    /// Whether the tenant is a temporary one.
    pub temporary: bool,
}

/// Why somebody may not act as somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HijackRefusal {
    /// They act as somebody else already, or are in a support session.
    Chain,
    /// It is their own account.
    Oneself,
    /// There is no such active account in this log.
    NoSuchAccount,
    /// It is a superuser's account.
    Superuser,
    /// Nobody of their tier acts as somebody of that one, there.
    NotAllowed,
    /// The tenant has not approved it.
    WindowRequired,
}

impl HijackRefusal {
    /// The name in events, read models and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Oneself => "oneself",
            Self::NoSuchAccount => "no_such_account",
            Self::Superuser => "superuser",
            Self::NotAllowed => "not_allowed",
            Self::WindowRequired => "window_required",
        }
    }

    /// A sentence for whoever was refused.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Chain => "whoever acts as somebody else does not go on to another",
            Self::Oneself => "nobody acts as themselves",
            Self::NoSuchAccount => "there is no such active account",
            Self::Superuser => "nobody but a superuser acts as a superuser",
            Self::NotAllowed => "you may not act as this account",
            Self::WindowRequired => "the tenant has approved no support request of yours that is open now",
        }
    }
}

/// Whether somebody of one tier may act as somebody of another who is there. What else it takes (not oneself, no chain,
/// a window) is not asked here.
///
/// # Errors
/// `Superuser` or `NotAllowed`.
pub fn may_act_as(tier: Tier, target: Tier, place: Place) -> Result<(), HijackRefusal> {
    if target == Tier::Superuser && tier != Tier::Superuser {
        return Err(HijackRefusal::Superuser);
    }
    // An account is where its tier belongs, and so is whoever asks.
    let belongs = match place {
        Place::Own => !tier.is_platform() && !target.is_platform(),
        Place::Tenant { .. } => tier.is_platform() && !target.is_platform(),
        Place::Platform => tier.is_platform() && target.is_platform(),
    };
    let allowed = belongs
        && match tier {
            Tier::Superuser => true,
            Tier::PlatformSupport => matches!(place, Place::Tenant { .. }),
            Tier::PlatformSales => matches!(place, Place::Tenant { temporary: true }),
            Tier::TenantOwner => target == Tier::TenantStaff,
            Tier::PlatformManager | Tier::TenantManager | Tier::TenantStaff | Tier::Customer => false,
        };
    if allowed { Ok(()) } else { Err(HijackRefusal::NotAllowed) }
}
