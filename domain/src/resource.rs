//! A resource: one unit (a pitch, a room, a person) or a pool of interchangeable units.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::{Decider, DomainError, Event, ResourceId, carried::CarriedOver, impl_cqrs_aggregate, text::Name};

/// The most units of a pool.
pub const MAX_CAPACITY: u32 = 10_000;

/// One unit, or a pool of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// One pitch, room or person.
    #[default]
    Unit,
    /// Interchangeable units.
    Pool,
}

impl ResourceKind {
    /// The name in events and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Pool => "pool",
        }
    }
}

/// The state of a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Its id, once it was created.
    pub id: Option<ResourceId>,
    /// Its name.
    pub name: String,
    /// Unit or pool.
    pub kind: ResourceKind,
    /// How many units it has; 1 for a unit.
    pub capacity: u32,
    /// The zone its dates and local times are in.
    pub time_zone: Tz,
    /// Archived resources take no new bookings.
    pub archived: bool,
}

impl Resource {
    /// Whether it was created.
    pub fn exists(&self) -> bool {
        self.id.is_some()
    }

    /// Whether it takes new bookings.
    pub fn bookable(&self) -> bool {
        self.exists() && !self.archived
    }
}

/// What can be asked of a resource.
#[derive(Clone, Debug)]
pub enum ResourceCommand {
    /// Create it.
    Create {
        /// Its name.
        name: Name,
        /// Unit or pool.
        kind: ResourceKind,
        /// Units of a pool (default 1); a unit has one.
        capacity: Option<u32>,
        /// Its zone.
        time_zone: Tz,
    },
    /// Change what is given.
    Update {
        /// A new name.
        name: Option<Name>,
        /// A new number of units.
        capacity: Option<u32>,
        /// A new zone.
        time_zone: Option<Tz>,
    },
    /// Take no new bookings.
    Archive,
}

/// What can have happened to a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum ResourceEvent {
    /// It was created.
    #[serde(rename = "resource.created")]
    Created {
        /// Its id.
        resource_id: ResourceId,
        /// Its name.
        name: Name,
        /// Unit or pool.
        kind: ResourceKind,
        /// Its units.
        capacity: u32,
        /// Its zone.
        time_zone: Tz,
    },
    /// What is given was changed.
    #[serde(rename = "resource.updated")]
    Updated {
        /// The new name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
        /// The new number of units.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        capacity: Option<u32>,
        /// The new zone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_zone: Option<Tz>,
    },
    /// It takes no new bookings.
    #[serde(rename = "resource.archived")]
    Archived,
    /// Its state, when what was before was pruned.
    #[serde(rename = "resource.carried_over")]
    CarriedOver(Box<CarriedOver<Resource>>),
}

impl Event for ResourceEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("resource.created", 1),
        ("resource.updated", 1),
        ("resource.archived", 1),
        ("resource.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "resource.created",
            Self::Updated { .. } => "resource.updated",
            Self::Archived => "resource.archived",
            Self::CarriedOver(_) => "resource.carried_over",
        }
    }
}

/// What a decision about a resource needs to know.
#[derive(Clone, Debug)]
pub struct ResourceContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The resource's id.
    pub id: ResourceId,
    /// The most claims that overlap at one instant from now on.
    pub peak_claims: u32,
    /// The claims from now on.
    pub live_claims: u32,
    /// The highest unit that a claim from now on is pinned to.
    pub min_capacity_for_pins: u32,
}

impl Decider for Resource {
    const TYPE: &'static str = "resource";
    type Command = ResourceCommand;
    type Event = ResourceEvent;
    type Context = ResourceContext;

    fn decide(
        &self,
        command: &ResourceCommand,
        context: &ResourceContext,
    ) -> Result<Vec<ResourceEvent>, DomainError> {
        if let ResourceCommand::Create { name, kind, capacity, time_zone } = command {
            if self.exists() {
                return Err(DomainError::AlreadyExists { what: Self::TYPE.into() });
            }
            return Ok(vec![ResourceEvent::Created {
                resource_id: context.id,
                name: name.clone(),
                kind: *kind,
                capacity: check_capacity(*kind, capacity.unwrap_or(1))?,
                time_zone: *time_zone,
            }]);
        }
        if !self.exists() {
            return Err(DomainError::not_found(Self::TYPE));
        }
        if self.archived {
            return Err(DomainError::wrong_state("archived", "the resource is archived"));
        }
        match command {
            // Handled above; an existing resource is never created again.
            ResourceCommand::Create { .. } => Err(DomainError::AlreadyExists { what: Self::TYPE.into() }),
            ResourceCommand::Update { name, capacity, time_zone } => {
                self.decide_update(name.as_ref(), *capacity, *time_zone, context)
            }
            ResourceCommand::Archive if context.live_claims > 0 => {
                Err(DomainError::wrong_state("booked", "the resource has bookings that are not over"))
            }
            ResourceCommand::Archive => Ok(vec![ResourceEvent::Archived]),
        }
    }

    fn apply(&mut self, event: &ResourceEvent) {
        match event {
            ResourceEvent::Created { resource_id, name, kind, capacity, time_zone } => {
                *self = Self {
                    id: Some(*resource_id),
                    name: name.as_str().to_owned(),
                    kind: *kind,
                    capacity: *capacity,
                    time_zone: *time_zone,
                    archived: false,
                };
            }
            ResourceEvent::Updated { name, capacity, time_zone } => {
                if let Some(name) = name {
                    self.name = name.as_str().to_owned();
                }
                self.capacity = capacity.unwrap_or(self.capacity);
                self.time_zone = time_zone.unwrap_or(self.time_zone);
            }
            ResourceEvent::Archived => self.archived = true,
            ResourceEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl Resource {
    fn decide_update(
        &self,
        name: Option<&Name>,
        capacity: Option<u32>,
        time_zone: Option<Tz>,
        context: &ResourceContext,
    ) -> Result<Vec<ResourceEvent>, DomainError> {
        let name = name.filter(|name| name.as_str() != self.name).cloned();
        let capacity = match capacity {
            Some(capacity) => Some(check_capacity(self.kind, capacity)?).filter(|it| *it != self.capacity),
            None => None,
        };
        let time_zone = time_zone.filter(|zone| *zone != self.time_zone);
        let needed = context.peak_claims.max(context.min_capacity_for_pins);
        if capacity.is_some_and(|capacity| capacity < needed) {
            return Err(DomainError::wrong_state("booked", "bookings already need more units than that"));
        }
        // Nights are dates in the resource's zone; what is booked was booked in the old one.
        if time_zone.is_some() && context.live_claims > 0 {
            return Err(DomainError::wrong_state(
                "booked",
                "the time zone of a booked resource cannot change",
            ));
        }
        if name.is_none() && capacity.is_none() && time_zone.is_none() {
            return Ok(Vec::new());
        }
        Ok(vec![ResourceEvent::Updated { name, capacity, time_zone }])
    }
}

fn check_capacity(kind: ResourceKind, capacity: u32) -> Result<u32, DomainError> {
    match kind {
        ResourceKind::Unit if capacity != 1 => Err(DomainError::field(
            "/capacity",
            "invalid_capacity",
            "a unit has a capacity of 1; make it a pool",
        )),
        ResourceKind::Pool if !(1..=MAX_CAPACITY).contains(&capacity) => {
            Err(DomainError::field("/capacity", "invalid_capacity", "a pool has 1 to 10,000 units"))
        }
        ResourceKind::Unit | ResourceKind::Pool => Ok(capacity),
    }
}

impl_cqrs_aggregate!(Resource, ResourceEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn context() -> ResourceContext {
        ResourceContext {
            now: DateTime::UNIX_EPOCH,
            id: ResourceId::default(),
            peak_claims: 0,
            live_claims: 0,
            min_capacity_for_pins: 0,
        }
    }

    fn name(text: &str) -> Name {
        Name::new(text, "/name").unwrap()
    }

    fn created(kind: ResourceKind, capacity: u32) -> ResourceEvent {
        ResourceEvent::Created {
            resource_id: ResourceId::default(),
            name: name("Pitch"),
            kind,
            capacity,
            time_zone: Tz::UTC,
        }
    }

    fn resize(capacity: u32) -> ResourceCommand {
        ResourceCommand::Update { name: None, capacity: Some(capacity), time_zone: None }
    }

    #[test]
    fn a_pool_is_created_with_its_units() {
        TestFramework::<Resource>::with(context())
            .given_no_previous_events()
            .when(ResourceCommand::Create {
                name: name("Pitch"),
                kind: ResourceKind::Pool,
                capacity: Some(3),
                time_zone: Tz::UTC,
            })
            .then_expect_events(vec![created(ResourceKind::Pool, 3)]);
    }

    #[test]
    fn a_unit_of_two_is_refused() {
        TestFramework::<Resource>::with(context())
            .given_no_previous_events()
            .when(ResourceCommand::Create {
                name: name("Pitch"),
                kind: ResourceKind::Unit,
                capacity: Some(2),
                time_zone: Tz::UTC,
            })
            .then_expect_error(DomainError::field(
                "/capacity",
                "invalid_capacity",
                "a unit has a capacity of 1; make it a pool",
            ));
    }

    #[test]
    fn a_pool_does_not_shrink_below_what_is_booked() {
        TestFramework::<Resource>::with(ResourceContext { peak_claims: 2, live_claims: 2, ..context() })
            .given(vec![created(ResourceKind::Pool, 3)])
            .when(resize(1))
            .then_expect_error(DomainError::wrong_state(
                "booked",
                "bookings already need more units than that",
            ));
        TestFramework::<Resource>::with(ResourceContext { min_capacity_for_pins: 3, ..context() })
            .given(vec![created(ResourceKind::Pool, 3)])
            .when(resize(2))
            .then_expect_error(DomainError::wrong_state(
                "booked",
                "bookings already need more units than that",
            ));
    }

    #[test]
    fn a_booked_resource_keeps_its_zone_and_is_not_archived() {
        let booked = || ResourceContext { live_claims: 1, peak_claims: 1, ..context() };
        TestFramework::<Resource>::with(booked())
            .given(vec![created(ResourceKind::Unit, 1)])
            .when(ResourceCommand::Update {
                name: None,
                capacity: None,
                time_zone: Some(Tz::Europe__Brussels),
            })
            .then_expect_error(DomainError::wrong_state(
                "booked",
                "the time zone of a booked resource cannot change",
            ));
        TestFramework::<Resource>::with(booked())
            .given(vec![created(ResourceKind::Unit, 1)])
            .when(ResourceCommand::Archive)
            .then_expect_error(DomainError::wrong_state(
                "booked",
                "the resource has bookings that are not over",
            ));
    }

    #[test]
    fn an_update_that_changes_nothing_leaves_no_event() {
        TestFramework::<Resource>::with(context())
            .given(vec![created(ResourceKind::Pool, 3)])
            .when(ResourceCommand::Update {
                name: Some(name("Pitch")),
                capacity: Some(3),
                time_zone: Some(Tz::UTC),
            })
            .then_expect_events(vec![]);
    }

    #[test]
    fn what_does_not_exist_or_is_archived_takes_no_command() {
        TestFramework::<Resource>::with(context())
            .given_no_previous_events()
            .when(ResourceCommand::Archive)
            .then_expect_error(DomainError::not_found("resource"));
        TestFramework::<Resource>::with(context())
            .given(vec![created(ResourceKind::Unit, 1), ResourceEvent::Archived])
            .when(ResourceCommand::Archive)
            .then_expect_error(DomainError::wrong_state("archived", "the resource is archived"));
    }
}
