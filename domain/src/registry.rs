//! Every aggregate, in one place. A new aggregate is one line in [`registry!`]'s call below; the compiler then
//! names each match that has to learn of it.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    Decider, DomainError, Event, PersonalVisitor,
    api_key::{ApiKey, ApiKeyCommand, ApiKeyEvent},
    audit_export::{AuditExport, AuditExportCommand, AuditExportEvent, UNFINISHED_FOR},
    audit_trail::{AuditTrail, AuditTrailCommand, AuditTrailEvent},
    booking::{Booking, BookingCommand, BookingEvent},
    carried::{CarriedOver, Past, SUFFIX, Standing},
    customer::{Customer, CustomerCommand, CustomerEvent},
    hijack::{Hijack, HijackCommand, HijackEvent},
    lead::{Lead, LeadCommand, LeadEvent},
    legal_hold::{LegalHold, LegalHoldCommand, LegalHoldEvent},
    offering::{Offering, OfferingCommand, OfferingEvent},
    permission_grant::{GrantState, PermissionGrant, PermissionGrantCommand, PermissionGrantEvent},
    resource::{Resource, ResourceCommand, ResourceEvent},
    role::{Role, RoleCommand, RoleEvent},
    schedule::{Schedule, ScheduleCommand, ScheduleEvent},
    settings::{Settings, SettingsCommand, SettingsEvent},
    support_request::{SupportRequest, SupportRequestCommand, SupportRequestEvent, SupportStatus},
    support_session::{SupportSession, SupportSessionCommand, SupportSessionEvent},
    tenant::{Tenant, TenantCommand, TenantEvent},
    upcast::{UpcastError, upcast},
    user::{User, UserCommand, UserEvent},
};

macro_rules! registry {
    ($($(#[$doc:meta])* $variant:ident: $aggregate:ty, $command:ty, $event:ty;)*) => {
        /// The type of an aggregate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AggregateType { $($(#[$doc])* $variant,)* }

        impl AggregateType {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the log (`booking`).
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => <$aggregate as Decider>::TYPE,)* }
            }

            /// The type of that name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|t| t.as_str() == name)
            }
        }

        /// A command to any aggregate.
        #[derive(Clone, Debug)]
        pub enum AnyCommand { $($(#[$doc])* $variant($command),)* }

        impl AnyCommand {
            /// The type of the aggregate it is for.
            pub fn aggregate_type(&self) -> AggregateType {
                match self { $(Self::$variant(_) => AggregateType::$variant,)* }
            }
        }

        /// An event of any aggregate.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyEvent { $($(#[$doc])* $variant($event),)* }

        impl AnyEvent {
            /// The type of the aggregate it happened to.
            pub fn aggregate_type(&self) -> AggregateType {
                match self { $(Self::$variant(_) => AggregateType::$variant,)* }
            }

            /// The event's stable type string.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(event) => event.type_name(),)* }
            }

            /// The version of its shape.
            pub fn version(&self) -> u16 {
                match self { $(Self::$variant(event) => event.version(),)* }
            }

            /// Visits its personal fields.
            pub fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
                match self { $(Self::$variant(event) => event.visit_personal(visit),)* }
            }

            /// What it carries over, where it is such an event.
            pub fn carried(&self) -> Option<Carried> {
                match self {
                    $(Self::$variant(event) => match event.carried() {
                        Some(it) => Some(Carried {
                            standing: it.standing,
                            past: it.past.clone(),
                            state: AnyState::$variant(Arc::new(it.state.clone())),
                        }),
                        None => None,
                    },)*
                }
            }

            /// What the state it carries over was folded from, where it is such an event.
            pub fn carried_past(&self) -> Option<(Standing, &Past)> {
                match self {
                    $(Self::$variant(event) => event.carried().map(|it| (it.standing, &it.past)),)*
                }
            }

            /// The type strings of events that carry a state over.
            pub fn carried_types() -> Vec<&'static str> {
                Self::types().into_iter().map(|(_, name, _)| name).filter(|name| name.ends_with(SUFFIX)).collect()
            }

            /// Its payload, personal fields sealed.
            ///
            /// # Errors
            /// When the event does not serialise, which its golden test excludes.
            pub fn payload(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$variant(event) => serde_json::to_value(event),)* }
            }

            /// Reads a payload as it was written then, through the upcasters.
            ///
            /// # Errors
            /// When the type or version is unknown or the payload is not of its shape.
            pub fn from_payload(
                aggregate_type: AggregateType,
                event_type: &str,
                version: u16,
                payload: Value,
            ) -> Result<Self, UpcastError> {
                let payload = upcast(event_type, version, payload)?;
                let malformed = |error: serde_json::Error| UpcastError::Malformed {
                    event_type: event_type.to_owned(),
                    version,
                    detail: error.to_string(),
                };
                match aggregate_type {
                    $(AggregateType::$variant => serde_json::from_value(payload).map(Self::$variant).map_err(malformed),)*
                }
            }

            /// Every type string and the version written today, with the aggregate it belongs to.
            pub fn types() -> Vec<(AggregateType, &'static str, u16)> {
                let mut all = Vec::new();
                $(all.extend(<$event as Event>::TYPES.iter().map(|(name, version)| (AggregateType::$variant, *name, *version)));)*
                all
            }
        }

        /// The folded state of any aggregate; cheap to clone.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyState { $($(#[$doc])* $variant(Arc<$aggregate>),)* }

        impl AnyState {
            /// The state before anything happened.
            pub fn new(aggregate_type: AggregateType) -> Self {
                match aggregate_type { $(AggregateType::$variant => Self::$variant(Arc::default()),)* }
            }

            /// The aggregate's type.
            pub fn aggregate_type(&self) -> AggregateType {
                match self { $(Self::$variant(_) => AggregateType::$variant,)* }
            }

            /// Folds one event; an event of another aggregate type changes nothing.
            pub fn apply(&mut self, event: &AnyEvent) {
                match (self, event) {
                    $((Self::$variant(state), AnyEvent::$variant(event)) => Arc::make_mut(state).apply(event),)*
                    (state, event) => debug_assert!(false, "{:?} given {:?}", state.aggregate_type(), event.aggregate_type()),
                }
            }

            /// The event that carries the state over.
            pub fn carry_over(&self, standing: Standing, past: Past) -> AnyEvent {
                match self {
                    $(Self::$variant(state) => {
                        let state = state.as_ref().clone();
                        AnyEvent::$variant(<$event>::CarriedOver(Box::new(CarriedOver { standing, past, state })))
                    })*
                }
            }

            fn visit(&mut self, visit: &mut PersonalVisitor<'_>) {
                match self {
                    $(Self::$variant(state) => Arc::make_mut(state).visit_personal(visit),)*
                }
            }

            /// The state as JSON. Personal values are in it only inside [`crate::personal::revealing`].
            ///
            /// # Errors
            /// When the state does not serialise.
            pub fn to_json(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$variant(state) => serde_json::to_value(state.as_ref()),)* }
            }

            /// Reads a state from its JSON.
            ///
            /// # Errors
            /// When the JSON is not of the state's shape (the fold has changed since).
            pub fn from_json(aggregate_type: AggregateType, json: Value) -> Result<Self, serde_json::Error> {
                match aggregate_type {
                    $(AggregateType::$variant => serde_json::from_value(json).map(|state| Self::$variant(Arc::new(state))),)*
                }
            }
        }

        $(
            impl $event {
                fn carried(&self) -> Option<&CarriedOver<$aggregate>> {
                    if let Self::CarriedOver(carried) = self { Some(carried) } else { None }
                }
            }
            impl From<$command> for AnyCommand {
                fn from(command: $command) -> Self { Self::$variant(command) }
            }
            impl From<$event> for AnyEvent {
                fn from(event: $event) -> Self { Self::$variant(event) }
            }
            impl Registered for $aggregate {
                const AGGREGATE_TYPE: AggregateType = AggregateType::$variant;

                fn of(state: &AnyState) -> Option<&Arc<Self>> {
                    match state { AnyState::$variant(state) => Some(state), _ => None }
                }

                fn event_of(event: &AnyEvent) -> Option<&$event> {
                    match event { AnyEvent::$variant(event) => Some(event), _ => None }
                }
            }
        )*
    };
}

/// A state carried over, of any aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// What it stands for.
    pub standing: Standing,
    /// What it was folded from.
    pub past: Past,
    /// The state.
    pub state: AnyState,
}

/// An aggregate that the registry knows.
pub trait Registered: Decider {
    /// Its type.
    const AGGREGATE_TYPE: AggregateType;

    /// Its state, where the state is one of this aggregate.
    fn of(state: &AnyState) -> Option<&Arc<Self>>;

    /// Its event, where the event is one of this aggregate.
    fn event_of(event: &AnyEvent) -> Option<&Self::Event>;
}

registry! {
    /// A tenant, in the platform's log.
    Tenant: Tenant, TenantCommand, TenantEvent;
    /// A resource.
    Resource: Resource, ResourceCommand, ResourceEvent;
    /// An offering.
    Offering: Offering, OfferingCommand, OfferingEvent;
    /// A schedule.
    Schedule: Schedule, ScheduleCommand, ScheduleEvent;
    /// A customer.
    Customer: Customer, CustomerCommand, CustomerEvent;
    /// A booking.
    Booking: Booking, BookingCommand, BookingEvent;
    /// A user, of a tenant or of the platform.
    User: User, UserCommand, UserEvent;
    /// A role of a tenant's own.
    Role: Role, RoleCommand, RoleEvent;
    /// An API key.
    ApiKey: ApiKey, ApiKeyCommand, ApiKeyEvent;
    /// A tenant's settings.
    Settings: Settings, SettingsCommand, SettingsEvent;
    /// A lead: somebody asks to be contacted.
    Lead: Lead, LeadCommand, LeadEvent;
    /// A permission granted to somebody for a time.
    PermissionGrant: PermissionGrant, PermissionGrantCommand, PermissionGrantEvent;
    /// A support request: one of the platform's people asks to look into the tenant.
    SupportRequest: SupportRequest, SupportRequestCommand, SupportRequestEvent;
    /// A support session: one of the platform's people looks into the tenant.
    SupportSession: SupportSession, SupportSessionCommand, SupportSessionEvent;
    /// A hijack: somebody acts as somebody else for a while.
    Hijack: Hijack, HijackCommand, HijackEvent;
    /// An export of the log.
    AuditExport: AuditExport, AuditExportCommand, AuditExportEvent;
    /// A legal hold: what it covers is neither pruned nor erased.
    LegalHold: LegalHold, LegalHoldCommand, LegalHoldEvent;
    /// The audit trail itself: what was pruned of the log.
    AuditTrail: AuditTrail, AuditTrailCommand, AuditTrailEvent;
}

impl fmt::Display for AggregateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AnyState {
    /// Values this aggregate must be the only one to have, as (kind, value).
    pub fn unique_keys(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Tenant(tenant) => tenant.unique_keys(),
            Self::Schedule(schedule) => schedule.unique_keys(),
            Self::User(user) => user.unique_keys(),
            Self::Role(role) => role.unique_keys(),
            Self::Resource(_)
            | Self::Offering(_)
            | Self::Customer(_)
            | Self::Booking(_)
            | Self::ApiKey(_)
            | Self::Settings(_)
            | Self::Lead(_)
            | Self::PermissionGrant(_)
            | Self::SupportRequest(_)
            | Self::SupportSession(_)
            | Self::Hijack(_)
            | Self::AuditExport(_)
            | Self::LegalHold(_)
            | Self::AuditTrail(_) => Vec::new(),
        }
    }
}

impl AnyState {
    /// Whether all that remains of it is history: it is over, nothing more can happen to it, and nothing asks for it but
    /// who looks back. It goes with the log that tells of it, where everything else is carried over a cut.
    pub fn is_history(&self, now: DateTime<Utc>) -> bool {
        match self {
            Self::PermissionGrant(grant) => grant.state(now).is_none_or(|state| state != GrantState::Active),
            Self::SupportRequest(request) => match request.status {
                SupportStatus::Denied | SupportStatus::Revoked => true,
                SupportStatus::Requested => request.lapses_at <= now,
                SupportStatus::Approved => !request.is_open(now),
            },
            Self::SupportSession(session) => session.refused.is_some() || session.ended.is_some(),
            Self::Hijack(hijack) => hijack.refused.is_some() || hijack.ended.is_some(),
            Self::AuditExport(export) => export.ended.is_some() || export.started_at + UNFINISHED_FOR <= now,
            Self::Tenant(_)
            | Self::Resource(_)
            | Self::Offering(_)
            | Self::Schedule(_)
            | Self::Customer(_)
            | Self::Booking(_)
            | Self::User(_)
            | Self::Role(_)
            | Self::ApiKey(_)
            | Self::Settings(_)
            | Self::Lead(_)
            | Self::LegalHold(_)
            | Self::AuditTrail(_) => false,
        }
    }

    /// What [`Decider::visit_personal`] visits.
    pub fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        self.visit(visit);
    }
}

/// The refusal when a unique value is taken.
pub fn unique_taken(kind: &str) -> DomainError {
    DomainError::AlreadyExists { what: kind.to_owned() }
}

/// The version of an event type's shape that is written today; `None` for an unknown type.
pub fn current_version(event_type: &str) -> Option<u16> {
    AnyEvent::types().into_iter().find(|(_, name, _)| *name == event_type).map(|(_, _, version)| version)
}
