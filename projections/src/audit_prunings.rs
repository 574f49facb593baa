//! What was pruned of a log. Inline; the newest row is where every reader of the log begins.

use chrono::{DateTime, Utc};
use daybook_domain::{
    audit_trail::{AuditTrail, AuditTrailEvent, Pruning},
    envelope::RecordedEvent,
    registry::AnyEvent,
};
use sqlx::PgConnection;

use crate::{
    Schema,
    inline::{Row, column, int},
};

/// Read models whose rows are gone with the last event of their streams, with the type of the aggregate: what is over,
/// and what the log no longer tells of.
pub const ENDS_WITH_ITS_HISTORY: &[(&str, &str)] = &[
    ("support_requests", "support_request"),
    ("support_sessions", "support_session"),
    ("hijacks", "hijack"),
    ("permission_grants", "permission_grant"),
    ("audit_exports", "audit_export"),
];

/// A pruning of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruningRow {
    /// The position up to which, and with which, events are gone.
    pub through_position: i64,
    /// What was recorded before then was older than the history kept.
    pub cut_at: DateTime<Utc>,
    /// The days of history the plan kept.
    pub history_days: i32,
    /// How many events went.
    pub events: i64,
    /// When it was decided.
    pub pruned_at: DateTime<Utc>,
    /// The root of the hash tree up to there, in hex, where the ledger had it.
    pub leaf_hash_root: Option<String>,
}

/// The last prunings, newest first.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(connection: &mut PgConnection, limit: i64) -> Result<Vec<PruningRow>, sqlx::Error> {
    sqlx::query_as!(
        PruningRow,
        "SELECT through_position, cut_at, history_days, events, pruned_at, leaf_hash_root
         FROM audit_prunings ORDER BY through_position DESC LIMIT $1",
        limit
    )
    .fetch_all(connection)
    .await
}

/// The position up to which the log is pruned; 0 when it never was.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn pruned_through(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(through_position), 0) AS "through_position!" FROM audit_prunings"#
    )
    .fetch_one(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, AuditTrail>],
) -> Result<(), sqlx::Error> {
    for row in rows {
        let prunings: &[Pruning] = &row.state.prunings;
        let Some(oldest) = prunings.first() else { continue };
        sqlx::query(&schema.sql("DELETE FROM {s}.audit_prunings WHERE through_position < $1"))
            .bind(oldest.through_position)
            .execute(&mut *connection)
            .await?;
        sqlx::query(&schema.sql(
            "INSERT INTO {s}.audit_prunings (through_position, cut_at, history_days, events, pruned_at, leaf_hash_root)
             SELECT * FROM UNNEST($1::bigint[], $2::timestamptz[], $3::integer[], $4::bigint[], $5::timestamptz[],
                                  $6::text[])
             ON CONFLICT (through_position) DO NOTHING",
        ))
        .bind(column!(prunings, it => it.through_position))
        .bind(column!(prunings, it => it.cut_at))
        .bind(column!(prunings, it => int(it.history_days)))
        .bind(column!(prunings, it => it.events))
        .bind(column!(prunings, it => it.at))
        .bind(column!(prunings, it => it.leaf_hash_root.clone()))
        .execute(&mut *connection)
        .await?;
        forget_what_ended(connection, schema, row.state.pruned_through()).await?;
    }
    Ok(())
}

/// Events in pieces, each up to the next pruning, and whether it ends with one: what nothing remains of any more is not known
/// of from there on.
pub(crate) fn pieces(events: &[RecordedEvent]) -> impl Iterator<Item = (&[RecordedEvent], bool)> {
    let is_pruning = |event: &RecordedEvent| pruned(&event.event).is_some();
    events.split_inclusive(is_pruning).map(move |piece| (piece, piece.last().is_some_and(is_pruning)))
}

/// What was pruned of the log, where that is what happened.
pub fn pruned(event: &AnyEvent) -> Option<&Pruning> {
    match event {
        AnyEvent::AuditTrail(AuditTrailEvent::Pruned(pruned)) => Some(&pruned.pruning),
        AnyEvent::AuditTrail(AuditTrailEvent::CarriedOver(_))
        | AnyEvent::Tenant(_)
        | AnyEvent::Resource(_)
        | AnyEvent::Offering(_)
        | AnyEvent::Schedule(_)
        | AnyEvent::Customer(_)
        | AnyEvent::Booking(_)
        | AnyEvent::User(_)
        | AnyEvent::Role(_)
        | AnyEvent::ApiKey(_)
        | AnyEvent::Settings(_)
        | AnyEvent::Lead(_)
        | AnyEvent::PermissionGrant(_)
        | AnyEvent::SupportRequest(_)
        | AnyEvent::SupportSession(_)
        | AnyEvent::Hijack(_)
        | AnyEvent::AuditExport(_)
        | AnyEvent::LegalHold(_) => None,
    }
}

/// Takes away what ended before the cut, snapshots of it included. What goes on was carried over it, so its row has a later
/// position.
async fn forget_what_ended(
    connection: &mut PgConnection,
    schema: &Schema,
    through_position: i64,
) -> Result<(), sqlx::Error> {
    // The platform's log has hijacks of these.
    let tables =
        ENDS_WITH_ITS_HISTORY.iter().filter(|(table, _)| schema.tenant_id().is_some() || *table == "hijacks");
    for (table, aggregate_type) in tables {
        let sql = schema.sql(
            &"WITH gone AS (DELETE FROM {s}.{table} WHERE position <= $1 RETURNING id),
                   forgotten AS (
                       DELETE FROM {s}.snapshots n USING gone
                       WHERE n.aggregate_id = gone.id AND n.aggregate_type = '{type}')
              DELETE FROM {s}.streams s USING gone
              WHERE s.aggregate_id = gone.id AND s.aggregate_type = '{type}'"
                .replace("{table}", table)
                .replace("{type}", aggregate_type),
        );
        sqlx::query(&sql).bind(through_position).execute(&mut *connection).await?;
    }
    Ok(())
}
