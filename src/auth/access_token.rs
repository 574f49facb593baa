//! Access tokens. None are issued yet, so none is valid.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::keys::Keys;

/// What a valid access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// The user.
    pub sub: Uuid,
    /// The session.
    pub sid: Uuid,
    /// The tenant.
    pub tenant_id: Option<Uuid>,
}

/// Not a valid access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid access token")]
pub struct InvalidToken;

/// Verifies an access token.
///
/// # Errors
/// When it is not valid.
pub fn verify(_keys: &Keys, _token: &str, _now: DateTime<Utc>) -> Result<AccessClaims, InvalidToken> {
    Err(InvalidToken)
}
