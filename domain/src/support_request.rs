//! A support request: one of the platform's people asks a tenant to be let in for a while, and an owner or a manager of
//! that tenant answers. It is in the tenant's own log, so that the tenant sees it and can prove it later.
//!
//! Time ends things here without an event: a request that nobody answered lapses, and a window closes. So whatever asks
//! whether a window is open compares times; no worker that is late can hold one open.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, Event, PersonalVisitor, SupportRequestId, UserId,
    carried::CarriedOver,
    impl_cqrs_aggregate,
    permission::Tier,
    text::{Email, Reason},
};

/// The longest window that can be asked for, in minutes.
pub const MAX_MINUTES: u32 = 30;
/// How long a request waits for an answer. An approval after that would open a window for a reason of yesterday.
pub const ANSWER_WITHIN: Duration = Duration::hours(24);

/// What was last said about a request. Whether it has lapsed, or its window is over, depends on the time as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupportStatus {
    /// Nobody has answered.
    #[default]
    Requested,
    /// Approved: the window is open from then on, for its minutes.
    Approved,
    /// Denied.
    Denied,
    /// Taken back, before an answer or while the window was open.
    Revoked,
}

impl SupportStatus {
    /// The name in read models and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Revoked => "revoked",
        }
    }
}

/// Who ended a request or its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "side", rename_all = "snake_case")]
pub enum Party {
    /// An account of the tenant.
    Tenant {
        /// Whose.
        user_id: UserId,
    },
    /// An account of the platform.
    Platform {
        /// Whose.
        user_id: UserId,
    },
    /// The operator, at the command line.
    Operator,
}

impl Party {
    /// The name of the side in read models and answers.
    pub fn side(self) -> &'static str {
        match self {
            Self::Tenant { .. } => "tenant",
            Self::Platform { .. } => "platform",
            Self::Operator => "operator",
        }
    }

    /// The account, where it was one.
    pub fn user(self) -> Option<UserId> {
        match self {
            Self::Tenant { user_id } | Self::Platform { user_id } => Some(user_id),
            Self::Operator => None,
        }
    }
}

/// How a request, or its window, was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// By whom.
    pub by: Party,
    /// Why.
    pub reason: Reason,
}

/// The state of a support request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SupportRequest {
    /// Its id, once it was made.
    pub id: Option<SupportRequestId>,
    /// The platform's account that asks.
    pub requested_by: UserId,
    /// Why.
    pub reason: Reason,
    /// How long the window is to be.
    pub minutes: u32,
    /// When it was made.
    pub requested_at: DateTime<Utc>,
    /// When it lapses, unless it is answered before.
    pub lapses_at: DateTime<Utc>,
    /// What was last said about it.
    pub status: SupportStatus,
    /// The tenant's account that approved it.
    pub approved_by: Option<UserId>,
    /// When the window opened.
    pub approved_at: Option<DateTime<Utc>>,
    /// When the window closes by itself; at this instant it is closed.
    pub open_until: Option<DateTime<Utc>>,
    /// How it was denied or revoked.
    pub ended: Option<Ending>,
}

impl SupportRequest {
    /// Whether it waits for an answer.
    pub fn is_waiting(&self, now: DateTime<Utc>) -> bool {
        self.id.is_some() && self.status == SupportStatus::Requested && now < self.lapses_at
    }

    /// Whether its window is open: from the approval on, for its minutes, and not revoked.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.status == SupportStatus::Approved
            && self.approved_at.is_some_and(|from| from <= now)
            && self.open_until.is_some_and(|until| now < until)
    }

    /// Refuses what only a request that waits allows.
    fn waiting(&self, now: DateTime<Utc>) -> Result<(), DomainError> {
        match self.status {
            SupportStatus::Requested if self.is_waiting(now) => Ok(()),
            SupportStatus::Requested => Err(DomainError::wrong_state("lapsed", "the request has lapsed")),
            SupportStatus::Approved | SupportStatus::Denied | SupportStatus::Revoked => {
                Err(DomainError::wrong_state(self.status.as_str(), "the request has been answered"))
            }
        }
    }
}

/// Who asks for something to be done to a support request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupportActor {
    /// An account of the tenant, whose tier is looked up when the command is decided.
    Account(UserId),
    /// One of the platform's people. Their account is in another log, so their tier is what it was when they were let
    /// in: it is a second old at most.
    Platform {
        /// Who.
        user: UserId,
        /// What they are.
        tier: Tier,
    },
    /// An API key. Whoever holds a key is not known to be a person, so it decides nothing.
    Key,
    /// The operator at the command line.
    Operator,
}

/// What can be asked of a support request.
#[derive(Clone, Debug)]
pub enum SupportRequestCommand {
    /// Ask to be let in.
    Request {
        /// The platform's account that asks.
        requested_by: UserId,
        /// Why. It is in the log as it is, so it should name nobody.
        reason: Reason,
        /// How long the window is to be.
        minutes: u32,
    },
    /// Open the window.
    Approve {
        /// Who.
        by: SupportActor,
        /// The e-mail address of the account that asked, as the platform knows it now; none when that account is not
        /// active any more. It is compared, and kept nowhere.
        requester: Option<Email>,
    },
    /// Refuse.
    Deny {
        /// Who.
        by: SupportActor,
        /// Why.
        reason: Option<Reason>,
    },
    /// Take back the request, or close the window.
    Revoke {
        /// Who.
        by: SupportActor,
        /// Why.
        reason: Option<Reason>,
    },
}

impl SupportRequestCommand {
    /// Who gives it; nobody who has to be looked up for a new request.
    pub fn by(&self) -> Option<SupportActor> {
        match self {
            Self::Request { .. } => None,
            Self::Approve { by, .. } | Self::Deny { by, .. } | Self::Revoke { by, .. } => Some(*by),
        }
    }
}

/// What can have happened to a support request. Times are in the events, so that a window can be checked from the
/// tenant's log alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum SupportRequestEvent {
    /// It was made.
    #[serde(rename = "support.requested")]
    Requested {
        /// Its id.
        support_request_id: SupportRequestId,
        /// The platform's account that asks.
        requested_by: UserId,
        /// Why.
        reason: Reason,
        /// How long the window is to be.
        minutes: u32,
        /// When.
        at: DateTime<Utc>,
        /// When it lapses, unless it is answered before.
        lapses_at: DateTime<Utc>,
    },
    /// It was approved, which opened the window.
    #[serde(rename = "support.approved")]
    Approved {
        /// By which account of the tenant.
        by: UserId,
        /// From when the window is open.
        from: DateTime<Utc>,
        /// When it closes.
        until: DateTime<Utc>,
    },
    /// It was denied.
    #[serde(rename = "support.denied")]
    Denied(Ending),
    /// It was taken back, or its window was closed.
    #[serde(rename = "support.revoked")]
    Revoked(Ending),
    /// Its state, when what was before was pruned.
    #[serde(rename = "support_request.carried_over")]
    CarriedOver(Box<CarriedOver<SupportRequest>>),
}

impl Event for SupportRequestEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("support.requested", 1),
        ("support.approved", 1),
        ("support.denied", 1),
        ("support.revoked", 1),
        ("support_request.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "support.requested",
            Self::Approved { .. } => "support.approved",
            Self::Denied(_) => "support.denied",
            Self::Revoked(_) => "support.revoked",
            Self::CarriedOver(_) => "support_request.carried_over",
        }
    }

    fn visit_personal(&mut self, _visit: &mut PersonalVisitor<'_>) {}
}

/// What a decision about a support request needs to know.
#[derive(Clone, Debug)]
pub struct SupportRequestContext {
    /// The time of the decision, by the database's clock.
    pub now: DateTime<Utc>,
    /// The request's id.
    pub id: SupportRequestId,
    /// The tier of the tenant's account that asks, as it is now; `None` when it is none that is active.
    pub actor_tier: Option<Tier>,
    /// The tenant's account with the e-mail address of whoever made the request, if there is one.
    pub namesake: Option<UserId>,
}

impl Decider for SupportRequest {
    const TYPE: &'static str = "support_request";
    type Command = SupportRequestCommand;
    type Event = SupportRequestEvent;
    type Context = SupportRequestContext;

    fn decide(
        &self,
        command: &SupportRequestCommand,
        context: &SupportRequestContext,
    ) -> Result<Vec<SupportRequestEvent>, DomainError> {
        let now = context.now;
        match command {
            SupportRequestCommand::Request { requested_by, reason, minutes } => {
                self.request(*requested_by, reason, *minutes, context)
            }
            _ if self.id.is_none() => Err(DomainError::not_found(Self::TYPE)),
            SupportRequestCommand::Approve { by, requester } => {
                let user = decides(*by, context)?;
                if user == self.requested_by || context.namesake == Some(user) {
                    return Err(forbidden("nobody approves their own request"));
                }
                self.waiting(now)?;
                if requester.is_none() {
                    return Err(DomainError::wrong_state(
                        self.status.as_str(),
                        "the account that asked is not active any more",
                    ));
                }
                let until = now + Duration::minutes(i64::from(self.minutes));
                Ok(vec![SupportRequestEvent::Approved { by: user, from: now, until }])
            }
            SupportRequestCommand::Deny { by, reason } => {
                let by = Party::Tenant { user_id: decides(*by, context)? };
                let reason = reason.clone().ok_or(DomainError::ReasonRequired)?;
                self.waiting(now)?;
                Ok(vec![SupportRequestEvent::Denied(Ending { by, reason })])
            }
            SupportRequestCommand::Revoke { by, reason } => {
                let by = self.revokes(*by, context)?;
                let reason = reason.clone().ok_or(DomainError::ReasonRequired)?;
                match self.status {
                    SupportStatus::Approved if self.is_open(now) => {}
                    SupportStatus::Approved => {
                        return Err(DomainError::wrong_state("approved", "the window is over"));
                    }
                    SupportStatus::Requested | SupportStatus::Denied | SupportStatus::Revoked => {
                        self.waiting(now)?;
                    }
                }
                Ok(vec![SupportRequestEvent::Revoked(Ending { by, reason })])
            }
        }
    }

    fn apply(&mut self, event: &SupportRequestEvent) {
        match event {
            SupportRequestEvent::Requested {
                support_request_id,
                requested_by,
                reason,
                minutes,
                at,
                lapses_at,
            } => {
                *self = Self {
                    id: Some(*support_request_id),
                    requested_by: *requested_by,
                    reason: reason.clone(),
                    minutes: *minutes,
                    requested_at: *at,
                    lapses_at: *lapses_at,
                    ..Self::default()
                };
            }
            SupportRequestEvent::Approved { by, from, until } => {
                self.status = SupportStatus::Approved;
                self.approved_by = Some(*by);
                self.approved_at = Some(*from);
                self.open_until = Some(*until);
            }
            SupportRequestEvent::Denied(ending) => {
                self.status = SupportStatus::Denied;
                self.ended = Some(ending.clone());
            }
            SupportRequestEvent::Revoked(ending) => {
                self.status = SupportStatus::Revoked;
                self.ended = Some(ending.clone());
            }
            SupportRequestEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl SupportRequest {
    fn request(
        &self,
        requested_by: UserId,
        reason: &Reason,
        minutes: u32,
        context: &SupportRequestContext,
    ) -> Result<Vec<SupportRequestEvent>, DomainError> {
        if self.id.is_some() {
            return Err(DomainError::AlreadyExists { what: Self::TYPE.into() });
        }
        if !(1..=MAX_MINUTES).contains(&minutes) {
            return Err(DomainError::field("/minutes", "out_of_range", "a window is 1 to 30 minutes long"));
        }
        Ok(vec![SupportRequestEvent::Requested {
            support_request_id: context.id,
            requested_by,
            reason: reason.clone(),
            minutes,
            at: context.now,
            lapses_at: context.now + ANSWER_WITHIN,
        }])
    }

    /// Who takes a request back: the tenant, whoever made it, those who manage the platform's people, the operator.
    fn revokes(&self, by: SupportActor, context: &SupportRequestContext) -> Result<Party, DomainError> {
        match by {
            SupportActor::Account(_) => Ok(Party::Tenant { user_id: decides(by, context)? }),
            SupportActor::Platform { user, tier }
                if user == self.requested_by || matches!(tier, Tier::Superuser | Tier::PlatformManager) =>
            {
                Ok(Party::Platform { user_id: user })
            }
            SupportActor::Platform { .. } => Err(forbidden("the request is somebody else's")),
            SupportActor::Operator => Ok(Party::Operator),
            SupportActor::Key => decides(by, context).map(|user_id| Party::Tenant { user_id }),
        }
    }
}

/// Who answers for a tenant: an owner or a manager, signed in. Nobody else stands in for them: not the platform, not its
/// operator, not a key.
fn decides(by: SupportActor, context: &SupportRequestContext) -> Result<UserId, DomainError> {
    match (by, context.actor_tier) {
        (SupportActor::Account(user), Some(Tier::TenantOwner | Tier::TenantManager)) => Ok(user),
        (
            SupportActor::Account(_)
            | SupportActor::Platform { .. }
            | SupportActor::Key
            | SupportActor::Operator,
            _,
        ) => Err(forbidden("an owner or a manager of the tenant answers, signed in to their account")),
    }
}

fn forbidden(detail: &str) -> DomainError {
    DomainError::Forbidden { detail: detail.into() }
}

impl_cqrs_aggregate!(SupportRequest, SupportRequestEvent);
