//! A permission grant: one permission that somebody gives somebody else for a while, and takes back or lets run out.
//!
//! Nobody gives what they do not hold themselves, and a grant counts only for as long as that is so: [`check`] is asked
//! when it is given and again whenever it is used.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, Event, GrantId, UserId,
    carried::CarriedOver,
    impl_cqrs_aggregate,
    permission::{Permission, Permissions, Scope, Tier},
    user::By,
};

/// How long a grant holds unless asked otherwise.
pub const DEFAULT_MINUTES: u32 = 30;
/// The longest a grant holds: a day. Who needs it for longer needs a role.
pub const MAX_MINUTES: u32 = 1_440;

/// What was granted: as it stands in the event, and for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub grant_id: GrantId,
    /// Who gave it; `None` for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grantor: Option<UserId>,
    /// Who has it.
    pub grantee: UserId,
    /// What they may do.
    pub permission: Permission,
    /// Why, in the grantor's words. In the event's metadata as well; here because it belongs to what was granted.
    pub reason: String,
    /// From when on.
    pub granted_at: DateTime<Utc>,
    /// Until when; from this instant on it is over.
    pub expires_at: DateTime<Utc>,
}

/// How a grant was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The user who did; `None` for a key, the operator, or where the grantee's account ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<UserId>,
    /// Why.
    pub reason: String,
}

/// The state of a permission grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PermissionGrant {
    /// What was granted, once it was.
    pub grant: Option<Grant>,
    /// How it was taken back, if it was.
    pub revocation: Option<Revocation>,
}

/// Where a grant stands at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantState {
    /// In its time, and not taken back.
    Active,
    /// Run out.
    Expired,
    /// Taken back, within its time.
    Revoked,
}

impl GrantState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Expired, Self::Revoked];

    /// The name in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl PermissionGrant {
    /// Where it stands at this time; `None` while nothing was granted.
    pub fn state(&self, at: DateTime<Utc>) -> Option<GrantState> {
        let grant = self.grant.as_ref()?;
        Some(match self.revocation {
            Some(_) => GrantState::Revoked,
            None if at < grant.expires_at => GrantState::Active,
            None => GrantState::Expired,
        })
    }
}

/// What can be asked of a permission grant. Why is in what the command comes with.
#[derive(Clone, Debug)]
pub enum PermissionGrantCommand {
    /// Give somebody a permission.
    Grant {
        /// Whom.
        grantee: UserId,
        /// What.
        permission: Permission,
        /// For how long.
        minutes: u32,
        /// Who asks.
        by: By,
    },
    /// Take it back.
    Revoke {
        /// Who asks.
        by: By,
        /// Whether one that is over already is passed over, rather than refused: for who wants all of somebody's ended,
        /// whichever those are.
        if_active: bool,
    },
}

/// What can have happened to a permission grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum PermissionGrantEvent {
    /// Somebody was given a permission.
    #[serde(rename = "permission.granted")]
    Granted(Grant),
    /// It was taken back.
    #[serde(rename = "permission.grant_revoked")]
    Revoked(Revocation),
    /// Its state, when what was before was pruned.
    #[serde(rename = "permission_grant.carried_over")]
    CarriedOver(Box<CarriedOver<PermissionGrant>>),
}

impl Event for PermissionGrantEvent {
    const TYPES: &'static [(&'static str, u16)] =
        &[("permission.granted", 1), ("permission.grant_revoked", 1), ("permission_grant.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Granted(_) => "permission.granted",
            Self::Revoked(_) => "permission.grant_revoked",
            Self::CarriedOver(_) => "permission_grant.carried_over",
        }
    }
}

/// An active account, as far as grants are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its tier.
    pub tier: Tier,
    /// What it may do by itself: not what others granted to it.
    pub held: Permissions,
}

impl Holder {
    /// Who grants as the operator does: all that there is in a tenant.
    pub fn operator() -> Self {
        Self { tier: Tier::TenantOwner, held: Tier::TenantOwner.permissions() }
    }
}

/// Whether accounts of this tier are granted anything: owners have it all, customers are guests of the house.
pub fn is_grantee(tier: Tier) -> bool {
    matches!(tier, Tier::TenantManager | Tier::TenantStaff)
}

/// Whether one account may give this permission to another, as both are now.
///
/// # Errors
/// `Validation` when nobody could be granted that, `Forbidden` when it is not the grantor's to give.
pub fn check(grantor: &Holder, grantee: Tier, permission: Permission) -> Result<(), DomainError> {
    // Who works for a house has nothing there that is their own, so that scope would give nothing.
    if !matches!(permission.scope, Scope::Assigned | Scope::Tenant) || !permission.is_meaningful() {
        return Err(DomainError::field(
            "/permission",
            "not_grantable",
            "a grant is for what is assigned to somebody, or for the whole tenant",
        ));
    }
    if !is_grantee(grantee) || !grantor.tier.may_manage(grantee) {
        return Err(forbidden(format!("may not grant to a {grantee}")));
    }
    let one: Permissions = [permission].into_iter().collect();
    if grantee == Tier::TenantStaff && !one.within(&Tier::custom_role_ceiling()) {
        return Err(DomainError::field(
            "/permission",
            "above_staff",
            "staff do not manage accounts, roles, keys, grants, domains, settings, secrets, support, holds or erasures",
        ));
    }
    if !one.within(&grantor.held) {
        return Err(forbidden("nobody grants a permission that they do not hold themselves".into()));
    }
    Ok(())
}

fn forbidden(detail: String) -> DomainError {
    DomainError::Forbidden { detail }
}

/// What a decision about a permission grant needs to know.
#[derive(Clone, Debug)]
pub struct PermissionGrantContext {
    /// The time of the decision, by the database's clock: the same that later ends the grant.
    pub now: DateTime<Utc>,
    /// The grant's id.
    pub id: GrantId,
    /// Why, in the words of whoever asks.
    pub reason: Option<String>,
    /// The user who asks, as they are now; `None` where it is no user, or none that is active.
    pub actor: Option<Holder>,
    /// The grantee as they are now; `None` unless they have an active account in the same log.
    pub grantee: Option<Holder>,
}

impl PermissionGrantContext {
    fn reason(&self) -> Result<String, DomainError> {
        let reason = self.reason.clone().filter(|reason| !reason.trim().is_empty());
        reason.ok_or(DomainError::ReasonRequired)
    }
}

impl Decider for PermissionGrant {
    const TYPE: &'static str = "permission_grant";
    type Command = PermissionGrantCommand;
    type Event = PermissionGrantEvent;
    type Context = PermissionGrantContext;

    fn decide(
        &self,
        command: &PermissionGrantCommand,
        context: &PermissionGrantContext,
    ) -> Result<Vec<PermissionGrantEvent>, DomainError> {
        match (command, &self.grant) {
            (PermissionGrantCommand::Grant { .. }, Some(_)) => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            (PermissionGrantCommand::Grant { grantee, permission, minutes, by }, None) => {
                grant(*grantee, *permission, *minutes, *by, context).map(|event| vec![event])
            }
            (PermissionGrantCommand::Revoke { .. }, None) => Err(DomainError::not_found(Self::TYPE)),
            (PermissionGrantCommand::Revoke { by, if_active }, Some(grant)) => {
                may_revoke(*by, grant, context)?;
                let reason = context.reason()?;
                match self.state(context.now) {
                    Some(GrantState::Active) => {
                        Ok(vec![PermissionGrantEvent::Revoked(Revocation { revoked_by: user(*by), reason })])
                    }
                    Some(_) | None if *if_active => Ok(Vec::new()),
                    // Refused rather than passed over: what somebody wants to stop may have been used to its end.
                    Some(GrantState::Expired) | None => {
                        Err(DomainError::wrong_state("expired", "the grant has run out"))
                    }
                    Some(GrantState::Revoked) => {
                        Err(DomainError::wrong_state("revoked", "the grant has been revoked"))
                    }
                }
            }
        }
    }

    fn apply(&mut self, event: &PermissionGrantEvent) {
        match event {
            PermissionGrantEvent::Granted(grant) => {
                *self = Self { grant: Some(grant.clone()), revocation: None };
            }
            PermissionGrantEvent::Revoked(revocation) => self.revocation = Some(revocation.clone()),
            PermissionGrantEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

fn grant(
    grantee: UserId,
    permission: Permission,
    minutes: u32,
    by: By,
    context: &PermissionGrantContext,
) -> Result<PermissionGrantEvent, DomainError> {
    let reason = context.reason()?;
    if !(1..=MAX_MINUTES).contains(&minutes) {
        return Err(DomainError::field("/minutes", "out_of_range", "a grant holds for 1 to 1440 minutes"));
    }
    let grantor = match by {
        By::Operator => Holder::operator(),
        By::Key(_) => return Err(forbidden("people grant permissions, keys do not".into())),
        By::User(user) if user == grantee => {
            return Err(forbidden("nobody grants anything to themselves".into()));
        }
        By::User(_) => {
            context.actor.clone().ok_or_else(|| forbidden("the account is not active any more".into()))?
        }
    };
    let Some(account) = &context.grantee else {
        return Err(DomainError::field("/grantee_id", "unknown_user", "no such active account"));
    };
    check(&grantor, account.tier, permission)?;
    Ok(PermissionGrantEvent::Granted(Grant {
        grant_id: context.id,
        grantor: user(by),
        grantee,
        permission,
        reason,
        granted_at: context.now,
        expires_at: context.now + Duration::minutes(minutes.into()),
    }))
}

fn user(by: By) -> Option<UserId> {
    match by {
        By::User(user) => Some(user),
        By::Key(_) | By::Operator => None,
    }
}

fn may_revoke(by: By, grant: &Grant, context: &PermissionGrantContext) -> Result<(), DomainError> {
    let grantee = context.grantee.as_ref().map(|grantee| grantee.tier);
    let may = match by {
        By::Operator => true,
        By::Key(managed) => grantee.is_some_and(|tier| managed.contains(tier)),
        By::User(user) => context.actor.as_ref().is_some_and(|actor| {
            grant.grantor == Some(user) || grantee.is_some_and(|tier| actor.tier.may_manage(tier))
        }),
    };
    if may { Ok(()) } else { Err(forbidden("this grant is others' to revoke".into())) }
}

impl_cqrs_aggregate!(PermissionGrant, PermissionGrantEvent);
