//! Users: one row each, and their sessions that have not ended. Inline, in a tenant's schema or the platform's.

use chrono::{DateTime, Utc};
use daybook_domain::{
    Disclosed,
    user::{User, email_key},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column, uuid_array},
};

/// A user as they are now.
#[derive(Clone, Debug, PartialEq)]
pub struct UserRow {
    /// The user.
    pub id: Uuid,
    /// Their e-mail address. Personal; absent once the account is gone.
    pub email: Disclosed<String>,
    /// Their name. Personal; absent once the account is gone.
    pub name: Disclosed<String>,
    /// Their tier.
    pub tier: String,
    /// Their role of the tenant's own.
    pub role_id: Option<Uuid>,
    /// Their modules.
    pub modules: Vec<String>,
    /// The resources assigned to them.
    pub assigned: Vec<Uuid>,
    /// The customer they are.
    pub customer_id: Option<Uuid>,
    /// Where the account stands.
    pub status: String,
    /// Until when an invitation can be accepted.
    pub invited_until: Option<DateTime<Utc>>,
    /// The sequence of the last event.
    pub version: i64,
    /// When the first event was recorded.
    pub created_at: DateTime<Utc>,
    /// When the last event was recorded.
    pub updated_at: DateTime<Utc>,
}

/// Which users are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Of this status only; without it all but deleted ones.
    pub status: Option<String>,
    /// Of this tier only.
    pub tier: Option<String>,
    /// With exactly this address, in lower case.
    pub email_key: Option<String>,
}

/// A session that has not ended, with what is known of its last use.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// The session.
    pub session_id: Uuid,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
    /// When it was last refreshed.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From where. Personal.
    pub ip: Disclosed<String>,
    /// With what. Personal.
    pub user_agent: Disclosed<String>,
}

/// One user.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as!(
        UserRow,
        "SELECT id, email, name, tier, role_id, modules, assigned, customer_id, status, invited_until, version,
                created_at, updated_at
         FROM users WHERE id = $1",
        id
    )
    .fetch_optional(connection)
    .await
}

/// Users in the order of their ids, after the one given.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    filter: &UserFilter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<UserRow>, sqlx::Error> {
    sqlx::query_as!(
        UserRow,
        "SELECT id, email, name, tier, role_id, modules, assigned, customer_id, status, invited_until, version,
                created_at, updated_at
         FROM users
         WHERE id > $1 AND status = coalesce($2, status) AND ($2::text IS NOT NULL OR status <> 'deleted')
           AND ($3::text IS NULL OR tier = $3) AND ($4::text IS NULL OR email_key = $4)
         ORDER BY id LIMIT $5",
        after.unwrap_or_default(),
        filter.status,
        filter.tier,
        filter.email_key,
        limit
    )
    .fetch_all(connection)
    .await
}

/// The sessions of a user that have not ended, newest first.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn sessions(connection: &mut PgConnection, user: Uuid) -> Result<Vec<SessionRow>, sqlx::Error> {
    sqlx::query_as!(
        SessionRow,
        r#"SELECT s.session_id, s.started_at, s.expires_at, t.issued_at AS "last_used_at?", t.ip AS "ip?",
                  t.user_agent AS "user_agent?"
           FROM user_sessions s
           LEFT JOIN LATERAL (
               SELECT issued_at, ip, user_agent FROM refresh_tokens
               WHERE refresh_tokens.session_id = s.session_id ORDER BY issued_at DESC LIMIT 1
           ) AS t ON true
           WHERE s.user_id = $1 AND s.expires_at > now()
           ORDER BY s.started_at DESC, s.session_id"#,
        user
    )
    .fetch_all(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, User>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.users (id, email, email_key, name, tier, role_id, modules, assigned, customer_id, status,
                                invited_until, version, position, created_at, updated_at)
         SELECT id, email, email_key, name, tier, role_id, string_to_array(modules, ','), assigned::uuid[], customer_id,
                status, invited_until, version, position, created_at, updated_at
         FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::text[],
                     $9::uuid[], $10::text[], $11::timestamptz[], $12::bigint[], $13::bigint[], $14::timestamptz[],
                     $15::timestamptz[])
              AS w (id, email, email_key, name, tier, role_id, modules, assigned, customer_id, status, invited_until,
                    version, position, created_at, updated_at)
         ON CONFLICT (id) DO UPDATE
         SET email = EXCLUDED.email, email_key = EXCLUDED.email_key, name = EXCLUDED.name, tier = EXCLUDED.tier,
             role_id = EXCLUDED.role_id, modules = EXCLUDED.modules, assigned = EXCLUDED.assigned,
             customer_id = EXCLUDED.customer_id, status = EXCLUDED.status, invited_until = EXCLUDED.invited_until,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    let modules =
        |user: &User| user.modules.iter().map(|module| module.as_str()).collect::<Vec<_>>().join(",");
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.email.expose().map(|email| email.as_str().to_owned())))
        .bind(column!(rows, row => row.state.email.expose().map(|email| email_key(email.as_str()))))
        .bind(column!(rows, row => row.state.name.expose().map(|name| name.as_str().to_owned())))
        .bind(column!(rows, row => row.state.role.tier.as_str()))
        .bind(column!(rows, row => row.state.role.role_id.map(|role| role.0)))
        .bind(column!(rows, row => modules(row.state)))
        .bind(column!(rows, row => uuid_array(row.state.assigned.iter().map(|resource| resource.0))))
        .bind(column!(rows, row => row.state.customer_id.map(|customer| customer.0)))
        .bind(column!(rows, row => row.state.status.as_str()))
        .bind(column!(rows, row => row.state.invited_until))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(&mut *connection)
        .await?;
    write_sessions(connection, schema, rows).await
}

/// The sessions of the users as they are now: those that have ended go, in the transaction of their end.
async fn write_sessions(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, User>],
) -> Result<(), sqlx::Error> {
    let live: Vec<(Uuid, Uuid, DateTime<Utc>, DateTime<Utc>)> = rows
        .iter()
        .flat_map(|row| {
            let sessions = row.state.sessions.iter();
            sessions.map(|(id, session)| (id.0, row.id, session.started_at, session.expires_at))
        })
        .collect();
    sqlx::query(
        &schema.sql("DELETE FROM {s}.user_sessions WHERE user_id = ANY($1) AND NOT session_id = ANY($2)"),
    )
    .bind(column!(rows, row => row.id))
    .bind(column!(live, session => session.0))
    .execute(&mut *connection)
    .await?;
    if live.is_empty() {
        return Ok(());
    }
    sqlx::query(&schema.sql(
        "INSERT INTO {s}.user_sessions (session_id, user_id, started_at, expires_at)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[])
         ON CONFLICT (session_id) DO NOTHING",
    ))
    .bind(column!(live, session => session.0))
    .bind(column!(live, session => session.1))
    .bind(column!(live, session => session.2))
    .bind(column!(live, session => session.3))
    .execute(connection)
    .await?;
    Ok(())
}
