//! Every event shape ever written can be read: a file with one payload of each type and version.

use std::collections::BTreeSet;

use daybook_domain::registry::{AggregateType, AnyEvent};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    aggregate_type: String,
    event_type: String,
    version: u16,
    payload: Value,
}

fn corpus() -> Vec<Golden> {
    serde_json::from_str(include_str!("../golden/events.json")).unwrap()
}

fn read(golden: &Golden) -> AnyEvent {
    let aggregate_type = AggregateType::parse(&golden.aggregate_type).unwrap();
    AnyEvent::from_payload(aggregate_type, &golden.event_type, golden.version, golden.payload.clone())
        .unwrap_or_else(|error| panic!("{} v{}: {error}", golden.event_type, golden.version))
}

#[test]
fn every_shape_ever_written_is_still_read() {
    for golden in corpus() {
        let event = read(&golden);
        assert_eq!(event.type_name(), golden.event_type, "an event keeps its type when it is upcast");
        assert_eq!(event.aggregate_type().as_str(), golden.aggregate_type);
    }
}

#[test]
fn a_shape_of_today_is_written_as_it_was_read() {
    for golden in corpus() {
        let event = read(&golden);
        if event.version() == golden.version {
            assert_eq!(event.payload().unwrap(), golden.payload, "{}", golden.event_type);
        }
    }
}

#[test]
fn every_type_and_version_written_today_has_its_example() {
    let known: BTreeSet<(String, u16)> =
        corpus().into_iter().map(|golden| (golden.event_type, golden.version)).collect();
    for (aggregate_type, event_type, version) in AnyEvent::types() {
        for version in 1..=version {
            assert!(
                known.contains(&(event_type.to_owned(), version)),
                "add an example of {event_type} v{version} ({aggregate_type}) to tests/golden/events.json"
            );
        }
    }
}

#[test]
fn the_corpus_holds_no_type_that_nothing_reads() {
    let types: BTreeSet<&str> = AnyEvent::types().into_iter().map(|(_, event_type, _)| event_type).collect();
    for golden in corpus() {
        assert!(
            types.contains(golden.event_type.as_str()),
            "{} is unknown: types are for ever",
            golden.event_type
        );
    }
}
