//! The platform's own: tenants, its people, plans. For accounts of the platform only; every command goes to its log.

pub mod activate_tenant;
pub mod activate_user;
pub mod change_plan;
pub mod change_user_role;
pub mod create_tenant;
pub mod create_user;
pub mod deactivate_tenant;
pub mod deactivate_user;
pub mod delete_user;
pub mod get_tenant;
pub mod list_plans;
pub mod list_tenants;
pub mod list_users;
pub mod rename_tenant;

use axum::response::Response;
use chrono::{DateTime, Utc};
use daybook_domain::{
    TenantId, UserId,
    permission::Tier,
    registry::Registered as _,
    tenant::{Tenant, TenantCommand},
    user::UserCommand,
};
use daybook_projections::{Schema, tenants::TenantRow};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    context::PlatformCommand,
    problem::{Code, Problem, Result},
    respond::{self, subject, wrong_type},
};
use crate::{
    app::AppState,
    eventstore::{Attached, Command, Committed},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_tenants::list_tenants, create_tenant::create_tenant))
        .routes(routes!(get_tenant::get_tenant, rename_tenant::rename_tenant))
        .routes(routes!(activate_tenant::activate_tenant))
        .routes(routes!(deactivate_tenant::deactivate_tenant))
        .routes(routes!(change_plan::change_plan))
        .routes(routes!(list_users::list_users, create_user::create_user))
        .routes(routes!(delete_user::delete_user))
        .routes(routes!(activate_user::activate_user))
        .routes(routes!(deactivate_user::deactivate_user))
        .routes(routes!(change_user_role::change_user_role))
        .routes(routes!(list_plans::list_plans))
}

/// A tenant, as the platform sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub struct TenantBody {
    /// Its id.
    pub id: Uuid,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// Whether anything of it may be used.
    pub active: bool,
    /// Whether it is a demo tenant.
    pub temporary: bool,
    /// Its IANA time zone.
    pub time_zone: String,
    /// Its currency.
    pub currency: String,
    /// Its data region label.
    pub region: String,
    /// The version, as in `ETag`.
    pub version: i64,
    /// When it was made; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
}

impl From<TenantRow> for TenantBody {
    fn from(row: TenantRow) -> Self {
        Self {
            id: row.id,
            slug: row.slug,
            name: row.name,
            plan: row.plan,
            active: row.active,
            temporary: row.temporary,
            time_zone: row.time_zone,
            currency: row.currency,
            region: row.region,
            version: row.version,
            created_at: Some(row.created_at),
        }
    }
}

impl TenantBody {
    /// The tenant as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let tenant = Tenant::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            slug: tenant.slug.clone(),
            name: tenant.name.clone(),
            plan: tenant.plan.clone(),
            active: tenant.active,
            temporary: tenant.temporary,
            time_zone: tenant.time_zone.name().to_owned(),
            currency: tenant.currency.to_string(),
            region: tenant.region.clone(),
            version: changed.sequence,
            created_at: None,
        })
    }
}

/// Those who sell have to do with temporary tenants only.
fn sells_only(tier: Tier) -> bool {
    tier == Tier::PlatformSales
}

/// Runs a command on a tenant and answers with what became of it.
async fn run(
    state: &AppState,
    context: PlatformCommand,
    tenant: TenantId,
    command: TenantCommand,
    reason: Option<String>,
    hash: [u8; 32],
) -> Result<Response> {
    let command = Command::to(tenant, command).expecting(context.if_match.expected());
    let committed =
        state.store().execute(&Schema::platform(), context.unit(vec![command], reason, hash)?).await?;
    respond::done(&committed, &TenantBody::of(&committed)?)
}

/// Runs a command on an account of the platform's own people. Nobody does to themselves what these routes are for.
async fn run_on_user(
    state: &AppState,
    context: PlatformCommand,
    user: UserId,
    command: UserCommand,
    attached: Vec<Attached>,
    reason: Option<String>,
    hash: [u8; 32],
) -> Result<Committed> {
    if context.principal.session().is_some_and(|(own, _)| own == user) {
        return Err(Problem::new(
            Code::Forbidden,
            "This is your own account; use /me, or ask somebody else.",
        ));
    }
    let command = Command::to(user, command).expecting(context.if_match.expected());
    let mut unit = context.unit(vec![command], reason, hash)?;
    unit.attached = attached;
    Ok(state.store().execute(&Schema::platform(), unit).await?)
}
