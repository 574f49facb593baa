use chrono::TimeDelta;
use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::support_request::SupportStatus;

const WHO: UserId = UserId(Uuid::from_u128(1));
const OTHER: UserId = UserId(Uuid::from_u128(2));
const ID: SupportSessionId = SupportSessionId(Uuid::from_u128(3));
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

fn window(requested_by: UserId) -> SupportRequest {
    SupportRequest {
        id: Some(REQUEST),
        requested_by,
        status: SupportStatus::Approved,
        approved_at: Some(noon() - minutes(10)),
        open_until: Some(noon() + minutes(20)),
        ..SupportRequest::default()
    }
}

fn context(request: Option<SupportRequest>) -> SupportSessionContext {
    SupportSessionContext { now: noon(), id: ID, request: request.map(Arc::new), actor_tier: None }
}

fn start(tier: Tier, mode: SupportMode, named: bool, sample: bool) -> SupportSessionCommand {
    SupportSessionCommand::Start {
        user_id: WHO,
        tier,
        signed_in: SessionId::default(),
        mode,
        support_request_id: named.then_some(REQUEST),
        sample,
        reason: why(),
    }
}

fn started(mode: SupportMode, until: DateTime<Utc>) -> SupportSessionEvent {
    SupportSessionEvent::Started {
        support_session_id: ID,
        user_id: WHO,
        signed_in: SessionId::default(),
        mode,
        support_request_id: (mode == SupportMode::Real).then_some(REQUEST),
        reason: why(),
        at: noon(),
        until,
    }
}

/// Until when an attempt was let in.
fn attempt(
    command: &SupportSessionCommand,
    request: Option<SupportRequest>,
) -> Result<DateTime<Utc>, SessionRefusal> {
    match SupportSession::default().decide(command, &context(request)).unwrap().as_slice() {
        [SupportSessionEvent::Started { until, .. }] => Ok(*until),
        [SupportSessionEvent::Refused { why, .. }] => Err(*why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_gets_in_and_how() {
    use SessionRefusal::{
        NotAllowed, NotTheSampleTenant, WindowNotOpen, WindowOfAnother, WindowRequired, WindowUnknown,
    };
    let half_an_hour = noon() + minutes(30);
    let support = Tier::PlatformSupport;
    assert_eq!(attempt(&start(support, SupportMode::Mock, false, true), None), Ok(half_an_hour));
    assert_eq!(attempt(&start(support, SupportMode::Mock, false, false), None), Err(NotTheSampleTenant));
    assert_eq!(attempt(&start(support, SupportMode::Redacted, false, false), None), Ok(half_an_hour));
    let real = start(support, SupportMode::Real, true, false);
    let unnamed = start(support, SupportMode::Real, false, false);
    assert_eq!(attempt(&unnamed, None), Err(WindowRequired));
    assert_eq!(attempt(&unnamed, Some(window(WHO))), Err(WindowRequired));
    assert_eq!(attempt(&real, None), Err(WindowUnknown), "another tenant's is none of this log");
    assert_eq!(attempt(&real, Some(window(OTHER))), Err(WindowOfAnother));
    assert_eq!(attempt(&real, Some(window(WHO))), Ok(noon() + minutes(20)), "it ends with the window");
    for change in [
        |request: &mut SupportRequest| request.open_until = Some(noon()),
        |request: &mut SupportRequest| request.status = SupportStatus::Revoked,
        |request: &mut SupportRequest| request.status = SupportStatus::Denied,
        |request: &mut SupportRequest| request.status = SupportStatus::Requested,
    ] {
        let mut request = window(WHO);
        change(&mut request);
        assert_eq!(attempt(&real, Some(request)), Err(WindowNotOpen));
    }
    for tier in Tier::ALL {
        for mode in SupportMode::ALL {
            let named = *mode == SupportMode::Real;
            let outcome = attempt(&start(*tier, *mode, named, true), Some(window(WHO)));
            let may = ["superuser", "platform_manager", "platform_support"].contains(&tier.as_str());
            assert_eq!(outcome.is_ok(), may, "{tier} {mode:?}");
            assert!(may || outcome == Err(NotAllowed));
        }
    }
}

#[test]
fn only_real_access_names_a_request() {
    let command = start(Tier::PlatformSupport, SupportMode::Redacted, true, false);
    let refused = SupportSession::default().decide(&command, &context(Some(window(WHO))));
    assert!(matches!(refused, Err(DomainError::Validation { .. })));
}

#[test]
fn what_is_seen_and_refused_is_noted_while_it_lasts() {
    let viewed =
        Viewed { route: "/api/v1/bookings".into(), status: 200, resource_ids: vec![ID.0], more: false };
    let denied = Denied {
        method: "POST".into(),
        route: "/api/v1/bookings".into(),
        status: 403,
        code: "support_read_only".into(),
        resource_ids: Vec::new(),
    };
    let until = noon() + minutes(20);
    let at = |now, request| {
        TestFramework::<SupportSession>::with(SupportSessionContext { now, ..context(request) })
    };
    let view = || SupportSessionCommand::View(viewed.clone());
    let given = || vec![started(SupportMode::Real, until)];
    let instant = TimeDelta::microseconds(1);
    at(until - instant, Some(window(WHO)))
        .given(given())
        .when(view())
        .then_expect_events(vec![SupportSessionEvent::Viewed(viewed.clone())]);
    at(noon(), Some(window(WHO)))
        .given(given())
        .when(SupportSessionCommand::Deny(denied.clone()))
        .then_expect_events(vec![SupportSessionEvent::Denied(denied.clone())]);
    at(until, Some(window(WHO))).given(given()).when(view()).then_expect_error(DomainError::SessionOver);
    let mut revoked = window(WHO);
    revoked.status = SupportStatus::Revoked;
    at(noon(), Some(revoked.clone())).given(given()).when(view()).then_expect_error(DomainError::SessionOver);
    at(noon(), Some(revoked))
        .given(given())
        .when(SupportSessionCommand::Lapse { allowed: true })
        .then_expect_events(vec![SupportSessionEvent::Ended(Ended {
            cause: EndCause::WindowClosed,
            at: noon(),
        })]);
    // A redacted one depends on no window.
    at(noon(), None)
        .given(vec![started(SupportMode::Redacted, until)])
        .when(view())
        .then_expect_events(vec![SupportSessionEvent::Viewed(viewed.clone())]);

    let mut session = SupportSession::default();
    for event in [
        started(SupportMode::Redacted, until),
        SupportSessionEvent::Viewed(viewed.clone()),
        SupportSessionEvent::Viewed(viewed),
        SupportSessionEvent::Denied(denied),
    ] {
        session.apply(&event);
    }
    assert_eq!((session.viewed, session.denied), (2, 1));
}

#[test]
fn a_refused_session_is_none() {
    let refused = SupportSessionEvent::Refused {
        support_session_id: ID,
        user_id: WHO,
        mode: SupportMode::Real,
        support_request_id: None,
        reason: why(),
        why: SessionRefusal::WindowRequired,
        at: noon(),
    };
    TestFramework::<SupportSession>::with(context(None))
        .given_no_previous_events()
        .when(start(Tier::Superuser, SupportMode::Real, false, false))
        .then_expect_events(vec![refused.clone()]);
    TestFramework::<SupportSession>::with(context(None))
        .given(vec![refused])
        .when(SupportSessionCommand::End { by: SupportActor::Operator })
        .then_expect_error(DomainError::not_found("support_session"));
}
