//! Domains of tenants, in the platform's schema: every claim, and apart from them the proved ones, by which a request's
//! origin is looked up. Inline.

use chrono::{DateTime, Utc};
use daybook_domain::{DomainId, tenant::Domain, tenant::Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Schema,
    inline::{Row, column},
};

/// A domain as it is now.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DomainRow {
    /// The claim.
    pub domain_id: Uuid,
    /// The host.
    pub hostname: String,
    /// What the record in DNS has to say.
    pub token: String,
    /// When it was claimed.
    pub claimed_at: DateTime<Utc>,
    /// When it was proved; `None` while it is not.
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether the tenant is first known by it.
    pub primary_domain: bool,
}

/// One domain of a tenant. The schema holds those of all tenants: without the tenant's id another's would be found.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn get(
    connection: &mut PgConnection,
    tenant: Uuid,
    id: Uuid,
) -> Result<Option<DomainRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT domain_id, hostname, token, claimed_at, verified_at, primary_domain FROM domain_claims
         WHERE tenant_id = $1 AND domain_id = $2",
    )
    .bind(tenant)
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// The domains of a tenant in the order of their ids, after the one given; the proved ones, the others, or both.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    tenant: Uuid,
    verified: Option<bool>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DomainRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT domain_id, hostname, token, claimed_at, verified_at, primary_domain FROM domain_claims
         WHERE tenant_id = $1 AND domain_id > $2 AND ($3::boolean IS NULL OR (verified_at IS NOT NULL) = $3)
         ORDER BY domain_id LIMIT $4",
    )
    .bind(tenant)
    .bind(after.unwrap_or_default())
    .bind(verified)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Makes the rows of these tenants what their states say. What is no more goes first: in one batch a tenant may give up
/// what another proves.
pub(crate) async fn write(
    connection: &mut PgConnection,
    schema: &Schema,
    rows: &[Row<'_, Tenant>],
) -> Result<(), sqlx::Error> {
    let tenants = column!(rows, row => row.id);
    let claims: Vec<Claim<'_>> = rows
        .iter()
        .flat_map(|row| row.state.domains.iter().map(|(id, domain)| (row.id, *id, domain)))
        .collect();
    let verified: Vec<Claim<'_>> =
        claims.iter().copied().filter(|(_, _, domain)| domain.is_verified()).collect();
    for (table, kept) in [("domain_claims", &claims), ("tenant_domains", &verified)] {
        let sql = format!("DELETE FROM {schema}.{table} WHERE tenant_id = ANY($1) AND domain_id <> ALL($2)");
        sqlx::query(&sql)
            .bind(&tenants)
            .bind(column!(kept, claim => claim.1.0))
            .execute(&mut *connection)
            .await?;
    }
    if !claims.is_empty() {
        write_claims(connection, schema, &claims).await?;
    }
    if !verified.is_empty() {
        write_verified(connection, schema, &verified).await?;
    }
    Ok(())
}

/// The tenant, the claim's id, and the claim.
type Claim<'a> = (Uuid, DomainId, &'a Domain);

async fn write_claims(
    connection: &mut PgConnection,
    schema: &Schema,
    claims: &[Claim<'_>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.domain_claims (domain_id, tenant_id, hostname, token, claimed_at, verified_at, primary_domain)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                              $7::boolean[])
         ON CONFLICT (domain_id) DO UPDATE
         SET verified_at = EXCLUDED.verified_at, primary_domain = EXCLUDED.primary_domain",
    );
    sqlx::query(&sql)
        .bind(column!(claims, claim => claim.1.0))
        .bind(column!(claims, claim => claim.0))
        .bind(column!(claims, claim => claim.2.hostname.as_str()))
        .bind(column!(claims, claim => claim.2.token.as_str()))
        .bind(column!(claims, claim => claim.2.claimed_at))
        .bind(column!(claims, claim => claim.2.verified_at))
        .bind(column!(claims, claim => claim.2.primary))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_verified(
    connection: &mut PgConnection,
    schema: &Schema,
    claims: &[Claim<'_>],
) -> Result<(), sqlx::Error> {
    let sql = schema.sql(
        "INSERT INTO {s}.tenant_domains (hostname, tenant_id, domain_id, verified_at)
         SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[])
         ON CONFLICT (hostname) DO UPDATE
         SET tenant_id = EXCLUDED.tenant_id, domain_id = EXCLUDED.domain_id, verified_at = EXCLUDED.verified_at",
    );
    sqlx::query(&sql)
        .bind(column!(claims, claim => claim.2.hostname.as_str()))
        .bind(column!(claims, claim => claim.0))
        .bind(column!(claims, claim => claim.1.0))
        .bind(column!(claims, claim => claim.2.verified_at))
        .execute(connection)
        .await?;
    Ok(())
}
