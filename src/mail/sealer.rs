//! Seals the bodies of messages with the keys of the installation.

use std::sync::Arc;

use daybook_domain::TenantId;
use zeroize::Zeroizing;

use super::{SealError, Sealer};
use crate::{auth::sealed, keys::Keys};

/// What the bodies are bound to, besides their tenant.
const FIELD: &str = "message";

/// Fernet, with the keys of the keys file.
#[derive(Clone, Debug)]
pub struct KeySealer(pub Arc<Keys>);

impl Sealer for KeySealer {
    fn seal(&self, tenant: Option<TenantId>, plaintext: &[u8]) -> Result<String, SealError> {
        sealed::seal(&self.0, tenant, FIELD, plaintext).map_err(|_| SealError)
    }

    fn open(&self, tenant: Option<TenantId>, token: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        sealed::open(&self.0, tenant, FIELD, token).map_err(|_| SealError)
    }
}
