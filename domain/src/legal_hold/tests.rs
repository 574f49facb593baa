use cqrs_es::test::TestFramework;

use super::*;

fn context() -> LegalHoldContext {
    LegalHoldContext {
        now: DateTime::UNIX_EPOCH,
        id: HoldId::default(),
        reason: Some("case 7".into()),
        customer: Kept::Everybody,
    }
}

fn held(from_position: Option<i64>) -> Held {
    Held {
        hold_id: HoldId::default(),
        name: Name::new("Case 7", "").unwrap(),
        customer_id: None,
        from_position,
        reason: "case 7".into(),
        placed_at: DateTime::UNIX_EPOCH,
    }
}

fn place(from_position: Option<i64>) -> LegalHoldCommand {
    LegalHoldCommand::Place { name: Name::new("Case 7", "").unwrap(), customer_id: None, from_position }
}

fn released() -> LegalHoldEvent {
    LegalHoldEvent::Released(Release { reason: "case 7".into(), released_at: DateTime::UNIX_EPOCH })
}

#[test]
fn a_hold_is_placed_once_with_a_reason() {
    let test = |context| TestFramework::<LegalHold>::with(context);
    test(context())
        .given_no_previous_events()
        .when(place(Some(5)))
        .then_expect_events(vec![LegalHoldEvent::Placed(held(Some(5)))]);
    test(context())
        .given(vec![LegalHoldEvent::Placed(held(None))])
        .when(place(None))
        .then_expect_error(DomainError::AlreadyExists { what: "legal_hold".into() });
    test(LegalHoldContext { reason: Some(" ".into()), ..context() })
        .given_no_previous_events()
        .when(place(None))
        .then_expect_error(DomainError::ReasonRequired);
    test(context()).given_no_previous_events().when(place(Some(0))).then_expect_error(DomainError::field(
        "/from_position",
        "out_of_range",
        "positions begin with 1",
    ));
}

#[test]
fn whoever_places_a_hold_hears_that_there_is_nobody_to_keep() {
    let test = |customer| {
        TestFramework::<LegalHold>::with(LegalHoldContext { customer, ..context() })
            .given_no_previous_events()
            .when(place(None))
    };
    test(Kept::Known).then_expect_events(vec![LegalHoldEvent::Placed(held(None))]);
    test(Kept::Unknown).then_expect_error(DomainError::field(
        "/customer_id",
        "unknown_customer",
        "no such customer",
    ));
    test(Kept::Erased).then_expect_error(DomainError::wrong_state("erased", "this person's data was erased"));
}

#[test]
fn a_hold_is_released_once_with_a_reason() {
    let placed = || LegalHoldEvent::Placed(held(None));
    let test = |given: Vec<LegalHoldEvent>, context| {
        TestFramework::<LegalHold>::with(context).given(given).when(LegalHoldCommand::Release)
    };
    test(vec![placed()], context()).then_expect_events(vec![released()]);
    test(vec![placed(), released()], context())
        .then_expect_error(DomainError::wrong_state("released", "the hold was released"));
    test(vec![], context()).then_expect_error(DomainError::not_found("legal_hold"));
    test(vec![placed()], LegalHoldContext { reason: None, ..context() })
        .then_expect_error(DomainError::ReasonRequired);
}

#[test]
fn a_hold_covers_its_customer_or_everybody_while_it_stands() {
    let (ada, eve) = (CustomerId(uuid::Uuid::from_u128(1)), CustomerId(uuid::Uuid::from_u128(2)));
    let mut hold = LegalHold::default();
    assert!(!hold.covers(ada));
    hold.apply(&LegalHoldEvent::Placed(held(None)));
    assert!(hold.covers(ada) && hold.covers(eve));
    hold.apply(&LegalHoldEvent::Placed(Held { customer_id: Some(ada), ..held(None) }));
    assert!(hold.covers(ada) && !hold.covers(eve));
    hold.apply(&released());
    assert!(!hold.covers(ada));
}

#[test]
fn a_position_is_a_string_in_the_event() {
    let json = serde_json::to_value(held(Some(i64::MAX))).unwrap();
    assert_eq!(json["from_position"], "9223372036854775807");
    assert_eq!(serde_json::from_value::<Held>(json).unwrap(), held(Some(i64::MAX)));
    let json = serde_json::to_value(held(None)).unwrap();
    assert!(json.get("from_position").is_none());
    assert_eq!(serde_json::from_value::<Held>(json).unwrap().from(), 1);
}
