//! What tests share.

pub mod app;
pub mod cluster;
pub mod dns;
pub mod letters;
pub mod people;
pub mod process;
pub mod proxy;
pub mod site;
pub mod walk;
