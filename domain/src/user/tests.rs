//! Accounts, given/when/then.

use chrono::{DateTime, Duration, Utc};
use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::{
    Decider as _, DomainError,
    permission::{Permission, Permissions},
};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn context() -> UserContext {
    UserContext {
        now: now(),
        id: UserId(Uuid::from_u128(1)),
        platform: false,
        actor_tier: Some(Tier::TenantOwner),
        other_admins: 0,
        role_exists: true,
        customer_exists: true,
    }
}

fn session(n: u128) -> SessionId {
    SessionId(Uuid::from_u128(n))
}

fn registered(role: impl Into<UserRole>) -> UserEvent {
    let role = role.into();
    UserEvent::Registered {
        user_id: context().id,
        email: Personal::new(Email::new("ada@example.org", "/email").unwrap()),
        name: Personal::new(Name::new("Ada", "/name").unwrap()),
        role,
        modules: BTreeSet::new(),
        customer_id: (role.tier == Tier::Customer).then(CustomerId::default),
    }
}

fn started(n: u128, minutes_ago: i64) -> UserEvent {
    UserEvent::SessionStarted {
        session_id: session(n),
        started_at: now() - Duration::minutes(minutes_ago),
        expires_at: now() + Duration::days(30),
    }
}

fn register(role: impl Into<UserRole>) -> UserCommand {
    UserCommand::Register {
        email: Email::new("ada@example.org", "/email").unwrap(),
        name: Name::new("Ada", "/name").unwrap(),
        role: role.into(),
        modules: BTreeSet::new(),
        customer_id: None,
        by: other(),
    }
}

/// Another user than the one the commands are for.
fn other() -> By {
    By::User(UserId(Uuid::from_u128(2)))
}

fn itself() -> By {
    By::User(context().id)
}

fn forbidden(result: Result<Vec<UserEvent>, DomainError>) -> bool {
    matches!(result, Err(DomainError::Forbidden { .. }))
}

#[test]
fn nobody_makes_an_account_above_their_reach() {
    for (own, asked, allowed) in [
        (Some(Tier::TenantOwner), Tier::TenantOwner, true),
        (Some(Tier::TenantManager), Tier::TenantStaff, true),
        (Some(Tier::TenantManager), Tier::TenantManager, false),
        (Some(Tier::TenantManager), Tier::TenantOwner, false),
        (Some(Tier::TenantStaff), Tier::TenantStaff, false),
        (None, Tier::TenantStaff, false),
    ] {
        let context = UserContext { actor_tier: own, ..context() };
        let decided = User::default().decide(&register(asked), &context);
        assert_eq!(decided.is_ok(), allowed, "{own:?} makes a {asked}");
        assert_eq!(forbidden(decided), !allowed);
    }
}

#[test]
fn a_tier_belongs_to_its_own_log() {
    let platform = UserContext { platform: true, actor_tier: Some(Tier::Superuser), ..context() };
    assert!(User::default().decide(&register(Tier::TenantOwner), &platform).is_err());
    let tenant = UserContext { actor_tier: Some(Tier::Superuser), ..context() };
    assert!(User::default().decide(&register(Tier::PlatformSupport), &tenant).is_err());
}

#[test]
fn the_last_owner_stays() {
    let demote = UserCommand::ChangeRole { role: Tier::TenantStaff.into(), by: other() };
    for command in [
        demote.clone(),
        UserCommand::Deactivate { by: other() },
        UserCommand::Delete { by: other() },
        UserCommand::Delete { by: itself() },
    ] {
        TestFramework::<User>::with(context())
            .given(vec![registered(Tier::TenantOwner)])
            .when(command)
            .then_expect_error(DomainError::LastAdmin);
    }
    TestFramework::<User>::with(UserContext { other_admins: 1, ..context() })
        .given(vec![registered(Tier::TenantOwner)])
        .when(demote)
        .then_expect_events(vec![UserEvent::RoleChanged {
            old: Tier::TenantOwner.into(),
            new: Tier::TenantStaff.into(),
        }]);
}

#[test]
fn nobody_deactivates_or_promotes_themselves() {
    let manager = UserContext { actor_tier: Some(Tier::TenantManager), ..context() };
    let mut user = User::default();
    user.apply(&registered(Tier::TenantManager));
    assert!(forbidden(user.decide(&UserCommand::Deactivate { by: itself() }, &manager)));
    let promote = UserCommand::ChangeRole { role: Tier::TenantOwner.into(), by: itself() };
    assert!(forbidden(user.decide(&promote, &manager)));
}

#[test]
fn past_the_cap_the_oldest_session_ends() {
    let start = UserCommand::StartSession {
        session_id: session(9),
        expires_at: now() + Duration::days(1),
        cap: 2,
        seen: 9,
    };
    TestFramework::<User>::with(context())
        .given(vec![registered(Tier::TenantStaff), started(1, 10), started(2, 30), started(3, 20)])
        .when(start)
        .then_expect_events(vec![
            UserEvent::SessionEnded { session_id: session(2), why: SessionEnd::Cap },
            UserEvent::SessionEnded { session_id: session(3), why: SessionEnd::Cap },
            UserEvent::SessionStarted {
                session_id: session(9),
                started_at: now(),
                expires_at: now() + Duration::days(1),
            },
        ]);
}

#[test]
fn a_session_whose_time_is_over_does_not_count() {
    let over = UserEvent::SessionStarted {
        session_id: session(1),
        started_at: now() - Duration::days(31),
        expires_at: now() - Duration::days(1),
    };
    let start = UserCommand::StartSession {
        session_id: session(9),
        expires_at: now() + Duration::days(1),
        cap: 2,
        seen: 9,
    };
    TestFramework::<User>::with(context())
        .given(vec![registered(Tier::TenantStaff), over, started(2, 5)])
        .when(start)
        .then_expect_events(vec![
            UserEvent::SessionEnded { session_id: session(1), why: SessionEnd::Expired },
            UserEvent::SessionStarted {
                session_id: session(9),
                started_at: now(),
                expires_at: now() + Duration::days(1),
            },
        ]);
}

#[test]
fn a_new_password_ends_the_other_sessions() {
    TestFramework::<User>::with(context())
        .given(vec![registered(Tier::TenantStaff), started(1, 10), started(2, 5)])
        .when(UserCommand::ChangePassword { keep: Some(session(2)) })
        .then_expect_events(vec![
            UserEvent::SessionEnded { session_id: session(1), why: SessionEnd::PasswordChanged },
            UserEvent::PasswordChanged { reset_id: None },
        ]);
}

#[test]
fn a_request_for_a_new_password_is_used_once() {
    let reset_id = ResetId(Uuid::from_u128(5));
    let requested = |minutes| UserEvent::PasswordResetRequested {
        reset_id,
        by: ResetBy::Link,
        expires_at: now() + Duration::minutes(minutes),
    };
    let reset = UserCommand::ResetPassword { reset_id };
    TestFramework::<User>::with(context())
        .given(vec![registered(Tier::TenantStaff), started(1, 10), requested(5)])
        .when(reset.clone())
        .then_expect_events(vec![
            UserEvent::SessionEnded { session_id: session(1), why: SessionEnd::PasswordChanged },
            UserEvent::PasswordChanged { reset_id: Some(reset_id) },
        ]);
    let used = DomainError::wrong_state("used", "the request has been used or has expired");
    for events in [
        vec![registered(Tier::TenantStaff)],
        vec![registered(Tier::TenantStaff), requested(0)],
        vec![registered(Tier::TenantStaff), requested(5), UserEvent::PasswordChanged { reset_id: None }],
    ] {
        TestFramework::<User>::with(context())
            .given(events)
            .when(reset.clone())
            .then_expect_error(used.clone());
    }
}

#[test]
fn a_sign_in_that_began_with_the_old_password_is_refused() {
    let start = |seen| UserCommand::StartSession {
        session_id: session(1),
        expires_at: now() + Duration::days(1),
        cap: 2,
        seen,
    };
    let mut user = User::default();
    user.apply(&registered(Tier::TenantStaff));
    assert!(user.decide(&start(1), &context()).is_ok());
    user.apply(&UserEvent::PasswordChanged { reset_id: None });
    assert!(matches!(user.decide(&start(1), &context()), Err(DomainError::WrongState { .. })));
    assert!(user.decide(&start(2), &context()).is_ok());
}

#[test]
fn letters_to_an_old_address_open_nothing() {
    let (email, resets) = (Email::new("new@example.org", "/email").unwrap(), 1_u128..=9);
    let requested = |id| UserEvent::PasswordResetRequested {
        reset_id: ResetId(Uuid::from_u128(id)),
        by: ResetBy::Link,
        expires_at: now() + Duration::days(1),
    };
    let mut user = User::default();
    user.apply(&registered(Tier::TenantStaff));
    resets.for_each(|id| user.apply(&requested(id)));
    assert_eq!(user.resets.keys().map(|id| id.0.as_u128()).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    let update = UserCommand::Update { email: Some(email), name: None, by: By::Operator };
    for event in user.decide(&update, &context()).unwrap() {
        user.apply(&event);
    }
    assert!(user.resets.is_empty());
    user.status = UserStatus::Invited;
    let again = UserCommand::Update {
        email: Some(Email::new("other@example.org", "/email").unwrap()),
        name: None,
        by: By::Operator,
    };
    assert!(matches!(user.decide(&again, &context()), Err(DomainError::WrongState { .. })));
}

#[test]
fn a_key_gives_no_account_more_than_it_has() {
    let users: Permissions = ["users:create:tenant", "users:update:tenant"]
        .into_iter()
        .map(|text| text.parse::<Permission>().unwrap())
        .collect();
    let narrow = ManagedTiers::of_key(Tier::TenantOwner, &users);
    assert!(Tier::ALL.iter().all(|tier| !narrow.contains(*tier)));
    let owners = ManagedTiers::of_key(Tier::TenantOwner, &Tier::TenantOwner.permissions());
    let managers = ManagedTiers::of_key(Tier::TenantManager, &Tier::TenantManager.permissions());
    for (tier, owner, manager) in [
        (Tier::Superuser, false, false),
        (Tier::TenantOwner, true, false),
        (Tier::TenantManager, true, false),
        (Tier::TenantStaff, true, true),
        (Tier::Customer, true, true),
    ] {
        assert_eq!((owners.contains(tier), managers.contains(tier)), (owner, manager), "{tier}");
    }
}

#[test]
fn a_deactivated_account_cannot_sign_in_or_reset() {
    let mut user = User::default();
    user.apply(&registered(Tier::TenantStaff));
    user.apply(&UserEvent::Deactivated);
    let reset_id = ResetId::default();
    for command in [
        UserCommand::StartSession { session_id: session(1), expires_at: now(), cap: 1, seen: 9 },
        UserCommand::RequestReset { reset_id, by: ResetBy::Code, expires_at: now() },
        UserCommand::ResetPassword { reset_id },
        UserCommand::ChangePassword { keep: None },
    ] {
        assert!(matches!(user.decide(&command, &context()), Err(DomainError::WrongState { .. })));
    }
}

#[test]
fn an_invitation_is_accepted_once_and_in_time() {
    let invited = |minutes| UserEvent::Invited {
        user_id: context().id,
        email: Personal::new(Email::new("ada@example.org", "/email").unwrap()),
        name: Personal::new(Name::new("Ada", "/name").unwrap()),
        role: Tier::TenantStaff.into(),
        modules: BTreeSet::from([Module::Reception]),
        customer_id: None,
        until: now() + Duration::minutes(minutes),
    };
    let accept = UserCommand::AcceptInvitation { name: None };
    let accepted = UserEvent::InvitationAccepted { user_id: context().id, name: None };
    TestFramework::<User>::with(context())
        .given(vec![invited(1)])
        .when(accept.clone())
        .then_expect_events(vec![accepted.clone()]);
    for events in [vec![invited(0)], vec![invited(1), accepted]] {
        let mut user = User::default();
        events.iter().for_each(|event| user.apply(event));
        assert!(matches!(user.decide(&accept, &context()), Err(DomainError::WrongState { .. })));
    }
    TestFramework::<User>::with(context())
        .given(vec![invited(1), UserEvent::InvitationRevoked { user_id: context().id }])
        .when(accept)
        .then_expect_error(DomainError::not_found("user"));
}

#[test]
fn a_deleted_account_frees_its_address_and_is_gone() {
    let mut user = User::default();
    user.apply(&registered(Tier::TenantStaff));
    assert_eq!(user.unique_keys(), vec![("email", "ada@example.org".to_owned())]);
    user.apply(&UserEvent::Deleted { user_id: context().id });
    assert!(user.unique_keys().is_empty());
    let again = user.decide(&UserCommand::Activate { by: other() }, &context());
    assert_eq!(again, Err(DomainError::not_found("user")));
}

#[test]
fn what_belongs_to_staff_goes_with_being_staff() {
    let mut user = User::default();
    user.apply(&registered(Tier::TenantStaff));
    user.apply(&UserEvent::Assigned {
        modules: BTreeSet::from([Module::Reports]),
        resources: BTreeSet::new(),
    });
    let role = UserRole::from(Tier::TenantManager);
    let events = user.decide(&UserCommand::ChangeRole { role, by: other() }, &context()).unwrap();
    events.iter().for_each(|event| user.apply(event));
    assert!(user.modules.is_empty() && user.role == role);
}
