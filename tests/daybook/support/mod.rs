//! What tests share.

pub mod cluster;
