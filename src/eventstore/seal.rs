//! Sealing personal values: XChaCha20-Poly1305 under the subject's own key, bound to tenant, event and field.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use daybook_domain::TenantId;
use serde_json::Value;
use uuid::Uuid;

use super::{
    StoreError,
    leaf::{SALT_BYTES, commitment},
};

const NONCE_BYTES: usize = 24;

/// A personal value ready to be appended.
#[derive(Debug)]
pub struct Sealed {
    /// What goes into the leaf.
    pub commitment: [u8; 32],
    /// Nonce, then the encrypted salt and canonical value.
    pub ciphertext: Vec<u8>,
}

/// Seals a value: fresh salt and nonce are arguments, so that nothing here draws randomness.
///
/// # Errors
/// When the value cannot be canonicalised.
pub fn seal(
    key: &[u8; 32],
    tenant: TenantId,
    event_id: Uuid,
    field: &str,
    value: &Value,
    salt: &[u8; SALT_BYTES],
    nonce: &[u8; NONCE_BYTES],
) -> Result<Sealed, StoreError> {
    let canonical = serde_json_canonicalizer::to_vec(value)
        .map_err(|_| StoreError::Sealing("a personal value cannot be canonicalised"))?;
    let mut plaintext = Vec::with_capacity(SALT_BYTES + canonical.len());
    plaintext.extend_from_slice(salt);
    plaintext.extend_from_slice(&canonical);
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(
            XNonce::from_slice(nonce),
            Payload { msg: &plaintext, aad: &associated_data(tenant, event_id, field) },
        )
        .map_err(|_| StoreError::Sealing("a personal value cannot be sealed"))?;
    let mut ciphertext = nonce.to_vec();
    ciphertext.extend_from_slice(&sealed);
    Ok(Sealed { commitment: commitment(event_id, field, salt, &canonical), ciphertext })
}

/// Unseals a value and checks it against the commitment in its leaf.
///
/// # Errors
/// When the ciphertext is not of this key, tenant, event and field, or not what the leaf commits to.
pub fn unseal(
    key: &[u8; 32],
    tenant: TenantId,
    event_id: Uuid,
    field: &str,
    ciphertext: &[u8],
    committed: &str,
) -> Result<Value, StoreError> {
    open(key, tenant, event_id, field, ciphertext, committed).map(|(_, value)| value)
}

/// The same, with the salt of the commitment.
///
/// # Errors
/// As [`unseal`].
pub fn open(
    key: &[u8; 32],
    tenant: TenantId,
    event_id: Uuid,
    field: &str,
    ciphertext: &[u8],
    committed: &str,
) -> Result<([u8; SALT_BYTES], Value), StoreError> {
    let (nonce, sealed) =
        ciphertext.split_at_checked(NONCE_BYTES).ok_or(StoreError::Sealing("a sealed value is too short"))?;
    let plaintext = XChaCha20Poly1305::new(key.into())
        .decrypt(
            XNonce::from_slice(nonce),
            Payload { msg: sealed, aad: &associated_data(tenant, event_id, field) },
        )
        .map_err(|_| StoreError::Sealing("a sealed value does not open under its subject's key"))?;
    let (salt, canonical) = plaintext
        .split_first_chunk::<SALT_BYTES>()
        .ok_or(StoreError::Sealing("a sealed value has no salt"))?;
    if hex::encode(commitment(event_id, field, salt, canonical)) != committed {
        return Err(StoreError::Sealing("a sealed value is not the one its leaf commits to"));
    }
    let value =
        serde_json::from_slice(canonical).map_err(|_| StoreError::Sealing("a sealed value is not JSON"))?;
    Ok((*salt, value))
}

fn associated_data(tenant: TenantId, event_id: Uuid, field: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(40 + field.len());
    data.extend_from_slice(tenant.0.as_bytes());
    data.push(b'|');
    data.extend_from_slice(event_id.as_bytes());
    data.push(b'|');
    data.extend_from_slice(field.as_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn sealed(event: Uuid) -> Sealed {
        seal(&KEY, TenantId::default(), event, "name", &Value::from("Ada"), &[1; 32], &[2; 24]).unwrap()
    }

    #[test]
    fn a_value_opens_only_with_its_key_event_and_field() {
        let event = Uuid::from_u128(1);
        let it = sealed(event);
        let committed = hex::encode(it.commitment);
        let open = |key: &[u8; 32], event, field| {
            unseal(key, TenantId::default(), event, field, &it.ciphertext, &committed)
        };
        assert_eq!(open(&KEY, event, "name").unwrap(), Value::from("Ada"));
        assert!(open(&[8; 32], event, "name").is_err());
        assert!(open(&KEY, Uuid::from_u128(2), "name").is_err());
        assert!(open(&KEY, event, "email").is_err());
    }

    #[test]
    fn a_value_that_the_leaf_does_not_commit_to_is_refused() {
        let event = Uuid::from_u128(1);
        let it = sealed(event);
        let other = hex::encode(commitment(event, "name", &[1; 32], b"\"Eve\""));
        assert!(unseal(&KEY, TenantId::default(), event, "name", &it.ciphertext, &other).is_err());
    }
}
