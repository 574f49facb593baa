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

/// With the feature `s3` the HTTP client brings no cryptography of its own, and asks for some before it is made.
pub fn cryptography() {
    // Of those who ask first one decides for the process.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
}
