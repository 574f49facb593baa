//! x

pub mod keys;
pub mod random;
