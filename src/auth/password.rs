//! Passwords: Argon2id (RFC 9106), and Django's hashes for accounts that came from there.
//!
//! Hashing takes memory and a core on purpose, so it runs beside the event loop and at most a few at once: two hundred
//! sign-ins wait in a queue of a few bytes each. An account that does not exist costs the same as one that does.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::random;

/// The most characters of a password; a longer one is never hashed.
pub const MAX_CHARACTERS: usize = 128;
/// The most an imported hash may cost: a hash that we did not choose must not be a way to stop us.
const MAX_PBKDF2_ITERATIONS: u32 = 5_000_000;
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_ARGON2_ITERATIONS: u32 = 16;
const MAX_LANES: u32 = 16;
/// Memory of a code's hash: it lives for a quarter of an hour and has five attempts.
const CODE_MEMORY_KIB: u32 = 8 * 1024;

/// Hashing did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The parameters are out of range, or the system gave no randomness.
    #[error("a password cannot be hashed")]
    Hash,
    /// The task was stopped: the process is ending.
    #[error("hashing was stopped")]
    Stopped,
}

/// How hashes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordParams {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub iterations: u32,
    /// How many are made at once.
    pub parallel: usize,
}

/// What comparing a password with a hash said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is the one.
    pub matches: bool,
    /// Whether the hash is weaker than those made today, or Django's: to be made anew while the password is known.
    pub rehash: bool,
}

/// Makes and compares hashes. Cheap to clone.
#[derive(Clone)]
pub struct PasswordHasher {
    inner: Arc<Inner>,
}

struct Inner {
    params: PasswordParams,
    /// What a password is compared with where there is no account.
    dummy: SecretString,
    /// What a code is compared with where there is none.
    dummy_code: SecretString,
    permits: Arc<Semaphore>,
}

impl PasswordHasher {
    /// A hasher.
    ///
    /// # Errors
    /// When the parameters are out of Argon2's range.
    pub fn new(params: PasswordParams) -> Result<Self, PasswordError> {
        let dummy = hash_now(&argon2(params.memory_kib, params.iterations)?, b"nobody's password")?;
        let dummy_code = hash_now(&argon2(CODE_MEMORY_KIB, 1)?, b"no code")?;
        let permits = Arc::new(Semaphore::new(params.parallel.max(1)));
        Ok(Self { inner: Arc::new(Inner { params, dummy, dummy_code, permits }) })
    }

    /// Hashes a password, in PHC's form.
    ///
    /// # Errors
    /// When it is too long or the system gives no randomness.
    pub async fn hash(&self, password: SecretString) -> Result<SecretString, PasswordError> {
        if password.expose_secret().chars().count() > MAX_CHARACTERS {
            return Err(PasswordError::Hash);
        }
        let PasswordParams { memory_kib, iterations, .. } = self.inner.params;
        self.work(move || hash_now(&argon2(memory_kib, iterations)?, password.expose_secret().as_bytes()))
            .await
    }

    /// Compares a password with the hash of an account, or with nobody's where there is no account.
    ///
    /// # Errors
    /// When the process is ending.
    pub async fn verify(
        &self,
        password: SecretString,
        stored: Option<SecretString>,
    ) -> Result<Verdict, PasswordError> {
        let params = self.inner.params;
        let dummy = self.inner.dummy.clone();
        self.work(move || {
            let password = password.expose_secret();
            let usable = stored.filter(|hash| is_supported(hash.expose_secret()));
            let proper = password.chars().count() <= MAX_CHARACTERS;
            // Nothing is compared with a password that is too long, and it takes the same time.
            let (password, known) =
                if proper { (password.as_bytes(), usable.is_some()) } else { (b"".as_slice(), false) };
            let hash = usable.unwrap_or(dummy);
            let matches = matches(hash.expose_secret(), password) && known;
            Ok(Verdict { matches, rehash: matches && is_weaker(hash.expose_secret(), params) })
        })
        .await
    }

    /// Hashes a code of six digits: slowly, because there are only a million of them.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub async fn hash_code(&self, code: SecretString) -> Result<SecretString, PasswordError> {
        self.work(move || hash_now(&argon2(CODE_MEMORY_KIB, 1)?, code.expose_secret().as_bytes())).await
    }

    /// Compares a code with the hash of one, or with nobody's where there is none.
    ///
    /// # Errors
    /// When the process is ending.
    pub async fn verify_code(
        &self,
        code: SecretString,
        stored: Option<SecretString>,
    ) -> Result<bool, PasswordError> {
        let dummy = self.inner.dummy_code.clone();
        self.work(move || {
            let known = stored.is_some();
            let hash = stored.unwrap_or(dummy);
            let code = code.expose_secret().as_bytes();
            // A code is short; more than that is compared as none.
            let code = if code.len() <= 16 { code } else { b"".as_slice() };
            Ok(matches(hash.expose_secret(), code) && known)
        })
        .await
    }

    /// Runs slow work beside the event loop. The permit goes with the work: it is not free again before the memory is,
    /// also when nobody waits for the answer any more.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permit = self.inner.permits.clone().acquire_owned().await.map_err(|_| PasswordError::Stopped)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .map_err(|_| PasswordError::Stopped)?
    }
}

/// Whether a hash is of a form, and of a cost, that is compared with.
pub fn is_supported(hash: &str) -> bool {
    match form(hash) {
        Some(Form::Phc(phc)) => Params::try_from(&*phc).is_ok_and(|params| {
            params.m_cost() <= MAX_MEMORY_KIB
                && params.t_cost() <= MAX_ARGON2_ITERATIONS
                && params.p_cost() <= MAX_LANES
        }),
        Some(Form::Pbkdf2 { iterations, digest, .. }) => {
            (1..=MAX_PBKDF2_ITERATIONS).contains(&iterations)
                && BASE64.decode(digest).is_ok_and(|d| d.len() == 32)
        }
        None => false,
    }
}

enum Form<'h> {
    Phc(Box<PasswordHash>),
    Pbkdf2 { iterations: u32, salt: &'h str, digest: &'h str },
}

/// PHC's form (`$argon2id$…`), Django's for the same (`argon2$argon2id$…`), and Django's PBKDF2
/// (`pbkdf2_sha256$iterations$salt$base64`).
fn form(hash: &str) -> Option<Form<'_>> {
    if let Some(rest) = hash.strip_prefix("pbkdf2_sha256$") {
        let mut parts = rest.split('$');
        let (iterations, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        return Some(Form::Pbkdf2 { iterations: iterations.parse().ok()?, salt, digest });
    }
    let phc = hash.strip_prefix("argon2").filter(|rest| rest.starts_with("$argon2")).unwrap_or(hash);
    let parsed = PasswordHash::new(phc).ok()?;
    let known = ["argon2id", "argon2i"].contains(&parsed.algorithm.as_str());
    known.then(|| Form::Phc(Box::new(parsed)))
}

fn matches(hash: &str, password: &[u8]) -> bool {
    match form(hash) {
        Some(Form::Phc(phc)) => Argon2::default().verify_password(password, &*phc).is_ok(),
        Some(Form::Pbkdf2 { iterations, salt, digest }) => {
            let Ok(expected) = BASE64.decode(digest) else { return false };
            let mut found = Zeroizing::new([0; 32]);
            pbkdf2::pbkdf2_hmac::<pbkdf2::sha2::Sha256>(
                password,
                salt.as_bytes(),
                iterations,
                found.as_mut_slice(),
            );
            expected.as_slice().ct_eq(found.as_slice()).into()
        }
        None => false,
    }
}

fn is_weaker(hash: &str, params: PasswordParams) -> bool {
    match form(hash) {
        Some(Form::Phc(phc)) if phc.algorithm.as_str() == "argon2id" && hash.starts_with('$') => {
            Params::try_from(&*phc).map_or(true, |found| {
                found.m_cost() < params.memory_kib || found.t_cost() < params.iterations
            })
        }
        _ => true,
    }
}

fn argon2(memory_kib: u32, iterations: u32) -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(memory_kib, iterations, 1, None).map_err(|_| PasswordError::Hash)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(argon2: &Argon2<'_>, password: &[u8]) -> Result<SecretString, PasswordError> {
    let salt = random::bytes::<16>().map_err(|_| PasswordError::Hash)?;
    let hash = argon2.hash_password_with_salt(password, &salt).map_err(|_| PasswordError::Hash)?;
    Ok(SecretString::from(hash.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher() -> PasswordHasher {
        PasswordHasher::new(PasswordParams { memory_kib: 256, iterations: 2, parallel: 2 }).unwrap()
    }

    async fn verdict(password: &str, stored: Option<&str>) -> Verdict {
        hasher().verify(password.into(), stored.map(SecretString::from)).await.unwrap()
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let hash = hasher().hash("correct horse".into()).await.unwrap();
        assert!(hash.expose_secret().starts_with("$argon2id$v=19$m=256,t=2,p=1$"));
        let stored = Some(hash.expose_secret());
        assert_eq!(verdict("correct horse", stored).await, Verdict { matches: true, rehash: false });
        assert!(!verdict("correct horsf", stored).await.matches);
        assert!(!verdict("", None).await.matches);
        assert!(!verdict("nobody's password", None).await.matches, "nobody has nobody's password");
        assert!(!verdict(&"x".repeat(129), stored).await.matches);
        assert!(hasher().hash("x".repeat(129).into()).await.is_err());
    }

    #[tokio::test]
    async fn djangos_hashes_match_and_are_made_anew() {
        // Made by Django 5.2's own hashers, for the password `lètmein`.
        for hash in [
            "pbkdf2_sha256$1000$seasalt$JgZryXe2Ga8ysg6XbzkLpTdyPQrHqsinbL9BnnhgX4A=",
            "argon2$argon2id$v=19$m=256,t=2,p=8$c29tZXNhbHRzb21lc2FsdA$uXx0aF2YoP765sWk2Vfl3/mlQMRlnsw9S0rG/InzsLo",
        ] {
            assert!(is_supported(hash));
            assert_eq!(
                verdict("lètmein", Some(hash)).await,
                Verdict { matches: true, rehash: true },
                "{hash}"
            );
            assert!(!verdict("letmein", Some(hash)).await.matches, "{hash}");
        }
        assert!(!is_supported("md5$x$y") && !is_supported("!") && !is_supported(""));
        assert!(!is_supported("pbkdf2_sha256$99000000$seasalt$JgZryXe2Ga8ysg6XbzkLpTdyPQrHqsinbL9BnnhgX4A="));
    }

    #[tokio::test]
    async fn weaker_parameters_are_made_anew() {
        let weak =
            PasswordHasher::new(PasswordParams { memory_kib: 64, iterations: 1, parallel: 1 }).unwrap();
        let hash = weak.hash("correct horse".into()).await.unwrap();
        assert_eq!(
            verdict("correct horse", Some(hash.expose_secret())).await,
            Verdict { matches: true, rehash: true }
        );
    }
}
