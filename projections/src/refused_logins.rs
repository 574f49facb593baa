//! Sign-ins and new passwords that were refused. Not a read model: nothing of them is in the log of events, which anybody
//! could fill by failing. Each row is one such try, or stands for many.

use chrono::{DateTime, Utc};
use daybook_domain::Disclosed;
use sqlx::PgConnection;
use uuid::Uuid;

/// A sign-in was tried.
pub const SIGN_IN: &str = "sign_in";
/// A new password was to be set by a link or a code.
pub const PASSWORD_RESET: &str = "password_reset";
/// The password, the link or the code was wrong, or there is no such account.
pub const FAILED: &str = "failed";
/// It was refused after too many failures.
pub const LOCKED_OUT: &str = "locked_out";

/// A refused try, or several that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedLoginRow {
    /// When; of several, the first.
    pub at: DateTime<Utc>,
    /// The request's id; of several, the first's.
    pub request_id: Uuid,
    /// What was tried ([`SIGN_IN`], [`PASSWORD_RESET`]).
    pub kind: &'static str,
    /// How it was refused ([`FAILED`], [`LOCKED_OUT`]).
    pub outcome: &'static str,
    /// The account, where there is one and all of them were of it.
    pub user_id: Option<Uuid>,
    /// From where, where all of them were from there. Personal.
    pub ip: Disclosed<String>,
    /// With what. Personal.
    pub user_agent: Disclosed<String>,
    /// How many tries it stands for, at least one.
    pub times: i32,
}

/// Writes refused tries. Their months must have partitions.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn insert(connection: &mut PgConnection, rows: &[&RefusedLoginRow]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO refused_logins (at, request_id, kind, outcome, user_id, ip, user_agent, times)
         SELECT * FROM UNNEST($1::timestamptz[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[],
                              $8::integer[])",
    )
    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.request_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.kind).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.outcome).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.user_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.ip.expose().map(String::as_str)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.user_agent.expose().map(String::as_str)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.times).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
