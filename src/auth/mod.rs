//! Who may do what: credentials, principals, and the gate before every route.

pub mod access_token;
pub mod api_key;
pub mod authorize;
pub mod directory;
pub mod grants;
pub mod link;
pub mod lockout;
pub mod masquerade;
pub mod named;
pub mod password;
pub mod password_policy;
pub mod principal;
pub mod refresh_token;
pub mod routes;
pub mod sealed;
pub mod sightings;
pub mod watch;

pub use directory::AuthDirectory;
pub use principal::{Caller, Credential, Principal};
