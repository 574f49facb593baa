//! The rules of permission grants.

use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::permission::{ManagedTiers, Module};

const MANAGER: UserId = UserId(Uuid::from_u128(1));
const STAFF: UserId = UserId(Uuid::from_u128(2));

fn at(minutes: i64) -> DateTime<Utc> {
    "2026-11-21T10:00:00Z".parse::<DateTime<Utc>>().unwrap() + Duration::minutes(minutes)
}

fn microsecond() -> Duration {
    Duration::microseconds(1)
}

fn holder(tier: Tier) -> Holder {
    Holder { tier, held: tier.with([Module::Housekeeping], None) }
}

/// A manager asks; the grantee is staff.
fn context(now: DateTime<Utc>) -> PermissionGrantContext {
    PermissionGrantContext {
        now,
        id: GrantId::default(),
        reason: Some("the desk is ill".into()),
        actor: Some(holder(Tier::TenantManager)),
        grantee: Some(holder(Tier::TenantStaff)),
    }
}

fn permission(text: &str) -> Permission {
    text.parse().unwrap()
}

fn give(text: &str, minutes: u32, by: By) -> PermissionGrantCommand {
    PermissionGrantCommand::Grant { grantee: STAFF, permission: permission(text), minutes, by }
}

fn given(minutes: i64) -> PermissionGrantEvent {
    PermissionGrantEvent::Granted(Grant {
        grant_id: GrantId::default(),
        grantor: Some(MANAGER),
        grantee: STAFF,
        permission: permission("bookings:update:tenant"),
        reason: "the desk is ill".into(),
        granted_at: at(0),
        expires_at: at(minutes),
    })
}

fn revoke(by: By) -> PermissionGrantCommand {
    PermissionGrantCommand::Revoke { by, if_active: false }
}

fn revoked(by: Option<UserId>) -> PermissionGrantEvent {
    PermissionGrantEvent::Revoked(Revocation { revoked_by: by, reason: "the desk is ill".into() })
}

fn decided(
    command: &PermissionGrantCommand,
    context: &PermissionGrantContext,
) -> Result<PermissionGrantEvent, DomainError> {
    PermissionGrant::default().decide(command, context).map(|events| {
        assert_eq!(events.len(), 1);
        events[0].clone()
    })
}

/// What a refusal points at, or `forbidden`.
fn why<T: std::fmt::Debug>(refused: Result<T, DomainError>) -> String {
    match refused.unwrap_err() {
        DomainError::Validation { errors } => errors[0].code.clone(),
        DomainError::Forbidden { .. } => "forbidden".into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_grant_says_who_whom_what_why_and_until_when() {
    TestFramework::<PermissionGrant>::with(context(at(0)))
        .given_no_previous_events()
        .when(give("bookings:update:tenant", 30, By::User(MANAGER)))
        .then_expect_events(vec![given(30)]);
    TestFramework::<PermissionGrant>::with(context(at(0)))
        .given(vec![given(30)])
        .when(give("bookings:update:tenant", 30, By::User(MANAGER)))
        .then_expect_error(DomainError::AlreadyExists { what: "permission_grant".into() });
}

#[test]
fn a_grant_holds_for_a_minute_to_a_day() {
    for (minutes, right) in [(0, false), (1, true), (1_440, true), (1_441, false), (u32::MAX, false)] {
        let answer = decided(&give("bookings:update:tenant", minutes, By::User(MANAGER)), &context(at(0)));
        match answer {
            Ok(event) => assert_eq!((event, right), (given(minutes.into()), true)),
            Err(error) => assert_eq!((why::<()>(Err(error)).as_str(), right), ("out_of_range", false)),
        }
    }
}

#[test]
fn a_reason_is_required_of_both() {
    for reason in [None, Some(String::new()), Some(" \n".into())] {
        let context = PermissionGrantContext { reason, ..context(at(0)) };
        let give = give("bookings:update:tenant", 30, By::User(MANAGER));
        assert_eq!(decided(&give, &context), Err(DomainError::ReasonRequired));
        TestFramework::<PermissionGrant>::with(context)
            .given(vec![given(30)])
            .when(revoke(By::User(MANAGER)))
            .then_expect_error(DomainError::ReasonRequired);
    }
}

#[test]
fn a_grant_is_active_up_to_the_microsecond_before_its_end() {
    let mut grant = PermissionGrant::default();
    assert_eq!(grant.state(at(0)), None);
    grant.apply(&given(30));
    for (now, state) in [
        (at(0), GrantState::Active),
        (at(30) - microsecond(), GrantState::Active),
        (at(30), GrantState::Expired),
        (at(30) + microsecond(), GrantState::Expired),
    ] {
        assert_eq!(grant.state(now), Some(state), "{now}");
    }
    grant.apply(&revoked(None));
    for now in [at(0), at(30), at(31)] {
        assert_eq!(grant.state(now), Some(GrantState::Revoked), "{now}");
    }
}

#[test]
fn a_grant_is_revoked_once_and_within_its_time() {
    let revoke = || revoke(By::User(MANAGER));
    TestFramework::<PermissionGrant>::with(context(at(30) - microsecond()))
        .given(vec![given(30)])
        .when(revoke())
        .then_expect_events(vec![revoked(Some(MANAGER))]);
    TestFramework::<PermissionGrant>::with(context(at(30)))
        .given(vec![given(30)])
        .when(revoke())
        .then_expect_error(DomainError::wrong_state("expired", "the grant has run out"));
    TestFramework::<PermissionGrant>::with(context(at(1)))
        .given(vec![given(30), revoked(None)])
        .when(revoke())
        .then_expect_error(DomainError::wrong_state("revoked", "the grant has been revoked"));
    TestFramework::<PermissionGrant>::with(context(at(1)))
        .given_no_previous_events()
        .when(revoke())
        .then_expect_error(DomainError::not_found("permission_grant"));
}

#[test]
fn who_wants_all_ended_is_not_refused_for_one_that_is_over() {
    let all = || PermissionGrantCommand::Revoke { by: By::Operator, if_active: true };
    let test = |now| TestFramework::<PermissionGrant>::with(context(now));
    test(at(1)).given(vec![given(30)]).when(all()).then_expect_events(vec![revoked(None)]);
    test(at(30)).given(vec![given(30)]).when(all()).then_expect_events(vec![]);
    test(at(1)).given(vec![given(30), revoked(None)]).when(all()).then_expect_events(vec![]);
}

#[test]
fn people_grant_and_the_operator_does_but_no_key_and_nobody_to_themselves() {
    let give = |by| decided(&give("bookings:update:tenant", 30, by), &context(at(0)));
    assert!(give(By::User(MANAGER)).is_ok() && give(By::Operator).is_ok());
    let all = ManagedTiers::of_key(Tier::TenantOwner, &Tier::TenantOwner.permissions());
    assert_eq!(why(give(By::Key(all))), "forbidden");
    assert_eq!(why(give(By::User(STAFF))), "forbidden");
    let gone = PermissionGrantContext { actor: None, ..context(at(0)) };
    let asked = super::tests::give("bookings:update:tenant", 30, By::User(MANAGER));
    assert_eq!(why(decided(&asked, &gone)), "forbidden");
    let nobody = PermissionGrantContext { grantee: None, ..context(at(0)) };
    assert_eq!(why(decided(&asked, &nobody)), "unknown_user");
}

#[test]
fn owners_grant_to_managers_and_staff_and_managers_to_staff() {
    for grantor in Tier::ALL {
        // What they hold is not the question here.
        let by = Holder { tier: *grantor, held: Tier::TenantOwner.permissions() };
        for grantee in Tier::ALL {
            let may = match grantor {
                Tier::TenantOwner => matches!(grantee, Tier::TenantManager | Tier::TenantStaff),
                Tier::TenantManager => *grantee == Tier::TenantStaff,
                // Superusers manage everybody's accounts; they have none in a tenant's log.
                Tier::Superuser => is_grantee(*grantee),
                _ => false,
            };
            let found = check(&by, *grantee, permission("bookings:update:tenant"));
            assert_eq!(found.is_ok(), may, "{grantor} to {grantee}");
        }
    }
}

#[test]
fn nobody_grants_what_they_do_not_hold_or_to_more_than_they_do() {
    let (owner, manager) = (holder(Tier::TenantOwner), holder(Tier::TenantManager));
    let narrow = Holder { tier: Tier::TenantManager, held: Module::Housekeeping.permissions() };
    let to = |by: &Holder, whom, text| check(by, whom, permission(text));
    assert!(to(&owner, Tier::TenantManager, "settings:update:tenant").is_ok());
    assert!(to(&manager, Tier::TenantStaff, "bookings:read:assigned").is_ok());
    assert!(to(&narrow, Tier::TenantStaff, "bookings:read:assigned").is_ok());
    assert_eq!(why(to(&narrow, Tier::TenantStaff, "bookings:read:tenant")), "forbidden");
    assert_eq!(why(to(&narrow, Tier::TenantStaff, "bookings:update:assigned")), "forbidden");
    // Nobody at all does this to that.
    assert_eq!(why(to(&owner, Tier::TenantManager, "availability:delete:tenant")), "forbidden");
    assert_eq!(why(to(&Holder::operator(), Tier::TenantManager, "tenants:read:tenant")), "forbidden");
}

#[test]
fn staff_are_granted_nothing_that_manages_the_tenant() {
    let owner = holder(Tier::TenantOwner);
    for held in owner.held.iter() {
        let managing = [
            "users",
            "roles",
            "api_keys",
            "permission_grants",
            "domains",
            "settings",
            "secrets",
            "support",
            "audit_exports",
            "legal_holds",
            "erasures",
        ]
        .contains(&held.resource.as_str());
        let answer = check(&owner, Tier::TenantStaff, held);
        assert_eq!(answer.is_err(), managing, "{held}");
        if managing {
            assert_eq!(why(answer), "above_staff", "{held}");
        }
        assert!(check(&owner, Tier::TenantManager, held).is_ok(), "{held}");
    }
}

#[test]
fn a_grant_is_for_a_part_that_there_is() {
    for text in [
        "bookings:update:own",
        "customers:read:own",
        "permission_grants:read:own",
        "customers:read:assigned",
        "bookings:read:platform",
        "tenants:read:platform",
        "offerings:read:own",
    ] {
        let owner = holder(Tier::TenantOwner);
        assert_eq!(why(check(&owner, Tier::TenantStaff, permission(text))), "not_grantable", "{text}");
        assert_eq!(why(check(&Holder::operator(), Tier::TenantManager, permission(text))), "not_grantable");
    }
}

#[test]
fn the_grantor_revokes_and_whoever_manages_the_grantee_and_nobody_else() {
    let revoked = |by, actor: Option<Tier>, grantee: Option<Tier>| {
        let mut grant = PermissionGrant::default();
        grant.apply(&given(30));
        let context = PermissionGrantContext {
            actor: actor.map(holder),
            grantee: grantee.map(holder),
            ..context(at(1))
        };
        grant.decide(&revoke(by), &context).is_ok()
    };
    let (staff, other) = (Some(Tier::TenantStaff), By::User(UserId(Uuid::from_u128(3))));
    assert!(revoked(By::User(MANAGER), Some(Tier::TenantStaff), staff), "the grantor, whatever they are now");
    assert!(
        revoked(By::User(MANAGER), Some(Tier::TenantManager), None),
        "the grantor, of an account that is gone"
    );
    assert!(!revoked(By::User(MANAGER), None, staff), "a grantor who is gone");
    assert!(
        revoked(other, Some(Tier::TenantOwner), staff) && revoked(other, Some(Tier::TenantManager), staff)
    );
    assert!(!revoked(other, Some(Tier::TenantManager), Some(Tier::TenantManager)));
    assert!(!revoked(other, Some(Tier::TenantStaff), staff) && !revoked(By::User(STAFF), staff, staff));
    assert!(revoked(By::Operator, None, None));
    let all = ManagedTiers::of_key(Tier::TenantOwner, &Tier::TenantOwner.permissions());
    let none = ManagedTiers::of_key(Tier::TenantOwner, &Permissions::default());
    assert!(revoked(By::Key(all), None, staff) && !revoked(By::Key(none), None, staff));
}
