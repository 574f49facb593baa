use chrono::TimeDelta;
use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::support_request::SupportStatus;

const WHO: UserId = UserId(Uuid::from_u128(1));
const WHOM: UserId = UserId(Uuid::from_u128(2));
const ID: HijackId = HijackId(Uuid::from_u128(3));
const REQUEST: SupportRequestId = SupportRequestId(Uuid::from_u128(4));

fn noon() -> DateTime<Utc> {
    "2026-11-21T12:00:00.000001Z".parse().unwrap()
}

fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

fn why() -> Reason {
    Reason::new("ticket 7", "/reason").unwrap()
}

/// A window of this account's that opened ten minutes before noon.
fn window(requested_by: UserId) -> Arc<SupportRequest> {
    Arc::new(SupportRequest {
        id: Some(REQUEST),
        requested_by,
        status: SupportStatus::Approved,
        approved_at: Some(noon() - minutes(10)),
        open_until: Some(noon() + minutes(20)),
        ..SupportRequest::default()
    })
}

fn context() -> HijackContext {
    HijackContext {
        now: noon(),
        id: ID,
        in_tenant: true,
        waiver: false,
        actor_tier: None,
        target_tier: Some(Tier::TenantStaff),
        request: None,
    }
}

fn start(by: By, temporary: bool) -> HijackCommand {
    HijackCommand::Start {
        by,
        signed_in: SessionId::default(),
        chained: false,
        target: WHOM,
        temporary,
        reason: why(),
    }
}

fn support() -> By {
    By::Platform { user: WHO, tier: Tier::PlatformSupport }
}

fn started(via: Via, until: DateTime<Utc>) -> HijackEvent {
    HijackEvent::Started {
        hijack_id: ID,
        by: Party::Platform { user_id: WHO },
        signed_in: SessionId::default(),
        target: WHOM,
        via,
        reason: why(),
        at: noon(),
        until,
    }
}

/// What became of an attempt.
fn attempt(command: &HijackCommand, context: &HijackContext) -> Result<Via, HijackRefusal> {
    match Hijack::default().decide(command, context).unwrap().as_slice() {
        [HijackEvent::Started { via, .. }] => Ok(*via),
        [HijackEvent::Refused { why, .. }] => Err(*why),
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    SameTenant,
    OtherTenant,
    TemporaryTenant,
    Platform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Window,
    Nothing,
    Waiver,
}

/// The rules as the product page words them, written down once more: nothing of `rules` is asked.
fn expected(who: &str, whom: &str, place: Where, leave: Leave) -> bool {
    let tenants = ["tenant_owner", "tenant_manager", "tenant_staff", "customer"];
    let exists = match place {
        Where::Platform => !tenants.contains(&whom) && !tenants.contains(&who),
        // The platform's people are in no tenant, so never in the same one; and a tenant's account reaches no other.
        Where::SameTenant => tenants.contains(&whom) && tenants.contains(&who),
        Where::OtherTenant | Where::TemporaryTenant => tenants.contains(&whom) && !tenants.contains(&who),
    };
    let approved = match place {
        Where::OtherTenant => leave != Leave::Nothing,
        Where::SameTenant | Where::TemporaryTenant | Where::Platform => true,
    };
    exists
        && match who {
            "superuser" => approved,
            "platform_support" => tenants.contains(&whom) && approved,
            "platform_sales" => place == Where::TemporaryTenant,
            "tenant_owner" => whom == "tenant_staff",
            _ => false,
        }
}

#[test]
fn the_whole_matrix() {
    let mut allowed = 0;
    for who in Tier::ALL {
        for whom in Tier::ALL {
            for place in [Where::SameTenant, Where::OtherTenant, Where::TemporaryTenant, Where::Platform] {
                for leave in [Leave::Window, Leave::Nothing, Leave::Waiver] {
                    let of_platform = who.is_platform();
                    let by =
                        if of_platform { By::Platform { user: WHO, tier: *who } } else { By::Account(WHO) };
                    // An account of a tenant asks in its own log only, where nobody of another tenant is found.
                    let foreign =
                        !of_platform && matches!(place, Where::OtherTenant | Where::TemporaryTenant);
                    // Nor are the platform's people in a tenant's log, or a tenant's in the platform's.
                    let found = !foreign && (place == Where::Platform) == whom.is_platform();
                    let context = HijackContext {
                        in_tenant: place != Where::Platform,
                        waiver: leave == Leave::Waiver,
                        actor_tier: (!of_platform).then_some(*who),
                        target_tier: found.then_some(*whom),
                        request: (leave == Leave::Window).then(|| window(WHO)),
                        ..context()
                    };
                    if of_platform && place == Where::SameTenant {
                        // There is no such case: the place says so by itself.
                        continue;
                    }
                    let outcome = attempt(&start(by, place == Where::TemporaryTenant), &context);
                    let case = format!("{who} as {whom}, {place:?}, {leave:?}: {outcome:?}");
                    assert_eq!(
                        outcome.is_ok(),
                        expected(who.as_str(), whom.as_str(), place, leave),
                        "{case}"
                    );
                    allowed += u32::from(outcome.is_ok());
                    let via = match (place, leave) {
                        (Where::SameTenant | Where::Platform, _) => Via::Tier,
                        (Where::TemporaryTenant, _) => Via::TemporaryTenant,
                        (Where::OtherTenant, Leave::Window) => Via::Window { support_request_id: REQUEST },
                        (Where::OtherTenant, _) => Via::Waiver,
                    };
                    assert!(outcome.is_err() || outcome == Ok(via), "{case}");
                    if found && *whom == Tier::Superuser && *who != Tier::Superuser {
                        assert_eq!(outcome, Err(HijackRefusal::Superuser), "{case}");
                    }
                }
            }
        }
    }
    // Superusers: 4 tiers in two kinds of tenants (with leave), and 4 of the platform; support the former; sales one kind;
    // owners one tier. Each three times, or twice where leave is needed.
    assert_eq!(allowed, (4 * 2 + 4 * 3 + 4 * 3) + (4 * 2 + 4 * 3) + 4 * 3 + 3);
}

#[test]
fn nobody_acts_as_themselves_or_from_within_another_hijack() {
    let superuser = By::Platform { user: WHO, tier: Tier::Superuser };
    let platform = HijackContext { in_tenant: false, target_tier: Some(Tier::Superuser), ..context() };
    let HijackCommand::Start { by, signed_in, temporary, reason, .. } = start(superuser, false) else {
        unreachable!()
    };
    let with = |chained, target| HijackCommand::Start {
        by,
        signed_in,
        chained,
        target,
        temporary,
        reason: reason.clone(),
    };
    assert_eq!(attempt(&with(false, WHOM), &platform), Ok(Via::Tier));
    assert_eq!(attempt(&with(false, WHO), &platform), Err(HijackRefusal::Oneself));
    assert_eq!(attempt(&with(true, WHOM), &platform), Err(HijackRefusal::Chain));
    let owner = HijackContext { actor_tier: Some(Tier::TenantOwner), ..context() };
    let own = |target| HijackCommand::Start {
        by: By::Account(WHO),
        signed_in,
        chained: false,
        target,
        temporary: true,
        reason: reason.clone(),
    };
    assert_eq!(attempt(&own(WHOM), &owner), Ok(Via::Tier));
    assert_eq!(attempt(&own(WHO), &owner), Err(HijackRefusal::Oneself));
}

#[test]
fn a_window_is_the_hijackers_own_and_ends_the_hijack() {
    let with = |request: Arc<SupportRequest>| HijackContext { request: Some(request), ..context() };
    let via = Via::Window { support_request_id: REQUEST };
    TestFramework::<Hijack>::with(with(window(WHO)))
        .given_no_previous_events()
        .when(start(support(), false))
        .then_expect_events(vec![started(via, noon() + minutes(20))]);
    let refused = Err(HijackRefusal::WindowRequired);
    assert_eq!(attempt(&start(support(), false), &with(window(WHOM))), refused, "somebody else's");
    for change in [
        |request: &mut SupportRequest| request.open_until = Some(noon()),
        |request: &mut SupportRequest| request.status = SupportStatus::Revoked,
        |request: &mut SupportRequest| request.status = SupportStatus::Requested,
        |request: &mut SupportRequest| request.approved_at = Some(noon() + TimeDelta::microseconds(1)),
    ] {
        let mut request = window(WHO);
        change(Arc::make_mut(&mut request));
        assert_eq!(attempt(&start(support(), false), &with(request)), refused);
    }
}

#[test]
fn it_lasts_half_an_hour_and_not_an_instant_longer() {
    let until = noon() + minutes(30);
    let given = || vec![started(Via::TemporaryTenant, until)];
    let at = |now| TestFramework::<Hijack>::with(HijackContext { now, ..context() });
    let viewed = Viewed { route: "/api/v1/me".into(), status: 200, resource_ids: Vec::new(), more: false };
    let instant = TimeDelta::microseconds(1);
    at(until - instant)
        .given(given())
        .when(HijackCommand::View(viewed.clone()))
        .then_expect_events(vec![HijackEvent::Viewed(viewed.clone())]);
    at(until).given(given()).when(HijackCommand::View(viewed)).then_expect_error(DomainError::SessionOver);
    at(until - instant)
        .given(given())
        .when(HijackCommand::Lapse { allowed: true })
        .then_expect_events(vec![]);
    let ended = |cause, at| vec![HijackEvent::Ended(Ended { cause, at })];
    // Whenever it is noted, it ended then.
    at(until + minutes(5))
        .given(given())
        .when(HijackCommand::Lapse { allowed: true })
        .then_expect_events(ended(EndCause::Expired, until));
    at(noon())
        .given(given())
        .when(HijackCommand::Lapse { allowed: false })
        .then_expect_events(ended(EndCause::NoLongerAllowed, noon()));
    at(until + minutes(5))
        .given([given(), ended(EndCause::Expired, until)].concat())
        .when(HijackCommand::Lapse { allowed: true })
        .then_expect_events(vec![]);
}

#[test]
fn a_closed_window_and_a_withdrawn_waiver_end_it() {
    let via = Via::Window { support_request_id: REQUEST };
    let mut closed = window(WHO);
    Arc::make_mut(&mut closed).status = SupportStatus::Revoked;
    for (via, context) in [
        (via, HijackContext { request: Some(closed), ..context() }),
        (via, context()),
        (Via::Waiver, context()),
    ] {
        TestFramework::<Hijack>::with(context)
            .given(vec![started(via, noon() + minutes(20))])
            .when(HijackCommand::Lapse { allowed: true })
            .then_expect_events(vec![HijackEvent::Ended(Ended {
                cause: EndCause::WindowClosed,
                at: noon(),
            })]);
    }
}

#[test]
fn it_is_ended_by_the_hijacker_the_house_and_those_who_manage_the_platform() {
    let given = || vec![started(Via::TemporaryTenant, noon() + minutes(30))];
    let ended = |by| vec![HijackEvent::Ended(Ended { cause: EndCause::Stopped { by }, at: noon() })];
    let at = |actor_tier| TestFramework::<Hijack>::with(HijackContext { actor_tier, ..context() });
    let platform = |user, tier| SupportActor::Platform { user, tier };
    let stop = |by| HijackCommand::End { by };
    at(None)
        .given(given())
        .when(stop(platform(WHO, Tier::PlatformSupport)))
        .then_expect_events(ended(Party::Platform { user_id: WHO }));
    at(None)
        .given(given())
        .when(stop(platform(WHOM, Tier::PlatformManager)))
        .then_expect_events(ended(Party::Platform { user_id: WHOM }));
    at(Some(Tier::TenantManager))
        .given(given())
        .when(stop(SupportActor::Account(WHOM)))
        .then_expect_events(ended(Party::Tenant { user_id: WHOM }));
    at(None).given(given()).when(stop(SupportActor::Operator)).then_expect_events(ended(Party::Operator));
    let forbidden = || DomainError::Forbidden { detail: "the session is somebody else's".into() };
    at(None).given(given()).when(stop(platform(WHOM, Tier::PlatformSupport))).then_expect_error(forbidden());
    at(Some(Tier::TenantStaff))
        .given(given())
        .when(stop(SupportActor::Account(WHOM)))
        .then_expect_error(forbidden());
    at(None).given(given()).when(stop(SupportActor::Key)).then_expect_error(forbidden());
    at(None)
        .given([given(), ended(Party::Operator)].concat())
        .when(stop(SupportActor::Operator))
        .then_expect_error(over());
}

#[test]
fn one_that_was_refused_is_none() {
    let refused = HijackEvent::Refused {
        hijack_id: ID,
        by: Party::Platform { user_id: WHO },
        target: WHOM,
        reason: why(),
        why: HijackRefusal::WindowRequired,
        at: noon(),
    };
    TestFramework::<Hijack>::with(context())
        .given_no_previous_events()
        .when(start(support(), false))
        .then_expect_events(vec![refused.clone()]);
    for command in [HijackCommand::End { by: SupportActor::Operator }, HijackCommand::Lapse { allowed: true }]
    {
        TestFramework::<Hijack>::with(context())
            .given(vec![refused.clone()])
            .when(command)
            .then_expect_error(DomainError::not_found("hijack"));
    }
}
