//! Migrations: forward only, per schema, parallel over tenants, resumable, with progress.

use std::{borrow::Cow, collections::HashMap};

use daybook_domain::TenantId;
use daybook_projections::Schema;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use sqlx::{
    Acquire, Executor, PgConnection,
    migrate::{Migration, Migrator},
};
use uuid::Uuid;

use super::{Database, TenancyError};
use crate::eventstore::prune::RETENTION_ROLE;

static LOG: Migrator = sqlx::migrate!("migrations/log");
static PLATFORM: Migrator = sqlx::migrate!("migrations/platform");
static TENANT: Migrator = sqlx::migrate!("migrations/tenant");

/// How many tenants are migrated at once.
const PARALLEL: usize = 6;

/// The migrations of one kind of schema, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The platform's schema.
    Platform,
    /// A tenant's schema.
    Tenant,
}

impl Kind {
    fn migrations(self) -> Vec<&'static Migration> {
        let own = match self {
            Self::Platform => &PLATFORM,
            Self::Tenant => &TENANT,
        };
        let mut all: Vec<_> = LOG.iter().chain(own.iter()).collect();
        all.sort_by_key(|migration| migration.version);
        all
    }

    /// The newest version this binary has.
    pub fn latest(self) -> i64 {
        self.migrations().last().map_or(0, |migration| migration.version)
    }

    /// A hash over every migration, so that one comparison tells whether a schema is up to date.
    pub fn checksum(self) -> Vec<u8> {
        let mut hasher = Sha256::new();
        for migration in self.migrations() {
            hasher.update(migration.version.to_be_bytes());
            hasher.update(&migration.checksum);
        }
        hasher.finalize().to_vec()
    }
}

/// What one schema's state is.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SchemaStatus {
    /// The tenant, absent for the platform.
    pub tenant_id: Option<TenantId>,
    /// The tenant's slug, or `platform`.
    pub slug: String,
    /// The version it has; 0 for none.
    pub version: i64,
    /// Whether that is all this binary has.
    pub up_to_date: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct MigrationReport {
    /// Schemas looked at.
    pub schemas: usize,
    /// Schemas that changed.
    pub migrated: usize,
    /// Slugs whose migration failed; the others went on, and a new run resumes here.
    pub failed: Vec<String>,
}

/// Brings the platform's schema up to date, creating it on an empty database.
///
/// # Errors
/// When a migration fails or PostgreSQL refuses.
pub async fn platform(database: &Database) -> Result<bool, TenancyError> {
    let mut connection =
        database.owner().acquire().await.map_err(TenancyError::db("connect as the owner"))?;
    let schema = Schema::platform();
    create_role(&mut connection, &schema, database.app_user()).await?;
    create_retention_role(&mut connection).await?;
    apply(&mut connection, &schema, Kind::Platform).await
}

/// Brings the platform and then every tenant up to date. `progress` is called with (done, all) after each.
///
/// # Errors
/// When the platform's own migration fails; a tenant's failure is in the report.
pub async fn all(
    database: &Database,
    mut progress: impl FnMut(usize, usize),
) -> Result<MigrationReport, TenancyError> {
    let mut report = MigrationReport { schemas: 1, ..Default::default() };
    report.migrated += usize::from(platform(database).await?);
    let pending: Vec<SchemaStatus> = status(database)
        .await?
        .into_iter()
        .inspect(|_| report.schemas += 1)
        .filter(|s| !s.up_to_date)
        .collect();
    report.schemas -= 1; // The platform is in the status list as well.
    let all = pending.len();
    let mut results = stream::iter(pending)
        .map(|status| async move {
            let Some(tenant_id) = status.tenant_id else { return (status.slug, Ok(false)) };
            (status.slug, tenant(database, tenant_id).await)
        })
        .buffer_unordered(PARALLEL);
    let mut done = 0;
    while let Some((slug, result)) = results.next().await {
        done += 1;
        progress(done, all);
        match result {
            Ok(changed) => report.migrated += usize::from(changed),
            Err(error) => {
                tracing::error!(slug, error = &error as &dyn std::error::Error, "migration failed");
                report.failed.push(slug);
            }
        }
    }
    Ok(report)
}

/// Brings one tenant's schema up to date and remembers that it is.
///
/// # Errors
/// When a migration fails or PostgreSQL refuses.
pub async fn tenant(database: &Database, tenant: TenantId) -> Result<bool, TenancyError> {
    let mut connection =
        database.owner().acquire().await.map_err(TenancyError::db("connect as the owner"))?;
    let schema = Schema::tenant(tenant);
    let changed = apply(&mut connection, &schema, Kind::Tenant).await?;
    remember(&mut connection, tenant).await?;
    Ok(changed)
}

/// Remembers that a tenant's schema has all of this binary's migrations.
pub(super) async fn remember(connection: &mut PgConnection, tenant: TenantId) -> Result<(), TenancyError> {
    sqlx::query(
        "INSERT INTO daybook_platform.tenant_schemas (tenant_id, schema_version, checksum) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id) DO UPDATE
         SET schema_version = EXCLUDED.schema_version, checksum = EXCLUDED.checksum, migrated_at = now()",
    )
    .bind(tenant.0)
    .bind(Kind::Tenant.latest())
    .bind(Kind::Tenant.checksum())
    .execute(connection)
    .await
    .map_err(TenancyError::db("remember a tenant's schema version"))?;
    Ok(())
}

/// The state of the platform and of every tenant, from one query.
///
/// # Errors
/// When PostgreSQL refuses; an empty database answers with version 0.
pub async fn status(database: &Database) -> Result<Vec<SchemaStatus>, TenancyError> {
    let (exists,): (bool,) = sqlx::query_as("SELECT to_regclass('daybook_platform.tenants') IS NOT NULL")
        .fetch_one(database.owner())
        .await
        .map_err(TenancyError::db("look for the platform schema"))?;
    if !exists {
        return Ok(vec![SchemaStatus {
            tenant_id: None,
            slug: "platform".into(),
            version: 0,
            up_to_date: false,
        }]);
    }
    let (version,): (i64,) =
        sqlx::query_as("SELECT coalesce(max(version), 0) FROM daybook_platform.schema_migrations")
            .fetch_one(database.owner())
            .await
            .map_err(TenancyError::db("read the platform's version"))?;
    let mut all = vec![SchemaStatus {
        tenant_id: None,
        slug: "platform".into(),
        version,
        up_to_date: version == Kind::Platform.latest(),
    }];
    let checksum = Kind::Tenant.checksum();
    let rows: Vec<(Uuid, String, Option<i64>, Option<Vec<u8>>)> = sqlx::query_as(
        "SELECT t.id, t.slug, s.schema_version, s.checksum
         FROM daybook_platform.tenants t LEFT JOIN daybook_platform.tenant_schemas s ON s.tenant_id = t.id
         ORDER BY t.slug",
    )
    .fetch_all(database.owner())
    .await
    .map_err(TenancyError::db("read the tenants' versions"))?;
    all.extend(rows.into_iter().map(|(id, slug, version, found)| SchemaStatus {
        tenant_id: Some(TenantId(id)),
        slug,
        version: version.unwrap_or(0),
        up_to_date: found.as_deref() == Some(checksum.as_slice()),
    }));
    Ok(all)
}

/// Creates a schema's role (of the same name) and lets the login role become it.
pub(super) async fn create_role(
    connection: &mut PgConnection,
    schema: &Schema,
    app_user: &str,
) -> Result<(), TenancyError> {
    // A role belongs to the cluster, so it may be there already: from another database, or from a racing node.
    let sql = format!(
        "DO $$ BEGIN CREATE ROLE {schema} NOLOGIN NOINHERIT; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; GRANT {schema} TO \"{}\"",
        app_user.replace('"', "\"\"")
    );
    make_role(connection, &sql).await
}

/// Creates the role that deletes what was pruned, for the owner to become; the login role of the application cannot.
async fn create_retention_role(connection: &mut PgConnection) -> Result<(), TenancyError> {
    let sql = format!(
        "DO $$ BEGIN CREATE ROLE {RETENTION_ROLE} NOLOGIN NOINHERIT; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         DO $$ BEGIN IF NOT pg_has_role(current_user, '{RETENTION_ROLE}', 'MEMBER') THEN \
         EXECUTE format('GRANT {RETENTION_ROLE} TO %I', current_user); END IF; END $$"
    );
    make_role(connection, &sql).await
}

async fn make_role(connection: &mut PgConnection, sql: &str) -> Result<(), TenancyError> {
    // Two nodes granting at once update one catalog row, or insert it twice; the loser only has to try again.
    for _ in 0..5 {
        match connection.execute(sql).await {
            Ok(_) => return Ok(()),
            Err(sqlx::Error::Database(error))
                if error.is_unique_violation() || error.message().contains("concurrently updated") => {}
            Err(error) => return Err(TenancyError::db("create a schema's role")(error)),
        }
    }
    connection.execute(sql).await.map(|_| ()).map_err(TenancyError::db("create a schema's role"))
}

/// Applies what is missing to one schema in one transaction, then grants its role what it may do.
pub(super) async fn apply(
    connection: &mut PgConnection,
    schema: &Schema,
    kind: Kind,
) -> Result<bool, TenancyError> {
    let mut tx = connection.begin().await.map_err(TenancyError::db("begin a migration"))?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(schema.name())
        .execute(&mut *tx)
        .await
        .map_err(TenancyError::db("lock a schema for migration"))?;
    tx.execute(
        format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; SET LOCAL search_path = {schema};
             CREATE TABLE IF NOT EXISTS schema_migrations (
                 version bigint PRIMARY KEY, description text NOT NULL, checksum bytea NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now())"
        )
        .as_str(),
    )
    .await
    .map_err(TenancyError::db("create a schema"))?;
    let applied: HashMap<i64, Vec<u8>> =
        sqlx::query_as::<_, (i64, Vec<u8>)>("SELECT version, checksum FROM schema_migrations")
            .fetch_all(&mut *tx)
            .await
            .map_err(TenancyError::db("read a schema's migrations"))?
            .into_iter()
            .collect();
    let migrations = kind.migrations();
    for (version, checksum) in &applied {
        if !migrations.iter().any(|m| m.version == *version && *m.checksum == **checksum) {
            return Err(TenancyError::ForeignMigration { schema: schema.to_string(), version: *version });
        }
    }
    let pending: Vec<_> = migrations.into_iter().filter(|m| !applied.contains_key(&m.version)).collect();
    if pending.is_empty() {
        return Ok(false);
    }
    for migration in pending {
        let failed = |source| TenancyError::Migration {
            schema: schema.to_string(),
            version: migration.version,
            source,
        };
        tx.execute(&*migration.sql).await.map_err(failed)?;
        sqlx::query("INSERT INTO schema_migrations (version, description, checksum) VALUES ($1, $2, $3)")
            .bind(migration.version)
            .bind::<Cow<'_, str>>(migration.description.clone())
            .bind(&*migration.checksum)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    tx.execute(grants(schema, kind).as_str())
        .await
        .map_err(TenancyError::db("grant a schema's role its rights"))?;
    tx.commit().await.map_err(TenancyError::db("commit a migration"))?;
    Ok(true)
}

/// A schema's role reads and writes its own tables, and only adds to the log. Personal values and their keys it adds as well;
/// what destroys them is `erase_subjects`. A hold it places and releases, once.
///
/// The tables are looked up by what depends on the schema, for which there is an index: `ON ALL TABLES IN SCHEMA` reads all
/// of `pg_class` five times, so that each tenant would pay for all the others.
fn grants(schema: &Schema, kind: Kind) -> String {
    format!(
        "GRANT USAGE ON SCHEMA {schema} TO {schema};
         DO $$ BEGIN
             EXECUTE (
                 SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO {schema}', string_agg(c.oid::regclass::text, ', '))
                 FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
                 WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = '{schema}'::regnamespace
                   AND d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'v', 'm', 'f'));
         END $$;
         REVOKE UPDATE, DELETE, TRUNCATE ON {schema}.events FROM {schema};
         REVOKE INSERT, DELETE ON {schema}.log_head FROM {schema};
         REVOKE UPDATE, DELETE, TRUNCATE ON {schema}.sealed_values FROM {schema};
         REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {schema}.subject_keys FROM {schema};
         GRANT INSERT (subject_id, wrapped_key) ON {schema}.subject_keys TO {schema};
         REVOKE DELETE, TRUNCATE ON {schema}.ledger_tiles FROM {schema};
         REVOKE INSERT, DELETE ON {schema}.ledger_head FROM {schema};
         REVOKE UPDATE, DELETE, TRUNCATE ON {schema}.ledger_checkpoints FROM {schema};
         REVOKE INSERT, UPDATE, DELETE ON {schema}.schema_migrations FROM {schema};
         GRANT USAGE ON SCHEMA {schema} TO {RETENTION_ROLE};
         GRANT SELECT (position), DELETE ON {schema}.events, {schema}.sealed_values TO {RETENTION_ROLE};
         GRANT SELECT ON {schema}.audit_prunings TO {RETENTION_ROLE}"
    ) + &match kind {
        // What was signed stays, and so do the keys that signed it.
        Kind::Platform => format!(
            "; REVOKE DELETE, TRUNCATE ON {schema}.ledger_signer FROM {schema};
             REVOKE UPDATE, DELETE, TRUNCATE ON {schema}.ledger_verifier_keys FROM {schema};
             REVOKE DELETE, TRUNCATE ON {schema}.head_log_entries FROM {schema};
             REVOKE DELETE, TRUNCATE ON {schema}.head_log_tiles FROM {schema}"
        ),
        // What the guard of the claims rests on is added to, never taken away; and so are the logs that are kept
        // by months, through their tables.
        Kind::Tenant => format!(
            "; REVOKE UPDATE, DELETE ON {schema}.slot_spans FROM {schema};
             REVOKE DELETE ON {schema}.slot_resources FROM {schema};
             REVOKE UPDATE, DELETE ON {schema}.legal_holds FROM {schema};
             GRANT UPDATE (released_at, release_reason, version, position, updated_at) ON {schema}.legal_holds TO {schema};
             REVOKE UPDATE, DELETE ON {schema}.api_calls, {schema}.refused_logins, {schema}.request_errors FROM {schema};
             DO $$ DECLARE month regclass; BEGIN
                 FOR month IN
                     SELECT inhrelid FROM pg_inherits
                     WHERE inhparent IN ('{schema}.api_calls'::regclass, '{schema}.refused_logins'::regclass,
                                         '{schema}.request_errors'::regclass)
                 LOOP
                     EXECUTE format('REVOKE ALL ON %s FROM {schema}', month);
                 END LOOP;
             END $$"
        ),
    }
}
