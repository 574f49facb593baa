//! Every aggregate, in every order its events could come in, carried over at every place.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::{
    personal::revealing,
    registry::{AggregateType, AnyEvent, AnyState},
};

#[derive(Deserialize)]
struct Golden {
    aggregate_type: String,
    event_type: String,
    version: u16,
    payload: Value,
}

/// An example of each event of an aggregate, with values in its personal fields.
fn examples(aggregate_type: AggregateType) -> Vec<AnyEvent> {
    let corpus: Vec<Golden> =
        serde_json::from_str(include_str!("../../../tests/golden/events.json")).unwrap();
    corpus
        .into_iter()
        .filter(|golden| golden.aggregate_type == aggregate_type.as_str())
        .map(|golden| {
            let event =
                AnyEvent::from_payload(aggregate_type, &golden.event_type, golden.version, golden.payload);
            filled(event.unwrap())
        })
        .filter(|event| event.carried_past().is_none())
        .collect()
}

fn filled(mut event: AnyEvent) -> AnyEvent {
    event.visit_personal(&mut |_, _, slot| {
        let mut values = ["Ada Canary", "ada@canary.example", "+32 475 12 34 56"].into_iter();
        assert!(values.any(|value| slot.restore(Some(json!(value))).is_ok()));
    });
    event
}

fn fold<'e>(aggregate_type: AggregateType, events: impl IntoIterator<Item = &'e AnyEvent>) -> AnyState {
    let mut state = AnyState::new(aggregate_type);
    for event in events {
        state.apply(event);
    }
    state
}

fn past(through_sequence: usize) -> Past {
    Past {
        through_sequence: i64::try_from(through_sequence).unwrap(),
        through_position: 7,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        booked: None,
        former: None,
    }
}

/// The event as it comes back from the log: its payload sealed, its personal values put back by name.
fn through_the_log(event: &AnyEvent) -> AnyEvent {
    let mut values = Vec::new();
    let mut sealed = event.clone();
    sealed.visit_personal(&mut |field, subject, slot| values.push((field, subject, slot.value())));
    let payload = event.payload().unwrap();
    assert!(!payload.to_string().contains("anary"), "personal values are in no payload: {payload}");
    let mut read =
        AnyEvent::from_payload(event.aggregate_type(), event.type_name(), event.version(), payload).unwrap();
    read.visit_personal(&mut |field, subject, slot| {
        let at = values.iter().position(|it| (it.0, it.1) == (field, subject)).unwrap();
        if let (_, _, Some(value)) = values.remove(at) {
            slot.restore(Some(value)).unwrap();
        }
    });
    assert!(values.iter().all(|value| value.2.is_none()));
    read
}

fn some_events() -> impl Strategy<Value = (AggregateType, Vec<AnyEvent>, usize)> {
    proptest::sample::select(AggregateType::ALL).prop_flat_map(|aggregate_type| {
        let examples = examples(aggregate_type);
        let events = proptest::collection::vec(proptest::sample::select(examples.clone()), 0..6)
            // A stream begins with the event that makes the aggregate.
            .prop_map(move |more| [vec![examples[0].clone()], more].concat());
        (Just(aggregate_type), events).prop_flat_map(|(aggregate_type, events)| {
            let all = events.len();
            (Just(aggregate_type), Just(events), 1..=all)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_goes_on_from_its_carried_state_as_it_would_have((kind, events, cut) in some_events()) {
        let (before, after) = events.split_at(cut);
        let carried = through_the_log(&fold(kind, before).carry_over(Standing::Whole, past(before.len())));
        let base = fold(kind, before).carry_over(Standing::Base, past(before.len()));
        let from_there = fold(kind, std::iter::once(&carried).chain(after));
        let all = fold(kind, before.iter().chain([&carried]).chain(after));
        prop_assert_eq!(&from_there, &all);
        // As a base it changes nothing, wherever it stands; only a user counts its own events.
        if kind != AggregateType::User {
            prop_assert_eq!(&all, &fold(kind, &events));
            prop_assert_eq!(&all, &fold(kind, before.iter().chain([&base]).chain(after).chain([&base])));
        }
        let json = revealing(|| from_there.to_json()).unwrap();
        prop_assert_eq!(AnyState::from_json(kind, json).unwrap(), from_there);
    }
}

#[test]
fn every_aggregate_has_its_carried_state() {
    let types = AnyEvent::carried_types();
    assert_eq!(types.len(), AggregateType::ALL.len());
    for aggregate_type in AggregateType::ALL {
        assert!(types.contains(&format!("{aggregate_type}{SUFFIX}").as_str()), "{aggregate_type}");
        let event = AnyState::new(*aggregate_type).carry_over(Standing::Whole, past(0));
        assert!(event.type_name().ends_with(SUFFIX));
        assert!(!examples(*aggregate_type).is_empty(), "no example of {aggregate_type}");
    }
}

#[test]
fn a_state_has_no_personal_value_that_carrying_over_would_lose() {
    for aggregate_type in AggregateType::ALL {
        let examples = examples(*aggregate_type);
        for event in &examples {
            let mut state = fold(*aggregate_type, [&examples[0], event]);
            let held = revealing(|| state.to_json()).unwrap().to_string().matches("$personal").count();
            let mut visited = 0;
            state.visit_personal(&mut |_, _, slot| visited += usize::from(slot.value().is_some()));
            assert_eq!(visited, held, "{}", event.type_name());
        }
    }
}

#[test]
fn what_was_erased_stays_erased() {
    for aggregate_type in AggregateType::ALL {
        let mut examples = examples(*aggregate_type);
        for event in &mut examples {
            event.visit_personal(&mut |_, _, slot| slot.restore(None).unwrap());
        }
        for event in &examples {
            let state = fold(*aggregate_type, [&examples[0], event]);
            let carried = through_the_log(&state.carry_over(Standing::Whole, past(1)));
            assert_eq!(carried.carried().unwrap().state, state);
        }
    }
}

#[test]
fn the_addresses_a_person_had_are_sealed_as_theirs() {
    for aggregate_type in [AggregateType::Customer, AggregateType::User] {
        let former = Some(Personal::new(vec!["former@canary.example".to_owned()]));
        let state = fold(aggregate_type, [&examples(aggregate_type)[0]]);
        let event = state.carry_over(Standing::Whole, Past { former, ..past(1) });
        assert_eq!(through_the_log(&event), event);
        let (mut name, mut addresses) = (None, None);
        event.clone().visit_personal(&mut |field, subject, _| match field {
            "name" => name = Some(subject),
            FORMER => addresses = Some(subject),
            _ => {}
        });
        assert!(addresses.is_some());
        assert_eq!(addresses, name);
    }
}
