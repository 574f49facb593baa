//! The outbox: a table of every log's schema.
//!
//! A message is claimed by pushing its next attempt ahead, in one statement and committed before it is sent. A node
//! that dies meanwhile leaves a message that another tries again; two nodes never send one at the same time. Between
//! the mail server's yes and the row's there is a gap in which a crash sends it twice, with one `Message-ID`.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use daybook_projections::Schema;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Part, SealError, SealedMessage, Sealer};

/// A message that is this node's to send, until its next attempt is due.
#[derive(Clone, sqlx::FromRow)]
pub struct Claimed {
    /// The row.
    pub id: Uuid,
    /// To whom, sealed; `None` once the person is erased.
    pub sealed_recipient: Option<String>,
    /// To whom, of a row from before addresses were sealed.
    pub recipient: Option<String>,
    /// The subject.
    pub subject: String,
    /// The sealed body.
    pub sealed_body: String,
    /// Which attempt this is, from 1. Also tells whose claim it is.
    pub attempts: i32,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Claimed");
        it.field("id", &self.id).field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

/// Puts a message into the outbox, in the caller's transaction. Once that is committed, [`crate::workers::mailer::Mailer::wake`]
/// saves it the wait for the next round.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn insert(
    connection: &mut PgConnection,
    schema: &Schema,
    message: &SealedMessage,
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.messages (id, kind, sealed_recipient, recipient_hash, user_id, subject, sealed_body)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    sqlx::query(&sql)
        .bind(message.id)
        .bind(message.kind.as_str())
        .bind(&message.sealed_recipient)
        .bind(message.recipient_hash.as_slice())
        .bind(message.user)
        .bind(&message.subject)
        .bind(&message.sealed_body)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether anything is due: a look at an index that is nearly always empty.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn has_due(connection: &mut PgConnection, schema: &Schema) -> Result<bool, sqlx::Error> {
    let sql = schema
        .sql("SELECT EXISTS (SELECT FROM {s}.messages WHERE status = 'queued' AND next_attempt_at <= now())");
    sqlx::query_scalar(&sql).fetch_one(connection).await
}

/// Claims messages that are due; no other claims them before `visibility` has passed.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn claim_due(
    connection: &mut PgConnection,
    schema: &Schema,
    limit: i64,
    visibility: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let sql = schema.sql(
        // Materialised: a plan that looks for the due ones once a row would claim more than the limit.
        "WITH due AS MATERIALIZED (
             SELECT id FROM {s}.messages WHERE status = 'queued' AND next_attempt_at <= now()
             ORDER BY next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         UPDATE {s}.messages AS m
         SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $1)
         FROM due WHERE m.id = due.id
         RETURNING m.id, sealed_recipient, recipient, subject, sealed_body, attempts",
    );
    sqlx::query_as(&sql).bind(visibility.as_secs_f64()).bind(limit).fetch_all(connection).await
}

/// It was sent. Whoever claimed it meanwhile finds it gone.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn mark_sent(
    connection: &mut PgConnection,
    schema: &Schema,
    message: &Claimed,
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "UPDATE {s}.messages SET status = 'sent', sent_at = now(), sealed_body = NULL, last_error = NULL
         WHERE id = $1 AND status = 'queued'",
    );
    sqlx::query(&sql).bind(message.id).execute(connection).await?;
    Ok(())
}

/// It could not be sent, and is tried again after `delay`. Nothing changes when another claimed it meanwhile.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn mark_retry(
    connection: &mut PgConnection,
    schema: &Schema,
    message: &Claimed,
    class: &str,
    delay: Duration,
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "UPDATE {s}.messages SET next_attempt_at = now() + make_interval(secs => $1), last_error = $2
         WHERE id = $3 AND status = 'queued' AND attempts = $4",
    );
    sqlx::query(&sql)
        .bind(delay.as_secs_f64())
        .bind(class)
        .bind(message.id)
        .bind(message.attempts)
        .execute(connection)
        .await?;
    Ok(())
}

/// It is given up. Nothing changes when another claimed it meanwhile.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn mark_failed(
    connection: &mut PgConnection,
    schema: &Schema,
    message: &Claimed,
    class: &str,
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "UPDATE {s}.messages SET status = 'failed', sealed_body = NULL, last_error = $1
         WHERE id = $2 AND status = 'queued' AND attempts = $3",
    );
    sqlx::query(&sql).bind(class).bind(message.id).bind(message.attempts).execute(connection).await?;
    Ok(())
}

/// Forgets to whom messages went: to accounts, or to nobody's account at these addresses. That they went out is not
/// forgotten. One that is on its way is given up.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn forget(
    connection: &mut PgConnection,
    schema: &Schema,
    users: &[Uuid],
    sealer: &dyn Sealer,
    addresses: &[String],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "UPDATE {s}.messages
         SET recipient = NULL, sealed_recipient = NULL, recipient_hash = NULL, sealed_body = NULL,
             last_error = CASE status WHEN 'queued' THEN 'erased' ELSE last_error END,
             status = CASE status WHEN 'queued' THEN 'failed' ELSE status END
         WHERE user_id = ANY($1)
            OR user_id IS NULL AND recipient_hash = ANY($2)
            OR user_id IS NULL AND lower(recipient) = ANY(SELECT lower(a) FROM unnest($3::text[]) AS t (a))",
    );
    let hashes: Vec<Vec<u8>> =
        addresses.iter().map(|address| sealer.recognise(schema.tenant_id(), address).to_vec()).collect();
    sqlx::query(&sql).bind(users).bind(hashes).bind(addresses).execute(connection).await?;
    Ok(())
}

/// Seals to whom messages go that are kept in the clear, from before addresses were sealed; at most so many. Answers how many
/// there were.
///
/// # Errors
/// When PostgreSQL refuses, or nothing can be sealed.
pub async fn seal_recipients(
    connection: &mut PgConnection,
    schema: &Schema,
    sealer: &dyn Sealer,
    limit: i64,
) -> Result<u64, OutboxError> {
    let select = schema.sql("SELECT id, recipient FROM {s}.messages WHERE recipient IS NOT NULL LIMIT $1");
    let rows: Vec<(Uuid, String)> = sqlx::query_as(&select).bind(limit).fetch_all(&mut *connection).await?;
    let tenant = schema.tenant_id();
    let (mut ids, mut was, mut sealed, mut hashes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, address) in rows {
        sealed.push(match address.as_str() {
            // The person was erased.
            "" => None,
            address => Some(sealer.seal(tenant, Part::Recipient(id), address.as_bytes())?),
        });
        hashes.push((!address.is_empty()).then(|| sealer.recognise(tenant, &address).to_vec()));
        ids.push(id);
        was.push(address);
    }
    let update = schema.sql(
        "UPDATE {s}.messages m
         SET recipient = NULL, sealed_recipient = n.sealed, recipient_hash = n.hash
         FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::bytea[]) AS n (id, was, sealed, hash)
         WHERE m.id = n.id AND m.recipient = n.was",
    );
    let done = sqlx::query(&update).bind(ids).bind(was).bind(sealed).bind(hashes).execute(connection).await?;
    Ok(done.rows_affected())
}

/// Deletes messages that were queued before a time, and are not on their way any more; at most so many. Answers how many
/// there were.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn prune(
    connection: &mut PgConnection,
    schema: &Schema,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let sql = schema.sql(
        "DELETE FROM {s}.messages WHERE id = ANY(ARRAY(
             SELECT id FROM {s}.messages WHERE created_at < $1 AND status <> 'queued'
             ORDER BY created_at NULLS FIRST LIMIT $2))",
    );
    Ok(sqlx::query(&sql).bind(before).bind(limit).execute(connection).await?.rows_affected())
}

/// Why addresses could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// PostgreSQL refused or is away.
    #[error("seal to whom messages go")]
    Database(#[from] sqlx::Error),
    /// There is no key.
    #[error(transparent)]
    Seal(#[from] SealError),
}
