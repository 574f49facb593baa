use cqrs_es::test::TestFramework;

use super::*;

fn context() -> CustomerContext {
    CustomerContext {
        now: DateTime::UNIX_EPOCH,
        id: CustomerId::default(),
        live_bookings: 0,
        reason: Some("she asked for it".into()),
        works_here: false,
        held: false,
        subjects: Vec::new(),
    }
}

fn name(text: &str) -> Name {
    Name::new(text, "/name").unwrap()
}

fn email(text: &str) -> Email {
    Email::new(text, "/email").unwrap()
}

fn registered() -> CustomerEvent {
    CustomerEvent::Registered {
        customer_id: CustomerId::default(),
        name: Personal::new(name("Ada Canary")),
        email: Some(Personal::new(email("ada@canary.example"))),
        phone: None,
    }
}

#[test]
fn nothing_personal_is_in_a_payload() {
    let payload = serde_json::to_string(&registered()).unwrap();
    assert!(!payload.contains("Ada") && !payload.contains("canary.example"), "{payload}");
    assert!(!format!("{:?}", registered()).contains("Ada"));
}

#[test]
fn personal_fields_come_back_by_name() {
    let (mut event, mut seen) = (registered(), Vec::new());
    event.visit_personal(&mut |field, subject, slot| seen.push((field, subject, slot.value())));
    let subject = CustomerId::default().into();
    assert_eq!(
        seen,
        [("name", subject, Some("Ada Canary".into())), ("email", subject, Some("ada@canary.example".into()))]
    );
    let payload = serde_json::to_value(&event).unwrap();
    let mut read: CustomerEvent = serde_json::from_value(payload).unwrap();
    read.visit_personal(&mut |field, _, slot| {
        let value = seen.iter().find(|s| s.0 == field).unwrap().2.clone();
        slot.restore(value).unwrap();
    });
    assert_eq!(read, registered());
}

#[test]
fn an_update_holds_only_what_changed() {
    TestFramework::<Customer>::with(context())
        .given(vec![registered()])
        .when(CustomerCommand::Update { name: Some(name("Ada Canary")), email: Some(None), phone: None })
        .then_expect_events(vec![CustomerEvent::Updated {
            customer_id: CustomerId::default(),
            name: None,
            email: None,
            phone: None,
            removed: vec![Contact::Email],
        }]);
    TestFramework::<Customer>::with(context())
        .given(vec![registered()])
        .when(CustomerCommand::Update {
            name: None,
            email: Some(Some(email("ada@canary.example"))),
            phone: Some(None),
        })
        .then_expect_events(vec![]);
}

#[test]
fn a_customer_with_live_bookings_is_not_archived() {
    TestFramework::<Customer>::with(CustomerContext { live_bookings: 1, ..context() })
        .given(vec![registered()])
        .when(CustomerCommand::Archive)
        .then_expect_error(DomainError::wrong_state("booked", "the customer has bookings that are not over"));
}

fn requested() -> CustomerEvent {
    CustomerEvent::ErasureRequested { customer_id: CustomerId::default(), requested_at: DateTime::UNIX_EPOCH }
}

fn erased(subjects: &[u128]) -> CustomerEvent {
    CustomerEvent::Erased {
        customer_id: CustomerId::default(),
        erased_at: DateTime::UNIX_EPOCH,
        subjects: subjects.iter().map(|n| SubjectId(uuid::Uuid::from_u128(*n))).collect(),
    }
}

fn wrong(state: &str, detail: &str) -> DomainError {
    DomainError::wrong_state(state, detail)
}

#[test]
fn an_erasure_is_asked_for_once_and_says_why() {
    let ask = |given: Vec<CustomerEvent>, context| {
        TestFramework::<Customer>::with(context).given(given).when(CustomerCommand::RequestErasure)
    };
    ask(vec![registered()], context()).then_expect_events(vec![requested()]);
    ask(vec![registered(), requested()], context()).then_expect_events(vec![]);
    ask(vec![registered(), requested(), erased(&[0])], context()).then_expect_events(vec![]);
    ask(vec![], context()).then_expect_error(DomainError::not_found("customer"));
    let silent = CustomerContext { reason: Some("  ".into()), ..context() };
    ask(vec![registered()], silent).then_expect_error(DomainError::ReasonRequired);
    let booked = CustomerContext { live_bookings: 1, ..context() };
    ask(vec![registered()], booked)
        .then_expect_error(wrong("booked", "the customer has bookings that are not over"));
    let works = CustomerContext { works_here: true, ..context() };
    let detail = "an account of the house names this customer: delete it first";
    ask(vec![registered()], works).then_expect_error(wrong("employed", detail));
}

#[test]
fn a_hold_queues_an_erasure_and_nothing_else_stops_it() {
    let complete = |given: Vec<CustomerEvent>, context| {
        TestFramework::<Customer>::with(context).given(given).when(CustomerCommand::CompleteErasure)
    };
    let known = || vec![registered(), requested()];
    let subjects = vec![SubjectId(uuid::Uuid::from_u128(7)), SubjectId::default()];
    let found = CustomerContext { subjects, ..context() };
    complete(known(), found).then_expect_events(vec![erased(&[0, 7])]);
    complete(known(), CustomerContext { held: true, ..context() }).then_expect_events(vec![]);
    complete([known(), vec![erased(&[0])]].concat(), context()).then_expect_events(vec![]);
    complete(vec![registered()], context())
        .then_expect_error(wrong("not_requested", "nobody asked for the erasure"));
    complete(known(), CustomerContext { live_bookings: 1, ..context() })
        .then_expect_error(wrong("booked", "the customer has bookings that are not over"));
}

#[test]
fn who_is_to_be_erased_is_left_alone() {
    for (last, state, detail) in [
        (requested(), "erasure_requested", "this person's data is to be erased"),
        (erased(&[0]), "erased", "this person's data was erased"),
    ] {
        let given = vec![registered(), requested(), last];
        for command in [
            CustomerCommand::Archive,
            CustomerCommand::Update { name: Some(name("Eve")), email: None, phone: None },
        ] {
            TestFramework::<Customer>::with(context())
                .given(given.clone())
                .when(command)
                .then_expect_error(wrong(state, detail));
        }
        let mut customer = Customer::default();
        given.iter().for_each(|event| customer.apply(event));
        assert_eq!(customer.can_book(), Err(wrong(state, detail)));
    }
}

#[test]
fn nothing_of_a_person_is_left_in_the_state() {
    let mut customer = Customer::default();
    for event in [registered(), requested(), erased(&[0])] {
        customer.apply(&event);
    }
    assert!(customer.is_erased() && customer.name == Personal::Erased);
    let json = crate::personal::revealing(|| serde_json::to_string(&customer).unwrap());
    assert!(!json.contains("Ada") && !json.contains("canary.example"), "{json}");
}
