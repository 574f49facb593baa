use chrono::TimeDelta;
use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;

const ASKER: UserId = UserId(Uuid::from_u128(1));
const OWNER: UserId = UserId(Uuid::from_u128(2));
const OTHER: UserId = UserId(Uuid::from_u128(3));

fn noon() -> DateTime<Utc> {
    "2026-11-21T12:00:00.000001Z".parse().unwrap()
}

fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

fn context(now: DateTime<Utc>) -> SupportRequestContext {
    SupportRequestContext {
        now,
        id: SupportRequestId::default(),
        actor_tier: Some(Tier::TenantOwner),
        namesake: None,
    }
}

fn at(now: DateTime<Utc>) -> TestFramework<SupportRequest> {
    TestFramework::with(context(now))
}

fn why(text: &str) -> Reason {
    Reason::new(text, "/reason").unwrap()
}

fn request(minutes: u32) -> SupportRequestCommand {
    SupportRequestCommand::Request { requested_by: ASKER, reason: why("ticket 7"), minutes }
}

fn requested() -> SupportRequestEvent {
    SupportRequestEvent::Requested {
        support_request_id: SupportRequestId::default(),
        requested_by: ASKER,
        reason: why("ticket 7"),
        minutes: 30,
        at: noon(),
        lapses_at: noon() + TimeDelta::days(1),
    }
}

fn approved() -> SupportRequestEvent {
    SupportRequestEvent::Approved { by: OWNER, from: noon(), until: noon() + minutes(30) }
}

fn ending(by: Party) -> Ending {
    Ending { by, reason: why("no need") }
}

fn approve(by: SupportActor) -> SupportRequestCommand {
    SupportRequestCommand::Approve { by, requester: Some(Email::new("sue@platform.example", "").unwrap()) }
}

fn deny(by: SupportActor) -> SupportRequestCommand {
    SupportRequestCommand::Deny { by, reason: Some(why("no need")) }
}

fn revoke(by: SupportActor) -> SupportRequestCommand {
    SupportRequestCommand::Revoke { by, reason: Some(why("no need")) }
}

const BY_OWNER: SupportActor = SupportActor::Account(OWNER);
const BY_ASKER: SupportActor = SupportActor::Platform { user: ASKER, tier: Tier::PlatformSupport };

fn state(events: &[SupportRequestEvent]) -> SupportRequest {
    let mut state = SupportRequest::default();
    events.iter().for_each(|event| state.apply(event));
    state
}

fn is_forbidden(outcome: &Result<Vec<SupportRequestEvent>, DomainError>) -> bool {
    matches!(outcome, Err(DomainError::Forbidden { .. }))
}

fn wrong_state(outcome: &Result<Vec<SupportRequestEvent>, DomainError>) -> Option<&str> {
    match outcome {
        Err(DomainError::WrongState { state, .. }) => Some(state),
        _ => None,
    }
}

#[test]
fn a_request_is_made_once_for_a_minute_to_half_an_hour() {
    at(noon()).given_no_previous_events().when(request(30)).then_expect_events(vec![requested()]);
    for wrong in [0, 31, u32::MAX] {
        at(noon()).given_no_previous_events().when(request(wrong)).then_expect_error(DomainError::field(
            "/minutes",
            "out_of_range",
            "a window is 1 to 30 minutes long",
        ));
    }
    assert!(SupportRequest::default().decide(&request(1), &context(noon())).is_ok());
    at(noon())
        .given(vec![requested()])
        .when(request(30))
        .then_expect_error(DomainError::AlreadyExists { what: "support_request".into() });
    assert!(Reason::new(" \n ", "/reason").is_err() && Reason::new(&"x".repeat(501), "/reason").is_err());
}

#[test]
fn an_owner_or_a_manager_approves_and_nobody_else() {
    at(noon()).given(vec![requested()]).when(approve(BY_OWNER)).then_expect_events(vec![approved()]);
    let waiting = state(&[requested()]);
    for tier in Tier::ALL {
        let context = SupportRequestContext { actor_tier: Some(*tier), ..context(noon()) };
        let may = matches!(tier, Tier::TenantOwner | Tier::TenantManager);
        assert_eq!(waiting.decide(&approve(BY_OWNER), &context).is_ok(), may, "{tier}");
        assert_eq!(waiting.decide(&deny(BY_OWNER), &context).is_ok(), may, "{tier}");
        assert_eq!(waiting.decide(&revoke(BY_OWNER), &context).is_ok(), may, "{tier}");
        // Whatever the platform's people are, a tenant's answer is not theirs.
        let by = SupportActor::Platform { user: OTHER, tier: *tier };
        assert!(is_forbidden(&waiting.decide(&approve(by), &context)), "{tier}");
        assert!(is_forbidden(&waiting.decide(&deny(by), &context)), "{tier}");
    }
    let gone = SupportRequestContext { actor_tier: None, ..context(noon()) };
    assert!(is_forbidden(&waiting.decide(&approve(BY_OWNER), &gone)));
    for by in [SupportActor::Key, SupportActor::Operator] {
        assert!(is_forbidden(&waiting.decide(&approve(by), &context(noon()))), "{by:?}");
        assert!(is_forbidden(&waiting.decide(&deny(by), &context(noon()))), "{by:?}");
    }
}

#[test]
fn nobody_approves_their_own_request() {
    let waiting = state(&[requested()]);
    let same_id = waiting.decide(&approve(SupportActor::Account(ASKER)), &context(noon()));
    let same_address = SupportRequestContext { namesake: Some(OWNER), ..context(noon()) };
    let same_address = waiting.decide(&approve(BY_OWNER), &same_address);
    for outcome in [same_id, same_address, waiting.decide(&approve(BY_ASKER), &context(noon()))] {
        assert!(is_forbidden(&outcome), "{outcome:?}");
    }
    // That somebody else has the address stands in nobody's way.
    let others = SupportRequestContext { namesake: Some(OTHER), ..context(noon()) };
    assert!(waiting.decide(&approve(BY_OWNER), &others).is_ok());
}

#[test]
fn nobody_is_let_in_whose_account_is_gone() {
    let command = SupportRequestCommand::Approve { by: BY_OWNER, requester: None };
    assert_eq!(wrong_state(&state(&[requested()]).decide(&command, &context(noon()))), Some("requested"));
}

#[test]
fn a_window_is_open_from_the_approval_for_its_minutes() {
    let (open, us) = (state(&[requested(), approved()]), TimeDelta::microseconds(1));
    let (close, second) = (noon() + minutes(30), TimeDelta::seconds(1));
    for (now, is_open) in [
        (noon() - us, false),
        (noon(), true),
        (close - second, true),
        (close - us, true),
        (close, false),
        (close + us, false),
        (close + second, false),
    ] {
        assert_eq!(open.is_open(now), is_open, "{now}");
        let revoked = open.decide(&revoke(BY_OWNER), &context(now));
        assert_eq!(wrong_state(&revoked), if is_open { None } else { Some("approved") }, "{now}");
    }
    assert!(!state(&[requested()]).is_open(noon()) && !SupportRequest::default().is_open(noon()));
    let revoked = SupportRequestEvent::Revoked(ending(Party::Operator));
    assert!(!state(&[requested(), approved(), revoked]).is_open(noon() + us));
}

#[test]
fn a_request_that_nobody_answers_lapses_after_a_day() {
    let (waiting, us) = (state(&[requested()]), TimeDelta::microseconds(1));
    let lapse = noon() + TimeDelta::hours(24);
    for (now, waits) in [(lapse - us, true), (lapse, false), (lapse + us, false)] {
        assert_eq!(waiting.is_waiting(now), waits);
        for command in [approve(BY_OWNER), deny(BY_OWNER), revoke(BY_ASKER)] {
            let outcome = waiting.decide(&command, &context(now));
            assert_eq!(outcome.is_ok(), waits, "{command:?}");
            assert_eq!(wrong_state(&outcome), if waits { None } else { Some("lapsed") });
        }
    }
}

#[test]
fn denying_and_revoking_need_a_reason() {
    for command in [
        SupportRequestCommand::Deny { by: BY_OWNER, reason: None },
        SupportRequestCommand::Revoke { by: BY_OWNER, reason: None },
    ] {
        at(noon()).given(vec![requested()]).when(command).then_expect_error(DomainError::ReasonRequired);
    }
    let denied = SupportRequestEvent::Denied(ending(Party::Tenant { user_id: OWNER }));
    at(noon()).given(vec![requested()]).when(deny(BY_OWNER)).then_expect_events(vec![denied]);
}

#[test]
fn either_side_takes_a_request_back_and_closes_a_window() {
    let manager = SupportActor::Platform { user: OTHER, tier: Tier::PlatformManager };
    let superuser = SupportActor::Platform { user: OTHER, tier: Tier::Superuser };
    for given in [vec![requested()], vec![requested(), approved()]] {
        for (by, party) in [
            (BY_OWNER, Party::Tenant { user_id: OWNER }),
            (BY_ASKER, Party::Platform { user_id: ASKER }),
            (manager, Party::Platform { user_id: OTHER }),
            (superuser, Party::Platform { user_id: OTHER }),
            (SupportActor::Operator, Party::Operator),
        ] {
            let revoked = SupportRequestEvent::Revoked(ending(party));
            at(noon()).given(given.clone()).when(revoke(by)).then_expect_events(vec![revoked]);
        }
        let colleague = SupportActor::Platform { user: OTHER, tier: Tier::PlatformSupport };
        for by in [colleague, SupportActor::Key] {
            assert!(is_forbidden(&state(&given).decide(&revoke(by), &context(noon()))), "{by:?}");
        }
    }
}

#[test]
fn what_was_answered_stays_answered() {
    let denied = SupportRequestEvent::Denied(ending(Party::Tenant { user_id: OWNER }));
    let revoked = SupportRequestEvent::Revoked(ending(Party::Platform { user_id: ASKER }));
    for (given, name, may_revoke) in [
        (vec![requested(), approved()], "approved", true),
        (vec![requested(), denied], "denied", false),
        (vec![requested(), revoked.clone()], "revoked", false),
        (vec![requested(), approved(), revoked], "revoked", false),
    ] {
        let state = state(&given);
        for command in [approve(BY_OWNER), deny(BY_OWNER)] {
            assert_eq!(wrong_state(&state.decide(&command, &context(noon()))), Some(name));
        }
        let outcome = state.decide(&revoke(BY_OWNER), &context(noon()));
        assert_eq!(wrong_state(&outcome), if may_revoke { None } else { Some(name) });
    }
    for command in [approve(BY_OWNER), deny(BY_OWNER), revoke(BY_OWNER), revoke(SupportActor::Operator)] {
        at(noon())
            .given_no_previous_events()
            .when(command)
            .then_expect_error(DomainError::not_found("support_request"));
    }
}
