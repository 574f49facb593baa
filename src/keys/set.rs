//! What one keys file holds, and what is done with it.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    KEY_ID_LEN, KeysError, NONCE_LEN, Secret,
    ring::{KeyRing, Purpose, VersionedKey},
};
use crate::random;

/// The secrets of one installation at one time. Never printed: [`fmt::Debug`](std::fmt::Debug) shows ids only.
#[derive(Clone, Debug)]
pub struct KeySet {
    pub(super) id: Uuid,
    pub(super) master: KeyRing,
    pub(super) jwt: KeyRing,
    pub(super) fernet: KeyRing,
    pub(super) link: KeyRing,
    pub(super) ledger: KeyRing,
    pub(super) unique_hmac_key: Hidden,
    pub(super) token_pepper: Hidden,
}

/// A secret that cannot be rotated: the database is full of what it made.
#[derive(Clone)]
pub(super) struct Hidden(pub Secret);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl KeySet {
    pub(super) fn generate(now: DateTime<Utc>) -> Result<Self, KeysError> {
        Ok(Self {
            id: Uuid::from_bytes(random::bytes()?),
            master: KeyRing::generate(now)?,
            jwt: KeyRing::generate(now)?,
            fernet: KeyRing::generate(now)?,
            link: KeyRing::generate(now)?,
            ledger: KeyRing::generate(now)?,
            unique_hmac_key: Hidden(Zeroizing::new(random::bytes()?)),
            token_pepper: Hidden(Zeroizing::new(random::bytes()?)),
        })
    }

    /// The installation's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The keys of one purpose.
    #[must_use]
    pub fn ring(&self, purpose: Purpose) -> &KeyRing {
        match purpose {
            Purpose::Master => &self.master,
            Purpose::Jwt => &self.jwt,
            Purpose::Fernet => &self.fernet,
            Purpose::Link => &self.link,
            Purpose::Ledger => &self.ledger,
        }
    }

    fn ring_mut(&mut self, purpose: Purpose) -> &mut KeyRing {
        match purpose {
            Purpose::Master => &mut self.master,
            Purpose::Jwt => &mut self.jwt,
            Purpose::Fernet => &mut self.fernet,
            Purpose::Link => &mut self.link,
            Purpose::Ledger => &mut self.ledger,
        }
    }

    /// The same with a new key in front of each list.
    pub(super) fn rotated(&self, now: DateTime<Utc>) -> Result<Self, KeysError> {
        let mut next = self.clone();
        for purpose in Purpose::ALL {
            next.ring_mut(purpose).rotate(VersionedKey::generate(now)?, purpose.kept());
        }
        Ok(next)
    }

    /// The same without the older keys of the lists that keep them until everything is sealed anew.
    pub(super) fn without_retired(&self) -> Self {
        let mut next = self.clone();
        for purpose in Purpose::ALL {
            if purpose.kept().is_none() {
                next.ring_mut(purpose).drop_older();
            }
        }
        next
    }

    /// Whether older keys are kept for what they sealed.
    #[must_use]
    pub fn has_retired(&self) -> bool {
        Purpose::ALL.iter().any(|purpose| purpose.kept().is_none() && self.ring(*purpose).count() > 1)
    }

    /// Whether both are of one installation: what cannot be rotated is the same.
    pub(super) fn is_same_installation(&self, other: &Self) -> bool {
        let same = self.id.as_bytes().ct_eq(other.id.as_bytes())
            & self.unique_hmac_key.0.ct_eq(other.unique_hmac_key.0.as_slice())
            & self.token_pepper.0.ct_eq(other.token_pepper.0.as_slice());
        bool::from(same)
    }

    pub(super) fn fingerprint(&self) -> String {
        self.fingerprint_with(&self.master.newest().secret)
    }

    pub(super) fn knows_fingerprint(&self, stored: &str) -> bool {
        self.master
            .iter()
            .any(|key| bool::from(self.fingerprint_with(&key.secret).as_bytes().ct_eq(stored.as_bytes())))
    }

    fn fingerprint_with(&self, master: &Secret) -> String {
        let parts: [&[u8]; 4] = [
            b"daybook keys fingerprint v1|",
            self.id.as_bytes(),
            self.unique_hmac_key.0.as_slice(),
            self.token_pepper.0.as_slice(),
        ];
        hex::encode(&hmac(master, &parts)[..16])
    }

    pub(super) fn wrap(
        &self,
        subject: Uuid,
        tenant: Uuid,
        key: &[u8; 32],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Vec<u8>, KeysError> {
        let aad = subject_key_aad(tenant, subject);
        let newest = self.master.newest();
        let sealed = cipher(newest)
            .encrypt(&nonce.into(), Payload { msg: key, aad: &aad })
            .map_err(|_| KeysError::Wrap)?;
        Ok([&newest.id[..], &nonce[..], &sealed[..]].concat())
    }

    pub(super) fn unwrap(&self, subject: Uuid, tenant: Uuid, wrapped: &[u8]) -> Result<Secret, KeysError> {
        let (id, rest) = wrapped.split_first_chunk::<KEY_ID_LEN>().ok_or(KeysError::Unwrap)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeysError::Unwrap)?;
        let master = self.master.find_bytes(id).ok_or(KeysError::Unwrap)?;
        let aad = subject_key_aad(tenant, subject);
        let opened = cipher(master)
            .decrypt(nonce.into(), Payload { msg: sealed, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| KeysError::Unwrap)?;
        opened.as_slice().try_into().map(Zeroizing::new).map_err(|_| KeysError::Unwrap)
    }
}

fn cipher(key: &VersionedKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.secret.as_slice().into())
}

fn subject_key_aad(tenant: Uuid, subject: Uuid) -> Vec<u8> {
    format!("daybook subject key v1|{tenant}|{subject}").into_bytes()
}

/// HMAC-SHA256 over the parts, one after the other.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // `Mac::new` takes the block-sized form of the key, which for a key shorter than the block is the key
    // and zeros; unlike `new_from_slice` it cannot fail.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as Mac>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
