//! x

pub mod config;
pub mod database;
pub mod embedded_pg;
pub mod keys;
pub mod random;
