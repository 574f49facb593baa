//! What tests share.

pub mod app;
pub mod cluster;
pub mod site;
