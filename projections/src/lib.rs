//! Daybook's read models: one file per projection, with its row, its fold and its queries.
//!
//! Inline read models ([`inline`]) are written in the transaction of the events they come from; commands and
//! read-your-writes rely on them. Projections that follow the log ([`Projection`], [`ALL`]) are caught up by
//! workers and read nothing but the log's events and their own tables, so that a replay arrives at the same rows.
//!
//! Statements of the write path name their schema. All others use unqualified names and run in a transaction
//! whose search path is one schema: the live one, or a scratch schema beside it in a rebuild.
//!
//! Deliberately absent: connections, checkpoints, leases and the log itself. They are the server's.

pub mod api_calls;
pub mod api_keys;
pub mod audit_exports;
pub mod audit_prunings;
pub mod booking_changes;
pub mod booking_history;
pub mod bookings;
pub mod calendar;
pub mod claims;
pub mod combined;
pub mod customers;
pub mod domains;
pub mod erasures;
pub mod hijacks;
pub mod inline;
pub mod leads;
pub mod legal_holds;
pub mod log;
pub mod logins;
pub mod masquerade_overview;
pub mod messages;
pub mod months;
mod newest;
pub mod offerings;
pub mod pace;
pub mod parked;
pub mod permission_grants;
pub mod positions;
pub mod projection;
pub mod refused_logins;
pub mod request_errors;
pub mod resources;
pub mod roles;
pub mod run;
pub mod schedules;
mod schema;
pub mod settings;
pub mod support_audit;
pub mod support_counts;
pub mod support_overview;
pub mod support_requests;
pub mod support_sessions;
pub mod tenants;
pub mod users;

pub use combined::Combined;
pub use projection::{ALL, Projection, ProjectionError, find};
pub use run::Run;
pub use schema::Schema;
