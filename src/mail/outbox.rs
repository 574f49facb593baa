//! The outbox: a table of every log's schema.
//!
//! A message is claimed by pushing its next attempt ahead, in one statement and committed before it is sent. A node
//! that dies meanwhile leaves a message that another tries again; two nodes never send one at the same time. Between
//! the mail server's yes and the row's there is a gap in which a crash sends it twice, with one `Message-ID`.

use std::{fmt, time::Duration};

use daybook_projections::Schema;
use sqlx::PgConnection;
use uuid::Uuid;

use super::SealedMessage;

/// A message that is this node's to send, until its next attempt is due.
#[derive(Clone, sqlx::FromRow)]
pub struct Claimed {
    /// The row.
    pub id: Uuid,
    /// The address.
    pub recipient: String,
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
        "INSERT INTO {s}.messages (id, kind, recipient, user_id, subject, sealed_body)
         VALUES ($1, $2, $3, $4, $5, $6)",
    );
    sqlx::query(&sql)
        .bind(message.id)
        .bind(message.kind.as_str())
        .bind(message.recipient.as_str())
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
         RETURNING m.id, recipient, subject, sealed_body, attempts",
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
