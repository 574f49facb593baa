//! A hijack: somebody acts as somebody else for a while, with both names on everything they do. It is in the log of whom
//! they act as: the tenant's own, or the platform's for the platform's people.
//!
//! [`rules`] says who may act as whom. Every attempt is an event, also one that is refused.

mod event;
pub mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, HijackId, SessionId, SupportRequestId, UserId, impl_cqrs_aggregate,
    masquerade::{Denied, EndCause, Ended, LASTS, Viewed, lapsed, over},
    permission::Tier,
    support_request::{Party, SupportActor, SupportRequest},
    support_session::ends,
    text::Reason,
};

pub use event::HijackEvent;
pub use rules::{Attempt, By, HijackRefusal, Place};

/// By what a hijack was allowed, beside the tiers of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "via", rename_all = "snake_case")]
pub enum Via {
    /// The tiers alone: both are of one house, or of the platform.
    #[default]
    Tier,
    /// The tenant is a temporary one, which holds nobody's data.
    TemporaryTenant,
    /// The tenant lets the platform's people in without asking, by its settings.
    Waiver,
    /// The tenant approved a support request of the hijacker's.
    Window {
        /// Which.
        support_request_id: SupportRequestId,
    },
}

impl Via {
    /// The name in read models and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tier => "tier",
            Self::TemporaryTenant => "temporary_tenant",
            Self::Waiver => "waiver",
            Self::Window { .. } => "window",
        }
    }

    /// The support request in whose window it is.
    pub fn window(self) -> Option<SupportRequestId> {
        match self {
            Self::Window { support_request_id } => Some(support_request_id),
            Self::Tier | Self::TemporaryTenant | Self::Waiver => None,
        }
    }
}

/// The state of a hijack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hijack {
    /// Its id, once it was asked for.
    pub id: Option<HijackId>,
    /// Who acts; nobody before it was asked for.
    pub by: Option<Party>,
    /// The sign-in of theirs that it belongs to: it ends with it.
    pub signed_in: SessionId,
    /// As whom.
    pub target: UserId,
    /// By what it was allowed.
    pub via: Via,
    /// Why.
    pub reason: Reason,
    /// When it began, or was refused.
    pub started_at: DateTime<Utc>,
    /// When it ends by itself; at this instant it is over. When it was refused, that very time.
    pub until: DateTime<Utc>,
    /// Why it was refused, if it was.
    pub refused: Option<HijackRefusal>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// How many reads were answered in it.
    pub viewed: u32,
    /// How many requests were refused in it.
    pub denied: u32,
}

impl Hijack {
    /// Whether something can be seen or done in it.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.id.is_some() && self.refused.is_none() && self.ended.is_none() && now < self.until
    }

    /// Who acts, as an account.
    pub fn hijacker(&self) -> Option<UserId> {
        self.by.and_then(Party::user)
    }
}

/// What can be asked of a hijack.
#[derive(Clone, Debug)]
pub enum HijackCommand {
    /// Begin.
    Start {
        /// Who would act.
        by: By,
        /// The sign-in of theirs that it belongs to.
        signed_in: SessionId,
        /// Whether they act as somebody else already, or in a support session.
        chained: bool,
        /// As whom.
        target: UserId,
        /// Whether the tenant is a temporary one, which the platform knows.
        temporary: bool,
        /// Why. It is in the log as it is, so it should name nobody.
        reason: Reason,
    },
    /// Something was read in it: before the answer leaves.
    View(Viewed),
    /// Something was refused in it.
    Deny(Denied),
    /// End it.
    End {
        /// Who.
        by: SupportActor,
    },
    /// Note that it ended by itself, if it did.
    Lapse {
        /// Whether the rules still let it go on, for the two as they are now.
        allowed: bool,
    },
}

/// What a decision about a hijack needs to know.
#[derive(Clone, Debug)]
pub struct HijackContext {
    /// The time of the decision, by the database's clock.
    pub now: DateTime<Utc>,
    /// The hijack's id.
    pub id: HijackId,
    /// Whether the log is a tenant's.
    pub in_tenant: bool,
    /// Whether the tenant waives its approval.
    pub waiver: bool,
    /// The tier of the tenant's account that asks, as it is now; `None` when it is none that is active.
    pub actor_tier: Option<Tier>,
    /// The tier of whom they would act as; `None` when it is no active account of this log.
    pub target_tier: Option<Tier>,
    /// The support request of the hijacker's whose window is open, or the one it is in the window of.
    pub request: Option<Arc<SupportRequest>>,
}

impl Decider for Hijack {
    const TYPE: &'static str = "hijack";
    type Command = HijackCommand;
    type Event = HijackEvent;
    type Context = HijackContext;

    fn decide(
        &self,
        command: &HijackCommand,
        context: &HijackContext,
    ) -> Result<Vec<HijackEvent>, DomainError> {
        match command {
            HijackCommand::Start { by, signed_in, chained, target, temporary, reason } => {
                if self.id.is_some() {
                    return Err(DomainError::AlreadyExists { what: Self::TYPE.into() });
                }
                let attempt = Attempt { chained: *chained, target: *target, temporary: *temporary };
                let (hijack_id, target, reason, at) = (context.id, *target, reason.clone(), context.now);
                Ok(vec![match self.start(*by, &attempt, context) {
                    Ok((via, until)) => HijackEvent::Started {
                        hijack_id,
                        by: by.party(),
                        signed_in: *signed_in,
                        target,
                        via,
                        reason,
                        at,
                        until,
                    },
                    Err(why) => HijackEvent::Refused { hijack_id, by: by.party(), target, reason, why, at },
                }])
            }
            _ if self.id.is_none() || self.refused.is_some() => Err(DomainError::not_found(Self::TYPE)),
            HijackCommand::View(_) | HijackCommand::Deny(_) if !self.goes_on(context) => {
                Err(DomainError::SessionOver)
            }
            HijackCommand::View(viewed) => Ok(vec![HijackEvent::Viewed(viewed.clone())]),
            HijackCommand::Deny(denied) => Ok(vec![HijackEvent::Denied(denied.clone())]),
            HijackCommand::End { by } => {
                let by = ends(*by, self.hijacker().unwrap_or_default(), context.actor_tier)?;
                if !self.goes_on(context) {
                    return Err(over());
                }
                Ok(vec![HijackEvent::Ended(Ended { cause: EndCause::Stopped { by }, at: context.now })])
            }
            HijackCommand::Lapse { allowed } => {
                if self.ended.is_some() {
                    return Ok(Vec::new());
                }
                let ended = lapsed(self.until, context.now, self.window_open(context), *allowed);
                Ok(ended.map(HijackEvent::Ended).into_iter().collect())
            }
        }
    }

    fn apply(&mut self, event: &HijackEvent) {
        match event {
            HijackEvent::Started { hijack_id, by, signed_in, target, via, reason, at, until } => {
                *self = Self {
                    id: Some(*hijack_id),
                    by: Some(*by),
                    signed_in: *signed_in,
                    target: *target,
                    via: *via,
                    reason: reason.clone(),
                    started_at: *at,
                    until: *until,
                    ..Self::default()
                };
            }
            HijackEvent::Refused { hijack_id, by, target, reason, why, at } => {
                *self = Self {
                    id: Some(*hijack_id),
                    by: Some(*by),
                    target: *target,
                    reason: reason.clone(),
                    started_at: *at,
                    until: *at,
                    refused: Some(*why),
                    ..Self::default()
                };
            }
            HijackEvent::Viewed(_) => self.viewed = self.viewed.saturating_add(1),
            HijackEvent::Denied(_) => self.denied = self.denied.saturating_add(1),
            HijackEvent::Ended(ended) => self.ended = Some(*ended),
            HijackEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl Hijack {
    /// By what it is allowed, and until when.
    fn start(
        &self,
        by: By,
        attempt: &Attempt,
        context: &HijackContext,
    ) -> Result<(Via, DateTime<Utc>), HijackRefusal> {
        let place = match by {
            By::Account(_) if context.in_tenant => Place::Own,
            By::Platform { .. } if context.in_tenant => Place::Tenant { temporary: attempt.temporary },
            By::Account(_) | By::Platform { .. } => Place::Platform,
        };
        if attempt.chained {
            return Err(HijackRefusal::Chain);
        }
        if by.user() == attempt.target {
            return Err(HijackRefusal::Oneself);
        }
        let tier = match by {
            By::Account(_) => context.actor_tier.ok_or(HijackRefusal::NotAllowed)?,
            By::Platform { tier, .. } => tier,
        };
        let target = context.target_tier.ok_or(HijackRefusal::NoSuchAccount)?;
        rules::may_act_as(tier, target, place)?;
        let longest = context.now + LASTS;
        let via = match place {
            Place::Own | Place::Platform => Via::Tier,
            Place::Tenant { temporary: true } => Via::TemporaryTenant,
            Place::Tenant { temporary: false } => {
                let request = context
                    .request
                    .as_ref()
                    .filter(|request| request.requested_by == by.user() && request.is_open(context.now));
                match request.and_then(|request| request.id.zip(request.open_until)) {
                    Some((support_request_id, until)) => {
                        return Ok((Via::Window { support_request_id }, longest.min(until)));
                    }
                    None if context.waiver => Via::Waiver,
                    None => return Err(HijackRefusal::WindowRequired),
                }
            }
        };
        Ok((via, longest))
    }

    /// Whether the window it is in is open, or the waiver it is by still given.
    fn window_open(&self, context: &HijackContext) -> bool {
        match self.via {
            Via::Tier | Via::TemporaryTenant => true,
            Via::Waiver => context.waiver,
            Via::Window { .. } => {
                context.request.as_ref().is_some_and(|request| request.is_open(context.now))
            }
        }
    }

    /// Whether it has not ended, by whatever.
    fn goes_on(&self, context: &HijackContext) -> bool {
        self.is_open(context.now) && self.window_open(context)
    }
}

impl_cqrs_aggregate!(Hijack, HijackEvent);
