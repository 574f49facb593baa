//! Reads a log for a [`Story`]: nothing but the log, in order, a page at a time.
//!
//! It begins where the request was made and goes on until nothing more can belong, which is soon after the window. What
//! may come later (the end of a session that time had ended, an attempt with a window that was over) is looked up by its
//! stream or its type, so that a long log is not read to its end.

use chrono::{DateTime, Utc};
use daybook_domain::{
    RecordedEvent, SupportRequestId,
    registry::{AggregateType, AnyState, Registered as _},
    support_request::SupportRequest,
    support_session::SupportSessionEvent,
};
use daybook_projections::Schema;
use uuid::Uuid;

use super::{Counts, Entry, Story};
use crate::{
    eventstore::{
        EventStore, StoreError, StreamRef,
        load::{self, Reader, Until},
    },
    tenancy::{Access, TenantTx},
};

/// Events read at a time.
const PAGE: i64 = 1_000;

/// How far the log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Event by event.
    Log,
    /// What may have come later.
    Late,
    /// There is nothing more.
    Nothing,
}

/// A story that is being read.
pub struct Replay<'a> {
    store: &'a EventStore,
    schema: Schema,
    story: Story,
    request: SupportRequest,
    /// Of the request's own events, the first position and the last.
    own: (i64, i64),
    now: DateTime<Utc>,
    /// The last position that was read in order.
    position: i64,
    /// Events that came later, and belong.
    later: usize,
    next: Next,
}

impl<'a> Replay<'a> {
    /// Finds a support request in a tenant's log; `None` when it has none of that id.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt.
    pub async fn open(
        store: &'a EventStore,
        schema: &Schema,
        id: SupportRequestId,
    ) -> Result<Option<Self>, StoreError> {
        let mut tx = TenantTx::begin(store.database().app(), schema, Access::Read).await?;
        let now = load::clock(&mut tx).await?;
        let mut reader = Reader::disclosing(schema, store.keys());
        let events = stream(&mut reader, &mut tx, AggregateType::SupportRequest, id.0).await?;
        tx.release();
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(None) };
        let own = (first.position, last.position);
        let mut state = AnyState::new(AggregateType::SupportRequest);
        for event in &events {
            state.apply(&event.event);
        }
        let Some(request) = SupportRequest::of(&state).map(|request| request.as_ref().clone()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            store,
            schema: schema.clone(),
            story: Story::of(id),
            request,
            own,
            now,
            position: own.0 - 1,
            later: 0,
            next: Next::Log,
        }))
    }

    /// The request as its own events leave it.
    pub fn request(&self) -> &SupportRequest {
        &self.request
    }

    /// The time the story is told at, by the database's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The first and the last position that were read in order, so far.
    pub fn positions(&self) -> (i64, i64) {
        (self.own.0, self.position)
    }

    /// How many events of the story came after them.
    pub fn later(&self) -> usize {
        self.later
    }

    /// What was counted, so far.
    pub fn counts(&self) -> &Counts {
        self.story.counts()
    }

    /// The next entries, in order, perhaps none of this page; `None` when all has been told.
    ///
    /// # Errors
    /// When PostgreSQL refuses or the log is corrupt, also where a position or a sequence is missing.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        match self.next {
            Next::Log => self.page().await.map(Some),
            Next::Late => self.late().await.map(Some),
            Next::Nothing => Ok(None),
        }
    }

    async fn page(&mut self) -> Result<Vec<Entry>, StoreError> {
        let mut tx = TenantTx::begin(self.store.database().app(), &self.schema, Access::Read).await?;
        let mut reader = Reader::disclosing(&self.schema, self.store.keys());
        let events = reader.after(&mut tx, self.position, PAGE).await?;
        tx.release();
        let mut told = Vec::new();
        for event in &events {
            if event.position != self.position + 1 {
                let what = "no event where the next one belongs,";
                return Err(StoreError::Corrupt { what, position: self.position + 1, source: None });
            }
            self.position = event.position;
            told.extend(self.story.tell(event));
        }
        // At the end of a page only: what one transaction wrote is then as good as always read together.
        let over = events
            .last()
            .is_none_or(|last| last.position >= self.own.1 && self.story.is_over(last.recorded_at));
        if over {
            self.next = Next::Late;
        }
        Ok(told)
    }

    /// What came after nothing more was looked for event by event, and what time has ended by now.
    async fn late(&mut self) -> Result<Vec<Entry>, StoreError> {
        let mut tx = TenantTx::begin(self.store.database().app(), &self.schema, Access::Read).await?;
        let mut reader = Reader::disclosing(&self.schema, self.store.keys());
        let mut late = Vec::new();
        for (aggregate_type, id) in self.story.unended() {
            let events = stream(&mut reader, &mut tx, aggregate_type, id).await?;
            late.extend(events.into_iter().filter(|event| event.position > self.position));
        }
        let mut from = self.position;
        loop {
            let refusals = reader.of_type(&mut tx, SupportSessionEvent::REFUSED, from, PAGE).await?;
            let Some(last) = refusals.last() else { break };
            from = last.position;
            late.extend(refusals.into_iter().filter(|event| self.story.is_named(event)));
        }
        tx.release();
        self.later = late.len();
        late.sort_by_key(|event| event.position);
        let mut told: Vec<Entry> = late.iter().flat_map(|event| self.story.tell(event)).collect();
        told.extend(self.story.finish(self.now));
        self.next = Next::Nothing;
        Ok(told)
    }
}

/// A whole stream, without a gap.
async fn stream(
    reader: &mut Reader<'_>,
    tx: &mut TenantTx<'_>,
    aggregate_type: AggregateType,
    id: Uuid,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let events = reader.stream(tx, StreamRef { aggregate_type, id }, Until::End).await?;
    for (event, sequence) in events.iter().zip(1..) {
        if event.sequence != sequence {
            let what = "a stream with a gap";
            return Err(StoreError::Corrupt { what, position: event.position, source: None });
        }
    }
    Ok(events)
}
