//! Creating a tenant: its role and schema first, then the event that says it exists.

use daybook_domain::TenantId;
use daybook_projections::Schema;
use sqlx::{Executor, PgConnection};

use super::{Database, TenancyError, migrate, spare};

/// Creates a tenant's role and schema with every table: from a spare, where one is at hand. Harmless to repeat; nothing
/// sees the tenant before its `tenant.created` event is committed.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn create_schema(database: &Database, tenant: TenantId) -> Result<(), TenancyError> {
    match spare::claim(database, tenant).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        // Whatever is wrong with the spare, the tenant can be made without.
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a tenant is made without a spare schema"
            );
        }
    }
    let schema = Schema::tenant(tenant);
    let mut connection =
        database.owner().acquire().await.map_err(TenancyError::db("connect as the owner"))?;
    migrate::create_role(&mut connection, &schema, database.app_user()).await?;
    drop(connection);
    migrate::tenant(database, tenant).await?;
    Ok(())
}

/// Drops a schema whose tenant was refused after all (a slug lost to a racing creation).
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn drop_unborn_schema(database: &Database, tenant: TenantId) -> Result<(), TenancyError> {
    let mut connection =
        database.owner().acquire().await.map_err(TenancyError::db("connect as the owner"))?;
    drop_schema(&mut connection, &Schema::tenant(tenant)).await?;
    sqlx::query("DELETE FROM daybook_platform.tenant_schemas WHERE tenant_id = $1")
        .bind(tenant.0)
        .execute(&mut *connection)
        .await
        .map_err(TenancyError::db("forget the schema of a refused tenant"))?;
    Ok(())
}

/// Drops a schema that is no tenant's, and its role.
pub(super) async fn drop_schema(connection: &mut PgConnection, schema: &Schema) -> Result<(), TenancyError> {
    // The role belongs to the cluster: where a copy of this database has the schema as well, it stays.
    let sql = format!(
        "DROP SCHEMA IF EXISTS {schema} CASCADE;
         DO $$ BEGIN DROP ROLE IF EXISTS {schema};
         EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$"
    );
    connection.execute(sql.as_str()).await.map_err(TenancyError::db("drop a schema without a tenant"))?;
    Ok(())
}
