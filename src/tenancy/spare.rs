//! Schemas made before there is a tenant for them.
//!
//! A schema takes PostgreSQL a good tenth of a second, most of it for writing each empty index to disk. One that is
//! there already only has to be renamed, which is one small transaction. Nothing refers to a spare but its row in
//! `spare_schemas`: no tenant has its id, so no request and no worker enters it.

use daybook_domain::TenantId;
use daybook_projections::Schema;
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use super::{
    Database, TenancyError,
    migrate::{self, Kind},
    provision,
};

/// Spares are made and thrown away by one node at a time; the key of the lock it takes.
const LOCK: &str = "daybook_platform.spare_schemas";

/// Gives a tenant the oldest spare that this binary's migrations made; whether there was one. Where the tenant has a
/// schema or a role already, or there is no spare, nothing is changed.
///
/// # Errors
/// When PostgreSQL refuses; nothing was changed then, unless the connection broke while it committed, but that a spare
/// which could not be taken is gone.
pub(super) async fn claim(database: &Database, tenant: TenantId) -> Result<bool, TenancyError> {
    let attempted = || TenancyError::db("take a spare schema");
    let schema = Schema::tenant(tenant);
    let mut tx = database.owner().begin().await.map_err(attempted())?;
    let spare: Option<(Uuid,)> = sqlx::query_as(
        "DELETE FROM daybook_platform.spare_schemas
         WHERE id = (
             SELECT id FROM daybook_platform.spare_schemas
             WHERE checksum = $1 AND to_regnamespace($2) IS NULL AND to_regrole($2) IS NULL
             ORDER BY made_at LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING id",
    )
    .bind(Kind::Tenant.checksum())
    .bind(schema.name())
    .fetch_optional(&mut *tx)
    .await
    .map_err(attempted())?;
    let Some((spare,)) = spare else { return Ok(false) };
    if let Err(error) = take(&mut tx, spare, tenant).await {
        tx.rollback().await.map_err(attempted())?;
        // The next tenant's would fail as well. Where it was not the spare's fault, another one costs nobody's time.
        let mut tx = database.owner().begin().await.map_err(attempted())?;
        discard(&mut tx, spare).await?;
        tx.commit().await.map_err(attempted())?;
        return Err(error);
    }
    tx.commit().await.map_err(attempted())?;
    Ok(true)
}

/// Makes a spare the tenant's.
async fn take(tx: &mut PgConnection, spare: Uuid, tenant: TenantId) -> Result<(), TenancyError> {
    let (from, to) = (Schema::tenant(TenantId(spare)), Schema::tenant(tenant));
    tx.execute(rename(&from, &to).as_str()).await.map_err(TenancyError::db("take a spare schema"))?;
    migrate::remember(tx, tenant).await
}

/// The schema and its role get another name. What belongs to them or was granted to them stays so, as PostgreSQL knows
/// them by number; only the functions that keep to a search path have it by name.
fn rename(from: &Schema, to: &Schema) -> String {
    format!(
        "ALTER SCHEMA {from} RENAME TO {to};
         ALTER ROLE {from} RENAME TO {to};
         DO $$ DECLARE kept record; BEGIN
             FOR kept IN
                 SELECT p.oid::regprocedure AS function, substr(setting, length('search_path=') + 1) AS path
                 FROM pg_proc p, unnest(p.proconfig) AS setting
                 WHERE p.pronamespace = '{to}'::regnamespace AND starts_with(setting, 'search_path=')
             LOOP
                 EXECUTE CASE kept.path
                     WHEN '{from}' THEN format('ALTER FUNCTION %s SET search_path = {to}', kept.function)
                     WHEN '{from}, pg_temp' THEN
                         format('ALTER FUNCTION %s SET search_path = {to}, pg_temp', kept.function)
                 END;
             END LOOP;
         END $$"
    )
}

/// What a look at the spares did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refill {
    /// Made.
    pub made: usize,
    /// Thrown away: older migrations had made them, or their schema or role was gone.
    pub dropped: usize,
}

/// Sees to it that there are `wanted` spares which this binary's migrations made, and none of older ones. Where another
/// node is at it, or there are spares of newer migrations, nothing is done: that is the work of a newer node.
///
/// # Errors
/// When PostgreSQL refuses; what had been made or dropped before stays so.
pub async fn refill(database: &Database, wanted: usize) -> Result<Refill, TenancyError> {
    let mut done = Refill::default();
    while step(database, wanted, &mut done).await? {}
    Ok(done)
}

/// Makes or drops one; whether there may be more to do.
async fn step(database: &Database, wanted: usize, done: &mut Refill) -> Result<bool, TenancyError> {
    let attempted = || TenancyError::db("look at the spare schemas");
    let mut tx = database.owner().begin().await.map_err(attempted())?;
    let (ours,): (bool,) = sqlx::query_as("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(LOCK)
        .fetch_one(&mut *tx)
        .await
        .map_err(attempted())?;
    if !ours {
        return Ok(false);
    }
    let spares: Vec<(Uuid, bool, bool, bool)> = sqlx::query_as(
        "SELECT id, schema_version > $1, checksum = $2,
                to_regnamespace(name) IS NOT NULL AND to_regrole(name) IS NOT NULL
         FROM daybook_platform.spare_schemas, replace('t_' || id, '-', '') AS name",
    )
    .bind(Kind::Tenant.latest())
    .bind(Kind::Tenant.checksum())
    .fetch_all(&mut *tx)
    .await
    .map_err(attempted())?;
    if spares.iter().any(|(_, newer, ..)| *newer) {
        return Ok(false);
    }
    if let Some((id, ..)) = spares.iter().find(|(_, _, current, whole)| !(*current && *whole)) {
        done.dropped += usize::from(discard(&mut tx, *id).await?);
    } else if spares.len() < wanted {
        make(&mut tx, database.app_user()).await?;
        done.made += 1;
    } else {
        return Ok(false);
    }
    tx.commit().await.map_err(attempted())?;
    Ok(true)
}

/// Makes one, within the transaction.
async fn make(tx: &mut PgConnection, app_user: &str) -> Result<(), TenancyError> {
    let id = Uuid::now_v7();
    let schema = Schema::tenant(TenantId(id));
    migrate::create_role(tx, &schema, app_user).await?;
    migrate::apply(tx, &schema, Kind::Tenant).await?;
    sqlx::query(
        "INSERT INTO daybook_platform.spare_schemas (id, schema_version, checksum) VALUES ($1, $2, $3)",
    )
    .bind(id)
    .bind(Kind::Tenant.latest())
    .bind(Kind::Tenant.checksum())
    .execute(tx)
    .await
    .map_err(TenancyError::db("note a spare schema"))?;
    Ok(())
}

/// Drops one that cannot be used, unless somebody has just taken it; whether it did.
async fn discard(tx: &mut PgConnection, id: Uuid) -> Result<bool, TenancyError> {
    let gone = sqlx::query("DELETE FROM daybook_platform.spare_schemas WHERE id = $1")
        .bind(id)
        .execute(&mut *tx)
        .await
        .map_err(TenancyError::db("forget a spare schema"))?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    provision::drop_schema(tx, &Schema::tenant(TenantId(id))).await?;
    Ok(true)
}
