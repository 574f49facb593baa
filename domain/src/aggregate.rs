//! The kernel every aggregate is written against: pure `decide` and `apply`, and the bridge to `cqrs-es`.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::{DomainError, SubjectId, personal::PersonalSlot};

/// What is called for every personal field of an event: the field's stable name (its path in the payload),
/// the subject whose key seals it, and access to the value itself.
pub type PersonalVisitor<'a> = dyn FnMut(&'static str, SubjectId, &mut dyn PersonalSlot) + 'a;

/// A domain event: past tense, with a stable type string (`booking.confirmed`) and a version.
///
/// The payload is the event's serde form: internally tagged with `type`, personal fields sealed
/// (see [`crate::Personal`]), money amounts as strings.
pub trait Event: cqrs_es::DomainEvent + 'static {
    /// Every type string this enum can have, with the version written today.
    const TYPES: &'static [(&'static str, u16)];

    /// The stable type string.
    fn type_name(&self) -> &'static str;

    /// The version of the payload's shape, from [`Event::TYPES`].
    fn version(&self) -> u16 {
        Self::TYPES.iter().find(|(name, _)| *name == self.type_name()).map_or(1, |(_, version)| *version)
    }

    /// Visits each personal field; the store uses it to commit to and seal values before an append, and to
    /// put them back after a load.
    fn visit_personal(&mut self, _visit: &mut PersonalVisitor<'_>) {}
}

/// An aggregate as two pure functions.
pub trait Decider:
    Default + Clone + PartialEq + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The aggregate type as it stands in the log (`booking`).
    const TYPE: &'static str;
    /// What can be asked of it.
    type Command: Clone + Debug + Send + Sync + 'static;
    /// What can have happened to it.
    type Event: Event;
    /// What a decision needs to know besides the aggregate's own state: time and other aggregates' state.
    type Context: Send + Sync;

    /// Decides a command against the current state. Changes nothing.
    ///
    /// # Errors
    /// The rule that refuses it.
    fn decide(
        &self,
        command: &Self::Command,
        context: &Self::Context,
    ) -> Result<Vec<Self::Event>, DomainError>;

    /// Visits each personal field of the state, under a name and subject of its own: what [`Event::visit_personal`] does
    /// for an event that carries the state over.
    fn visit_personal(&mut self, _visit: &mut PersonalVisitor<'_>) {}

    /// Folds one event. Has no rules and cannot fail: what happened, happened.
    fn apply(&mut self, event: &Self::Event);
}

/// Implements [`cqrs_es::Aggregate`] for a [`Decider`], and [`cqrs_es::DomainEvent`] for its event.
#[macro_export]
macro_rules! impl_cqrs_aggregate {
    ($aggregate:ty, $event:ty) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = <Self as $crate::Decider>::TYPE;
            type Command = <Self as $crate::Decider>::Command;
            type Event = $event;
            type Error = $crate::DomainError;
            type Services = <Self as $crate::Decider>::Context;

            async fn handle(
                &mut self,
                command: Self::Command,
                service: &Self::Services,
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in $crate::Decider::decide(self, &command, service)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: Self::Event) {
                $crate::Decider::apply(self, &event);
            }
        }

        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                $crate::Event::type_name(self).to_owned()
            }

            fn event_version(&self) -> String {
                $crate::Event::version(self).to_string()
            }
        }
    };
}
