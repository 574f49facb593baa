//! A run of a log's events, and what came before them in the streams they belong to.

use std::collections::HashMap;

use daybook_domain::envelope::RecordedEvent;
use uuid::Uuid;

/// Events that follow each other in the log, with the earlier events of those streams a projection looks back in.
///
/// With the streams at hand a projection keeps no state of each aggregate beside its rows: it folds that state
/// from the events before the one it is given.
#[derive(Debug, Default)]
pub struct Run {
    events: Vec<RecordedEvent>,
    older: HashMap<Uuid, Vec<RecordedEvent>>,
    /// Where each aggregate's events are in `events`.
    places: HashMap<Uuid, Vec<usize>>,
}

impl Run {
    /// A run. `older` are events of the same streams from before it, each stream's in order.
    pub fn new(events: Vec<RecordedEvent>, older: Vec<RecordedEvent>) -> Self {
        let mut run = Self { events, ..Self::default() };
        for event in older {
            run.older.entry(event.aggregate_id).or_default().push(event);
        }
        for (place, event) in run.events.iter().enumerate() {
            run.places.entry(event.aggregate_id).or_default().push(place);
        }
        run
    }

    /// The events, in the order of the log.
    pub fn events(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// The events after a position.
    pub fn after(&self, position: i64) -> &[RecordedEvent] {
        &self.events[self.events.partition_point(|event| event.position <= position)..]
    }

    /// The position of the last event.
    pub fn end(&self) -> Option<i64> {
        self.events.last().map(|event| event.position)
    }

    /// What happened in an event's stream before it, in order.
    pub fn before<'a>(&'a self, event: &'a RecordedEvent) -> impl Iterator<Item = &'a RecordedEvent> {
        let older = self.older.get(&event.aggregate_id).into_iter().flatten();
        let here =
            self.places.get(&event.aggregate_id).into_iter().flatten().map(|place| &self.events[*place]);
        older
            .chain(here.take_while(|earlier| earlier.position < event.position))
            // An id may name aggregates of several types.
            .filter(|earlier| earlier.aggregate_type == event.aggregate_type)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use daybook_domain::{
        booking::BookingEvent,
        envelope::Metadata,
        registry::{AggregateType, AnyEvent},
    };

    use super::*;

    fn event(position: i64, id: u128, sequence: i64) -> RecordedEvent {
        RecordedEvent {
            position,
            event_id: Uuid::from_u128(position as u128),
            aggregate_type: AggregateType::Booking,
            aggregate_id: Uuid::from_u128(id),
            sequence,
            recorded_at: DateTime::UNIX_EPOCH,
            occurred_at: DateTime::UNIX_EPOCH,
            metadata: Metadata::default(),
            event: AnyEvent::Booking(BookingEvent::Rejected),
        }
    }

    #[test]
    fn what_came_before_an_event_is_found_across_the_runs_beginning() {
        let older = vec![event(1, 7, 1), event(2, 8, 1), event(3, 7, 2)];
        let mut foreign = event(4, 7, 1);
        foreign.aggregate_type = AggregateType::Customer;
        let run =
            Run::new(vec![event(5, 7, 3), event(6, 9, 1), event(7, 7, 4)], [older, vec![foreign]].concat());
        let before = |place: usize| -> Vec<i64> {
            run.before(&run.events()[place]).map(|event| event.position).collect()
        };
        assert_eq!(before(0), [1, 3]);
        assert!(before(1).is_empty());
        assert_eq!(before(2), [1, 3, 5]);
        assert_eq!(run.after(5).len(), 2);
        assert_eq!(run.end(), Some(7));
    }
}
