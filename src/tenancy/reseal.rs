//! Sealing everything anew after the keys were rotated: the keys of subjects, and what is sealed with Fernet.
//!
//! Every step is a statement of its own that replaces a value only if it is still the one that was read, so it can
//! run beside servers, be stopped at any time, and be run again. It never brings back a key that was destroyed.

use daybook_domain::TenantId;
use daybook_projections::Schema;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Database, TenancyError};
use crate::{
    auth::sealed,
    keys::{Keys, Purpose},
    random,
};

/// Columns that hold Fernet tokens: table, key, column. A table that a schema does not have is passed over.
pub const FERNET_COLUMNS: [(&str, &str, &str); 4] = [
    ("secrets", "name", "ciphertext"),
    ("messages", "id", "sealed_body"),
    ("messages", "id", "sealed_recipient"),
    ("signups", "id", "sealed_payload"),
];

/// Rows read and replaced together.
const BATCH: i64 = 200;

/// Why not everything was sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// PostgreSQL refused.
    #[error(transparent)]
    Tenancy(#[from] TenancyError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] random::RandomError),
    /// A table does not have the columns it should.
    #[error("{table} has no column {column} that holds sealed text")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: &'static str,
    },
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Resealed {
    /// Schemas looked at.
    pub schemas: usize,
    /// Keys of subjects wrapped anew.
    pub subject_keys: u64,
    /// Values sealed anew.
    pub values: u64,
    /// Values that none of the keys opens.
    pub unreadable: u64,
}

impl Resealed {
    /// Whether there was nothing left to do.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.subject_keys == 0 && self.values == 0
    }
}

/// Goes over the platform and every tenant once, also those that are inactive. `progress` is called with
/// (done, all) after each.
///
/// # Errors
/// When PostgreSQL refuses; what was done stays done.
pub async fn pass(
    database: &Database,
    keys: &Keys,
    mut progress: impl FnMut(usize, usize),
) -> Result<Resealed, ResealError> {
    let mut connection =
        database.owner().acquire().await.map_err(TenancyError::db("connect as the owner"))?;
    let schemas = schemas(&mut connection).await?;
    let mut done = Resealed::default();
    for schema in &schemas {
        subject_keys(&mut connection, keys, schema, &mut done).await?;
        for (table, key, column) in FERNET_COLUMNS {
            fernet_column(&mut connection, keys, &format!("{schema}.{table}"), key, column, &mut done)
                .await?;
        }
        done.schemas += 1;
        progress(done.schemas, schemas.len());
    }
    Ok(done)
}

/// Every log's schema, as PostgreSQL knows them: one that no tenant owns any more is sealed as well.
async fn schemas(connection: &mut PgConnection) -> Result<Vec<Schema>, TenancyError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$' ORDER BY nspname",
    )
    .fetch_all(connection)
    .await
    .map_err(TenancyError::db("list the schemas"))?;
    let tenants = names.iter().filter_map(|name| Uuid::try_parse(name.strip_prefix("t_")?).ok());
    Ok(std::iter::once(Schema::platform()).chain(tenants.map(|id| Schema::tenant(TenantId(id)))).collect())
}

async fn subject_keys(
    connection: &mut PgConnection,
    keys: &Keys,
    schema: &Schema,
    done: &mut Resealed,
) -> Result<(), ResealError> {
    let (there,): (bool,) = sqlx::query_as("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("{schema}.subject_keys"))
        .fetch_one(&mut *connection)
        .await
        .map_err(TenancyError::db("look for a schema's keys"))?;
    if !there {
        return Ok(());
    }
    let select = schema.sql(
        "SELECT subject_id, wrapped_key FROM {s}.subject_keys
         WHERE wrapped_key IS NOT NULL AND substring(wrapped_key FROM 1 FOR 8) <> decode($1, 'hex')
           AND ($2::uuid IS NULL OR subject_id > $2)
         ORDER BY subject_id LIMIT $3",
    );
    // Also what is erased meanwhile stays erased: its key is no longer the one that was read.
    let update = schema.sql(
        "UPDATE {s}.subject_keys k SET wrapped_key = n.wrapped
         FROM UNNEST($1::uuid[], $2::bytea[], $3::bytea[]) AS n(id, was, wrapped)
         WHERE k.subject_id = n.id AND k.wrapped_key = n.was",
    );
    let newest = keys.current().ring(Purpose::Master).newest().id();
    let tenant = schema.log_id().0;
    let mut after: Option<Uuid> = None;
    loop {
        let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(&select)
            .bind(&newest)
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await
            .map_err(TenancyError::db("read keys of subjects"))?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Some(*last);
        let (mut ids, mut was, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
        for (subject, old) in rows {
            let nonce = random::bytes()?;
            let new = keys
                .unwrap_subject_key(subject, tenant, &old)
                .and_then(|key| keys.wrap_subject_key(subject, tenant, &key, nonce));
            let Ok(new) = new else {
                tracing::error!(%schema, %subject, "no key opens the key of a subject");
                done.unreadable += 1;
                continue;
            };
            ids.push(subject);
            was.push(old);
            wrapped.push(new);
        }
        done.subject_keys += sqlx::query(&update)
            .bind(ids)
            .bind(was)
            .bind(wrapped)
            .execute(&mut *connection)
            .await
            .map_err(TenancyError::db("wrap keys of subjects"))?
            .rows_affected();
    }
}

async fn fernet_column(
    connection: &mut PgConnection,
    keys: &Keys,
    table: &str,
    key: &'static str,
    column: &'static str,
    done: &mut Resealed,
) -> Result<(), ResealError> {
    let (there, key_type, column_type): (bool, Option<String>, Option<String>) = sqlx::query_as(
        "SELECT to_regclass($1) IS NOT NULL,
           (SELECT format_type(atttypid, NULL) FROM pg_attribute
            WHERE attrelid = to_regclass($1) AND attname = $2 AND attnum > 0 AND NOT attisdropped),
           (SELECT format_type(atttypid, NULL) FROM pg_attribute
            WHERE attrelid = to_regclass($1) AND attname = $3 AND attnum > 0 AND NOT attisdropped)",
    )
    .bind(table)
    .bind(key)
    .bind(column)
    .fetch_one(&mut *connection)
    .await
    .map_err(TenancyError::db("look for sealed values"))?;
    if !there {
        return Ok(());
    }
    // To pass over it here would be to lose it once the retired keys are dropped.
    let missing = |column| ResealError::Column { table: table.to_owned(), column };
    let key_type = key_type.ok_or_else(|| missing(key))?;
    column_type.filter(|found| found == "text").ok_or_else(|| missing(column))?;
    // Keys travel as text and are compared as what they are, so that the index serves whatever their type.
    let select = format!(
        "SELECT {key}::text, {column} FROM {table}
         WHERE {column} IS NOT NULL AND ($1::text IS NULL OR {key} > $1::{key_type}) ORDER BY {key} LIMIT $2"
    );
    let update = format!(
        "UPDATE {table} t SET {column} = n.sealed
         FROM UNNEST($1::text[], $2::text[], $3::text[]) AS n(id, was, sealed)
         WHERE t.{key} = n.id::{key_type} AND t.{column} = n.was"
    );
    let mut after: Option<String> = None;
    loop {
        let rows: Vec<(String, String)> = sqlx::query_as(&select)
            .bind(&after)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await
            .map_err(TenancyError::db("read sealed values"))?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = Some(last.clone());
        let (mut ids, mut was, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        for (id, old) in rows {
            match sealed::reseal(keys, &old) {
                Ok(None) => {}
                Ok(Some(new)) => {
                    ids.push(id);
                    was.push(old);
                    sealed.push(new);
                }
                Err(_) => {
                    tracing::error!(table, key = id, "no key opens a sealed value");
                    done.unreadable += 1;
                }
            }
        }
        if ids.is_empty() {
            continue;
        }
        done.values += sqlx::query(&update)
            .bind(ids)
            .bind(was)
            .bind(sealed)
            .execute(&mut *connection)
            .await
            .map_err(TenancyError::db("seal values"))?
            .rows_affected();
    }
}
