//! Exports of the log: one row each. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::audit_export::{AuditExport, ExportFilter};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// An export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditExportRow {
    /// The export.
    pub id: Uuid,
    /// What it is written as.
    pub format: String,
    /// It begins past this position.
    pub after_position: i64,
    /// It ends with this one.
    pub until_position: i64,
    /// What of it is wanted.
    pub filter: Json<ExportFilter>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; one that never did was not taken whole.
    pub ended_at: Option<DateTime<Utc>>,
    /// How many events were handed out.
    pub rows: Option<i64>,
    /// The position of the last of them.
    pub last_position: Option<i64>,
    /// Whether that was all that was asked for.
    pub complete: Option<bool>,
}

/// Exports that nobody ended, begun within the last 24 hours by the database's clock: what they are about is not to be
/// pruned.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn unfinished(connection: &mut PgConnection) -> Result<Vec<AuditExportRow>, sqlx::Error> {
    sqlx::query_as!(
        AuditExportRow,
        r#"SELECT id, format, after_position, until_position, filter AS "filter: Json<ExportFilter>", started_at, ended_at,
                  rows, last_position, complete
           FROM audit_exports WHERE ended_at IS NULL AND started_at > now() - interval '24 hours' ORDER BY started_at, id"#
    )
    .fetch_all(connection)
    .await
}

/// One export.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection, id: Uuid) -> Result<Option<AuditExportRow>, sqlx::Error> {
    sqlx::query_as!(
        AuditExportRow,
        r#"SELECT id, format, after_position, until_position, filter AS "filter: Json<ExportFilter>", started_at, ended_at,
                  rows, last_position, complete
           FROM audit_exports WHERE id = $1"#,
        id
    )
    .fetch_optional(connection)
    .await
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, AuditExport>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.audit_exports (id, format, after_position, until_position, filter, started_at, ended_at, rows,
                                        last_position, complete, version, position, created_at, updated_at)
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::jsonb[], $6::timestamptz[],
                              $7::timestamptz[], $8::bigint[], $9::bigint[], $10::boolean[], $11::bigint[], $12::bigint[],
                              $13::timestamptz[], $14::timestamptz[])
         ON CONFLICT (id) DO UPDATE
         SET ended_at = EXCLUDED.ended_at, rows = EXCLUDED.rows, last_position = EXCLUDED.last_position,
             complete = EXCLUDED.complete, version = EXCLUDED.version, position = EXCLUDED.position,
             updated_at = EXCLUDED.updated_at",
    );
    let count = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.format.as_str()))
        .bind(column!(rows, row => row.state.after))
        .bind(column!(rows, row => row.state.until))
        .bind(column!(rows, row => Json(&row.state.filter)))
        .bind(column!(rows, row => row.state.started_at))
        .bind(column!(rows, row => row.state.ended.map(|ended| ended.at)))
        .bind(column!(rows, row => row.state.ended.map(|ended| count(ended.rows))))
        .bind(column!(rows, row => row.state.ended.map(|ended| ended.last_position)))
        .bind(column!(rows, row => row.state.ended.map(|ended| ended.complete)))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
