//! Carrying a stream over a cut: its state in an event of its own, so that the events up to the cut can be pruned.
//!
//! The state is folded from the events themselves, never from a snapshot or a cache: what is carried becomes part of the
//! log, and neither of those is. It is read under the head's lock, so an erasure was there before or comes after.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use daybook_domain::{
    DomainError, Personal, RecordedEvent,
    booking::BookingEvent,
    carried::{Booked, FORMER, Past, Standing},
    registry::{AggregateType, AnyEvent, AnyState},
};
use uuid::Uuid;

use super::{
    Changed, Command, Intent, StoreError, StreamRef, Unit, append::Head, batch::Work, cache::Entry, known,
    load::Reader,
};

impl Work<'_, '_> {
    /// Reads the streams that a unit carries over, all at once.
    pub(super) async fn load_carried(&mut self, unit: &Unit) -> Result<(), StoreError> {
        self.carried.clear();
        let ids: Vec<Uuid> = unit
            .commands
            .iter()
            .filter(|command| matches!(command.intent, Intent::CarryOver { .. }))
            .map(|command| command.id)
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let attempted = "read the streams to be carried over";
        let sql = self.schema.sql(
            "SELECT e.position, e.leaf FROM UNNEST($1::uuid[]) AS w (id)
             JOIN {s}.events e ON e.aggregate_id = w.id
             WHERE e.position > (SELECT coalesce(max(p.through_position), 0) FROM {s}.audit_prunings p)
             ORDER BY e.position",
        );
        let rows = sqlx::query(&sql)
            .bind(&ids)
            .fetch_all(&mut **self.tx)
            .await
            .map_err(StoreError::db(attempted))?;
        let events = Reader::disclosing(&self.schema, self.store.keys()).decode(self.tx, rows).await?;
        let mut streams: HashMap<StreamRef, Vec<RecordedEvent>> = HashMap::new();
        for event in events {
            let stream = StreamRef { aggregate_type: event.aggregate_type, id: event.aggregate_id };
            streams.entry(stream).or_default().push(event);
        }
        self.carried =
            streams.into_iter().map(|(stream, events)| (stream, known::beginning(events))).collect();
        Ok(())
    }

    /// Records what a stream needs in order to be read without its events up to `cut`.
    pub(super) async fn carry_over(
        &mut self,
        unit: &Unit,
        command: &Command,
        cut: i64,
    ) -> Result<Changed, StoreError> {
        // What this batch did to it is not among the events that were read.
        if self.touched_ids.contains_key(&command.id) {
            return Err(DomainError::VersionConflict.into());
        }
        let stream = StreamRef { aggregate_type: command.aggregate_type, id: command.id };
        let events = self.carried.remove(&stream).unwrap_or_default();
        let before =
            Entry { state: fold(stream, &events), sequence: events.last().map_or(0, |last| last.sequence) };
        let decided = needed(stream, &events, cut, &self.head);
        self.cache.states.pop(&command.id);
        self.unchanged_since = Some(past(stream, &events).updated_at);
        let recorded = self.record(command.id, before, decided, &unit.metadata, None).await;
        self.unchanged_since = None;
        let after = recorded?;
        Ok(Changed { id: command.id, sequence: after.sequence, state: after.state })
    }
}

fn fold(stream: StreamRef, events: &[RecordedEvent]) -> AnyState {
    let mut state = AnyState::new(stream.aggregate_type);
    for event in events {
        state.apply(&event.event);
    }
    state
}

/// The events that carry a stream over a cut; none where it needs none. `events` are all that is known of it.
fn needed(stream: StreamRef, events: &[RecordedEvent], cut: i64, head: &Head) -> Vec<AnyEvent> {
    let (below, above) = events.split_at(events.partition_point(|event| event.position <= cut));
    let Some(last) = below.last() else { return Vec::new() };
    let whole = above.iter().position(known::is_whole);
    if above.is_empty() && fold(stream, events).is_history(head.recorded_at) {
        return Vec::new();
    }
    let mut decided = Vec::new();
    let mut all = events.to_vec();
    // What happened between the cut and the next whole state follows a state that has to be known.
    let until = whole.unwrap_or(above.len());
    let followed = above[..until].iter().any(|event| event.event.carried_past().is_none());
    let based = above.iter().any(|event| {
        event.event.carried_past().is_some_and(|(_, past)| past.through_sequence == last.sequence)
    });
    if followed && !based {
        let event = fold(stream, below).carry_over(Standing::Base, past(stream, below));
        all.extend(events.last().map(|last| RecordedEvent {
            position: head.position + 1,
            sequence: last.sequence + 1,
            event: event.clone(),
            ..last.clone()
        }));
        decided.push(event);
    }
    if whole.is_none() {
        decided.push(fold(stream, &all).carry_over(Standing::Whole, past(stream, &all)));
    }
    decided
}

/// What is known of the events that a state was folded from.
fn past(stream: StreamRef, events: &[RecordedEvent]) -> Past {
    let mut created_at: Option<DateTime<Utc>> = None;
    let (mut updated_at, mut booked) = (DateTime::UNIX_EPOCH, None);
    for event in events {
        match event.event.carried_past() {
            Some((_, past)) => {
                updated_at = past.updated_at.max(updated_at);
                created_at.get_or_insert(past.created_at);
                booked = booked.or(past.booked);
            }
            None => {
                updated_at = event.recorded_at;
                created_at.get_or_insert(event.recorded_at);
                booked = book(booked, event);
            }
        }
    }
    let (through_sequence, through_position) =
        events.last().map_or((0, 0), |last| (last.sequence, last.position));
    let created_at = created_at.unwrap_or(updated_at);
    let former = former(stream, events);
    Past { through_sequence, through_position, created_at, updated_at, booked, former }
}

/// The addresses that a customer or an account had, and has no more; none of one that is gone.
fn former(stream: StreamRef, events: &[RecordedEvent]) -> Option<Personal<Vec<String>>> {
    if !matches!(stream.aggregate_type, AggregateType::Customer | AggregateType::User) {
        return None;
    }
    let (mut now, mut is_gone) = (None, false);
    fold(stream, events).visit_personal(&mut |field, _, slot| {
        is_gone |= slot.value().is_none();
        if field == "email" {
            now = address(slot.value());
        }
    });
    if is_gone {
        return None;
    }
    let mut former: Vec<String> = Vec::new();
    for event in events {
        event.event.clone().visit_personal(&mut |field, _, slot| {
            let known = match (field, slot.value()) {
                ("email", value) => address(value).into_iter().collect(),
                (FORMER, Some(value)) => serde_json::from_value(value).unwrap_or_default(),
                _ => Vec::new(),
            };
            for address in known {
                if Some(&address) != now.as_ref() && !former.contains(&address) {
                    former.push(address);
                }
            }
        });
    }
    (!former.is_empty()).then(|| Personal::new(former))
}

fn address(value: Option<serde_json::Value>) -> Option<String> {
    value.and_then(|value| value.as_str().map(str::to_owned))
}

fn book(booked: Option<Booked>, event: &RecordedEvent) -> Option<Booked> {
    let AnyEvent::Booking(booking) = &event.event else { return booked };
    match booking {
        BookingEvent::Held(taken) | BookingEvent::Requested(taken) | BookingEvent::Booked(taken) => {
            let on = event.occurred_at.with_timezone(&taken.terms.when.zone()).date_naive();
            Some(Booked { on, confirmed: matches!(booking, BookingEvent::Booked(_)) })
        }
        BookingEvent::Confirmed { .. } => booked.map(|it| Booked { confirmed: true, ..it }),
        BookingEvent::Submitted { .. }
        | BookingEvent::Rejected
        | BookingEvent::Cancelled { .. }
        | BookingEvent::Rescheduled(_)
        | BookingEvent::Reassigned(_)
        | BookingEvent::CheckedIn { .. }
        | BookingEvent::CheckedOut { .. }
        | BookingEvent::NoShow
        | BookingEvent::Expired
        | BookingEvent::CarriedOver(_) => booked,
    }
}
