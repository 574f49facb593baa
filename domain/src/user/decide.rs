//! The rules of accounts.

use chrono::{DateTime, Utc};

use super::{By, MAX_ASSIGNED, SessionEnd, User, UserCommand, UserEvent, UserRole, UserStatus};
use crate::{
    Decider, DomainError, Personal, PersonalVisitor, SessionId, UserId,
    permission::Tier,
    text::{Email, Name},
};

/// What a decision about a user needs to know.
#[derive(Clone, Debug)]
pub struct UserContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The user's id.
    pub id: UserId,
    /// Whether the log is the platform's own.
    pub platform: bool,
    /// The tier of the user who asks, as it is now; `None` when they may not do anything any more.
    pub actor_tier: Option<Tier>,
    /// Active accounts of the highest tier, without this one.
    pub other_admins: u32,
    /// Whether the role that is asked for, if one of the tenant's own is, can be given.
    pub role_exists: bool,
    /// Whether the customer that is named, if one is, exists.
    pub customer_exists: bool,
}

impl Decider for User {
    const TYPE: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Context = UserContext;

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        let Some(id) = self.id else { return };
        visit("email", id.into(), &mut self.email);
        visit("name", id.into(), &mut self.name);
    }

    fn decide(&self, command: &UserCommand, context: &UserContext) -> Result<Vec<UserEvent>, DomainError> {
        let user_id = context.id;
        let made = matches!(command, UserCommand::Register { .. } | UserCommand::Invite { .. });
        if made && self.id.is_some() {
            return Err(DomainError::AlreadyExists { what: Self::TYPE.into() });
        }
        if !made && (self.id.is_none() || self.status == UserStatus::Deleted) {
            return Err(DomainError::not_found(Self::TYPE));
        }
        match command {
            UserCommand::Register { email, name, role, modules, customer_id, by } => {
                may(*by, role.tier, context)?;
                check_role(*role, modules.is_empty(), customer_id.is_some(), context)?;
                Ok(vec![UserEvent::Registered {
                    user_id,
                    email: Personal::new(email.clone()),
                    name: Personal::new(name.clone()),
                    role: *role,
                    modules: modules.clone(),
                    customer_id: *customer_id,
                }])
            }
            UserCommand::Invite { email, name, role, modules, customer_id, until, by } => {
                may(*by, role.tier, context)?;
                check_role(*role, modules.is_empty(), customer_id.is_some(), context)?;
                Ok(vec![UserEvent::Invited {
                    user_id,
                    email: Personal::new(email.clone()),
                    name: Personal::new(name.clone()),
                    role: *role,
                    modules: modules.clone(),
                    customer_id: *customer_id,
                    until: *until,
                }])
            }
            UserCommand::AcceptInvitation { name } => match (self.status, self.invited_until) {
                (UserStatus::Invited, Some(until)) if context.now < until => {
                    Ok(vec![UserEvent::InvitationAccepted { user_id, name: name.clone().map(Personal::new) }])
                }
                (UserStatus::Invited, _) => {
                    Err(DomainError::wrong_state("expired", "the invitation has expired"))
                }
                _ => Err(self.is("the invitation has been accepted")),
            },
            UserCommand::RevokeInvitation { by } => {
                may(*by, self.role.tier, context)?;
                if self.status != UserStatus::Invited {
                    return Err(self.is("there is no open invitation"));
                }
                Ok(vec![UserEvent::InvitationRevoked { user_id }])
            }
            UserCommand::Update { email, name, by } => {
                if *by != By::User(user_id) {
                    may(*by, self.role.tier, context)?;
                }
                let events = self.updated(user_id, email.as_ref(), name.as_ref());
                let moves = |event: &UserEvent| matches!(event, UserEvent::Updated { email: Some(_), .. });
                if self.status == UserStatus::Invited && events.iter().any(moves) {
                    return Err(self.is("the invitation went to this address: take it back and send another"));
                }
                Ok(events)
            }
            UserCommand::ChangeRole { role, by } => self.change_role(*role, *by, context),
            UserCommand::Assign { modules, resources, by } => {
                self.may_of_others(*by, context)?;
                let resources = resources.clone().unwrap_or_else(|| self.assigned.clone());
                if resources.len() > MAX_ASSIGNED {
                    return Err(DomainError::field("/resource_ids", "too_many", "too many resources"));
                }
                if self.role.tier != Tier::TenantStaff && !(modules.is_empty() && resources.is_empty()) {
                    return Err(self.is("only staff have modules and resources assigned"));
                }
                if *modules == self.modules && resources == self.assigned {
                    return Ok(Vec::new());
                }
                Ok(vec![UserEvent::Assigned { modules: modules.clone(), resources }])
            }
            UserCommand::Deactivate { by } => {
                self.keep_an_admin(context)?;
                self.may_of_others(*by, context)?;
                match self.status {
                    UserStatus::Deactivated => Ok(Vec::new()),
                    UserStatus::Active => {
                        let mut events = self.end_sessions(None, SessionEnd::AccountClosed);
                        events.push(UserEvent::Deactivated);
                        Ok(events)
                    }
                    UserStatus::Invited | UserStatus::Deleted => {
                        Err(self.is("the invitation can be taken back instead"))
                    }
                }
            }
            UserCommand::Activate { by } => {
                self.may_of_others(*by, context)?;
                match self.status {
                    UserStatus::Active => Ok(Vec::new()),
                    UserStatus::Deactivated => Ok(vec![UserEvent::Activated]),
                    UserStatus::Invited | UserStatus::Deleted => {
                        Err(self.is("the invitation has not been accepted"))
                    }
                }
            }
            UserCommand::Delete { by } => {
                self.keep_an_admin(context)?;
                if *by != By::User(user_id) {
                    may(*by, self.role.tier, context)?;
                }
                let mut events = self.end_sessions(None, SessionEnd::AccountClosed);
                events.push(UserEvent::Deleted { user_id });
                Ok(events)
            }
            UserCommand::StartSession { session_id, expires_at, cap, seen } => {
                if *seen < self.password_since {
                    return Err(self.is("the password was changed meanwhile"));
                }
                self.start_session(*session_id, *expires_at, *cap, context.now)
            }
            UserCommand::EndSession { session_id, why } => {
                if !self.sessions.contains_key(session_id) {
                    return Err(DomainError::not_found("session"));
                }
                Ok(vec![UserEvent::SessionEnded { session_id: *session_id, why: *why }])
            }
            UserCommand::ChangePassword { keep } => {
                self.must_be_active()?;
                let mut events = self.end_sessions(*keep, SessionEnd::PasswordChanged);
                events.push(UserEvent::PasswordChanged { reset_id: None });
                Ok(events)
            }
            UserCommand::SetPassword => {
                let mut events = self.end_sessions(None, SessionEnd::PasswordChanged);
                events.push(UserEvent::PasswordChanged { reset_id: None });
                Ok(events)
            }
            UserCommand::RequestReset { reset_id, by, expires_at } => {
                self.must_be_active()?;
                Ok(vec![UserEvent::PasswordResetRequested {
                    reset_id: *reset_id,
                    by: *by,
                    expires_at: *expires_at,
                }])
            }
            UserCommand::ResetPassword { reset_id } => {
                self.must_be_active()?;
                if self.resets.get(reset_id).is_none_or(|until| context.now >= *until) {
                    return Err(DomainError::wrong_state("used", "the request has been used or has expired"));
                }
                let mut events = self.end_sessions(None, SessionEnd::PasswordChanged);
                events.push(UserEvent::PasswordChanged { reset_id: Some(*reset_id) });
                Ok(events)
            }
        }
    }

    fn apply(&mut self, event: &UserEvent) {
        self.fold(event);
    }
}

/// Whether whoever asks may manage accounts of this tier, now.
fn may(by: By, tier: Tier, context: &UserContext) -> Result<(), DomainError> {
    let allowed = match by {
        By::Operator => true,
        By::Key(managed) => managed.contains(tier),
        By::User(_) => context.actor_tier.is_some_and(|own| own.may_manage(tier)),
    };
    if allowed { Ok(()) } else { Err(DomainError::Forbidden { detail: format!("may not manage a {tier}") }) }
}

fn check_role(
    role: UserRole,
    no_modules: bool,
    is_customer: bool,
    context: &UserContext,
) -> Result<(), DomainError> {
    let refuse = |pointer: &str, code: &str, detail: &str| Err(DomainError::field(pointer, code, detail));
    if role.tier.is_platform() != context.platform {
        return refuse(
            "/role",
            "wrong_log",
            "the platform's roles and a tenant's are given in their own places",
        );
    }
    if role.role_id.is_some() && role.tier != Tier::TenantStaff {
        return refuse("/role", "not_staff", "a role of the tenant's own is a role of staff");
    }
    if role.role_id.is_some() && !context.role_exists {
        return refuse("/role", "unknown_role", "no such role");
    }
    if !no_modules && role.tier != Tier::TenantStaff {
        return refuse("/modules", "not_staff", "only staff have modules assigned");
    }
    if is_customer != (role.tier == Tier::Customer) {
        return refuse(
            "/customer_id",
            "customer_only",
            "an account of a customer, and no other, names the customer",
        );
    }
    if is_customer && !context.customer_exists {
        return refuse("/customer_id", "unknown_customer", "no such customer");
    }
    Ok(())
}

impl User {
    fn is(&self, detail: &str) -> DomainError {
        DomainError::wrong_state(self.status.as_str(), detail)
    }

    fn must_be_active(&self) -> Result<(), DomainError> {
        if self.status == UserStatus::Active { Ok(()) } else { Err(self.is("the account is not active")) }
    }

    /// What nobody does to themselves.
    fn may_of_others(&self, by: By, context: &UserContext) -> Result<(), DomainError> {
        if by == By::User(context.id) {
            return Err(DomainError::Forbidden { detail: "nobody does this to their own account".into() });
        }
        may(by, self.role.tier, context)
    }

    /// That nobody would be left is said first: of two owners who demote each other the second is one no more.
    fn keep_an_admin(&self, context: &UserContext) -> Result<(), DomainError> {
        if self.is_active_admin() && context.other_admins == 0 {
            return Err(DomainError::LastAdmin);
        }
        Ok(())
    }

    fn change_role(
        &self,
        role: UserRole,
        by: By,
        context: &UserContext,
    ) -> Result<Vec<UserEvent>, DomainError> {
        if role.tier != self.role.tier {
            self.keep_an_admin(context)?;
        }
        may(by, self.role.tier, context)?;
        may(by, role.tier, context)?;
        check_role(role, true, self.customer_id.is_some() && role.tier == Tier::Customer, context)?;
        if role == self.role {
            return Ok(Vec::new());
        }
        let mut events = vec![UserEvent::RoleChanged { old: self.role, new: role }];
        // What belongs to staff goes with being staff.
        if role.tier != Tier::TenantStaff && !(self.modules.is_empty() && self.assigned.is_empty()) {
            events.push(UserEvent::Assigned { modules: Default::default(), resources: Default::default() });
        }
        Ok(events)
    }

    fn updated(&self, user_id: UserId, email: Option<&Email>, name: Option<&Name>) -> Vec<UserEvent> {
        let email = email.map(|email| Personal::new(email.clone())).filter(|email| *email != self.email);
        let name = name.map(|name| Personal::new(name.clone())).filter(|name| *name != self.name);
        if email.is_none() && name.is_none() {
            return Vec::new();
        }
        vec![UserEvent::Updated { user_id, email, name }]
    }

    fn end_sessions(&self, keep: Option<SessionId>, why: SessionEnd) -> Vec<UserEvent> {
        let ended = self.sessions.keys().filter(|session| Some(**session) != keep);
        ended.map(|session| UserEvent::SessionEnded { session_id: *session, why }).collect()
    }

    /// A cap never refuses: the oldest sessions make room. Those whose time is over do not count.
    fn start_session(
        &self,
        session_id: SessionId,
        expires_at: DateTime<Utc>,
        cap: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, DomainError> {
        self.must_be_active()?;
        if self.sessions.contains_key(&session_id) {
            return Err(DomainError::AlreadyExists { what: "session".into() });
        }
        let ended = |why| move |session_id| UserEvent::SessionEnded { session_id, why };
        let over = self.sessions.iter().filter(|(_, session)| session.expires_at <= now);
        let mut events: Vec<UserEvent> = over.map(|(id, _)| ended(SessionEnd::Expired)(*id)).collect();
        let mut live: Vec<(DateTime<Utc>, SessionId)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.expires_at > now)
            .map(|(id, session)| (session.started_at, *id))
            .collect();
        live.sort_unstable();
        let room = usize::try_from(cap.max(1)).unwrap_or(usize::MAX) - 1;
        let oldest = live.len().saturating_sub(room);
        events.extend(live[..oldest].iter().map(|(_, id)| ended(SessionEnd::Cap)(*id)));
        events.push(UserEvent::SessionStarted { session_id, started_at: now, expires_at });
        Ok(events)
    }
}
