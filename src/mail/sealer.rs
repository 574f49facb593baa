//! Seals messages with the keys of the installation.

use std::{borrow::Cow, sync::Arc};

use daybook_domain::TenantId;
use zeroize::Zeroizing;

use super::{Part, SealError, Sealer};
use crate::{auth::sealed, keys::Keys};

/// Fernet, with the keys of the keys file.
#[derive(Clone, Debug)]
pub struct KeySealer(pub Arc<Keys>);

impl Sealer for KeySealer {
    fn seal(&self, tenant: Option<TenantId>, part: Part, plaintext: &[u8]) -> Result<String, SealError> {
        sealed::seal(&self.0, tenant, &field(part), plaintext).map_err(|_| SealError)
    }

    fn open(
        &self,
        tenant: Option<TenantId>,
        part: Part,
        token: &str,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        sealed::open(&self.0, tenant, &field(part), token).map_err(|_| SealError)
    }

    fn recognise(&self, tenant: Option<TenantId>, address: &str) -> [u8; 32] {
        let address = address.to_lowercase();
        self.0.hmac_unique("message recipient", tenant.unwrap_or_default().0, address.as_bytes())
    }
}

/// What a part is bound to, besides its tenant.
fn field(part: Part) -> Cow<'static, str> {
    match part {
        Part::Body => Cow::Borrowed("message"),
        Part::Recipient(id) => Cow::Owned(format!("message/recipient/{id}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_recipient_is_opened_for_its_own_message_only_and_recognised_however_it_is_written() {
        let sealer = KeySealer(Arc::new(Keys::generate(Path::new("k"), DateTime::UNIX_EPOCH).unwrap()));
        let (one, other) = (Part::Recipient(Uuid::from_u128(1)), Part::Recipient(Uuid::from_u128(2)));
        let sealed = sealer.seal(None, one, b"ada@example.org").unwrap();
        assert_eq!(sealer.open(None, one, &sealed).unwrap().as_slice(), b"ada@example.org");
        assert!(
            sealer.open(None, other, &sealed).is_err() && sealer.open(None, Part::Body, &sealed).is_err()
        );
        let tenant = Some(TenantId(Uuid::from_u128(1)));
        let hash = sealer.recognise(None, "Ada@Example.org");
        assert_eq!(hash, sealer.recognise(None, "ada@example.org"));
        assert_ne!(hash, sealer.recognise(tenant, "ada@example.org"));
    }
}
