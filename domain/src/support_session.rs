//! A support session: one of the platform's people looks into a tenant. It is in the tenant's own log, with everything
//! that was seen in it and everything that was refused; what was done in it names it as its cause.
//!
//! - `mock`: the shared sample tenant, which holds nobody's data.
//! - `redacted`: a real tenant, read only, with personal data masked. Nobody has to approve it.
//! - `real`: a real tenant as it is, within the window of a support request that the tenant approved.
//!
//! A start that is refused is an event as well: of a session that never was.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, Event, PersonalVisitor, SessionId, SupportRequestId, SupportSessionId, UserId,
    carried::CarriedOver,
    impl_cqrs_aggregate,
    masquerade::{Denied, EndCause, Ended, LASTS, Viewed, lapsed, over},
    permission::Tier,
    support_request::{Party, SupportActor, SupportRequest},
    text::Reason,
};

/// How much of a tenant a support session shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupportMode {
    /// The shared sample tenant.
    Mock,
    /// Read only, with personal data masked.
    #[default]
    Redacted,
    /// As it is, in an approved window.
    Real,
}

impl SupportMode {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Mock, Self::Redacted, Self::Real];

    /// The name in events, read models and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mock => "mock",
            Self::Redacted => "redacted",
            Self::Real => "real",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.as_str() == name)
    }
}

/// Why a session was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionRefusal {
    /// They are not of those who help tenants.
    NotAllowed,
    /// A mock session is in the sample tenant only.
    NotTheSampleTenant,
    /// A real session needs a support request.
    WindowRequired,
    /// There is no such support request in this tenant.
    WindowUnknown,
    /// The support request is somebody else's.
    WindowOfAnother,
    /// The window is not open: the request waits, was denied or revoked, or its time is over.
    WindowNotOpen,
}

impl SessionRefusal {
    /// The name in events, read models and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::NotTheSampleTenant => "not_the_sample_tenant",
            Self::WindowRequired => "window_required",
            Self::WindowUnknown => "window_unknown",
            Self::WindowOfAnother => "window_of_another",
            Self::WindowNotOpen => "window_not_open",
        }
    }

    /// A sentence for whoever was refused.
    pub fn detail(self) -> &'static str {
        match self {
            Self::NotAllowed => "this is for those who support tenants",
            Self::NotTheSampleTenant => "a mock session is in the sample tenant only",
            Self::WindowRequired => "real access needs a support request that the tenant approved",
            Self::WindowUnknown => "there is no such support request in this tenant",
            Self::WindowOfAnother => "the support request is somebody else's",
            Self::WindowNotOpen => "the window of the support request is not open",
        }
    }
}

/// The state of a support session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SupportSession {
    /// Its id, once it was asked for.
    pub id: Option<SupportSessionId>,
    /// The platform's account in it.
    pub user_id: UserId,
    /// The sign-in it belongs to: it ends with it.
    pub signed_in: SessionId,
    /// How much it shows.
    pub mode: SupportMode,
    /// The support request whose window it is in.
    pub support_request_id: Option<SupportRequestId>,
    /// Why.
    pub reason: Reason,
    /// When it began, or was refused.
    pub started_at: DateTime<Utc>,
    /// When it ends by itself; at this instant it is over. When it was refused, that very time.
    pub until: DateTime<Utc>,
    /// Why it was refused, if it was.
    pub refused: Option<SessionRefusal>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// How many reads were answered in it.
    pub viewed: u32,
    /// How many requests were refused in it.
    pub denied: u32,
}

impl SupportSession {
    /// Whether something can be seen or done in it.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.id.is_some() && self.refused.is_none() && self.ended.is_none() && now < self.until
    }
}

/// What can be asked of a support session.
#[derive(Clone, Debug)]
pub enum SupportSessionCommand {
    /// Begin.
    Start {
        /// The platform's account.
        user_id: UserId,
        /// Its tier: a second old at most, since the account is in another log.
        tier: Tier,
        /// The sign-in it belongs to.
        signed_in: SessionId,
        /// How much it is to show.
        mode: SupportMode,
        /// The support request, for a real one.
        support_request_id: Option<SupportRequestId>,
        /// Whether the tenant is the sample tenant, which the platform knows.
        sample: bool,
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
        /// Whether the account in it may still support tenants, and is signed in.
        allowed: bool,
    },
}

/// What can have happened to a support session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum SupportSessionEvent {
    /// It began.
    #[serde(rename = "support.session_started")]
    Started {
        /// Its id.
        support_session_id: SupportSessionId,
        /// The platform's account.
        user_id: UserId,
        /// The sign-in it belongs to.
        signed_in: SessionId,
        /// How much it shows.
        mode: SupportMode,
        /// The support request whose window it is in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        support_request_id: Option<SupportRequestId>,
        /// Why.
        reason: Reason,
        /// When it began.
        at: DateTime<Utc>,
        /// When it ends by itself.
        until: DateTime<Utc>,
    },
    /// It was asked for, and refused.
    #[serde(rename = "support.session_refused")]
    Refused {
        /// The id it would have had.
        support_session_id: SupportSessionId,
        /// The platform's account.
        user_id: UserId,
        /// How much it was to show.
        mode: SupportMode,
        /// The support request that was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        support_request_id: Option<SupportRequestId>,
        /// The reason they gave.
        reason: Reason,
        /// Why it was refused.
        why: SessionRefusal,
        /// When.
        at: DateTime<Utc>,
    },
    /// Something was read in it.
    #[serde(rename = "support.viewed")]
    Viewed(Viewed),
    /// Something was refused in it.
    #[serde(rename = "support.action_refused")]
    Denied(Denied),
    /// It ended.
    #[serde(rename = "support.session_ended")]
    Ended(Ended),
    /// Its state, when what was before was pruned.
    #[serde(rename = "support_session.carried_over")]
    CarriedOver(Box<CarriedOver<SupportSession>>),
}

impl SupportSessionEvent {
    /// The type of what says that something was read.
    pub const VIEWED: &'static str = "support.viewed";
    /// The type of what says that something was refused in it.
    pub const DENIED: &'static str = "support.action_refused";
    /// The type of its end.
    pub const ENDED: &'static str = "support.session_ended";
    /// The type of what says that one was asked for, and refused.
    pub const REFUSED: &'static str = "support.session_refused";
}

impl Event for SupportSessionEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("support.session_started", 1),
        (Self::REFUSED, 1),
        (Self::VIEWED, 1),
        (Self::DENIED, 1),
        (Self::ENDED, 1),
        ("support_session.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "support.session_started",
            Self::Refused { .. } => Self::REFUSED,
            Self::Viewed(_) => Self::VIEWED,
            Self::Denied(_) => Self::DENIED,
            Self::Ended(_) => Self::ENDED,
            Self::CarriedOver(_) => "support_session.carried_over",
        }
    }

    fn visit_personal(&mut self, _visit: &mut PersonalVisitor<'_>) {}
}

/// What a decision about a support session needs to know.
#[derive(Clone, Debug)]
pub struct SupportSessionContext {
    /// The time of the decision, by the database's clock.
    pub now: DateTime<Utc>,
    /// The session's id.
    pub id: SupportSessionId,
    /// The support request it names, or is in the window of, as it is now.
    pub request: Option<Arc<SupportRequest>>,
    /// The tier of the tenant's account that asks, as it is now; `None` when it is none that is active.
    pub actor_tier: Option<Tier>,
}

impl Decider for SupportSession {
    const TYPE: &'static str = "support_session";
    type Command = SupportSessionCommand;
    type Event = SupportSessionEvent;
    type Context = SupportSessionContext;

    fn decide(
        &self,
        command: &SupportSessionCommand,
        context: &SupportSessionContext,
    ) -> Result<Vec<SupportSessionEvent>, DomainError> {
        match command {
            SupportSessionCommand::Start { .. } => self.start(command, context),
            _ if self.id.is_none() || self.refused.is_some() => Err(DomainError::not_found(Self::TYPE)),
            SupportSessionCommand::View(_) | SupportSessionCommand::Deny(_) if !self.goes_on(context) => {
                Err(DomainError::SessionOver)
            }
            SupportSessionCommand::View(viewed) => Ok(vec![SupportSessionEvent::Viewed(viewed.clone())]),
            SupportSessionCommand::Deny(denied) => Ok(vec![SupportSessionEvent::Denied(denied.clone())]),
            SupportSessionCommand::End { by } => {
                let by = ends(*by, self.user_id, context.actor_tier)?;
                if !self.goes_on(context) {
                    return Err(over());
                }
                let cause = EndCause::Stopped { by };
                Ok(vec![SupportSessionEvent::Ended(Ended { cause, at: context.now })])
            }
            SupportSessionCommand::Lapse { allowed } => {
                if self.ended.is_some() {
                    return Ok(Vec::new());
                }
                let ended = lapsed(self.until, context.now, self.window_open(context), *allowed);
                Ok(ended.map(SupportSessionEvent::Ended).into_iter().collect())
            }
        }
    }

    fn apply(&mut self, event: &SupportSessionEvent) {
        match event {
            SupportSessionEvent::Started {
                support_session_id,
                user_id,
                signed_in,
                mode,
                support_request_id,
                reason,
                at,
                until,
            } => {
                *self = Self {
                    id: Some(*support_session_id),
                    user_id: *user_id,
                    signed_in: *signed_in,
                    mode: *mode,
                    support_request_id: *support_request_id,
                    reason: reason.clone(),
                    started_at: *at,
                    until: *until,
                    ..Self::default()
                };
            }
            SupportSessionEvent::Refused {
                support_session_id,
                user_id,
                mode,
                support_request_id,
                reason,
                why,
                at,
            } => {
                *self = Self {
                    id: Some(*support_session_id),
                    user_id: *user_id,
                    mode: *mode,
                    support_request_id: *support_request_id,
                    reason: reason.clone(),
                    started_at: *at,
                    until: *at,
                    refused: Some(*why),
                    ..Self::default()
                };
            }
            SupportSessionEvent::Viewed(_) => self.viewed = self.viewed.saturating_add(1),
            SupportSessionEvent::Denied(_) => self.denied = self.denied.saturating_add(1),
            SupportSessionEvent::Ended(ended) => self.ended = Some(*ended),
            SupportSessionEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl SupportSession {
    fn start(
        &self,
        command: &SupportSessionCommand,
        context: &SupportSessionContext,
    ) -> Result<Vec<SupportSessionEvent>, DomainError> {
        let SupportSessionCommand::Start {
            user_id,
            tier,
            signed_in,
            mode,
            support_request_id,
            sample,
            reason,
        } = command
        else {
            return Err(DomainError::not_found(Self::TYPE));
        };
        if self.id.is_some() {
            return Err(DomainError::AlreadyExists { what: Self::TYPE.into() });
        }
        let (user_id, mode, support_request_id) = (*user_id, *mode, *support_request_id);
        if mode != SupportMode::Real && support_request_id.is_some() {
            let why = "only real access is by a support request";
            return Err(DomainError::field("/request_id", "not_allowed", why));
        }
        let at = context.now;
        let until = if !supports(*tier) {
            Err(SessionRefusal::NotAllowed)
        } else {
            match mode {
                SupportMode::Mock if !sample => Err(SessionRefusal::NotTheSampleTenant),
                SupportMode::Mock | SupportMode::Redacted => Ok(at + LASTS),
                SupportMode::Real => window(support_request_id, user_id, context),
            }
        };
        Ok(vec![match until {
            Ok(until) => SupportSessionEvent::Started {
                support_session_id: context.id,
                user_id,
                signed_in: *signed_in,
                mode,
                support_request_id,
                reason: reason.clone(),
                at,
                until,
            },
            Err(why) => SupportSessionEvent::Refused {
                support_session_id: context.id,
                user_id,
                mode,
                support_request_id,
                reason: reason.clone(),
                why,
                at,
            },
        }])
    }

    /// Whether the window it is in is open; one that is in none depends on none.
    fn window_open(&self, context: &SupportSessionContext) -> bool {
        self.mode != SupportMode::Real
            || context.request.as_ref().is_some_and(|request| request.is_open(context.now))
    }

    /// Whether it has not ended, by whatever.
    fn goes_on(&self, context: &SupportSessionContext) -> bool {
        self.is_open(context.now) && self.window_open(context)
    }
}

/// Whether people of this tier support tenants.
pub fn supports(tier: Tier) -> bool {
    matches!(tier, Tier::Superuser | Tier::PlatformManager | Tier::PlatformSupport)
}

/// When the window closes that somebody names.
fn window(
    named: Option<SupportRequestId>,
    user: UserId,
    context: &SupportSessionContext,
) -> Result<DateTime<Utc>, SessionRefusal> {
    if named.is_none() {
        return Err(SessionRefusal::WindowRequired);
    }
    let request = context.request.as_ref().filter(|request| request.id.is_some());
    let request = request.ok_or(SessionRefusal::WindowUnknown)?;
    if request.requested_by != user {
        return Err(SessionRefusal::WindowOfAnother);
    }
    request.open_until.filter(|_| request.is_open(context.now)).ok_or(SessionRefusal::WindowNotOpen)
}

/// Who ends what one of the platform's people does in a tenant, or somebody as somebody else: they themselves, an owner
/// or a manager of the tenant, those who manage the platform's people, the operator.
///
/// # Errors
/// `forbidden` for everybody else.
pub(crate) fn ends(by: SupportActor, whose: UserId, tier: Option<Tier>) -> Result<Party, DomainError> {
    match by {
        SupportActor::Account(user_id)
            if user_id == whose || matches!(tier, Some(Tier::TenantOwner | Tier::TenantManager)) =>
        {
            Ok(Party::Tenant { user_id })
        }
        SupportActor::Platform { user, tier }
            if user == whose || matches!(tier, Tier::Superuser | Tier::PlatformManager) =>
        {
            Ok(Party::Platform { user_id: user })
        }
        SupportActor::Operator => Ok(Party::Operator),
        SupportActor::Account(_) | SupportActor::Platform { .. } | SupportActor::Key => {
            Err(DomainError::Forbidden { detail: "the session is somebody else's".into() })
        }
    }
}

impl_cqrs_aggregate!(SupportSession, SupportSessionEvent);
