//! A tenant's settings: one row, under the tenant's id. Inline.

use daybook_domain::settings::Settings;
use sqlx::PgConnection;

use crate::{
    Schema,
    inline::{Row, column},
};

/// The settings as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsRow {
    /// Whether guests may book without an account.
    pub public_bookings: bool,
    /// The name of the house.
    pub display_name: Option<String>,
    /// Whether support may act as a user without an approved window.
    pub hijack_without_approval: bool,
    /// The names of the secrets that are set.
    pub secrets: Vec<String>,
    /// The sequence of the last event; 0 before any change.
    pub version: i64,
}

impl Default for SettingsRow {
    fn default() -> Self {
        let Settings { public_bookings, display_name, hijack_without_approval, .. } = Settings::default();
        Self { public_bookings, display_name, hijack_without_approval, secrets: Vec::new(), version: 0 }
    }
}

/// The settings; those of a tenant that never changed any are the defaults.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(connection: &mut PgConnection) -> Result<SettingsRow, sqlx::Error> {
    let row = sqlx::query_as!(
        SettingsRow,
        "SELECT public_bookings, display_name, hijack_without_approval, secrets, version FROM settings LIMIT 1"
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.unwrap_or_default())
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Settings>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.settings (id, public_bookings, display_name, hijack_without_approval, secrets, version, position,
                                   created_at, updated_at)
         SELECT id, public_bookings, display_name, hijack_without_approval, string_to_array(secrets, ','), version,
                position, created_at, updated_at
         FROM UNNEST($1::uuid[], $2::boolean[], $3::text[], $4::boolean[], $5::text[], $6::bigint[], $7::bigint[],
                     $8::timestamptz[], $9::timestamptz[])
              AS w (id, public_bookings, display_name, hijack_without_approval, secrets, version, position, created_at,
                    updated_at)
         ON CONFLICT (id) DO UPDATE
         SET public_bookings = EXCLUDED.public_bookings, display_name = EXCLUDED.display_name,
             hijack_without_approval = EXCLUDED.hijack_without_approval, secrets = EXCLUDED.secrets,
             version = EXCLUDED.version, position = EXCLUDED.position, updated_at = EXCLUDED.updated_at",
    );
    sqlx::query(&sql)
        .bind(column!(rows, row => row.id))
        .bind(column!(rows, row => row.state.public_bookings))
        .bind(column!(rows, row => row.state.display_name.as_deref()))
        .bind(column!(rows, row => row.state.hijack_without_approval))
        .bind(column!(rows, row => row.state.secrets.iter().cloned().collect::<Vec<_>>().join(",")))
        .bind(column!(rows, row => row.version))
        .bind(column!(rows, row => row.position))
        .bind(column!(rows, row => row.created_at))
        .bind(column!(rows, row => row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}
