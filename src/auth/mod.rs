//! Who may do what: credentials, principals, and the gate before every route.

pub mod access_token;
pub mod api_key;
pub mod authorize;
pub mod directory;
pub mod principal;
pub mod routes;

pub use directory::AuthDirectory;
pub use principal::{Caller, Credential, Principal};
