//! x

pub mod config;
pub mod keys;
pub mod random;
