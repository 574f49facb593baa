//! Lock-out after repeated failures: per account and address, and a softer one per account.
//!
//! An attempt is counted before it is compared, so that parallel ones cannot outrun the count, and given back when it
//! succeeds. What is refused because of a lock is not counted: a lock is never extended by trying. The softer lock
//! never holds for an address that the account has signed in from: others cannot lock its owner out.

use daybook_domain::TenantId;
use daybook_projections::Schema;

use crate::{
    keys::Keys,
    tenancy::{Access, Database, TenancyError, TenantTx},
};

/// Failures of one account from one address, in [`MINUTES`], that lock the two.
pub const PER_ADDRESS: i32 = 5;
/// Failures of one account from all addresses that lock it for addresses it does not know.
pub const PER_ACCOUNT: i32 = 50;
/// How long failures count, and a lock holds, from the first one on.
pub const MINUTES: i32 = 15;

/// One account, tried from one address. Whether the account exists does not matter.
#[derive(Clone, Debug)]
pub struct Attempt {
    pair: [u8; 32],
    account: [u8; 32],
    known_address: bool,
}

/// The attempt is refused for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// When to try again, in seconds.
    pub retry_after: u32,
}

impl Attempt {
    /// An attempt for an account, named as the caller named it.
    pub fn new(keys: &Keys, tenant: Option<TenantId>, account: &str, ip: &str, known_address: bool) -> Self {
        let tenant = tenant.unwrap_or_default();
        let id = tenant.0.as_bytes().as_slice();
        Self {
            pair: keys.digest("lockout/pair", &[id, account.as_bytes(), b"|", ip.as_bytes()]),
            account: keys.digest("lockout/account", &[id, account.as_bytes()]),
            known_address,
        }
    }

    /// Counts it, unless it is locked out.
    ///
    /// # Errors
    /// When PostgreSQL refuses; then nobody may try.
    pub async fn begin(&self, database: &Database) -> Result<Result<(), Locked>, TenancyError> {
        let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Write).await?;
        let mut counted = count(&mut tx, &self.pair, PER_ADDRESS).await?;
        if counted.is_ok() && !self.known_address {
            counted = count(&mut tx, &self.account, PER_ACCOUNT).await?;
        }
        match counted {
            Ok(()) => tx.commit().await?,
            Err(_) => tx.rollback().await?,
        }
        Ok(counted)
    }

    /// It succeeded: nothing is held against the address, and one failure less against the account.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn succeeded(&self, database: &Database) -> Result<(), TenancyError> {
        let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Write).await?;
        sqlx::query("DELETE FROM daybook_platform.login_failures WHERE key = $1")
            .bind(self.pair.as_slice())
            .execute(&mut *tx)
            .await
            .map_err(TenancyError::db(ATTEMPTED))?;
        if !self.known_address {
            sqlx::query(
                "UPDATE daybook_platform.login_failures SET failures = greatest(failures - 1, 0) WHERE key = $1",
            )
            .bind(self.account.as_slice())
            .execute(&mut *tx)
            .await
            .map_err(TenancyError::db(ATTEMPTED))?;
        }
        tx.commit().await
    }
}

const ATTEMPTED: &str = "count a sign-in";

/// Forgets failures that no longer count.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn prune(database: &Database) -> Result<(), TenancyError> {
    let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Write).await?;
    sqlx::query(
        "DELETE FROM daybook_platform.login_failures WHERE since < now() - make_interval(mins => $1)",
    )
    .bind(MINUTES)
    .execute(&mut *tx)
    .await
    .map_err(TenancyError::db("forget old failures"))?;
    tx.commit().await
}

async fn count(tx: &mut TenantTx<'_>, key: &[u8; 32], most: i32) -> Result<Result<(), Locked>, TenancyError> {
    let counted: Option<i32> = sqlx::query_scalar(
        "INSERT INTO daybook_platform.login_failures AS f (key, failures) VALUES ($1, 1)
         ON CONFLICT (key) DO UPDATE
         SET failures = CASE WHEN f.since <= now() - make_interval(mins => $3) THEN 1 ELSE f.failures + 1 END,
             since = CASE WHEN f.since <= now() - make_interval(mins => $3) THEN now() ELSE f.since END
         WHERE f.failures < $2 OR f.since <= now() - make_interval(mins => $3)
         RETURNING f.failures",
    )
    .bind(key.as_slice())
    .bind(most)
    .bind(MINUTES)
    .fetch_optional(&mut **tx)
    .await
    .map_err(TenancyError::db(ATTEMPTED))?;
    if counted.is_some() {
        return Ok(Ok(()));
    }
    let left: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM since + make_interval(mins => $2) - now())::double precision
         FROM daybook_platform.login_failures WHERE key = $1",
    )
    .bind(key.as_slice())
    .bind(MINUTES)
    .fetch_optional(&mut **tx)
    .await
    .map_err(TenancyError::db(ATTEMPTED))?;
    Ok(Err(Locked { retry_after: left.unwrap_or(1.0).clamp(1.0, 3_600.0).ceil() as u32 }))
}
