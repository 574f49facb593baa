//! Daybook's domain: aggregates, commands, events and policies as pure functions.
//!
//! Nothing here reads a clock, draws a random number, speaks SQL or HTTP: time, ids and the state of
//! other aggregates are arguments. `make test` checks with `cargo tree` that it stays so.
//!
//! Every aggregate is a [`Decider`]: `decide` turns a command into events without changing anything,
//! `apply` folds an event without any rule. [`cqrs_es::Aggregate`] is implemented over the two.

pub mod aggregate;
pub mod api_key;
pub mod audit_export;
pub mod audit_trail;
pub mod availability;
pub mod booking;
pub mod carried;
pub mod customer;
pub mod decimal;
pub mod diff;
pub mod disclosed;
pub mod envelope;
pub mod error;
pub mod hijack;
pub mod hostname;
pub mod ids;
pub mod interval;
pub mod lead;
pub mod legal_hold;
pub mod local_time;
pub mod masquerade;
pub mod money;
pub mod occupancy;
pub mod offering;
pub mod packing;
pub mod permission;
pub mod permission_grant;
pub mod personal;
pub mod registry;
pub mod resource;
pub mod role;
pub mod schedule;
pub mod settings;
pub mod support_request;
pub mod support_session;
pub mod tenant;
pub mod text;
pub mod upcast;
pub mod user;

pub use aggregate::{Decider, Event, PersonalVisitor};
pub use carried::CarriedOver;
pub use disclosed::Disclosed;
pub use envelope::RecordedEvent;
pub use error::{DomainError, FieldError};
pub use hostname::Hostname;
pub use ids::*;
pub use interval::{Interval, Nights};
pub use money::{Currency, Money};
pub use occupancy::{Claim, Occupancy};
pub use personal::Personal;
pub use text::{Email, Name, Notes, Phone, Slug};
