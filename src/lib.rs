//! Daybook's server: the event store, tenancy, HTTP, workers and the command line over the domain.

pub mod config;
pub mod database;
pub mod embedded_pg;
pub mod eventstore;
pub mod import;
pub mod keys;
pub mod random;
pub mod telemetry;
pub mod tenancy;
pub mod workers;
