//! Booking history: every change of a booking as a diff, with who, why and from where. Follows the log.
//!
//! Personal values are in the diffs in the clear, as in every row of a tenant's own schema.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::poll_fn,
    task::Poll,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_domain::{
    Decider, Disclosed,
    booking::{Booking, BookingEvent, PERSONAL, is_personal},
    customer::CustomerEvent,
    diff::{self, diff},
    envelope::RecordedEvent,
    personal::{ERASED_MARKER, Plain, SEALED_MARKER, revealing},
    registry::AnyEvent,
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{Projection, ProjectionError, Run, audit_prunings::pruned, inline::column};

/// One event of a booking and what it changed.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryRow {
    /// The booking.
    pub booking_id: Uuid,
    /// Its place in the booking's stream.
    pub sequence: i64,
    /// Its place in the log.
    pub position: i64,
    /// What happened (`booking.confirmed`).
    pub event_type: String,
    /// When it was written.
    pub recorded_at: DateTime<Utc>,
    /// When it happened; the same, except for imported history.
    pub occurred_at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// For whom, while hijacking.
    pub on_behalf_of: Option<String>,
    /// Why, in the actor's words.
    pub reason: Disclosed<String>,
    /// Where the command came in.
    pub source: Option<String>,
    /// What changed.
    pub changes: Json<Vec<ShownChange>>,
}

/// One changed value of a booking, where a personal one is known as such.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "diff::Change")]
pub struct ShownChange {
    /// RFC 6901 pointer (`/during/start`).
    pub path: String,
    /// The value before; null when there was none.
    pub old: Shown,
    /// The value after; null when there is none.
    pub new: Shown,
}

/// A value of a booking.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// One that names nobody.
    Open(Value),
    /// A personal one.
    Personal(Disclosed<Value>),
}

impl ShownChange {
    /// The marker in the place of personal values, for somebody who may not see those of bookings.
    pub fn withhold(&mut self) {
        for shown in [&mut self.old, &mut self.new] {
            if matches!(shown, Shown::Personal(_)) {
                *shown = Shown::Open(SEALED_MARKER.into());
            }
        }
    }
}

impl From<diff::Change> for ShownChange {
    fn from(change: diff::Change) -> Self {
        let personal = is_personal(&change.path);
        let shown = |value: Value| match value {
            Value::Null => Shown::Open(Value::Null),
            value if personal => Shown::Personal(Disclosed::from(value)),
            value => Shown::Open(value),
        };
        Self { old: shown(change.old), new: shown(change.new), path: change.path }
    }
}

/// The history of a booking after a sequence, as far as it was recorded since a time, oldest first.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    booking_id: Uuid,
    after_sequence: Option<i64>,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<HistoryRow>, sqlx::Error> {
    sqlx::query_as!(
        HistoryRow,
        r#"SELECT booking_id, sequence, position, event_type, recorded_at, occurred_at, actor, on_behalf_of, reason,
                  source, changes AS "changes: Json<Vec<ShownChange>>"
           FROM booking_history WHERE booking_id = $1 AND sequence > $2 AND recorded_at >= $3
           ORDER BY sequence LIMIT $4"#,
        booking_id,
        after_sequence.unwrap_or(0),
        since,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Events folded before other tasks get their turn.
const AT_ONCE: usize = 32;

/// The projection.
#[derive(Clone, Copy, Debug)]
pub struct BookingHistory;

#[async_trait]
impl Projection for BookingHistory {
    fn name(&self) -> &'static str {
        "booking_history"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["booking_history"]
    }

    fn looks_back(&self, event: &AnyEvent) -> bool {
        booking_event(event).is_some()
    }

    fn handles(&self, event: &AnyEvent) -> bool {
        booking_event(event).is_some() || erased(event).is_some() || pruned(event).is_some()
    }

    async fn apply(
        &self,
        connection: &mut PgConnection,
        run: &Run,
        events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        let bookings: Vec<(&RecordedEvent, &BookingEvent)> =
            events.iter().filter_map(|event| Some((event, booking_event(&event.event)?))).collect();
        if !bookings.is_empty() {
            fold(connection, run, bookings).await?;
        }
        // Rows that are made anew beside the live ones may have been folded before the erasure.
        for customer in events.iter().filter_map(|event| erased(&event.event)) {
            let of_them = bookings_of(connection, customer).await?;
            forget(connection, &of_them).await?;
        }
        if let Some(pruning) = events.iter().filter_map(|event| pruned(&event.event)).next_back() {
            forget_pruned(connection, pruning.through_position).await?;
        }
        Ok(())
    }
}

/// Whom an event erases.
fn erased(event: &AnyEvent) -> Option<Uuid> {
    match event {
        AnyEvent::Customer(CustomerEvent::Erased { customer_id, .. }) => Some(customer_id.0),
        AnyEvent::Customer(
            CustomerEvent::Registered { .. }
            | CustomerEvent::Updated { .. }
            | CustomerEvent::Archived { .. }
            | CustomerEvent::ErasureRequested { .. }
            | CustomerEvent::CarriedOver(_),
        )
        | AnyEvent::Booking(_)
        | AnyEvent::Tenant(_)
        | AnyEvent::Resource(_)
        | AnyEvent::Offering(_)
        | AnyEvent::Schedule(_)
        | AnyEvent::User(_)
        | AnyEvent::Role(_)
        | AnyEvent::ApiKey(_)
        | AnyEvent::Settings(_)
        | AnyEvent::Lead(_)
        | AnyEvent::PermissionGrant(_)
        | AnyEvent::SupportRequest(_)
        | AnyEvent::SupportSession(_)
        | AnyEvent::Hijack(_)
        | AnyEvent::AuditExport(_)
        | AnyEvent::LegalHold(_)
        | AnyEvent::AuditTrail(_) => None,
    }
}

/// The bookings of a customer, by the rows that first say whose they are. There is no index for it: people are seldom
/// erased.
async fn bookings_of(connection: &mut PgConnection, customer: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT booking_id FROM booking_history
         WHERE changes @> jsonb_build_array(jsonb_build_object('path', '/customer_id', 'new', $1::text))",
        customer.to_string()
    )
    .fetch_all(connection)
    .await
}

/// Puts the marker of erased values in the place of the personal ones in the history of bookings: what a replay finds
/// once they are erased.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn forget(connection: &mut PgConnection, bookings: &[Uuid]) -> Result<(), sqlx::Error> {
    let paths: Vec<String> = PERSONAL.iter().map(|path| (*path).to_owned()).collect();
    sqlx::query!(
        r#"UPDATE booking_history h
           SET changes = (
               SELECT jsonb_agg(
                          CASE WHEN change ->> 'path' = ANY($2)
                               THEN change || jsonb_build_object(
                                   'old', CASE WHEN change ->> 'old' IS NULL THEN NULL ELSE $3::text END,
                                   'new', CASE WHEN change ->> 'new' IS NULL THEN NULL ELSE $3::text END)
                               ELSE change END
                          ORDER BY place)
               FROM jsonb_array_elements(h.changes) WITH ORDINALITY AS each (change, place))
           WHERE h.booking_id = ANY($1)
             AND EXISTS (SELECT FROM jsonb_array_elements(h.changes) AS each (change) WHERE change ->> 'path' = ANY($2))"#,
        bookings,
        &paths,
        ERASED_MARKER
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Folds events of bookings into rows.
async fn fold(
    connection: &mut PgConnection,
    run: &Run,
    bookings: Vec<(&RecordedEvent, &BookingEvent)>,
) -> Result<(), ProjectionError> {
    let mut folded: HashMap<Uuid, Folded> = HashMap::new();
    let mut rows = Vec::with_capacity(bookings.len());
    let mut changes = Vec::with_capacity(bookings.len());
    let mut places = Vec::with_capacity(bookings.len());
    for (recorded, event) in bookings {
        let state = match folded.entry(recorded.aggregate_id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Folded::before(run, recorded)),
        };
        let begins = state.sequence == 0 && matches!(event, BookingEvent::CarriedOver(_));
        if state.sequence + 1 != recorded.sequence && !begins {
            return Err(ProjectionError::does_not_follow(
                recorded,
                "an earlier event of the booking is missing",
            ));
        }
        // What carries a booking over changes nothing of it, and nobody did it.
        if matches!(event, BookingEvent::CarriedOver(_)) {
            state.carried_over(recorded, event);
            continue;
        }
        rows.push(recorded);
        let before = state.place();
        changes.push(Json(state.step(event)?));
        places.push((state.place(), before.filter(|before| Some(*before) != state.place())));
        // Comparing states is computing; commands beside it do not wait for the whole of it.
        if rows.len() % AT_ONCE == 0 {
            yield_now().await;
        }
    }
    write_history(connection, &rows, &changes, &places).await
}

/// The history of what was pruned goes with it.
async fn forget_pruned(connection: &mut PgConnection, through_position: i64) -> Result<(), ProjectionError> {
    // As the index has it.
    sqlx::query("DELETE FROM booking_history WHERE position + 0 <= $1")
        .bind(through_position)
        .execute(connection)
        .await?;
    Ok(())
}

fn booking_event(event: &AnyEvent) -> Option<&BookingEvent> {
    match event {
        AnyEvent::Booking(event) => Some(event),
        AnyEvent::Tenant(_)
        | AnyEvent::Resource(_)
        | AnyEvent::Offering(_)
        | AnyEvent::Schedule(_)
        | AnyEvent::Customer(_)
        | AnyEvent::User(_)
        | AnyEvent::Role(_)
        | AnyEvent::ApiKey(_)
        | AnyEvent::Settings(_)
        | AnyEvent::Lead(_)
        | AnyEvent::PermissionGrant(_)
        | AnyEvent::SupportRequest(_)
        | AnyEvent::SupportSession(_)
        | AnyEvent::Hijack(_)
        | AnyEvent::AuditExport(_)
        | AnyEvent::LegalHold(_)
        | AnyEvent::AuditTrail(_) => None,
    }
}

/// A booking as its last event left it.
#[derive(Default)]
struct Folded {
    sequence: i64,
    state: Booking,
}

impl Folded {
    /// The booking of an event before it.
    fn before(run: &Run, event: &RecordedEvent) -> Self {
        let mut folded = Self::default();
        for earlier in run.before(event) {
            if let Some(event) = booking_event(&earlier.event) {
                folded.state.apply(event);
                // A stream may begin with a carried state.
                folded.sequence = earlier.sequence;
            }
        }
        folded
    }

    /// The resource it is on; `None` before the first event.
    fn place(&self) -> Option<Uuid> {
        (self.sequence > 0).then_some(self.state.resource_id.0)
    }

    /// As JSON. Before the first event there is nothing, not a booking of placeholders.
    fn json(&self) -> Result<Value, serde_json::Error> {
        if self.sequence == 0 {
            return Ok(Value::Object(Map::new()));
        }
        revealing(|| serde_json::to_value(&self.state))
    }

    fn carried_over(&mut self, recorded: &RecordedEvent, event: &BookingEvent) {
        self.state.apply(event);
        self.sequence = recorded.sequence;
    }

    /// What an event changes: a list of [`diff::Change`].
    fn step(&mut self, event: &BookingEvent) -> Result<Box<RawValue>, serde_json::Error> {
        // Made again for each event rather than kept: a run is hundreds of bookings, nearly all of one event.
        let before = self.json()?;
        self.state.apply(event);
        self.sequence += 1;
        let after = self.json()?;
        let changes: Vec<_> = diff(&before, &after)
            .into_iter()
            .map(|diff::Change { path, old, new }| diff::Change { path, old: Plain(old), new: Plain(new) })
            .collect();
        to_raw_value(&changes)
    }
}

/// Lets other tasks of the runtime have their turn.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn write_history(
    connection: &mut PgConnection,
    rows: &[&RecordedEvent],
    changes: &[Json<Box<RawValue>>],
    // Where each booking is, and where it was moved from.
    places: &[(Option<Uuid>, Option<Uuid>)],
) -> Result<(), ProjectionError> {
    sqlx::query!(
        "INSERT INTO booking_history (booking_id, sequence, position, event_type, recorded_at, occurred_at, actor,
                                      on_behalf_of, reason, source, changes, resource_id, left_resource_id)
         SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                              $7::text[], $8::text[], $9::text[], $10::text[], $11::jsonb[], $12::uuid[], $13::uuid[])",
        &column!(rows, row => row.aggregate_id),
        &column!(rows, row => row.sequence),
        &column!(rows, row => row.position),
        &column!(rows, row => row.event.type_name().to_owned()),
        &column!(rows, row => row.recorded_at),
        &column!(rows, row => row.occurred_at),
        &column!(rows, row => row.metadata.actor.clone()),
        &column!(rows, row => row.metadata.on_behalf_of.clone()) as &[Option<String>],
        &column!(rows, row => row.metadata.reason.clone()) as &[Option<String>],
        &column!(rows, row => row.metadata.source.clone()) as &[Option<String>],
        changes as &[Json<Box<RawValue>>],
        &column!(places, place => place.0) as &[Option<Uuid>],
        &column!(places, place => place.1) as &[Option<Uuid>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use daybook_domain::disclosed::disclosing;

    use super::*;

    fn paths(changes: &RawValue) -> Vec<String> {
        let changes: Vec<diff::Change> = serde_json::from_str(changes.get()).unwrap();
        changes.into_iter().map(|change| change.path).collect()
    }

    #[test]
    fn the_diff_of_an_event_names_what_it_changed() {
        let mut folded = Folded { sequence: 1, ..Folded::default() };
        let changes = folded.step(&BookingEvent::Rejected).unwrap();
        assert_eq!(folded.sequence, 2);
        assert!(paths(&changes).iter().all(|path| path == "/status"), "{:?}", paths(&changes));
    }

    #[test]
    fn a_personal_value_in_a_diff_is_read_as_one() {
        let change = |path: &str, new: Value| diff::Change { path: path.into(), old: Value::Null, new };
        let changes = vec![change("/notes", "Ada Canary".into()), change("/status", "confirmed".into())];
        let stored = serde_json::to_string(&changes).unwrap();
        let shown: Vec<ShownChange> = serde_json::from_str(&stored).unwrap();
        assert!(!format!("{shown:?}").contains("Ada"));
        assert_eq!(disclosing(|| serde_json::to_string(&shown).unwrap()), stored);
        assert_eq!(serde_json::to_string(&shown).unwrap(), stored.replace("Ada Canary", "[personal]"));
    }

    #[test]
    fn an_event_that_changes_nothing_has_an_empty_diff() {
        let mut folded = Folded::default();
        folded.step(&BookingEvent::Rejected).unwrap();
        assert_eq!(folded.step(&BookingEvent::Rejected).unwrap().get(), "[]");
    }
}
