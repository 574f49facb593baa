//! What a unit writes beside its events, in their transaction, and only if they are written: credentials and letters.
//!
//! None of it is in the log. A password's hash or a token's must be gone when it is replaced, and the log forgets
//! nothing; what the log has is that it was replaced, by whom and when.

use chrono::{DateTime, Utc};
use daybook_domain::{ApiKeyId, ResetId, SessionId, UserId, settings::SecretName};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::StoreError;
use crate::{
    mail::{SealedMessage, outbox},
    tenancy::TenantTx,
};

/// One write beside a unit's events.
#[derive(Clone, Debug)]
pub enum Attached {
    /// A user's password from now on.
    Password {
        /// The user.
        user: UserId,
        /// The hash, in PHC's form or Django's.
        hash: SecretString,
    },
    /// The first refresh token of a session.
    RefreshToken(NewRefreshToken),
    /// A code of six digits that may be tried.
    ResetCode {
        /// The user.
        user: UserId,
        /// The request it proves.
        reset: ResetId,
        /// Its slow hash.
        hash: SecretString,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// The code was used, or must not be.
    ForgetCode(UserId),
    /// Everything an account that is gone was recognised by.
    ForgetUser(UserId),
    /// What an API key is recognised by.
    ApiKey {
        /// The key.
        id: ApiKeyId,
        /// The salt of its hash.
        salt: [u8; 16],
        /// Its hash.
        hash: [u8; 32],
    },
    /// A tenant's secret, sealed.
    Secret {
        /// Its name.
        name: SecretName,
        /// The sealed value.
        ciphertext: SecretString,
    },
    /// A tenant's secret is forgotten.
    ForgetSecret(SecretName),
    /// A letter to be sent.
    Message(SealedMessage),
}

/// A refresh token to be kept.
#[derive(Clone, Debug)]
pub struct NewRefreshToken {
    /// Its SHA-256.
    pub hash: [u8; 32],
    /// The session it is of.
    pub session: SessionId,
    /// The user it is of.
    pub user: UserId,
    /// When it stops working.
    pub expires_at: DateTime<Utc>,
    /// Where it was asked from.
    pub ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// The network it was given to, where that was for a password: the account is known there from now on.
    pub known_from: Option<String>,
}

impl Attached {
    /// Writes it.
    pub(super) async fn write(&self, tx: &mut TenantTx<'_>) -> Result<(), StoreError> {
        let schema = tx.schema().clone();
        match self {
            Self::Password { user, hash } => {
                run(
                    sqlx::query(&schema.sql(
                        "INSERT INTO {s}.user_passwords (user_id, hash) VALUES ($1, $2)
                         ON CONFLICT (user_id) DO UPDATE SET hash = EXCLUDED.hash, changed_at = now()",
                    ))
                    .bind(user.0)
                    .bind(hash.expose_secret()),
                    tx,
                )
                .await
            }
            Self::RefreshToken(token) => {
                token.insert(tx).await?;
                let Some(from) = &token.known_from else { return Ok(()) };
                run(
                    sqlx::query(&schema.sql(
                        "INSERT INTO {s}.known_addresses (user_id, ip) VALUES ($1, $2)
                         ON CONFLICT (user_id, ip) DO UPDATE SET last_seen = now()",
                    ))
                    .bind(token.user.0)
                    .bind(from),
                    tx,
                )
                .await
            }
            Self::ResetCode { user, reset, hash, expires_at } => {
                // Asking again gives another code, and no more attempts: those are counted for as long as a code lives.
                run(
                    sqlx::query(&schema.sql(
                        "INSERT INTO {s}.reset_codes (user_id, reset_id, code_hash, expires_at) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (user_id) DO UPDATE
                         SET reset_id = EXCLUDED.reset_id, code_hash = EXCLUDED.code_hash, expires_at = EXCLUDED.expires_at,
                             attempts = CASE WHEN reset_codes.attempts_since < now() - interval '15 minutes' THEN 0
                                             ELSE reset_codes.attempts END,
                             attempts_since = CASE WHEN reset_codes.attempts_since < now() - interval '15 minutes' THEN now()
                                                   ELSE reset_codes.attempts_since END",
                    ))
                    .bind(user.0)
                    .bind(reset.0)
                    .bind(hash.expose_secret())
                    .bind(expires_at),
                    tx,
                )
                .await
            }
            Self::ForgetCode(user) => {
                delete(&schema.sql("DELETE FROM {s}.reset_codes WHERE user_id = $1"), user.0, tx).await
            }
            Self::ForgetUser(user) => {
                for sql in [
                    "DELETE FROM {s}.user_passwords WHERE user_id = $1",
                    "DELETE FROM {s}.refresh_tokens WHERE user_id = $1",
                    "DELETE FROM {s}.reset_codes WHERE user_id = $1",
                    "DELETE FROM {s}.known_addresses WHERE user_id = $1",
                ] {
                    delete(&schema.sql(sql), user.0, tx).await?;
                }
                Ok(())
            }
            Self::ApiKey { id, salt, hash } => {
                run(
                    sqlx::query(&schema.sql(
                        "INSERT INTO {s}.api_key_secrets (api_key_id, salt, hash) VALUES ($1, $2, $3)",
                    ))
                    .bind(id.0)
                    .bind(salt.as_slice())
                    .bind(hash.as_slice()),
                    tx,
                )
                .await
            }
            Self::Secret { name, ciphertext } => {
                run(
                    sqlx::query(&schema.sql(
                        "INSERT INTO {s}.secrets (name, ciphertext) VALUES ($1, $2)
                         ON CONFLICT (name) DO UPDATE SET ciphertext = EXCLUDED.ciphertext, updated_at = now()",
                    ))
                    .bind(name.as_str())
                    .bind(ciphertext.expose_secret()),
                    tx,
                )
                .await
            }
            Self::Message(message) => outbox::insert(tx, &schema, message)
                .await
                .map_err(StoreError::db("put a message into the outbox")),
            Self::ForgetSecret(name) => {
                run(
                    sqlx::query(&schema.sql("DELETE FROM {s}.secrets WHERE name = $1")).bind(name.as_str()),
                    tx,
                )
                .await
            }
        }
    }
}

impl NewRefreshToken {
    /// Keeps it, in a transaction of its session's schema.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn insert(&self, tx: &mut TenantTx<'_>) -> Result<(), StoreError> {
        let sql = tx.schema().sql(
            "INSERT INTO {s}.refresh_tokens (token_hash, session_id, user_id, expires_at, ip, user_agent)
             VALUES ($1, $2, $3, $4, $5, $6)",
        );
        run(
            sqlx::query(&sql)
                .bind(self.hash.as_slice())
                .bind(self.session.0)
                .bind(self.user.0)
                .bind(self.expires_at)
                .bind(self.ip.as_deref())
                .bind(self.user_agent.as_deref()),
            tx,
        )
        .await
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

async fn delete(sql: &str, id: Uuid, tx: &mut TenantTx<'_>) -> Result<(), StoreError> {
    run(sqlx::query(sql).bind(id), tx).await
}

async fn run(query: Query<'_>, tx: &mut TenantTx<'_>) -> Result<(), StoreError> {
    query.execute(&mut **tx).await.map_err(StoreError::db("write what is attached to a command"))?;
    Ok(())
}
