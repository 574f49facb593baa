//! Logins: who signed in and out, whose session ended and why, who has a new password. Follows the log; what was refused
//! is not in the log, and is listed beside it ([`crate::refused_logins`]).

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_domain::{
    Disclosed,
    envelope::RecordedEvent,
    registry::AnyEvent,
    user::{ResetBy, SessionEnd, UserEvent},
};
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::{
    Projection, ProjectionError, Run,
    audit_prunings::pruned,
    inline::column,
    newest::{push_before, push_newest},
};

/// What a login can be about, as it is stored and filtered by.
pub const KINDS: [&str; 6] =
    ["sign_in", "sign_out", "session_end", "password_change", "password_reset", "reset_request"];
/// How one can have gone.
pub const OUTCOMES: [&str; 3] = ["succeeded", "failed", "locked_out"];

/// One login, or several refused ones that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginRow {
    /// When; of several, the first.
    pub at: DateTime<Utc>,
    /// The event's id, or of what was refused the request's.
    pub id: Uuid,
    /// What it is about, one of [`KINDS`].
    pub kind: String,
    /// How it went, one of [`OUTCOMES`].
    pub outcome: String,
    /// By which means, or why (`password`, `logout`, `link`).
    pub how: Option<String>,
    /// The account, where there is one.
    pub user_id: Option<Uuid>,
    /// Who did it, as events name them; `None` for nobody who is known.
    pub actor: Option<String>,
    /// The account they acted as.
    pub on_behalf_of: Option<String>,
    /// The session.
    pub session_id: Option<Uuid>,
    /// From where. Personal.
    pub ip: Disclosed<String>,
    /// With what. Personal.
    pub user_agent: Disclosed<String>,
    /// The request it came with.
    pub request_id: Option<Uuid>,
    /// Its position in the log; `None` for what was refused.
    pub position: Option<i64>,
    /// How many tries it stands for.
    pub times: i32,
}

/// Which are listed; every field that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginFilter {
    /// Of this account.
    pub user_id: Option<Uuid>,
    /// About this.
    pub kind: Option<String>,
    /// That went so.
    pub outcome: Option<String>,
    /// From this address.
    pub ip: Option<String>,
    /// At or after this instant.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant.
    pub to: Option<DateTime<Utc>>,
}

/// Logins, newest first, past the one of this time and id.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn page(
    connection: &mut PgConnection,
    filter: &LoginFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<LoginRow>, sqlx::Error> {
    let rows: Vec<Found> = statement(filter, past, limit).build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(LoginRow::from).collect())
}

/// The statement of [`page`].
///
/// Only the conditions that are asked for are in it, so that each kind of question has its own plan.
pub fn statement(
    filter: &LoginFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> QueryBuilder<'_, Postgres> {
    let succeeded = filter.outcome.as_deref().is_none_or(|outcome| outcome == "succeeded");
    let refused = filter.outcome.as_deref().is_none_or(|outcome| outcome != "succeeded");
    let narrowed = filter.user_id.is_some() || filter.kind.is_some() || filter.ip.is_some();
    // Each part gives a page from its own index; of both together the newest count.
    let mut query = QueryBuilder::new("SELECT * FROM (");
    if succeeded {
        query.push(
            "(SELECT recorded_at AS at, event_id AS id, kind, 'succeeded' AS outcome, how, user_id, actor, on_behalf_of,
                     session_id, ip, user_agent, request_id, position, 1 AS times
              FROM login_events WHERE true",
        );
        let columns = ["recorded_at", "event_id"];
        narrow(&mut query, filter, past, columns);
        push_newest(&mut query, columns, narrowed, limit);
        query.push(")");
    }
    if succeeded && refused {
        query.push(" UNION ALL ");
    }
    if refused {
        query.push(
            "(SELECT at, request_id AS id, kind, outcome, NULL::text AS how, user_id, NULL::text AS actor,
                     NULL::text AS on_behalf_of, NULL::uuid AS session_id, ip, user_agent, request_id,
                     NULL::bigint AS position, times
              FROM refused_logins WHERE true",
        );
        if let Some(outcome) = &filter.outcome {
            query.push(" AND outcome = ").push_bind(outcome);
        }
        let columns = ["at", "request_id"];
        narrow(&mut query, filter, past, columns);
        push_newest(&mut query, columns, narrowed || filter.outcome.is_some(), limit);
        query.push(")");
    }
    query.push(") AS logins ORDER BY at DESC, id DESC LIMIT ").push_bind(limit);
    query
}

/// The conditions that both parts have, by the columns of the one at hand.
fn narrow<'q>(
    query: &mut QueryBuilder<'q, Postgres>,
    filter: &'q LoginFilter,
    past: Option<(DateTime<Utc>, Uuid)>,
    columns: [&str; 2],
) {
    if let Some(user) = filter.user_id {
        query.push(" AND user_id = ").push_bind(user);
    }
    if let Some(kind) = &filter.kind {
        query.push(" AND kind = ").push_bind(kind);
    }
    if let Some(ip) = &filter.ip {
        query.push(" AND ip = ").push_bind(ip);
    }
    if let Some(from) = filter.from {
        query.push(" AND ").push(columns[0]).push(" >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        push_before(query, columns, (to, Uuid::nil()));
    }
    if let Some(past) = past {
        push_before(query, columns, past);
    }
}

#[derive(sqlx::FromRow)]
struct Found {
    at: DateTime<Utc>,
    id: Uuid,
    kind: String,
    outcome: String,
    how: Option<String>,
    user_id: Option<Uuid>,
    actor: Option<String>,
    on_behalf_of: Option<String>,
    session_id: Option<Uuid>,
    ip: Option<String>,
    user_agent: Option<String>,
    request_id: Option<Uuid>,
    position: Option<i64>,
    times: i32,
}

impl From<Found> for LoginRow {
    fn from(row: Found) -> Self {
        Self {
            at: row.at,
            id: row.id,
            kind: row.kind,
            outcome: row.outcome,
            how: row.how,
            user_id: row.user_id,
            actor: row.actor,
            on_behalf_of: row.on_behalf_of,
            session_id: row.session_id,
            ip: row.ip.into(),
            user_agent: row.user_agent.into(),
            request_id: row.request_id,
            position: row.position,
            times: row.times,
        }
    }
}

/// The projection.
#[derive(Clone, Copy, Debug)]
pub struct Logins;

#[async_trait]
impl Projection for Logins {
    fn name(&self) -> &'static str {
        "logins"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["login_events"]
    }

    fn looks_back(&self, _: &AnyEvent) -> bool {
        false
    }

    fn handles(&self, event: &AnyEvent) -> bool {
        Login::of(event).is_some() || pruned(event).is_some()
    }

    async fn apply(
        &self,
        connection: &mut PgConnection,
        _: &Run,
        events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        let rows: Vec<(&RecordedEvent, Login)> =
            events.iter().filter_map(|event| Some((event, Login::of(&event.event)?))).collect();
        if !rows.is_empty() {
            write(connection, &rows).await?;
        }
        if let Some(pruning) = events.iter().filter_map(|event| pruned(&event.event)).next_back() {
            let through = pruning.through_position;
            sqlx::query!("DELETE FROM login_events WHERE position <= $1", through)
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

async fn write(connection: &mut PgConnection, rows: &[(&RecordedEvent, Login)]) -> Result<(), sqlx::Error> {
    sqlx::query!(
            "INSERT INTO login_events (position, event_id, recorded_at, user_id, kind, how, session_id, actor, on_behalf_of,
                                       ip, user_agent, request_id)
             SELECT * FROM UNNEST($1::bigint[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[],
                                  $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[])",
            &column!(rows, row => row.0.position),
            &column!(rows, row => row.0.event_id),
            &column!(rows, row => row.0.recorded_at),
            &column!(rows, row => row.0.aggregate_id),
            &column!(rows, row => row.1.kind.to_owned()),
            &column!(rows, row => row.1.how.map(str::to_owned)) as &[Option<String>],
            &column!(rows, row => row.1.session) as &[Option<Uuid>],
            &column!(rows, row => row.0.metadata.actor.clone()),
            &column!(rows, row => row.0.metadata.on_behalf_of.clone()) as &[Option<String>],
            &column!(rows, row => row.0.metadata.ip.clone()) as &[Option<String>],
            &column!(rows, row => row.0.metadata.user_agent.clone()) as &[Option<String>],
            &column!(rows, row => row.0.metadata.request_id) as &[Option<Uuid>]
        )
        .execute(connection)
        .await?;
    Ok(())
}

/// What an event says about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Login {
    kind: &'static str,
    how: Option<&'static str>,
    session: Option<Uuid>,
}

impl Login {
    fn of(event: &AnyEvent) -> Option<Self> {
        match event {
            AnyEvent::User(event) => Self::of_user(event),
            AnyEvent::Booking(_)
            | AnyEvent::Tenant(_)
            | AnyEvent::Resource(_)
            | AnyEvent::Offering(_)
            | AnyEvent::Schedule(_)
            | AnyEvent::Customer(_)
            | AnyEvent::Role(_)
            | AnyEvent::ApiKey(_)
            | AnyEvent::Settings(_)
            | AnyEvent::Lead(_)
            | AnyEvent::PermissionGrant(_)
            | AnyEvent::SupportRequest(_)
            | AnyEvent::SupportSession(_)
            | AnyEvent::Hijack(_)
            | AnyEvent::AuditExport(_)
            | AnyEvent::LegalHold(_)
            | AnyEvent::AuditTrail(_) => None,
        }
    }

    fn of_user(event: &UserEvent) -> Option<Self> {
        match event {
            // There is no other way in than by the password.
            UserEvent::SessionStarted { session_id, .. } => {
                Some(Self { kind: "sign_in", how: Some("password"), session: Some(session_id.0) })
            }
            UserEvent::SessionEnded { session_id, why } => {
                let kind = if *why == SessionEnd::Logout { "sign_out" } else { "session_end" };
                Some(Self { kind, how: Some(end(*why)), session: Some(session_id.0) })
            }
            UserEvent::PasswordChanged { reset_id: None } => {
                Some(Self { kind: "password_change", how: None, session: None })
            }
            UserEvent::PasswordChanged { reset_id: Some(_) } => {
                Some(Self { kind: "password_reset", how: None, session: None })
            }
            UserEvent::PasswordResetRequested { by, .. } => {
                let how = match by {
                    ResetBy::Link => "link",
                    ResetBy::Code => "code",
                };
                Some(Self { kind: "reset_request", how: Some(how), session: None })
            }
            UserEvent::Registered { .. }
            | UserEvent::Invited { .. }
            | UserEvent::InvitationAccepted { .. }
            | UserEvent::InvitationRevoked { .. }
            | UserEvent::Updated { .. }
            | UserEvent::RoleChanged { .. }
            | UserEvent::Assigned { .. }
            | UserEvent::Deactivated
            | UserEvent::Activated
            | UserEvent::Deleted { .. }
            | UserEvent::CarriedOver(_) => None,
        }
    }
}

fn end(why: SessionEnd) -> &'static str {
    match why {
        SessionEnd::Logout => "logout",
        SessionEnd::Revoked => "revoked",
        SessionEnd::Cap => "cap",
        SessionEnd::Expired => "expired",
        SessionEnd::Reuse => "reuse",
        SessionEnd::PasswordChanged => "password_changed",
        SessionEnd::AccountClosed => "account_closed",
    }
}

#[cfg(test)]
mod tests {
    use daybook_domain::SessionId;

    use super::*;

    #[test]
    fn the_end_of_a_session_says_why() {
        let session_id = SessionId(Uuid::from_u128(7));
        let of = |why| Login::of_user(&UserEvent::SessionEnded { session_id, why }).unwrap();
        assert_eq!((of(SessionEnd::Logout).kind, of(SessionEnd::Logout).how), ("sign_out", Some("logout")));
        assert_eq!((of(SessionEnd::Cap).kind, of(SessionEnd::Cap).how), ("session_end", Some("cap")));
        // As the event itself says it.
        for why in [SessionEnd::Reuse, SessionEnd::PasswordChanged, SessionEnd::AccountClosed] {
            assert_eq!(serde_json::to_value(why).unwrap(), end(why));
        }
    }

    #[test]
    fn what_changes_an_account_is_no_login() {
        assert_eq!(Login::of_user(&UserEvent::Deactivated), None);
        assert!(
            KINDS.contains(&Login::of_user(&UserEvent::PasswordChanged { reset_id: None }).unwrap().kind)
        );
    }
}
