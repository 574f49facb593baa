//! Where a stream begins whose first events were pruned: with the state it was carried over with.
//!
//! That state was written later than the events which follow it. So it is put before them, as an event at the end of what
//! was pruned: the stream then reads as if it had begun there.

use std::collections::{HashMap, HashSet};

use daybook_domain::{
    RecordedEvent,
    carried::{Past, Standing},
    registry::AnyEvent,
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{StoreError, StreamRef, load::Reader};

/// Puts before the events of each stream the state it begins with, where its first events were pruned. Each stream's
/// events are in order, and all that is left of it which carries it over is among them.
///
/// A stream of which no such state is known begins with the first that replaces it all.
pub(crate) fn beginning(events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
    let (mut begins, kept) = begun(events);
    begins.extend(kept);
    begins
}

/// The states that streams begin with, and the events that follow.
fn begun(events: Vec<RecordedEvent>) -> (Vec<RecordedEvent>, Vec<RecordedEvent>) {
    let mut first: HashMap<StreamRef, &RecordedEvent> = HashMap::new();
    for event in &events {
        first.entry(stream(event)).or_insert(event);
    }
    let cut: HashMap<StreamRef, i64> = first
        .into_iter()
        .filter(|(_, event)| event.sequence > 1)
        .map(|(stream, event)| (stream, event.sequence))
        .collect();
    if cut.is_empty() {
        return (Vec::new(), events);
    }
    let mut begins: Vec<RecordedEvent> = Vec::with_capacity(cut.len());
    let mut without: HashSet<StreamRef> = HashSet::new();
    let mut of_streams: HashMap<StreamRef, Vec<&RecordedEvent>> = HashMap::new();
    for event in events.iter().filter(|event| cut.contains_key(&stream(event))) {
        of_streams.entry(stream(event)).or_default().push(event);
    }
    for (stream, events) in of_streams {
        let sequence = cut.get(&stream).copied().unwrap_or(1);
        match base(&events, sequence) {
            Some(base) => begins.extend(standing_in(base, sequence)),
            None => drop(without.insert(stream)),
        }
    }
    begins.sort_unstable_by_key(|event| (event.position, event.aggregate_id));
    let mut kept = events;
    if !without.is_empty() {
        kept.retain(|event| {
            let begins = is_whole(event) && without.remove(&stream(event));
            begins || !without.contains(&stream(event))
        });
    }
    (begins, kept)
}

/// The event whose state a stream begins with, whose first event has this sequence.
fn base<'e>(events: &[&'e RecordedEvent], sequence: i64) -> Option<&'e RecordedEvent> {
    let through = events.iter().find(|event| {
        event.event.carried_past().is_some_and(|(_, past)| past.through_sequence + 1 == sequence)
    });
    // Where nothing happened before the first whole state, that is how the stream was from its beginning.
    let carried = |event: &&&RecordedEvent| event.event.carried_past().is_some();
    let unchanged = || events.iter().take_while(carried).find(|event| is_whole(event));
    through.or_else(unchanged).copied()
}

fn standing_in(base: &RecordedEvent, sequence: i64) -> Option<RecordedEvent> {
    let carried = base.event.carried()?;
    // Of a state that is older than its base's last event, only that it is from before the cut is known.
    let exact = carried.past.through_sequence + 1 == sequence;
    let position = if exact { carried.past.through_position } else { 0 };
    // One less, as the event stands for the last one that was pruned and not for one after it.
    let past = Past { through_sequence: sequence - 2, through_position: position, ..carried.past };
    let recorded_at = past.updated_at;
    Some(RecordedEvent {
        position,
        sequence: sequence - 1,
        recorded_at,
        occurred_at: recorded_at,
        event: carried.state.carry_over(Standing::Whole, past),
        ..base.clone()
    })
}

fn stream(event: &RecordedEvent) -> StreamRef {
    StreamRef { aggregate_type: event.aggregate_type, id: event.aggregate_id }
}

/// Whether folding the event replaces the state.
pub(crate) fn is_whole(event: &RecordedEvent) -> bool {
    event.event.carried_past().is_some_and(|(standing, _)| standing == Standing::Whole)
}

/// A page of the states that a pruned log begins with.
#[derive(Debug, Default)]
pub struct Beginnings {
    /// Each as an event that replaces the state, at or below the cut.
    pub events: Vec<RecordedEvent>,
    /// What to go on with; `None` after the last page.
    pub next: Option<i64>,
}

impl Reader<'_> {
    /// The states that the streams of a pruned log begin with: what a replay folds first. None where nothing was pruned.
    /// `after` is 0, then what the page before says.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn beginnings(
        &mut self,
        connection: &mut PgConnection,
        after: i64,
        limit: i64,
    ) -> Result<Beginnings, StoreError> {
        let attempted = "read what was carried over";
        let schema = self.schema();
        // The first event of each stream that carries it over stands for the stream; the page has all of them.
        let sql = schema.sql(
            "SELECT c.aggregate_id, c.aggregate_type, c.position FROM {s}.events c
             WHERE c.event_type = ANY($1) AND c.position > $2
               AND c.position > (SELECT nullif(max(p.through_position), 0) FROM {s}.audit_prunings p)
               AND NOT EXISTS (
                   SELECT 1 FROM {s}.events o
                   WHERE o.aggregate_id = c.aggregate_id AND o.aggregate_type = c.aggregate_type
                     AND o.event_type = c.event_type AND o.sequence < c.sequence
                     AND o.position + 0 > (SELECT max(p.through_position) FROM {s}.audit_prunings p))
             ORDER BY c.position LIMIT $3",
        );
        let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(&sql)
            .bind(AnyEvent::carried_types())
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::db(attempted))?;
        let next = rows.last().map(|row| row.2);
        let (ids, types): (Vec<Uuid>, Vec<String>) = rows.into_iter().map(|row| (row.0, row.1)).unzip();
        let sql = schema.sql(
            "SELECT e.position, e.leaf FROM UNNEST($1::uuid[], $2::text[]) AS w (id, type)
             JOIN LATERAL (
                 SELECT position, leaf, sequence, event_type FROM {s}.events
                 WHERE aggregate_id = w.id AND aggregate_type = w.type
                   AND position + 0 > (SELECT max(p.through_position) FROM {s}.audit_prunings p)
                 ORDER BY sequence
             ) e ON true
             ORDER BY e.position",
        );
        let rows = sqlx::query(&sql)
            .bind(&ids)
            .bind(&types)
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::db(attempted))?;
        let (events, _) = begun(self.decode(connection, rows).await?);
        Ok(Beginnings { events, next })
    }
}
