//! Bundles: a range of a log as evidence that can be checked without us.
//!
//! A bundle is one `.tar.gz` with the leaves, the tree over them, the signed checkpoint, the personal values that its
//! taker may see, and the same events as CSV, JSON lines and Parquet. [`export`] writes one from the store; [`verify`]
//! checks one and knows nothing of the server: no database, no keys file, no network. [`format`] is what both agree on,
//! [`container`] the file around it, [`write`] puts files into it and signs their list.

pub mod container;
pub mod export;
pub mod format;
pub mod verify;
pub mod write;
