//! [`cqrs_es::EventStore`] over the event store, so that `CqrsFramework` and other cqrs-es tools drive the same
//! log as every other caller: same lanes, same leaves, same guards.

use std::collections::HashMap;

use cqrs_es::{AggregateContext, AggregateError, DomainEvent, EventEnvelope};
use daybook_domain::{
    DomainError,
    envelope::Metadata,
    registry::{AnyEvent, Registered},
};
use daybook_projections::Schema;
use uuid::Uuid;

use super::{
    Command, EventStore, StoreError, StreamRef, Unit,
    load::{Reader, Until},
};
use crate::tenancy::{Access, TenantTx};

/// The event store of one log as cqrs-es sees it.
#[derive(Clone)]
pub struct CqrsStore {
    store: EventStore,
    schema: Schema,
}

/// A loaded aggregate, with the sequence its next events must follow.
#[derive(Debug)]
pub struct Context<A> {
    aggregate: A,
    id: Uuid,
    sequence: i64,
}

impl<A: cqrs_es::Aggregate> AggregateContext<A> for Context<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

impl CqrsStore {
    /// The store of one log.
    pub fn new(store: EventStore, schema: Schema) -> Self {
        Self { store, schema }
    }

    async fn events<A: Registered>(
        &self,
        id: Uuid,
    ) -> Result<Vec<daybook_domain::RecordedEvent>, StoreError> {
        let mut tx = TenantTx::begin(self.store.database().app(), &self.schema, Access::Read).await?;
        let stream = StreamRef { aggregate_type: A::AGGREGATE_TYPE, id };
        Reader::disclosing(&self.schema, self.store.keys()).stream(&mut tx, stream, Until::End).await
    }
}

impl<A> cqrs_es::EventStore<A> for CqrsStore
where
    A: Registered + cqrs_es::Aggregate<Event = <A as daybook_domain::Decider>::Event, Error = DomainError>,
    <A as daybook_domain::Decider>::Event: DomainEvent + Into<AnyEvent>,
{
    type AC = Context<A>;

    async fn load_events(
        &self,
        aggregate_id: &str,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<DomainError>> {
        let id = parse(aggregate_id)?;
        let events = self.events::<A>(id).await.map_err(aggregate_error)?;
        Ok(events
            .into_iter()
            .filter_map(|recorded| {
                Some(EventEnvelope {
                    aggregate_id: aggregate_id.to_owned(),
                    sequence: usize::try_from(recorded.sequence).ok()?,
                    payload: A::event_of(&recorded.event)?.clone(),
                    metadata: HashMap::from([("actor".to_owned(), recorded.metadata.actor)]),
                })
            })
            .collect())
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Context<A>, AggregateError<DomainError>> {
        let id = parse(aggregate_id)?;
        let mut context = Context { aggregate: A::default(), id, sequence: 0 };
        for recorded in self.events::<A>(id).await.map_err(aggregate_error)? {
            if let Some(event) = A::event_of(&recorded.event) {
                daybook_domain::Decider::apply(&mut context.aggregate, event);
            }
            context.sequence = recorded.sequence;
        }
        Ok(context)
    }

    async fn commit(
        &self,
        events: Vec<<A as cqrs_es::Aggregate>::Event>,
        context: Context<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<DomainError>> {
        let envelopes = events
            .iter()
            .zip(context.sequence + 1..)
            .filter_map(|(event, sequence)| {
                Some(EventEnvelope {
                    aggregate_id: context.id.to_string(),
                    sequence: usize::try_from(sequence).ok()?,
                    payload: event.clone(),
                    metadata: metadata.clone(),
                })
            })
            .collect();
        let mut unit = Unit::of(
            Command::decided(
                context.id,
                A::AGGREGATE_TYPE,
                context.sequence,
                events.into_iter().map(Into::into).collect(),
            ),
            Metadata {
                actor: metadata.get("actor").cloned().unwrap_or_else(|| "cqrs".into()),
                reason: metadata.get("reason").cloned(),
                source: Some("cqrs".into()),
                ..Metadata::default()
            },
        );
        unit.metadata.correlation_id = metadata.get("correlation_id").cloned();
        self.store.execute(&self.schema, unit).await.map_err(aggregate_error)?;
        Ok(envelopes)
    }
}

fn parse(aggregate_id: &str) -> Result<Uuid, AggregateError<DomainError>> {
    aggregate_id.parse().map_err(|_| AggregateError::UserError(DomainError::not_found("aggregate")))
}

fn aggregate_error(error: StoreError) -> AggregateError<DomainError> {
    match error {
        StoreError::Refused { error: DomainError::VersionConflict, .. } => AggregateError::AggregateConflict,
        StoreError::Refused { error, .. } => AggregateError::UserError(error),
        other => AggregateError::DatabaseConnectionError(Box::new(other)),
    }
}
