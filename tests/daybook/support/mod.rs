//! What tests share.

pub mod app;
pub mod cluster;
pub mod people;
pub mod process;
pub mod site;
