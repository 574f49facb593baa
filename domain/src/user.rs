//! A user: a person with an account, in a tenant's log or, for the platform's own people, in the platform's.
//!
//! A user's sessions are part of it, so that the cap on sessions, a new password and a lost account each are one
//! decision that no second request can race with. Passwords, tokens and codes never come here: the store keeps them
//! beside the log, in the transaction of the event that gives them their meaning.

mod decide;
mod event;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    CustomerId, Personal, ResetId, ResourceId, RoleId, SessionId, UserId, impl_cqrs_aggregate,
    permission::{ManagedTiers, Module, Tier},
    text::{Email, Name},
};

pub use decide::UserContext;
pub use event::{ResetBy, SessionEnd, UserEvent};

/// The most resources that can be assigned to one user.
pub const MAX_ASSIGNED: usize = 500;

/// What a user is: a tier, and for staff perhaps a role of the tenant's own in place of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRole {
    /// The tier.
    pub tier: Tier,
    /// The tenant's own role; only for staff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_id: Option<RoleId>,
}

impl From<Tier> for UserRole {
    fn from(tier: Tier) -> Self {
        Self { tier, role_id: None }
    }
}

/// Where an account stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// Invited, and not accepted yet.
    Invited,
    /// May sign in.
    #[default]
    Active,
    /// May not sign in, until activated again.
    Deactivated,
    /// Deleted, or an invitation that was taken back.
    Deleted,
}

impl UserStatus {
    /// The name in read models and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Deleted => "deleted",
        }
    }
}

/// A session that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// When it ends at the latest, however often it is refreshed.
    pub expires_at: DateTime<Utc>,
}

/// The state of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Their id, once they exist.
    pub id: Option<UserId>,
    /// Their e-mail address: what they sign in with.
    pub email: Personal<Email>,
    /// Their name.
    pub name: Personal<Name>,
    /// What they are.
    pub role: UserRole,
    /// The modules of staff.
    pub modules: BTreeSet<Module>,
    /// The resources assigned to staff.
    pub assigned: BTreeSet<ResourceId>,
    /// The customer whose bookings are their own; only for customers.
    pub customer_id: Option<CustomerId>,
    /// Where the account stands.
    pub status: UserStatus,
    /// Until when an invitation can be accepted.
    pub invited_until: Option<DateTime<Utc>>,
    /// Sessions that have not ended.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Requests for a new password that are open, and until when; the newest few.
    pub resets: BTreeMap<ResetId, DateTime<Utc>>,
    /// How many events there were.
    pub events: i64,
    /// The sequence of the event that changed the password last.
    pub password_since: i64,
}

impl Default for User {
    fn default() -> Self {
        Self {
            id: None,
            email: Personal::Sealed,
            name: Personal::Sealed,
            role: Tier::Customer.into(),
            modules: BTreeSet::new(),
            assigned: BTreeSet::new(),
            customer_id: None,
            status: UserStatus::Active,
            invited_until: None,
            sessions: BTreeMap::new(),
            resets: BTreeMap::new(),
            events: 0,
            password_since: 0,
        }
    }
}

impl User {
    /// Whether the account is one that could lock its tenant, or the platform, out by going: an active account of the
    /// highest tier.
    pub fn is_active_admin(&self) -> bool {
        self.status == UserStatus::Active && matches!(self.role.tier, Tier::TenantOwner | Tier::Superuser)
    }

    /// No other account of the log has its e-mail address, in any case of its letters.
    pub fn unique_keys(&self) -> Vec<(&'static str, String)> {
        match (self.status, self.email.expose()) {
            (UserStatus::Deleted, _) | (_, None) => Vec::new(),
            (_, Some(email)) => vec![("email", email_key(email.as_str()))],
        }
    }
}

/// The form in which two spellings of one e-mail address are equal: the letters of ASCII in lower case. What else
/// Unicode takes for two cases of one letter (the Kelvin sign and k) is another mailbox.
pub fn email_key(email: &str) -> String {
    email.trim().to_ascii_lowercase()
}

/// Who asks for something to be done to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A user, whose tier is looked up when the command is decided.
    User(UserId),
    /// A key that may manage accounts of these tiers.
    Key(ManagedTiers),
    /// The operator at the command line, a sign-up, or the system itself.
    Operator,
}

/// What can be asked of a user's account.
#[derive(Clone, Debug)]
pub enum UserCommand {
    /// Make an account that can sign in.
    Register {
        /// Their e-mail address.
        email: Email,
        /// Their name.
        name: Name,
        /// What they are.
        role: UserRole,
        /// The modules of staff.
        modules: BTreeSet<Module>,
        /// The customer they are.
        customer_id: Option<CustomerId>,
        /// Who asks.
        by: By,
    },
    /// Invite somebody to make their account.
    Invite {
        /// Their e-mail address.
        email: Email,
        /// Their name.
        name: Name,
        /// What they will be.
        role: UserRole,
        /// The modules of staff.
        modules: BTreeSet<Module>,
        /// The customer they are.
        customer_id: Option<CustomerId>,
        /// Until when.
        until: DateTime<Utc>,
        /// Who asks.
        by: By,
    },
    /// Accept the invitation.
    AcceptInvitation {
        /// Their name, if they write it otherwise.
        name: Option<Name>,
    },
    /// Take the invitation back.
    RevokeInvitation {
        /// Who asks.
        by: By,
    },
    /// Change what is given.
    Update {
        /// A new e-mail address.
        email: Option<Email>,
        /// A new name.
        name: Option<Name>,
        /// Who asks.
        by: By,
    },
    /// Make them something else.
    ChangeRole {
        /// What.
        role: UserRole,
        /// Who asks.
        by: By,
    },
    /// Assign modules and resources to staff, in place of those they have.
    Assign {
        /// The modules.
        modules: BTreeSet<Module>,
        /// The resources; left as they are where not given.
        resources: Option<BTreeSet<ResourceId>>,
        /// Who asks.
        by: By,
    },
    /// Let them sign in no more.
    Deactivate {
        /// Who asks.
        by: By,
    },
    /// Let them sign in again.
    Activate {
        /// Who asks.
        by: By,
    },
    /// Delete the account.
    Delete {
        /// Who asks.
        by: By,
    },
    /// Sign in.
    StartSession {
        /// The session.
        session_id: SessionId,
        /// Until when it can be refreshed.
        expires_at: DateTime<Utc>,
        /// The most sessions at once; past it the oldest ends.
        cap: u32,
        /// The sequence of the account when the password that was given was the right one: a newer password ends what
        /// the older one had begun.
        seen: i64,
    },
    /// End a session.
    EndSession {
        /// The session.
        session_id: SessionId,
        /// Why.
        why: SessionEnd,
    },
    /// Set a new password, knowing the old one. Ends every other session.
    ChangePassword {
        /// The session that stays.
        keep: Option<SessionId>,
    },
    /// Let somebody who controls the e-mail address set a new password.
    RequestReset {
        /// The request.
        reset_id: ResetId,
        /// How they will prove it.
        by: ResetBy,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// Set a new password by such a request. Ends every session and every other request.
    ResetPassword {
        /// The request.
        reset_id: ResetId,
    },
    /// Set a new password, as the operator of the platform. Ends every session.
    SetPassword,
}

impl_cqrs_aggregate!(User, UserEvent);
