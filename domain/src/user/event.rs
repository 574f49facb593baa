//! What can have happened to a user's account.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Session, User, UserRole, UserStatus};
use crate::{
    CustomerId, Decider as _, Event, Personal, PersonalVisitor, ResetId, ResourceId, SessionId, SubjectId,
    UserId,
    carried::CarriedOver,
    permission::Module,
    text::{Email, Name},
};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// They signed out.
    Logout,
    /// They, or somebody who manages them, ended it from another one.
    Revoked,
    /// More sessions were started than the plan allows at once.
    Cap,
    /// Its time was over.
    Expired,
    /// A refresh token was used that had been used before: it may have been stolen.
    Reuse,
    /// The password was changed.
    PasswordChanged,
    /// The account may not sign in any more.
    AccountClosed,
}

/// How somebody proves that they control an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetBy {
    /// By a link that was sent to it.
    Link,
    /// By a code of six digits.
    Code,
}

/// What can have happened to a user's account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum UserEvent {
    /// It was made.
    #[serde(rename = "user.registered")]
    Registered {
        /// Their id.
        user_id: UserId,
        /// Their e-mail address.
        email: Personal<Email>,
        /// Their name.
        name: Personal<Name>,
        /// What they are.
        role: UserRole,
        /// The modules of staff.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        modules: BTreeSet<Module>,
        /// The customer they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer_id: Option<CustomerId>,
    },
    /// They were invited.
    #[serde(rename = "user.invited")]
    Invited {
        /// Their id.
        user_id: UserId,
        /// Their e-mail address.
        email: Personal<Email>,
        /// Their name.
        name: Personal<Name>,
        /// What they will be.
        role: UserRole,
        /// The modules of staff.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        modules: BTreeSet<Module>,
        /// The customer they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer_id: Option<CustomerId>,
        /// Until when they can accept.
        until: DateTime<Utc>,
    },
    /// They accepted.
    #[serde(rename = "user.invitation_accepted")]
    InvitationAccepted {
        /// Their id.
        user_id: UserId,
        /// Their name, where they wrote it otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Personal<Name>>,
    },
    /// The invitation was taken back.
    #[serde(rename = "user.invitation_revoked")]
    InvitationRevoked {
        /// Their id.
        user_id: UserId,
    },
    /// What is given was changed.
    #[serde(rename = "user.updated")]
    Updated {
        /// Their id.
        user_id: UserId,
        /// The new e-mail address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        email: Option<Personal<Email>>,
        /// The new name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Personal<Name>>,
    },
    /// They became something else.
    #[serde(rename = "user.role_changed")]
    RoleChanged {
        /// What they were.
        old: UserRole,
        /// What they are.
        new: UserRole,
    },
    /// Other modules or resources were assigned.
    #[serde(rename = "user.assigned")]
    Assigned {
        /// The modules.
        modules: BTreeSet<Module>,
        /// The resources.
        resources: BTreeSet<ResourceId>,
    },
    /// They may sign in no more.
    #[serde(rename = "user.deactivated")]
    Deactivated,
    /// They may sign in again.
    #[serde(rename = "user.activated")]
    Activated,
    /// The account is gone.
    #[serde(rename = "user.deleted")]
    Deleted {
        /// Their id.
        user_id: UserId,
    },
    /// They signed in.
    #[serde(rename = "user.session_started")]
    SessionStarted {
        /// The session.
        session_id: SessionId,
        /// When it was started.
        started_at: DateTime<Utc>,
        /// When it ends at the latest.
        expires_at: DateTime<Utc>,
    },
    /// A session ended.
    #[serde(rename = "user.session_ended")]
    SessionEnded {
        /// The session.
        session_id: SessionId,
        /// Why.
        why: SessionEnd,
    },
    /// A new password was set.
    #[serde(rename = "user.password_changed")]
    PasswordChanged {
        /// By which request, when by one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset_id: Option<ResetId>,
    },
    /// A new password was asked for.
    #[serde(rename = "user.password_reset_requested")]
    PasswordResetRequested {
        /// The request.
        reset_id: ResetId,
        /// How they will prove who they are.
        by: ResetBy,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// Its state, when what was before was pruned.
    #[serde(rename = "user.carried_over")]
    CarriedOver(Box<CarriedOver<User>>),
}

impl Event for UserEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("user.registered", 1),
        ("user.invited", 1),
        ("user.invitation_accepted", 1),
        ("user.invitation_revoked", 1),
        ("user.updated", 1),
        ("user.role_changed", 1),
        ("user.assigned", 1),
        ("user.deactivated", 1),
        ("user.activated", 1),
        ("user.deleted", 1),
        ("user.session_started", 1),
        ("user.session_ended", 1),
        ("user.password_changed", 1),
        ("user.password_reset_requested", 1),
        ("user.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "user.registered",
            Self::Invited { .. } => "user.invited",
            Self::InvitationAccepted { .. } => "user.invitation_accepted",
            Self::InvitationRevoked { .. } => "user.invitation_revoked",
            Self::Updated { .. } => "user.updated",
            Self::RoleChanged { .. } => "user.role_changed",
            Self::Assigned { .. } => "user.assigned",
            Self::Deactivated => "user.deactivated",
            Self::Activated => "user.activated",
            Self::Deleted { .. } => "user.deleted",
            Self::SessionStarted { .. } => "user.session_started",
            Self::SessionEnded { .. } => "user.session_ended",
            Self::PasswordChanged { .. } => "user.password_changed",
            Self::PasswordResetRequested { .. } => "user.password_reset_requested",
            Self::CarriedOver(_) => "user.carried_over",
        }
    }

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        let (user_id, email, name) = match self {
            Self::Registered { user_id, email, name, .. } | Self::Invited { user_id, email, name, .. } => {
                (user_id, Some(email), Some(name))
            }
            Self::InvitationAccepted { user_id, name } => (user_id, None, name.as_mut()),
            Self::Updated { user_id, email, name } => (user_id, email.as_mut(), name.as_mut()),
            Self::CarriedOver(carried) => {
                carried.past.visit_personal(carried.state.id.map(SubjectId::from), visit);
                return carried.state.visit_personal(visit);
            }
            Self::InvitationRevoked { .. }
            | Self::RoleChanged { .. }
            | Self::Assigned { .. }
            | Self::Deactivated
            | Self::Activated
            | Self::Deleted { .. }
            | Self::SessionStarted { .. }
            | Self::SessionEnded { .. }
            | Self::PasswordChanged { .. }
            | Self::PasswordResetRequested { .. } => return,
        };
        let subject = (*user_id).into();
        if let Some(email) = email {
            visit("email", subject, email);
        }
        if let Some(name) = name {
            visit("name", subject, name);
        }
    }
}

/// The most requests for a new password that are open at once; past it the oldest closes.
const MAX_RESETS: usize = 5;

impl User {
    pub(super) fn fold(&mut self, event: &UserEvent) {
        // Where the stream begins with a carried state, that one knows how many there were.
        let carried =
            if let UserEvent::CarriedOver(carried) = event { carried.past.through_sequence } else { 0 };
        let sequence = carried.max(self.events) + 1;
        self.change(event, sequence);
        self.events = sequence;
    }

    fn change(&mut self, event: &UserEvent, sequence: i64) {
        match event {
            UserEvent::Registered { user_id, email, name, role, modules, customer_id } => {
                *self = Self {
                    id: Some(*user_id),
                    email: email.clone(),
                    name: name.clone(),
                    role: *role,
                    modules: modules.clone(),
                    customer_id: *customer_id,
                    ..Self::default()
                };
            }
            UserEvent::Invited { user_id, email, name, role, modules, customer_id, until } => {
                *self = Self {
                    id: Some(*user_id),
                    email: email.clone(),
                    name: name.clone(),
                    role: *role,
                    modules: modules.clone(),
                    customer_id: *customer_id,
                    status: UserStatus::Invited,
                    invited_until: Some(*until),
                    ..Self::default()
                };
            }
            UserEvent::InvitationAccepted { name, .. } => {
                self.status = UserStatus::Active;
                self.invited_until = None;
                if let Some(name) = name {
                    self.name = name.clone();
                }
            }
            UserEvent::InvitationRevoked { .. } | UserEvent::Deleted { .. } => self.forget(),
            UserEvent::Updated { email, name, .. } => {
                if let Some(email) = email {
                    self.email = email.clone();
                    // Whoever reads the letters to the old address is perhaps somebody else.
                    self.resets.clear();
                }
                if let Some(name) = name {
                    self.name = name.clone();
                }
            }
            UserEvent::RoleChanged { new, .. } => self.role = *new,
            UserEvent::Assigned { modules, resources } => {
                self.modules.clone_from(modules);
                self.assigned.clone_from(resources);
            }
            UserEvent::Deactivated => {
                self.status = UserStatus::Deactivated;
                self.resets.clear();
            }
            UserEvent::Activated => self.status = UserStatus::Active,
            UserEvent::SessionStarted { session_id, started_at, expires_at } => {
                self.sessions
                    .insert(*session_id, Session { started_at: *started_at, expires_at: *expires_at });
            }
            UserEvent::SessionEnded { session_id, .. } => drop(self.sessions.remove(session_id)),
            UserEvent::PasswordChanged { .. } => {
                self.resets.clear();
                self.password_since = sequence;
            }
            UserEvent::PasswordResetRequested { reset_id, expires_at, .. } => {
                self.resets.insert(*reset_id, *expires_at);
                // Only the newest count: somebody who asks again and again must not keep old letters alive.
                while self.resets.len() > MAX_RESETS {
                    self.resets.pop_first();
                }
            }
            UserEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }

    /// What is left of an account that is gone: that there was one.
    fn forget(&mut self) {
        *self = Self {
            id: self.id,
            role: self.role,
            email: Personal::Erased,
            name: Personal::Erased,
            status: UserStatus::Deleted,
            ..Self::default()
        };
    }
}
