//! Inline read models: written by the writer lane in the transaction of the events they come from.
//!
//! One statement per aggregate type and batch, with the schema named in it so that it stays planned.

use chrono::{DateTime, Utc};
use daybook_domain::{
    api_key::ApiKey, audit_export::AuditExport, audit_trail::AuditTrail, booking::Booking,
    customer::Customer, hijack::Hijack, lead::Lead, legal_hold::LegalHold, offering::Offering,
    permission_grant::PermissionGrant, registry::AnyState, resource::Resource, role::Role,
    schedule::Schedule, settings::Settings, support_request::SupportRequest, support_session::SupportSession,
    tenant::Tenant, user::User,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Combined, Schema, api_keys, audit_exports, audit_prunings, bookings, customers, domains, hijacks, leads,
    legal_holds, offerings, permission_grants, resources, roles, schedules, settings, support_requests,
    support_sessions, tenants, users,
};

/// The inline read models of a tenant's schema, one table each.
pub const TENANT_TABLES: &[&str] = &[
    "resources",
    "offerings",
    "schedules",
    "customers",
    "bookings",
    "users",
    "user_sessions",
    "roles",
    "api_keys",
    "settings",
    "leads",
    "permission_grants",
    "support_requests",
    "support_sessions",
    "hijacks",
    "audit_exports",
    "legal_holds",
    "audit_prunings",
];
/// The inline read models of the platform's schema.
pub const PLATFORM_TABLES: &[&str] =
    &["tenants", "domain_claims", "tenant_domains", "users", "user_sessions", "hijacks", "audit_prunings"];

/// An aggregate as a batch left it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The aggregate.
    pub id: Uuid,
    /// The sequence of its last event.
    pub version: i64,
    /// The position of its last event.
    pub position: i64,
    /// When its last event was recorded.
    pub recorded_at: DateTime<Utc>,
    /// Its state.
    pub state: &'a AnyState,
}

/// Writes the rows of changed aggregates; those of bookings, which are in most batches, are added to a statement
/// that the caller executes. `created_at` is set when a row is inserted and never again.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn apply(
    connection: &mut PgConnection,
    combined: &mut Combined,
    schema: &Schema,
    changes: &[Change<'_>],
) -> Result<(), sqlx::Error> {
    write(connection, combined, schema, changes.iter().map(|change| (*change, change.recorded_at))).await
}

/// Writes the rows of aggregates that were folded from their whole streams, each with the time of its first
/// event: what [`apply`] would have arrived at step by step.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn replay(
    connection: &mut PgConnection,
    schema: &Schema,
    changes: &[(Change<'_>, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    let mut combined = Combined::default();
    write(connection, &mut combined, schema, changes.iter().copied()).await?;
    combined.execute(connection).await
}

/// A row to be written, of one type of aggregate.
pub(crate) struct Row<'a, A> {
    pub id: Uuid,
    pub version: i64,
    pub position: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub state: &'a A,
}

/// One column of rows, as an array for UNNEST.
macro_rules! column {
    ($rows:expr, $row:ident => $value:expr) => {
        $rows.iter().map(|$row| $value).collect::<Vec<_>>()
    };
}
pub(crate) use column;

/// PostgreSQL's integers have a sign; the domain bounds its numbers far below where that matters.
pub(crate) fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// A uuid[] as text: UNNEST takes arrays of arrays apart entirely.
pub(crate) fn uuid_array(ids: impl IntoIterator<Item = Uuid>) -> String {
    let mut text = String::from("{");
    for id in ids {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    }
    text.push('}');
    text
}

#[derive(Default)]
struct ByType<'a> {
    tenants: Vec<Row<'a, Tenant>>,
    resources: Vec<Row<'a, Resource>>,
    offerings: Vec<Row<'a, Offering>>,
    schedules: Vec<Row<'a, Schedule>>,
    customers: Vec<Row<'a, Customer>>,
    bookings: Vec<Row<'a, Booking>>,
    users: Vec<Row<'a, User>>,
    roles: Vec<Row<'a, Role>>,
    api_keys: Vec<Row<'a, ApiKey>>,
    settings: Vec<Row<'a, Settings>>,
    leads: Vec<Row<'a, Lead>>,
    permission_grants: Vec<Row<'a, PermissionGrant>>,
    support_requests: Vec<Row<'a, SupportRequest>>,
    support_sessions: Vec<Row<'a, SupportSession>>,
    hijacks: Vec<Row<'a, Hijack>>,
    audit_exports: Vec<Row<'a, AuditExport>>,
    legal_holds: Vec<Row<'a, LegalHold>>,
    audit_trails: Vec<Row<'a, AuditTrail>>,
}

impl<'a> ByType<'a> {
    fn push(&mut self, change: Change<'a>, created_at: DateTime<Utc>) {
        macro_rules! row {
            ($state:expr) => {
                Row {
                    id: change.id,
                    version: change.version,
                    position: change.position,
                    created_at,
                    updated_at: change.recorded_at,
                    state: $state.as_ref(),
                }
            };
        }
        match change.state {
            AnyState::Tenant(state) => self.tenants.push(row!(state)),
            AnyState::Resource(state) => self.resources.push(row!(state)),
            AnyState::Offering(state) => self.offerings.push(row!(state)),
            AnyState::Schedule(state) => self.schedules.push(row!(state)),
            AnyState::Customer(state) => self.customers.push(row!(state)),
            AnyState::Booking(state) => self.bookings.push(row!(state)),
            AnyState::User(state) => self.users.push(row!(state)),
            AnyState::Role(state) => self.roles.push(row!(state)),
            AnyState::ApiKey(state) => self.api_keys.push(row!(state)),
            AnyState::Settings(state) => self.settings.push(row!(state)),
            AnyState::Lead(state) => self.leads.push(row!(state)),
            AnyState::PermissionGrant(state) => self.permission_grants.push(row!(state)),
            AnyState::SupportRequest(state) => self.support_requests.push(row!(state)),
            AnyState::SupportSession(state) => self.support_sessions.push(row!(state)),
            AnyState::Hijack(state) => self.hijacks.push(row!(state)),
            AnyState::AuditExport(state) => self.audit_exports.push(row!(state)),
            AnyState::LegalHold(state) => self.legal_holds.push(row!(state)),
            AnyState::AuditTrail(state) => self.audit_trails.push(row!(state)),
        }
    }
}

async fn write<'a>(
    connection: &mut PgConnection,
    combined: &mut Combined,
    schema: &Schema,
    changes: impl Iterator<Item = (Change<'a>, DateTime<Utc>)>,
) -> Result<(), sqlx::Error> {
    let mut rows = ByType::default();
    for (change, created_at) in changes {
        rows.push(change, created_at);
    }
    if !rows.tenants.is_empty() {
        tenants::write(connection, schema, &rows.tenants).await?;
        domains::write(connection, schema, &rows.tenants).await?;
    }
    if !rows.resources.is_empty() {
        resources::write(connection, schema, &rows.resources).await?;
    }
    if !rows.offerings.is_empty() {
        offerings::write(connection, schema, &rows.offerings).await?;
    }
    if !rows.schedules.is_empty() {
        schedules::write(connection, schema, &rows.schedules).await?;
    }
    if !rows.customers.is_empty() {
        customers::write(connection, schema, &rows.customers).await?;
    }
    if !rows.users.is_empty() {
        users::write(connection, schema, &rows.users).await?;
    }
    if !rows.roles.is_empty() {
        roles::write(connection, schema, &rows.roles).await?;
    }
    if !rows.api_keys.is_empty() {
        api_keys::write(connection, schema, &rows.api_keys).await?;
    }
    if !rows.settings.is_empty() {
        settings::write(connection, schema, &rows.settings).await?;
    }
    if !rows.leads.is_empty() {
        leads::write(connection, schema, &rows.leads).await?;
    }
    if !rows.permission_grants.is_empty() {
        permission_grants::write(connection, schema, &rows.permission_grants).await?;
    }
    if !rows.support_requests.is_empty() {
        support_requests::write(connection, schema, &rows.support_requests).await?;
    }
    if !rows.support_sessions.is_empty() {
        support_sessions::write(connection, schema, &rows.support_sessions).await?;
    }
    if !rows.hijacks.is_empty() {
        hijacks::write(connection, schema, &rows.hijacks).await?;
    }
    if !rows.audit_exports.is_empty() {
        audit_exports::write(connection, schema, &rows.audit_exports).await?;
    }
    if !rows.legal_holds.is_empty() {
        legal_holds::write(connection, schema, &rows.legal_holds).await?;
    }
    if !rows.audit_trails.is_empty() {
        audit_prunings::write(connection, schema, &rows.audit_trails).await?;
    }
    if !rows.bookings.is_empty() {
        bookings::write(combined, schema, &rows.bookings);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_an_array_of_postgresql() {
        assert_eq!(uuid_array([]), "{}");
        let two = uuid_array([Uuid::nil(), Uuid::max()]);
        assert_eq!(two, "{00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff}");
    }
}
