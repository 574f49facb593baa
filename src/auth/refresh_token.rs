//! Refresh tokens: opaque, 256 bits, replaced at every use. Only their SHA-256 is kept.
//!
//! A token's successor is made from the token, a salt kept beside its hash, and a key that is not in the database. So
//! a client whose answer was lost, or that asked twice at once, gets the same successor again for a short grace, and
//! there is one live chain. A token that is used after that was copied: its family, the session, ends.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use chrono::{DateTime, Duration, Utc};
use daybook_domain::{SessionId, TenantId, UserId};
use daybook_projections::Schema;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    eventstore::{NewRefreshToken, StoreError},
    keys::Keys,
    random::{self, RandomError},
    tenancy::{Access, Database, TenantTx},
};

/// For how long a used token is answered with its successor again.
pub const GRACE_SECONDS: i64 = 10;

/// A refresh token that a client showed, of a form that could be one of ours.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The tenant whose session it claims to be of; `None` for the platform.
    pub tenant: Option<TenantId>,
    token: SecretString,
}

/// What became of a token that was shown.
#[derive(Debug)]
pub enum Rotated {
    /// Its successor, and whose it is.
    Successor {
        /// The user.
        user: UserId,
        /// The session.
        session: SessionId,
        /// The token to show next.
        token: SecretString,
        /// When that stops working.
        expires_at: DateTime<Utc>,
    },
    /// It was used before: its session is to end.
    Reused {
        /// The user.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// It is none, or its time is over, or its session has ended.
    Unknown,
}

/// A new token for a session of a tenant, or of the platform.
///
/// # Errors
/// When the system gives no randomness.
pub fn generate(tenant: Option<TenantId>) -> Result<SecretString, RandomError> {
    random::token(&prefix(tenant))
}

/// The first part of a token says where its session is, as plainly as the slug in the address does.
fn prefix(tenant: Option<TenantId>) -> String {
    tenant.map_or_else(|| "p.".to_owned(), |tenant| format!("t{}.", tenant.0.simple()))
}

/// The hash under which a token is kept.
pub fn hash(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret()).into()
}

impl Shown {
    /// Reads a cookie's value.
    pub fn parse(text: &str) -> Option<Self> {
        let (scope, secret) = text.split_once('.')?;
        let proper = (40..=64).contains(&secret.len())
            && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let tenant = match scope.strip_prefix('t') {
            Some(id) if id.len() == 32 => Some(TenantId(Uuid::try_parse(id).ok()?)),
            Some(_) => return None,
            None if scope == "p" => None,
            None => return None,
        };
        proper.then(|| Self { tenant, token: SecretString::from(text) })
    }

    fn schema(&self) -> Schema {
        self.tenant.map_or_else(Schema::platform, Schema::tenant)
    }

    fn successor(&self, keys: &Keys, salt: &[u8]) -> SecretString {
        let digest = keys.digest("refresh-successor", &[self.token.expose_secret().as_bytes(), b"|", salt]);
        SecretString::from(format!("{}{}", prefix(self.tenant), B64.encode(digest)))
    }

    /// Uses the token: one statement decides which of any number of parallel uses replaces it; the others find the
    /// same successor.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn rotate(
        &self,
        database: &Database,
        keys: &Keys,
        lifetime: Duration,
        ip: Option<String>,
        user_agent: Option<String>,
    ) -> Result<Rotated, StoreError> {
        let salt = random::bytes::<16>().map_err(|_| StoreError::Sealing("the system has no randomness"))?;
        let mut tx = TenantTx::begin(database.app(), &self.schema(), Access::Write).await?;
        // The session's row goes with the session: a token of one that has ended is replaced by none.
        let used: Option<(Uuid, Uuid, DateTime<Utc>)> = sqlx::query_as(
            "UPDATE refresh_tokens t SET used_at = now(), successor_salt = $2
             FROM user_sessions s JOIN users u ON u.id = s.user_id
             WHERE t.token_hash = $1 AND t.used_at IS NULL AND t.expires_at > now()
               AND s.session_id = t.session_id AND s.expires_at > now() AND u.status = 'active'
             RETURNING t.user_id, t.session_id, least(s.expires_at, now() + make_interval(secs => $3))",
        )
        .bind(hash(&self.token).as_slice())
        .bind(salt.as_slice())
        .bind(lifetime.num_seconds() as f64)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db("use a refresh token"))?;
        if let Some((user, session, expires_at)) = used {
            let (user, session) = (UserId(user), SessionId(session));
            let token = self.successor(keys, &salt);
            let kept = NewRefreshToken {
                hash: hash(&token),
                session,
                user,
                expires_at,
                ip,
                user_agent,
                known_from: None,
            };
            kept.insert(&mut tx).await?;
            tx.commit().await?;
            return Ok(Rotated::Successor { user, session, token, expires_at });
        }
        tx.rollback().await?;
        self.look_again(database, keys).await
    }

    /// The token was used before, or is none.
    async fn look_again(&self, database: &Database, keys: &Keys) -> Result<Rotated, StoreError> {
        type Row = (Uuid, Uuid, Option<Vec<u8>>, bool, bool, Option<DateTime<Utc>>);
        let mut tx = TenantTx::begin(database.app(), &self.schema(), Access::Read).await?;
        let row: Option<Row> = sqlx::query_as(
            "SELECT t.user_id, t.session_id, t.successor_salt,
                    t.used_at > now() - make_interval(secs => $2) AS in_grace,
                    s.session_id IS NOT NULL AND u.status = 'active' AS live,
                    (SELECT max(n.expires_at) FROM refresh_tokens n WHERE n.session_id = t.session_id)
             FROM refresh_tokens t
             LEFT JOIN user_sessions s ON s.session_id = t.session_id AND s.expires_at > now()
             LEFT JOIN users u ON u.id = t.user_id
             WHERE t.token_hash = $1 AND t.used_at IS NOT NULL",
        )
        .bind(hash(&self.token).as_slice())
        .bind(GRACE_SECONDS as f64)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db("look for a used refresh token"))?;
        tx.release();
        Ok(match row {
            Some((user, session, Some(salt), true, true, Some(expires_at))) => Rotated::Successor {
                user: UserId(user),
                session: SessionId(session),
                token: self.successor(keys, &salt),
                expires_at,
            },
            Some((user, session, _, false, true, _)) => {
                Rotated::Reused { user: UserId(user), session: SessionId(session) }
            }
            _ => Rotated::Unknown,
        })
    }

    /// Whose session the token is of, used or not, for signing out.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn session(&self, database: &Database) -> Result<Option<(UserId, SessionId)>, StoreError> {
        let mut tx = TenantTx::begin(database.app(), &self.schema(), Access::Read).await?;
        let row: Option<(Uuid, Uuid)> =
            sqlx::query_as("SELECT user_id, session_id FROM refresh_tokens WHERE token_hash = $1")
                .bind(hash(&self.token).as_slice())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::db("look for a refresh token"))?;
        tx.release();
        Ok(row.map(|(user, session)| (UserId(user), SessionId(session))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_its_session_is() {
        let tenant = Some(TenantId(Uuid::from_u128(7)));
        for tenant in [tenant, None] {
            let token = generate(tenant).unwrap();
            assert_eq!(Shown::parse(token.expose_secret()).unwrap().tenant, tenant);
        }
        for wrong in
            ["", "p.", "x.abc", "t12.abc", &format!("p.{}", "a".repeat(65)), &format!("p.{}", "é".repeat(25))]
        {
            assert!(Shown::parse(wrong).is_none(), "{wrong}");
        }
    }
}
