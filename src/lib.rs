//! Daybook's server: the event store, tenancy, HTTP, workers and the command line over the domain.

pub mod app;
pub mod cli;
pub mod config;
pub mod database;
pub mod dns;
pub mod embedded_pg;
pub mod eventstore;
pub mod http;
pub mod import;
pub mod keys;
pub mod mail;
pub mod random;
pub mod serve;
pub mod telemetry;
pub mod tenancy;
pub mod workers;
