//! Daybook's server: the event store, tenancy, HTTP, workers and the command line over the domain.

pub mod access_log;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod dns;
pub mod embedded_pg;
pub mod eventstore;
pub mod http;
pub mod import;
pub mod keys;
pub mod limits;
pub mod mail;
pub mod masquerade_log;
pub mod random;
pub mod rotating_log;
pub mod sample;
pub mod security_log;
pub mod serve;
pub mod story;
pub mod telemetry;
pub mod tenancy;
pub mod tls;
pub mod workers;
